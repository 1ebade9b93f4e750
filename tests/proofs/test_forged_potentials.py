"""Potentials with a lie in them, each by hand: both checkers refuse them, and accept the true ones."""

import functools
import json

import certificate_checker
import pytest
from tampering import BASES
from two_checkers import verdict

from odeopt import Certificate
from odeopt.cli.certificate import print_certificate

ZERO = "(sqrt(5+2*sqrt(6))-sqrt(2)-sqrt(3))"
DESCENT, NESTEROV = "potential", "Nesterov potential"


@functools.cache
def stored(name):
    return BASES[name]().to_json()


def inner(entry, **changes):
    """A change of some keys of one entry."""
    return lambda d: d[entry].update(changes)


def outer(**changes):
    return lambda d: d.update(changes)


def both(*changes):
    def change(d):
        for one in changes:
            one(d)

    return change


def multiplier(entry, place, **changes):
    return lambda d: d[entry][place].update(changes)


def of_end(which, *entries):
    """Multipliers of an end, as triples of name, value and inequality."""
    keys = ("name", "value", "inequality")
    return lambda d: d["ends"].update({which: [dict(zip(keys, entry, strict=True)) for entry in entries]})


def parameter(name, **bounds):
    return lambda d: d["domain"].insert(0, {"symbol": name, "upper": None, "strict": False} | bounds)


def all_in(old, new):
    """One text in place of another in all expressions but those of evidence."""

    def change(d):
        d.update(json.loads(json.dumps(d).replace(old, new)))
        d.update(point=None, squares={"remainder": None, "positivity": None}, signs=[])

    return change


def nothing(d):
    """V = 0 with multipliers 0: it does not grow, and says nothing."""
    d.update(energy="0", multipliers=[], positivity=[], remainder=[["0"] * 3] * 3)
    d["squares"] = {"remainder": [], "positivity": []}


# Zeros that the second checker, which knows 400 digits, does not tell from other numbers.
HIDDEN = ("a multiplier 1/0 at the start",)
NO_EVIDENCE = outer(point=None, squares={"remainder": None, "positivity": None}, signs=[])
QUADRATICS = inner("class", kind="quadratic")

FORGERIES = {
    # the constant of the bound, and what is bounded
    "half the bound": (DESCENT, inner("ends", bound="x_0**2/(8*N + 4)")),
    "a billionth less": (DESCENT, inner("ends", bound="x_0**2/(4*N + 2) - x_0**2/10**9")),
    "a bound of nothing": (DESCENT, inner("ends", bound="0")),
    "a negative bound": (DESCENT, inner("ends", bound="-x_0**2/(4*N + 2)")),
    "a bound by the gradient": (DESCENT, inner("ends", bound="g_0**2")),
    "a bound with a cross term": (DESCENT, inner("ends", bound="x_0**2/(4*N + 2) + x_0*g_0")),
    "a bound that moves": (DESCENT, inner("ends", bound="x_0**2*(1 - t)/(4*N + 2)")),
    "a bound that holds t beside N": (DESCENT, inner("ends", bound="x_0**2/(4*N + 2)/(1 + t)")),
    "twice the value": (DESCENT, inner("ends", value="2*f_0")),
    "a value that moves": (DESCENT, inner("ends", value="f_0*(1 + t**2)/(1 + N**2)")),
    "a value that vanishes": (DESCENT, inner("ends", value="0")),
    "a negative value": (DESCENT, inner("ends", value="-f_0")),
    "a value of the gradient": (DESCENT, inner("ends", value="g_0**2")),
    "a value of x": (DESCENT, inner("ends", value="f_0 - x_0**2")),
    "more than the descent lemma": (NESTEROV, inner("ends", value="(N/2 + 1)**2*(f_0 - g_0**2)")),
    "descent for a step too long": (
        DESCENT, both(inner("flow", lr="2"), inner("ends", value="f_0 - g_0**2/2"))
    ),
    "a power too many": (DESCENT, outer(rate="2")),
    "a power that is a parameter": (DESCENT, both(parameter("p", lower="1"), outer(rate="p"), NO_EVIDENCE)),
    "a power that is N": (DESCENT, outer(rate="N")),
    "no power": (DESCENT, outer(rate="0")),
    "a power of Nesterov too many": (NESTEROV, outer(rate="201/100")),
    # the ends
    "no ends": (DESCENT, outer(ends=None)),
    "no multiplier at the end": (DESCENT, of_end("end")),
    "a negative multiplier at the end": (
        DESCENT, of_end("end", ("A(*,0)", "-1/(N + 1)", "f_0 + g_0**2/2 - g_0*x_0"))
    ),
    "a multiplier that is negative at N": (
        DESCENT, of_end("end", ("A(*,0)", "1/(N + 1) + t - N", "f_0 + g_0**2/2 - g_0*x_0"),
                        ("A(0,*)", "t - N - 1", "-f_0 + g_0**2/2")),
    ),
    "another inequality at the end": (DESCENT, of_end("end", ("A(*,0)", "1", "f_0"))),
    "an inequality of the next point": (
        DESCENT, of_end("start", ("A(0,1)", "1/10", "-f_0 + f_1 + g_0**2/2 + g_1**2/2"))
    ),
    "an equality that is not granted": (DESCENT, of_end("end", ("E(0)", "-1", "g_0*x_0 - 2*f_0"))),
    "an inequality of flows": (DESCENT, of_end("start", ("D", "1", "0"))),
    "an unknown inequality": (DESCENT, of_end("start", ("B(0)", "1", "-x_0**2"))),
    "a multiplier 1/0 at the start": (
        NESTEROV, lambda d: d["ends"]["start"][0].update(value=f"1 + {ZERO}/{ZERO}")
    ),
    "a multiplier with a pole at the start": (DESCENT, of_end("start", ("G(0)", "1/t", "-f_0"))),
    # V
    "nothing": (DESCENT, nothing),
    "V with another V that fades": (DESCENT, outer(energy="f_0*t/(2*N - t + 1)")),
    "V that hides f": (DESCENT, both(QUADRATICS, nothing, outer(energy="f_0 - g_0*x_0/2"))),
    "V of the next gradient": (DESCENT, outer(energy="f_0*t/(2*N - t + 1) + g_1**2")),
    # the steps
    "a step beyond 1/L": (DESCENT, inner("flow", lr="3/2")),
    "a momentum that is not there": (DESCENT, inner("flow", beta="1/2")),
    "a smoother class": (DESCENT, inner("class", L="1/2")),
    "a class of any smoothness": (DESCENT, inner("class", L=None)),
    "a friction below 3": (NESTEROV, all_in("(t - 1)/(t + 2)", "(t - 1)/(t + 1)")),
    "gradients elsewhere": (NESTEROV, inner("flow", gamma="0")),
    "steps that know k": (DESCENT, inner("flow", lr="1 + t")),
    # the domain
    "steps after N": (DESCENT, lambda d: d["domain"][1].update(lower="t")),
    "steps before the first": (DESCENT, lambda d: d["domain"][0].update(lower="-1")),
    "the first steps left out": (DESCENT, lambda d: d["domain"][0].update(lower="1")),
    "only few steps": (DESCENT, lambda d: d["domain"][1].update(upper="t + 2")),
    "the ranges in another order": (DESCENT, lambda d: d["domain"].reverse()),
    "a range that is empty": (DESCENT, both(parameter("p", lower="0", upper="-1"), NO_EVIDENCE)),
    "a range that may be empty": (DESCENT, both(parameter("p", lower="0", upper=ZERO), NO_EVIDENCE)),
    "a second horizon": (DESCENT, both(parameter("M", lower="1"), inner("ends", horizon="M"), NO_EVIDENCE)),
    "a horizon that is time": (DESCENT, inner("ends", horizon="t")),
    "a horizon without a range": (DESCENT, inner("ends", horizon="M")),
    # S and the vectors
    "S in one row": (DESCENT, lambda d: d.update(remainder=[[e for row in d["remainder"] for e in row]])),
    "S of no rows": (DESCENT, outer(remainder=[])),
    "S turned round": (DESCENT, lambda d: d.update(remainder=[row[::-1] for row in d["remainder"]])),
    "S of other vectors": (DESCENT, outer(vectors=["g_1", "g_0", "x_0"])),
    "a vector twice": (DESCENT, outer(vectors=["x_0", "x_0", "g_0"])),
    "S that a hidden zero makes positive": (
        NESTEROV, lambda d: d["remainder"][0].__setitem__(0, f"{ZERO} + 1/10**60")
    ),
    # the law
    "a factor": (DESCENT, outer(law="factor")),
    "a power of a flow": (DESCENT, outer(law="power")),
    "a correction": (DESCENT, outer(correction="t")),
    # multipliers of the step
    "an equality of convex functions": (
        DESCENT, lambda d: d["multipliers"].append({"name": "E(0)", "value": "1", "inequality": "0"})
    ),
    "a multiplier negative late": (DESCENT, multiplier("multipliers", 0, value="(t + 1)/(N - 2*t)")),
    "an inequality halved": (
        DESCENT, multiplier("multipliers", 0, inequality="-f_0/2 + f_1/2 + g_0**2/4 + g_1**2/4")
    ),
    # evidence
    "a point outside": (DESCENT, outer(point={"t": "3", "N": "1"})),
    "a point of other names": (DESCENT, outer(point={"t": "1", "M": "3"})),
    "squares of another form": (DESCENT, inner("squares", positivity=[["1", "x_0"]])),
    "squares with the wrong sign": (
        NESTEROV, inner("squares", remainder=[["(t + 3)**2/8", "g_1"], ["-(t + 3)**2/4", "g_1"]])
    ),
}  # fmt: skip


def test_there_are_true_potentials_to_forge():
    for name in (DESCENT, NESTEROV):
        assert verdict(stored(name))[0] == "accepted"
        assert certificate_checker.verify(stored(name)) is True


@pytest.mark.parametrize("name", FORGERIES)
def test_both_checkers_refuse_a_forged_potential(name):
    base, change = FORGERIES[name]
    document = json.loads(stored(base))
    change(document)
    text = json.dumps(document)
    assert text != json.dumps(json.loads(stored(base)))
    said, certificate = verdict(text)
    assert said in ("refused", "failed")
    assert certificate_checker.verify(text) is (None if name in HIDDEN else False)
    if certificate is not None:
        assert not print_certificate(certificate)
        with pytest.raises(ValueError, match="is not proved"):
            certificate.latex()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"value": "f_0"}, "f(y_N)"),
        ({"value": "f_0 - g_0**2/4"}, "f(y_N - 1*g_N)"),
    ],
)
def test_the_bound_is_one_of_f_where_the_value_takes_it(change, place):
    """Of the iterate only where y_N - lr g_N is one."""
    document = json.loads(stored(NESTEROV))
    document["flow"]["beta"] = "0"
    document["ends"].update(change)
    assert place in str(Certificate.from_json(json.dumps(document)))


def test_the_value_after_a_step_is_one_of_the_next_iterate():
    document = json.loads(stored(DESCENT))
    document["ends"].update(value="f_0 - g_0**2/4")
    assert "f(x_(N+1))" in str(Certificate.from_json(json.dumps(document)))


@pytest.mark.parametrize("old", ['"rate": "1"', '"bound": "x_0**2/(4*N + 2)"', '"symbol": "N"'])
def test_both_checkers_refuse_a_key_that_stands_twice(old):
    assert old in stored(DESCENT)
    text = stored(DESCENT).replace(old, f"{old}, {old}", 1)
    assert verdict(text)[0] == "refused"
    assert certificate_checker.verify(text) is False
