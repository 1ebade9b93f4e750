"""Adaptive methods: first iterates in closed form, equality with torch.optim, and refusals."""

import itertools

import numpy as np
import pytest
import sympy
import torch
from zoo import rule_id

from odeopt import Adam
from odeopt.rules import AdaGrad, RMSProp, SignDescent, iterate, sign, sqrt

THIRD, HALF = sympy.Rational(1, 3), sympy.Rational(1, 2)


def first(rule, x0, grad, count=5):
    return list(itertools.islice(iterate(rule, x0, grad), count))


# --- the first iterates, exactly ----------------------------------------------------------------------


def assert_equal_expressions(run, expected):
    for ours, theirs in zip(run, expected, strict=True):
        assert sympy.nsimplify(sympy.expand(ours - theirs)) == 0 or sympy.simplify(ours - theirs) == 0


def test_sign_descent_walks_by_its_learning_rate():
    assert first(SignDescent(THIRD), sympy.Integer(1), lambda x: x) == [1, 2 * THIRD, THIRD, 0, 0]
    run = first(SignDescent(0.75), np.array([1.0, -2.0]), lambda x: x, 4)
    np.testing.assert_array_equal(run, [[1.0, -2.0], [0.25, -1.25], [-0.5, -0.5], [0.25, 0.25]])


# On f(x) = -x the gradient is -1, the averages are known sums, and every step is one quotient.


def test_rmsprop_with_a_constant_gradient():
    # v_k = 1 - alpha^k
    alpha, eps = THIRD, HALF
    run = first(RMSProp(1, alpha, eps), sympy.Integer(0), lambda x: sympy.Integer(-1))
    steps = [1 / (sympy.sqrt(1 - alpha**k) + eps) for k in range(1, 5)]
    assert_equal_expressions(run, [0, *itertools.accumulate(steps)])


def test_adam_with_a_constant_gradient_takes_equal_steps_once_corrected():
    # m_k = 1 - beta1^k, v_k = 1 - beta2^k, and the correction divides them to 1
    beta1, beta2, eps = HALF, THIRD, sympy.Rational(1, 4)
    run = first(Adam(1, beta1, beta2, eps), sympy.Integer(0), lambda x: sympy.Integer(-1))
    assert run == [k / (1 + eps) for k in range(5)]
    plain = first(
        Adam(1, beta1, beta2, eps, bias_correction=False), sympy.Integer(0), lambda x: sympy.Integer(-1)
    )
    steps = [(1 - beta1**k) / (sympy.sqrt(1 - beta2**k) + eps) for k in range(1, 5)]
    assert_equal_expressions(plain, [0, *itertools.accumulate(steps)])


def test_adagrad_with_a_constant_gradient():
    # s_k = k
    run = first(AdaGrad(1, HALF), sympy.Integer(0), lambda x: sympy.Integer(-1))
    assert_equal_expressions(run, [0, *itertools.accumulate(1 / (sympy.sqrt(k) + HALF) for k in range(1, 5))])


# On f(x) = x^2/2 from x_0 = 1 with eps = 0, worked by hand.


def test_rmsprop_on_a_quadratic():
    # v = 1/4, then 3/4 * 1/4 + 1/4 * (1/2)^2 = 1/4, then 3/16 + 1/64 = 13/64
    run = first(RMSProp(HALF / 2, 3 * HALF / 2, 0), sympy.Integer(1), lambda x: x, 4)
    assert_equal_expressions(run, [1, HALF, HALF / 2, HALF / 2 - HALF / 2 * HALF / 2 / (sympy.sqrt(13) / 8)])


def test_adam_on_a_quadratic():
    # beta1 = beta2 = 1/2, lr = 1/2: x_1 = 1/2; m = 1/2, v = 1/2, then m = 1/2, v = 3/8 over 3/4: 2/3 and 1/2;
    # x_2 = 1/2 - 1/2 * (2/3) / sqrt(1/2)
    run = first(Adam(HALF, HALF, HALF, 0), sympy.Integer(1), lambda x: x, 3)
    assert_equal_expressions(run, [1, HALF, HALF - sympy.sqrt(2) / 3])


def test_adagrad_on_a_quadratic():
    # s = 1, then 1 + (3/4)^2 = (5/4)^2, then (5/4)^2 + (3/5)^2 = 769/400
    quarter = HALF / 2
    run = first(AdaGrad(quarter, 0), sympy.Integer(1), lambda x: x, 4)
    x_2 = sympy.Rational(3, 5)
    assert_equal_expressions(run, [1, 3 * quarter, x_2, x_2 - quarter * x_2 / (sympy.sqrt(769) / 20)])


# --- torch.optim ----------------------------------------------------------------------------------------

PAIRS = [
    (RMSProp(0.02, 0.9), torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.9}),
    (RMSProp(0.02, 0.5, 0.3), torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.5, "eps": 0.3}),
    (Adam(0.05), torch.optim.Adam, {"lr": 0.05}),
    (Adam(0.05, 0.7, 0.8, 0.3), torch.optim.Adam, {"lr": 0.05, "betas": (0.7, 0.8), "eps": 0.3}),
    (AdaGrad(0.2), torch.optim.Adagrad, {"lr": 0.2}),
    (AdaGrad(0.2, 0.3), torch.optim.Adagrad, {"lr": 0.2, "eps": 0.3}),
]

RNG = np.random.default_rng(0)
A, X0 = RNG.standard_normal((6, 4)), RNG.standard_normal(4)


def half_squared_sines(w):
    """A nonlinear loss of four parameters of one tensor, written with operators that numpy shares."""
    return 0.5 * ((torch.as_tensor(A) @ w).sin() ** 2).sum() + 0.05 * (w**4).sum()


def torch_gradient(w):
    with torch.enable_grad():
        leaf = w.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(half_squared_sines(leaf), leaf)
    return gradient


def numpy_gradient(w):
    z = A @ w
    return A.T @ (np.sin(z) * np.cos(z)) + 0.2 * w**3


def torch_path(make, options, num_steps):
    w = torch.tensor(X0, requires_grad=True)
    optimizer = make([w], **options)
    path = [w.detach().clone().numpy()]
    for _ in range(num_steps):
        optimizer.zero_grad()
        half_squared_sines(w).backward()
        optimizer.step()
        path.append(w.detach().clone().numpy())
    return np.array(path)


@pytest.mark.parametrize(("rule", "optimizer", "options"), PAIRS, ids=lambda v: getattr(v, "label", None))
def test_rule_equals_torch_optim_to_rounding_on_tensors_and_on_arrays(rule, optimizer, options):
    theirs = torch_path(optimizer, options, 25)
    tensors = np.array([w.numpy() for w in first(rule, torch.tensor(X0), torch_gradient, 26)])
    arrays = np.array(first(rule, X0, numpy_gradient, 26))
    # 25 steps of a few roundings; gradients here are of order 1, so no quotient magnifies them.
    np.testing.assert_allclose(tensors, theirs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(arrays, theirs, rtol=0, atol=1e-13)
    assert np.abs(theirs[-1] - X0).max() > 0.1


def test_eps_stands_outside_the_root_as_in_torch():
    g, alpha, eps = 2.0, 0.75, 0.5
    (_, x_1) = first(RMSProp(1.0, alpha, eps), 0.0, lambda x: g, 2)
    assert x_1 == -g / (np.sqrt((1 - alpha) * g**2) + eps)
    assert abs(x_1 + g / np.sqrt((1 - alpha) * g**2 + eps)) > 0.1  # inside, as TensorFlow has it


def test_bias_correction_is_what_torch_does_and_changes_the_run():
    plain = first(Adam(0.05, bias_correction=False), X0, numpy_gradient, 26)
    theirs = torch_path(torch.optim.Adam, {"lr": 0.05}, 25)
    # The first step without it is lr * (1 - beta1) / sqrt(1 - beta2) = 3.16 lr.
    np.testing.assert_allclose(np.abs(plain[1] - X0), 0.05 * 0.1 / np.sqrt(0.001), rtol=1e-6)
    np.testing.assert_allclose(np.abs(theirs[1] - X0), 0.05, rtol=1e-6)


def test_sign_descent_is_the_sign_of_the_same_gradient_in_both_worlds():
    tensors = np.array([w.numpy() for w in first(SignDescent(0.01), torch.tensor(X0), torch_gradient, 26)])
    np.testing.assert_array_equal(tensors, np.array(first(SignDescent(0.01), X0, numpy_gradient, 26)))


def test_root_and_sign_of_tensors_stay_tensors():
    x = torch.tensor([4.0, 0.25, 0.0], dtype=torch.float64)
    assert torch.equal(sqrt(x), torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64))
    assert torch.equal(sign(-x), torch.tensor([-1.0, -1.0, 0.0], dtype=torch.float64))


# --- hyperparameters ------------------------------------------------------------------------------------


def test_decays_may_be_functions_of_the_time_step():
    h, a, b = sympy.symbols("h a b", positive=True)
    family = Adam(h, 1 - a * h, 1 - b * h)
    assert not family.is_numeric
    met = family.at({h: 0.01, a: 10, b: 0.1})
    assert (met.lr, met.beta1, met.beta2, met.eps) == pytest.approx((0.01, 0.9, 0.999, 1e-8), rel=1e-14)
    assert met.bias_correction
    k, x, m, v, g = sympy.symbols("k x m v g", positive=True)
    x_next, (m_next, v_next) = family.step(k, (x,), (m, v), lambda _: g)
    m_hat, v_hat = (m_next / (1 - (1 - a * h) ** (k + 1)), v_next / (1 - (1 - b * h) ** (k + 1)))
    assert sympy.simplify(x_next - (x - h * m_hat / (sympy.sqrt(v_hat) + family.eps))) == 0
    assert sympy.expand(m_next - m - a * h * (g - m)) == 0
    assert sympy.expand(v_next - v - b * h * (g**2 - v)) == 0


@pytest.mark.parametrize("rule", [Adam(0.01, 0.9, 0.999), RMSProp(0.02, 0.95)], ids=rule_id)
def test_natural_scaling_shrinks_the_memory_with_the_step(rule):
    h = sympy.Symbol("h", positive=True)
    family, values, time_step = rule.scaling(h)
    assert time_step == rule.lr
    met = family.at(values | {h: time_step})
    for name, value in rule.hyperparameters.items():
        assert getattr(met, name) == pytest.approx(value, rel=1e-13)
    assert rule.scaling(h, "fixed") is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SignDescent(0.0), ["lr must be positive", "0.0"]),
        (lambda: RMSProp(0.1, 1.0), ["alpha", "[0, 1)", "1.0", "never forget"]),
        (lambda: RMSProp(0.1, eps=-1e-8), ["eps must be nonnegative", "-1e-08", "1e-8"]),
        (lambda: Adam(-0.1), ["lr must be positive", "-0.1"]),
        (lambda: Adam(0.1, 1.0), ["beta1", "[0, 1)", "1.0"]),
        (lambda: Adam(0.1, 0.9, -0.5), ["beta2", "[0, 1)", "-0.5"]),
        (lambda: Adam(0.1, eps=float("inf")), ["eps must be finite", "inf"]),
        (lambda: Adam(0.1, bias_correction=1), ["bias_correction must be True or False", "1"]),
        (lambda: AdaGrad(0.1, -1.0), ["eps must be nonnegative", "-1.0"]),
        (lambda: AdaGrad("0.1"), ["lr must be a real number", "'0.1'", "str"]),
    ],
)
def test_bad_hyperparameters_are_refused_by_name_value_and_remedy(make, words):
    with pytest.raises(ValueError) as error:
        make()
    for word in words:
        assert word in str(error.value)
