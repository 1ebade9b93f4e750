"""Files of certificates: format 2, its schema, forged claims that look true, and tampering at random."""

import dataclasses
import importlib.resources
import json

import jsonschema
import pytest
import sympy
from sympy import Integer, Rational
from tampering import BASES, documents

from odeopt import Certificate
from odeopt.cli.certificate import print_certificate
from odeopt.proofs import families
from odeopt.proofs import flow as names
from odeopt.proofs.build import build
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import quadratic

ZERO = "(sqrt(5+2*sqrt(6))-sqrt(2)-sqrt(3))"


@pytest.mark.parametrize("name", BASES)
def test_every_certificate_fits_the_schema(name):
    schema = json.loads(importlib.resources.files("odeopt.proofs").joinpath("schema.json").read_text())
    document = json.loads(BASES[name]().to_json())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["squares"]["remainder"] is not None
    assert document["squares"]["positivity"] is not None


def test_both_formats_are_read():
    document = json.loads(families.heavy_ball(b=2, mu=1).to_json())
    first = {k: v for k, v in document.items() if k not in ("ends", "point", "squares", "signs")}
    assert Certificate.from_json(json.dumps(first | {"format": "odeopt certificate 1"})).verify()
    with pytest.raises(ValueError, match="wrong or missing entry"):
        Certificate.from_json(json.dumps(document | {"format": "odeopt certificate 1"}))


# Forged claims


def gradient_flow(**changes):
    return {
        "format": "odeopt certificate 1",
        "title": "gradient flow",
        "domain": [],
        "flow": {"kind": "flow", "friction": [], "force": "1", "hessian": "0", "derivatives": {}},
        "class": {"kind": "strongly convex", "mu": "1", "L": None},
        "energy": "f",
        "rate": "2",
        "law": "exponential",
        "correction": "0",
        "multipliers": [{"name": "A(*,x)", "value": "2", "inequality": "f - g*x + x**2/2"}],
        "positivity": [{"name": "G(x)", "value": "1", "inequality": "-f + x**2/2"}],
        "vectors": ["x", "g"],
        "remainder": [["-1", "1"], ["1", "-1"]],
        "search": None,
    } | changes


def read(document):
    return Certificate.from_json(json.dumps(document))


def reason_against(document):
    """The refusal of the reader, or else the first reason of the verification."""
    try:
        return next(iter(failed(read(document)).values()))
    except ValueError as error:
        return str(error)


def failed(certificate):
    return {c.claim: c.reason for c in certificate.checks() if not c.holds}


def test_true_claim_in_the_first_format():
    assert read(gradient_flow()).verify()


def test_remainder_in_one_row_fails():
    forged = read(
        gradient_flow(
            rate="50",
            multipliers=[{"name": "A(*,x)", "value": "50", "inequality": "f - g*x + x**2/2"}],
            remainder=[["-25", "25", "25", "-1"]],
        )
    )
    assert "shape" in failed(forged)["parameters"]


def test_correction_that_moves_fails():
    forged = gradient_flow(
        domain=[
            {"symbol": "t", "lower": "1", "upper": None, "strict": True},
            {"symbol": "s", "lower": None, "upper": None, "strict": False},
        ],
        flow={
            "kind": "flow",
            "friction": ["3/t - s**2/t**2"],
            "force": "1",
            "hessian": "0",
            "derivatives": {"s": "1"},
        },
        energy="f + v**2/2 + 2*v*x/t + 2*x**2/t**2",
        law="power",
        correction="-10*s**2/t**2",
        multipliers=[
            {"name": "A(*,x)", "value": "2/t", "inequality": "f - g*x + x**2/2"},
            {"name": "G(x)", "value": "10*s**2/t**2", "inequality": "-f + x**2/2"},
        ],
        vectors=["x", "v", "g"],
        remainder=[
            ["-(5*s**2*t**2 + 20*s**2 + t**3)/t**4", "-9*s**2/t**3", "0"],
            ["-9*s**2/t**3", "-4*s**2/t**2", "0"],
            ["0", "0", "0"],
        ],
    )
    reasons = failed(read(forged))
    assert set(reasons) == {"rate"}
    assert "moves" in reasons["rate"]


@pytest.mark.parametrize("lower", [f"1/{ZERO}", "1/(1 - 1*sqrt(1))"])
def test_domain_that_divides_by_zero_fails(lower):
    document = gradient_flow(domain=[{"symbol": "p", "lower": lower, "upper": None, "strict": False}])
    assert "zero" in reason_against(document)


def test_rate_of_six_roots_fails_and_one_of_many_is_undecided():
    assert not read(gradient_flow(rate="sqrt(2)+sqrt(3)+sqrt(5)+sqrt(7)+sqrt(11)+sqrt(13)")).verify()
    many = "+".join(f"sqrt({p})" for p in sympy.primerange(60))
    checks = read(gradient_flow(rate=many)).checks()
    assert any(c.undecided and "undecided" in c.reason for c in checks)


def no_energy(lr):
    """V = f - <g, x>/2 is 0 on quadratics, and so falls by any factor."""
    share = Rational(1, 2)
    iteration, functions = Iteration(Integer(lr)), quadratic(Integer(1), Integer(2))
    energy = names.f0 - share * names.g0 * names.x0
    return build(
        "nothing", iteration, functions, energy, Rational(1, 2), {"E(1)": -share, "E(0)": share / 2},
        positivity={"E(0)": share}, law="factor",
    )  # fmt: skip


def test_energy_that_vanishes_on_quadratics_fails():
    assert set(failed(no_energy(100))) == {"energy"}
    assert "vanish on all" in failed(no_energy(100))["energy"]


def test_energy_that_fades_on_quadratics_fails():
    """V = f - (1 - t^-3) <g, x>/2 is t^-3 f on quadratics, while f stands in it with the weight 1."""
    proof, t = families.gradient_flow(mu=1), names.time
    energy = names.f - (1 - t**-3) * names.g * names.x / 2
    faded = dataclasses.replace(
        proof, energy=energy, law="power", rate=Integer(3), function_class=quadratic(Integer(1)),
        domain=(Bound(t, strict=True),),
    )  # fmt: skip
    assert "falls faster" in failed(faded)["energy"]
    assert "away from 0" not in failed(faded).get("rate", "")


def test_energy_that_holds_what_moves_fails():
    proof = families.any_damping()
    assert proof.verify()
    assert "energy" in failed(dataclasses.replace(proof, law="exponential", rate=Integer(1)))


# Entries


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"search": {}}, "wrong or missing entry: search"),
        ({"search": {"optimum": "2", "gap": 0, "bound": "", "steps": 1}}, "wrong or missing entry: search"),
        ({"more": 1}, "wrong or missing entry"),
        ({"title": 5}, "wrong or missing entry: title"),
        ({"rate": "١"}, "unexpected character"),
        ({"rate": "2e1"}, "unexpected character"),
        ({"rate": "0x2"}, "unexpected character"),
        ({"rate": "f(x)"}, "unknown name"),
        ({"rate": "x[0]"}, "unexpected character"),
        ({"rate": "1 if x else 2"}, "unexpected '1 if x else 2'"),
        ({"rate": "2 2"}, "no expression"),
        ({"rate": "-" * 3000 + "1"}, "too deep"),
        ({"remainder": [["1"], ["1", "2"]]}, "differ in length"),
        ({"remainder": "none"}, "wrong or missing entry: remainder"),
        (
            {"domain": [{"symbol": "p", "lower": "0", "upper": None, "strict": 1}]},
            "wrong or missing entry: strict",
        ),
        ({"domain": [{"symbol": "sqrt", "lower": "0", "upper": None, "strict": True}]}, "cannot name"),
        ({"class": {"kind": "convex", "mu": "1", "L": None}}, "convex functions have mu = 0"),
        (
            {
                "flow": {
                    "kind": "flow",
                    "friction": ["1"] * 3,
                    "force": "1",
                    "hessian": "0",
                    "derivatives": {},
                }
            },
            "order 4",
        ),
    ],
    ids=str,
)
def test_wrong_entries_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        read(gradient_flow(**change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(gradient_flow())[:-1] + ', "rate": "2"}', "twice"),
        (json.dumps(gradient_flow()).replace("null", "NaN"), "NaN is no number"),
        (json.dumps(gradient_flow()).replace("null}", "1" * 5000 + "}"), "a number of 5000 digits"),
        ("[" * 100_000, "JSON"),
        (None, "JSON text"),
    ],
)
def test_text_that_is_no_certificate_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Certificate.from_json(text)


def test_evidence_that_belongs_to_another_proof_fails():
    document = json.loads(families.heavy_ball().to_json())
    for change in (
        {"point": document["point"] | {"b": "1"}},
        {"squares": document["squares"] | {"remainder": document["squares"]["positivity"]}},
        {"squares": document["squares"] | {"positivity": []}},
    ):
        assert set(failed(read(document | change))) == {"evidence"}
    assert read(document | {"point": None}).verify()


def test_a_title_is_no_markup(capsys):
    titled = dataclasses.replace(families.gradient_flow(mu=1), title="[/x] gradient [red]flow")
    assert print_certificate(titled)
    assert "[/x] gradient [red]flow" in capsys.readouterr().out


def test_a_false_certificate_is_printed_with_its_reasons(capsys):
    assert not print_certificate(dataclasses.replace(families.gradient_flow(mu=1), rate=Integer(3)))
    assert "NO" in capsys.readouterr().out


# The printed proof


def test_a_proof_is_printed_in_full(capsys):
    assert print_certificate(families.heavy_ball())
    text = capsys.readouterr().out
    for line in (
        "where x means x-x_*, f means f - f_*",
        "V=f + s^2 |x|^2 + 2*s <x, v> + 1/2 |v|^2",
        "d/dt V+2*s V=2*s A(*,x) - (b - 3*s) |s x + v|^2 - s*(mu - b*s + s^2) |x|^2 <= 0",
        "where A(*,x)=f + mu/2 |x|^2 - <x, g> <= 0  (the tangent lies below f",
        "with b=d_b + 3*s,  d_b>= 0",
        "sign: 3*s - b=-d_b <=  0",
        "hence V(t)<= e^(-2*s t) V(0)",
        "at rest V(0)=f + s^2 |x|^2",
        "and f(x(t))-f_*<= mu/(mu - 2*s^2) V",
    ):
        assert line in text, line


def test_moving_symbols_and_ends_are_printed():
    assert r"\dot s=s_{1}" in families.any_damping().latex()
    text = families.nesterov_descent(lr=1, L=1, r=3).latex()
    assert r"f(x_{N+1})-f_\star\le \frac{2}{\left(N + 2\right)^{2}}\lVert x_0\rVert^2" in text
    assert r"V_0\le \frac{1}{2}\lVert x_0\rVert^2" in text


@pytest.mark.parametrize("name", BASES)
def test_every_certificate_is_printed(name):
    text = BASES[name]().latex()
    assert text.count("{") == text.count("}")
    assert text.count("\\left") == text.count("\\right")
    for word in ("V=", r"\le 0", r"\ge 0", "where", "hence"):
        assert word in text


def test_untampered_certificates_are_true():
    assert all(Certificate.from_json(json.dumps(document)).verify() for document in documents().values())


def test_bounds_tell_their_distance():
    s, b = sympy.symbols("s b", real=True)
    assert Bound(s, strict=True).distance == s
    assert str(Bound(b, 3 * s).distance) == "d_b"
    assert Flow().order == 1
