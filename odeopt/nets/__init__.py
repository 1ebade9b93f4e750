r"""Finite networks in torch: the third reading of an update rule.

Only this wing imports torch; what leaves it are float64 numpy arrays.
"""

from odeopt.kernels.device import DeviceReluGram
from odeopt.nets.budget import ErrorBudget, error_budget
from odeopt.nets.kernels.closed import empirical_gram, infinite_width_kernel
from odeopt.nets.kernels.cross import EmpiricalCross
from odeopt.nets.kernels.empirical import EmpiricalOperator, empirical_operator
from odeopt.nets.kernels.monte_carlo import MonteCarloKernel, monte_carlo_kernel
from odeopt.nets.networks import ConvReLU, DeepReLU, PaperReLU, TwoLayerReLU
from odeopt.nets.prediction import ModulePrediction, predict_module
from odeopt.nets.sgd_report import SGDReport, sgd_report
from odeopt.nets.sweeps.jobs import JobResults, run_jobs
from odeopt.nets.sweeps.paper import (
    DIGITS_SQUARED_NORM,
    PaperSettings,
    paper_data,
    paper_study,
    power_slopes,
    unstable_runs,
)
from odeopt.nets.sweeps.paper_figures import paper_figures
from odeopt.nets.sweeps.sweep import sweep
from odeopt.nets.sweeps.sweep_figure import sweep_figure
from odeopt.nets.torch_schedules import rule_of, torch_schedule
from odeopt.nets.training.batch import train_batch
from odeopt.nets.training.laziness import Laziness
from odeopt.nets.training.record import TrainingRun
from odeopt.nets.training.sgd import train_sgd
from odeopt.nets.training.snapshot import Snapshot
from odeopt.nets.training.train import train
from odeopt.nets.trust import trust_estimate
from odeopt.nets.trust_report import TrustEstimate
from odeopt.rules.names import rule_grid

__all__ = [
    "DIGITS_SQUARED_NORM", "ConvReLU", "DeepReLU", "DeviceReluGram", "EmpiricalCross", "EmpiricalOperator",
    "ErrorBudget", "JobResults", "Laziness", "ModulePrediction", "MonteCarloKernel", "PaperReLU",
    "PaperSettings", "SGDReport", "Snapshot", "TrainingRun", "TrustEstimate", "TwoLayerReLU",
    "empirical_gram", "empirical_operator", "error_budget", "infinite_width_kernel", "monte_carlo_kernel",
    "paper_data", "paper_figures", "paper_study", "power_slopes", "predict_module", "rule_grid", "rule_of",
    "run_jobs", "sgd_report", "sweep", "sweep_figure", "torch_schedule", "train", "train_batch",
    "train_sgd", "trust_estimate", "unstable_runs",
]  # fmt: skip
