"""Published rules and their equations: each confirmed by its observed order, or refused for a true reason.

On f = x'Ax/2 + sum log cosh(x) the iterates minus the integrated limit fall like the time step (like lr,
where time is counted in its square), but for averages from 0 under a root: they start like 1/sqrt(t).
"""

from itertools import islice

import numpy as np
import published as p
import pytest
import sympy

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    ode_limit,
)
from odeopt.limits import integrate_limit
from odeopt.rules import AdaGrad, RMSProp, SignDescent
from odeopt.rules.base import iterate

h = sympy.Symbol("h", positive=True)
HALF, TENTH = sympy.Rational(1, 2), sympy.Rational(1, 10)
RHO = 1 - h
A = np.array([[1.5, 0.4], [0.4, 0.7]])
X0 = np.array([2.0, -1.5])


def differential(x, *v):
    c = 1 / np.cosh(x) ** 2
    if not v:
        return A @ x + np.tanh(x)
    if len(v) == 1:
        return A @ v[0] + c * v[0]
    return -2 * c * np.tanh(x) * v[0] * v[1]


CONFIRMED = {
    # Cauchy, C. R. Acad. Sci. 1847
    "gradient descent": GradientDescent(h),
    # Polyak, USSR Comput. Math. 1964
    "heavy ball": HeavyBall(h**2, 1 - h),
    # Kovachki, Stuart, JMLR 2021
    "heavy ball, fixed momentum": HeavyBall(h, HALF),
    # Nesterov, Dokl. 1983; Su, Boyd, Candes, JMLR 2016
    "Nesterov": Nesterov(h**2, 3),
    # Nesterov, Introductory Lectures 2004
    "Nesterov, strongly convex": NesterovConstant(h**2, (1 - h) / (1 + h)),
    "Sutskever": p.Sutskever(h**2, 1 - h),
    "Sutskever, fixed momentum": p.Sutskever(h, HALF),
    # Paszke et al., NeurIPS 2019
    "torch, Nesterov": TorchSGD(h**2, 1 - h, nesterov=True),
    # Ma, Yarats, ICLR 2019
    "QHM": QHM(h / 2, 1 - 2 * h, sympy.Rational(7, 10)),
    # Van Scoy, Freeman, Lynch, IEEE Control Syst. Lett. 2018
    "triple momentum": TripleMomentum(
        (1 + RHO) * h**2, RHO**2 / (2 - RHO), RHO**2 / ((1 + RHO) * (2 - RHO)), RHO**2 / (1 - RHO**2)
    ),
    # Bu, Xu, Chen, AISTATS 2021
    "higher momentum": HigherMomentum(h**3, (2 - 3 * h, -(1 - h) * (1 - 2 * h))),
    "aggregated momentum": p.AggMo(h, (0, HALF, sympy.Rational(3, 5))),
    "aggregated momentum, one slow": p.AggMo(h**2, (1 - h, HALF)),
    "Schedule-Free": p.ScheduleFree(h, sympy.Rational(9, 10)),
    "Polyak average": p.PolyakAverage(h),
    "averaged output": p.AveragedOutput(h, 1 - 2 * h),
    "averaged output, fixed": p.AveragedOutput(h, HALF),
    "Lookahead": p.Lookahead(h, HALF),
    "silver steps": p.SilverSteps(h),
    "cyclical heavy ball": p.CyclicalHeavyBall(h**2, 1 - h),
    "Halpern": p.Halpern(h),
    "extragradient": p.Extragradient(h, 3),
    "Popov": p.Popov(h),
    "optimistic gradient": p.Optimistic(h),
    "optimized gradient": p.OptimizedGradient(h**2),
    "heavy ball with k/(k+3)": p.WarmHeavyBall(h**2),
    "polynomial flow": p.Polynomial(h, TENTH),
    "leapfrog with friction": p.LeapfrogFriction(h**2, 1 - h),
    "weight decay": p.Decayed(h**2, 1 - h, HALF),
    "SGDW": p.SGDW(h**2, 1 - h, h / 2),
    "linear decay": p.LinearDecay(h, 2),
    "Demon": p.Demon(h**2, h),
    "PID": p.PID(h**2, 1 - h, h),
    "Lion": p.Lion(h, HALF, 1 - 2 * h, TENTH),
    # Tieleman, Hinton 2012
    "RMSProp, fixed decay": RMSProp(h, HALF, TENTH),
    # Kingma, Ba, ICLR 2015
    "Adam": Adam(h, 1 - 3 * h, 1 - 2 * h, TENTH),
    "AdamW": p.AdamW(h, 1 - 3 * h, 1 - 2 * h, TENTH, HALF),
    "NAdam": p.NAdam(h, 1 - 3 * h, 1 - 2 * h, TENTH, 0),
    "Yogi": p.Yogi(h, 1 - 3 * h, 1 - h / 50, TENTH, 0),
    "Adan": p.Adan(h, 1 - 3 * h, HALF, 1 - 2 * h, TENTH),
    "Adadelta": p.Adadelta(h, 1 - h),
    "normalised gradient": p.Normalised(h),
    "normalised momentum": p.NormalisedMomentum(h, 1 - 2 * h),
    "clipped gradient": p.Clipped(h, 2),
    "LARS": p.LARS(h),
    "sharpness-aware": p.SAM(h, TENTH),
}
# Bernstein et al., ICML 2018: exact until a sign changes
EXACT = {"sign descent": SignDescent(h), "Signum": p.Signum(h, 1 - 2 * h)}
# from 0 under a root: the speed starts like t^(-1/2), and the first steps lose half an order
HALF_ORDER = {
    "RMSProp": RMSProp(h, 1 - 2 * h, 0),
    "centred RMSProp": p.CentredRMSProp(h, 1 - 2 * h, 0),
}
# AdaGrad: Duchi, Hazan, Singer, JMLR 2011; time is counted in lr^2, and the error is O(lr)
IN_SQUARED_STEPS = {"AdaGrad": AdaGrad, "AdaGrad-Norm": p.AdaGradNorm, "Robbins-Monro": p.RobbinsMonro}


def observed_order(rules, horizon=1.0):
    """Slope of the error in the time step, for (numeric rule, its limit, steps to the horizon)."""
    errors, steps = [], []
    for rule, limit, n in rules:
        k = np.arange(n // 4, n + 1, n // 4)
        run = list(islice(iterate(rule, X0, differential), n + 1))
        t = (k + float(getattr(limit, "time_origin", 0))) * horizon / n
        path = integrate_limit(limit, differential, X0, t, rtol=1e-9, atol=1e-10)
        errors.append(np.abs(path.x - np.array([run[i] for i in k])).max())
        steps.append(n)
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def at_steps(family, counts):
    limit = ode_limit(family, h)
    return [(family.at({h: 1.0 / n}), limit.subs({h: 1.0 / n}), n) for n in counts]


@pytest.mark.parametrize("name", CONFIRMED)
def test_iterates_follow_the_limit_to_first_order(name):
    assert observed_order(at_steps(CONFIRMED[name], (160, 320))) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", EXACT)
def test_signs_are_followed_exactly_until_one_changes(name):
    ((rule, limit, n),) = at_steps(EXACT[name], (100,))
    run = list(islice(iterate(rule, X0, differential), n + 1))
    path = integrate_limit(limit, differential, X0, [0.5, 1.0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(path.x, [run[n // 2], run[n]], atol=1e-7)  # the start in sqrt(t) moves by 1e-8


@pytest.mark.parametrize("name", HALF_ORDER)
def test_averages_under_a_root_lose_half_an_order_at_the_start(name):
    assert observed_order(at_steps(HALF_ORDER[name], (400, 1600))) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", IN_SQUARED_STEPS)
def test_steps_that_fall_like_a_root_are_followed_to_first_order_in_lr(name):
    rules = [IN_SQUARED_STEPS[name](float(np.sqrt(1 / n))) for n in (400, 1600)]
    found = [(rule, ode_limit(rule), n) for rule, n in zip(rules, (400, 1600), strict=True)]
    assert [limit.time_step for _, limit, _ in found] == pytest.approx([1 / 400, 1 / 1600])
    assert 2 * observed_order(found) == pytest.approx(1.0, abs=0.1)


REFUSED = [
    (p.MostAccurate(h), ["root of its step lies at -5", "outside the unit circle"]),
    (p.AMSGrad(h, 1 - 3 * h, 1 - 2 * h, TENTH, 0), ["running maximum"]),
    (p.BarzilaiBorwein(h), ["difference of gradients", "does not shrink with h"]),
    (p.Restarted(h**2, 1 - h), [".sum()", "joins the coordinates", "norm and dot"]),
    (p.Muon(h, 1 - h), ["shape"]),
]


@pytest.mark.parametrize(("rule", "words"), REFUSED, ids=lambda v: type(v).__name__)
def test_what_has_no_equation_is_refused_for_a_true_reason(rule, words):
    with pytest.raises(ValueError) as error:
        ode_limit(rule, h)
    for word in words:
        assert word in str(error.value)


def test_a_weakly_unstable_step_follows_its_limit_for_a_fixed_time_and_says_so():
    limit = ode_limit(p.Leapfrog(h), h)
    assert str(limit) == "2*X' + 2*grad f(X) = 0"
    assert "weakly unstable: the root -1" in limit.note
