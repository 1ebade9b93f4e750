r"""Whole jobs, their reports and their files: check and forecast."""

from odeopt.studies.check import check
from odeopt.studies.check_report import CheckReport, CheckSettings, MethodReport
from odeopt.studies.files import OutputFolder
from odeopt.studies.forecast import Forecast, MethodForecast, forecast

__all__ = [
    "CheckReport",
    "CheckSettings",
    "Forecast",
    "MethodForecast",
    "MethodReport",
    "OutputFolder",
    "check",
    "forecast",
]
