"""Schedules and rules written as text: what is read, and what is refused."""

import sys

import numpy as np
import pytest

from odeopt import GradientDescent
from odeopt.rules import (
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    Step,
    Table,
    Warmup,
    WarmupStableDecay,
)
from odeopt.rules.names import rule_named
from odeopt.rules.schedule_text import number_or_schedule

FILE = """
from dataclasses import dataclass
from odeopt import UpdateRule

@dataclass(frozen=True)
class Half(UpdateRule):
    lr: float
    share: float = 0.5

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.share * self.lr * grad(x), memory

class Other:
    pass
"""


@pytest.fixture(autouse=True)
def imports_as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("half_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("cosine:0.1", Cosine(0.1, 1000)),
        ("cosine:0.1:0.01:200", Cosine(0.1, 200, end=0.01)),
        ("linear:0.1:0.01", Linear(0.1, 1000, end=0.01)),
        ("sqrt:0.1:100", InverseSqrt(0.1, 100)),
        ("exp:0.1:0.99", Exponential(0.1, 0.99)),
        ("step:0.1:500/0.75:0.5", Step(0.1, (500, 750), 0.5)),
        ("wsd:0.1:0.1:0.2", WarmupStableDecay(0.1, 1000, 100, 200)),
        ("wsd:0.1:0:200:0.01", WarmupStableDecay(0.1, 1000, 0, 200, 0.01)),
        ("warmup:100*cosine:0.1", Warmup(100) * Cosine(0.1, 1000)),
        ("warmup:0.1:0.5 * linear:0.1", Warmup(100, 0.5) * Linear(0.1, 1000)),
        ("2*table:0.1/0.2", 2.0 * Table((0.1, 0.2))),
    ],
)
def test_a_text_is_the_schedule_that_it_names(text, schedule):
    assert number_or_schedule(text, "lr", 1000) == schedule


def test_a_number_stays_a_number():
    assert isinstance(number_or_schedule("1e-1", "lr"), float)


@pytest.mark.parametrize(
    ("text", "steps", "words"),
    [
        (
            "cos:0.1",
            10,
            "lr must be numbers .*, or schedules, got 'cos:0.1': 'cos' is not among linear:START",
        ),
        ("cosine", 10, r"it is written cosine:START\[:END\[:STEPS\]\]"),
        ("cosine:0.1:0:10:3", 10, "it is written cosine"),
        ("cosine:0.1", None, "its number of steps is not given"),
        ("warmup:0.1*linear:0.1:0:10", None, "0.1 is a share of all steps, which are not given"),
        ("warmup:1.5*linear:0.1", 10, "'1.5' is no number of steps"),
        ("wsd:0.1:-1:2", 10, "'-1' is no number of steps"),
        ("wsd:0.1:6:6", 10, "exceed steps = 10"),
        ("step:0.1:7/3", 10, "milestones must be increasing"),
        ("linear:nan", 10, "'nan' is no finite number"),
        ("linear:0.1*", 10, "'' is not among"),
        ("__import__('os')", 10, "is not among"),
    ],
)
def test_other_texts_are_refused_with_the_form_or_the_number(text, steps, words):
    with pytest.raises(ValueError, match=words):
        number_or_schedule(text, "lr", steps)


def test_a_rule_is_read_with_schedules_and_switches():
    rule = rule_named("TorchSGD", ["lr=warmup:5*cosine:0.1", "momentum=linear:0.9:0.5", "nesterov=true"], 50)
    assert (rule.lr, rule.momentum, rule.nesterov) == (
        Warmup(5) * Cosine(0.1, 50),
        Linear(0.9, 50, 0.5),
        True,
    )
    with pytest.raises(ValueError, match=r"lr must be nonnegative and not always 0.*-0.1 to 0.1"):
        rule_named("GradientDescent", ["lr=linear:0.1:-0.1"], 50)


def test_a_rule_of_ones_own_is_imported_from_its_file(tmp_path):
    path = tmp_path / "half_steps.py"
    path.write_text(FILE)
    rule = rule_named(f"{path}:Half", ["lr=cosine:0.4"], 8)
    assert (type(rule).__name__, rule.share, rule.lr) == ("Half", 0.5, Cosine(0.4, 8))
    ours, theirs = (
        [x for (x, *_), _ in zip((s[0] for s in r.states(1.0, lambda z: z)), range(9), strict=False)]
        for r in (rule, GradientDescent(Cosine(0.2, 8)))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    with pytest.raises(ValueError, match=r"half_steps.py:Half takes lr, share: beta is unknown"):
        rule_named(f"{path}:Half", ["lr=0.1", "beta=0.9"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("half_again.py:Other", FILE, "'Other' is no UpdateRule with a step in half_again.py; it has Half"),
        ("half_anew.py:Half2", FILE, "'Half2' is no UpdateRule"),
        ("absent_rules.py:Half", None, "there is no file"),
        ("half-steps.py:Half", FILE, "a file name that is a Python name"),
        ("rules.txt:Half", FILE, "must be FILE.py:CLASS"),
        ("broken_rule.py:Half", "1 / 0", "cannot be imported: ZeroDivisionError"),
        ("numpy.py:Half", FILE, "another module of the name numpy"),
    ],
)
def test_files_that_hold_no_such_rule_are_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_text(content)
    with pytest.raises(ValueError, match=words):
        rule_named(f"{tmp_path}/{name}", [])
