r"""The picture of a sweep: how far networks are from their linear prediction, against the width."""

from __future__ import annotations

from typing import Any

import numpy as np

from odeopt.nets.sweeps.jobs import JobResults

__all__ = ["sweep_figure"]


def sweep_figure(results: JobResults) -> Any:
    r"""Draw the largest distance of the loss from its linear prediction, relative to the first loss.

    A line for each rule: the mean of the seeds, with their range as a band. A run that left the finite
    numbers, or failed, is not drawn.

    Parameters
    ----------
    results : JobResults
        Of :func:`odeopt.nets.sweep`.

    Returns
    -------
    matplotlib.figure.Figure
        One panel; :func:`odeopt.plot.save` writes it.

    Examples
    --------
    >>> import concurrent.futures as cf
    >>> import tempfile
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import sweep
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     rules, x = [GradientDescent(0.1)], np.eye(3)
    ...     found = sweep(rules, x, range(3), 9, folder, widths=[8, 16], executor=pool)
    ...     sweep_figure(found).axes[0].get_xlabel()
    'width $m$'
    """
    from matplotlib import rc_context
    from matplotlib.ticker import NullLocator

    from odeopt.plot.legends import explain
    from odeopt.plot.style import looks_of, panels_of, style, typeset

    distances: dict[str, dict[int, list[float]]] = {}
    for entry in results.entries:
        if entry["status"] == "done":
            held, spec = results.load(entry), entry["spec"]
            gap = np.max(np.abs(held["loss"] - held["linear_loss"])) / held["loss"][0]
            at = distances.setdefault(_label(spec["rule"]), {}).setdefault(spec["width"], [])
            at += [float(gap)] if np.isfinite(gap) else []
    with rc_context(style()):
        figure, axes = panels_of(None, 1, 1, (5.4, 3.1))
        ax = axes[0, 0]
        for (label, by_width), look in zip(distances.items(), looks_of([*distances], None), strict=True):
            shown = {width: gaps for width, gaps in sorted(by_width.items()) if gaps}
            ends = [[end(gaps) for gaps in shown.values()] for end in (np.mean, min, max)]
            ax.plot([*shown], ends[0], **look, marker="o", label=typeset(label))
            ax.fill_between([*shown], *ends[1:], color=look["color"], alpha=0.2, linewidth=0)
        ax.set(
            xlabel="width $m$",
            ylabel=r"$\max_k\,|L_k-L_k^{\mathrm{lin}}|\,/\,L_0$",
            xscale="log",
            yscale="log",
        )
        widths = sorted({width for by_width in distances.values() for width in by_width})
        ax.set_xticks(widths, [str(width) for width in widths])
        ax.xaxis.set_minor_locator(NullLocator())
        explain(ax, own=True, title="networks and their prediction from $H(0)$\nmean and range of the seeds")
    return figure


def _label(rule: dict[str, Any]) -> str:
    """The label of a rule, from what identifies it in a file.

    >>> _label({"type": "mine.Slow", "source": "f00d", "lr": {"schedule": "Cosine", "start": 0.1}, "r": 3.0})
    'Slow(lr=Cosine(0.1), r=3)'
    """
    kind = str(rule.get("schedule", rule.get("type"))).rpartition(".")[2]
    named = {name: value for name, value in rule.items() if name not in ("type", "schedule", "source")}
    told = [("" if "schedule" in rule else f"{name}=") + _value(value) for name, value in named.items()]
    return f"{kind}({', '.join(told)})"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _label(value)
    if isinstance(value, list):
        return f"({', '.join(map(_value, value))})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
