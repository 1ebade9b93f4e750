"""What the arithmetic of a network is on any device: products of its dtype, the kernel in torch or numpy."""

import numpy as np
import pytest
import torch

from odeopt import GradientDescent
from odeopt.nets import TwoLayerReLU, empirical_gram, train, train_batch
from odeopt.nets.kernels import closed
from odeopt.nets.module_state import plain_arithmetic

EPS = np.finfo(float).eps


@pytest.mark.parametrize("layers", ["first", "both"])
def test_closed_form_in_torch_is_that_in_numpy(layers, monkeypatch):
    monkeypatch.setattr(closed, "_BLOCK", 64)
    net, x = TwoLayerReLU(4, 50, layers=layers), np.random.default_rng(0).standard_normal((7, 4))
    gram = closed._gram(torch.from_numpy(x), net.weights.detach(), net.a.detach(), net, torch).numpy()
    # 50 terms, each of a product of 4
    np.testing.assert_allclose(gram, empirical_gram(net, x), rtol=0, atol=200 * EPS * np.abs(gram).max())


class Watched(TwoLayerReLU):
    """Keeps the settings that its passes meet."""

    def forward(self, x):
        seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return super().forward(x)


seen = []


def test_products_are_those_of_the_dtype_and_settings_of_the_caller_come_back():
    torch.set_float32_matmul_precision("medium")
    try:
        train(Watched(2, 5, dtype="float32"), GradientDescent(0.1), np.eye(2), [1.0, 0.0], 2)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {(False, "highest")}
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.deterministic


def test_settings_come_back_after_an_error():
    with pytest.raises(ZeroDivisionError), plain_arithmetic(torch.device("cpu")):
        1 / 0  # noqa: B018
    assert torch.backends.cudnn.allow_tf32


def test_a_batch_runs_in_the_arithmetic_of_its_dtype(monkeypatch):
    met = []

    class Rule(GradientDescent):
        def step(self, *arguments):
            met.append(torch.get_float32_matmul_precision())
            return super().step(*arguments)

    torch.set_float32_matmul_precision("medium")
    try:
        train_batch([TwoLayerReLU(2, 5, dtype="float32")], Rule(0.1), np.eye(2), [1.0, 0.0], 2)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert met[-1] == "highest"
