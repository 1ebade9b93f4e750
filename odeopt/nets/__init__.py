r"""Finite-width networks in torch: the third reading of an update rule.

Only this subpackage imports torch; what leaves it are float64 numpy arrays.
"""

from odeopt.nets.batch import train_batch
from odeopt.nets.figures import paper_figures
from odeopt.nets.jobs import JobResults, run_jobs
from odeopt.nets.laziness import Laziness
from odeopt.nets.ntk import ConvReLU, DeepReLU
from odeopt.nets.operator import EmpiricalOperator, empirical_operator
from odeopt.nets.paper import (
    DIGITS_SQUARED_NORM,
    PaperReLU,
    PaperSettings,
    paper_data,
    paper_study,
    power_slopes,
    unstable_runs,
)
from odeopt.nets.relu import TwoLayerReLU, empirical_gram
from odeopt.nets.snapshot import Snapshot
from odeopt.nets.sweep import named_rules, rule_grid, sweep
from odeopt.nets.train import TrainingRun, train
from odeopt.nets.trust import TrustEstimate, trust_estimate

__all__ = [
    "DIGITS_SQUARED_NORM",
    "ConvReLU",
    "DeepReLU",
    "EmpiricalOperator",
    "JobResults",
    "Laziness",
    "PaperReLU",
    "PaperSettings",
    "Snapshot",
    "TrainingRun",
    "TrustEstimate",
    "TwoLayerReLU",
    "empirical_gram",
    "empirical_operator",
    "named_rules",
    "paper_data",
    "paper_figures",
    "paper_study",
    "power_slopes",
    "rule_grid",
    "run_jobs",
    "sweep",
    "train",
    "train_batch",
    "trust_estimate",
    "unstable_runs",
]
