"""A certificate with unknown entries at the numbers of one flow, and its LMI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from flint import fmpq
from sympy import Expr, Rational, Symbol

from odeopt.proofs.build import build
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.field import Field
from odeopt.proofs.exact.signs import nearest_float, short_text
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.form import Form, derived, in_symbols
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.lmi import Answer

__all__ = ["Template", "require_in_range"]


def require_in_range(least: float, *constants: Expr | None) -> None:
    """Refuse mu and L with which floats overflow or underflow."""
    for value in constants:
        if value is not None and not least < nearest_float(value) < 1 / least:
            raise ValueError(
                f"mu and L must lie between {least:g} and {1 / least:g}, where the floats of a search can be "
                f"trusted, got {short_text(value)}; divide f by a number and multiply lr, or the force, by "
                "it, and the iterates stay the same"
            )


class Template:
    r"""The form of a certificate at the numbers of one flow and one class of functions."""

    def __init__(
        self,
        flow: Flow | Iteration,
        functions: FunctionClass,
        energy_vectors: Sequence[Symbol],
        names: Sequence[str],
        scales: Mapping[Any, float],
        positivity: Sequence[str],
        small: Sequence[Sequence[str]] = (),
    ) -> None:
        require_in_range(1e-152, functions.mu, functions.L)  # its squares are needed
        self.flow: Flow | Iteration = flow
        self.functions: FunctionClass = functions
        self.small: tuple[Sequence[str], ...] = tuple(small)
        self._given: tuple = (tuple(energy_vectors), tuple(names), tuple(positivity))
        self._scales: Mapping[Any, float] = scales
        self.form: Form
        self.values: dict[Symbol, Expr]
        self.form, self.values, values = self._chosen()
        self._compile(values)

    def _chosen(self) -> tuple[Form, dict[Symbol, Expr], list[fmpq]]:
        """The form for symbols, or at numbers where that is another, or that are no fractions, their own."""
        flow, functions, values = in_symbols(self.flow, self.functions)
        if all(e.is_Rational for e in values.values()):
            form = derived(flow, functions, *self._given)
            numbers = form.values({s: fmpq(int(e.p), int(e.q)) for s, e in values.items()})
            if form.is_that_of(numbers):
                return form, values, numbers
        form = derived(self.flow, self.functions, *self._given)
        if form.impossible:
            raise ValueError(f"no energy f + quadratic form can certify {self.flow} on {self.functions}")
        return form, {}, form.values({})

    def _compile(self, values: list[fmpq]) -> None:
        """Keep the LMI as a numerical function of the rate."""
        scales, unit, vectors = self._scales, self._scales["rate"], self._given[0]
        root = 1 / np.sqrt(unit)
        sizes = {"S": root, "T": 1.0, "weight": root}
        outer = np.array([sizes[block] * scales.get(s, 1.0) for block, s in self.form.labels])
        entries = {p: 1 / math.prod(scales[vectors[i]] for i in ij) for ij, p in self.form.entries.items()}
        self.scale: np.ndarray = np.array([entries.get(s, unit) for s in self.form.unknowns])
        factors = np.concatenate([[1.0], self.scale])[:, None, None]
        self._matrices: np.ndarray = self.form.matrices(values) * np.outer(outer, outer) * factors

    def lmi(self, c: float) -> np.ndarray:
        """The matrices of the LMI at a rate, shape (1 + unknowns, n, n)."""
        return np.tensordot(c ** np.arange(len(self._matrices)), self._matrices, 1)

    def decay(self, rate: Expr) -> Expr:
        """Return what stands in the identity: the rate of a flow, 1 - rate for the factor of an iteration."""
        return 1 - rate if isinstance(self.flow, Iteration) else rate

    def reduced(self, names: Sequence[str]) -> Template:
        """Return the template with only some of the inequalities."""
        vectors, _, positivity = self._given
        return Template(self.flow, self.functions, vectors, names, self._scales, positivity)

    def ask(
        self, c: float, solver: Callable[..., Answer], start: Any = None, *, box: Any = None, **options: Any
    ) -> Answer:
        """Return the answer of a solver at one rate, with unknowns in a box."""
        F0, F = (matrices := self.lmi(c))[0], matrices[1:]
        if box is not None:
            k, n = len(F), len(F0)
            F0 = np.block([[F0, np.zeros((n, 2 * k))], [np.zeros((2 * k, n)), np.eye(2 * k)]])
            F = np.array([np.pad(m, (0, 2 * k)) for m in F]).reshape(k, n + 2 * k, n + 2 * k)
            i = np.arange(k)
            F[i, n + i, n + i], F[i, n + k + i, n + k + i] = 1 / box, -1 / box
            start = None
        return solver(F0, F, start, **options)

    def sizes(self, c: float) -> np.ndarray:
        """How much each unknown moves the eigenvalues of the LMI."""
        return np.array([np.abs(np.linalg.eigvalsh((m + m.T) / 2)).max() for m in self.lmi(c)[1:]])

    def certificate(self, rate: Expr, point: Sequence[Fraction], title: str, law: str) -> Certificate:
        """Return the certificate with exact entries; verify it before use."""
        form, field = self.form, Field(())
        pairs = zip(form.unknowns, (Rational(p.numerator, p.denominator) for p in point), strict=True)
        values = {**self.values, **dict(pairs), form.rate: rate}
        exact = {s: field.read(e.xreplace(values)).expr() for s, e in form.written.items()}
        vectors, *_ = self._given
        products = (
            exact[p] * vectors[i] * vectors[j] * (1 if i == j else 2) for (i, j), p in form.entries.items()
        )
        return build(
            title, self.flow, self.functions, sympy.Add(self.flow.values[0], *products), self.decay(rate),
            {n: exact[w] for n, w in form.weights.items()},
            positivity={n: exact[w] for n, w in form.positive_weights.items()}, law=law, vectors=form.vectors,
        )  # fmt: skip
