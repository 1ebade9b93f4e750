"""Cross-entropy of several classes: its formulas, its dynamics by independent routes, and other points."""

import itertools

import numpy as np
import pytest
import scipy
import torch
from convex_losses import TOL, dynamics_of
from zoo import kernel_with, numeric_rules, rule_id, rules_with_memory

from odeopt import (
    GradientDescent,
    HeavyBall,
    LogisticLoss,
    Nesterov,
    SoftmaxLoss,
    SquaredLoss,
    TorchSGD,
    max_learning_rate,
    ode_limit,
)
from odeopt.dynamics import energy, integrate_predictions, predict_iterates
from odeopt.rules.base import iterate

LOSS = SoftmaxLoss()
KERNEL = kernel_with(np.linspace(0.2, 1.5, 5), 0)
LABELS = np.array([0, 2, 1, 0, 2])
Y = np.eye(3)[LABELS]
U0 = np.random.default_rng(1).standard_normal((5, 3))


# --- the formulas -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("y", [Y, (Y + 0.5) / 2.5], ids=["one-hot", "probabilities"])
def test_value_and_gradient_are_those_of_torch(dtype, y):
    u = (10 * torch.from_numpy(U0)).to(dtype).requires_grad_()
    target = torch.from_numpy(y).to(dtype)
    value = torch.nn.functional.cross_entropy(u, target, reduction="sum")
    (gradient,) = torch.autograd.grad(value, u)
    (own,) = torch.autograd.grad(LOSS.value(u, target), u)
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(LOSS.value(u, target), value, rtol=rounding, atol=0)
    for found in (LOSS.gradient(u, target), own):
        torch.testing.assert_close(found, gradient, rtol=0, atol=rounding)
    array = LOSS.gradient(u.detach().numpy().astype(float), y)
    np.testing.assert_allclose(LOSS.gradient(u, target).detach().numpy(), array, rtol=0, atol=rounding)


def test_differences_of_the_loss_are_its_gradient_and_curvature():
    step, size = 1e-5, U0.size
    units = np.eye(size).reshape(size, *U0.shape) * step
    slope = [(LOSS.value(U0 + e, Y) - LOSS.value(U0 - e, Y)) / (2 * step) for e in units]
    # central differences: step^2 / 6 of a third derivative below 1, and rounding eps * value / step
    np.testing.assert_allclose(np.reshape(slope, U0.shape), LOSS.gradient(U0, Y), atol=1e-9)
    hessian = np.array([(LOSS.gradient(U0 + e, Y) - LOSS.gradient(U0 - e, Y)) / (2 * step) for e in units])
    diagonal = np.diag(hessian.reshape(size, size)).reshape(U0.shape)
    np.testing.assert_allclose(diagonal, LOSS.hessian_diagonal(U0, Y), atol=1e-9)


def test_curvature_of_an_example_is_a_half_at_most_and_is_attained():
    def largest(u):
        units = 1e-5 * np.eye(3)
        blocks = [(LOSS.gradient(u + e, Y[:1]) - LOSS.gradient(u - e, Y[:1]))[0] / 2e-5 for e in units]
        values = np.linalg.eigvalsh(blocks)
        assert abs(values[0]) < 1e-9  # along (1, 1, 1)
        return values[-1]

    drawn = np.random.default_rng(0).standard_normal((50, 1, 3)) * 2
    assert max(map(largest, drawn)) < LOSS.smoothness
    assert largest(np.array([[0.0, 0.0, -40.0]])) == pytest.approx(LOSS.smoothness, abs=1e-9)


def test_formulas_neither_overflow_nor_cancel():
    one, zero = [[1.0, 0.0, 0.0]], [[0.0, -50.0, -800.0]]
    assert LOSS.value(zero, one) == pytest.approx(np.exp(-50), rel=1e-15)
    np.testing.assert_allclose(LOSS.gradient(zero, one), [[-np.exp(-50), np.exp(-50), 0]], rtol=1e-15, atol=0)
    assert LOSS.value([[0.0, 1e4]], [[1.0, 0.0]]) == 1e4
    assert LOSS.hessian_diagonal(zero, one)[0, 0] == pytest.approx(np.exp(-50), rel=1e-15)


@pytest.mark.parametrize(
    ("u", "y", "message"),
    [
        ([0.0, 1.0], [0.0, 1.0], r"shape \(n, c\), c >= 2 classes, for SoftmaxLoss\(\), got \(2,\)"),
        ([[0.0], [1.0]], [[1.0], [1.0]], r"got \(2, 1\); give the model an output a class"),
        ([[0.0, 1.0]], [1.0], "must have one shape"),
        ([[0.0, 1.0]], [[1.0, 1.0]], r"sum to 1 for SoftmaxLoss\(\), got a row \[1.0, 1.0\]; make them"),
        ([[0.0, 1.0]], [[-1.0, 2.0]], r"rows of probabilities .* got a row \[-1.0, 2.0\]"),
        ([[0.0, 1.0]], [[np.nan, 1.0]], r"rows of probabilities .* got a row \[nan, 1.0\]"),
    ],
)
def test_outputs_and_targets_that_do_not_fit_are_refused(u, y, message):
    for method in (LOSS.value, LOSS.gradient, LOSS.hessian_diagonal):
        with pytest.raises(ValueError, match=message):
            method(u, y)


def test_two_classes_are_the_logistic_loss_of_the_margin():
    u, y = U0[:, :2], Y[:, [0, 2]] + Y[:, [1, 1]] * [1, 0]
    margin, sign = u[:, 0] - u[:, 1], y[:, 0] - y[:, 1]
    assert LOSS.value(u, y) == pytest.approx(LogisticLoss().value(margin, sign), rel=1e-14)
    np.testing.assert_allclose(LOSS.gradient(u, y)[:, 0], LogisticLoss().gradient(margin, sign), rtol=1e-13)
    t, rule = np.linspace(0, 6, 5), HeavyBall(0.04, 0.8)
    both = integrate_predictions(dynamics_of(rule, LOSS), KERNEL, u, y, t, **TOL).u
    one = integrate_predictions(dynamics_of(rule, LogisticLoss()), 2 * KERNEL, margin, sign, t, **TOL).u
    np.testing.assert_allclose(both[..., 0] - both[..., 1], one, atol=1e-9)
    both = predict_iterates(rule, KERNEL, LOSS, u, y, [1, 50]).u
    one = predict_iterates(rule, 2 * KERNEL, LogisticLoss(), margin, sign, [1, 50]).u
    np.testing.assert_allclose(both[..., 0] - both[..., 1], one, atol=1e-12)
    # no gradient moves the sum of an example's logits
    np.testing.assert_allclose(both.sum(axis=2), np.tile(u.sum(axis=1), (2, 1)), atol=1e-12)


# --- the dynamics -----------------------------------------------------------------------------


def linear_model(seed=2):
    """Jacobians of the examples and of four points, weights, and offsets, three outputs each."""
    rng = np.random.default_rng(seed)
    sizes = (15, 24), (12, 24), (24,), (15,), (12,)
    J, J_points, w0, offset, at = (rng.standard_normal(size) / 3 for size in sizes)
    return J, J_points, w0, offset, at


@pytest.mark.parametrize("loss", [LOSS, SquaredLoss()], ids=repr)
@pytest.mark.parametrize(
    "rule",
    [
        *numeric_rules(0.05),
        *rules_with_memory(0.05),
        TorchSGD(0.05, 0.5, weight_decay=0.1, decoupled=True),
        Nesterov(0.05, weight_decay=0.1),
    ],
    ids=lambda rule: rule.label,
)
def test_predictions_of_examples_and_points_are_those_of_a_trained_linear_model(rule, loss):
    J, J_points, w0, offset, at = linear_model()

    def gradient(w):
        return J.T @ loss.gradient((J @ w + offset).reshape(5, 3), Y).ravel()

    k = np.array([0, 1, 2, 30])
    weights = list(itertools.islice(iterate(rule, w0, gradient), 31))
    trained = np.array([(J @ weights[i] + offset).reshape(5, 3) for i in k])
    points = np.array([(J_points @ weights[i] + at).reshape(4, 3) for i in k])
    decay = {"origin": (J @ w0).reshape(5, 3), "points_origin": (J_points @ w0).reshape(4, 3)}
    more = decay if getattr(rule, "weight_decay", None) else {}
    run = predict_iterates(
        rule, J @ J.T, loss, trained[0], Y, k, cross_kernel=J_points @ J.T, start=points[0], **more
    )
    np.testing.assert_allclose(run.u, trained, atol=1e-11)
    np.testing.assert_allclose(run.points, points, atol=1e-11)
    np.testing.assert_allclose(run.loss, [loss.value(u, Y) for u in trained], rtol=1e-11)


@pytest.mark.parametrize("rule", [GradientDescent(0.1), HeavyBall(0.04, 0.8)], ids=rule_id)
def test_equation_of_examples_and_points_is_that_of_the_weights(rule):
    J, J_points, w0, offset, at = linear_model()
    dynamics = dynamics_of(rule, LOSS)
    c, *damping = (float(a) for a in dynamics.monic)

    def moves(_, state):
        w, *velocity = state.reshape(dynamics.order, -1)
        force = -c * J.T @ LOSS.gradient((J @ w + offset).reshape(5, 3), Y).ravel()
        if not velocity:
            return force
        return np.concatenate([velocity[0], force - damping[0] * velocity[0]])

    first = np.zeros((dynamics.order, 24))
    first[0] = w0
    if dynamics.order == 2:
        slope = J.T @ LOSS.gradient((J @ w0 + offset).reshape(5, 3), Y).ravel()
        first[1] = float(dynamics.linear.initial[0] / dynamics.linear.lam) * slope
    weights = scipy.integrate.solve_ivp(moves, (0, 3), first.ravel(), "DOP853", [1.0, 3.0], **TOL).y[:24].T
    u0, start = (J @ w0 + offset).reshape(5, 3), (J_points @ w0 + at).reshape(4, 3)
    run = integrate_predictions(
        dynamics, J @ J.T, u0, Y, [1.0, 3.0], cross_kernel=J_points @ J.T, start=start, **TOL
    )
    np.testing.assert_allclose(run.u, (weights @ J.T + offset).reshape(2, 5, 3), atol=1e-9)
    np.testing.assert_allclose(run.points, (weights @ J_points.T + at).reshape(2, 4, 3), atol=1e-9)


def operator(matrix):
    return scipy.sparse.linalg.aslinearoperator(np.array(matrix))


@pytest.mark.parametrize(
    "kernel", [np.kron(KERNEL, np.eye(3)), operator(KERNEL), operator(np.kron(KERNEL, np.eye(3)))]
)
def test_one_kernel_of_all_outputs_is_the_large_one_without_coupling(kernel):
    cross = np.kron(KERNEL[:2], np.eye(3)) if kernel.shape[0] == 15 else KERNEL[:2]
    cross = operator(cross) if not isinstance(kernel, np.ndarray) else cross
    for rule in (GradientDescent(0.1), Nesterov(0.04)):
        t = dynamics_of(rule, LOSS).times([5])
        few = predict_iterates(rule, KERNEL, LOSS, U0, Y, [5]).u
        many = predict_iterates(rule, kernel, LOSS, U0, Y, [5], cross_kernel=cross, start=U0[:2])
        np.testing.assert_allclose(many.u, few, atol=1e-13)
        np.testing.assert_allclose(many.points, few[:, :2], atol=1e-13)
        few = integrate_predictions(dynamics_of(rule, LOSS), KERNEL, U0, Y, t, **TOL)
        many = integrate_predictions(
            dynamics_of(rule, LOSS), kernel, U0, Y, t, cross_kernel=cross, start=U0[:2], **TOL
        )
        np.testing.assert_allclose(many.u, few.u, atol=1e-9)
        np.testing.assert_allclose(many.points, few.u[:, :2], atol=1e-9)


@pytest.mark.parametrize("rule", numeric_rules(0.04)[:3], ids=rule_id)
def test_steps_tend_to_the_equation_with_the_order_of_the_limit(rule):
    gaps = []
    for n in (80, 160):
        h = 4.0 / n
        scaled = {
            GradientDescent: GradientDescent(h), HeavyBall: HeavyBall(h**2, 1 - h), Nesterov: Nesterov(h**2)
        }[type(rule)]  # fmt: skip
        dynamics = dynamics_of(scaled, LOSS)
        ode = integrate_predictions(dynamics, KERNEL, U0, Y, dynamics.times([n]), **TOL).u
        gaps.append(np.abs(predict_iterates(scaled, KERNEL, LOSS, U0, Y, [n]).u - ode).max())
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(ode_limit(rule).accuracy, abs=0.1)


@pytest.mark.parametrize("kernel", [KERNEL, np.kron(KERNEL, np.eye(3))], ids=["one", "large"])
def test_energy_is_lost_to_friction_alone(kernel):
    dynamics = dynamics_of(HeavyBall(0.01, 0.9), LOSS)
    t = np.linspace(0, 4, 201)
    found = energy(dynamics, kernel, integrate_predictions(dynamics, kernel, U0, Y, t, **TOL))
    lost = scipy.integrate.simpson(found.dissipation, x=t)
    # Simpson's rule: h^4 / 180 times the fourth derivative, 2e-7 / 180 * O(10)
    assert found.total[0] - found.total[-1] == pytest.approx(lost, abs=1e-7 * found.total[0])


@pytest.mark.parametrize("share", [0.9975, 1.0025])
def test_learning_rate_limit_is_attained_by_contradictory_labels(share):
    # equal inputs of two classes: the minimum is 2 log 2, at equal logits, of the largest curvature
    lr = max_learning_rate(GradientDescent(1.0), LOSS.smoothness * 2.0) * share
    assert max_learning_rate(GradientDescent(1.0), 1.0) == pytest.approx(4 / 2.0)
    run = predict_iterates(
        GradientDescent(float(lr)), np.ones((2, 2)), LOSS, [[0.1, 0.0]] * 2, np.eye(2), [5_000]
    )
    above = run.loss[0] - 2 * np.log(2)
    # a cycle of two steps at eta lambda = 4.01: measured .0075 above
    assert (abs(above) < 1e-12) if share < 1 else (above == pytest.approx(0.0075, abs=1e-4))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cross_kernel": KERNEL[:2]}, "cross_kernel was given without start"),
        ({"start": U0[:2]}, "start was given without cross_kernel"),
        ({"cross_kernel": KERNEL[:2], "start": U0[:3]}, r"cross_kernel must have shape \(3, 5\)"),
        ({"cross_kernel": KERNEL[:2], "start": U0[:2, :2]}, r"start must have the 3 outputs of u0"),
        ({"cross_kernel": KERNEL[:2], "start": U0[:2, 0]}, "start must have shape"),
    ],
)
def test_points_that_do_not_fit_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        predict_iterates(GradientDescent(0.1), KERNEL, LOSS, U0, Y, [1], **more)
    with pytest.raises(ValueError, match=message):
        integrate_predictions(dynamics_of(GradientDescent(0.1), LOSS), KERNEL, U0, Y, [1.0], **more, **TOL)


def test_predictions_that_do_not_fit_are_refused():
    flow, more = dynamics_of(GradientDescent(0.1), LOSS), {"cross_kernel": KERNEL, "start": U0}
    for u0, y, message in (
        (U0[:4], Y[:4], r"u0 must have shape \(5, c\), or n c = 5 entries, like the kernel, got \(4, 3\)"),
        (U0, Y[:, :2], r"y must have shape \(5, 3\) like u0, got \(5, 2\)"),
        (U0, LABELS, r"y must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_iterates(GradientDescent(0.1), KERNEL, LOSS, u0, y, [1])
    with pytest.raises(ValueError, match="cross_kernel needs a constant kernel"):
        integrate_predictions(flow, lambda t: KERNEL, U0, Y, [1.0], **more, **TOL)
    with pytest.raises(ValueError, match="points_origin = J_\\* w_0 is missing beside origin"):
        predict_iterates(GradientDescent(0.1, weight_decay=0.1), KERNEL, LOSS, U0, Y, [1], origin=U0, **more)


def test_a_class_without_an_example_is_refused():
    y, flow = Y[:, [0, 1, 1]] * [1, 1, 0] + Y[:, [2]] * [1, 0, 0], dynamics_of(GradientDescent(0.1), LOSS)
    for call in (
        lambda: predict_iterates(GradientDescent(0.1), KERNEL, LOSS, U0, y, [1]),
        lambda: integrate_predictions(flow, KERNEL, U0, y, [1.0], **TOL),
    ):
        with pytest.raises(ValueError, match="y has no example of the class of column 2, whose output could"):
            call()
