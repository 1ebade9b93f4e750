"""Two checkers that share the file format alone agree on stored proofs, on forgeries and on tampering."""

import json

import certificate_checker
import pytest
from tampering import BASES
from two_checkers import judge

from odeopt.proofs import families

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


def test_the_checkers_agree_on_two_hundred_tampered_proofs():
    tally = judge(200, seed=0, without=LONG)
    assert tally.wrong == []
    assert sum(tally.pairs.values()) == 200
    assert sum(times for (first, _), times in tally.pairs.items() if first in ("failed", "refused")) > 120


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_the_checkers_agree_on_ten_thousand_tampered_proofs(seed):
    assert judge(2500, seed).wrong == []
