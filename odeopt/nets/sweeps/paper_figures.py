r"""The six figures of the paper's study: networks beside the linear theory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from odeopt.nets.sweeps.jobs import JobResults

__all__ = ["paper_figures"]

_TITLES = {
    "heavy ball, width": "heavy ball: loss at epoch {epochs}, one seed",
    "Nesterov, width": "Nesterov: loss at epoch {epochs}, one seed",
    "heavy ball": "heavy ball",
    "Nesterov": "Nesterov",
    "higher momentum": "higher momentum",
}


def paper_figures(results: JobResults) -> Any:
    r"""Draw the six figures of :func:`odeopt.nets.paper_study` in one.

    Lines are networks; dashed ones the linear prediction from the start, left out where it is unstable;
    dotted ones the prediction from the state at the restart, whose step is the grey line. A hollow marker, or
    "above" in the legend, marks a learning rate above the stability limit at the start.

    Parameters
    ----------
    results : JobResults

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    runs: dict[str, dict[str, list]] = {}
    for entry in results.entries:
        if entry["status"] == "done":
            spec = entry["spec"]
            runs.setdefault(spec["figure"], {}).setdefault(spec["label"], []).append(
                (spec, results.load(entry))
            )
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for ax, name in zip((*axes[0, :2], *axes[1]), _TITLES, strict=True):
        if name in runs:
            (_against_width if name.endswith("width") else _against_epoch)(ax, runs[name], name)
    _averaged(axes[0, 2], runs)
    figure.legend(handles=_styles(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _styles() -> list[Any]:
    """Legend of what lines and markers mean in all panels but the one of averages."""
    from matplotlib.lines import Line2D

    plain = {"color": "0.3", "lw": 1.3}
    return [
        Line2D([], [], **plain, label="network"),
        Line2D([], [], ls="--", **plain, label="linear prediction from H(0), where stable"),
        Line2D([], [], ls=":", **plain, label="linear prediction from the restart (grey line)"),
        Line2D([], [], ls="", marker="o", color="0.3", label="stable at the start"),
        Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="above the stability limit"),
    ]


def _against_epoch(ax: Any, labels: dict[str, list], name: str) -> None:
    highest = 0.0
    for number, (label, ((_, held),)) in enumerate(_in_order(labels)):
        unstable = held["lr_lam_max"] > held["limit"]
        color, k = f"C{number}", np.maximum(held["k"], 1)
        stands = f"{'above' if unstable else 'below'} limit {held['limit']:.2f}"
        ax.plot(k, held["loss"], color=color, lw=1.2, label=f"{label}, {stands}")
        if not unstable:
            ax.plot(k, held["linear_loss"], "--", color=color, lw=1)
        ax.plot(k, held["restart_loss"], ":", color=color, lw=1.6)
        highest = max(highest, held["loss"].max())
    held = next(iter(labels.values()))[0][1]
    ax.axvline(held["restart_k"], color="0.7", lw=0.8, zorder=0)
    ax.set(
        xlabel="epoch", ylabel="mean squared error", yscale="log", xlim=(1, None), ylim=(None, 3 * highest)
    )
    ax.set_xscale("log")  # on a linear one the first epochs, far above the rest, hide it
    title = rf"{name}: $\eta\lambda_{{\max}}$ = {held['lr_lam_max']:.2f} at the start"
    ax.set_title(title, fontsize=9)
    ax.legend(fontsize=7, loc="lower left")


def _against_width(ax: Any, labels: dict[str, list], name: str) -> None:
    for number, (label, runs) in enumerate(_in_order(labels)):
        chosen = sorted(
            ((spec["width"], held) for spec, held in runs if spec["seed"] == 0), key=lambda p: p[0]
        )
        widths, color = [width for width, _ in chosen], f"C{number}"
        losses = np.array([_final(held) for _, held in chosen])
        unstable = np.array([held["lr_lam_max"] > held["limit"] for _, held in chosen])
        linear = np.where(unstable, np.nan, [held["linear_loss"][-1] for _, held in chosen])
        restarted = [held["restart_loss"][-1] for _, held in chosen]
        ax.plot(widths, losses, "-", color=color, lw=1.2, label=label)
        for width, loss, hollow in zip(widths, losses, unstable, strict=True):
            ax.plot(width, loss, "o", color=color, mfc="white" if hollow else color, ms=5)
        ax.plot(widths, linear, "--", color=color, lw=1)
        ax.plot(widths, restarted, ":", color=color, lw=1.6)
    ax.set(xlabel="width", ylabel="mean squared error", yscale="log")
    ax.set_title(_TITLES[name].format(**next(iter(labels.values()))[0][0]), fontsize=10)
    ax.legend(fontsize=7)


def _in_order(labels: dict[str, list]) -> list[tuple[str, list]]:
    """Labels by the numbers in them."""
    return sorted(labels.items(), key=lambda item: [float(n) for n in re.findall(r"[\d.]+", item[0])])


def _final(held: dict) -> float:
    """Loss at the last epoch; nan if the run left the finite numbers."""
    return float(held["loss"][-1]) if held["loss"].size == held["linear_loss"].size else np.nan


def _averaged(ax: Any, runs: dict[str, dict[str, list]]) -> None:
    """Losses against the width over seeds: the geometric mean, and the range as a band."""
    number, seeds, epochs = 0, 0, 0
    for name, style in (("heavy ball, width", "-"), ("Nesterov, width", "--")):
        for label, several in _in_order(runs.get(name, {})):
            widths = sorted({spec["width"] for spec, _ in several})
            values = [[_final(held) for spec, held in several if spec["width"] == w] for w in widths]
            seeds, epochs = len(values[0]), several[0][0]["epochs"]
            mean = [np.exp(np.mean(np.log(v))) for v in values]
            ax.plot(widths, mean, style, color=f"C{number}", label=label, lw=1.2)
            ax.fill_between(
                widths, [min(v) for v in values], [max(v) for v in values], color=f"C{number}", alpha=0.15
            )
            number += 1
    ax.set(xlabel="width", ylabel="mean squared error", yscale="log")
    ax.set_title(f"loss at epoch {epochs}, mean and range of {seeds} seeds", fontsize=10)
    if number:
        ax.legend(fontsize=7)
