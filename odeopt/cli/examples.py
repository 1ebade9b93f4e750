"""What each help ends with: examples that run as they stand, and how schedules are written."""

from __future__ import annotations

from odeopt.rules.schedule_text import SCHEDULE_FORMS

__all__ = ["EXAMPLES", "beginning", "epilog"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "check": (
        "odeopt check --n 60 --width 4096",
        "odeopt check --methods gd,hb --lr cosine:0.1 --report report.html",
        "odeopt check --rule 'Adam lr=0.001' --seeds 1",
        "odeopt check --n 200 --test 0.2 --classes",
        "odeopt check --data houses.csv --column price --n 0 --json",
    ),
    "predict": (
        "odeopt predict data.npz --target 0.01",
        "odeopt predict data.npz --test 0.2 --methods gd,nag",
        "odeopt predict digits.npz --loss softmax --test 0.2",
        "odeopt predict data.npz --best-at 500 --lr cosine:1",
    ),
    "sweep": (
        "odeopt sweep --widths 256,1024 --lr 0.05,0.1",
        "odeopt sweep --methods hb --momentum 0.5,0.9 --out momenta",
        "odeopt sweep --study paper --out paper",
    ),
    "derive": (
        "odeopt derive hb --steps",
        "odeopt derive Nesterov lr=0.01 r=4 --resolution 1",
        "odeopt derive adam lr=cosine:0.1:0:100 --latex",
    ),
    "certify": (
        "odeopt certify hb lr=0.01 momentum=0.9 --mu 1 --L 10",
        "odeopt certify gd lr=0.1 --mu 1 --L 10 --iteration --json",
        "odeopt certify --friction '3/sqrt(2)' --mu 1",
        "odeopt certify --verify proof.json",
    ),
    "methods": ("odeopt methods", "odeopt methods --json"),
}
# Commands whose options take schedules.
_SCHEDULED = ("check", "predict", "sweep")


def beginning() -> str:
    """The end of the first help: where to begin, and what the status says."""
    first = (f"  {EXAMPLES[name][0]}" for name in ("methods", "derive", "certify", "check"))
    status = "Exit status: 0 done, 1 no run or no proof holds, 2 refused with the reason, 130 interrupted."
    return "\n\n".join(["To begin:", *first, status])


def epilog(command: str) -> str:
    """The end of a help: examples, and the forms of schedules where the command takes some."""
    lines = ["Examples:", *(f"  {line}" for line in EXAMPLES[command])]
    if command in _SCHEDULED:
        lines += [
            "Schedules, over --steps, and products of them with *:",
            *(f"  {form}" for form in SCHEDULE_FORMS),
        ]
    return "\n\n".join(lines)
