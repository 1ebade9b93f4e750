"""Pictures of an error budget along a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from odeopt.plot.legends import explain, explain_below, folded
from odeopt.plot.style import labelled, line_of, panels_of, styled, typeset

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["budget"]


class _Budget(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def k(self) -> np.ndarray: ...
    @property
    def time_step(self) -> float: ...
    @property
    def time_origin(self) -> float: ...
    @property
    def losses(self) -> Mapping[str, np.ndarray]: ...
    @property
    def loss_parts(self) -> Mapping[str, np.ndarray]: ...
    @property
    def vector_parts(self) -> Mapping[str, np.ndarray]: ...


@styled
def budget(
    found: _Budget,
    axes: Sequence[Axes] | np.ndarray | None = None,
    *,
    colours: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Axes:
    r"""Draw an error budget along a run: the loss of all levels, then its parts in loss and in error vectors.

    All relative to the start. The trained network is drawn beside the parts, so that these can be read
    against what is left, too. A prediction that diverges leaves the upper edge.

    Parameters
    ----------
    found : ErrorBudget
        What :func:`odeopt.nets.error_budget` found.
    axes : sequence of three matplotlib.axes.Axes, optional
        Where to draw the losses, the parts of the loss and those of the error; by default a new figure.
    colours, labels : mapping, optional
        Of levels ("trained", "discrete_h0", "ode_h0", ...) and parts ("step size", ...) by their names.

    Returns
    -------
    matplotlib.axes.Axes
        The first of them; its ``figure`` holds the others.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import HeavyBall, plot
    >>> from odeopt.nets import TwoLayerReLU, error_budget, train
    >>> net, x, y = TwoLayerReLU(3, 64), np.eye(3), [0.0, 1.0, 3.0]
    >>> found = error_budget(train(net, HeavyBall(0.1, 0.5), x, y, 30), net=net, x=x)
    >>> [ax.get_ylabel() for ax in plot.budget(found).figure.axes][:2]
    ['loss $L_k/L_0$', 'parts of the loss $|\\delta L_k|/L_0$']
    """
    own, grid = panels_of(axes, 1, 3, (10, 3.9))
    panels = list(grid[0])
    for ax, (ordinate, whole, lines) in zip(panels, _panels(found), strict=True):
        for key, values in lines.items():
            broad = {"color": "0.75", "linewidth": 3, "label": "trained network"}
            look = broad if key == "whole" else line_of(key, colours, labels)
            ax.plot(found.k[1:], np.abs(values)[1:] / whole[0], **look)
        sizes = [np.max(np.abs(v), where=np.isfinite(v), initial=0) / whole[0] for v in lines.values()]
        # The end of the run, or two decades below the largest value of the smallest part: the zeros of a
        # difference would take up the picture.
        least = whole[-1] / whole[0] if "trained" in lines else min([s for s in sizes if s > 0]) / 40
        ax.set(xscale="log", yscale="log", ylim=(least / 2, min(30, 2 * max(1, *sizes))))
        clock = f"(k+{found.time_origin:g})" if found.time_origin else "k"
        labelled(ax, f"iteration $k$,   time $t={found.time_step:.3g}\\,{clock}$", ordinate)
        if own is None:
            explain(ax, own=False)
    if own is not None:
        count = next(iter(found.vector_parts.values())).shape[1]
        own.suptitle(folded(typeset(f"{found.label}, n={count}"), 140), fontsize="medium")
        explain_below(own, [(panels[0], ""), (panels[1], "")], 3.3, 3)
    return panels[0]


def _panels(found: _Budget) -> list[tuple[str, np.ndarray, Mapping[str, np.ndarray]]]:
    """Ordinate, the trained curve and all lines of each of the three panels of a budget."""
    loss = found.losses["trained"]
    norm = np.sqrt(2 * loss)
    vectors = {part: np.linalg.norm(gap, axis=1) for part, gap in found.vector_parts.items()}
    return [
        ("loss $L_k/L_0$", loss, found.losses),
        (r"parts of the loss $|\delta L_k|/L_0$", loss, {"whole": loss, **found.loss_parts}),
        (r"parts of the error $\|\delta\Delta_k\|/\|\Delta_0\|$", norm, {"whole": norm, **vectors}),
    ]
