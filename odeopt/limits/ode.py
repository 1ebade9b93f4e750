r"""From an update rule to its continuous-time limit, by running the rule on samples of a curve.

The step of the rule is read on :math:`x_{k-j}=X(t-jh)`, t = (k + origin) h. The residual

.. math:: R(h)=X(t+h)-\mathrm{step}\bigl(X(t),X(t-h),\dots\bigr)

is Taylor-expanded in h; its first nonvanishing order is the limiting ODE, the next orders are its
corrections. Nothing is looked up.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, overload

from sympy import Expr, Integer, Symbol

from odeopt.checks import is_number
from odeopt.limits.adaptive import SystemLimit, system_limit
from odeopt.limits.clock import correspondences
from odeopt.limits.derivation import Derivation
from odeopt.limits.derivation_lines import derivation_steps, on_curve, shifted
from odeopt.limits.elimination import ScalarEquation
from odeopt.limits.equation import ODELimit, with_terms
from odeopt.limits.family import equation_of, family_of, forgets, readable_step, scaled
from odeopt.limits.read_step import read_step
from odeopt.limits.scheduled import Embedding, embedding, scheduled_system, symbols_of, with_schedules
from odeopt.limits.series import GradientDifferential, NoLimitError
from odeopt.limits.stability import require_zero_stable, time_origin
from odeopt.limits.start import initial_data, require_smooth_start
from odeopt.limits.text import in_powers, readable
from odeopt.rules.adaptive import AdaGrad, Adam, RMSProp, SignDescent
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import fraction_meant
from odeopt.rules.forms import CONSTANT
from odeopt.rules.pieces import exact_number
from odeopt.rules.reading import Reading

__all__ = ["ODELimit", "ode_limit"]

REGIMES = ("natural", "fixed", "inertial")
FORMS = ("normal", "raw")
CLOCKS = ("centred", "naive")
# The number of terms of a correction grows faster than exponentially with its order.
MAX_RESOLUTION = 6


@overload
def ode_limit(
    rule: SignDescent | RMSProp | Adam | AdaGrad,
    h: Symbol | None = None,
    *,
    resolution: int = 0,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    form: Literal["normal", "raw"] = "normal",
    clock: Literal["centred", "naive"] = "centred",
) -> SystemLimit: ...
@overload
def ode_limit(  # a rule of one's own that is adaptive has a SystemLimit, which no annotation can foresee
    rule: UpdateRule,
    h: Symbol | None = None,
    *,
    resolution: int = 0,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    form: Literal["normal", "raw"] = "normal",
    clock: Literal["centred", "naive"] = "centred",
) -> ODELimit: ...
def ode_limit(
    rule: UpdateRule,
    h: Symbol | None = None,
    *,
    resolution: int = 0,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    form: Literal["normal", "raw"] = "normal",
    clock: Literal["centred", "naive"] = "centred",
) -> ODELimit | SystemLimit:
    r"""Derive the limiting ODE of an update rule, and its corrections in the time step.

    Parameters
    ----------
    rule : UpdateRule
        Either with hyperparameters that are functions of `h`, or with fixed ones.
    h : sympy.Symbol, optional
        The time step, t = k h. Without it the hyperparameters are fixed and the time scale
        :math:`t=k\eta^p` is found by dominant balance (:func:`odeopt.limits.time_scale`).
    resolution : int
        0 for the limit itself, q for its corrections up to :math:`h^q`; the curve then follows the
        iterates to order q + 1. With friction r/t the time origin comes with it, and for q = 1 a factor
        log h where weights hold a term in 1/k^2, as torch's form of Nesterov's method does.
    regime : {"natural", "fixed", "inertial"}
        How a rule with numbers is embedded in a family, see :meth:`UpdateRule.scaling`: "fixed"
        keeps the momenta (t = k lr), "inertial" lets them tend to 1 (t = k sqrt(lr) for one).
    form : {"normal", "raw"}
        "normal" isolates the highest derivative of the limit and writes corrections in lower ones;
        "raw" is the residual as it was expanded, with the higher derivatives of the literature's
        modified equations.
    clock : {"centred", "naive"}
        For a rule with numbers at resolution 0: "centred" takes time step, origin and coefficients of
        second order from :func:`odeopt.limits.correspondences`, where there are such (else the note of
        the limit says why not); "naive" takes t = k lr^p.

    Returns
    -------
    ODELimit or SystemLimit
        The latter for adaptive methods, whose step is not linear: a system for X and the running
        averages.

    Raises
    ------
    ValueError
        If the rule has no limit: gradient and derivatives do not balance, the highest derivative
        vanishes, or the step takes gradients at more points than it declares.

    Notes
    -----
    With momentum :math:`\beta` fixed, heavy ball and Nesterov share the limit
    :math:`(1-\beta)\dot X+\nabla f(X)=0` (Kovachki and Stuart, JMLR 22(17), 2021). The corrections of
    heavy ball and Nesterov's methods at resolution 1 are the high-resolution ODEs of Shi, Du, Jordan
    and Su, arXiv 1810.08907.

    Schedules are functions of t: with numbers the family is that of their largest values, in which
    :math:`\eta_k=h^{1/p}s(kh)` and :math:`\beta_k=1-h\,b(kh)` for momenta that tend to 1; in h, write for
    example ``Linear(h**2, steps=T/h)``. The note of the limit says what was taken. A learning rate outside
    the buffer, as torch's, changes the friction to :math:`b-\dot s/s`. Gradients here have no noise, and
    without it a decay does not help: while all learning rates times the largest eigenvalue are at most 1, the
    constant of the largest rate has the smallest loss.

    Examples
    --------
    >>> import sympy
    >>> from odeopt.rules.classical import HeavyBall, Nesterov
    >>> h, b, r = sympy.symbols("h b r", positive=True)
    >>> print(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))
    X'' + b*X' + grad f(X) = 0
    >>> limit = ode_limit(Nesterov(lr=h**2, r=r), h, resolution=1)
    >>> print(limit, "| time origin", limit.time_origin)
    X'' + (r/t)*X' + (1 + h*r/(2*t))*grad f(X) + h*grad^2 f(X)[X'] = 0 | time origin r/2 - 1
    >>> limit = ode_limit(Nesterov(lr=0.01, r=3))
    >>> print(limit, "| time step", limit.time_step)
    X'' + (3/t)*X' + grad f(X) = 0 | time step 0.1
    >>> from odeopt.rules import Linear, TorchSGD
    >>> limit = ode_limit(TorchSGD(Linear(0.01, steps=100), momentum=0.9))
    >>> print(limit, "|", limit.schedules)
    X'' + (1 - s'(t)/s(t))*X' + s(t)*grad f(X) = 0 | {s(t): Piecewise((1 - t/10, t < 10), (0, True))}
    """
    _validate(resolution, regime, form, clock)
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {rule!r} of type {type(rule).__name__}")
    if h is not None:
        _require_dependence(rule, h)
    return _derived(rule, h, resolution, regime, form, clock)


@functools.lru_cache(maxsize=256)
def _derived(
    rule: UpdateRule, h: Symbol | None, resolution: int, regime: str, form: str, clock: str
) -> ODELimit | SystemLimit:
    """The limit; a rule is derived once."""
    given = h is not None
    h = Symbol("h", positive=True) if h is None else h
    slow = embedding(rule, h, given, regime) if rule.is_scheduled else None
    reading = readable_step(rule if slow is None else slow.family)
    if not reading.linear or any(CONSTANT in form.terms for form in reading.start):
        return _system(rule, h, given, regime, resolution, slow)
    if slow is not None:
        family, values, time_step = slow.family, slow.values, slow.time_step
    else:
        family, values, time_step = (rule.exact(), {}, h) if given else family_of(rule, h, regime)
    equation = equation_of(family, h)
    if equation is None or not forgets(equation, h):
        _require_one_step(reading, h)
        return _system(rule, h, given, regime, resolution, slow)
    limit = _limit(rule, equation, h, time_step, values, resolution, form)
    if slow is not None:
        return with_schedules(limit, slow)
    limit = with_terms(
        limit,
        {readable(v): readable(c) for v, c in limit.terms.items()},
        initial_position=readable(limit.initial_position),
        initial=tuple(map(readable, limit.initial)),
    )
    if not given and clock == "centred" and resolution == 0 and rule.is_numeric and form == "normal":
        return _improved(limit, values)
    return limit


def _require_one_step(reading: Reading, h: Symbol) -> None:
    """Refuse the way to a system, which is read from one step, to a rule with a longer period."""
    if reading.period > 1:
        raise NoLimitError(
            f"no equation for the iterates of {reading.rule.label} alone was found: over its period of "
            f"{reading.period} steps, memories (averages, or earlier iterates) that do not forget as "
            f"{h} -> 0 are seen by gradient points alone; this says nothing of its iterates. Let them forget "
            f"(decays away from 1 as {h} -> 0), or take the same step at every k"
        )


def _validate(resolution: Any, regime: str, form: str, clock: str) -> None:
    if (
        not isinstance(resolution, int)
        or isinstance(resolution, bool)
        or not 0 <= resolution <= MAX_RESOLUTION
    ):
        raise ValueError(
            f"resolution must be an integer from 0 to {MAX_RESOLUTION}, got {resolution!r}; the number of "
            "terms of a correction grows faster than exponentially with its order"
        )
    for name, value, known in (("regime", regime, REGIMES), ("form", form, FORMS), ("clock", clock, CLOCKS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def _require_dependence(rule: UpdateRule, h: Any) -> None:
    if not isinstance(h, Symbol):
        raise ValueError(f"h must be a sympy Symbol, got {h!r} of type {type(h).__name__}")
    if h not in symbols_of(rule):
        raise ValueError(
            f"no hyperparameter of {rule.label} depends on h = {h}; write for example lr={h}**2, "
            "or leave h out to keep them fixed"
        )


def _system(
    rule: UpdateRule, h: Symbol, given: bool, regime: str, resolution: int, slow: Embedding | None
) -> SystemLimit:
    """Limit of a rule whose step is not linear, or whose averages cannot be eliminated."""
    if slow is not None:
        return scheduled_system(rule, h, slow, resolution)
    found = None if given else scaled(rule, h, regime)
    if found is None:
        return system_limit(rule, h, resolution=resolution)
    family, values, time_step = found
    return system_limit(rule, h, family=family, values=values, time_step=time_step, resolution=resolution)


def _limit(
    rule: UpdateRule,
    equation: ScalarEquation,
    h: Symbol,
    time_step: Any,
    values: Mapping,
    resolution: int,
    form: str,
) -> ODELimit:
    """Run the derivation and put its result on the curve X(t)."""
    origin = time_origin(equation, h) if resolution else Integer(0)
    derivation = Derivation(equation, h, resolution, origin)
    if derivation.obstacle:
        raise NoLimitError(f"{rule.label} has no limit: {derivation.obstacle}")
    warning = require_zero_stable(derivation)
    right = derivation.normal_form()
    data = initial_data(derivation, right)
    if resolution:
        require_smooth_start(derivation, data)
    if resolution == 0:
        terms = derivation.leading
    elif form == "raw":
        terms = derivation.raw()
    else:
        terms = derivation.tidy(derivation.curve[derivation.order] - right)
    start = tuple(on_curve(derivation, e) for e in data)
    steps = derivation_steps(derivation, terms, start, form)
    numbers = dict(values) | ({h: exact_number(fraction_meant(time_step))} if is_number(time_step) else {})
    return ODELimit(
        rule=rule,
        family=derivation.family,
        h=h,
        t=derivation.t,
        terms=MappingProxyType(
            {on_curve(derivation, v).subs(numbers): in_powers(c, h).subs(numbers) for v, c in terms.items()}
        ),
        time_step=time_step,
        initial_position=start[0].subs(numbers),
        initial=tuple(e.subs(numbers) for e in start[1:]),
        steps=steps,
        resolution=resolution,
        time_origin=origin.subs(numbers),
        accuracy=resolution + 1,
        note=f"t = {shifted('k', origin)} {h}{_between(derivation)}{warning}",
        reading=read_step(derivation.step.reading),
    )


def _between(derivation: Derivation) -> str:
    """What the curve says of the iterates within a period."""
    p = derivation.period
    return f"; at multiples of {p}, and within a period up to O({derivation.h})" if p > 1 else ""


def _improved(limit: ODELimit, values: Mapping[Symbol, float]) -> ODELimit:
    """Put the numbers of a rule on the centred clock; the limit itself where there is no better one."""
    if any(c.has(limit.t) for c in limit.coefficients):
        return replace(limit, note=f"{limit.note}; no better clock: its coefficients depend on time")
    try:
        best = correspondences(limit.family, limit.h)[-1]
    except ValueError as error:
        return replace(limit, note=f"{limit.note}; no better clock: {error}")
    if best.order == 1:
        return replace(limit, note=f"{limit.note}; no better clock: {best.reason}")
    numbers = {s: float(v) for s, v in {**values, limit.h: limit.time_step}.items()}
    vectors = [limit.curve.diff(limit.t, j) for j in range(1, limit.order + 1)]
    terms = {v: _number(c, numbers) for v, c in zip(vectors[::-1], best.coefficients[::-1], strict=True)}
    terms = {v: c for v, c in terms.items() if c != 0}
    terms[GradientDifferential(limit.curve)] = best.gradient
    return with_terms(
        limit,
        terms,
        time_step=float(best.time_step.subs(numbers)),
        time_origin=best.origin.subs(numbers),
        accuracy=best.order,
        note=f"centred clock: {best.reason}",
    )


def _number(coefficient: Expr, numbers: Mapping) -> Expr:
    value = coefficient.subs(numbers)
    return value if value.is_Rational else value.evalf()
