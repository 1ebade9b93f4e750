"""One Lanczos run against eigh and against solve_ivp: accuracy of the curves, and ratios of times.

All times of a ratio are of the processor, on one thread, and taken in turn in one run. The ratios are written
to ``benchmarks/results/spectrum.md``, the accuracy of curves and brackets to ``brackets.md``, and the seconds
of brackets over long runs to ``long_brackets.md``.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from tables import write_rows
from threadpoolctl import threadpool_limits

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    error_dynamics,
    integrate,
    loss_curve,
    mode_solution,
    ode_limit,
    relu_gram,
    spectral_measure,
)
from odeopt.data import load_digits, prepare
from odeopt.rules import NesterovConstant

pytestmark = pytest.mark.slow
RESULTS = Path(__file__).parent / "results"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def problem():
    data = prepare(*load_digits())
    # The error of a network at zero output, but for its variance of 1/2 at initialisation.
    return relu_gram(data.x), np.sqrt(0.5) * np.random.default_rng(0).standard_normal(len(data.y)) - data.y


@pytest.fixture(scope="module")
def curves(problem):
    lam = np.linalg.eigvalsh(problem[0])
    b, lr = 2 * np.sqrt(lam[0]), 0.5 / lam[-1]
    # Times by which gradient flow and critical heavy ball fall below 1e-7 of the initial loss.
    grids = {"gd": np.linspace(0, 600, 200), "hb": np.linspace(0, 90, 200), "nag": np.linspace(0, 4000, 400)}
    rules = {"gd": GradientDescent(lr), "hb": HeavyBall(lr, 1 - b * np.sqrt(lr)), "nag": Nesterov(lr, 3)}
    limits = {"gd": ode_limit(rules["gd"]), "nag": ode_limit(rules["nag"])}
    limits["hb"] = ode_limit(rules["hb"], clock="naive")  # friction b itself
    return {name: (mode_solution(error_dynamics(limits[name])), grids[name]) for name in grids}


def test_measures_agree_down_to_1e_7(problem, curves):
    """Must show a: 100 steps for GD and HB, 400 for NAG, to 1e-10 relative."""
    exact = spectral_measure(*problem)
    measures = {m: spectral_measure(*problem, num_matvecs=m) for m in (100, 400)}
    for name, m in (("gd", 100), ("hb", 100), ("nag", 400)):
        mode, grid = curves[name]
        want, found = loss_curve(mode, exact, grid), loss_curve(mode, measures[m], grid)
        shown = want.loss > 1e-7 * want.loss[0]
        assert want.loss.min() < 1e-7 * want.loss[0]
        np.testing.assert_allclose(found.loss[shown], want.loss[shown], rtol=1e-10)
        assert found.rigorous
        assert np.all((found.lower <= want.loss) & (want.loss <= found.upper))
        write_brackets(name, m, want, found)


def write_brackets(name, m, want, found):
    rows = []
    for share in (1e-2, 1e-4, 1e-5, 1e-7):
        i = np.flatnonzero(want.loss >= share * want.loss[0])[-1]  # the last point that is not yet below
        width, error = (found.upper - found.lower)[i] / want.loss[i], found.loss[i] / want.loss[i] - 1
        rows.append(f"{name} | {m} | {share:.0e} | {width:.1e} | {abs(error):.0e}")
    header = "ODE | Lanczos steps | loss / initial loss | width of the bracket / loss | error / loss"
    write_rows(RESULTS / "brackets.md", header, rows, keys=3)


def medians(functions, rounds=5):
    """Median processor seconds of each function on one thread, taken in turn."""
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def test_hundred_steps_take_an_eighth_of_eigh(problem):
    taken = medians(
        {
            "eigh": lambda: scipy.linalg.eigh(problem[0]),
            "lanczos": lambda: spectral_measure(*problem, num_matvecs=100),
        }
    )
    ratio = taken["eigh"] / taken["lanczos"]
    write("eigh / 100 Lanczos steps, n = 1797", ratio)
    assert ratio >= 8


def test_all_curves_against_one_integration(problem, curves):
    """Kernel to all three curves, against solve_ivp for heavy ball alone."""
    mode, grid = curves["hb"]
    kernel, delta0 = problem

    def ours():
        measure = spectral_measure(kernel, delta0, num_matvecs=100)
        return [loss_curve(m, measure, t) for m, t in curves.values()]

    def theirs():
        # tolerances by which the loss is right to some 1e-6; ours is to 1e-10
        return integrate(mode.dynamics, kernel, delta0, grid, rtol=1e-6, atol=1e-6)

    taken = medians({"lanczos": ours, "solve_ivp": theirs}, rounds=1)
    claim = "solve_ivp of HB alone / Lanczos for GD, HB and NAG, n = 1797"
    write(claim, taken["solve_ivp"] / taken["lanczos"])
    assert taken["solve_ivp"] > taken["lanczos"]


@pytest.mark.parametrize("points", [200, 20_001])
@pytest.mark.parametrize(
    "rule",
    [
        GradientDescent(1.0),
        HeavyBall(1.0, 0.9),
        HeavyBall(1e-4, 0.9999),
        NesterovConstant(0.5, 0.99),
        Nesterov(0.5, 3),
    ],
    ids=lambda rule: rule.label,
)
def test_proved_brackets_up_to_20000_steps(rule, points):
    lam, delta0 = np.geomspace(1e-4, 1, 400), np.random.default_rng(1).standard_normal(400)
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=100)
    k = np.linspace(0, 20_000, points).astype(int)
    taken = {bounds: min(timed(rule, measure, k, bounds) for _ in range(3)) for bounds in (True, False)}
    row = f"{rule.label} | {points} | {taken[True]:.2f} | {taken[False]:.2f}"
    write_rows(
        RESULTS / "long_brackets.md", "method | points up to k = 20,000 | s | s without bounds", [row], keys=2
    )
    assert taken[True] <= 15 * taken[False]


def timed(rule, measure, k, bounds):
    """Seconds of the processor."""
    start = time.process_time()
    assert loss_curve(rule, measure, k, bounds=bounds).proved.all() == bounds
    return time.process_time() - start


def test_benchmark_lanczos(benchmark, problem):
    benchmark.pedantic(lambda: spectral_measure(*problem, num_matvecs=100), rounds=5, warmup_rounds=1)


def test_benchmark_eigh(benchmark, problem):
    benchmark.pedantic(lambda: spectral_measure(*problem), rounds=3, warmup_rounds=1)


def write(claim: str, ratio: float) -> None:
    write_rows(RESULTS / "spectrum.md", "times in one run | ratio", [f"{claim} | {ratio:.1f}"])
