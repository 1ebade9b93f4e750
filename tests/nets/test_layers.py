"""The matrix J J' by layers: right against plain autograd for each kind of layer, and never unchecked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from module_kinds import KINDS, Written, images, rows, sequences
from torch import nn

from odeopt.dynamics.losses import SquaredLoss
from odeopt.nets import empirical_operator
from odeopt.nets.kernels import jacobian as jacobians
from odeopt.nets.kernels import matrix
from odeopt.nets.kernels.contraction import Pair
from odeopt.nets.training.flat import problem_of


def jacobian(module, x):
    parameters = [p for p in module.parameters() if p.requires_grad]
    found = []
    for output in module(x).reshape(-1):
        parts = torch.autograd.grad(output, parameters, retain_graph=True)
        found.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(found).detach().numpy()


def assert_same(found, expected):
    # sums over at most some thousand weights, in another order
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def convolution(layer, *, side=6, channels=2, axes=2):
    x = torch.randn(5, channels, *(side,) * axes, dtype=torch.float64)
    size = layer(x.to(layer.weight.dtype)).flatten(1).shape[1]
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(size, 2)), x


def functions():
    parts = {"w": nn.Parameter(torch.randn(5, 8)), "v": nn.Parameter(torch.randn(7, 8))}
    parts["a"] = nn.Parameter(torch.randn(7))
    return Written(lambda s, x: torch.relu(torch.tanh(x @ s.w) @ s.v.T) @ s.a, **parts), rows()


def sequence_first():
    forward = Written(lambda s, x: s.b(torch.tanh(s.a(x.transpose(0, 1)))).mean(0), a=nn.Linear(8, 4))
    forward.b = nn.Linear(4, 2, bias=False)
    return forward, sequences()


LAYERS = {
    "stride and dilation": lambda: convolution(nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 2), (1, 2))),
    "groups": lambda: convolution(nn.Conv2d(4, 6, 3, groups=2), channels=4),
    "depthwise": lambda: convolution(nn.Conv2d(3, 6, 3, groups=3, bias=False), channels=3),
    "same": lambda: convolution(nn.Conv2d(2, 3, 5, padding="same")),
    "circular": lambda: convolution(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
    "one axis": lambda: convolution(nn.Conv1d(2, 3, 3, padding=1), axes=1),
    "three axes": lambda: convolution(nn.Conv3d(2, 2, 2), side=3, axes=3),
    "few positions, many channels": lambda: convolution(nn.Conv2d(30, 20, 2), side=2, channels=30),
    "functions": functions,
    "tokens": lambda: (
        nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 1), nn.Flatten()),
        sequences(),
    ),
    "sequence first": sequence_first,
    "bias alone": lambda: (
        nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).requires_grad_(False),
        rows(),
    ),
}


def build(kind):
    torch.manual_seed(5)
    module, x = LAYERS[kind]()
    if kind == "bias alone":
        module[0].bias.requires_grad_()
    return module.double(), x


def forbid(monkeypatch, *routes):
    def never(*arguments):
        raise AssertionError("a slower route")  # which, unlike what modules raise, is not caught

    for route in routes:
        monkeypatch.setattr(matrix, route, never)


@pytest.mark.parametrize("block", [2**25, 400])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_give_the_dense_product_whole_and_in_blocks_of_examples(kind, block, monkeypatch):
    module, x = build(kind)
    forbid(monkeypatch, "_vectorised", "_alone", "_among_all", "_by_examples")
    monkeypatch.setattr(matrix, "_BLOCK", block)
    J = jacobian(module, x)
    kernel = empirical_operator(module, x, dense=False)
    assert_same(kernel.gram(), J @ J.T)
    few = torch.flip(x[:2], (0,)) / 2
    assert_same(empirical_operator(module, few, x).gram(), jacobian(module, few) @ J.T)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_weights_of_no_layer_are_batched_beside_the_layers(batch_size, monkeypatch):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2)).double()
    forbid(monkeypatch, "_alone", "_among_all", "_by_examples")
    J = jacobian(module, rows())
    kernel = empirical_operator(module, rows(), dense=False, batch_size=batch_size)
    assert_same(kernel.gram(), J @ J.T)
    few = rows()[1:4] / 2
    cross = empirical_operator(module, few, rows(), batch_size=batch_size)
    assert_same(cross.gram(), jacobian(module, few) @ J.T)


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize(
    "mix", [lambda h: h - h.mean(0), lambda h: h[h[:, 0].argsort()]], ids=["mean", "sorted"]
)
def test_batches_are_refused_where_examples_influence_each_other(mix, batch_size, order):
    module = Written(lambda s, x: s.a(mix(x)), a=nn.Linear(5, 2).double())
    x = rows().numpy()
    x = x[x[:, 0].argsort()[::order]]
    with pytest.raises(ValueError, match="outputs do not depend on other examples"):
        empirical_operator(module, x, batch_size=batch_size)


@pytest.mark.parametrize(
    ("kind", "route"),
    [
        ("tied_weights", "_vectorised"),
        ("weight_norm", "_vectorised"),
        ("attention", "_vectorised"),
        ("checkpointed", None),
        ("sparse_embedding", "_alone"),
        ("lstm", "_alone"),
        ("derivative_of_an_energy", "_alone"),
        ("zero_readout_after_batch_statistics", "_among_all"),
        ("gate_of_zero_before_batch_statistics", "_among_all"),
    ],
)
def test_each_kind_of_module_takes_its_route(kind, route, monkeypatch):
    routes = ["_vectorised", "_alone", "_among_all"]
    forbid(monkeypatch, *routes[routes.index(route) + 1 if route else 0 :])
    module, x = KINDS[kind].build()
    expected = empirical_operator(module, x, dense=False) @ np.eye(6)
    assert_same(empirical_operator(module, x, dense=True).gram(), expected)


def test_a_contraction_that_goes_wrong_is_seen_and_done_again_by_rows(monkeypatch):
    module, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double(), rows()
    J = jacobian(module, x)
    right = Pair.contract

    def wrong(self, other, out):
        right(self, other, out)
        out[1, 0] += 1e-6 * out[0, 0]

    monkeypatch.setattr(Pair, "contract", wrong)
    assert_same(empirical_operator(module, x).gram(), J @ J.T)


def test_kernel_between_inputs_of_other_sizes_has_their_numbers_of_outputs():
    torch.manual_seed(0)
    module = Written(lambda s, x: s.a(x).reshape(len(x), -1), a=nn.Linear(8, 1)).double()
    x, few = sequences(), sequences()[:4, :3] / 2
    cross = empirical_operator(module, few, x, reduction="mean")
    assert_same(cross.gram(), 2 / 24 * jacobian(module, few) @ jacobian(module, x).T)
    np.testing.assert_allclose(cross.gram(), cross @ np.eye(24), rtol=0, atol=1e-13)
    assert not cross.gram().flags.writeable


def test_branches_by_the_number_of_examples_are_taken_as_among_all_of_them():
    """Layers of the few that are tried are not those of all; the kernel is that of all, as the products."""
    layers = nn.ModuleList([nn.Linear(5, 1), nn.Linear(5, 1)]).double()
    module, x = Written(lambda s, x: s.both[len(x) > 4](x), both=layers), rows()
    with_zeros = torch.autograd.functional.jacobian(lambda w: F.linear(x, w)[:, 0], layers[1].weight)[:, 0]
    assert_same(empirical_operator(module, x).gram(), (with_zeros @ with_zeros.T).detach().numpy() + 1)


def test_images_keep_the_type_of_the_network():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 1))
    gram = empirical_operator(net, images()).gram()
    J = jacobian(net.double(), images())
    assert_same(gram, J @ J.T)


def small_convolution():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 1)).double(), images()


@pytest.mark.parametrize("kind", [functions, small_convolution])
def test_kernel_and_products_at_moved_weights_are_of_their_layers(kind, monkeypatch):
    torch.manual_seed(1)
    module, x = kind()
    module.double()
    problem = problem_of(module, x, np.arange(6.0), SquaredLoss(), "sum")
    problem.at(problem.initial).gram()
    w = problem.initial + 0.1 * torch.randn(problem.initial.numel(), dtype=torch.float64)
    monkeypatch.setattr(jacobians, "product_matrix", None)  # neither the checks nor the passes of the first
    point = problem.at(w)
    gram = point.gram()
    problem.write(w)
    J = jacobian(module, x)
    assert_same(gram, J @ J.T)
    c, v = torch.randn(6, dtype=torch.float64), torch.randn(len(w), dtype=torch.float64)
    assert_same(point.pull_back(c).numpy(), J.T @ c.numpy())
    assert_same(point.push_forward(v).numpy(), J @ v.numpy())


def test_examples_that_interact_at_moved_weights_alone_are_seen():
    parts = {"a": nn.Linear(5, 8), "b": nn.Linear(8, 1), "gate": nn.Parameter(torch.zeros(()))}

    def forward(s, x):
        h = torch.tanh(s.a(x))
        return s.b(h + s.gate**2 * h.mean(0))

    torch.manual_seed(1)
    module, x = Written(forward, **parts).double(), rows()
    module.gate.requires_grad_(False)
    problem = problem_of(module, x, np.arange(6.0), SquaredLoss(), "sum")
    problem.at(problem.initial).gram()
    problem._jacobian.held._tensors["module.gate"].fill_(1.0)  # as if it had been trained
    gram = problem.at(problem.initial).gram()
    module.gate.fill_(1.0)
    J = jacobian(module, x)
    assert_same(gram, J @ J.T)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_by_all_examples_are_those_by_few(outputs, dtype, monkeypatch):
    """One output is planned on all examples at once, unless their parts are too many entries."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, outputs)).to(dtype)
    x = torch.randn(8, 1, 4, 4, dtype=torch.float64).transpose(2, 3)[::2]
    J = jacobian(module.double(), x)
    module.to(dtype)
    assert_same(empirical_operator(module, x).gram(), J @ J.T)
    monkeypatch.setattr(matrix, "_BLOCK", 200)
    assert_same(empirical_operator(module, x).gram(), J @ J.T)


@pytest.mark.parametrize("turned", [True, False])
def test_one_wrong_entry_of_a_derivative_by_a_weight_is_seen_by_its_random_products(turned):
    torch.manual_seed(0)
    inputs, cotangents = torch.randn(4, 3, 5).double(), torch.randn(4, 2, 3, 7).double()
    pair, c = Pair(inputs, cotangents, 0, 1, turned), torch.randn(8).double()
    parts = torch.einsum("nk,nksq,nsp->qp", c.view(4, 2), cotangents, inputs), pair.pulled(c)[1]
    parts = [(parts[0] if turned else parts[0].T).reshape(-1), parts[1]]

    def gaps():
        # by four random products: of sums over 3 positions of 4 examples, and of 35 entries, in another order
        return [float((one - other).norm()) for _, one, other in pair.compared(c, parts)]

    assert max(gaps()) < 1e-13 * float(parts[0].norm())
    parts[0][11] += 1e-6
    by_weight, by_bias = gaps()
    assert 1e-7 < by_weight < 1e-5
    assert by_bias < 1e-13
