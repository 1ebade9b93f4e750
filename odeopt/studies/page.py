r"""A check as one HTML page that needs no other file: derivations, tables, proofs, and plots that answer.

The formulas are MathML, which browsers draw themselves, and the plots are plotly's, inlined: no request
leaves the page. What it shows is taken from the report; derivations and proofs are made anew from its rules.
"""

from __future__ import annotations

import html
import importlib
import importlib.metadata
import math
import platform
from typing import Any

import numpy as np
import sympy

from odeopt.limits.failures import NoLimitError
from odeopt.limits.ode import ODELimit, ode_limit
from odeopt.plot.style import COLOURS
from odeopt.proofs.certify import certify
from odeopt.proofs.wanted import UnsolvedError
from odeopt.rates.rate import Rate
from odeopt.shown import Summary
from odeopt.spectra.errors import WHOLE_PARTS
from odeopt.studies.tested import TEST_CAPTION, TEST_COLUMNS, shown_on_test, title_on_test

__all__ = ["RATES", "check_page", "check_table", "require_page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #d0d0d0; --faint: #6b6b6b }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --line: #3a3d44; --faint: #9a9a9a }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
       max-width: 72rem; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem } h3 { font-size: 1rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: left; white-space: pre }
@media (max-width: 40rem) { td:first-child { min-width: 7rem; white-space: normal } }
figcaption, .faint { color: var(--faint); font-size: .9rem } figure { margin: 0 }
pre { overflow-x: auto; font-size: .85rem; border: 1px solid var(--line); padding: .5rem }
"""
_LEVELS = (("trained", "trained", "solid", 3), ("discrete_h0", "iteration, H(0)", "dash", 1.5),
           ("ode_h0", "ODE, H(0)", "dot", 1.5))  # fmt: skip
_TEST_LEVELS = (("test_trained", "trained", "solid", 3), ("test_discrete_h0", "iteration, H(0)", "dash", 1.5),
                ("test_discrete_inf", "iteration, H_inf", "dot", 1.5))  # fmt: skip


# The rates of a method in a report, as tables call them.
RATES = {
    "exact_ode": "ODE, exact", "exact_discrete": "iteration, exact", "fitted_ode": "ODE, fitted",
    "fitted_trained": "network, fitted",
}  # fmt: skip


def require_page() -> None:
    """Raise ImportError where a page cannot be made, before what it shows is computed."""
    for name in ("plotly.offline", "latex2mathml.converter"):
        _needed(name)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "a page of a report needs plotly and latex2mathml: pip install 'odeopt[report]'"
        ) from error


def check_page(report: Any, command: str | None = None) -> str:
    """The page of a report; `command` is what makes the report again."""
    plotly = _needed("plotly.offline")
    problem, settings = report.problem, report.settings
    about = (
        f"n = {problem['n']}, d = {problem['d']}, width {settings.width}, seeds 0 to {settings.seeds - 1}, "
        f"{settings.num_steps} steps; eigenvalues of the infinite-width kernel from "
        f"{problem['lambda_min_h_inf']:.4g} to {problem['lambda_max_h_inf']:.4g}"
    )
    parts = [
        "<h1>Trained networks beside their ODE, their iteration and their limit</h1>",
        f"<p>{html.escape(about)}</p>",
        "<h2>Loss</h2>", _figure(plotly, "loss", _loss_traces(report), "loss / initial loss"),
        *([] if problem.get("test") is None else _test(plotly, report)),
        "<h2>Error budget</h2>",
        _figure(plotly, "budget", _budget_traces(report), "|difference| / initial loss"),
        _table(["method", *(part.name for part in WHOLE_PARTS), "drift of H"],
               [_sizes(m) for m in report.methods]),
        f'<p class="faint">{html.escape("; ".join(f"{p.name}: {p.meaning}" for p in WHOLE_PARTS))}. '
        "Largest over the run, relative to the initial loss, measured.</p>",
        "<h2>Rates of the loss per unit of time</h2>",
        _table(["method", *RATES.values()],
               [_rates(m) for m in report.methods]),
        '<p class="faint">A fit describes the range that was run.</p>',
        "<h2>Derivations and proofs</h2>", *(_method(m, problem) for m in report.methods),
        "<h2>To make it again</h2>", f"<pre>{html.escape(_provenance(command))}</pre>",
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>odeopt check</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style><script>{plotly.get_plotlyjs()}</script></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _test(plotly: Any, report: Any) -> list[str]:
    """The losses on a test set, and the table that the terminal shows of them."""
    about = report.problem["test"]
    traces = [
        _trace(f"{m.name}, {label}", m.name, m.curves["k"], np.mean(m.curves[level], axis=0), colour, *line)
        for m, colour in zip(report.methods, _colours(len(report.methods)), strict=True)
        for level, label, *line in _TEST_LEVELS
        if level in m.curves
    ]
    rows = [[m.rule.label, *map("\n".join, shown_on_test(m.test or {}))] for m in report.methods]
    told = " ".join([TEST_CAPTION, about["note"]]).strip()
    return [
        "<h2>Test set</h2>", f"<p>{html.escape(title_on_test(about))}.</p>",
        _figure(plotly, "test", traces, "loss on the test set"), _table(["method", *TEST_COLUMNS], rows),
        f'<p class="faint">{html.escape(told)}</p>',
    ]  # fmt: skip


def _provenance(command: str | None) -> str:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "sympy", "torch")
    )
    own = f"odeopt {importlib.metadata.version('odeopt')}, Python {platform.python_version()}, {versions}"
    return own if command is None else f"{command}\n{own}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return f'<div class="scroll">{Summary((), head, rows).table()}</div>'


def check_table(methods: Any) -> tuple[list[str], list[list[str]], list[str]]:
    """Head, rows and notes of what a check says in short: rates, and what parts the levels."""
    rows, notes = [], []
    for m in methods:
        found = (getattr(m, name) for name in RATES)
        rows.append([m.name, *("-" if rate is None else rate.formula for rate in found), *_sizes(m)[1:]])
        notes.append(f"{m.name}: {m.rule.label}; {m.error_ode or m.weight_ode or 'no ODE'}")
    told = "Rates of the loss per unit of time; parts: largest difference over the run by L_0, measured."
    return (
        ["method", *RATES.values(), *(part.title for part in WHOLE_PARTS), "drift of H"],
        rows,
        [*notes, told],
    )


def _sizes(method: Any) -> list[str]:
    found = [method.budget.get(part.name) for part in WHOLE_PARTS]
    shown = ("-" if size is None else f"{size:.1e}" for size in found)
    return [method.rule.label, *shown, f"{method.kernel_drift:.1%}"]


def _rates(method: Any) -> list[str]:
    def fitted(rate: Rate | None) -> str:
        return "-" if rate is None else f"{rate.formula} [{rate.low:.3g}, {rate.high:.3g}]"

    exact = ("-" if rate is None else rate.formula for rate in (method.exact_ode, method.exact_discrete))
    return [method.rule.label, *exact, fitted(method.fitted_ode), fitted(method.fitted_trained)]


def _positive(values: np.ndarray) -> list[float | None]:
    """What a logarithmic axis can show; the rest is a gap."""
    return [float(v) if v > 0 and math.isfinite(v) else None for v in values]


def _trace(
    name: str, group: str, k: np.ndarray, values: np.ndarray, colour: str, dash: Any, width: Any
) -> dict:
    return {
        "type": "scatter", "mode": "lines", "name": name, "legendgroup": group, "x": k.tolist(),
        "y": _positive(values), "line": {"color": colour, "dash": dash, "width": width},
    }  # fmt: skip


def _loss_traces(report: Any) -> list[dict]:
    return [
        _trace(f"{m.name}, {label}", m.name, m.curves["k"], mean / mean[0], colour, dash, width)
        for m, colour in zip(report.methods, _colours(len(report.methods)), strict=True)
        for level, label, dash, width in _LEVELS
        if level in m.curves
        for mean in [np.mean(m.curves[level], axis=0)]
    ]


def _budget_traces(report: Any) -> list[dict]:
    traces = []
    for m, colour in zip(report.methods, _colours(len(report.methods)), strict=True):
        start = float(np.mean(m.curves["trained"][:, 0]))
        for part, dash in zip(WHOLE_PARTS, ("solid", "dash", "dot"), strict=True):
            if part.upper not in m.curves or part.lower not in m.curves:
                continue
            gap = np.mean(np.abs(m.curves[part.upper] - m.curves[part.lower]), axis=0) / start
            # at the start there is nothing but rounding
            traces.append(
                _trace(f"{m.name}, {part.name}", m.name, m.curves["k"][1:], gap[1:], colour, dash, 1.5)
            )
    return traces


def _colours(count: int) -> list[str]:
    # black is the ink of a light page alone
    usable = [colour for colour in COLOURS if colour != "#000000"]
    return [usable[i % len(usable)] for i in range(count)]


def _figure(plotly: Any, name: str, traces: list[dict], y: str) -> str:
    grey = "#808080"  # readable on light and dark paper
    axis = {"gridcolor": "rgba(128,128,128,.3)", "linecolor": grey, "zeroline": False}
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": grey},
        "xaxis": {"title": {"text": "iteration k"}, **axis},
        "yaxis": {"title": {"text": y}, "type": "log", "exponentformat": "power", **axis},
        "legend": {"orientation": "h", "y": -0.25}, "margin": {"l": 60, "r": 10, "t": 10, "b": 40},
        "height": 480,
    }  # fmt: skip
    div = plotly.plot(
        {"data": traces, "layout": layout}, include_plotlyjs=False, output_type="div",
        config={"responsive": True, "displayModeBar": False},
    )  # fmt: skip
    told = "A click on an entry of the legend hides its curve."
    return f'<figure id="{name}">{div}<figcaption>{told}</figcaption></figure>'


def _mathml(latex: str) -> str:
    return f'<div class="scroll">{_needed("latex2mathml.converter").convert(latex)}</div>'


def _method(method: Any, problem: dict[str, Any]) -> str:
    parts = [f"<h3>{html.escape(method.rule.label)}</h3>"]
    if method.error_ode_latex:
        parts += ["<p>The error of a wide network follows</p>", _mathml(method.error_ode_latex)]
    try:
        limit = ode_limit(method.rule)
    except NoLimitError as error:
        return "\n".join([*parts, f"<p>{html.escape(str(error))}</p>"])
    steps = "".join(_mathml(step.latex()) for step in getattr(limit, "steps", ()))
    parts.append(f"<details><summary>Derivation of the limit in the weights</summary>{steps}</details>")
    if isinstance(limit, ODELimit):
        parts.append(_proof(limit, problem))
    return "\n".join(parts)


def _proof(limit: ODELimit, problem: dict[str, Any]) -> str:
    """A rate on all functions as convex and as smooth as the quadratic of the kernel, rounded outwards."""
    mu, smooth = (
        _rounded(problem["lambda_min_h_inf"], down=True),
        _rounded(problem["lambda_max_h_inf"], down=False),
    )
    try:
        found = certify(limit, mu=mu, L=smooth)
    except (ValueError, UnsolvedError) as error:
        return f"<p>No proof on F({float(mu):g}, {float(smooth):g}): {html.escape(str(error))}</p>"
    checked = "verified in exact arithmetic" if found.verify() else "NOT verified"
    return (
        f"<p>Certified, {checked}: {html.escape(str(found))}.</p><details><summary>The certificate, as a file"
        f"</summary><pre>{html.escape(found.to_json())}</pre></details>"
    )


def _rounded(value: float, down: bool) -> sympy.Rational:
    """Three digits, below or above the value."""
    digits = 2 - math.floor(math.log10(value))
    whole = (math.floor if down else math.ceil)(value * 10.0**digits)
    return sympy.Rational(whole) / sympy.Integer(10) ** digits
