r"""Whole jobs, their reports and their files: check, and forecasts of regression and of classes."""

from odeopt.studies.check import check
from odeopt.studies.check_report import CheckReport, CheckSettings, MethodReport
from odeopt.studies.files import OutputFolder
from odeopt.studies.forecast import Forecast, MethodForecast, forecast
from odeopt.studies.forecast_classes import ClassCurve, ClassForecast, ClassMethod, forecast_classes
from odeopt.studies.held_out import HeldOutCurve
from odeopt.studies.sources import load_data

__all__ = [
    "CheckReport", "CheckSettings", "ClassCurve", "ClassForecast", "ClassMethod", "Forecast",
    "HeldOutCurve", "MethodForecast", "MethodReport", "OutputFolder", "check", "forecast",
    "forecast_classes", "load_data",
]  # fmt: skip
