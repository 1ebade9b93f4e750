r"""Hyperparameters under weight decay: asymptotically, and for one measure and a number of steps.

Coupled decay adds :math:`\gamma` to every eigenvalue of the step, so that the constants that are best on
[mu, L] are those of :math:`[\mu+\gamma,L+\gamma]`. Decoupled decay is the same without momentum; heavy ball
with it, :math:`x_{k+1}=(1-\eta\omega)x_k+\beta(x_k-(1-\eta\omega)x_{k-1})-\eta\nabla f`, is heavy ball of
momentum :math:`\beta'=\beta(1-\eta\omega)` on :math:`\lambda+\omega(1-\beta)`, whose radius s is least where

.. math:: \eta(L-\mu)=4s,\qquad \beta'=s^2,\qquad (1-s)^2=\eta\,(\mu+\omega(1-\beta)) .
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from odeopt.checks import is_number
from odeopt.rates.horizon import largest_lr, peak_of
from odeopt.rates.run import RESOLUTION, Run, places
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall
from odeopt.rules.linear import error_polynomials, error_row, residual_polynomials, spectral_radius
from odeopt.rules.schedule import Schedule
from odeopt.rules.weight_decay import WeightDecayed
from odeopt.spectra.curve import require_joint
from odeopt.spectra.measure import SpectralMeasure

__all__ = ["Decay", "final_loss", "refined", "shifted"]

# Parts of a peak and of 1 - momentum from which a search under decay begins: to stop early may be best there.
_PARTS, _FRICTIONS = np.geomspace(0.03, 1.3, 9).tolist(), np.geomspace(0.04, 2.0, 8).tolist()
# Intervals of a mesh for each degree, which shows most of a growth, and points on which a root is looked for.
_MESH, _ROOTS = 2, 2000
# Eigenvalues on which stability is looked at.
_STABLE = 65


@dataclass(frozen=True)
class Decay:
    """Weight decay as the keywords of a class; false where there is none."""

    keywords: dict[str, Any]

    @classmethod
    def of(cls, rule_type: Any, weight_decay: Any, decoupled: bool, to_start: bool) -> Decay:
        """Of a class that has it, once it is known to be one of its values."""
        given = {"weight_decay": weight_decay, "decoupled": decoupled, "to_start": to_start}
        kept = {name: value for name, value in given.items() if value is not None and value is not False}
        if kept and not (isinstance(rule_type, type) and issubclass(rule_type, WeightDecayed)):
            name = getattr(rule_type, "__name__", repr(rule_type))
            raise ValueError(f"{name} has no weight decay; leave weight_decay, decoupled and to_start out")
        if kept and not GradientDescent(1.0, **kept).is_numeric:  # which refuses what is no weight decay
            raise ValueError(f"weight_decay = {weight_decay} holds symbols; give it a number")
        return cls(kept)

    def __bool__(self) -> bool:
        return bool(self.keywords)

    @property
    def shift(self) -> float:
        """What is added to eigenvalues, at most."""
        value = self.keywords.get("weight_decay", 0.0)
        return value.largest if isinstance(value, Schedule) else float(value)

    def added(self, rule: Any) -> Any:
        """The rule with this decay."""
        return rule.replace(**self.keywords) if self.keywords else rule

    def searched(
        self, start: Any, loss: Callable[[UpdateRule], float], allowed: Callable[[UpdateRule], bool]
    ) -> Any:
        """The best rule that is allowed of a grid around a start without a pull, refined."""
        momentum = getattr(start, "momentum", None)
        momenta = [max(1 - f * (1 - momentum), 0.0) for f in _FRICTIONS] if momentum is not None else []
        shares: list[dict[str, float]] = [{"momentum": m} for m in momenta] or [{}]
        starts = [self.added(start.replace(lr=part * start.lr, **s)) for part in _PARTS for s in shares]
        best = next((rule for rule in sorted(starts, key=loss) if allowed(rule)), starts[0])
        return refined(best, loss, allowed)

    def tuned(self, tuner: Callable[[float, float], Any], mu: float, L: float) -> Any:
        """The rule with the smallest asymptotic rate."""
        if not self:
            return tuner(mu, L)
        value, decoupled = self.keywords["weight_decay"], self.keywords.get("decoupled", False)
        if not is_number(value):
            raise ValueError(
                f"weight_decay = {value.label} changes, and constants for ever are tuned for a number; "
                "take tune_for, or best_at, which tune for a number of steps"
            )
        found = tuner(mu + value, L + value)
        if decoupled and not isinstance(found, GradientDescent) and value > 0:
            if not isinstance(found, HeavyBall):
                raise ValueError(
                    f"no best constants are known for {type(found).__name__} with decoupled decay; take "
                    "tune_for, or best_at, which tune for a number of steps"
                )
            found = _decoupled_heavy_ball(mu, L, float(value))
        return self.added(found)

    def best_run(self, start: Any, measure: SpectralMeasure, steps: int, growth: float) -> Any:
        """The best peak and momentum of a schedule."""
        level = growth * (1 + RESOLUTION)

        def allowed(rule: UpdateRule) -> bool:
            run = Run(rule, steps)
            return bool(run.sizes(places(run.mesh(_MESH), 0.0, measure.lam_max), 0.0)[0].max() <= level)

        found = self.searched(start, lambda rule: final_loss(rule, measure, steps), allowed)
        if Run(found, steps).largest(0.0, measure.lam_max, growth).value <= level:
            return found
        limit = largest_lr(found, measure.lam_max, steps, growth)
        return found.replace(lr=min(limit / peak_of(found), 1.0) * found.lr)

    def best(self, start: Any, measure: SpectralMeasure, steps: int) -> Any:
        """The best constants among the stable ones."""
        lam = np.linspace(0, measure.lam_max, _STABLE)

        def allowed(rule: UpdateRule) -> bool:
            return rule.is_scheduled or bool(spectral_radius(rule, lam).max() <= 1 + RESOLUTION)

        return self.searched(start, lambda rule: final_loss(rule, measure, steps), allowed)


def shifted(measure: SpectralMeasure, shift: float) -> SpectralMeasure:
    """The measure with its nodes moved up, as coupled decay does."""
    return SpectralMeasure(measure.nodes + shift, measure.weights, exact=True)


def final_loss(rule: UpdateRule, measure: SpectralMeasure, steps: int) -> float:
    """The loss of any linear rule after its steps, inf where it has left the finite numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not error_row(rule, [steps]):
            found = 0.5 * residual_polynomials(rule, measure.nodes, [steps])[0] ** 2 @ measure.weights
        else:
            joint = require_joint(measure, f"{rule.label} is no step in the error alone")
            (found,) = joint.loss(*error_polynomials(rule, joint.nodes, [steps]))
    return float(found) if np.isfinite(found) else math.inf


def refined(
    rule: Any, loss: Callable[[UpdateRule], float], allowed: Callable[[UpdateRule], bool] | None = None
) -> Any:
    """Improve the peak of lr and momentum by a simplex search in log lr and log (1 - momentum)."""
    momentum = getattr(rule, "momentum", None)

    def build(z: np.ndarray) -> Any:
        changes: dict[str, Any] = {"lr": math.exp(z[0]) * rule.lr}
        if momentum is not None:
            changes["momentum"] = 1 - math.exp(z[1])
            if not 0 <= changes["momentum"] < 1:
                return None
        return rule.replace(**changes)

    least = math.inf

    def objective(z: np.ndarray) -> float:
        nonlocal least
        candidate = build(z)
        value = math.inf if candidate is None else loss(candidate)
        if candidate is not None and value < least:  # what is no better need not be allowed
            if allowed is not None and not allowed(candidate):
                return 800.0
            least = value
        return math.log(value) if 0 < value < math.inf else (-800.0 if value == 0 else 800.0)

    start = np.array([0.0] if momentum is None else [0.0, math.log(1 - min(momentum, 1 - 1e-12))])
    simplex = np.vstack([start, start - 0.1 * np.eye(start.size)])
    options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 400, "initial_simplex": simplex}
    found = scipy.optimize.minimize(objective, start, method="Nelder-Mead", options=options)
    better = build(found.x)
    return better if better is not None and loss(better) < loss(rule) else rule


def _decoupled_heavy_ball(mu: float, L: float, omega: float) -> HeavyBall:
    if mu == L:
        return HeavyBall(1 / (mu + omega), 0.0)

    def constants(s: float) -> tuple[float, float]:
        lr = 4 * s / (L - mu)
        return lr, s**2 / (1 - lr * omega)

    def excess(s: float) -> float:
        lr, momentum = constants(s)
        return (1 - s) ** 2 - lr * (mu + omega * (1 - momentum))

    ends = np.linspace(0, min(1.0, (L - mu) / (4 * omega)), _ROOTS)[:-1]
    below = next((i for i, s in enumerate(ends) if excess(float(s)) <= 0), None)
    if below is None:
        raise ValueError(
            f"weight_decay = {omega:g} is so large beside L = {L:g} that no best constants of HeavyBall are "
            "known; take a smaller one, or without momentum GradientDescent"
        )
    s = scipy.optimize.brentq(excess, float(ends[below - 1]), float(ends[below]), xtol=1e-15)
    return HeavyBall(*constants(float(s)))
