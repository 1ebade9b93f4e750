r"""Finite-width networks in torch: the third reading of an update rule.

Only this subpackage imports torch; what leaves it are float64 numpy arrays.
"""

from odeopt.nets.ntk import ConvReLU, DeepReLU
from odeopt.nets.operator import EmpiricalOperator, empirical_operator
from odeopt.nets.relu import TwoLayerReLU, empirical_gram
from odeopt.nets.train import TrainingRun, train

__all__ = [
    "ConvReLU",
    "DeepReLU",
    "EmpiricalOperator",
    "TrainingRun",
    "TwoLayerReLU",
    "empirical_gram",
    "empirical_operator",
    "train",
]
