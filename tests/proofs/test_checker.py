"""Two checkers that share the file format alone agree on stored proofs, on forgeries and on tampering."""

import json

import certificate_checker
import pytest
from tampering import BASES, put
from two_checkers import judge, verdict

from odeopt import Certificate
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


ZERO = "(sqrt(5+2*sqrt(6))-sqrt(2)-sqrt(3))"


@pytest.mark.parametrize(
    ("name", "path", "text", "first", "second"),
    [
        # 0 in other words, which may not divide by what vanishes
        ("heavy ball", ("remainder", 1, 2), "(0)*x_0", "accepted", True),
        ("heavy ball, symbols", ("domain", 0, "lower"), "(0)*f", "accepted", True),
        ("heavy ball", ("remainder", 1, 2), "(0)/x_0", "failed", False),
        ("heavy ball", ("remainder", 1, 2), "0*t**(-1)", "failed", False),
        ("heavy ball", ("energy",), "f/x_1*x_1 + (2*x/3 + v)**2/2", "failed", False),
        ("gradient flow", ("correction",), "(0)/f_1", "failed", False),
        ("potential", ("domain", 0, "lower"), "-(0)", "accepted", True),
        # numbers that are 0 beyond the digits of the second checker
        ("heavy ball", ("remainder", 2, 1), f"{ZERO}**64*2**60", "accepted", None),
        ("potential", ("flow", "gamma"), f"{ZERO}**64*2**60", "accepted", None),
        # the one quadratic of the class, on which V may vanish at b = 2 sqrt(mu)
        ("quadratics, symbols", ("class", "L"), "mu", "failed", None),
        ("heavy ball", ("class", "mu"), "0x1", "refused", False),
        # words that are none of the format
        ("heavy ball", ("format",), "odeopt certificate 3", "refused", False),
        ("heavy ball", ("flow", "kind"), "flows", "refused", False),
        ("gradient descent", ("class", "kind"), "ｓtrongly convex", "refused", False),
        # no point: it holds the symbol that it should place
        ("r/t, convex, symbols", ("point", "t"), "t + 1", "failed", False),
    ],
)
def test_the_checkers_agree_on_what_an_entry_says(name, path, text, first, second):
    document = json.loads(BASES[name]().to_json())
    put(document, path, lambda _: text)
    text = json.dumps(document)
    assert verdict(text)[0] == first
    assert certificate_checker.verify(text) is second


def test_a_certificate_from_a_file_can_be_weakened():
    assert Certificate.from_json(families.heavy_ball(b=2, mu=1).to_json()).weaken(1).verify()


def test_the_checkers_agree_on_a_hundred_tampered_proofs():
    tally = judge(100, seed=0, without=LONG)
    assert tally.wrong == []
    assert sum(tally.pairs.values()) == 100
    assert sum(times for (first, _), times in tally.pairs.items() if first in ("failed", "refused")) > 60


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_the_checkers_agree_on_ten_thousand_tampered_proofs(seed):
    assert judge(2500, seed).wrong == []
