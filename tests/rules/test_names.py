"""What identifies a rule in a file."""

import textwrap
from dataclasses import dataclass

import pytest

from odeopt import HeavyBall, TorchSGD, UpdateRule
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
