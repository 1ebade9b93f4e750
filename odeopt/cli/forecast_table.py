r"""The table of ``odeopt predict``."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from odeopt.cli.check_table import singular_line
from odeopt.cli.printed import called, console, say
from odeopt.studies.forecast import Forecast
from odeopt.studies.held_out import HeldOut, shared_text

__all__ = ["print_forecast"]

_FOUND = 1e-4  # an enclosure of the largest eigenvalue this narrow, relative to it, is printed as a number


def print_forecast(found: Forecast) -> None:
    """Print the spectrum and the table of methods."""
    how = "exact" if found.measure.exact else f"{found.measure.num_matvecs} Lanczos steps"
    low, high = found.largest
    largest = (
        f"{high:.5g}" if high - low <= _FOUND * high else f"between {low:.5g} and {high:.5g}, tuned for that"
    )
    outputs = f", {found.outputs} outputs" if found.outputs > 1 else ""
    say(
        f"n = {found.n}, d = {found.d}{outputs}; spectrum seen by the error from {found.mu:.4g} ({how}), "
        f"largest eigenvalue of the kernel {largest}; initial loss {found.initial_loss:.5g}"
    )
    if found.singular:
        say(singular_line(str(found.singular), found.singular.dimension, found.loss_floor))
    table = Table(title=f"Steps to {found.target:g} of the initial loss", caption=_caption(found))
    for column in ("method and rule", "limit\nof lr", "steps [bounds]", "times\nfewest", "bounds"):
        table.add_column(column, overflow="fold")
    names = called(found.methods)
    for m in found.methods:
        kind = "rigorous" if m.steps.rigorous else "estimated"
        limit, times = ("-" if v is None else f"{v:.4g}" for v in (m.lr_limit, m.times_fewest))
        name = names[m.name]
        named = m.rule.label if name in m.rule.label else f"{name}: {m.rule.label}"
        table.add_row(named, limit, str(m.steps), times, kind)
    console().print(table)
    for line in _lines(found):
        say(line, hang=4)
    if found.target_note:
        say(f"y {found.target_note} (--classes)", colour="yellow")
    if found.test is not None:
        _print_test(found, found.test)


def _print_test(found: Forecast, test: HeldOut) -> None:
    """Print where each method would best stop, and what the test set is worth there and at the end."""
    title = f"Loss on {len(test.y)} test examples, of {test.initial_loss:.5g} at the start"
    own = test.y.ndim == 2 and test.labels is None
    units = "deviations of each output" if own else "the units of the targets"
    table = Table(title=title, caption=f"Predicted for infinite width; rms in {units}.")
    classes = ("accuracy",) if test.of_classes else ()
    for column in ("method", "best step", "loss there", "rms there", *classes, "last step", "loss there"):
        table.add_column(column)
    falling, names = [], called(found.methods)
    for m in found.methods:
        if m.test is None:
            continue
        best, last = (m.test.to_dict()[at] for at in ("best", "last"))
        right = () if best["accuracy"] is None else (f"{best['accuracy']:.2%}",)
        table.add_row(
            names[m.name],
            str(best["step"]),
            _loss(best),
            f"{best['rms']:.4g}",
            *right,
            str(last["step"]),
            _loss(last),
        )
        falling += [names[m.name]] if m.test.still_falling else []
    console().print(table)
    lines = [shared_text(test.shared, len(test.y))] if test.shared else []
    if falling:
        lines.append(
            f"{', '.join(falling)}: the last step is the best one; a lower --target follows the loss further"
        )
    for line in lines:
        say(line, colour="yellow")


def _loss(at: dict[str, Any]) -> str:
    """A loss, with the estimate of what Lanczos leaves out where it can be seen."""
    seen = at["error"] > 1e-4 * at["loss"]
    return f"{at['loss']:.5g}" + (f" +- {at['error']:.1g}" if seen else "")


def _caption(found: Forecast) -> str | None:
    """What the ratio is one to: a lower bound, exact for this spectrum."""
    if found.fewest is None or found.fewest.value is None:
        return None
    return (
        f"No method whose iterates follow gradients from this start needs fewer than {found.fewest}: exact "
        "for this spectrum but for rounding, from the Lanczos matrix, by one that knows every eigenvalue."
    )


def _lines(found: Forecast) -> list[str]:
    """Where a run ends, and where decay would lead."""
    lines, initial, names = [], found.initial_loss, called(found.methods)
    for m in found.methods:
        if m.run is not None:
            low, loss, high = (float(v[-1]) / initial for v in (m.curve.lower, m.curve.loss, m.curve.upper))
            kind = "rigorous" if m.curve.proved[-1] else "estimated"
            lines.append(
                f"{names[m.name]}: after {m.run} steps, the end of its run, {loss:.4g} [{low:.4g}, "
                f"{high:.4g}] of the initial loss, {kind}"
            )
        if m.ends_at is not None:
            lines.append(
                f"{names[m.name]}: decay leads to {m.ends_at / initial:.4g} of the initial loss in the end"
            )
    return lines
