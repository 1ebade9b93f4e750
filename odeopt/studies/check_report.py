r"""What a check returns: for each method its ODE, its rates and the error budget, and how to save them."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from odeopt.rates.rate import Rate
from odeopt.rules.base import UpdateRule
from odeopt.spectra import errors
from odeopt.spectra.errors import WHOLE_PARTS

__all__ = ["BUDGET_PARTS", "STEP_PARTS", "CheckReport", "CheckSettings", "MethodReport", "writable_folder"]

# The parts of the error budget, as they are printed, and what each part means; then the step-size part once
# more, split where the rule has a high-resolution ODE that closes in (Delta, H).
BUDGET_PARTS = {part.name: part.meaning for part in WHOLE_PARTS}
STEP_PARTS = {part.name: part.meaning for part in errors.STEP_PARTS}


@dataclass(frozen=True)
class CheckSettings:
    """Options of a check.

    Attributes
    ----------
    width : int
        Hidden neurons of the trained network.
    seeds : int
        Number of networks, with seeds 0, 1, ...
    num_steps : int
    lr : float or None
        Common learning rate; None takes `lr_fraction` of the smallest stability limit among the methods.
    lr_fraction : float
    friction : float or None
        b of heavy ball (:meth:`HeavyBall.with_friction`); None takes the critical
        2 sqrt(lambda_min(H_inf)).
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
    """

    width: int = 4096
    seeds: int = 2
    num_steps: int = 1000
    lr: float | None = None
    lr_fraction: float = 0.25
    friction: float | None = None
    r: float = 3.0
    momenta: tuple[float, ...] = (0.2, 0.5)
    hm_regime: str = "fixed"
    layers: str = "first"
    device: str = "cpu"
    dtype: str = "float64"
    allow_unstable: bool = False

    def __post_init__(self):
        for name in ("width", "seeds", "num_steps"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
            object.__setattr__(self, name, int(value))
        for name in ("lr", "friction"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value!r}")
        if not 0 < self.lr_fraction <= 1:
            raise ValueError(f"lr_fraction must lie in (0, 1], got {self.lr_fraction!r}")
        if self.hm_regime not in ("fixed", "inertial"):
            raise ValueError(f'hm_regime must be "fixed" or "inertial", got {self.hm_regime!r}')
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'dtype must be "float32" or "float64", got {self.dtype!r}')


@dataclass(frozen=True)
class MethodReport:
    r"""One method of a check.

    Attributes
    ----------
    name : str
    rule : UpdateRule
    weight_ode, error_ode, error_ode_latex : str
        The derived limits in the weights and in the error.
    time_step : float
        t = (k + time_origin) * time_step.
    time_origin : float
        In steps.
    exact_ode, exact_discrete : Rate
        Of the linear ODE and of the iteration, both per unit of time, for the kernel H(0) of the first seed.
    fitted_ode, fitted_trained : Rate or None
        Measured on the seed averages of the curves; None where the curve is too short for a fit.
    budget_by_seed : mapping
        Part of :data:`BUDGET_PARTS` to the largest deviation over steps, relative to the initial
        loss, for each seed.
    vector_budget_by_seed : mapping
        The same for the error vectors: the largest norm of their difference, relative to that of the initial
        error. Equal losses can hide different vectors.
    step_by_seed : mapping
        The parts :data:`STEP_PARTS` of the step-size part, as `budget_by_seed`; empty without a
        high-resolution ODE.
    high_resolution : str
        The high-resolution ODE in the error, or why there is none.
    integration_error : float
        Largest deviation of solve_ivp from the closed form, relative to the initial loss.
    drift_by_seed : tuple of float
        Relative change of the kernel over the run, in spectral norm, for each seed.
    diverged_at : int or None
        First step at which a trained network left the finite numbers.
    curves : mapping
        "k", "t" of shape (K,), the curves "trained", "discrete_h0", "ode_h0", "ode_inf" of shape
        (seeds, K), where there is one "high_resolution_h0" too, and "integrated" of shape (K',) at the times
        "integrated_t", for the first seed.
    """

    name: str
    rule: UpdateRule
    weight_ode: str
    error_ode: str
    error_ode_latex: str
    time_step: float
    time_origin: float
    exact_ode: Rate
    exact_discrete: Rate
    fitted_ode: Rate | None
    fitted_trained: Rate | None
    budget_by_seed: dict[str, tuple[float, ...]]
    vector_budget_by_seed: dict[str, tuple[float, ...]]
    step_by_seed: dict[str, tuple[float, ...]]
    high_resolution: str
    integration_error: float
    drift_by_seed: tuple[float, ...]
    diverged_at: int | None
    curves: dict[str, np.ndarray] = field(repr=False)

    @property
    def budget(self) -> dict[str, float]:
        """The parts of the budget, averaged over seeds."""
        return {part: float(np.mean(values)) for part, values in self.budget_by_seed.items()}

    @property
    def kernel_drift(self) -> float:
        """Relative change of the kernel, averaged over seeds."""
        return float(np.mean(self.drift_by_seed))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the curves, as plain JSON types."""
        fields = (
            "name",
            "weight_ode",
            "error_ode",
            "time_step",
            "time_origin",
            "budget",
            "budget_by_seed",
            "vector_budget_by_seed",
            "step_by_seed",
            "high_resolution",
            "integration_error",
            "kernel_drift",
            "drift_by_seed",
            "diverged_at",
        )
        rates = ("exact_ode", "exact_discrete", "fitted_ode", "fitted_trained")
        plain = {name: getattr(self, name) for name in fields}
        plain |= {name: rate and asdict(rate) for name in rates for rate in [getattr(self, name)]}
        return {**plain, "rule": type(self.rule).__name__, "hyperparameters": self.rule.hyperparameters}


@dataclass(frozen=True)
class CheckReport:
    r"""The result of :func:`odeopt.check`.

    Attributes
    ----------
    settings : CheckSettings
    problem : mapping
        n, d, the extreme eigenvalues of H_inf and of H(0) for each seed, and the learning rate.
    methods : tuple of MethodReport
    """

    settings: CheckSettings
    problem: dict[str, Any]
    methods: tuple[MethodReport, ...]

    def __getitem__(self, name: str) -> MethodReport:
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(f"{name!r} is not among {', '.join(m.name for m in self.methods)}")

    def to_dict(self) -> dict[str, Any]:
        """Return settings, problem and methods as plain JSON types."""
        from odeopt import __version__

        return {
            "version": __version__,
            "settings": asdict(self.settings),
            "problem": self.problem,
            "budget_parts": BUDGET_PARTS,
            "step_parts": STEP_PARTS,
            "methods": [method.to_dict() for method in self.methods],
        }

    def save(self, folder: str | os.PathLike) -> Path:
        """Write check.json, curves.npz and check.png.

        Parameters
        ----------
        folder : path-like
            Created if it does not exist.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        ValueError
            If the folder cannot be written.
        """
        folder = writable_folder(folder)
        text = json.dumps(_finite(self.to_dict()), indent=2, allow_nan=False)
        (folder / "check.json").write_text(text + "\n")
        arrays = {f"{m.name}_{key}": value for m in self.methods for key, value in m.curves.items()}
        np.savez_compressed(folder / "curves.npz", **arrays)
        from odeopt import plot

        plot.check(self).figure.savefig(folder / "check.png", dpi=150)
        return folder


def _finite(value: Any) -> Any:
    """Replace nonfinite numbers, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def writable_folder(folder: str | os.PathLike) -> Path:
    """Return the folder, created and tried by writing, or raise ValueError.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     writable_folder(Path(parent) / "new").is_dir()
    True
    """
    folder = Path(folder)
    probe = folder / ".odeopt-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"out = {str(folder)!r} is not a writable folder ({error.strerror or error}); choose another"
        ) from error
    return folder
