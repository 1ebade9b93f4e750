"""The network of the theory and its kernel against autodiff and against the closed form."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from training import BOTH, small_problem

from odeopt import GradientDescent
from odeopt.data import load_digits, prepare
from odeopt.kernels.relu import relu_gram
from odeopt.nets import TwoLayerReLU, empirical_gram, train

EPS = np.finfo(float).eps


def test_network_is_the_stated_function_of_its_weights():
    net = TwoLayerReLU(4, 7, seed=3)
    x = np.random.default_rng(1).standard_normal((5, 4))
    w, a = net.weights.detach().numpy(), net.a.numpy()
    expected = sum(a[r] * np.maximum(x @ w[r], 0) for r in range(7)) / np.sqrt(7)
    np.testing.assert_allclose(net(torch.tensor(x)).detach().numpy(), expected, atol=20 * EPS)


def test_initial_weights_are_standard_normal_with_random_signs():
    net = TwoLayerReLU(10, 20_000)
    w, a = net.weights.detach().numpy(), net.a.numpy()
    # 200000 numbers: standard errors 0.0022 (mean) and 0.0016 (deviation); 20000 signs: 0.0071.
    assert abs(w.mean()) < 4 * 0.0022
    assert abs(w.std() - 1) < 4 * 0.0016
    assert set(np.unique(a)) == {-1.0, 1.0}
    assert abs(a.mean()) < 4 * 0.0071


@BOTH
def test_seed_fixes_the_network_for_every_dtype(layers):
    double = TwoLayerReLU(4, 9, seed=5, layers=layers)
    single = TwoLayerReLU(4, 9, seed=5, layers=layers, dtype=torch.float32, device=torch.device("cpu"))
    assert torch.equal(double.weights.float(), single.weights)
    assert torch.equal(double.a.float(), single.a)
    assert not torch.equal(double.weights, TwoLayerReLU(4, 9, seed=6).weights)


def test_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    first = TwoLayerReLU(3, 5).weights
    state = torch.get_rng_state()
    second = TwoLayerReLU(3, 5).weights
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_trained_layers_are_the_parameters():
    assert [name for name, _ in TwoLayerReLU(3, 5).named_parameters()] == ["weights"]
    assert [name for name, _ in TwoLayerReLU(3, 5, layers="both").named_parameters()] == ["weights", "a"]
    assert set(TwoLayerReLU(3, 5).state_dict()) == {"weights", "a"}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 5), {}, "d must be an integer of at least 1, got 0"),
        ((3, 2.5), {}, "m must be an integer of at least 1, got 2.5"),
        ((3, True), {}, "m must be an integer"),
        ((3, 5), {"seed": -1}, "seed must be an integer of at least 0"),
        ((3, 5), {"seed": 2**64}, "seed must be at most 9223372036854775807"),
        ((3, 5), {"layers": "second"}, "layers must be 'first' or 'both', got 'second'"),
        ((3, 5), {"dtype": torch.int64}, "dtype must be a real floating-point"),
        ((3, 5), {"device": "cuda:99"}, r"device = 'cuda:99' cannot be used \(.+\); try 'cpu'"),
        ((3, 5), {"device": "abacus"}, r"device = 'abacus' cannot be used \(.+\); try 'cpu'"),
    ],
)
def test_bad_networks_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        TwoLayerReLU(*arguments, **options)


@BOTH
@pytest.mark.parametrize("moved", [False, True])
def test_empirical_gram_is_the_product_of_jacobians(layers, moved):
    net = TwoLayerReLU(4, 50, layers=layers)
    if moved:  # away from a = +-1, so that the squares of a matter
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1 + torch.rand(p.shape, generator=generator, dtype=p.dtype))
    x = torch.tensor(np.random.default_rng(2).standard_normal((6, 4)))
    rows = []
    for u in net(x):
        grads = torch.autograd.grad(u, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
    jacobian = torch.stack(rows).numpy()
    expected = jacobian @ jacobian.T
    gram = empirical_gram(net, x)
    # Sums of 50 (4 + 1) products in another order.
    np.testing.assert_allclose(gram, expected, rtol=0, atol=100 * EPS * np.abs(expected).max())
    assert np.array_equal(gram, gram.T)
    assert gram.dtype == np.float64
    assert not gram.flags.writeable


@BOTH
def test_empirical_gram_does_not_depend_on_the_block_size(layers, monkeypatch):
    net, x = TwoLayerReLU(4, 50, layers=layers), small_problem().x
    whole = empirical_gram(net, x)
    monkeypatch.setattr("odeopt.nets.kernels.closed._BLOCK", 6 * 7)
    np.testing.assert_allclose(empirical_gram(net, x), whole, rtol=0, atol=50 * EPS * np.abs(whole).max())


def test_empirical_gram_of_a_single_precision_network_is_computed_in_double():
    x = small_problem().x
    single = TwoLayerReLU(4, 500, dtype=torch.float32)
    # No pattern of these 500 neurons changes under rounding of the weights: the kernels are equal.
    np.testing.assert_allclose(
        empirical_gram(single, x), empirical_gram(TwoLayerReLU(4, 500), x), rtol=0, atol=4 * EPS
    )


def test_empirical_gram_converges_to_the_closed_form_at_the_exact_rate():
    # Entries are means of m independent x_i.x_j 1{both active}, of probability p_ij, so that
    # m E|H(0) - H_inf|_F^2 = sum_ij (x_i.x_j)^2 p_ij (1 - p_ij) at every width.
    x = prepare(*load_digits(20)).x
    limit = relu_gram(x)
    p = limit / (x @ x.T)
    exact = ((x @ x.T) ** 2 * p * (1 - p)).sum()
    widths, seeds = 2 ** np.array([8, 10, 12, 14]), range(40)
    squares = np.empty((4, 40))
    spectral = np.empty((4, 40))
    for i, m in enumerate(widths):
        for seed in seeds:
            gap = empirical_gram(TwoLayerReLU(64, int(m), seed=seed), x) - limit
            squares[i, seed] = m * (gap**2).sum()
            spectral[i, seed] = np.linalg.norm(gap, 2)
    # The observed spread of one square is 0.7 to 0.8 of the mean: a standard error of 0.13
    # over 40 seeds.
    np.testing.assert_allclose(squares.mean(axis=1) / exact, 1, atol=4 * 0.13)
    np.testing.assert_allclose(squares.mean() / exact, 1, atol=4 * 0.065)
    # One seed's slope scatters by 0.15, the mean of 40 by 0.025.
    slope = np.polyfit(np.log(widths), np.log(spectral).mean(axis=1), 1)[0]
    assert slope == pytest.approx(-0.5, abs=4 * 0.025)


def test_kernel_of_both_layers_converges_too():
    x = prepare(*load_digits(20)).x
    limit = relu_gram(x, layers="both")
    gap = empirical_gram(TwoLayerReLU(64, 2**16, layers="both"), x) - limit
    # m^(-1/2) |gap| is about 20 (measured over 8 seeds at 4 widths: 16 to 22).
    assert np.linalg.norm(gap, 2) < 3 * 20 / 2**8
    assert np.linalg.norm(gap, 2) < 0.02 * np.linalg.norm(limit, 2)


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (nn.Linear(2, 1), np.eye(2), "net must be a TwoLayerReLU, got Linear"),
        (TwoLayerReLU(3, 5), np.eye(2), r"x must have shape \(n, 3\), the d of the network, got \(2, 2\)"),
        (TwoLayerReLU(2, 5), np.array([[np.nan, 1]]), r"x\[0, 0\] is nan"),
        (TwoLayerReLU(2, 5), np.ones(2), r"x must have shape \(n, d\)"),
    ],
)
def test_empirical_gram_refuses_bad_arguments(net, x, message):
    with pytest.raises(ValueError, match=message):
        empirical_gram(net, x)


def test_hooks_and_another_forward_pass_are_not_the_closed_form():
    x, y = torch.eye(3, dtype=torch.float64), np.array([1.0, 0.0, -1.0])
    for change in (
        lambda net: net.register_forward_hook(lambda module, inputs, output: 2 * output),
        lambda net: setattr(net, "forward", lambda x: 2 * TwoLayerReLU.forward(net, x)),
    ):
        net, plain = TwoLayerReLU(3, 8), TwoLayerReLU(3, 8)
        change(net)
        with pytest.raises(ValueError, match="another forward pass, a hook or other parameters"):
            empirical_gram(net, x)
        run = train(net, GradientDescent(0.01), x, y, 1)
        np.testing.assert_allclose(run.predictions[0], 2 * plain(x).detach().numpy(), rtol=1e-14)
        # one step of (2 u - y): the gradient of the doubled network
        kernel = 4 * empirical_gram(plain, x)
        step = run.errors[0] - 0.01 * kernel @ run.errors[0]
        np.testing.assert_allclose(run.errors[1], step, rtol=0, atol=1e-14)  # no neuron changes sides in it


def test_forward_refuses_inputs_of_another_dimension():
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), the d of the network, got \(2, 4\)"):
        TwoLayerReLU(3, 5)(torch.zeros(2, 4, dtype=torch.float64))


def test_each_import_loads_only_what_it_needs():
    code = (
        "import sys, odeopt.kernels, odeopt.data\n"
        "assert not {'torch', 'sklearn', 'sympy'} & set(sys.modules)\n"
        "import odeopt.nets\n"
        "assert not {'sklearn', 'matplotlib', 'cvxpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
