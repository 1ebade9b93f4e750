"""From an update rule to its ODE, its rate, and the loss curve of a wide ReLU network.

Everything public is reachable from here and loaded at first use: ``import odeopt`` itself loads
neither numpy nor sympy nor torch.

Three names are both a function and the module that defines it, `check`, `forecast` and `integrate`. As an
attribute, ``odeopt.check`` is always the function, also after ``import odeopt.check``. Other names of
the module are imported as usual (``from odeopt.integrate import Trajectory``), and the module object
itself is ``importlib.import_module("odeopt.check")``.

Examples
--------
>>> import odeopt
>>> odeopt.GradientDescent(lr=0.1)
GradientDescent(lr=0.1)
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The one table of public names, by module; a module without names is itself the public name.
_NAMES_OF = {
    "adaptive": ("AdaGrad", "Adam", "RMSProp", "SignDescent"),
    "certificate": ("Certificate",),
    "check": ("check",),
    "correspondence": ("correspondences",),
    "data": (),
    "discrete": ("crossover_step", "discrete_rate", "max_learning_rate"),
    "dynamics": ("ErrorDynamics", "error_dynamics"),
    "fitting": ("fit_rate",),
    "forecast": ("forecast",),
    "integrate": ("PredictionTrajectory", "Trajectory", "integrate", "integrate_predictions"),
    "kernel_cluster": ("cluster_relu_gram",),
    "kernel_operator": ("relu_gram_operator",),
    "kernels": ("relu_gram",),
    "limit": ("ODELimit", "ode_limit"),
    "loss": ("LossCurve", "loss_curve"),
    "losses": ("LogisticLoss", "PredictionLoss", "SquaredLoss"),
    "lyapunov": ("certify",),
    "memory": ("memory_plan",),
    "methods": (
        "GradientDescent",
        "HeavyBall",
        "HigherMomentum",
        "Nesterov",
        "NesterovConstant",
    ),
    "modes": ("ModeSolution", "mode_solution"),
    "momentum": ("QHM", "TorchSGD", "TripleMomentum"),
    "nets": (),
    "plot": (),
    "prediction": ("PredictionDynamics", "predict_iterates", "prediction_dynamics"),
    "rates": ("Rate", "exact_rate"),
    "report": ("CheckReport",),
    "rule": ("UpdateRule",),
    "spectrum": ("SpectralMeasure", "spectral_measure"),
    "systems": ("SystemLimit",),
    "timescale": ("time_scale",),
    "tuning": ("effective_dimension", "steps_to", "tune", "tune_for"),
    "variational": ("energy", "lagrangian"),
    "weightspace": ("integrate_limit",),
    "witnesses": ("witness",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names or (module,)}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:  # the same names once more, for tools that read code without running it
    from odeopt import data, nets, plot
    from odeopt.adaptive import AdaGrad, Adam, RMSProp, SignDescent
    from odeopt.certificate import Certificate
    from odeopt.check import check
    from odeopt.correspondence import correspondences
    from odeopt.discrete import crossover_step, discrete_rate, max_learning_rate
    from odeopt.dynamics import ErrorDynamics, error_dynamics
    from odeopt.fitting import fit_rate
    from odeopt.forecast import forecast
    from odeopt.integrate import PredictionTrajectory, Trajectory, integrate, integrate_predictions
    from odeopt.kernel_cluster import cluster_relu_gram
    from odeopt.kernel_operator import relu_gram_operator
    from odeopt.kernels import relu_gram
    from odeopt.limit import ODELimit, ode_limit
    from odeopt.loss import LossCurve, loss_curve
    from odeopt.losses import LogisticLoss, PredictionLoss, SquaredLoss
    from odeopt.lyapunov import certify
    from odeopt.memory import memory_plan
    from odeopt.methods import (
        GradientDescent,
        HeavyBall,
        HigherMomentum,
        Nesterov,
        NesterovConstant,
    )
    from odeopt.modes import ModeSolution, mode_solution
    from odeopt.momentum import QHM, TorchSGD, TripleMomentum
    from odeopt.prediction import PredictionDynamics, predict_iterates, prediction_dynamics
    from odeopt.rates import Rate, exact_rate
    from odeopt.report import CheckReport
    from odeopt.rule import UpdateRule
    from odeopt.spectrum import SpectralMeasure, spectral_measure
    from odeopt.systems import SystemLimit
    from odeopt.timescale import time_scale
    from odeopt.tuning import effective_dimension, steps_to, tune, tune_for
    from odeopt.variational import energy, lagrangian
    from odeopt.weightspace import integrate_limit
    from odeopt.witnesses import witness


def __getattr__(name: str) -> object:
    """Load the module of a public name at its first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _MODULE_OF[name]
    module = importlib.import_module(f"{__name__}.{home}")
    value = getattr(module, name) if _NAMES_OF[home] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _FrontDoor(types.ModuleType):
    """A package whose public functions are not hidden by the submodules of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds each submodule it has loaded to this package. Where the name
        # belongs to a function, that binding is left out, and `__getattr__` supplies the function.
        is_submodule = isinstance(value, types.ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if not (is_submodule and name in _NAMES_OF.get(name, ())):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
