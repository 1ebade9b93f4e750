r"""Examples that are not trained on: the predicted loss on them along training, and where to stop.

The network starts at zero output, so that with the kernel :math:`H_*` between them and the examples of the
training :math:`u_*(k)=-H_*\psi_k(H)\Delta_0`. Inputs are scaled to unit norm and targets as those trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from odeopt.checks import frozen
from odeopt.data import Dataset, one_hot
from odeopt.kernels.cross import CrossOperator
from odeopt.kernels.inputs import unit_rows
from odeopt.kernels.relu import gram_between
from odeopt.kernels.shared_rows import shared_directions
from odeopt.rules.base import UpdateRule
from odeopt.shown import Pictured, Shown, Summary, along, rows_at, span
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.point_curve import PointCurve, class_accuracy
from odeopt.spectra.predictions import SeenBasis, predict, seen_from
from odeopt.studies.sources import Examples
from odeopt.studies.stages import Progress, counted_between

__all__ = ["HeldOut", "HeldOutCurve", "require_trained_on", "shared_text"]

# Predictions that are held at once, 128 MB.
_ENTRIES = 2**24
# Steps among which the best is looked for: all of a run, half of them at the beginning of a longer one.
_SEARCHED = 10_000
# Deviations of the targets, of which so many can still be squared and summed.
_FAR = 1e150


@dataclass(frozen=True, repr=False)
class HeldOutCurve(Pictured):
    r"""The predicted loss of a method on examples that are not trained on.

    Parameters
    ----------
    k : numpy.ndarray of int, shape (T,)
        Steps: those of the curve in training, and the best one: of all up to 10,000, of longer runs of the
        first 5000 and 10,000 spread evenly; of c outputs a c-th of these numbers.
    loss : numpy.ndarray, shape (T,)
        Half the sum of the squared errors, in the scale of the training.
    error : numpy.ndarray, shape (T,)
        An estimate, not a bound, of what the truncation of Lanczos changes in `loss`; 0 where it is exact.
    accuracy : numpy.ndarray, shape (T,), or None
        Share of the examples whose class is predicted; None where the targets are no classes.
    rms : numpy.ndarray, shape (T,)
        Root mean square error over examples and outputs: in the units of the targets, of classes 0 and 1; of
        several outputs without classes, each on its own scale, in units of their deviations.
    best : int
        Index of the smallest loss.

    Examples
    --------
    >>> from odeopt import forecast
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast(x, np.sin(x[:, 0]), test=0.25, methods=["gd"], target=0.1)
    >>> seen = found.methods[0].test
    >>> int(seen.loss.argmin()) == seen.best, bool(seen.best_step <= seen.k[-1]), seen.accuracy
    (True, True, None)
    """

    k: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    accuracy: np.ndarray | None
    rms: np.ndarray
    best: int
    source: ClassVar[str] = "test loss, predicted"

    def _summary(self) -> Summary:
        worst = (
            f"estimated within {self.error.max():.1g}"
            if self.error.any()
            else "exact for infinite width but for rounding"
        )
        best = f"best {self.loss[self.best]:.4g} at step {self.best_step}"
        facts = [along(self), f"test loss {span(self.loss)}", best, worst]
        columns = {"k": self.k, "test loss": self.loss, "rms": self.rms, "accuracy": self.accuracy}
        return Summary(facts, *rows_at(columns))

    @property
    def best_step(self) -> int:
        """The step after which the predicted loss is smallest: where to stop."""
        return int(self.k[self.best])

    @property
    def still_falling(self) -> bool:
        """Whether the best step is the last one, or beside it (an iteration may swing from step to step)."""
        return bool(self.k[-1] - self.k[self.best] <= 1)

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds, as plain JSON types.

        Returns
        -------
        dict
            "best" and "last", each "step", "loss", "error", "rms" and "accuracy", and "still_falling".
        """

        def at(i: int) -> dict[str, Any]:
            accuracy = None if self.accuracy is None else float(self.accuracy[i])
            numbers = {name: float(getattr(self, name)[i]) for name in ("loss", "error", "rms")}
            return {"step": int(self.k[i]), **numbers, "accuracy": accuracy}

        return {"best": at(self.best), "last": at(-1), "still_falling": self.still_falling}


@dataclass(frozen=True, repr=False)
class HeldOut(Shown):
    """Examples beside those of the training, on their scale.

    Attributes
    ----------
    x, y : numpy.ndarray, shapes (p, d) and (p,) or (p, c)
        Unit rows, and scaled targets.
    scale : float
        Of the targets; 1 where each of several outputs has its own.
    middle : float or None
        Between the two classes, scaled; None where the targets are no classes.
    shared : tuple of pairs of int
        Rows of these and of the training that are one.
    labels : numpy.ndarray of int, shape (p,), or None
        Outputs of the classes; None where there is none for each class.
    """

    x: np.ndarray
    y: np.ndarray
    scale: float
    middle: float | None
    shared: tuple[tuple[int, int], ...]
    labels: np.ndarray | None = None

    def _summary(self) -> Summary:
        return Summary([f"{len(self.y)} test examples", f"loss {self.initial_loss:.4g} for zero outputs"])

    @classmethod
    def of(cls, test: Examples, x: np.ndarray, y: np.ndarray, data: Dataset) -> HeldOut:
        """Scale as the training data `x`, `y` were to `data`."""
        middle = None if data.y.ndim == 2 else _middle_of_classes(y, test.y)
        if data.classes is not None:
            require_trained_on(test.y, data.classes)
        raw = test.y if data.classes is None else one_hot(test.y, data.classes)[0]
        scaled = (raw - data.target_mean) / data.target_scale
        if middle is not None:
            middle = float((middle - data.target_mean) / data.target_scale)
        rows = np.asarray(test.flat[0], dtype=np.float64)
        unit, _ = unit_rows(rows)
        labels = None if data.classes is None else scaled.argmax(axis=1)
        if (largest := np.abs(scaled).max()) > _FAR:
            raise ValueError(
                f"test has targets up to {largest:.3g} deviations of y off its mean, whose squares leave the "
                "range of float64; leave them out of test"
            )
        scale = np.asarray(data.target_scale).item() if np.size(data.target_scale) == 1 else 1.0
        return cls(unit, scaled, scale, middle, tuple(shared_directions(rows, x)), labels)

    @property
    def of_classes(self) -> bool:
        """Whether there is an accuracy."""
        return self.middle is not None or self.labels is not None

    @property
    def initial_loss(self) -> float:
        """The loss of zero outputs."""
        return float((self.y**2).sum()) / 2

    def rms(self, loss: np.ndarray) -> np.ndarray:
        """The root mean square error over examples and outputs that is a loss, in the units of `scale`."""
        return self.scale * np.sqrt(2 * loss / self.y.size)  # whose square may leave the range of float64

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds."""
        return {
            "p": len(self.y),
            "initial_loss": self.initial_loss,
            "overlap": len(self.shared),
            "classes": self.of_classes,
            "note": shared_text(self.shared, len(self.y)) if self.shared else "",
        }

    def seen(
        self, measure: SpectralMeasure | None, rows: np.ndarray, layers: Literal["first", "both"], depth: int,
        progress: Progress,
    ) -> SeenBasis | None:  # fmt: skip
        """See the vectors of a measure of the kernel of `rows` from these points; None without an error."""
        if measure is None:
            return None
        total = len(self.x) * len(rows)
        between = counted_between(
            "test kernel", lambda a, b: gram_between(a, b, layers, depth, total), total, progress
        )
        return seen_from(measure, CrossOperator(between, self.x, rows))

    def curve(
        self, rule: UpdateRule, measure: SpectralMeasure | None, seen: SeenBasis | None, k: Any
    ) -> HeldOutCurve:
        """Predict on the steps `k` and at the best step of the run."""
        k = np.union1d(k, self._best_step(rule, measure, seen, int(k[-1])))
        found = self._evaluated(rule, measure, seen, k)
        loss, error, accuracy = found
        known, rms = frozen(accuracy) if self.of_classes else None, self.rms(loss)
        return HeldOutCurve(
            frozen(k, int), frozen(loss), frozen(error), known, frozen(rms), int(np.argmin(loss))
        )

    def _best_step(
        self, rule: UpdateRule, measure: SpectralMeasure | None, seen: SeenBasis | None, last: int
    ) -> int:
        r"""The step of least loss, of all: :math:`|H_*Qc-y_*|` is that of the R of a QR decomposition."""
        if measure is None or seen is None:
            return 0
        most = _SEARCHED // self.y[0].size
        steps = np.arange(min(last, most) + 1)
        if last > most:
            steps = np.unique(np.r_[steps[: most // 2], np.linspace(0, last, most).astype(int)])
        images = np.column_stack([*seen.images, self.y])
        images = np.linalg.qr(images, mode="r") if len(images) > images.shape[1] else images
        ends = np.cumsum([image.shape[1] for image in seen.images])
        *turned, targets = np.split(images, ends, axis=1)
        piece = SeenBasis(seen.basis, tuple(turned), seen.norm)
        targets = targets.reshape(-1, *self.y.shape[1:])
        curve = predict(rule, measure, piece, steps, points_origin=np.zeros(targets.shape), estimate=False)
        return int(steps[curve.best(targets)])

    def _evaluated(
        self, rule: UpdateRule, measure: SpectralMeasure | None, seen: SeenBasis | None, k: np.ndarray
    ) -> np.ndarray:
        """Loss, its estimated error, and accuracy at steps `k`, shape (3, T)."""
        total, size = np.zeros((3, len(k))), max(1, _ENTRIES // (len(k) * self.y[0].size))
        for start in range(0, len(self.y), size):
            part = slice(start, start + size)
            targets = self.y[part]
            if measure is None or seen is None:
                zero = np.zeros(len(k))
                curve = PointCurve(np.zeros((len(k), *targets.shape)), None, k, "", zero == 0, zero, zero)
            else:
                images = tuple(image[part] for image in seen.images)
                origin = np.zeros(targets.shape)  # as J w_0 of a network that starts at zero output
                piece = SeenBasis(seen.basis, images, seen.norm)
                curve = predict(rule, measure, piece, k, points_origin=origin)
            with np.errstate(over="ignore", invalid="ignore"):
                distance = np.abs(curve.u - targets).reshape(len(k), -1).sum(axis=1)
                slack = curve.error * distance + targets.size / 2 * curve.error**2
            total[0] += curve.loss(targets)
            total[1] += np.where(curve.error == 0, 0.0, slack)
            if self.of_classes:
                total[2] += self.accuracy(curve.u, part) * len(targets) / len(self.y)
        return total

    def accuracy(self, u: np.ndarray, part: slice) -> np.ndarray:
        """Share of some of the examples whose class outputs `u` of theirs predict, at each step."""
        if self.labels is not None:
            return class_accuracy(u, self.labels[part])
        return ((u >= self.middle) == (self.y[part] >= self.middle)).mean(axis=1)


def _middle_of_classes(y: np.ndarray, test: np.ndarray) -> float | None:
    """The middle between two classes, if targets are no more than two numbers; a third is refused."""
    classes = np.unique(y)
    if len(classes) != 2 or len(y) == 2:
        return None
    unknown = test[~np.isin(test, classes)]
    if unknown.size:
        # all digits, or 0.1 + 0.2 and a 0.3 from float32 read like the class 0.3
        lone, low, high = (f"{value:.17g}" for value in (unknown[0], *classes))
        raise ValueError(
            f"test has the target {lone} ({unknown.size} such in all), and all of y are one of two classes, "
            f"{low} and {high}: of the class {lone} there is no example to train on; add some to x and y, or "
            "leave it out of test"
        )
    return float(classes.mean())


def require_trained_on(labels: np.ndarray, classes: np.ndarray) -> None:
    """Refuse labels of a test set of which there is no example to train on."""
    if (lone := np.setdiff1d(labels, classes)).size:
        raise ValueError(
            f"test has the label {lone[0].item()!r}, of which there is no example to train on; add some, or "
            "leave it out of test"
        )


def shared_text(shared: tuple[tuple[int, int], ...], p: int) -> str:
    """Say that a test set overlaps the training set."""
    i, j = shared[0]
    return (
        f"{len(shared)} of the {p} rows of test are rows of x too (row {i} of test is row {j} of x, at "
        "unit norm): a curve on what is trained on is no test"
    )
