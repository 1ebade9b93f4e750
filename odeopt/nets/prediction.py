r"""Predict the training of a torch module from its own kernel at the start, on other points too.

The outputs of a module that is linear in its trained weights are :math:`u_k`, exactly; those of a wide one
nearly. All that is needed is :math:`H=JJ^\top`, :math:`H_*=J_*J^\top`, the first outputs and, where weights
decay to 0, :math:`Jw_0`; with `num_matvecs` no kernel is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import iteration_grid
from odeopt.dynamics.iterates import predict_iterates
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss, require_loss
from odeopt.nets.kernels.cross import EmpiricalCross
from odeopt.nets.kernels.empirical import EmpiricalOperator, empirical_operator
from odeopt.nets.module_checks import inputs_of, targets_of
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import pulls, require_numeric
from odeopt.shown import Pictured, Summary, along, rows_at, span
from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.measure import spectral_measure
from odeopt.spectra.point_curve import PointCurve
from odeopt.spectra.predictions import predict, seen_from

__all__ = ["ModulePrediction", "predict_module"]


@dataclass(frozen=True, repr=False)
class ModulePrediction(Pictured):
    r"""What the kernel of a module at its present weights predicts of its training by one rule.

    Parameters
    ----------
    rule : UpdateRule
        The method.
    objective : PredictionLoss
        The loss that it descends.
    k : numpy.ndarray of int, shape (K,)
        Steps.
    loss : numpy.ndarray, shape (K,)
        The objective, summed over the examples.
    curve : LossCurve or None
        Of the squared loss: the same with its bounds, for the linear model of the kernel.
    points : PointCurve or None
        Outputs at the points along training.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import DeepReLU
    >>> net, x, y = DeepReLU(3, 64, depth=2), np.eye(3), [1.0, 0.0, -1.0]
    >>> (found,) = predict_module(net, GradientDescent(0.01), x, y, [0, 20, 40])
    >>> found.rule.label, bool((np.diff(found.loss) < 0).all()), found.curve.rigorous, found.points
    ('GradientDescent(lr=0.01)', True, True, None)
    """

    rule: UpdateRule
    objective: PredictionLoss
    k: np.ndarray
    loss: np.ndarray
    curve: LossCurve | None = None
    points: PointCurve | None = None

    def _summary(self) -> Summary:
        kind = "exact for the linear model of the kernel"
        if self.curve is not None and not self.curve.proved.all():
            kind = "bounded for the linear model of the kernel, in part by estimates"
        points = [] if self.points is None else [f"{self.points.u.shape[1]} point(s)"]
        facts = [along(self), f"loss {span(self.loss)}", kind, *points, self.rule.label]
        return Summary(facts, *rows_at({"k": self.k, "loss": self.loss}))


def predict_module(
    module: nn.Module,
    rules: UpdateRule | Sequence[UpdateRule],
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | torch.Tensor,
    k: npt.ArrayLike,
    *,
    points: npt.ArrayLike | torch.Tensor | None = None,
    objective: PredictionLoss | None = None,
    num_matvecs: int | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    params: str | Iterable[str] | None = None,
    batch_size: int | None = None,
) -> tuple[ModulePrediction, ...]:
    r"""Predict what :func:`odeopt.nets.train` would record, from the kernel of a module before training.

    Parameters
    ----------
    module : torch.nn.Module
        As for :func:`odeopt.nets.empirical_operator`; left as it is.
    rules : UpdateRule or sequence of UpdateRule
        Linear, with numeric hyperparameters; one kernel serves all.
    x, y : array_like or torch.Tensor, shapes (n, ...) and (n,) or (n, c)
        Inputs and targets of the examples; :func:`odeopt.data.one_hot` makes targets of class labels.
    k : array_like of increasing int, shape (K,)
        Steps.
    points : array_like or torch.Tensor, shape (p, ...), optional
        Inputs that are not trained on, whose outputs are predicted too.
    objective : PredictionLoss, optional
        What is minimised; by default :math:`\tfrac12\lVert u-y\rVert^2`. Of another one the rule's own step
        is run, a product with the kernel each.
    num_matvecs : int, optional
        Of the squared loss: Lanczos steps, each a product with the kernel that is not stored. By default the
        kernel is computed and decomposed.
    reduction : {"sum", "mean"}, optional
        As for :func:`odeopt.nets.train`.
    params, batch_size : optional
        As for :func:`odeopt.nets.empirical_operator`.

    Returns
    -------
    tuple of ModulePrediction
        One for each rule.

    Raises
    ------
    ValueError
        If module, inputs and targets do not fit, a rule is not linear, or an option is out of range.

    Examples
    --------
    >>> from odeopt import GradientDescent, Nesterov
    >>> from odeopt.nets import TwoLayerReLU
    >>> net, x, y = TwoLayerReLU(3, 1000), np.eye(3), np.array([1.0, 0.0, -1.0])
    >>> descent, nesterov = predict_module(
    ...     net, [GradientDescent(0.5), Nesterov(0.5)], x, y, [0, 10, 20], points=np.ones((2, 3)) / 2
    ... )
    >>> descent.points.u.shape, bool(nesterov.loss[-1] < descent.loss[-1] < descent.loss[0])
    ((3, 2), True)
    """
    rules = (rules,) if isinstance(rules, UpdateRule) else tuple(rules)
    for rule in rules:
        require_numeric(rule)
    objective, k, y = SquaredLoss() if objective is None else objective, iteration_grid(k, "k"), targets_of(y)
    scale = require_loss("objective", objective).reduced(reduction, y)
    options: dict[str, Any] = {"params": params, "batch_size": batch_size}
    squared = isinstance(objective, SquaredLoss)
    if num_matvecs is not None and not squared:
        raise ValueError(f"num_matvecs is for the squared loss; leave it out for {objective!r}")
    x = inputs_of(x)
    kernel = empirical_operator(module, x, dense=None if num_matvecs is None else False, **options)
    cross = None if points is None else empirical_operator(module, inputs_of(points, "points"), x, **options)
    c = kernel.predictions.size // len(x)
    if y.size != kernel.predictions.size or y.shape[1:] not in ((c,), () if c == 1 else (c,)):
        raise ValueError(
            f"y must have the shape of the outputs of the module, {c} for each of {len(x)} examples, "
            f"got {y.shape}"
        )
    pulled = any(pulls(rule, k) for rule in rules)
    problem = _Problem(y, objective, scale, kernel, cross, pulled)
    if not squared:
        return tuple(problem.stepped(rule, k) for rule in rules)
    return problem.squared(rules, k, num_matvecs)


@dataclass(frozen=True)
class _Problem:
    """Kernels and first outputs, and, where a rule is `pulled` to 0, the images of the first weights."""

    y: np.ndarray
    objective: PredictionLoss
    scale: float
    kernel: EmpiricalOperator
    cross: EmpiricalCross | None
    pulled: bool

    def scaled(self, kernel: Any) -> Any:
        """A kernel as the reduction scales it, an array or an operator."""
        return self.scale * kernel

    def shaped(self, flat: np.ndarray) -> np.ndarray:
        """Outputs of examples or points, (n,) or (n, c) as the targets."""
        return flat.reshape(-1, *self.y.shape[1:])

    @property
    def of_points(self) -> dict[str, Any]:
        """First outputs of the points, and the image of the weights."""
        if self.cross is None:
            return {}
        more = {"points_origin": self.shaped(self.cross.origin)} if self.pulled else {}
        return {"start": self.shaped(self.cross.predictions), **more}

    def squared(
        self, rules: tuple[UpdateRule, ...], k: np.ndarray, num_matvecs: int | None
    ) -> tuple[ModulePrediction, ...]:
        """All rules from one spectral measure."""
        matrix = self.scaled(self.kernel.gram() if num_matvecs is None else self.kernel)
        error = self.kernel.predictions - self.y.ravel()
        origin = self.kernel.origin if self.pulled else None
        measure = spectral_measure(matrix, error, origin=origin, num_matvecs=num_matvecs)
        seen = None if self.cross is None else seen_from(measure, self.scaled(self.cross))
        curves = [loss_curve(rule, measure, k) for rule in rules]
        points = [
            None if seen is None else predict(rule, measure, seen, k, **self.of_points) for rule in rules
        ]
        return tuple(
            ModulePrediction(rule, self.objective, k, curve.loss, curve, at)
            for rule, curve, at in zip(rules, curves, points, strict=True)
        )

    def stepped(self, rule: UpdateRule, k: np.ndarray) -> ModulePrediction:
        """The rule's own step on the outputs."""
        more: dict[str, Any] = {"origin": self.shaped(self.kernel.origin)} if self.pulled else {}
        if self.cross is not None:
            more |= {"cross_kernel": self.scaled(self.cross), **self.of_points}
        first = self.shaped(self.kernel.predictions)
        run = predict_iterates(rule, self.scaled(self.kernel), self.objective, first, self.y, k, **more)
        points, zero = None, np.zeros(len(k))
        if run.points is not None:
            source = f"iteration {rule.label}"
            points = PointCurve(run.points, None, run.k, source, zero == 0, zero, np.full(len(k), np.inf))
        return ModulePrediction(rule, self.objective, run.k, run.loss, None, points)
