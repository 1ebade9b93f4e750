"""The kernel on a torch device against numpy's; devices that cannot be used; memory of a device."""

import numpy as np
import pytest
import torch

from odeopt import HeavyBall, forecast, loss_curve, relu_gram, relu_gram_operator, spectral_measure
from odeopt.data import load_digits
from odeopt.kernels import device as on_device
from odeopt.kernels.inputs import unit_rows
from odeopt.kernels.memory import first_fitting
from odeopt.kernels.packing import Packing
from odeopt.kernels.relu import ReluFormula

EPS = np.finfo(float).eps
LAYERS = pytest.mark.parametrize("layers", ["first", "both"])
DEPTHS = pytest.mark.parametrize("depth", [1, 3])


def random_inputs(n=120, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def dense(operator):
    return operator @ np.eye(operator.shape[0])


@pytest.fixture(params=[1024, 32], ids=["one panel", "many panels"])
def _panels(request, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.memory.panel_rows", lambda n: min(n, request.param))


@LAYERS
@DEPTHS
@pytest.mark.parametrize("storage", ["float64", "float32", "recompute"])
@pytest.mark.usefixtures("_panels")
def test_both_routes_are_one_kernel(layers, depth, storage):
    x = random_inputs()
    x[7] = x[3] + 1e-9  # nearly parallel, where a cosine has lost its digits
    x[9] = -x[4] + 1e-9
    options = {"layers": layers, "depth": depth, "storage": storage}
    ours, theirs = relu_gram_operator(x, device="cpu", **options), relu_gram_operator(x, **options)
    exact = relu_gram(x, layers=layers, depth=depth)
    # cosines accurate to d eps turn into angles accurate to eps / sin(theta) < 2e-13 away from parallel; a
    # stored entry rounds by 2^-24 of itself
    entry = 2e-13 + (2.0**-24 if storage == "float32" else 0)
    np.testing.assert_allclose(dense(ours), exact, rtol=0, atol=entry * exact.max())
    # where the two differ in the last bit of float64, they may round to neighbours in float32
    entry = 2e-13 + (2.0**-23 if storage == "float32" else 0)
    np.testing.assert_allclose(dense(ours), dense(theirs), rtol=0, atol=entry * exact.max())
    assert np.array_equal(dense(ours), dense(ours).T)
    assert ours.storage_error == pytest.approx(theirs.storage_error, rel=1e-12)  # a sum of n^2 squares
    assert (ours.storage_error > 0) == (storage == "float32")
    # of n products, each of entries that agree as above
    np.testing.assert_allclose(ours.interval, theirs.interval, rtol=1e-6 if storage == "float32" else 1e-11)


@pytest.mark.usefixtures("_panels")
def test_products_of_a_kernel_in_single_precision_are_sums_in_double():
    operator = relu_gram_operator(random_inputs(), device="cpu", storage="float32")
    stored = dense(operator)
    assert np.array_equal(stored, stored.astype(np.float32))
    vectors = np.random.default_rng(1).standard_normal((120, 3))
    # rounding of a sum of 120 terms
    slack = 120 * EPS * np.abs(stored).sum(axis=1).max()
    np.testing.assert_allclose(operator @ vectors, stored @ vectors, rtol=0, atol=slack)
    np.testing.assert_allclose(operator @ vectors[:, 0], stored @ vectors[:, 0], rtol=0, atol=slack)
    np.testing.assert_allclose(operator.T @ vectors, stored @ vectors, rtol=0, atol=slack)
    # views that torch cannot share
    backward = vectors[::-1, 0]
    backward.setflags(write=False)
    np.testing.assert_allclose(operator @ backward, stored @ backward, rtol=0, atol=slack)


@DEPTHS
def test_measures_of_both_routes_agree(depth):
    x, delta0 = random_inputs(200, 8), np.random.default_rng(1).standard_normal(200)
    measures = [
        spectral_measure(
            relu_gram_operator(x, device=device, depth=depth, storage="float64"), delta0, num_matvecs=30
        )
        for device in ("cpu", None)
    ]
    rule = HeavyBall(1 / measures[0].interval[1], 0.8)
    ours, theirs = (loss_curve(rule, measure, [0, 10, 200]) for measure in measures)
    # entries agree to 2e-13 of the largest; the loss is Lipschitz in them by some 200 steps
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-9)
    assert ours.rigorous
    assert theirs.rigorous


@pytest.mark.usefixtures("_panels")
def test_parallel_and_dependent_antipodal_rows_are_named():
    x = random_inputs()
    x[33] = 2 * x[17]
    with pytest.raises(ValueError, match="parallel rows 17 and 33"):
        relu_gram_operator(x, device="cpu")
    relu_gram_operator(x, device="cpu", allow_singular=True)
    half = random_inputs(4, 3)
    with pytest.raises(ValueError, match=r"4 antipodal pairs .* linearly dependent"):
        relu_gram_operator(np.concatenate([half, -half]), device="cpu")


def test_norms_whose_squares_leave_the_range_are_named():
    with pytest.raises(ValueError, match=r"norm 1e-200 to 1, whose squares leave the range"):
        relu_gram_operator(np.diag([1.0, 1e-200]), device="cpu")


def test_progress_counts_rows():
    seen = []
    relu_gram_operator(random_inputs(), device="cpu", progress=lambda *told: seen.append(told))
    assert seen[-1] == ("kernel", 120, 120)


# Devices


@pytest.mark.parametrize("device", ["meta", "abacus", "cuda:99", 1.5])
def test_devices_that_cannot_be_used_are_refused_before_any_work(device):
    seen = []
    with pytest.raises(ValueError, match=rf"device = '{device}' cannot be used \(.+\); try 'cpu'"):
        relu_gram_operator(random_inputs(), device=device, progress=lambda *told: seen.append(told))
    assert seen == []


def test_device_without_double_precision_is_refused(monkeypatch):
    def ones(*shape, dtype, device):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")  # as torch words it on that device

    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(
        ValueError, match=r"device = 'mps' cannot be used \(Cannot convert .* float64 dtype\)"
    ):
        on_device.usable_device("mps")


# Memory


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"storage": "float16"}, ["storage", "float16"]),
        ({"layers": "last"}, ["layers", "last"]),
        ({"depth": 0}, ["depth", "0"]),
        ({"storage": "float64", "memory_limit": 1e4}, ["does not fit", "n = 5", "memory_limit"]),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError) as error:
        relu_gram_operator(random_inputs(5), device="cpu", **options)
    for word in words:
        assert word in str(error.value)


@pytest.fixture
def _other_device(monkeypatch):
    """A device of 4 GiB that is none: only plans can be made for it."""
    monkeypatch.setattr(on_device, "usable_device", torch.device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 2**30, 8 * 2**30))


@pytest.mark.usefixtures("_other_device")
def test_plan_for_a_device_counts_its_memory_and_leaves_the_basis_on_the_host():
    for n, storage in ((20_000, "float64"), (30_000, "float32"), (60_000, "recompute")):
        plan = on_device.device_plan(n, 100, device="cuda:0", num_vectors=10)
        assert (plan.storage, plan.device) == (storage, "cuda:0")
        # factor, result, and the partial sums of blocks of 128 rows and 1024 columns
        assert plan.vectors == (2 + -(-n // 128) + -(-n // 1024)) * 8 * n
        assert plan.rows % 128 == 0
        assert plan.work <= plan.limit / 8 or plan.rows == 128
        assert str(plan).endswith("of 3.20 GiB on cuda:0")
    with pytest.raises(ValueError, match=r"storage float64: .* of 3\.20 GiB on cuda:0; take fewer inputs"):
        on_device.device_plan(60_000, 100, device="cuda:0", storage="float64", num_vectors=10)
    assert on_device.device_plan(60_000, 100, device="cuda:0", memory_limit=2**35).storage == "float64"


@pytest.mark.usefixtures("_other_device")
def test_basis_that_does_not_fit_on_the_host_is_refused(monkeypatch):
    monkeypatch.setattr("odeopt.kernels.memory.available_memory", lambda: 2**30)
    with pytest.raises(ValueError, match=r"vectors 3\.73\) of 0\.80 GiB"):
        on_device.device_plan(50_000, 10, device="cuda:0", storage="float32", num_vectors=10_000)


def test_memory_that_torch_keeps_for_reuse_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert on_device.free_memory(torch.device("cuda:0")) == 1300


# Panels in one buffer


@pytest.mark.parametrize(("n", "rows", "grain"), [(10, 4, 1), (10, 3, 1), (9, 4, 4), (13, 8, 4), (3, 8, 8)])
def test_panels_fill_a_buffer_without_overlap_and_leave_zeros_beyond_n(n, rows, grain):
    packing = Packing(n, rows, grain)
    buffer = np.zeros(packing.size)
    for index, start in enumerate(range(0, n, rows)):
        panel = packing.view(buffer, index)
        assert panel.shape == (min(rows, n - start), n - start)
        assert (panel == 0).all()
        panel[...] = 1 + index
    filled = [(buffer == 1 + index).sum() for index in range(-(-n // rows))]
    assert filled == [min(rows, n - start) * (n - start) for start in range(0, n, rows)]
    if grain == 1:
        assert (buffer > 0).all()


def test_kernel_in_padded_panels_is_the_same(monkeypatch):
    x = random_inputs(70)
    expected = dense(relu_gram_operator(x, device="cpu", storage="float32"))
    monkeypatch.setattr(on_device, "_grain", lambda device: 16)
    padded = on_device.DeviceReluGram(
        torch.device("cpu"), *unit_rows(x), ReluFormula("first", 1),
        first_fitting(70, 5, "float32", 2, 2**30, "cpu", 32), None, True,
    )  # fmt: skip
    assert padded._buffer.numel() == 32 * 80 + 32 * 48 + 16 * 16
    # cosines of other blocks may round apart, and then to neighbours in float32
    np.testing.assert_allclose(dense(padded), expected, rtol=2.0**-23, atol=1e-12)
    assert padded.engine == "torch (on cpu)"


# Forecasts


def test_forecast_on_a_device_is_that_of_numpy():
    x, y = load_digits(80)
    ours, theirs = (forecast(x, y, methods=["hb"], target=0.05, device=device) for device in ("cpu", None))
    ours_hb, theirs_hb = ours.methods[0], theirs.methods[0]
    # two kernels 2e-13 apart, whose smallest eigenvalue is 1e-3 of the largest
    np.testing.assert_allclose(ours_hb.curve.loss, theirs_hb.curve.loss, rtol=1e-8)
    # the target is a share of the initial loss, a sum of 80 squares
    assert ours_hb.steps.loss == pytest.approx(theirs_hb.steps.loss, rel=80 * EPS)
    # first steps below a target: losses 1e-8 apart pass it at one step, or at neighbouring ones
    for name in ("low", "value", "high"):
        assert abs(getattr(ours_hb.steps, name) - getattr(theirs_hb.steps, name)) <= 1
    with pytest.raises(ValueError, match="device = 'abacus' cannot be used"):
        forecast(x, y, device="abacus")
