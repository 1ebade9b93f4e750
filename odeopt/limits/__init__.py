r"""From a rule to its ODE: the Taylor expansion of its own step, its corrections, its scale of time."""

from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.balance import TimeScale, time_scale
from odeopt.limits.clock import Correspondence, correspondences
from odeopt.limits.integrate import WeightTrajectory, integrate_limit
from odeopt.limits.ode import ODELimit, ode_limit
from odeopt.limits.read_step import ReadStep
from odeopt.limits.series import NoLimitError

__all__ = [
    "Correspondence", "NoLimitError", "ODELimit", "ReadStep", "SystemLimit", "TimeScale",
    "WeightTrajectory", "correspondences", "integrate_limit", "ode_limit", "time_scale",
]  # fmt: skip
