"""Networks on a GPU beside the CPU: modules, training, classes, test points, widths to 262,144."""

import numpy as np
import torch
from large_kernel import clustered
from predicted_training import deviation, digits, rules, slope_and_error, trained
from torch import nn

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    SoftmaxLoss,
    forecast,
    relu_gram,
)
from odeopt.kernels import NetworkKernel
from odeopt.nets import (
    ConvReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    predict_module,
    train,
    train_batch,
)
from odeopt.studies import forecast_classes


def off(found, expected):
    """Largest difference, relative to the largest entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def mlp(d, width):
    torch.manual_seed(0)
    layers = [nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)]
    return nn.Sequential(*layers).double()


def modules(card):
    """Kernels of an MLP, a CNN and a two-layer network, and products with them."""
    n, width = (12, 16) if card.quick else (128, 256)
    x, y = clustered(n, 64)
    found = {}
    for name, net in (("MLP", mlp(64, width)), ("CNN", ConvReLU(8, width // 8))):
        results = {}
        for device in (card.name, "cpu"):
            operator = empirical_operator(net.to(device), x, dense=False)
            # J (J' v) by two sweeps, before the matrix is there; the first product records them
            operator @ y
            seconds, product = card.once(lambda operator=operator: operator @ y)
            again, gram = card.once(operator.gram)
            results[device] = product, gram
            found |= {f"{name}, J J'v, {device} s": seconds, f"{name}, gram, {device} s": again}
        (product, gram), (expected, exact) = results[card.name], results["cpu"]
        found |= {f"{name}, J J'v": off(product, expected), f"{name}, gram": off(gram, exact)}
    two = [TwoLayerReLU(64, 8 * width, layers="both", device=device) for device in (card.name, "cpu")]
    ours, theirs = (empirical_operator(net, x, dense=True).gram() for net in two)
    found["TwoLayerReLU, gram"] = off(ours, theirs)
    return found


def training(card):
    """200 steps of each method, on the device and on the CPU, and a batch of seeds."""
    n, m = (10, 32) if card.quick else (256, 2048)
    x, y = clustered(n, 64)
    found = {}
    for dtype in ("float64", "float32"):
        for rule in (GradientDescent(0.02), HeavyBall(0.02, 0.8), Nesterov(0.02, 3)):
            kind = type(rule).__name__
            runs = {}
            for device in (card.name, "cpu"):
                net = TwoLayerReLU(64, m, device=device, dtype=dtype if device == card.name else "float64")
                found[f"{kind} {dtype}, {device} s"], runs[device] = card.once(
                    lambda net=net, rule=rule: train(net, rule, x, y, card.steps)
                )
            found[f"{kind}, {dtype}"] = off(runs[card.name].loss, runs["cpu"].loss)
    rule = GradientDescent(0.02)
    nets = [[TwoLayerReLU(64, m // 8, seed=s, device=d) for s in range(8)] for d in (card.name, "cpu")]
    ours, theirs = (train_batch(each, rule, x, y, card.steps) for each in nets)
    found["batch of 8 seeds"] = max(off(a.loss, b.loss) for a, b in zip(ours, theirs, strict=True))
    for name, net in (("MLP", mlp(64, m // 8)), ("CNN", ConvReLU(8, max(4, m // 64)))):
        start = {k: v.clone() for k, v in net.state_dict().items()}
        runs = []
        for device in (card.name, "cpu"):
            net.load_state_dict(start)
            runs.append(train(net.to(device), GradientDescent(1e-3), x, y, card.steps, allow_unstable=True))
        found[name] = off(runs[0].loss, runs[1].loss)
    return found


def several_outputs(card):
    """Kernels of other networks, classes, test points and whole studies, on the device and on the CPU."""
    n, m = (12, 32) if card.quick else (200, 1024)
    x, y = clustered(n + n // 4, 30)
    one_hot = np.eye(3)[np.digitize(y, (-0.5, 0.5))]
    (x, points), (y, hidden), hot = (x[:n], x[n:]), (y[:n], y[n:]), one_hot[:n]
    found = {}
    for name in ("relu", "erf", "gelu"):
        kernel = NetworkKernel(2, name, bias_variance=0.1)
        found[f"network kernel, {name}"] = off(
            kernel.gram_operator(x, device=card.name, storage="float64") @ np.eye(n), kernel(x)
        )
    nets = [TwoLayerReLU(30, m, outputs=3, layers="both", device=d) for d in (card.name, "cpu")]
    ours, theirs = (empirical_operator(net, points, x) for net in nets)
    found["test kernel"] = off(ours @ hot.ravel(), theirs @ hot.ravel())
    rule, loss, steps = HeavyBall(0.02, 0.8), SoftmaxLoss(), card.steps
    ours, theirs = (
        predict_module(net, rule, x, hot, [0, steps], points=points, objective=loss)[0] for net in nets
    )
    found["softmax predicted"] = off(ours.loss, theirs.loss)
    found["softmax predicted at test points"] = off(ours.points.u, theirs.points.u)
    ours, theirs = (train(net, rule, x, hot, steps, objective=loss, points=points) for net in nets)
    found["softmax trained"] = off(ours.loss, theirs.loss)
    found["softmax trained at test points"] = off(ours.points.u, theirs.points.u)
    devices = {"device": card.name}, {}
    ours, theirs = (forecast(x, y, test=(points, hidden), num_matvecs=40, **each) for each in devices)
    found["forecast"] = max(
        off(a.curve.loss, b.curve.loss) for a, b in zip(ours.methods, theirs.methods, strict=True)
    )
    labels = hot.argmax(axis=1)
    ours, theirs = (forecast_classes(x, labels, num_steps=steps, **each) for each in devices)
    found["forecast of classes"] = max(
        off(a.training.loss, b.training.loss) for a, b in zip(ours.methods, theirs.methods, strict=True)
    )
    return found


def widths(card):
    """Deviation of trained from predicted loss while it falls by 100, relative to the initial loss."""
    problem, seeds = digits(12 if card.quick else 60), 2 if card.quick else 4
    sizes = [64, 256] if card.quick else [1024 * 4**k for k in range(5)]
    lam = np.linalg.eigvalsh(relu_gram(problem.x))[[0, -1]]
    methods = rules(*lam)
    if card.quick:
        methods = {"HB": methods["HB"]}
    found = {}
    for i, m in enumerate(sizes):
        for method, rule in methods.items():
            for seed in range(seeds):
                net = TwoLayerReLU(problem.d, m, seed=m + seed, device=card.name)
                run, predicted = trained(net, rule, problem, empirical_gram(net, problem.x), 100)
                gaps = found.setdefault(method, np.zeros((len(sizes), seeds)))
                gaps[i, seed] = deviation(run.loss, predicted, 100)[0]
        card.free()
    return {"widths": sizes} | {
        method: {"gaps": gaps.tolist(), "slope": list(slope_and_error(sizes, gaps))}
        for method, gaps in found.items()
    }
