r"""Whole jobs, their reports and their files: check, forecast, sweep, the experiments of the paper."""

from odeopt.studies.check import check
from odeopt.studies.check_report import CheckReport, CheckSettings, MethodReport
from odeopt.studies.forecast import Forecast, forecast

__all__ = ["CheckReport", "CheckSettings", "Forecast", "MethodReport", "check", "forecast"]
