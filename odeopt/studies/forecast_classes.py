r"""Predict the training of a classifier by cross-entropy, before any training: losses and accuracies by step.

The network of infinite width starts at zero output. Its logits U, shape (n, c), move by
:math:`H\nabla\ell(U)`, :math:`\nabla\ell=\mathrm{softmax}(U)-Y`, with one kernel for all classes; the rule's
own step is run on them, and on the logits of the test set. No rate holds: on separable examples the loss
falls like 1/t and the logits grow without end, so that a network of finite width leaves its kernel late.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from odeopt.checks import frozen, require_integer
from odeopt.data import one_hot
from odeopt.dynamics.iterates import predict_iterates
from odeopt.dynamics.losses import SoftmaxLoss
from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.cross import CrossOperator
from odeopt.kernels.inputs import require_a_direction, unit_rows, validate_inputs
from odeopt.kernels.memory import MemoryPlan, Storage
from odeopt.kernels.operator import relu_gram_operator
from odeopt.kernels.relu import gram_between
from odeopt.kernels.shared_rows import shared_directions
from odeopt.rates.tuning import Decay
from odeopt.rules.averaged import with_average
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov
from odeopt.rules.names import numbers_of
from odeopt.rules.schedule import Schedule
from odeopt.shown import Pictured, Shown, Summary, along, rows_at, span
from odeopt.spectra.largest import largest_eigenvalue_bound
from odeopt.spectra.measure import spectral_measure
from odeopt.spectra.point_curve import PointCurve, class_accuracy
from odeopt.studies.files import Saved, class_arrays
from odeopt.studies.held_out import require_trained_on, shared_text
from odeopt.studies.methods import chosen_methods, require_constant_kernel
from odeopt.studies.sources import Examples, rows_and_test
from odeopt.studies.stages import Progress

__all__ = ["ClassCurve", "ClassForecast", "ClassMethod", "forecast_classes"]

_METHODS = ("gd", "hb", "nag")
# Logits that are held at once, 512 MB, and entries of a kernel of points that are kept, 1 GB.
_LOGITS, _KEPT = 2**26, 2**27


@dataclass(frozen=True, repr=False)
class ClassCurve(Pictured):
    """Cross-entropy and accuracy on some examples along training.

    Parameters
    ----------
    k : numpy.ndarray of int, shape (K,)
        Steps; all of the run where their logits fit into 512 MB, else as many as do, spread evenly.
    loss : numpy.ndarray, shape (K,)
        Cross-entropy, summed over the examples.
    accuracy : numpy.ndarray, shape (K,)
        Share of the examples whose largest logit is that of their class.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast_classes(x, np.argmax(x[:, :2], axis=1), test=0.25, methods=["gd"], num_steps=30)
    >>> curve = found.methods[0].training
    >>> int(curve.k[-1]), curve.best, bool(curve.accuracy[-1] > curve.accuracy[0])
    (30, 30, True)
    """

    k: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    source: ClassVar[str] = "cross-entropy, predicted"

    def _summary(self) -> Summary:
        shares = f"accuracy {self.accuracy[0]:.1%} to {self.accuracy[-1]:.1%}"
        facts = [along(self), f"cross-entropy {span(self.loss)}", shares, "at infinite width"]
        return Summary(facts, *rows_at({"k": self.k, "cross-entropy": self.loss, "accuracy": self.accuracy}))

    @property
    def best(self) -> int:
        """Index of the smallest loss."""
        return int(np.argmin(self.loss))

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds.

        Returns
        -------
        dict
            "best" and "last", each "step", "loss" and "accuracy", and "still_falling".
        """
        best, last = (
            {"step": int(self.k[i]), "loss": float(self.loss[i]), "accuracy": float(self.accuracy[i])}
            for i in (self.best, -1)
        )
        return {"best": best, "last": last, "still_falling": bool(self.k[-1] - self.k[self.best] <= 1)}


@dataclass(frozen=True, repr=False)
class ClassMethod(Shown):
    """What is predicted for one method.

    Parameters
    ----------
    name : str
        Name, or label of a rule of your own.
    rule : UpdateRule
        With its learning rate.
    training : ClassCurve
        Of the examples that are trained on.
    test : ClassCurve or None
        Of the test set, where there is one.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast_classes(x, np.argmax(x[:, :2], axis=1), test=0.25, methods=["gd"], num_steps=30)
    >>> [method.name for method in found.methods], found.methods[0].test.k.size
    (['gd'], 31)
    """

    name: str
    rule: UpdateRule
    training: ClassCurve
    test: ClassCurve | None

    def _summary(self) -> Summary:
        curves = {"training": self.training, **({"test": self.test} if self.test else {})}
        last = [f"{name} accuracy {curve.accuracy[-1]:.1%}" for name, curve in curves.items()]
        return Summary([*last, f"after {self.training.k[-1]} steps", self.rule.label])

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds.

        Returns
        -------
        dict
            The label of the rule, its numbers, and both curves as mappings.
        """
        curves = {"training": self.training.to_dict(), "test": self.test and self.test.to_dict()}
        rule = {"rule": self.rule.label, "hyperparameters": numbers_of(self.rule)}
        return {"name": self.name, **rule, **curves}


@dataclass(frozen=True, repr=False)
class ClassForecast(Saved):
    """The predictions for a data set of classes, saved as forecast.json, forecast.npz and forecast.png.

    Parameters
    ----------
    n, d, p : int
        Examples of the training, their dimension, and those of the test set.
    classes : tuple
        The label of each output.
    L : float
        An upper bound on the largest eigenvalue of the kernel.
    safe_lr : float
        4/L, below which gradient descent descends at every step.
    overlap : str
        Which rows of the test set are trained on too; "" for none.
    methods : tuple of ClassMethod
        In the order asked for.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast_classes(x, np.argmax(x[:, :2], axis=1), test=0.25, methods=["gd"], num_steps=30)
    >>> found.n, found.p, found.classes, bool(abs(found.safe_lr * found.L - 4) < 1e-12), found.overlap
    (30, 10, (0, 1), True, '')
    """

    n: int
    d: int
    p: int
    classes: tuple[Any, ...]
    L: float
    safe_lr: float
    overlap: str
    methods: tuple[ClassMethod, ...]
    _names = ("forecast.json", "forecast.npz", "forecast")
    _drawn_by = "class_curves"

    def _summary(self) -> Summary:
        def cells(curve: ClassCurve | None, i: int) -> tuple[str, str, str]:
            if curve is None:
                return ("-", "-", "-")
            return str(curve.k[i]), f"{curve.loss[i]:.4g}", f"{curve.accuracy[i]:.1%}"

        on = ("last step", "cross-entropy", "accuracy", "best step on test", "cross-entropy", "accuracy")
        rows = [
            (m.name, m.rule.label, *cells(m.training, -1), *cells(m.test, m.test.best if m.test else 0))
            for m in self.methods
        ]
        facts = [f"n = {self.n}, d = {self.d}, {len(self.classes)} classes", "predicted at infinite width"]
        return Summary(facts, ("method", "rule", *on), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds.

        Returns
        -------
        dict
            The numbers by name, the loss, "classes" and "methods".
        """
        plain = {name: getattr(self, name) for name in ("n", "d", "p", "L", "safe_lr", "overlap")}
        methods = [method.to_dict() for method in self.methods]
        version = importlib.metadata.version("odeopt")
        return {
            "version": version,
            "loss": "softmax",
            **plain,
            "classes": list(self.classes),
            "methods": methods,
        }

    def _arrays(self) -> dict[str, Any]:
        return class_arrays(self)


def forecast_classes(
    x: Any,
    y: Any = None,
    *,
    test: Any = None,
    methods: Sequence[str | UpdateRule] = _METHODS,
    num_steps: int = 1000,
    lr: float | Schedule | None = None,
    layers: Literal["first", "both"] = "first",
    depth: int = 1,
    storage: Storage = "auto",
    device: str | None = None,
    weight_decay: float | Schedule | None = None,
    decoupled: bool = False,
    to_start: bool = False,
    average: float | Schedule | Literal["polyak"] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
    on_plan: Callable[[MemoryPlan], object] | None = None,
) -> ClassForecast:
    r"""Predict cross-entropy and accuracy of an infinitely wide ReLU classifier along training.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (n,), or what :func:`odeopt.load_data` takes
        Inputs, flattened (images) and scaled to unit norm, and class labels.
    test : pair of array_like, what :func:`odeopt.load_data` takes, or float, optional
        As of :func:`odeopt.forecast`.
    methods : sequence of str or UpdateRule
        Among "gd", "hb" (momentum 0.9), "nag" (friction 3/t); or linear rules of your own.
    num_steps : int
        Length of the run.
    lr : float or Schedule, optional
        Learning rate of the methods that are named; by default 2/L, one over the smoothness of the loss.
    layers, depth, storage, device : str, int, str, str, optional
        As in :func:`odeopt.relu_gram_operator`.
    weight_decay, decoupled, to_start : float or Schedule, bool, bool
        Of the methods that are named, as of their classes.
    average : float, Schedule or "polyak", optional
        Predict the averaged logits of the methods that are named.
    progress : callable, optional
        Called as ``progress(stage, done, total)``: "kernel" with its rows, then each method with its steps.
    on_plan : callable, optional
        Called with the memory plan of the kernel.

    Returns
    -------
    ClassForecast
        Cross-entropy and accuracy along training, of the linear model of the kernel.

    Raises
    ------
    ValueError
        On unusable data or options, labels that are no classes, a class of the test set without an example
        to train on, or a rule that is not linear.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast_classes(x, np.argmax(x[:, :3], axis=1), test=0.25, methods=["gd"], num_steps=50)
    >>> found.classes, bool(np.all(np.diff(found.methods[0].training.loss) < 0))
    ((0, 1, 2), True)
    """
    given: dict[str, Any] = {"weight_decay": weight_decay, "decoupled": decoupled, "to_start": to_start}
    decay = Decay.of(GradientDescent, **given).keywords
    chosen = chosen_methods(methods, _METHODS, decay)
    require_constant_kernel([*chosen.values()], decay, layers)
    num_steps = require_integer("num_steps", num_steps, 1)
    x, y, held = rows_and_test(x, y, test, True)
    targets, classes = _classes(y, "y")
    wanted = None if held is None else _classes(held.y, "test", classes)[0]
    unit, _ = unit_rows(validate_inputs(x, allow_parallel=True, allow_blank=True))
    require_a_direction(unit)
    network: dict[str, Any] = {"layers": layers, "depth": depth, "storage": storage, "device": device}
    kernel = relu_gram_operator(unit, allow_singular=True, progress=progress, **network)
    if on_plan is not None:
        on_plan(kernel.plan)
    L = _largest(kernel, targets)
    rules = {
        name: m
        if isinstance(m, UpdateRule)
        else with_average(_named(m, 2 / L if lr is None else lr, decay), average)
        for name, m in chosen.items()
    }
    points = None if held is None else _points(held, unit, layers, depth)
    overlap = "" if held is None else _overlap(held, unit)
    found = tuple(
        ClassMethod(name, rule, *_curves(name, rule, kernel, targets, points, wanted, num_steps, progress))
        for name, rule in rules.items()
    )
    p = 0 if held is None else len(held.y)
    n, d = x.shape
    return ClassForecast(n, d, p, tuple(classes.tolist()), L, 4 / L, overlap, found)


def _classes(y: np.ndarray, name: str, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One-hot targets; every class of a test set must have an example to train on."""
    if classes is not None:
        require_trained_on(y, classes)
    try:
        return one_hot(y, classes)
    except ValueError as error:
        reason = f"{name} does not fit the loss softmax, which takes class labels: {error}"
        raise ValueError(reason) from error


def _largest(kernel: ReluGramOperator, targets: np.ndarray) -> float:
    """An upper bound on the largest eigenvalue, from a short run that begins at the gradient of a class."""
    steps, slack = min(30, kernel.shape[0]), kernel.storage_error
    start = 1 / targets.shape[1] - targets[:, 0]
    measure = spectral_measure(kernel, start, num_matvecs=steps, keep_basis=False)
    whole = kernel.frobenius + slack
    return min(whole, largest_eigenvalue_bound(measure.chains[0], whole, kernel.shape[0]) + slack)


def _named(name: str, lr: float | Schedule, decay: dict[str, Any]) -> UpdateRule:
    if name == "hb":
        return HeavyBall(lr, 0.9, **decay)
    return Nesterov(lr, 3, **decay) if name == "nag" else GradientDescent(lr, **decay)


def _overlap(held: Examples, unit: np.ndarray) -> str:
    shared = shared_directions(held.flat[0].astype(np.float64), unit)
    text = shared_text(tuple(shared), len(held.y)) if shared else ""
    if text:
        warnings.warn(text, UserWarning, stacklevel=3)
    return text


def _points(held: Examples, unit: np.ndarray, layers: Literal["first", "both"], depth: int) -> Any:
    """The kernel between the test set and the examples: kept, for each step takes a product with it."""
    rows, _ = unit_rows(held.flat[0].astype(np.float64))
    whole = len(rows) * len(unit)
    if whole <= _KEPT:
        return gram_between(rows, unit, layers, depth)
    return CrossOperator(lambda a, b: gram_between(a, b, layers, depth, whole), rows, unit)


def _curves(
    name: str, rule: UpdateRule, kernel: Any, targets: np.ndarray, points: Any, wanted: np.ndarray | None,
    steps: int, progress: Progress,
) -> tuple[ClassCurve, ClassCurve | None]:  # fmt: skip
    """Run the rule from zero logits; J w_0 = 0 there."""
    loss, first = SoftmaxLoss(), np.zeros_like(targets)
    size = targets.size + (0 if wanted is None else wanted.size)
    k = np.unique(np.linspace(0, steps, min(steps, max(1, _LOGITS // size)) + 1).astype(int))
    start = None if wanted is None else np.zeros_like(wanted)
    run = predict_iterates(
        rule, kernel, loss, first, targets, k,
        origin=first, cross_kernel=points, start=start, points_origin=start,
        progress=None if progress is None else lambda k: progress(name, k, steps),
    )  # fmt: skip
    tested = None if run.points is None or wanted is None else _curve(k, run.points, wanted, loss)
    return _curve(k, run.u, targets, loss), tested


def _curve(k: np.ndarray, u: np.ndarray, targets: np.ndarray, loss: SoftmaxLoss) -> ClassCurve:
    zero = np.zeros(len(k))
    values = PointCurve(u, None, k, "iteration", zero == 0, zero, zero).loss(targets, loss)
    return ClassCurve(frozen(k, int), values, class_accuracy(u, targets.argmax(axis=1)))
