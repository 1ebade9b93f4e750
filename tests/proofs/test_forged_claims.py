"""Claims forged by hand: what both checkers must refuse, and what no method may say of an unproved claim."""

import dataclasses
import json

import certificate_checker
import pytest
import sympy
from flint import fmpz_poly
from sympy import Rational, Symbol
from tampering import documents

from odeopt import Certificate
from odeopt.proofs import families, witness
from odeopt.proofs.exact.roots import WORK, Roots, UndecidedError


def first_format(name, **changes):
    """A document without evidence, with some of its entries changed."""
    kept = {k: v for k, v in documents()[name].items() if k not in ("ends", "point", "squares", "signs")}
    return json.loads(json.dumps(kept)) | {"format": "odeopt certificate 1"} | changes


@pytest.mark.parametrize("entry", ["f + 0*sqrt(x - 5)", "f + sqrt(x)**2 - x", "f*sqrt(g)/sqrt(g)"])
def test_a_root_of_what_is_no_number_is_refused_also_where_it_cancels(entry):
    text = json.dumps(first_format("gradient flow", energy=entry))
    with pytest.raises(ValueError, match="a root of what is no number"):
        Certificate.from_json(text)
    assert certificate_checker.verify(text) is False


def faster_for_a_while(lower):
    """Gradient flow with V = (1 + 1/t) f, and the rate 2/(1 + p) > 2 for p < 0."""
    c, V = "2/(1 + p)", "(1 + 1/t)"
    pull = f"{c}*{V}"
    ranges = [("t", "1"), ("p", lower)]
    return {
        "format": "odeopt certificate 1", "title": "for a while", "law": "exponential", "correction": "0",
        "domain": [{"symbol": s, "lower": low, "upper": None, "strict": False} for s, low in ranges],
        "flow": {"kind": "flow", "friction": [], "force": "1", "hessian": "0", "derivatives": {}},
        "class": {"kind": "strongly convex", "mu": "1", "L": None}, "energy": f"{V}*f", "rate": c,
        "multipliers": [{"name": "A(*,x)", "value": pull, "inequality": "f - g*x + x**2/2"},
                        {"name": "G(x)", "value": "1/t**2", "inequality": "x**2/2 - f"}],
        "positivity": [{"name": "G(x)", "value": V, "inequality": "x**2/2 - f"}], "vectors": ["x", "g"],
        "remainder": [[f"-({pull} + 1/t**2)/2", f"{pull}/2"], [f"{pull}/2", f"-{V}"]], "search": None,
    }  # fmt: skip


@pytest.mark.parametrize(("lower", "holds"), [("1/t**2", True), ("0", True), ("-1/(4*t*(t + 1))", False)])
def test_a_range_that_closes_in_on_zero_from_below_ends_the_times(lower, holds):
    text = json.dumps(faster_for_a_while(lower))
    certificate = Certificate.from_json(text)
    assert certificate.verify() is holds
    assert all(check.holds for check in certificate.checks() if check.claim != "rate")
    assert certificate_checker.verify(text) is not True


def test_a_curvature_that_grows_is_refused_by_both_checkers():
    content = first_format(
        "gradient flow",
        domain=[{"symbol": "t", "lower": "1", "upper": None, "strict": False}],
        multipliers=[{"name": "A(*,x)", "value": "2", "inequality": "f - g*x + t*x**2/2"}],
        positivity=[{"name": "G(x)", "value": "1", "inequality": "t*x**2/2 - f"}],
        vectors=["x", "g"],
        remainder=[["-t", "1"], ["1", "-1"]],
    )
    content["class"]["mu"] = "t"
    failed = {check.claim for check in Certificate.from_json(json.dumps(content)).checks() if not check.holds}
    assert failed == {"parameters"}
    assert certificate_checker.verify(json.dumps(content)) is False


def test_multipliers_of_the_ends_hold_no_vectors():
    content = json.loads(json.dumps(documents()["Nesterov potential"]))
    content["ends"]["start"][0]["value"] = "x_0**2"
    text = json.dumps(content)
    reasons = {c.claim: c.reason for c in Certificate.from_json(text).checks() if not c.holds}
    assert "holds a vector or a value" in reasons["energy"]
    assert certificate_checker.verify(text) is False


@pytest.mark.parametrize(
    "say",
    [Certificate.to_rate, Certificate.value_constant, Certificate.latex, witness],
    ids=lambda f: f.__name__,
)
def test_nothing_is_said_of_a_claim_that_is_not_proved(say):
    forged = Certificate.from_json(families.heavy_ball(b=2, mu=1).to_json().replace("4/3", "5/3"))
    with pytest.raises(ValueError, match="heavy ball is not proved, so"):
        say(forged)


@pytest.mark.parametrize(
    ("make", "beyond", "granted"),
    [
        (
            lambda: families.heavy_ball(b=2, mu=1),
            (2, Rational(4, 3) + Rational(1, 10**30), 0, -1),
            (1, Rational(4, 3)),
        ),
        (lambda: families.gradient_descent(Rational(2, 5), 1, 4), (Rational(1, 10), 2), (Rational(9, 25), 1)),
        (lambda: families.nesterov_descent(lr=1, L=1, r=3), (Rational(5, 2), 0), (1, 2)),
    ],
    ids=["rate", "factor", "power of a potential"],
)
def test_a_weaker_claim_is_proved_and_a_stronger_or_empty_one_refused(make, beyond, granted):
    certificate = make()
    for rate in beyond:
        with pytest.raises(ValueError, match="is beyond the proved"):
            certificate.weaken(rate)
    assert all(certificate.weaken(rate).verify() for rate in granted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": "1"}, "rate must be a finite number"),
        ({"energy": None}, "energy must be a finite number"),
        ({"multipliers": (1,)}, "multipliers of a certificate must be Multiplier"),
        ({"domain": None}, "domain of a certificate must be tuple or list"),
        ({"remainder": [[1]]}, "remainder of a certificate must be MatrixBase"),
        ({"flow": None}, "flow of a certificate must be Flow or Iteration"),
        ({"vectors": ("x",)}, "vectors of a certificate must be Symbol"),
    ],
)
def test_fields_of_other_types_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(families.heavy_ball(b=2, mu=1), **change)


def test_a_number_is_read_as_an_exact_one():
    certificate = families.gradient_flow(mu=1)
    assert dataclasses.replace(certificate, rate=2).verify()
    assert not dataclasses.replace(certificate, rate=2.5).verify()


# Roots of polynomials in one distance


def test_positive_roots_are_those_that_sympy_counts(rng):
    x = Symbol("x")
    seen = set()
    for _ in range(150):
        # a square that is all but touched, and another factor
        a, b, c, d = (int(n) for n in rng.integers(-4, 5, size=4))
        p = sympy.Poly((x**2 + a * x + b) ** 2 * 1000 + c * x**3 + d, x)
        for factor, _ in p.factor_list()[1]:
            if factor.eval(0) and factor.degree():
                coefficients = [int(n) for n in reversed(factor.all_coeffs())]
                found = Roots(1, WORK).has_positive_root(fmpz_poly(coefficients))
                assert found == (factor.count_roots(0, None) > 0), factor
                seen.add(found)
    assert seen == {True, False}


def test_roots_far_from_one_and_close_to_each_other_are_decided_or_left_open():
    for size in (-400, 400):  # x^2 - 3 scaled, and x^2 + 3
        shift = 4 ** abs(size)
        coefficients = (-3 * shift, 0, 1) if size > 0 else (-3, 0, shift)
        assert Roots(1, WORK).has_positive_root(fmpz_poly(list(coefficients)))
        assert not Roots(1, WORK).has_positive_root(fmpz_poly([-coefficients[0], 0, coefficients[2]]))

    def beside(bits):
        """-x^60 - 2 (2^bits x - 1)^2 touches 0 up to 2^(-60 bits)."""
        return fmpz_poly([-2, 4 << bits, -2 << 2 * bits, *[0] * 57, -1])

    assert not Roots(1, WORK).has_positive_root(beside(10))
    with pytest.raises(UndecidedError):
        Roots(1, WORK).has_positive_root(beside(4000))


def test_files_beyond_all_measure_are_refused_for_their_length():
    text = json.dumps(first_format("gradient flow", title="x" * 300_000))
    with pytest.raises(ValueError, match="at most 300000 characters"):
        Certificate.from_json(text)


P = {"symbol": "p", "lower": "1", "upper": None, "strict": False}
_PRODUCT = "*".join(f"(p**{60 - i} - {i + 2}*p**{7 + i} + 1/3**40)" for i in range(20))
LONG = {
    "a tower of powers": ("((((p)**64)**64)**64)**64 + 1", [P]),
    "bounds within bounds": (
        "p5**2 - p4",
        [P | {"symbol": "p0"}]
        + [P | {"symbol": f"p{j}", "lower": f"(p{j - 1}**7 + 1)**5"} for j in range(1, 6)],
    ),
    "a product of many factors": (_PRODUCT, [P]),
}


@pytest.mark.parametrize("name", LONG)
def test_what_would_take_long_is_undecided(name):
    rate, ranges = LONG[name]
    text = json.dumps(first_format("gradient flow", rate=rate, domain=ranges))
    checks = {check.claim: check for check in Certificate.from_json(text).checks()}
    assert any(check.undecided for check in checks.values())
    assert not all(check.holds for check in checks.values())
    assert certificate_checker.verify(text) is not True


def test_ranges_beyond_all_measure_are_refused_for_their_number():
    ranges = [P | {"symbol": f"p{j}"} for j in range(51)]
    text = json.dumps(first_format("gradient flow", domain=ranges))
    with pytest.raises(ValueError, match="at most 50 ranges, got 51"):
        Certificate.from_json(text)
    assert certificate_checker.verify(text) is False
    assert (
        certificate_checker.verify(json.dumps(first_format("gradient flow", domain=ranges[1:]))) is not False
    )
