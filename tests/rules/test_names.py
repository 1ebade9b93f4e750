"""What identifies a rule in a file."""

import json
import textwrap
from dataclasses import dataclass

import pytest
import sympy

from odeopt import GradientDescent, HeavyBall, TorchSGD, UpdateRule
from odeopt.rules import Averaged, Cosine, Formula, Linear, Recursion, Schedule, Step, Table, Warmup
from odeopt.rules.names import old_rule_spec, rule_spec

STEP = """
    from dataclasses import dataclass
    from odeopt import UpdateRule

    @dataclass(frozen=True)
    class Own(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            (x,) = iterates
            return x - {factor} * self.lr * grad(x), memory
    """


def typed(factor: str) -> UpdateRule:
    """A rule typed at a prompt: its class has no file."""
    names = {"__name__": "typed"}
    exec(textwrap.dedent(STEP).format(factor=factor), names)
    return names["Own"](0.1)


@dataclass(frozen=True)
class Filed(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return iterates[0] - self.lr * grad(iterates[0]), memory


def test_a_built_in_rule_is_named_by_its_class_alone_and_was_by_its_old_module():
    assert rule_spec(HeavyBall(0.1, 0.5)) == {"type": "HeavyBall", "lr": 0.1, "momentum": 0.5}
    assert old_rule_spec(HeavyBall(0.1, 0.5))["type"] == "odeopt.methods.HeavyBall"
    assert old_rule_spec(TorchSGD(0.1))["type"] == "odeopt.momentum.TorchSGD"


@pytest.mark.parametrize("rule", [Filed(0.1), typed("1")], ids=["in a file", "at a prompt"])
def test_a_class_of_ones_own_is_named_with_a_digest_that_stays(rule):
    assert rule_spec(rule) == rule_spec(rule.replace())
    assert len(rule_spec(rule)["source"]) == 16
    assert old_rule_spec(rule) is None


def test_an_edited_step_is_another_rule():
    assert rule_spec(typed("1")) == rule_spec(typed("1"))
    assert rule_spec(typed("1"))["source"] != rule_spec(typed("2"))["source"]


def test_an_edited_base_is_another_rule():
    one, two = (type("Own", (type(typed(factor)),), {"__module__": "typed"})(0.1) for factor in "12")
    assert rule_spec(one)["source"] != rule_spec(two)["source"]


K = sympy.Symbol("k")


@dataclass(frozen=True)
class OwnSchedule(Schedule):
    start: float

    def pieces(self):
        return Linear(self.start, 10).pieces()


def test_rules_that_differ_in_a_schedule_a_decay_or_an_average_have_different_names():
    rules = [
        GradientDescent(0.1),
        GradientDescent(0.1, weight_decay=0.01),
        GradientDescent(0.1, weight_decay=0.01, decoupled=True),
        GradientDescent(0.1, weight_decay=0.01, to_start=True),
        GradientDescent(0.1, weight_decay=Linear(0.01, 10)),
        *(
            GradientDescent(s)
            for s in (Cosine(0.1, 10), Linear(0.1, 10), Linear(0.1, 11), Step(0.1, (3, 10)))
        ),
        *(GradientDescent(Step(0.1, m)) for m in ((3, 9), (3, 9, 12))),
        *(GradientDescent(s * Cosine(0.1, 10)) for s in (Warmup(3), Warmup(4), 0.5)),
        GradientDescent(0.5 + Cosine(0.1, 10)),
        *(GradientDescent(Table(v)) for v in ((0.1, 0.2), (0.1, 0.2, 0.1), (0.1, 0.2 + 1e-16))),
        *(
            GradientDescent(Formula(sympy.Float(0.1, 17) * e / (10 + K), K))
            for e in (1, 1 + sympy.Float(1e-15, 17))
        ),
        *(GradientDescent(Recursion(1.0, u)) for u in (lambda c: c / 2, lambda c: c / 3)),
        GradientDescent(OwnSchedule(0.1)),
        Averaged(GradientDescent(0.1)),
        Averaged(GradientDescent(0.1), decay=0.9),
        Averaged(HeavyBall(0.1, 0.5)),
    ]
    names = [json.dumps(rule_spec(rule), sort_keys=True) for rule in rules]
    assert len(set(names)) == len(rules)
    assert names == [json.dumps(rule_spec(rule.replace()), sort_keys=True) for rule in rules]


def test_a_recursion_is_named_by_what_it_does_not_by_its_place_in_memory():
    def halved():
        return Recursion(1.0, lambda c: c / 2)

    assert rule_spec(GradientDescent(halved())) == rule_spec(GradientDescent(halved()))


def test_a_decay_that_is_not_set_leaves_the_name_as_it_was():
    assert rule_spec(TorchSGD(0.1, 0.9)) == {
        "type": "TorchSGD", "lr": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "r": None
    }  # fmt: skip
