"""The kernel over a cluster of two processes: equal to the local operator, also when a worker is killed."""

import os
import signal

import numpy as np
import pytest

from odeopt import relu_gram, spectral_measure
from odeopt.kernels.cluster import cluster_relu_gram
from odeopt.kernels.operator import relu_gram_operator

distributed = pytest.importorskip("distributed")

# Start and end of a cluster leave sockets and logs to its event loop, which is no matter of ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def x(monkeypatch):
    monkeypatch.setattr("odeopt.kernels.cluster._LEAST", 2**13)  # several chunks of few panels
    return np.random.default_rng(0).standard_normal((400, 6))


@pytest.mark.parametrize("layers", ["first", "both"])
def test_products_equal_those_of_the_local_operator(client, x, layers):
    vectors = np.random.default_rng(1).standard_normal((400, 3))
    cluster = cluster_relu_gram(client, x, layers=layers)
    local = relu_gram_operator(x, layers=layers, storage="float32")
    # the same tiles in the same order, but sums that start at the panel
    np.testing.assert_allclose(cluster @ vectors, local @ vectors, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cluster @ vectors, relu_gram(x, layers=layers) @ vectors, atol=1e-4)
    assert cluster.storage_error == pytest.approx(local.storage_error, rel=1e-12)


def test_a_killed_worker_changes_nothing(client, x):
    operator = cluster_relu_gram(client, x, storage="float64")
    delta0 = np.random.default_rng(2).standard_normal(400)
    undisturbed = spectral_measure(operator, delta0, num_matvecs=20)

    def kill(stage, step, total):
        if step == 7:
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)

    disturbed = spectral_measure(operator, delta0, num_matvecs=20, progress=kill)
    # The last bits of a product depend on the alignment of arrays in a worker's memory: backward errors
    # of the size that the chains state. Nodes move by no more, being eigenvalues.
    np.testing.assert_allclose(disturbed.nodes, undisturbed.nodes, rtol=0, atol=2 * undisturbed.error)

    def decay(lam):
        return np.exp(-lam)

    assert disturbed.integrate(decay) == pytest.approx(undisturbed.integrate(decay), rel=1e-11)


def test_parallel_rows_are_named(client, x):
    x[7] = 2 * x[3]
    with pytest.raises(ValueError, match="parallel rows 3 and 7"):
        cluster_relu_gram(client, x)
