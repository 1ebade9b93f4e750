r"""Finite-width networks in torch: the third reading of an update rule.

Only this subpackage imports torch; what leaves it are float64 numpy arrays.
"""

from odeopt.nets.batch import train_batch
from odeopt.nets.budget import ErrorBudget, error_budget
from odeopt.nets.figures import paper_figures
from odeopt.nets.gram import DeviceReluGram, relu_gram_operator
from odeopt.nets.jobs import JobResults, run_jobs
from odeopt.nets.laziness import Laziness
from odeopt.nets.levels import infinite_width_kernel
from odeopt.nets.moments import SGDPrediction, sgd_prediction
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
from odeopt.nets.stochastic import SGDReport, sgd_report, train_sgd
from odeopt.nets.sweep import named_rules, rule_grid, sweep
from odeopt.nets.train import TrainingRun, train
from odeopt.nets.trust import TrustEstimate, trust_estimate

__all__ = [
    "DIGITS_SQUARED_NORM",
    "ConvReLU",
    "DeepReLU",
    "DeviceReluGram",
    "EmpiricalOperator",
    "ErrorBudget",
    "JobResults",
    "Laziness",
    "PaperReLU",
    "PaperSettings",
    "SGDPrediction",
    "SGDReport",
    "Snapshot",
    "TrainingRun",
    "TrustEstimate",
    "TwoLayerReLU",
    "empirical_gram",
    "empirical_operator",
    "error_budget",
    "infinite_width_kernel",
    "named_rules",
    "paper_data",
    "paper_figures",
    "paper_study",
    "power_slopes",
    "relu_gram_operator",
    "rule_grid",
    "run_jobs",
    "sgd_prediction",
    "sgd_report",
    "sweep",
    "train",
    "train_batch",
    "train_sgd",
    "trust_estimate",
    "unstable_runs",
]
