"""The main job: its parts add up, disagreement is reported, bad input is refused, files are written."""

import itertools
import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from odeopt import GradientDescent, UpdateRule, check, spectral_measure
from odeopt.data import prepare
from odeopt.nets import TwoLayerReLU, train
from odeopt.rates import envelope
from odeopt.spectra.errors import STEP_PARTS, WHOLE_PARTS
from odeopt.studies import CheckSettings

CHAIN = ("trained", "discrete_h0", "ode_h0", "ode_inf")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(6)
    return rng.standard_normal((10, 6)), rng.standard_normal(10)


@pytest.fixture(scope="module")
def report(data):
    return check(*data, settings=CheckSettings(width=2048, seeds=2, num_steps=300))


def test_every_method_has_its_derived_equation(report):
    assert [m.name for m in report.methods] == ["gd", "hb", "nag", "hm"]
    assert report["gd"].weight_ode == "X' + grad f(X) = 0"
    assert report["nag"].error_ode == "Delta'' + (3/t)*Delta' + H*Delta = 0"
    assert report["hm"].weight_ode == "3/10*X' + grad f(X) = 0"
    # the centred map: h^2 = 2 lr / (1 + beta); the friction asked for is the one of the ODE
    hb = report["hb"]
    friction = 2 * np.sqrt(report.problem["lambda_min_h_inf"])
    step = np.sqrt(2 * hb.rule.lr / (1 + hb.rule.momentum))
    assert (hb.time_step, hb.time_origin) == (pytest.approx(step), 0.5)
    assert hb.weight_ode == f"X'' + {friction:.6g}*X' + grad f(X) = 0"


def test_closed_form_and_solve_ivp_agree_in_the_report(report):
    for method in report.methods:
        assert method.integration_error < 1e-8


def test_budget_parts_add_up_to_the_whole_distance(report):
    for method in report.methods:
        c = method.curves
        parts = sum(c[a] - c[b] for a, b in itertools.pairwise(CHAIN))
        np.testing.assert_allclose(parts, c["trained"] - c["ode_inf"], atol=1e-12 * c["trained"][0, 0])
        worst = np.abs(c["trained"] - c["discrete_h0"]).max(axis=1) / c["trained"][:, 0]
        assert method.budget["trained - discrete H(0)"] == pytest.approx(worst.mean())


def test_step_part_is_split_at_the_high_resolution_ode_and_vectors_are_reported(report):
    for method in report.methods:
        c = method.curves
        for part in STEP_PARTS:
            worst = np.abs(c[part.upper] - c[part.lower]).max(axis=1) / c["trained"][:, 0]
            assert method.step_by_seed[part.name] == pytest.approx(worst)
        for part in WHOLE_PARTS:
            # | |a|^2 - |b|^2 | <= |a - b| (|a| + |b|), each at most some initial errors long
            assert all(
                loss <= 4 * vector
                for loss, vector in zip(
                    method.budget_by_seed[part.name], method.vector_budget_by_seed[part.name], strict=True
                )
            )
    assert report["nag"].high_resolution.startswith("Delta'' + ")
    stored = report["nag"].to_dict()
    assert set(stored["step_by_seed"]) == {part.name for part in STEP_PARTS}
    assert (
        set(stored["vector_budget_by_seed"]) == {part.name for part in WHOLE_PARTS} == set(stored["budget"])
    )


def test_times_fewest_is_to_the_best_polynomial_on_the_kernel_at_the_start(report, data):
    sample = prepare(*data)
    net = TwoLayerReLU(6, 2048, seed=0)
    run = train(net, GradientDescent(1e-3), sample.x, sample.y, 1)
    measure = spectral_measure(run.initial_kernel, run.errors[0])
    for method in report.methods:
        fewest = round(300 / method.times_fewest)
        assert method.times_fewest == pytest.approx(300 / fewest)
        least = envelope(measure, [fewest - 1, fewest])
        # the loss lies between; both are rounded, the kernel as well
        assert least[1] * (1 - 1e-6) <= method.curves["discrete_h0"][0, -1] <= least[0] * (1 + 1e-6)


def test_all_curves_of_a_seed_start_at_the_loss_of_the_network(report):
    for method in report.methods:
        # the clock of the centred map starts half a step before the first iterate
        for key in CHAIN if method.time_origin == 0 else CHAIN[:2]:
            np.testing.assert_allclose(method.curves[key][:, 0], method.curves["trained"][:, 0], rtol=1e-12)


def test_learning_rate_is_the_stated_fraction_of_the_smallest_limit(report):
    lam_max = max(report.problem["lambda_max_h_inf"], *report.problem["lambda_max_h0"])
    assert report.problem["lr"] == pytest.approx(0.25 * (4 / 3) / lam_max, rel=1e-7)


def test_wide_network_follows_the_iteration_better_than_a_narrow_one(data):
    gaps = []
    for width in (64, 16384):
        settings = CheckSettings(width=width, seeds=2, num_steps=100)
        gaps.append(check(*data, methods=["hb"], settings=settings)["hb"].budget["trained - discrete H(0)"])
    # a factor 16 in m^(1/2); chance leaves at least a factor 4
    assert gaps[1] < gaps[0] / 4


def test_smaller_steps_shrink_the_step_part_only(data):
    parts = [
        check(*data, methods=["hb"], settings=CheckSettings(width=1024, seeds=1, num_steps=n, lr_fraction=f))[
            "hb"
        ].budget["discrete H(0) - ODE H(0)"]
        for f, n in ((0.4, 50), (0.1, 100))
    ]
    assert parts[1] == pytest.approx(parts[0] / 4, rel=0.3)  # the centred map: first order in lr


def test_inertial_regime_gives_the_third_order_equation(data):
    settings = CheckSettings(
        width=256, seeds=1, num_steps=50, momenta=(1.7, -0.72), hm_regime="inertial", lr=1e-4
    )
    method = check(*data, methods=["hm"], settings=settings)["hm"]
    assert method.error_ode.startswith("Delta'''")


@dataclass(frozen=True)
class TripleMomentum(UpdateRule):
    """xi_{k+1} = xi_k + beta (xi_k - xi_{k-1}) - lr grad(xi_k + gamma (xi_k - xi_{k-1}))."""

    lr: float
    beta: float
    gamma: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + self.beta * (x - x_prev) - self.lr * grad(x + self.gamma * (x - x_prev)), memory


def test_user_defined_rule_goes_through_derivation_prediction_and_training(data):
    # tuned for L = 2, kappa = 25: rho = 0.8
    rho = 0.8
    rule = TripleMomentum((1 + rho) / 20, rho**2 / (2 - rho), rho**2 / ((1 + rho) * (2 - rho)))
    settings = CheckSettings(width=8192, seeds=1, num_steps=150)
    method = check(*data, methods=[rule], settings=settings)["TripleMomentum"]
    beta = rho**2 / (2 - rho)
    friction = float(Fraction(method.weight_ode.split("*")[0]))
    assert friction == pytest.approx(1 - beta, rel=1e-5)  # printed to 6 digits where it is not exact
    assert method.budget["trained - discrete H(0)"] < 0.02  # width 8192: several m^(-1/2)
    assert method.curves["trained"][0, -1] < 1e-2 * method.curves["trained"][0, 0]


def test_two_rules_of_one_class_are_both_reported(data):
    from odeopt import HeavyBall

    settings = CheckSettings(width=64, seeds=1, num_steps=5)
    report = check(*data, methods=[HeavyBall(0.1, 0.5), "gd", HeavyBall(0.1, 0.9)], settings=settings)
    names = [m.name for m in report.methods]
    assert names == ["HeavyBall(lr=0.1, momentum=0.5)", "gd", "HeavyBall(lr=0.1, momentum=0.9)"]
    with pytest.raises(ValueError, match="differ"):
        check(*data, methods=[HeavyBall(0.1, 0.5), HeavyBall(0.1, 0.5)], settings=settings)


def test_unstable_learning_rate_is_refused_with_the_limit_and_runs_on_request(data):
    too_fast = CheckSettings(width=64, seeds=1, num_steps=300, lr=50.0)
    with pytest.raises(ValueError, match=r"lr = 50 exceeds the stability limit [\d.]+ of GradientDescent"):
        check(*data, methods=["gd"], settings=too_fast)
    from dataclasses import replace

    report = check(*data, methods=["gd"], settings=replace(too_fast, allow_unstable=True))
    assert isinstance(report["gd"].diverged_at, (int, type(None)))
    assert not np.isfinite(report["gd"].curves["discrete_h0"][0, -1])


@pytest.mark.usefixtures("axes_as_they_fall")
def test_saved_files_hold_the_report(report, tmp_path):
    folder = report.save(tmp_path / "deep" / "out")
    stored = json.loads((folder / "check.json").read_text())
    assert stored["methods"][1]["budget"] == report["hb"].budget
    assert stored["methods"][0]["exact_ode"]["kind"] == "exact"
    assert stored["settings"]["width"] == 2048
    with np.load(folder / "curves.npz", allow_pickle=False) as curves:
        np.testing.assert_array_equal(curves["nag_trained"], report["nag"].curves["trained"])
    assert (folder / "check.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, ["width", "0"]),
        ({"seeds": True}, ["seeds", "True"]),
        ({"lr": -1.0}, ["lr", "-1.0"]),
        ({"lr_fraction": 1.5}, ["lr_fraction", "1.5"]),
        ({"hm_regime": "third"}, ["hm_regime", "third"]),
        ({"dtype": "float16"}, ["dtype", "float16"]),
        ({"device": "tpu9"}, ["device", "tpu9", "cpu"]),
        ({"friction": 1e6}, ["friction", "negative momentum", "lower"]),
        ({"r": -1.0}, ["r must be nonnegative"]),
        ({"layers": "last"}, ["layers", "last"]),
    ],
)
def test_bad_settings_are_refused(data, options, words):
    with pytest.raises(ValueError) as error:
        check(*data, settings=CheckSettings(**{"width": 16, "seeds": 1, "num_steps": 5, **options}))
    for word in words:
        assert word in str(error.value)


def test_rows_that_make_the_kernel_singular_are_refused_where_strict_is_said(data):
    x, y = data
    for bad, word in (
        (np.vstack([x, 2 * x[3]]), "10"),
        (np.where(np.arange(10)[:, None] == 4, 0.0, x), "4"),
        (np.where(np.arange(10)[:, None] == 4, np.nan, x), "nan"),
    ):
        with pytest.raises(ValueError, match=word):
            check(bad, np.resize(y, len(bad)), strict=True)


def test_progress_is_called_once_a_step_and_for_each_seed_before_and_after(data):
    calls, settings = [], CheckSettings(width=16, seeds=2, num_steps=7)
    check(*data, methods=["gd"], settings=settings, progress=lambda *told: calls.append(told))
    before, after = ([(stage, seed, 2) for seed in range(3)] for stage in ("kernels", "gd, predicted"))
    assert calls == [*before, *(("gd", k, 14) for k in range(1, 15)), *after]
