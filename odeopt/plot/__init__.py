"""Pictures of value types: each function draws on given axes, returns them, and never calls ``show``."""

from odeopt.plot.budgets import budget
from odeopt.plot.ensembles import ensemble, predictions
from odeopt.plot.explorer import Explorer, explore
from odeopt.plot.files import save
from odeopt.plot.forecasts import class_curves, forecast
from odeopt.plot.losses import losses
from odeopt.plot.maps import phases
from odeopt.plot.measures import spectrum
from odeopt.plot.points import test_curves
from odeopt.plot.reports import check, check_budget, curves
from odeopt.plot.style import COLOURS, style

__all__ = [
    "COLOURS", "Explorer", "budget", "check", "check_budget", "class_curves", "curves", "ensemble",
    "explore", "forecast", "losses", "phases", "predictions", "save", "spectrum", "style", "test_curves",
]  # fmt: skip
