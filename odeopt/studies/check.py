r"""The main job: predict, integrate, iterate and train, and explain the distance between the curves.

For each method the loss of trained networks is compared with three predictions. The distance from
the network to the infinite-width ODE is split into named parts, exactly additive at every step:

.. math::
    L^{\rm net}-L^{\rm ODE}_{H_\infty}
    =\underbrace{(L^{\rm net}-L^{\rm disc}_{H(0)})}_{\text{drift and flips}}
    +\underbrace{(L^{\rm disc}_{H(0)}-L^{\rm ODE}_{H(0)})}_{\text{step size}}
    +\underbrace{(L^{\rm ODE}_{H(0)}-L^{\rm ODE}_{H_\infty})}_{\text{finite width}} .

The step-size part is split once more, at the high-resolution ODE with H(0), where the rule has one. The same
budget for any network and run, in error vectors too, is :func:`odeopt.nets.error_budget`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.checks import class_note
from odeopt.data import Dataset, prepare
from odeopt.dynamics.losses import SquaredLoss
from odeopt.kernels.inputs import SingularPart, singular_part
from odeopt.kernels.memory import available_memory
from odeopt.kernels.relu import relu_gram
from odeopt.rates.fit import fit_rate
from odeopt.rates.iteration import max_learning_rate
from odeopt.rates.rate import Rate
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import HigherMomentum
from odeopt.rules.names import with_decay
from odeopt.rules.reading import read
from odeopt.rules.schedule import Schedule
from odeopt.spectra.errors import STEP_PARTS, WHOLE_PARTS, Part, losses, predicted_errors
from odeopt.spectra.point_curve import class_accuracy
from odeopt.studies.check_report import CheckReport, CheckSettings, MethodReport
from odeopt.studies.held_out import HeldOut
from odeopt.studies.methods import chosen_methods, rule_at_rate
from odeopt.studies.rule_theory import RuleTheory
from odeopt.studies.sources import Examples, rows_and_test
from odeopt.studies.stages import Progress, counted
from odeopt.studies.tested import curves_on_test, kernel_pairs, told_of_test

if TYPE_CHECKING:
    from odeopt.nets.networks import TwoLayerReLU
    from odeopt.nets.training.record import TrainingRun

__all__ = ["CHECK_METHODS", "check"]

# Steps recorded: enough to place the peaks of the oscillations of the slow modes.
_RECORDED = 500
CHECK_METHODS = ("gd", "hb", "nag", "hm")


def check(
    x: Any,
    y: Any = None,
    *,
    test: Any = None,
    methods: Sequence[str | UpdateRule] | None = None,
    settings: CheckSettings | None = None,
    classes: bool = False,
    strict: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> CheckReport:
    r"""Compare trained two-layer ReLU networks with their predictions, method by method.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (n,), or what :func:`odeopt.load_data` takes
        Inputs, flattened (images) and scaled to unit norm, and targets, scaled to mean 0 and unit root mean
        square. Blank and parallel rows make the kernel singular; the loss that cannot fall is then named in
        the report.
    test : pair of array_like, what :func:`odeopt.load_data` takes, or float, optional
        Examples that are not trained on, or the share of `x` and `y` that is held out, drawn with a fixed
        seed: the loss on them of the trained networks, and what the iteration predicts of it.
    methods : sequence of str or UpdateRule, optional
        Names ("gd", "hb", "nag", "hm") or rules of your own, with their own learning rates. By default the
        four names, without those that have no weight decay where there is one.
    settings : CheckSettings, optional
        Sizes, learning rate and hyperparameters; by default :class:`odeopt.studies.CheckSettings`.
    classes : bool, optional
        Take `y`, shape (n,), as class labels, one output for each (:func:`odeopt.data.one_hot`); the report
        then has the accuracy beside the loss. Without it labels that are numbers are regressed on.
    strict : bool, optional
        Refuse rows that make the kernel singular.
    progress : callable, optional
        Called as ``progress(stage, done, total)``: "kernels", then each method with its training steps.

    Returns
    -------
    CheckReport
        Disagreement is a result, not an error.

    Raises
    ------
    ValueError
        On unusable data, unknown methods, or a learning rate above a stability limit (unless
        ``settings.allow_unstable``).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((8, 4)), rng.standard_normal(8)
    >>> report = check(x, y, methods=["gd"], settings=CheckSettings(width=256, seeds=1, num_steps=100))
    >>> report["gd"].error_ode
    "Delta' + H*Delta = 0"
    >>> report["gd"].integration_error < 1e-8
    True
    """
    settings = CheckSettings() if settings is None else settings
    if not isinstance(settings, CheckSettings):
        raise ValueError(f"settings must be CheckSettings, got {settings!r}")
    if methods is None:
        methods = with_decay(CHECK_METHODS, settings.decay)
    chosen = chosen_methods(methods, CHECK_METHODS, settings.decay)
    x, y, held = rows_and_test(x, y, test, classes)
    return _checked(_Problem.of(x, y, settings, strict, classes, held), chosen, progress)


def _checked(problem: _Problem, methods: dict[str, str | UpdateRule], progress: Progress) -> CheckReport:
    settings = problem.settings
    lam_min, lam_max, _ = problem.ends(problem.limit_kernel)
    names = [m for m in methods.values() if not isinstance(m, UpdateRule)]
    told = counted("kernels", range(settings.seeds), progress)
    start_ends = [problem.ends(problem.start_kernel(seed)) for seed in told]
    largest = max(lam_max, *(high for _, high, _ in start_ends))
    lr = _learning_rate(names, settings, lam_min, largest)
    named = {} if lr is None else {m: _named_rule(m, lr, settings, lam_min) for m in names}
    rules = {name: m if isinstance(m, UpdateRule) else named[m] for name, m in methods.items()}
    for rule in rules.values():
        _require_runnable(rule, largest, settings)
    reports = tuple(_check_method(name, rule, problem, progress) for name, rule in rules.items())
    facts = {
        "n": len(problem.data.y),
        "outputs": problem.data.y[0].size,
        "classes": None if problem.data.classes is None else problem.data.classes.tolist(),
        "target_note": problem.note,
        "d": problem.data.x.shape[1],
        "lr": lr.to_dict() if isinstance(lr, Schedule) else lr,
        "lambda_min_h_inf": lam_min,
        "lambda_max_h_inf": lam_max,
        "lambda_min_h0": [low for low, _, _ in start_ends],
        "lambda_max_h0": [high for _, high, _ in start_ends],
        "null_dimension": problem.singular.dimension,
        "null_dimension_h0": [zeros for _, _, zeros in start_ends],
        "singular_part": str(problem.singular),
        "loss_floor": problem.floor,
        "test": None if problem.held is None else problem.held.to_dict(),
    }
    return CheckReport(settings, facts, reports)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """The data of a check, and what all methods share."""

    data: Dataset
    settings: CheckSettings
    singular: SingularPart
    limit_kernel: np.ndarray
    note: str
    held: HeldOut | None = None

    @classmethod
    def of(
        cls, x: Any, y: Any, settings: CheckSettings, strict: bool, classes: bool, test: Examples | None
    ) -> _Problem:
        data = prepare(x, y, targets="classes" if classes else "regression", allow_singular=not strict)
        held = None if test is None else HeldOut.of(test, x, y, data)
        rows = len(data.y) + (0 if held is None else len(held.y))
        # weights, the hidden layer three times, and kernels of all outputs together
        need = 8 * settings.width * (data.x.shape[1] + 3 * rows) + 32 * (rows * data.y[0].size) ** 2
        if need > (free := available_memory()):
            raise ValueError(
                f"width = {settings.width} takes {need / 2**30:.3g} GiB of memory, and {free / 2**30:.3g} "
                "are free; take a smaller width or fewer rows"
            )
        kernel = relu_gram(data.x, layers=settings.layers, allow_singular=True)
        note = "" if classes else class_note(np.asarray(y))
        return cls(data, settings, singular_part(data.x), kernel, note, held)

    @property
    def floor(self) -> float:
        # Equal or blank rows have equal or zero outputs in every network, so this error is that of -y.
        return self.singular.plateau(self.data.y)

    def ends(self, kernel: np.ndarray) -> tuple[float, float, int]:
        """Smallest and largest eigenvalue off the null space, and its dimension.

        Beside what all kernels share there are zeros, but for rounding, where a network is too narrow.
        """
        values = np.linalg.eigvalsh(kernel)
        rounding = values.size * np.finfo(float).eps * values[-1]
        outputs = len(values) // self.singular.n
        zeros = max(self.singular.dimension * outputs, int((values <= rounding).sum()))
        return float(values[zeros]), float(values[-1]), zeros

    def network(self, seed: int) -> TwoLayerReLU:
        from odeopt.nets import TwoLayerReLU

        s = self.settings
        return TwoLayerReLU(
            self.data.x.shape[1], s.width, layers=s.layers, outputs=self.data.y[0].size, seed=seed,
            dtype=s.dtype, device=s.device,
        )  # fmt: skip

    def start_kernel(self, seed: int) -> np.ndarray:
        from odeopt.nets import empirical_gram

        return empirical_gram(self.network(seed), self.data.x)


def _named_rule(name: str, lr: float | Schedule, settings: CheckSettings, lam_min: float) -> UpdateRule:
    """Return a method by its name, with the hyperparameters of the settings."""
    s = settings
    return rule_at_rate(
        name, lr, lam_min, decay=s.decay, average=s.average, friction=s.friction, r=s.r, momenta=s.momenta
    )


def _learning_rate(
    names: Sequence[str], settings: CheckSettings, lam_min: float, lam_max: float
) -> float | Schedule | None:
    """Return the common learning rate: the one given, or the stated fraction of the smallest limit."""
    if settings.lr is not None or not names:
        return settings.lr
    # Limits do not depend on lr but through heavy ball's momentum, which only raises its limit above 2.
    guess = 0.01 / lam_max
    limits = [max_learning_rate(_named_rule(name, guess, settings, lam_min), lam_max) for name in names]
    return settings.lr_fraction * min(limits)


def _require_runnable(rule: UpdateRule, lam_max: float, settings: CheckSettings) -> None:
    """Refuse a run past the end of a schedule, and unless it is asked for an unstable one."""
    from odeopt.nets.training.stability import require_numeric, require_stable, require_steps

    require_numeric(rule, "methods")
    require_steps(rule, settings.num_steps)
    if not settings.allow_unstable and read(rule).linear:
        require_stable(rule, SquaredLoss(), lam_max, settings.num_steps)


def _check_method(name: str, rule: UpdateRule, problem: _Problem, progress: Progress) -> MethodReport:
    settings = problem.settings
    theory = RuleTheory(rule, settings)
    h, origin = theory.clock
    k = np.unique(np.linspace(0, settings.num_steps, min(settings.num_steps, _RECORDED) + 1).astype(int))
    t = (k + origin) * (h or 1.0)
    runs = _runs(name, rule, problem, k, progress)
    told = counted(f"{name}, predicted", runs, progress)
    seeds = [_Seed(run, rule, problem, k, seed) for seed, run in enumerate(told)]
    first = seeds[0]
    curves = {
        key: np.array([s.curves[key] for s in seeds])
        for key in first.curves
        if all(key in s.curves for s in seeds)
    }
    exact_ode, exact_discrete, integrated = theory.rates(problem.ends(first.kernel)[:2], first.start, t)
    return MethodReport(
        name=name,
        rule=rule,
        weight_ode=theory.weight_ode,
        error_ode=theory.error_ode,
        error_ode_latex=theory.latex,
        time_step=h,
        time_origin=origin,
        exact_ode=exact_ode,
        exact_discrete=exact_discrete,
        fitted_ode=_fit(t, curves["ode_h0"], "linear ODE", problem.floor) if "ode_h0" in curves else None,
        fitted_trained=_fit(t, curves["trained"], "finite net", problem.floor),
        times_fewest=theory.times_fewest(first.start, float(first.curves["discrete_h0"][-1]), int(k[-1]))
        if "discrete_h0" in first.curves
        else None,
        budget_by_seed=_by_seed(seeds, WHOLE_PARTS, "initial"),
        vector_budget_by_seed=_by_seed(seeds, WHOLE_PARTS, "vector"),
        step_by_seed=_by_seed(seeds, STEP_PARTS, "initial"),
        high_resolution=first.high_resolution,
        drift_by_seed=tuple(s.drift for s in seeds),
        diverged_at=min((s.diverged_at for s in seeds if s.diverged_at is not None), default=None),
        integration_error=integrated.pop("error").item() if integrated else None,
        curves={"k": k, "t": t, **curves, **integrated},
        test=told_of_test({"k": k, **curves}, problem.held) if problem.held else None,
        notes={**theory.notes, **first.notes},
    )


def _runs(
    name: str,
    rule: UpdateRule,
    problem: _Problem,
    k: np.ndarray,
    progress: Callable[[str, int, int], object] | None,
) -> list[TrainingRun]:
    """Train the network of each seed."""
    from odeopt.nets import train

    settings, done = problem.settings, itertools.count(1)

    def advance(*_: object) -> None:
        if progress is not None:
            progress(name, next(done), settings.seeds * settings.num_steps)

    return [
        train(
            problem.network(seed),
            rule,
            problem.data.x,
            problem.data.y,
            settings.num_steps,
            record_at=k,
            kernel_at=[settings.num_steps],
            points=None if problem.held is None else problem.held.x,
            allow_unstable=True,  # what is unstable was refused before
            progress=advance,
        )
        for seed in range(settings.seeds)
    ]


class _Seed:
    """One trained network and its predictions on the grid k; nan after a divergence."""

    def __init__(
        self, run: TrainingRun, rule: UpdateRule, problem: _Problem, k: np.ndarray, seed: int
    ) -> None:
        from odeopt.nets.budget import budget_of, initial_kernel

        self.kernel = initial_kernel(run, None)
        origin = None if run.origin is None else run.origin.reshape(-1)
        self.start = self.kernel, run.errors[0].reshape(-1), origin
        self.diverged_at = run.diverged_at
        drift = run.relative_kernel_drift
        self.drift = float(drift[-1]) if drift.size else math.nan
        regime = problem.settings.hm_regime if isinstance(rule, HigherMomentum) else "natural"
        found = predicted_errors(
            rule,
            self.kernel,
            run.errors[0],
            k,
            limit_kernel=problem.limit_kernel,
            origin=run.origin,
            regime=regime,
            partial=True,
        )
        level = "high_resolution_h0"
        missing = found.notes.get("ode_h0", "")
        self.high_resolution = found.equations.get(level) or found.notes.get(level, missing)
        self.notes = {key: note for key, note in found.notes.items() if key not in found.errors}
        trained = np.full(k.size, math.nan)
        trained[: run.k.size] = run.loss
        self.curves = {"trained": trained, **{key: losses(error) for key, error in found.errors.items()}}
        if (labels := problem.data.labels) is not None:
            self.curves["accuracy"] = np.full(k.size, math.nan)
            self.curves["accuracy"][: run.k.size] = run.accuracy(labels)
            if (error := found.errors.get("discrete_h0")) is not None:
                u = error.reshape(k.size, *run.targets.shape) + run.targets
                self.curves["accuracy_discrete_h0"] = class_accuracy(u, labels)
        if (held := problem.held) is not None:
            kernels, start = {}, (problem.data.x, self.kernel, problem.limit_kernel)
            if "discrete_h0" in found.errors:  # what is not linear is trained alone
                kernels = kernel_pairs(problem.network(seed), held, *start)
            self.curves |= curves_on_test(held, run, rule, k, kernels, problem.settings.layers)
        budget = budget_of(run, found)
        self.parts = {pair: budget.compare(*pair) for pair in itertools.combinations(budget.errors, 2)}


def _by_seed(seeds: list[_Seed], parts: Sequence[Part], measure: str) -> dict[str, tuple[float, ...]]:
    """Largest distance of each part over the steps; parts without a prediction are left out."""
    pairs = {part.name: (part.upper, part.lower) for part in parts}
    return {
        name: tuple(s.parts[pair][measure] for s in seeds)
        for name, pair in pairs.items()
        if all(pair in s.parts for s in seeds)
    }


def _fit(t: np.ndarray, losses: np.ndarray, layer: str, floor: float) -> Rate | None:
    """Fit the seed average above its floor; None where divergence or shortness leaves nothing to fit."""
    mean = losses.mean(axis=0) - floor
    if not np.all(np.isfinite(mean)):
        return None
    try:
        return fit_rate(SimpleNamespace(t=t, loss=mean, layer=layer))
    except ValueError:
        return None
