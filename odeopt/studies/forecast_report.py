r"""What a forecast returns: for each method its rule, its limits, its steps to the target and its curve."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.kernels.inputs import SingularPart
from odeopt.kernels.memory import MemoryPlan
from odeopt.rates.steps import StepsTo
from odeopt.rules.base import UpdateRule
from odeopt.rules.names import numbers_of
from odeopt.shown import Shown, Summary
from odeopt.spectra.curve import LossCurve
from odeopt.spectra.measure import SpectralMeasure
from odeopt.studies.files import Saved, forecast_arrays
from odeopt.studies.held_out import HeldOut, HeldOutCurve

__all__ = ["Forecast", "MethodForecast"]


@dataclass(frozen=True, repr=False)
class MethodForecast(Shown):
    """What is predicted for one method.

    Parameters
    ----------
    name : str
        Name, or label of a rule of your own.
    rule : UpdateRule
        With its tuned hyperparameters.
    lr_limit : float or None
        Stability limit of its learning rate for `Forecast.L`, all else kept, with schedules that of a growth
        by 10 over the run or its first 1000 steps; None where it has none.
    steps : StepsTo
        To the target.
    curve : LossCurve
        The loss along the iterations, a little beyond the target, or to the end of the run.
    run : int or None
        The steps of the run: those it was tuned for, or to where its learning rate is 0 or not known.
    ends_at : float or None
        The loss at the fixed point that decay leads to, were there no end of the run; None without decay, or
        where schedules move it.
    times_fewest : float or None
        Gradients to the target, as a multiple of `Forecast.fewest`.
    test : HeldOutCurve or None
        The loss on the test set along training, the best step and, for classes, the accuracy.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import forecast
    >>> found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    >>> method = found.methods[0]
    >>> method.name, method.steps.value, bool(method.curve.loss[1] <= method.steps.loss)
    ('gd', 1, True)
    """

    name: str
    rule: UpdateRule
    lr_limit: float | None
    steps: StepsTo
    curve: LossCurve
    run: int | None = None
    ends_at: float | None = None
    times_fewest: float | None = None
    test: HeldOutCurve | None = None

    def _summary(self) -> Summary:
        kind = "rigorous" if self.steps.rigorous else "estimated"
        return Summary([f"{self.steps} steps to {self.steps.loss:.4g}", f"{kind} bounds", self.rule.label])

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds.

        Returns
        -------
        dict
            "steps" with their bounds, the last loss with its bounds, and the fields by name.
        """
        return {
            "name": self.name,
            "rule": self.rule.label,
            "hyperparameters": numbers_of(self.rule),
            "lr_limit": self.lr_limit,
            "steps": self.steps.value,
            "steps_low": self.steps.low,
            "steps_high": self.steps.high,
            "rigorous": self.steps.rigorous,
            "times_fewest": self.times_fewest,
            "run": self.run,
            "last_step": None if self.curve.k is None else int(self.curve.k[-1]),
            "last_loss": [float(v[-1]) for v in (self.curve.lower, self.curve.loss, self.curve.upper)],
            "last_loss_proved": bool(self.curve.proved[-1]),
            "ends_at": self.ends_at,
            "test": None if self.test is None else self.test.to_dict(),
        }


@dataclass(frozen=True, repr=False)
class Forecast(Saved):
    """The predictions for a data set; saved as forecast.json, forecast.npz (the curves) and forecast.png.

    Parameters
    ----------
    n, d : int
        Examples and their dimension.
    target : float
        Share of the initial loss to be reached.
    initial_loss : float
        Half the squared norm of the scaled targets.
    loss_floor : float
        The part of it that cannot fall, of the error in the null space.
    mu, L : float
        The interval for which methods are tuned: the smallest curvature that the error was seen to have off
        the null space, and the upper end of `largest`.
    largest : tuple of float
        Enclosure of the largest eigenvalue, of the width of rounding once Lanczos has found it.
    singular : SingularPart
        What in the data makes the kernel singular.
    measure : SpectralMeasure
        Of kernel and error, which all methods share.
    plan : MemoryPlan
        Memory of the kernel and of Lanczos.
    fewest : StepsTo or None
        Gradients in which any method that follows them from this start can reach the target at best
        (:func:`odeopt.rates.steps_envelope`); None where it is never reached.
    methods : tuple of MethodForecast
        In the order asked for.
    test : HeldOut or None
        The test set, scaled, with the rows that are trained on too.
    outputs : int
        Number of outputs, over which losses are summed.
    classes : numpy.ndarray, shape (c,), or None
        The class of each output.
    target_note : str
        What is to be said of the targets: that class labels are regressed on.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import forecast
    >>> found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    >>> found.n, found.d, found.singular.dimension, found.fewest.value
    (3, 3, 0, 1)
    """

    n: int
    d: int
    target: float
    initial_loss: float
    loss_floor: float
    mu: float
    L: float
    largest: tuple[float, float]
    singular: SingularPart
    measure: SpectralMeasure
    plan: MemoryPlan
    fewest: StepsTo | None
    methods: tuple[MethodForecast, ...]
    test: HeldOut | None = None
    outputs: int = 1
    classes: np.ndarray | None = None
    target_note: str = ""
    _names = ("forecast.json", "forecast.npz", "forecast")

    _drawn_by = "forecast"

    def _summary(self) -> Summary:
        def cells(m: MethodForecast) -> list[str]:
            numbers = (m.lr_limit, m.times_fewest, m.test and m.test.best_step)
            told = [m.name, m.rule.label, str(m.steps), "rigorous" if m.steps.rigorous else "estimated"]
            return told + ["-" if v is None else f"{v:.5g}" for v in numbers]

        head = ("method", "rule", "steps", "bounds", "limit of lr", "times fewest", "best step on test")
        steps = ", ".join(f"{m.name} {m.steps}" for m in self.methods)
        facts = [f"n = {self.n}, d = {self.d}", f"steps to {self.target:g} L_0: {steps}"]
        return Summary([*facts, "predicted at infinite width"], head, [cells(m) for m in self.methods])

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds.

        Returns
        -------
        dict
            The numbers by name, "methods" and "test" as mappings.
        """
        return {
            "version": importlib.metadata.version("odeopt"),
            "n": self.n,
            "d": self.d,
            "outputs": self.outputs,
            "classes": None if self.classes is None else self.classes.tolist(),
            "target_note": self.target_note,
            "target": self.target,
            "initial_loss": self.initial_loss,
            "loss_floor": self.loss_floor,
            "null_dimension": self.singular.dimension,
            "singular_part": str(self.singular),
            "mu": self.mu,
            "L": self.L,
            "largest_eigenvalue": list(self.largest),
            "num_matvecs": self.measure.num_matvecs,
            "exact": self.measure.exact,
            "memory_bytes": self.plan.total,
            "fewest_steps": None if self.fewest is None else self.fewest.value,
            "methods": [method.to_dict() for method in self.methods],
            "test": None if self.test is None else self.test.to_dict(),
        }

    def _arrays(self) -> dict[str, Any]:
        return forecast_arrays(self)
