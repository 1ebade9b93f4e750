"""Two checkers that share the file format alone agree on stored proofs, on forgeries and on tampering."""

import importlib.resources
import json

import certificate_checker
import jsonschema
import numpy as np
import pytest
from tampering import BASES, documents, outcome, tampered

from odeopt.proofs import families

SCHEMA = json.loads(importlib.resources.files("odeopt.proofs").joinpath("schema.json").read_text())
# Proofs for symbols that take the second checker, which works in plain fractions, more than a second.
LONG = ("triple momentum, symbols", "potential, symbols")


@pytest.mark.parametrize("name", [n for n in BASES if n not in LONG])
def test_the_second_checker_accepts_the_proofs(name):
    assert certificate_checker.verify(BASES[name]().to_json()) is True


@pytest.mark.slow
@pytest.mark.parametrize("make", [getattr(families, n) for n in families.__all__], ids=families.__all__)
def test_the_second_checker_accepts_every_family_for_symbols(make):
    assert certificate_checker.verify(make().to_json()) is True


def test_the_second_checker_refuses_what_is_false():
    proof = json.loads(families.heavy_ball(b=2, mu=1).to_json())
    for change in (
        {"rate": "3/2"},
        {"energy": proof["energy"] + " + 1/10**30*x*v"},
        {"energy": "0"},
        {"remainder": [[e for row in proof["remainder"] for e in row]]},
        {"multipliers": []},
        {"class": {"kind": "quadratic", "mu": "2", "L": None}},
        {"domain": [{"symbol": "p", "lower": "1", "upper": "0", "strict": False}], "point": {"p": "1/2"}},
        {"law": "power"},
    ):
        assert certificate_checker.verify(json.dumps(proof | change)) is not True, change


def disagreement(text):
    """What the two say where they differ; a file that breaks the schema may still hold a true claim."""
    mine, theirs = certificate_checker.verify(text), outcome(text)
    if (
        mine is True
        and theirs == "refused"
        and jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))
    ):
        return f"only the second checker accepts: {text}"
    if mine is True and theirs in ("failed", "contradicted"):
        return f"only the second checker accepts ({theirs}): {text}"
    return f"the second checker refutes: {text}" if mine is False and theirs == "true" else ""


def compare(rounds, seed):
    bases = {name: document for name, document in documents().items() if name not in LONG}
    rng = np.random.default_rng(seed)
    return [found for _ in range(rounds) if (found := disagreement(tampered(bases, rng)[1]))]


def test_the_checkers_agree_on_tampered_proofs():
    assert compare(60, seed=3) == []


@pytest.mark.slow
def test_the_checkers_agree_on_two_thousand_tampered_proofs():
    assert compare(2000, seed=4) == []
