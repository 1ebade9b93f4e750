r"""Classes of functions, and the inequalities that each of them grants.

Points are triples (x, g, f) of position, gradient and value, all taken relative to the minimiser, so
that the minimiser itself is (0, 0, 0). Inner products are written as products of symbols: a quadratic
form in vectors is faithfully a quadratic polynomial in commuting symbols.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr

from odeopt.rules.formulas import latex, text
from odeopt.shown import Shown

__all__ = ["FunctionClass", "convex", "quadratic", "strongly_convex"]

KINDS = ("strongly convex", "convex", "quadratic")


@dataclass(frozen=True, repr=False)
class FunctionClass(Shown):
    r"""A class of functions with a minimiser.

    Parameters
    ----------
    kind : {"strongly convex", "convex", "quadratic"}
        "quadratic" stands for :math:`f=\tfrac12\langle x,Hx\rangle` with the spectrum of H in [mu, L], in
        any inner product in which H is symmetric: the error losses
        :math:`\tfrac12\Delta^\top H\Delta`, :math:`\tfrac12\lVert\Delta\rVert^2` and
        :math:`\tfrac12u^\top H^{-1}u` at once.
    mu : sympy.Expr
        Constant of strong convexity, 0 for convex functions.
    L : sympy.Expr or None
        Lipschitz constant of the gradient, None for any.

    Examples
    --------
    >>> x, g, f = sympy.symbols("x g f")
    >>> strongly_convex(sympy.Integer(1)).inequalities({"x": (x, g, f)})["A(*,x)"]
    f - g*x + x**2/2
    """

    kind: str
    mu: Expr
    L: Expr | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.kind == "convex" and self.mu != 0:
            raise ValueError(f"convex functions have mu = 0, got {self.mu}; say 'strongly convex'")

    def inequalities(
        self, points: Mapping[str, tuple[Expr, Expr, Expr]], tangents: Sequence[tuple[Expr, Expr]] = ()
    ) -> dict[str, Expr]:
        r"""Return what the class grants at these points and at the minimiser.

        .. math::
            A(i,j)=f_j-f_i+\langle g_j,x_i-x_j\rangle+\tfrac1{2(1-\mu/L)}\left[\tfrac1L\lVert g_i-g_j\rVert^2
            +\mu\lVert x_i-x_j\rVert^2-\tfrac{2\mu}L\langle g_j-g_i,x_j-x_i\rangle\right]\le0

        for each ordered pair (unless L = mu, by which it divides), C(i, j), the same without L,
        :math:`G(i)=\tfrac\mu2\lVert x_i\rVert^2-f_i\le0`, for tangents (v, q), a velocity and the velocity
        of the gradient,
        :math:`D=\langle q-\mu v,q-Lv\rangle\le0` (:math:`\mu\lVert v\rVert^2-\langle q,v\rangle\le0`
        without L), and for quadratics the equation :math:`E(i)=\langle g_i,x_i\rangle-2f_i=0`.

        Parameters
        ----------
        points : mapping
            Label to (x, g, f).
        tangents : sequence of (v, q)
            Velocities with the velocities of the gradient; none for iterations.

        Returns
        -------
        dict
            Name to expression; those named E are zero, all others at most zero.

        References
        ----------
        That the A(i,j) are also sufficient for a function of the class through the points is the
        interpolation theorem behind PEPit's documentation; a certificate needs only that they hold.
        """
        pairs = list(itertools.permutations([*points, "*"], 2))
        names = [f"{kind}({i},{j})" for kind in ("C" if self.L == self.mu else "AC") for i, j in pairs]
        names += [f"{kind}({i})" for kind in ("GE" if self.kind == "quadratic" else "G") for i in points]
        names += ["D"] * bool(tangents)
        return {name: sympy.expand(self.inequality(name, points, tangents)) for name in names}

    def inequality(
        self,
        name: str,
        points: Mapping[str, tuple[Expr, Expr, Expr]],
        tangents: Sequence[tuple[Expr, Expr]] = (),
    ) -> Expr:
        """Return one of the :meth:`inequalities` by its name.

        Parameters
        ----------
        name : str
            Such as ``"A(*,x)"``.
        points : mapping
            Label to (x, g, f).
        tangents : sequence of (v, q)
            Velocities with the velocities of the gradient; none for iterations.

        Returns
        -------
        sympy.Expr
            At most zero, for a name with E zero.

        Raises
        ------
        ValueError
            If the class does not grant it.
        """
        kind, _, labels = name.partition("(")
        every = {**points, "*": (sympy.S.Zero,) * 3}
        places = labels[:-1].split(",") if labels.endswith(")") else []
        granted = kind != "E" or self.kind == "quadratic"
        if name == "D" and len(tangents) == 1:
            ((v, q),) = tangents
            return (q - self.mu * v) * (q - self.L * v) if self.L is not None else v * (self.mu * v - q)
        if kind in ("A", "C") and len(places) == 2 and set(places) <= set(every) and places[0] != places[1]:
            return self._pair(every[places[0]], every[places[1]], self.L if kind == "A" else None)
        if kind in ("G", "E") and granted and len(places) == 1 and places[0] in points:
            x, g, f = points[places[0]]
            return g * x - 2 * f if kind == "E" else self.mu / 2 * x**2 - f
        raise ValueError(f"{self} does not grant {name}")

    def _pair(self, i: tuple, j: tuple, L: Expr | None) -> Expr:
        (xi, gi, fi), (xj, gj, fj) = i, j
        dx, dg = xi - xj, gi - gj
        plain = fj - fi + gj * dx
        if L is None:
            return plain + self.mu / 2 * dx**2
        if L == self.mu:
            raise ValueError(f"{self} grants no A(i,j), which divides by L - mu = 0")
        return plain + (dg**2 + self.mu * L * dx**2 - 2 * self.mu * dg * dx) / (2 * (L - self.mu))

    def __str__(self) -> str:
        mu, L = _short(self.mu), "oo" if self.L is None else _short(self.L)
        if self.kind == "convex":
            return "convex functions" if self.L is None else f"convex {L}-smooth functions"
        return f"quadratics with spectrum in [{mu}, {L}]" if self.kind == "quadratic" else f"F({mu}, {L})"

    def latex(self) -> str:
        """Return the name of the class as LaTeX.

        Returns
        -------
        str
            Without dollar signs.
        """
        mu, L = latex(self.mu), r"\infty" if self.L is None else latex(self.L)
        if self.kind == "quadratic":
            return rf"\{{\tfrac12\langle x,Hx\rangle:\ \operatorname{{spec}}H\subset[{mu},{L}]\}}"
        return rf"\mathcal{{F}}_{{{mu},{L}}}"


def _short(e: Expr) -> str:
    return f"{float(e):.9g}" if e.is_Rational and len(str(e)) > 20 else text(e)


def strongly_convex(mu: Expr, L: Expr | None = None) -> FunctionClass:
    """Return the mu-strongly convex (and L-smooth) functions."""
    return FunctionClass("strongly convex", mu, L)


def convex(L: Expr | None = None) -> FunctionClass:
    """Return the convex (and L-smooth) functions."""
    return FunctionClass("convex", sympy.S.Zero, L)


def quadratic(mu: Expr, L: Expr | None = None) -> FunctionClass:
    """Return the quadratics with spectrum in [mu, L]."""
    return FunctionClass("quadratic", mu, L)
