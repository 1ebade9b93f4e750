"""Kernels, products, training and trust of every kind of module: right against plain autograd, or refused."""

import numpy as np
import pytest
import torch
from module_kinds import KINDS

from odeopt import GradientDescent
from odeopt.nets import empirical_operator, train, trust_estimate

Y = np.arange(6.0) - 2.5
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def jacobian(kind):
    """J by one backward pass for each output, on the whole batch."""
    module, x = kind.build()
    module, x = module.double(), x.double() if x.is_floating_point() else x
    parameters = [p for p in module.parameters() if p.requires_grad]
    found = []
    for output in module(x.clone()).reshape(-1):
        parts = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, parameters, strict=True)]
        parts = [
            g.to_dense() if g.is_sparse else torch.view_as_real(g) if g.is_complex() else g for g in parts
        ]
        found.append(torch.cat([g.reshape(-1) for g in parts]))
    return torch.stack(found).numpy(), module(x.clone()).detach().reshape(-1).numpy()


def state(module, *, weights=True):
    """All that a call must leave as it was, as plain values."""
    values = {name: t.detach().clone() for name, t in module.state_dict().items()}
    for name, p in module.named_parameters(remove_duplicate=False):
        values[f"{name} open"] = torch.tensor(p.requires_grad)
        values[f"{name} gradient"] = torch.tensor(0.0) if p.grad is None else p.grad.clone()
        if not weights:
            del values[name]
    values |= {f"{name} mode": torch.tensor(part.training) for name, part in module.named_modules()}
    values["torch"] = torch.get_rng_state()
    values["numpy"] = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
    return values


def answered(kind, role, call, *, weights=True):
    """The result of a call, None if it is refused as expected; in both cases the module is as it was."""
    module, x = kind.build()
    before, inputs = state(module, weights=weights), x.clone()
    words = kind.refused.get(role)
    if words is None:
        result = call(module, x)
    else:
        result = None
        with pytest.raises(ValueError) as refused:
            call(module, x)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
    after = state(module, weights=weights)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert torch.equal(x, inputs)
    return result


@EVERY
def test_kernel_and_products_are_those_of_the_dense_jacobian(kind):
    products = answered(kind, "kernel", lambda m, x: empirical_operator(m, x, dense=False) @ np.eye(6))
    gram = answered(kind, "kernel", lambda m, x: empirical_operator(m, x).gram())
    if gram is not None:
        J, outputs = jacobian(kind)
        size = np.abs(J @ J.T).max()
        # sums over at most some hundred weights, in another order
        np.testing.assert_allclose(gram, J @ J.T, rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(products, J @ J.T, rtol=0, atol=1e-12 * size)
        module, x = kind.build()
        np.testing.assert_allclose(empirical_operator(module, x).predictions, outputs, rtol=0, atol=1e-13)


@EVERY
def test_training_is_that_of_torch(kind):
    lr, steps = 1e-3, 8

    def ours(module, x):
        return train(module, GradientDescent(lr), x, Y, steps, allow_unstable=True).loss

    losses = answered(kind, "train", ours, weights=False)
    if losses is None:
        answered(kind, "train", ours)  # refused before a weight was moved
        return
    module, x = kind.build()
    descent, theirs = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=lr), []
    for _ in range(steps + 1):
        descent.zero_grad()
        loss = 0.5 * ((module(x).reshape(-1) - torch.from_numpy(Y)) ** 2).sum()
        loss.backward()
        descent.step()
        theirs.append(float(loss.detach()))
    np.testing.assert_allclose(losses, theirs, rtol=1e-12)  # the same passes; sums of a step may round apart


@EVERY
def test_linear_losses_of_the_trust_estimate_are_those_of_the_dense_jacobian(kind):
    lr, steps = 1e-3, 4
    if "train" in kind.refused:  # what cannot be trained is not estimated either
        kind = type(kind)(kind.make, {"kernel": kind.refused["train"]}, kind.lifted)

    def estimate(module, x):
        return trust_estimate(module, GradientDescent(lr), x, Y, steps, checkpoints=1)

    found = answered(kind, "kernel", estimate)
    if found is not None:
        J, outputs = jacobian(kind)
        step = np.eye(6) - lr * J @ J.T
        errors = [np.linalg.matrix_power(step, k) @ (outputs - Y) for k in range(steps + 1)]
        np.testing.assert_allclose(found.linear_loss, [0.5 * e @ e for e in errors], rtol=1e-11)
        assert np.isfinite(found.corrected_loss).all()
