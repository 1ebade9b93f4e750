r"""What a check returns: for each method its ODE, its rates and the error budget."""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from odeopt.checks import is_number, require_integer
from odeopt.rates.rate import Rate
from odeopt.rules.base import UpdateRule
from odeopt.rules.names import numbers_of
from odeopt.rules.schedule import Schedule
from odeopt.shown import Pictured, Shown, Summary, changed
from odeopt.spectra.errors import STEP_PARTS, WHOLE_PARTS
from odeopt.studies.files import Saved
from odeopt.studies.page import RATES, check_page, check_table
from odeopt.studies.tested import TEST_LEVELS

__all__ = ["CheckReport", "CheckSettings", "MethodReport"]


_MOST = 10**12  # of anything that is counted


@dataclass(frozen=True, repr=False)
class CheckSettings(Shown):
    """Options of a check.

    Parameters
    ----------
    width : int
        Hidden neurons of the trained network.
    seeds : int
        Number of networks, with seeds 0, 1, ...
    num_steps : int
        Steps of each run.
    lr : float, Schedule or None
        Common learning rate; None takes `lr_fraction` of the smallest stability limit among the methods.
    lr_fraction : float
        Share of the stability limit that is taken without `lr`, in (0, 1].
    weight_decay : float, Schedule or None
        Of the methods that are named.
    decoupled, to_start : bool
        Which decay it is, as for their classes.
    average : float, Schedule, "polyak" or None
        Take the averaged output of the methods that are named (:class:`odeopt.rules.Averaged`).
    friction : float or None
        The b of heavy ball (:meth:`HeavyBall.with_friction`); None takes the critical
        2 sqrt(lambda_min(H_inf)), or sqrt(2/lr) where that would take a negative momentum.
    r : float
        Friction r/t of Nesterov's method.
    momenta : tuple of float
        Of higher momentum.
    hm_regime : {"fixed", "inertial"}
        Limit taken for higher momentum: momenta fixed, or roots tending to 1 (third order for two).
    layers : {"first", "both"}
        Which layers are trained.
    device, dtype : str
        Where and in which precision the network is trained.
    allow_unstable : bool
        Run a learning rate above the stability limit.

    Examples
    --------
    >>> settings = CheckSettings(width=256, seeds=1, weight_decay=0.1, to_start=True)
    >>> settings.decay
    {'weight_decay': 0.1, 'to_start': True}
    >>> CheckSettings(lr_fraction=2.0)
    Traceback (most recent call last):
        ...
    ValueError: lr_fraction must lie in (0, 1], got 2.0
    """

    width: int = 4096
    seeds: int = 2
    num_steps: int = 1000
    lr: float | Schedule | None = None
    lr_fraction: float = 0.25
    weight_decay: float | Schedule | None = None
    decoupled: bool = False
    to_start: bool = False
    average: float | Schedule | Literal["polyak"] | None = None
    friction: float | None = None
    r: float = 3.0
    momenta: tuple[float, ...] = (0.2, 0.5)
    hm_regime: Literal["fixed", "inertial"] = "fixed"
    layers: Literal["first", "both"] = "first"
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float64"
    allow_unstable: bool = False

    def _summary(self) -> Summary:
        return Summary(changed(self))

    def __post_init__(self) -> None:
        for name in ("width", "seeds", "num_steps"):
            require_integer(name, getattr(self, name), 1, _MOST)
        for name in ("lr", "friction"):
            value = getattr(self, name)
            if value is None or (isinstance(value, Schedule) and name == "lr"):
                continue
            number: Any = getattr(self, name)
            if not (is_number(number) and math.isfinite(number) and number > 0):
                raise ValueError(f"{name} must be positive and finite, got {value!r}")
        if not isinstance(self.momenta, (tuple, list)):
            raise ValueError(f"momenta must be a tuple of numbers, got {self.momenta!r}")
        if not is_number(self.lr_fraction) or not 0 < self.lr_fraction <= 1:
            raise ValueError(f"lr_fraction must lie in (0, 1], got {self.lr_fraction!r}")
        if self.hm_regime not in ("fixed", "inertial"):
            raise ValueError(f'hm_regime must be "fixed" or "inertial", got {self.hm_regime!r}')
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'dtype must be "float32" or "float64", got {self.dtype!r}')

    @property
    def decay(self) -> dict[str, Any]:
        """Weight decay as keywords of a rule."""
        kept = {name: getattr(self, name) for name in ("weight_decay", "decoupled", "to_start")}
        return {name: value for name, value in kept.items() if value is not None and value is not False}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON types.

        Returns
        -------
        dict
            Option to value; a schedule is its own mapping.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {n: v.to_dict() if isinstance(v, Schedule) else v for n, v in values.items()}


@dataclass(frozen=True, repr=False)
class MethodReport(Pictured):
    r"""One method of a check.

    Parameters
    ----------
    name : str
        Of the method, by which the report finds it.
    rule : UpdateRule
        With its numbers.
    weight_ode, error_ode, error_ode_latex : str
        The derived limits in the weights and in the error, "" where there is none.
    time_step : float or None
        The clock, t = (k + time_origin) * time_step; None where no limit is known, and then t = k.
    time_origin : float
        In steps.
    exact_ode, exact_discrete : Rate or None
        Of the linear ODE and of the iteration, both per unit of time, for the kernel H(0) of the first seed
        off its null space. None for a rule that has none, as one that is not linear.
    fitted_ode, fitted_trained : Rate or None
        Measured on the seed averages of the curves above `CheckReport.problem["loss_floor"]`; None where the
        curve is too short for a fit.
    times_fewest : float or None
        Gradients of the run, as a multiple of the fewest with which any method that follows gradients from
        this start could reach the loss that the iteration on H(0) of the first seed ends with
        (:func:`odeopt.rates.steps_envelope`); None where the bound is none of this rule, or nothing fell.
    budget_by_seed : mapping
        Name of a part (:data:`odeopt.spectra.errors.WHOLE_PARTS`) to the largest deviation over steps,
        relative to the initial loss, for each seed.
    vector_budget_by_seed : mapping
        The same for the error vectors: the largest norm of their difference, relative to that of the initial
        error. Equal losses can hide different vectors.
    step_by_seed : mapping
        The parts of the step-size part, as `budget_by_seed`; empty without a high-resolution ODE.
    high_resolution : str
        The high-resolution ODE in the error, or why there is none.
    integration_error : float or None
        Largest deviation of solve_ivp from the closed form, relative to the initial loss.
    drift_by_seed : tuple of float
        Relative change of the kernel over the run, in spectral norm, for each seed.
    diverged_at : int or None
        First step at which a trained network left the finite numbers.
    curves : mapping
        "k", "t" of shape (K,), the curve "trained" and, where they are known, "discrete_h0", "ode_h0",
        "ode_inf" and "high_resolution_h0" of shape (seeds, K), and "integrated" of shape (K',) at the times
        "integrated_t", for the first seed; of classes "accuracy" and "accuracy_discrete_h0" too. On a test
        set "test_trained" and, of a linear rule, "test_discrete_h0" and "test_discrete_inf", and
        "test_accuracy_trained", ... where there are classes.
    notes : mapping
        What is missing to the reason, by the name of the attribute or of the curve.
    test : mapping or None
        On the test set: for "trained", "discrete_h0" and "discrete_inf" (the iteration on the kernels of the
        network at its start, and of infinite width) step, loss, rms and accuracy at the "best" recorded step
        and at the "last", seeds averaged; and "distance", the largest between two of them over steps for each
        seed, relative to the loss at the start. Predictions are exact for their linear model but for
        rounding; what the network does beyond it is measured. None without a test set.

    Examples
    --------
    >>> from odeopt import check
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> method = report["gd"]
    >>> method.error_ode, method.curves["trained"].shape
    ("Delta' + H*Delta = 0", (1, 21))
    >>> list(method.budget)
    ['trained - discrete H(0)', 'discrete H(0) - ODE H(0)', 'ODE H(0) - ODE H_inf']
    """

    name: str
    rule: UpdateRule
    weight_ode: str
    error_ode: str
    error_ode_latex: str
    time_step: float | None
    time_origin: float
    exact_ode: Rate | None
    exact_discrete: Rate | None
    fitted_ode: Rate | None
    fitted_trained: Rate | None
    times_fewest: float | None
    budget_by_seed: dict[str, tuple[float, ...]]
    vector_budget_by_seed: dict[str, tuple[float, ...]]
    step_by_seed: dict[str, tuple[float, ...]]
    high_resolution: str
    integration_error: float | None
    drift_by_seed: tuple[float, ...]
    diverged_at: int | None
    curves: dict[str, np.ndarray]
    notes: dict[str, str] = field(default_factory=dict)
    test: dict[str, Any] | None = None

    _drawn_by = "curves"

    def _summary(self) -> Summary:
        rates = [str(rate) for rate in [self.exact_ode or self.exact_discrete] if rate]
        rows = [(told, str(getattr(self, name) or "-")) for name, told in RATES.items()]
        rows += [(part, f"{size:.1e} of L_0, measured") for part, size in self.budget.items()]
        rows.append(("drift of H", f"{self.kernel_drift:.1%}, measured"))
        facts = [self.rule.label, self.error_ode or self.weight_ode or "no ODE", *rates]
        return Summary(facts, ("quantity", "value"), rows)

    @property
    def budget(self) -> dict[str, float]:
        """The parts of the budget, averaged over seeds."""
        return {part: float(np.mean(values)) for part, values in self.budget_by_seed.items()}

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of the examples whose class is predicted at the end, of seeds on average; {} without classes.

        "trained" of the networks, "discrete_h0" of the iteration on H(0).
        """
        keys = {"trained": "accuracy", "discrete_h0": "accuracy_discrete_h0"}
        found = {name: self.curves[key] for name, key in keys.items() if key in self.curves}
        return {name: float(np.mean(values[:, -1])) for name, values in found.items()}

    @property
    def kernel_drift(self) -> float:
        """Relative change of the kernel, averaged over seeds."""
        return float(np.mean(self.drift_by_seed))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the curves, as plain JSON types.

        Returns
        -------
        dict
            By the names of fields and properties; a rate is its own mapping.
        """
        plain = {name: getattr(self, name) for name in _PLAIN}
        plain |= {name: rate and rate.to_dict() for name in RATES for rate in [getattr(self, name)]}
        return {**plain, "rule": type(self.rule).__name__, "hyperparameters": numbers_of(self.rule)}


_PLAIN = (
    "name", "weight_ode", "error_ode", "time_step", "time_origin", "budget", "budget_by_seed",
    "vector_budget_by_seed", "step_by_seed", "high_resolution", "integration_error", "kernel_drift",
    "drift_by_seed", "diverged_at", "times_fewest", "accuracy", "notes", "test",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class CheckReport(Saved):
    r"""The result of :func:`odeopt.check`.

    Parameters
    ----------
    settings : CheckSettings
        The options with which it was made.
    problem : mapping
        The n, d, "outputs", "classes", "target_note" (what is to be said of the targets), the learning rate,
        the extreme eigenvalues of H_inf and of H(0) for each seed off the null space, "null_dimension" and
        "singular_part", what makes the kernels singular, "loss_floor", the loss that cannot fall at any
        width, and "null_dimension_h0" for each seed, of all outputs together.
    methods : tuple of MethodReport
        In the order asked for; ``report[name]`` is one of them.

    Examples
    --------
    >>> from odeopt import check
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> [method.name for method in report.methods], report.problem["n"], report.settings.width
    (['gd'], 3, 64)
    """

    settings: CheckSettings
    problem: dict[str, Any]
    methods: tuple[MethodReport, ...]
    _names = ("check.json", "curves.npz", "check")
    _drawn_by = "check"

    def _summary(self) -> Summary:
        s, names = self.settings, ", ".join(method.name for method in self.methods)
        size = f"n = {self.problem['n']}, d = {self.problem['d']}, width {s.width}"
        facts = [size, f"{s.seeds} seeds, {s.num_steps} steps", names, "predicted and measured"]
        return Summary(facts, *check_table(self.methods))

    def __getitem__(self, name: str) -> MethodReport:
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(f"{name!r} is not among {', '.join(m.name for m in self.methods)}")

    def to_dict(self) -> dict[str, Any]:
        """Return settings, problem and methods as plain JSON types.

        Returns
        -------
        dict
            "version", "settings", "problem", what the parts of the budget mean, and "methods".
        """
        return {
            "version": importlib.metadata.version("odeopt"),
            "settings": self.settings.to_dict(),
            "problem": self.problem,
            "budget_parts": {part.name: part.meaning for part in WHOLE_PARTS},
            "step_parts": {part.name: part.meaning for part in STEP_PARTS},
            "test_levels": TEST_LEVELS,
            "methods": [method.to_dict() for method in self.methods],
        }

    def to_html(self, command: str | None = None) -> str:
        """Return one page with derivations, tables, proofs and plots, which needs no other file.

        Parameters
        ----------
        command : str, optional
            What makes the report again, to be shown.

        Returns
        -------
        str
            Of one HTML file, to be written as it is.

        Raises
        ------
        ImportError
            Without plotly and latex2mathml, which the extra ``report`` brings.
        """
        return check_page(self, command)

    def _arrays(self) -> dict[str, Any]:
        return {f"{m.name}_{key}": value for m in self.methods for key, value in m.curves.items()}
