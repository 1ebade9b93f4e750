"""Against neural-tangents: mean and covariance over initialisations, along training and at its end.

    python benchmarks/peer_ensembles.py

Needs neural-tangents and its jax (extra ``peers``), best in an environment of their own. Networks with
biases, 200 digits to train on and 50 more, gradient flow. Theirs computes with our kernels, whose own gaps to
theirs are in another table. The gaps are relative to the largest covariance at the start. With a ridge their
NNGP route is that of noisy targets: the ridge then is a covariance of the first function too. Kept in
``benchmarks/results/neural_tangents_ensembles.md``.
"""

import sys
from collections import namedtuple
from pathlib import Path

import jax
import numpy as np
from sklearn.datasets import load_digits

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
from tables import write_rows  # noqa: E402

from odeopt import GradientDescent, error_dynamics, mode_solution, ode_limit, spectral_measure  # noqa: E402
from odeopt.kernels import NetworkKernel  # noqa: E402
from odeopt.spectra import ensemble, ensemble_limit  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "neural_tangents_ensembles.md"
HEADER = "hidden layers | diag_reg | kernel | inputs | time | mean | covariance"
VARIANCES, TIMES = (1.69, 0.16), np.array([0.5, 5.0, 50.0, 500.0])


def rows(x, points, y, depth, kind, rho):
    """Gaps at each time and at the end, on the examples and on points."""
    kernels = {name: NetworkKernel(depth, "relu", *VARIANCES, name) for name in ("ntk", "nngp")}
    network, start = kernels[kind], kernels["nngp"]

    def ours_for_them(x1, x2=None, get=None):
        inputs = (x1,) if x2 is None else (x1, x2)
        if isinstance(get, str):
            return jax.numpy.asarray(kernels[get](*inputs))
        return namedtuple("Kernels", get)(*(jax.numpy.asarray(kernels[name](*inputs)) for name in get))

    first = start(x) + (rho if kind == "nngp" else 0.0) * np.eye(len(x))
    measure = spectral_measure(network(x), -y)
    rule = GradientDescent(1 / (measure.lam_max + rho))
    mode = mode_solution(error_dynamics(ode_limit(rule)))
    theirs = nt.predict.gradient_descent_mse_ensemble(
        ours_for_them, x, y[:, None], diag_reg=rho, diag_reg_absolute_scale=True
    )
    found = []
    for name, place in (("examples", x), ("points", points)):
        at = None if name == "examples" and not rho else place  # what they do without a ridge
        options = {"diag_reg": rho, "covariance": True}
        if at is not None:
            names = ("cross_kernel", "cross_nngp", "points_nngp")
            options |= zip(names, (network(at, x), start(at, x), start(at)), strict=True)
        along, end = (
            ensemble(mode, measure, first, TIMES, **options),
            ensemble_limit(rule, measure, first, **options),
        )
        curves = [(f"{t:g}", len(x) * t, along.mean[i], along.covariance[i]) for i, t in enumerate(TIMES)]
        for label, t, mean, covariance in [*curves, ("end", None, end.mean[0], end.covariance[0])]:
            their = theirs(t=t, x_test=at, get=kind, compute_cov=True)
            pairs = ((np.asarray(their.mean).reshape(-1), mean), (np.asarray(their.covariance), covariance))
            gaps = [np.abs(a.reshape(b.shape) - b).max() / np.abs(first).max() for a, b in pairs]
            cells = [str(depth), f"{rho:g}", kind, name, label, *(f"{gap:.0e}" for gap in gaps)]
            found.append(" | ".join(cells))
    return found


def main():
    data = load_digits()
    x = data.data / np.linalg.norm(data.data, axis=1, keepdims=True)
    y = 2.0 * (data.target % 2) - 1
    found = []
    for depth, kind, rho in ((1, "ntk", 0.0), (3, "ntk", 0.1), (1, "nngp", 0.1)):
        found += rows(x[:200], x[200:250], y[:200], depth, kind, rho)
    write_rows(RESULTS, HEADER, found, keys=5)
    sys.stdout.write("\n".join((HEADER, *found, "")))


if __name__ == "__main__":
    main()
