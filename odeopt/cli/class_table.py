r"""The table of ``odeopt predict --loss softmax``."""

from __future__ import annotations

from rich.table import Table

from odeopt.cli.printed import called, console, say
from odeopt.studies.forecast_classes import ClassForecast

__all__ = ["print_classes"]


def print_classes(found: ClassForecast) -> None:
    """Print where each method ends and where it would best stop."""
    say(
        f"n = {found.n}, d = {found.d}, {len(found.classes)} classes; largest eigenvalue of the kernel below "
        f"{found.L:.5g}: gradient descent descends below lr = {found.safe_lr:.4g}"
    )
    steps = found.methods[0].training.k[-1]
    where = f", and on {found.p} test examples" if found.p else ""
    table = Table(
        title=f"Cross-entropy an example{where}, accuracy; {steps} steps",
        caption="Predicted for infinite width.",
        show_lines=True,
    )
    test = ("test:\nbest step", "there", "in\nthe end") if found.p else ()
    for column in ("method and rule", "training:\nin the end", *test):
        table.add_column(column, overflow="fold")
    names = called(found.methods)
    for m in found.methods:
        name = names[m.name]
        named = m.rule.label if name in m.rule.label else f"{name}: {m.rule.label}"
        training = m.training.to_dict()["last"]
        cells = [named, _cell(training, found.n)]
        if m.test is not None:
            tested = m.test.to_dict()
            cells += [str(tested["best"]["step"]), *(_cell(tested[at], found.p) for at in ("best", "last"))]
        table.add_row(*cells)
    console().print(table)
    falling = [
        names[m.name] for m in found.methods if m.test is not None and m.test.to_dict()["still_falling"]
    ]
    if falling:
        say(f"{', '.join(falling)}: the last step is the best one; more --steps go further")
    if found.overlap:
        say(found.overlap, colour="yellow")


def _cell(at: dict[str, float], size: int) -> str:
    return f"{at['loss'] / size:.4g}\n{at['accuracy']:.2%}"
