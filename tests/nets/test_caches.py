"""Modules that keep results of a pass: refused before a step, and then as they were."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import HeavyBall
from odeopt.nets import train, train_sgd

X, Y = np.random.default_rng(0).standard_normal((7, 4)), np.arange(7.0)
HELD: dict = {}  # out of the sight of what restores a module


class Keeping(nn.Module):
    """A network whose features are those of its first pass, kept in a place of its own."""

    def __init__(self, place):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6).double(), nn.Linear(6, 1).double()
        self.place, self.kept, self.table, self.entries = place, None, {}, []

    def features(self, x):
        return torch.tanh(self.body(x))

    def forward(self, x):
        if self.place == "attribute":
            self.kept = self.features(x) if self.kept is None else self.kept
            return self.head(self.kept)
        if self.place == "detached":
            self.kept = self.features(x).detach() if self.kept is None else self.kept
            return self.head(self.kept)
        if self.place == "list":
            if not self.entries:
                self.entries.append(self.features(x))
            return self.head(self.entries[0])
        table = self.table if self.place == "dictionary" else HELD
        if "features" not in table:
            table["features"] = self.features(x)
        return self.head(table["features"])


def refused(place, run, words):
    HELD.clear()
    torch.manual_seed(0)
    net = Keeping(place)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        run(net)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.kept is None
    assert net.table == {}
    assert net.entries == []
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("place", ["attribute", "detached", "list", "dictionary"])
def test_a_module_that_keeps_its_features_is_refused_before_a_step(place):
    rule, words = HeavyBall(0.01, 0.5), "keeps results of a pass"
    refused(place, lambda net: train(net, rule, X, Y, 5, allow_unstable=True), words)
    refused(place, lambda net: train_sgd(net, rule, X, Y, 5, batch_size=3, allow_unstable=True), words)


def test_a_module_that_fails_on_the_way_is_left_as_it_was():
    rule = HeavyBall(0.01, 0.5)
    refused("elsewhere", lambda net: train(net, rule, X, Y, 5, allow_unstable=True), "backward pass")
    refused(
        "elsewhere",
        lambda net: train_sgd(net, rule, X, Y, 5, batch_size=3, allow_unstable=True),
        "outputs of",
    )


def test_features_that_were_filled_before_are_those_of_the_network():
    net = Keeping("detached")
    net(torch.from_numpy(X))
    run = train(net, HeavyBall(0.01, 0.5), X, Y, 5, allow_unstable=True)
    assert run.loss[-1] < run.loss[0]
