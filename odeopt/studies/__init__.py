r"""Whole jobs, their reports and their files: check and forecast."""

from odeopt.studies.check import check
from odeopt.studies.check_report import CheckReport, CheckSettings, MethodReport
from odeopt.studies.files import OutputFolder
from odeopt.studies.forecast import Forecast, MethodForecast, forecast
from odeopt.studies.held_out import HeldOutCurve
from odeopt.studies.sources import load_data

__all__ = [
    "CheckReport",
    "CheckSettings",
    "Forecast",
    "HeldOutCurve",
    "MethodForecast",
    "MethodReport",
    "OutputFolder",
    "check",
    "forecast",
    "load_data",
]
