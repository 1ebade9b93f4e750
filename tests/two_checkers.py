"""Tampered certificates before two checkers that share the file format alone, and an oracle in floats.

``python tests/two_checkers.py 2500 1`` judges 2,500 documents drawn from the seed 1, prints what became of
them, and ends with 1 where one was falsely accepted, raised an exception or took more than 5 seconds.
"""

import collections
import dataclasses
import importlib.resources
import json
import sys
import time

import certificate_checker
import jsonschema
import numpy as np
from proof_oracle import contradiction
from tampering import documents, tampered

from odeopt import Certificate

SCHEMA = json.loads(importlib.resources.files("odeopt.proofs").joinpath("schema.json").read_text())
SECOND = {True: "accepted", False: "refuted", None: "undecided"}


def verdict(text):
    """ "refused" as a file, "failed", "undecided" or "accepted", and the certificate that was read."""
    try:
        certificate = Certificate.from_json(text)
    except ValueError:
        return "refused", None
    failed = [check for check in certificate.checks() if not check.holds]
    if not failed:
        return "accepted", certificate
    return "undecided" if all(check.undecided for check in failed) else "failed", certificate


def disagreement(text, first, certificate, second):
    """What the two say where they differ; a file that breaks the schema may still hold a true claim."""
    if first == "accepted" and (missed := contradiction(certificate)):
        return f"accepted, and false in floats: {missed}"
    if second is True and first == "failed":
        return "only the second checker accepts"
    if second is True and first == "refused":
        fits = jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))
        return "the second checker accepts what is refused" if fits else ""
    return "the second checker refutes what is accepted" if second is False and first == "accepted" else ""


@dataclasses.dataclass
class Tally:
    """What the two said of each kind, how they agreed, what was wrong, and the slowest of the package."""

    kinds: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    pairs: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    wrong: list = dataclasses.field(default_factory=list)
    slowest: tuple = (0.0, "")

    def add(self, kind, text):
        began = time.process_time()
        try:
            first, certificate = verdict(text)
            self.slowest = max(self.slowest, (time.process_time() - began, text))
            second = certificate_checker.verify(text)
            found = disagreement(text, first, certificate, second)
        except Exception as error:  # noqa: BLE001 each is a finding, and the count goes on
            self.wrong.append((f"{type(error).__name__}: {error}", text))
            return
        self.kinds[kind, first] += 1
        self.pairs[first, SECOND[second]] += 1
        if found:
            self.wrong.append((found, text))

    def lines(self):
        for counts in (self.kinds, self.pairs):
            yield from (f"{a:16s} {b:13s} {times:6d}" for (a, b), times in sorted(counts.items()))
            yield ""
        yield f"slowest {self.slowest[0]:.2f} s"
        yield f"{len(self.wrong)} wrong of {sum(self.pairs.values())}"
        yield from (f"{reason}: {text}" for reason, text in self.wrong)


def judge(number_of_them, seed, without=()):
    """Return the tally of so many tampered documents."""
    rng, tally = np.random.default_rng(seed), Tally()
    bases = {name: document for name, document in documents().items() if name not in without}
    for _ in range(number_of_them):
        tally.add(*tampered(bases, rng))
    return tally


if __name__ == "__main__":
    found = judge(*map(int, sys.argv[1:3]))
    sys.stdout.write("\n".join((*found.lines(), "")))
    sys.exit(bool(found.wrong) or found.slowest[0] > 5)
