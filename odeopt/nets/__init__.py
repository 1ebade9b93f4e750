r"""Finite-width networks in torch: the third reading of an update rule.

Only this subpackage imports torch; what leaves it are float64 numpy arrays.
"""

from odeopt.nets.laziness import Laziness
from odeopt.nets.ntk import ConvReLU, DeepReLU
from odeopt.nets.operator import EmpiricalOperator, empirical_operator
from odeopt.nets.relu import TwoLayerReLU, empirical_gram
from odeopt.nets.snapshot import Snapshot
from odeopt.nets.train import TrainingRun, train
from odeopt.nets.trust import TrustEstimate, trust_estimate

__all__ = [
    "ConvReLU",
    "DeepReLU",
    "EmpiricalOperator",
    "Laziness",
    "Snapshot",
    "TrainingRun",
    "TrustEstimate",
    "TwoLayerReLU",
    "empirical_gram",
    "empirical_operator",
    "train",
    "trust_estimate",
]
