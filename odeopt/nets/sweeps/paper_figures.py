r"""The six figures of the paper's study: networks beside the linear theory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.nets.sweeps.jobs import JobResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["paper_figures"]

_NAMES = ("heavy ball, width", "Nesterov, width", "heavy ball", "Nesterov", "higher momentum")
_Runs = list[tuple[dict, dict]]  # the spec of a run, and what it holds


def paper_figures(results: JobResults) -> Any:
    r"""Draw the six figures of :func:`odeopt.nets.paper_study` in one.

    Lines are networks, the geometric mean of the seeds with their range as a band; dashed ones the linear
    prediction from the start, left out where it is unstable; dotted ones the prediction from the state at the
    restart, whose step is the grey line. A hollow marker, and a limit below :math:`\eta\lambda_{\max}`, mark
    a learning rate above the stability limit at the start.

    Parameters
    ----------
    results : JobResults
        Of :func:`paper_study`.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows of three panels; :func:`odeopt.plot.save` writes it.

    Examples
    --------
    >>> import concurrent.futures as cf
    >>> import tempfile
    >>> from odeopt.nets import PaperSettings, paper_study
    >>> small = PaperSettings(30, 20, 0.05, (30,), 20, 5e-4, seeds=1, restart=5)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = paper_study(np.eye(3) + 1, range(3), folder, settings=small, executor=pool)
    ...     len(paper_figures(results).axes)
    6
    """
    from matplotlib import rc_context

    from odeopt.plot.style import panels_of, style

    runs: dict[str, dict[str, _Runs]] = {}
    for entry in results.entries:
        if entry["status"] == "done":
            spec = entry["spec"]
            runs.setdefault(spec["figure"], {}).setdefault(spec["label"], []).append(
                (spec, results.load(entry))
            )
    with rc_context(style()):
        figure, axes = panels_of(None, 2, 3, (11, 5.6))
        for ax, name in zip((*axes[0, :2], *axes[1]), _NAMES, strict=True):
            if name in runs:
                (_against_width if name.endswith("width") else _against_epoch)(ax, runs[name], name)
        _averaged(axes[0, 2], runs)
        assert figure is not None  # for no axes were given
        figure.legend(handles=_styles(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _styles() -> list[Any]:
    """Legend of what lines and markers mean in all panels but the one of averages."""
    from matplotlib.lines import Line2D

    plain = {"color": "0.3", "lw": 1.3}
    return [
        Line2D([], [], **plain, label="networks, mean and range of the seeds"),
        Line2D([], [], ls="--", **plain, label="linear prediction from $H(0)$, where stable"),
        Line2D([], [], ls=":", **plain, label="linear prediction from the restart (grey line)"),
        Line2D([], [], ls="", marker="o", color="0.3", label="stable at the start"),
        Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="above the stability limit"),
    ]


def _mean(several: list[np.ndarray]) -> np.ndarray:
    """Geometric mean over runs as far as all of them go; nan where one is not finite and positive."""
    least = min(map(len, several))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = np.exp(np.mean([np.log(values[:least]) for values in several], axis=0))
    return np.where(np.isfinite(mean), mean, np.nan)


def _drawn(ax: Axes, x: Any, several: list[np.ndarray], colour: str, **style: Any) -> None:
    """The mean of some runs, and their range."""
    mean = _mean(several)
    ax.plot(x[: len(mean)], mean, color=colour, **style)
    if len(several) > 1:
        held = np.array([values[: len(mean)] for values in several])
        ax.fill_between(x[: len(mean)], held.min(axis=0), held.max(axis=0), color=colour, alpha=0.2, lw=0)


def _against_epoch(ax: Axes, labels: dict[str, _Runs], name: str) -> None:
    highest, first = 0.0, next(iter(labels.values()))[0][1]
    for (label, runs), colour in _in_colours(labels):
        seeds = [held for _, held in runs]
        k, least = np.maximum(seeds[0]["k"], 1), _typeset(label)
        limit = min(held["limit"] for held in seeds)
        _drawn(ax, k, [held["loss"] for held in seeds], colour, lw=1.2, label=f"{least}: limit {limit:.2f}")
        for key, dash, drawn in (
            ("linear_loss", "--", all(held["lr_lam_max"] <= held["limit"] for held in seeds)),
            ("restart_loss", ":", True),
        ):
            if drawn:
                mean = _mean([held[key] for held in seeds])
                ax.plot(k[: len(mean)], mean, dash, color=colour, lw=1.3)
        highest = max(highest, *(held["loss"].max() for held in seeds))
    ax.axvline(first["restart_k"], color="0.7", lw=0.8, zorder=0)
    # on a linear one the first epochs, far above the rest, hide it
    ax.set(xscale="log", yscale="log", xlim=(1, None), ylim=(None, 3 * highest))
    largest = max(held["lr_lam_max"] for runs in labels.values() for _, held in runs)
    title = rf"{name}, $\eta\lambda_{{\max}}\leq{largest:.2f}$ at the start"
    _finished(ax, title, "epoch")


def _against_width(ax: Axes, labels: dict[str, _Runs], name: str) -> None:
    for (label, runs), colour in _in_colours(labels):
        widths, by_width = _by_width(runs)
        unstable = [any(held["lr_lam_max"] > held["limit"] for held in seeds) for seeds in by_width]
        _final_band(ax, widths, by_width, colour, ls="-", label=_typeset(label))
        for key, dash, left_out in (("linear_loss", "--", unstable), ("restart_loss", ":", ())):
            mean = np.array([_mean([held[key][-1:] for held in seeds])[0] for seeds in by_width])
            mean[np.flatnonzero(left_out)] = np.nan
            ax.plot(widths, mean, dash, color=colour, lw=1.3)
        losses = [_mean(_finals(seeds))[0] for seeds in by_width]
        for width, loss, hollow in zip(widths, losses, unstable, strict=True):
            ax.plot(width, loss, "o", color=colour, mfc="white" if hollow else colour, ms=4.5)
    spec = next(iter(labels.values()))[0][0]
    _finished(ax, f"{name.removesuffix(', width')}, epoch {spec['epochs']}", "width $m$", widths)


def _averaged(ax: Axes, runs: dict[str, dict[str, _Runs]]) -> None:
    """Losses of both methods against the width."""
    from odeopt.plot.style import colours_of

    shown = [
        (label, several, mark)
        for name, mark in (("heavy ball, width", ""), ("Nesterov, width", "x"))
        for label, several in _in_order(runs.get(name, {}))
    ]
    colours = colours_of([label for label, *_ in shown], None)
    for (label, several, mark), colour in zip(shown, colours, strict=True):
        widths, by_width = _by_width(several)
        _final_band(ax, widths, by_width, colour, marker=mark, label=_typeset(label))
    if shown:
        seeds, epochs = len(by_width[0]), shown[0][1][0][0]["epochs"]
        title = f"both, epoch {epochs}, {seeds} seed{'s' * (seeds > 1)}"
        _finished(ax, title, "width $m$", widths)


def _by_width(runs: _Runs) -> tuple[list[int], list[list[dict]]]:
    """The widths, ascending, and what the seeds of each hold."""
    widths = sorted({spec["width"] for spec, _ in runs})
    return widths, [[held for spec, held in runs if spec["width"] == width] for width in widths]


def _finals(seeds: list[dict]) -> list[np.ndarray]:
    """Losses at the last epoch; nan of a run that left the finite numbers."""
    left = [held["loss"].size < held["linear_loss"].size for held in seeds]
    return [np.array([np.nan]) if out else held["loss"][-1:] for held, out in zip(seeds, left, strict=True)]


def _final_band(ax: Axes, widths: list[int], by_width: list[list[dict]], colour: str, **style: Any) -> None:
    each = [np.concatenate(of_seed) for of_seed in zip(*map(_finals, by_width), strict=True)]
    _drawn(ax, widths, each, colour, lw=1.2, **style)


def _finished(ax: Axes, title: str, abscissa: str, widths: list[int] | None = None) -> None:
    """Names, scales and a legend beside the panel."""
    from matplotlib.ticker import NullFormatter

    from odeopt.plot.legends import explain
    from odeopt.plot.style import plain_ordinate

    ax.set(xlabel=abscissa, ylabel="mean squared error", xscale="log", yscale="log")
    ax.set_title(title)
    if widths is not None:
        ax.set_xticks(widths, [str(width) for width in widths])
        ax.xaxis.set_minor_formatter(NullFormatter())
        plain_ordinate(ax)
    explain(ax, own=True)


def _typeset(label: str) -> str:
    """A label of the study with its symbols: "beta = 0.6" is beta, "d = 2" the friction d/t."""
    return "$" + label.replace("beta", r"\beta").replace(" ", "") + "$"


def _in_colours(labels: dict[str, _Runs]) -> list[tuple[tuple[str, _Runs], str]]:
    from odeopt.plot.style import colours_of

    ordered = _in_order(labels)
    return list(zip(ordered, colours_of([label for label, _ in ordered], None), strict=True))


def _in_order(labels: dict[str, _Runs]) -> list[tuple[str, _Runs]]:
    """Labels by the numbers in them."""
    return sorted(labels.items(), key=lambda item: [float(n) for n in re.findall(r"[\d.]+", item[0])])
