r"""The discrete iteration on quadratics: its exact rate, and the learning rate at which it loses stability.

Both are properties of the characteristic polynomial of one period of the step
(:mod:`odeopt.rules.characteristic`), for large k.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import sympy

from odeopt.checks import is_number, is_symbolic, require_positive, spectral_interval
from odeopt.rates.horizon import GROWTH, largest_lr, peak_of, rate_of_run, run_length
from odeopt.rates.rate import Rate, place_of_largest
from odeopt.rules.base import UpdateRule
from odeopt.rules.characteristic import (
    LR,
    characteristic_polynomial,
    critical_curvatures,
    critical_rates,
    log_radius,
    unstable_at,
    with_rate,
)
from odeopt.rules.linear import (
    limit_matrices,
    require_numeric,
    spectral_radius,
    still_memories,
    transition_matrix,
)
from odeopt.rules.reading import require_linear

__all__ = ["crossover_step", "discrete_rate", "max_learning_rate"]

# Points on which the spectral radius is scanned in floats; where it is largest up to the noise of a multiple
# root, some are decided exactly.
_SCAN, _DECIDED, _FLOAT_NOISE = 801, 16, 1e-5


def discrete_rate(
    rule: UpdateRule,
    mu: float,
    L: float | None = None,
    *,
    time_step: float | None = None,
    num_steps: int | None = None,
) -> Rate:
    r"""Exact rate of the discrete method when the eigenvalues fill [mu, L]: asymptotic, or over one run.

    Parameters
    ----------
    rule : UpdateRule
        Linear, with numeric hyperparameters.
    mu, L : float
        Smallest and largest eigenvalue, 0 < mu <= L.
    time_step : float, optional
        Gives the rate per unit of time t = k * time_step instead of per iteration.
    num_steps : int, optional
        Asks for the mean rate over a run of K steps in place of the asymptotic one. Of a rule with schedules
        there is no other; by default the run ends with them.

    Returns
    -------
    Rate
        Linear, :math:`-2\log\rho` with the spectral radius :math:`\rho` over [mu, L]; for vanishing
        friction the asymptotic factor, :math:`-\log(1-\eta\mu)` for Nesterov, beside which the loss
        has a factor :math:`k^{-r}`. `low` and `high` differ from the value where roots are one multiple root
        up to the rounding of the hyperparameters: they then hold the rates of the roots one by one.
        Over a run :math:`c=-\frac2K\log\max_{[\mu,L]}|P_K|` with the residual polynomial :math:`P_K`: the
        loss falls by :math:`e^{-cK}` at least, and `low` is a bound on c but for rounding.

    Raises
    ------
    ValueError
        If the step is not linear, or varies without a limit; if a schedule has no end and `num_steps` is
        missing; over a run, if it is no step in the error alone (weight decay).

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> print(discrete_rate(GradientDescent(lr=0.1), mu=1.0, L=4.0))
    exp(-0.211 k), exact (discrete iteration)
    >>> from odeopt.rules import Cosine
    >>> print(discrete_rate(GradientDescent(Cosine(0.1, steps=100)), mu=1.0, L=4.0))
    exp(-0.105 k), exact (discrete iteration, mean of 100 steps)
    """
    mu, L = spectral_interval(mu, L)
    require_numeric(rule)
    unit = "iteration" if time_step is None else "time"
    per_step = 1 if time_step is None else require_positive("time_step", time_step)
    steps = _steps_of_run(rule, num_steps)
    if steps:
        require_linear(rule, "rate", equivariant=True, k=steps)
        high, low = (rate / per_step for rate in rate_of_run(rule, mu, L, steps))
        layer = f"discrete iteration, mean of {steps} steps"
        note = "largest residual polynomial of the last step"
        return Rate(high, "linear", "exact", layer, unit, (low, high), note)
    rule = rule.at_step(0)
    decays = not require_linear(rule, "rate", forever=True).equivariant or bool(still_memories(rule))
    scale = -2 / per_step
    value, high, low = (float(scale * log) if log else 0.0 for log in _largest_log_radius(rule, mu, L))
    note = "spectral radius of the step for large k"
    note += ", of the squared distance to the fixed point" if decays else ""
    return Rate(value, "linear", "exact", "discrete iteration", unit, (low, high), note)


def _largest_log_radius(rule: UpdateRule, mu: float, L: float) -> tuple[float, float, float]:
    """Logarithm of the largest spectral radius per step over [mu, L], and an interval around it."""
    polynomial, period = characteristic_polynomial(rule), int(rule.period)
    scanned = np.geomspace(mu, L, _SCAN if mu < L else 1)
    radius = spectral_radius(rule, scanned)
    # Near a multiple root a float radius is off by a root of the rounding: exact arithmetic decides there.
    near = np.flatnonzero(radius >= radius.max() * (1 - _FLOAT_NOISE))
    chosen = scanned[near[np.linspace(0, near.size - 1, min(near.size, _DECIDED)).astype(int)]]
    worst = place_of_largest(lambda lam: spectral_radius(rule, lam), mu, L)
    value, low, high = max(log_radius(polynomial, lam) for lam in {mu, L, worst, *chosen.tolist()})
    return value / period, low / period, high / period


def _steps_of_run(rule: UpdateRule, num_steps: int | None) -> int:
    """Steps of the run that is asked for; 0 where the rule is the same for ever and none is."""
    return run_length(rule, num_steps, needed=False) if num_steps is not None or rule.is_scheduled else 0


def max_learning_rate(
    rule: UpdateRule, lam_max: float, *, num_steps: int | None = None, growth: float | None = None
) -> float:
    r"""Stability limit of the discrete method: the largest lr stable for all eigenvalues up to lam_max.

    Of a rule with schedules it is the largest peak, the largest value of the lr schedule, its shape kept, for
    which the run stays bounded: :math:`|P_k(\lambda)|\le` `growth` for all its steps and all
    :math:`\lambda\in[0,\lambda_{\max}]`.

    Parameters
    ----------
    rule : UpdateRule
        Its lr is immaterial; the other hyperparameters are kept.
    lam_max : float
        Largest eigenvalue of the kernel.
    num_steps : int, optional
        Length of a run; by default, with schedules, up to where all of them are constant or one ends. The
        steps after that must then be stable as well.
    growth : float, optional
        By what factor a run may grow for a while, at least 1; by default 10. For a run alone.

    Returns
    -------
    float
        :math:`2/\lambda_{\max}` for gradient descent, :math:`2(1+\beta)/\lambda_{\max}` for heavy ball,
        eventually :math:`\frac43/\lambda_{\max}` for Nesterov's r/t friction,
        :math:`\frac{2(1+\beta)}{1+\beta-2\nu\beta}/\lambda_{\max}` for quasi-hyperbolic momentum;
        with decay :math:`2(1+\beta)/(\lambda_{\max}+\gamma)` if coupled, else
        :math:`2(1+\beta)/(\lambda_{\max}+(1+\beta)\omega)`.

    Raises
    ------
    ValueError
        If lam_max is not positive, the rule is not linear, it is unstable for every lr or for none, or lr
        enters its step otherwise than as a polynomial in lr or its root. For a run: if `num_steps` is missing
        where no schedule ends, or every lr is bounded.

    Notes
    -----
    The eigenvalues at which a root of the step can cross the unit circle are the zeros of a resultant, found
    in exact arithmetic; between two of them one point decides, so that no window of instability is missed.
    Where lr scales more than the gradient (weight decay, :math:`x(1-\eta\gamma)`), the same is done for lr:
    where the interval of eigenvalues meets a curve of crossings, a resultant or a discriminant vanishes.

    Over a run a peak above the limit of a constant lr is a finite factor, and one below it is no proof for
    momentum. The steps are multiplied out on a mesh of eigenvalues, and between them the degree of the
    polynomials bounds what they are (:func:`odeopt.rates.run_growth`), so that within 8 digits no excess is
    missed; that costs some num_steps^2. Where lr scales more than the gradient, the limit is the crossing
    that factors of 2 of the present lr meet first.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> round(max_learning_rate(HeavyBall(lr=0.1, momentum=0.9), lam_max=2.0), 9)
    1.9
    >>> from odeopt import GradientDescent
    >>> from odeopt.rules import Cosine
    >>> rule = GradientDescent(Cosine(1.0, steps=100))
    >>> [round(max_learning_rate(rule, 1.0, growth=c), 6) for c in (1, 10)]
    [2.0, 2.189103]
    """
    lam_max = require_positive("lam_max", lam_max)
    require_numeric(rule)
    if growth is not None and num_steps is None and not rule.is_scheduled:
        raise ValueError(f"growth = {growth!r} goes with a run: give num_steps, or a rule with schedules")
    steps = _steps_of_run(rule, num_steps)
    if steps:
        found = largest_lr(rule, lam_max, steps, GROWTH if growth is None else growth)
        after = math.inf if num_steps is not None else _limit_after(rule, lam_max, steps)
        return min(found, after)
    rule = rule.at_step(0)
    if not is_number(getattr(rule, "lr", None)):
        raise ValueError(f"{rule.label} has no numeric hyperparameter lr")
    require_linear(rule, "stability limit", forever=True)
    if not _scales_the_gradient_alone(rule):
        return _critical_rate(rule, lam_max)
    limit = float(rule.lr * _critical_curvature(rule) / lam_max)
    if not 0 < limit < math.inf:
        raise ValueError(
            f"lam_max = {lam_max!r} gives a limit of lr beyond the range of float64; rescale the kernel"
        )
    return limit


def _limit_after(rule: UpdateRule, lam_max: float, steps: int) -> float:
    """Largest peak for which the steps after the last change of a schedule are stable, if there are any."""
    if rule.last_step is not None:
        return math.inf
    last = rule.at_step(steps)
    return max_learning_rate(last, lam_max) * (peak_of(rule) / last.lr) if last.lr > 0 else math.inf


def _scales_the_gradient_alone(rule: UpdateRule) -> bool:
    """Whether the spectrum is a function of lr * lam; the matrix need not be, for memories have units."""
    half = rule.replace(lr=rule.lr / 2)
    places = np.array([0.1, 1.0, 3.0]) / rule.lr
    pairs = zip(transition_matrix(rule, places), transition_matrix(half, 2 * places), strict=True)
    return all(np.allclose(np.poly(one), np.poly(other), rtol=1e-9, atol=1e-9) for one, other in pairs)


def _critical_curvature(rule: UpdateRule) -> float:
    """Smallest lam at which the rule, with its own lr, loses stability."""
    polynomial = characteristic_polynomial(rule)
    critical = critical_curvatures(polynomial)
    ends = [Fraction(0), *critical, 2 * critical[-1] if critical else Fraction(1)]
    return _first(
        rule, (low for low, high in itertools.pairwise(ends) if unstable_at(polynomial, (low + high) / 2))
    )


def _critical_rate(rule: UpdateRule, lam_max: float) -> float:
    """Smallest lr at which an eigenvalue up to lam_max loses stability, lr scaling more than the gradient."""
    family, power = _polynomial_in_lr(rule)
    polynomial = characteristic_polynomial(family)
    rates = critical_rates(polynomial, lam_max, rule.label)
    ends = [Fraction(0), *rates, 2 * rates[-1] if rates else Fraction(1)]

    def is_unstable(lr: Fraction) -> bool:
        at_rate = with_rate(polynomial, lr)
        inside = [lam for lam in critical_curvatures(at_rate) if lam < lam_max]
        places = itertools.pairwise([Fraction(0), *inside, Fraction(lam_max)])
        return any(unstable_at(at_rate, (a + b) / 2) for a, b in places)

    least = _first(rule, (low for low, high in itertools.pairwise(ends) if is_unstable((low + high) / 2)))
    return least**power


def _polynomial_in_lr(rule: UpdateRule) -> tuple[UpdateRule, int]:
    """The rule with a power of a symbol as lr, such that its step is a polynomial in it, and that power."""
    entry: Any = None
    for power in (1, 2):
        family = rule.exact().replace(lr=LR**power)
        entries = [v for law in limit_matrices(family) for v in law.entries if is_symbolic(v)]
        entry = next((v for v in entries if not v.is_polynomial(LR)), None)
        if entry is None:
            return family, power
    raise ValueError(
        f"lr enters the step of {rule.label} as {entry.subs(LR, sympy.sqrt(LR))}, which is no polynomial in "
        "lr or its root; no limit of lr follows"
    )


def _first(rule: UpdateRule, unstable_from: Iterable[Fraction]) -> float:
    """The least place from which a rule is unstable, for such there must be beside 0."""
    least = next(iter(unstable_from), None)
    if least is None:
        raise ValueError(f"{rule.label} stays stable for every lr; it has no stability limit")
    if least == 0:
        raise ValueError(
            f"{rule.label} is unstable for every lr: a root of its step lies outside the unit circle however "
            "small lr is; weights of the iterates that sum to 1, a momentum below 1, and a step against the "
            "gradient keep it inside"
        )
    return float(least)


def crossover_step(rule: UpdateRule, mu: float) -> float:
    r"""Step beyond which the ODE of a rule with vanishing friction no longer tells its rate.

    The limiting ODE decays like a power, but the loss of the iteration carries in addition a linear
    factor, :math:`k^{-r}(1-\eta\mu)^k` for Nesterov's method: the Casoratian of its recursion is
    :math:`\prod_k\beta_k(1-\eta\mu)`. At the step returned that factor is 1/e.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.
    mu : float
        Smallest eigenvalue of the kernel, whose mode decays last.

    Returns
    -------
    float
        :math:`-1/\log(1-\eta\mu)\approx1/(\eta\mu)` for Nesterov's method.

    Raises
    ------
    ValueError
        If the friction of the rule does not vanish, so that the ODE itself is linear.

    Examples
    --------
    >>> from odeopt import Nesterov
    >>> round(crossover_step(Nesterov(lr=0.1, r=3), mu=0.05), 2)
    199.5
    """
    if not require_linear(rule, "rate", forever=True).varies:
        raise ValueError(f"the friction of {rule.label} does not vanish, so its ODE decays linearly as well")
    return 1.0 / discrete_rate(rule, mu).value
