r"""What is known of a rule before it runs: its equations and rates, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from odeopt.dynamics.error import ErrorDynamics, error_dynamics
from odeopt.dynamics.integrate import integrate
from odeopt.dynamics.modes import mode_solution
from odeopt.limits.ode import ode_limit
from odeopt.rates.envelope import steps_envelope, times_fewest
from odeopt.rates.iteration import discrete_rate
from odeopt.rates.rate import Rate, exact_rate
from odeopt.rates.steps import StepsTo
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import HigherMomentum
from odeopt.rules.linear import error_row
from odeopt.spectra.curve import loss_curve
from odeopt.spectra.measure import spectral_measure
from odeopt.studies.check_report import CheckSettings

__all__ = ["RuleTheory"]

# Tolerances of the integration: far below every part of the budget.
_RTOL, _ATOL = 1e-10, 1e-13
_INTEGRATED = 100


class RuleTheory:
    """The equations of a rule, and why there is none where there is none."""

    def __init__(self, rule: UpdateRule, settings: CheckSettings) -> None:
        self.rule: UpdateRule = rule
        self.steps: int = settings.num_steps
        self.notes: dict[str, str] = {}
        regime = settings.hm_regime if isinstance(rule, HigherMomentum) else "natural"
        limit = self._or_note("weight_ode", lambda: ode_limit(rule, regime=regime))
        found = limit and self._or_note("error_ode", lambda: error_dynamics(limit))
        self.dynamics: ErrorDynamics | None = found if isinstance(found, ErrorDynamics) else None
        if found is not None and self.dynamics is None:
            self.notes["error_ode"] = f"no linear ODE in the error: {found}"
        self.weight_ode: str = "" if limit is None else str(limit)
        self.error_ode: str = "" if self.dynamics is None else str(self.dynamics)
        self.latex: str = "" if self.dynamics is None else self.dynamics.latex()
        origin = getattr(limit, "time_origin", None) or 0.0
        self.clock: tuple[float | None, float] = (
            (None, 0.0) if limit is None else (float(limit.time_step), float(origin))
        )

    def rates(
        self,
        ends: tuple[float, float],
        start: tuple[np.ndarray, np.ndarray, np.ndarray | None],
        t: np.ndarray,
    ) -> tuple[Rate | None, Rate | None, dict[str, Any]]:
        """Exact rates of the ODE and of the iteration between two eigenvalues, and the integrated ODE."""
        mu, L = ends
        ode, integrated = None, None
        if (dynamics := self.dynamics) is not None:
            ode = self._or_note("exact_ode", lambda: exact_rate(dynamics, mu, L))
            integrated = self._or_note("integrated", lambda: _integrated(dynamics, start, t))
        step = self.clock[0]
        discrete = self._or_note("exact_discrete", lambda: discrete_rate(self.rule, mu, L, time_step=step))
        return ode, discrete, integrated or {}

    def times_fewest(
        self, start: tuple[np.ndarray, np.ndarray, np.ndarray | None], loss: float, k: int
    ) -> float | None:
        """Gradients of the run over the fewest with which a method that follows them comes as far.

        That bounds no decay to 0, which pulls out of their span, unless J w_0 = 0: then no error shows it.
        """
        kernel, delta0, origin = start
        initial = float(delta0 @ delta0) / 2
        pulled = origin is not None and np.any(origin) and error_row(self.rule, [k])
        if pulled or not 0 < loss < initial:
            return None
        fewest = steps_envelope(spectral_measure(kernel, delta0), loss, max_steps=k)
        return times_fewest(self.rule, StepsTo(k, k, k, True, loss), fewest)

    def _or_note(self, name: str, find: Callable[[], Any]) -> Any:
        try:
            return find()
        except ValueError as error:
            self.notes[name] = str(error)
        return None


def _integrated(
    dynamics: ErrorDynamics, start: tuple[np.ndarray, np.ndarray, np.ndarray | None], times: np.ndarray
) -> dict[str, np.ndarray]:
    """Integrate the dynamics at some recorded times, and compare with the closed form."""
    kernel, delta0, origin = start
    t = times[:: max(1, times.size // _INTEGRATED)]
    scale = float(np.linalg.norm(delta0))
    run = integrate(dynamics, kernel, delta0, t, origin=origin, rtol=_RTOL, atol=_ATOL * scale)
    closed = loss_curve(mode_solution(dynamics), spectral_measure(kernel, delta0, origin=origin), t).loss
    error = np.max(np.abs(run.loss - closed)) / (0.5 * scale**2)
    return {"error": error, "integrated_t": t, "integrated": run.loss}
