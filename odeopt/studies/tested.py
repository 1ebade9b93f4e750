r"""What trained networks are worth on examples that are not trained on, beside what is predicted of them.

The iteration is followed on the network's own kernels at the start, :math:`H(0)=JJ^\top` and
:math:`H_*(0)=J_*J^\top`, and on those of infinite width, both from the network's outputs at the start. That
is exact for the linear model but for rounding; the rest of the distance to the trained network is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.kernels.relu import gram_between
from odeopt.rules.base import UpdateRule
from odeopt.spectra.measure import spectral_measure
from odeopt.spectra.point_curve import PointCurve
from odeopt.spectra.predictions import predict
from odeopt.studies.held_out import HeldOut

if TYPE_CHECKING:
    from odeopt.nets.networks import TwoLayerReLU

__all__ = [
    "TEST_CAPTION",
    "TEST_COLUMNS",
    "TEST_LEVELS",
    "TEST_PARTS",
    "curves_on_test",
    "kernel_pairs",
    "shown_on_test",
    "title_on_test",
    "told_of_test",
]

# Curves on the test set, and what they are of.
TEST_LEVELS: dict[str, str] = {
    "trained": "trained networks, measured",
    "discrete_h0": "iteration on the kernels of each network at the start, exact for them but for rounding",
    "discrete_inf": "iteration on the kernels of infinite width, exact for them but for rounding",
}
# Largest distances that are told.
TEST_PARTS: dict[str, tuple[str, str]] = {
    "trained - discrete H(0)": ("trained", "discrete_h0"),
    "discrete H(0) - discrete H_inf": ("discrete_h0", "discrete_inf"),
}
# Of a table: levels, and the step at which each is shown.
_SHOWN = (("trained", "last"), ("discrete_h0", "last"), ("discrete_inf", "last"), ("trained", "best"),
          ("discrete_h0", "best"))  # fmt: skip
TEST_COLUMNS = ("trained, last", "H(0), last", "H_inf, last", "trained, best", "H(0), best", "distance")
TEST_CAPTION = (
    "Predicted by the iteration on the kernels of the networks at their start, H(0), and of infinite width, "
    "exact for these but for rounding; distance: the largest of trained and H(0), relative to the loss at "
    "the start, measured; best: at the step of least loss, of those recorded."
)


def title_on_test(about: Mapping[str, Any]) -> str:
    """Over the table of a check whose problem says this of the test set."""
    return f"Loss on {about['p']} test examples, of {about['initial_loss']:.5g} for zero outputs"


def shown_on_test(found: Mapping[str, Any]) -> list[list[str]]:
    """A row of that table from what is told of a method, each cell in lines: loss, accuracy, step."""
    row = []
    for level, at in _SHOWN:
        told = found.get(level, {}).get(at)
        cell = ["-"] if told is None else [f"{told['loss']:.4g}"]
        if told is not None and told["accuracy"] is not None:
            cell.append(f"{told['accuracy']:.1%}")
        row.append([*cell, f"k = {told['step']}"] if told is not None and at == "best" else cell)
    distance = found.get("distance", {}).get("trained - discrete H(0)")
    return [*row, ["-" if distance is None else f"{max(distance):.1e}"]]


def kernel_pairs(
    network: TwoLayerReLU, held: HeldOut, x: np.ndarray, start: np.ndarray, limit: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """H and H_* by level: of a network at its start, H(0) being `start`, and of infinite width, `limit`."""
    from odeopt.nets import empirical_gram

    whole, n = empirical_gram(network, np.concatenate([x, held.x])), len(start)
    wide = limit, gram_between(held.x, x, network.layers, 1)
    return {"discrete_h0": (start, whole[n:, :n]), "discrete_inf": wide}


def curves_on_test(
    held: HeldOut,
    run: Any,
    rule: UpdateRule,
    k: np.ndarray,
    kernels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    layers: str,
) -> dict[str, np.ndarray]:
    r"""Loss on the test set and accuracy of a trained network and on pairs :math:`H, H_*`, at the steps k."""
    start = run.points.u[0]
    # outputs are homogeneous in the trained weights, of degree 1 or 2, so that J_* w_0 is a multiple of them
    degree = 1 if layers == "first" else 2
    curves: dict[str, PointCurve] = {"trained": run.points}
    for level, (kernel, cross) in kernels.items():
        shape = (len(kernel), *run.errors.shape[2:])[: 1 if len(kernel) == run.errors[0].size else 2]
        origin = None if run.origin is None else run.origin.reshape(shape)
        measure = spectral_measure(kernel, run.errors[0].reshape(shape), origin=origin)
        pulled = None if origin is None else degree * start
        curves[level] = predict(rule, measure, cross, k, start=start, points_origin=pulled)
    found: dict[str, np.ndarray] = {}
    for level, curve in curves.items():
        loss = curve.loss(held.y)
        found[f"test_{level}"] = np.r_[loss, np.full(len(k) - len(loss), np.nan)]
        if held.of_classes:
            right = held.accuracy(curve.u, slice(None))
            found[f"test_accuracy_{level}"] = np.r_[right, np.full(len(k) - len(right), np.nan)]
    return found


def told_of_test(curves: Mapping[str, np.ndarray], held: HeldOut) -> dict[str, Any]:
    """Each level at its best recorded step and at the last, seeds averaged, and the largest distances.

    Distances are relative to the loss at the start.
    """
    levels = [level for level in TEST_LEVELS if f"test_{level}" in curves]
    if not levels:
        return {}
    k, found = curves["k"], {}
    mean = {level: curves[f"test_{level}"].mean(axis=0) for level in levels}
    for level, loss in mean.items():
        right = curves.get(f"test_accuracy_{level}")
        finite = np.flatnonzero(np.isfinite(loss))
        best = int(finite[np.argmin(loss[finite])])
        found[level] = {
            name: {
                "step": int(k[i]),
                "loss": float(loss[i]),
                "rms": float(held.rms(loss[i])),
                "accuracy": None if right is None else float(right[:, i].mean()),
            }
            for name, i in (("best", best), ("last", len(k) - 1))
        }
    found["distance"] = {
        name: [float(np.max(np.abs(a - b)) / a[0]) for a, b in _pairs(curves, *pair)]
        for name, pair in TEST_PARTS.items()
        if {*pair} <= {*levels}
    }
    return found


def _pairs(curves: Mapping[str, np.ndarray], upper: str, lower: str) -> Any:
    return zip(curves[f"test_{upper}"], curves[f"test_{lower}"], strict=True)
