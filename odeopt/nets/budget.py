r"""The error budget of a run: what separates a trained network from the ODE of the infinite one.

Five levels of description, each with the error vectors :math:`\Delta_k=u_k-y` that it claims,

    trained > discrete H(0) > high-resolution ODE H(0) > ODE H(0) > ODE H_inf,

differ by one cause from each to the next. The differences are the parts of the budget: along the chain
they add up to the whole distance at every step, in loss and in error vectors. Losses alone can agree
where the vectors do not, so both are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from odeopt.checks import frozen, real_array
from odeopt.dynamics.losses import SquaredLoss
from odeopt.nets.kernels.closed import infinite_width_kernel
from odeopt.nets.kernels.empirical import EmpiricalOperator
from odeopt.nets.training.record import TrainingRun
from odeopt.rules.base import UpdateRule
from odeopt.rules.names import numbers_of
from odeopt.shown import Pictured, Summary
from odeopt.spectra.errors import LEVELS, PARTS, Prediction, losses, predicted_errors

__all__ = ["ErrorBudget", "budget_of", "error_budget", "initial_kernel"]


@dataclass(frozen=True, repr=False)
class ErrorBudget(Pictured):
    r"""The error vectors of a run and of its predictions, and the parts of the distance between them.

    Parameters
    ----------
    rule : UpdateRule
        That of the run.
    width : int or None
        Hidden neurons; None for another module than :class:`odeopt.nets.TwoLayerReLU`.
    k : numpy.ndarray of int, shape (K,)
        The recorded steps.
    time_step, time_origin : float
        The clock of the ODE, t = (k + time_origin) * time_step.
    errors : mapping
        Level, a key of :data:`odeopt.spectra.errors.LEVELS` and in their order, to error vectors, shape
        (K, n), or (K, n c) for c outputs, example by example, read-only; a level that is not available is
        left out.
    equations, notes : mapping
        Level of an ODE to its equation; level that is left out, or on another clock, to the reason.
    outputs : int
        Number c of outputs.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU, train
    >>> net, x = TwoLayerReLU(3, 256), np.eye(3)
    >>> found = error_budget(train(net, HeavyBall(0.1, 0.5), x, [1.0, 0.0, -1.0], 20), net=net, x=x)
    >>> list(found.loss_parts)
    ['drift and flips', 'beyond the high-resolution ODE', 'step-size correction', 'finite width']
    >>> gaps = sum(found.vector_parts.values())
    >>> bool(np.allclose(gaps, found.errors["trained"] - found.errors["ode_inf"]))
    True
    """

    rule: UpdateRule
    width: int | None
    k: np.ndarray
    time_step: float
    time_origin: float
    errors: Mapping[str, np.ndarray]
    equations: Mapping[str, str]
    notes: Mapping[str, str]
    outputs: int = 1

    _drawn_by = "budget"

    @property
    def t(self) -> np.ndarray:
        """Times of the recorded steps on the clock of the ODE, shape (K,)."""
        return frozen((self.k + self.time_origin) * self.time_step)

    @property
    def label(self) -> str:
        """Name of the method with its numbers, and the width where it is known."""
        return self.rule.label if self.width is None else f"{self.rule.label}, m={self.width}"

    @property
    def losses(self) -> dict[str, np.ndarray]:
        r"""Level to :math:`\tfrac12\lVert\Delta_k\rVert^2`, shape (K,)."""
        return {level: losses(error) for level, error in self.errors.items()}

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Part of the budget to the two levels that it separates, along the chain."""
        return {PARTS[pair].title: pair for pair in itertools.pairwise(self.errors)}

    @property
    def loss_parts(self) -> dict[str, np.ndarray]:
        """Part to the signed difference of the losses of its levels, shape (K,)."""
        losses = self.losses
        with np.errstate(invalid="ignore"):
            return {part: losses[upper] - losses[lower] for part, (upper, lower) in self.pairs.items()}

    @property
    def vector_parts(self) -> dict[str, np.ndarray]:
        """Part to the difference of the error vectors of its levels, shape (K, n)."""
        with np.errstate(invalid="ignore"):
            return {
                part: self.errors[upper] - self.errors[lower] for part, (upper, lower) in self.pairs.items()
            }

    def until(self, fall: float) -> ErrorBudget:
        """Return the budget of the steps up to the first one at which the trained loss has fallen so far.

        Parameters
        ----------
        fall : float
            Ratio of the initial loss to the last one that counts, above 1. A run that does not get so far
            is kept whole.

        Returns
        -------
        ErrorBudget
            The same levels at fewer steps.

        Raises
        ------
        ValueError
            If `fall` is not above 1.
        """
        if not fall > 1:
            raise ValueError(f"fall must be above 1, the ratio of two losses, got {fall!r}")
        loss = self.losses["trained"]
        reached = np.flatnonzero(loss <= loss[0] / fall)
        kept = slice(int(reached[0]) + 1 if reached.size else loss.size)
        errors = {level: frozen(error[kept]) for level, error in self.errors.items()}
        return replace(self, k=frozen(self.k[kept], np.int64), errors=MappingProxyType(errors))

    def rows(self) -> list[dict[str, Any]]:
        r"""Return the largest size of each part over the steps, and of the whole distance.

        Returns
        -------
        list of dict
            "part", "upper", "lower" (levels); "initial", the largest :math:`|\delta L_k|/L_0`; "current",
            :math:`|\delta L_k|/L_k` with the trained loss :math:`L_k`; "vector",
            :math:`\lVert\delta\Delta_k\rVert/\lVert\Delta_0\rVert`; "vector_current", the same relative to
            the trained :math:`\lVert\Delta_k\rVert`; "k", the step of the largest "vector". inf where a
            prediction diverges.
        """
        pairs = {**self.pairs, "total": ("trained", list(self.errors)[-1])}
        return [{"part": part, **self.compare(*pair)} for part, pair in pairs.items()]

    def compare(self, upper: str, lower: str) -> dict[str, Any]:
        """Return the largest distance between any two levels, as a row of :meth:`rows`.

        Parameters
        ----------
        upper, lower : str
            Keys of `errors`.

        Returns
        -------
        dict
            "upper" and "lower" as they are printed, and the numbers of a row.
        """
        one, other, trained = self.errors[upper], self.errors[lower], self.errors["trained"]
        with np.errstate(invalid="ignore", over="ignore"):
            gap = _size(losses(one) - losses(other))
            distance = _size(np.linalg.norm(one - other, axis=1))
        loss, norm = losses(trained), np.linalg.norm(trained, axis=1)
        return {
            "upper": LEVELS[upper],
            "lower": LEVELS[lower],
            "initial": _worst(gap, loss[0]),
            "current": _worst(gap, loss),
            "vector": _worst(distance, norm[0]),
            "vector_current": _worst(distance, norm),
            "k": int(self.k[distance.argmax()]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the table with what it is about, as plain JSON types; None for what is not finite.

        Returns
        -------
        dict
            Keys "rule" with its "hyperparameters", sizes, clock, "equations", "notes" and "parts", the rows.
        """
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows()]
        return {
            "rule": type(self.rule).__name__,
            "hyperparameters": numbers_of(self.rule),
            "width": self.width,
            "n": int(self.errors["trained"].shape[1]) // self.outputs,
            "outputs": self.outputs,
            "last_step": int(self.k[-1]),
            "fall": _plain(self._fall),
            "time_step": self.time_step,
            "time_origin": self.time_origin,
            "equations": dict(self.equations),
            "notes": dict(self.notes),
            "parts": rows,
        }

    @property
    def _fall(self) -> float:
        """How far the trained loss has fallen."""
        first, last = self.losses["trained"][[0, -1]]
        return float(first / last) if last > 0 else np.inf

    def _summary(self) -> Summary:
        several = "" if self.outputs == 1 else f" examples of {self.outputs} outputs"
        facts = [
            self.label,
            f"n = {self.errors['trained'].shape[1] // self.outputs}{several}",
            f"measured up to step {self.k[-1]}",
            f"where the loss is 1/{self._fall:.3g} of the initial one",
        ]
        sizes = {
            "initial": "|dL|/L_0",
            "current": "|dL|/L_k",
            "vector": "|dD|/|D_0|",
            "vector_current": "|dD|/|D_k|",
        }
        rows = [
            [row["part"], *(f"{row[key]:.2g}" for key in sizes), f"{row['upper']} - {row['lower']}"]
            for row in self.rows()
        ]
        notes = [f"{LEVELS[level]}: {reason}" for level, reason in self.notes.items()]
        return Summary(facts, ["largest over the steps", *sizes.values(), "between"], rows, notes)


def error_budget(
    run: TrainingRun,
    kernel: npt.ArrayLike | EmpiricalOperator | None = None,
    *,
    net: nn.Module | None = None,
    x: npt.ArrayLike | None = None,
    limit_kernel: npt.ArrayLike | None = None,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    resolution: int = 1,
) -> ErrorBudget:
    r"""Split the distance from a trained network to the ODE of the infinite one into its parts.

    Parameters
    ----------
    run : TrainingRun
        Of any module and any linear rule whose limit is an ODE, with the squared loss.
    kernel : array_like, shape (n, n) or (n c, n c), or EmpiricalOperator, optional
        :math:`H(0)=JJ^\top` at the weights from which the run *started*, without the scale of the reduction.
        By default that of the run, which a :class:`odeopt.nets.TwoLayerReLU` has recorded; for another
        module make :func:`odeopt.nets.empirical_operator` before training.
    net, x : torch.nn.Module and array_like, shape (n, d), optional
        The network and its inputs: where the kernel of its infinite width has a closed form
        (:func:`odeopt.nets.infinite_width_kernel`), that is H_inf. Its weights do not matter.
    limit_kernel : array_like, shape (n, n), optional
        H_inf itself, of each output, in the scale of `kernel`. Without it and `net` the chain ends at the ODE
        with H(0).
    regime, resolution : optional
        Of :func:`odeopt.ode_limit`; `resolution` is that of the high-resolution ODE.

    Returns
    -------
    ErrorBudget
        At the recorded steps of the run. Where the rule has no high-resolution ODE that closes in
        :math:`(\Delta,H)`, its two parts are one, "step size", and a note says why.

    Raises
    ------
    ValueError
        If H(0) is not known or belongs to other weights, the loss is not the squared one, the run was on
        batches, or the rule is not linear or has no ODE that closes in :math:`(\Delta,H)`.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import DeepReLU, empirical_operator, train
    >>> net, x, y = DeepReLU(3, 256, depth=2), np.eye(3), [1.0, 0.0, -1.0]
    >>> kernel = empirical_operator(net, x)
    >>> run = train(net, HeavyBall(0.02, 0.5), x, y, 50)
    >>> budget = error_budget(run, kernel, net=net, x=x)
    >>> list(budget.pairs)
    ['drift and flips', 'beyond the high-resolution ODE', 'step-size correction', 'finite width']
    >>> parts, losses = budget.loss_parts, budget.losses
    >>> bool(np.allclose(sum(parts.values()), losses["trained"] - losses["ode_inf"], rtol=0, atol=1e-12))
    True
    """
    if not isinstance(run, TrainingRun):
        raise ValueError(f"run must be a TrainingRun, as train returns it, got {type(run).__name__}")
    if not isinstance(run.objective, SquaredLoss):
        raise ValueError(
            f"run must descend the squared loss, got {run.objective.label}: for others no linear ODE is known"
        )
    if run.batch_size is not None:
        raise ValueError(
            f"run was trained on batches of {run.batch_size} examples, whose noise is no part of it; "
            "compare the mean of several runs by sgd_report"
        )
    notes = {}
    if limit_kernel is None and net is not None:
        if x is None:
            raise ValueError("net is given without x; pass the inputs too, on which H_inf is computed")
        try:
            limit_kernel = infinite_width_kernel(net, x)
        except ValueError as error:
            notes["ode_inf"] = str(error)
    elif limit_kernel is None:
        notes["ode_inf"] = "not asked for; pass net and x, or limit_kernel"
    delta0 = run.errors[0]
    found = predicted_errors(
        run.rule,
        run.kernel_scale * initial_kernel(run, kernel),
        delta0,
        run.k,
        limit_kernel=None
        if limit_kernel is None
        else run.kernel_scale * _matrix(limit_kernel, len(run.targets), "limit_kernel"),
        origin=run.origin,
        regime=regime,
        resolution=resolution,
    )
    return budget_of(run, found, notes)


def budget_of(run: TrainingRun, found: Prediction, notes: Mapping[str, str] | None = None) -> ErrorBudget:
    """Join a run and predictions made for its steps, or for more steps than a diverged run has."""
    errors = {level: frozen(error[: run.k.size]) for level, error in found.errors.items()}
    trained = frozen(run.errors.reshape(run.k.size, -1))
    return ErrorBudget(
        rule=run.rule,
        width=run.width,
        k=run.k,
        time_step=found.time_step,
        time_origin=found.time_origin,
        errors=MappingProxyType({"trained": trained, **errors}),
        equations=MappingProxyType(found.equations),
        notes=MappingProxyType({**found.notes, **(notes or {})}),
        outputs=run.targets[0].size,
    )


def initial_kernel(run: TrainingRun, kernel: Any) -> np.ndarray:
    """H(0) of the weights from which the run started, shape (n, n), without the scale of the reduction."""
    if kernel is None:
        if run.initial_kernel is None:
            raise ValueError(
                "kernel is needed: the run has recorded none for this module; make "
                "empirical_operator(net, x) before training and pass it"
            )
        return run.initial_kernel
    if isinstance(kernel, nn.Module):
        raise ValueError(
            f"kernel is a {type(kernel).__name__}, whose weights are no longer those at the start; make "
            "empirical_operator(net, x) before training and pass it"
        )
    if not isinstance(kernel, EmpiricalOperator):
        return _matrix(kernel, run.targets.size)
    start = run.predictions[0].reshape(-1)
    # A float32 network rounds its outputs at 1e-7 of its largest terms; trained weights differ in the first
    # digits.
    if kernel.predictions.shape != start.shape or not np.allclose(
        kernel.predictions, start, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(start).max())
    ):
        raise ValueError(
            "kernel was made at other weights, or on other inputs, than those the run started from; make it "
            "before training"
        )
    return kernel.gram() / kernel.scale


def _matrix(kernel: Any, n: int, name: str = "kernel") -> np.ndarray:
    matrix = real_array(kernel, name, ndim=2)
    if matrix.shape != (n, n):
        like = "errors of the run" if name == "kernel" else "examples, one for all outputs"
        raise ValueError(f"{name} must have shape ({n}, {n}) like the {like}, got {matrix.shape}")
    return matrix


def _size(values: np.ndarray) -> np.ndarray:
    """Moduli; inf where a prediction has left the finite numbers."""
    return np.where(np.isfinite(values), np.abs(values), np.inf)


def _worst(sizes: np.ndarray, scale: Any) -> float:
    """Largest ratio; nothing of nothing is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(sizes == 0, 0.0, sizes / scale).max())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
