r"""Flows and iterations in the form that certificates need: rules for the derivative, or for the next state.

Everything is relative to the minimiser: x means :math:`x-x_\star`, f means :math:`f-f_\star`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import sympy
from sympy import Expr, Symbol

from odeopt.proofs.exact.field import Element, Field
from odeopt.rules.formulas import latex, text
from odeopt.shown import Shown

__all__ = ["Flow", "Iteration"]

f: Symbol
x: Symbol
v: Symbol
y: Symbol
a: Symbol
g: Symbol
q: Symbol
f, x, v, y, a, g, q = sympy.symbols("f x v y a g q", real=True)
f0: Symbol
f1: Symbol
x0: Symbol
x1: Symbol
g0: Symbol
g1: Symbol
f0, f1, x0, x1, g0, g1 = sympy.symbols("f_0 f_1 x_0 x_1 g_0 g_1", real=True)
time: Symbol = Symbol("t", real=True)


@dataclass(frozen=True, repr=False)
class Flow(Shown):
    r"""The flow :math:`x^{(n)}+\sum_jb_jx^{(j)}+\beta\nabla^2f(x)\dot x+\gamma\nabla f(x)=0`, n = 1, 2, 3.

    Parameters
    ----------
    friction : tuple of sympy.Expr
        :math:`(b_1,\dots,b_{n-1})`, functions of the time `t` or of time-dependent symbols.
    force : sympy.Expr
        :math:`\gamma>0`, constant.
    hessian : sympy.Expr
        :math:`\beta\ge0`, constant; for n = 2 only. The second state is then
        :math:`y=\dot x+\beta\nabla f(x)`, in which no Hessian is left.
    derivatives : tuple of (sympy.Symbol, sympy.Expr)
        Time-dependent symbols with their derivatives; may be given as a mapping.

    Examples
    --------
    >>> Flow((sympy.Integer(3),)).rules[v]
    -g - 3*v
    """

    friction: tuple[Expr, ...] = ()
    force: Expr = sympy.S.One
    hessian: Expr = sympy.S.Zero
    derivatives: Mapping[Symbol, Expr] | tuple[tuple[Symbol, Expr], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "derivatives", tuple(dict(self.derivatives).items()))
        if len(self.friction) > 2:
            raise ValueError(f"flows of order 1, 2 and 3 are known, got order {len(self.friction) + 1}")
        if self.hessian != 0 and len(self.friction) != 1:
            raise ValueError("Hessian damping is known for flows of order 2 only")

    @property
    def order(self) -> int:
        """Order of the equation."""
        return len(self.friction) + 1

    @property
    def state(self) -> tuple[Symbol, ...]:
        """The vectors that the state consists of."""
        second = v if self.hessian == 0 else y
        return (x, second, a)[: self.order]

    @property
    def velocity(self) -> Expr:
        r""":math:`\dot x` in terms of the state and the gradient."""
        if self.order == 1:
            return -self.force * g
        return v if self.hessian == 0 else y - self.hessian * g

    @property
    def rules(self) -> dict[Symbol, Expr]:
        """Each vector, the value f and each time-dependent symbol, to its derivative."""
        speed = self.velocity
        rules = {f: g * speed, g: q, x: speed, **dict(self.derivatives), time: sympy.S.One}
        if self.order == 2:
            rules[self.state[1]] = -self.friction[0] * speed - self.force * g
        elif self.order == 3:
            rules |= {v: a, a: -self.friction[1] * a - self.friction[0] * v - self.force * g}
        return rules

    @property
    def points(self) -> dict[str, tuple[Expr, Expr, Expr]]:
        """Where the function is evaluated."""
        return {"x": (x, g, f)}

    @property
    def tangents(self) -> tuple[tuple[Expr, Expr], ...]:
        """Velocity, and velocity of the gradient."""
        return ((self.velocity, q),)

    @property
    def values(self) -> tuple[Symbol, ...]:
        """Symbols of function values."""
        return (f,)

    @property
    def vectors(self) -> tuple[Symbol, ...]:
        """Symbols of vectors."""
        return (*self.state, g, q)

    @property
    def energy_symbols(self) -> tuple[Symbol, ...]:
        """What an energy may hold: the derivative of each is known."""
        return (f, *self.state, g)

    @property
    def constants(self) -> tuple[Expr, ...]:
        """Coefficients that do not depend on time."""
        return (self.force, self.hessian)

    @property
    def varying(self) -> tuple[Expr, ...]:
        """Coefficients that may depend on time."""
        return (*self.friction, *itertools.chain.from_iterable(self.derivatives))

    @property
    def gens(self) -> tuple[Symbol, ...]:
        """Values and vectors, in the order in which polynomials are gathered."""
        return (*self.values, *self.vectors)

    def decrease(self, field: Field, energy: Expr, decay: Expr) -> Element:
        """Return dV/dt + c V, expanded.

        Parameters
        ----------
        field : Field
            Holds all symbols of V and of the flow.
        energy : sympy.Expr
            V, in the `energy_symbols`.
        decay : sympy.Expr
            The rate c, which may depend on time.

        Returns
        -------
        Element
            At most 0 where V decays at this rate.

        Raises
        ------
        ValueError
            If V holds a symbol whose derivative is not known.
        """
        value, rules = field.read(energy), self.rules
        present = value.symbols()
        unknown = present & {*self.gens} - {*self.energy_symbols}
        if unknown:
            raise ValueError(f"V holds {', '.join(sorted(map(str, unknown)))}, whose derivative is not known")
        slopes = (value.diff(s) * field.read(rule) for s, rule in rules.items() if s in present)
        return field.total([field.read(decay) * value, *slopes])

    def __str__(self) -> str:
        lines = {1: "x'", 2: "x''", 3: "x'''"}
        terms = [lines[self.order]]
        terms += [_word(self.friction[j - 1]) + lines[j] for j in range(self.order - 1, 0, -1)]
        if self.hessian != 0:
            terms.append(f"{_word(self.hessian)}grad^2 f x'")
        return " + ".join(terms) + f" + {_word(self.force)}grad f = 0"

    def latex(self) -> str:
        """Return the equation as LaTeX.

        Returns
        -------
        str
            Of x and its derivatives by dots, without dollar signs.
        """
        dots = {1: r"\dot x", 2: r"\ddot x", 3: r"\dddot x"}
        terms = [dots[self.order]]
        terms += [_factor(self.friction[j - 1]) + dots[j] for j in range(self.order - 1, 0, -1)]
        if self.hessian != 0:
            terms.append(_factor(self.hessian) + r"\nabla^2f(x)\,\dot x")
        terms.append(_factor(self.force) + r"\nabla f(x)")
        return "+".join(t for t in terms if t) + "=0"


def _factor(coefficient: Expr) -> str:
    """The coefficient before a vector, as LaTeX."""
    if coefficient == 1:
        return ""
    written = latex(coefficient)
    return rf"\left({written}\right)" if coefficient.is_Add else written + r"\,"


def _word(coefficient: Expr) -> str:
    """The coefficient before a vector, as text."""
    if coefficient == 1:
        return ""
    written = text(coefficient)
    plain = coefficient.is_Symbol or (coefficient.is_number and coefficient.is_nonnegative)
    return f"{written} " if plain else f"({written}) "


@dataclass(frozen=True, repr=False)
class Iteration(Shown):
    r"""The iteration with momentum beta and the gradient taken at an extrapolated point.

    .. math:: x_{k+1}=x_k+\beta(x_k-x_{k-1})-\eta\nabla f(y_k),\qquad y_k=x_k+\gamma(x_k-x_{k-1}).

    Gradient descent (0, 0), heavy ball (beta, 0), Nesterov's constant momentum (beta, beta) and triple
    momentum are the cases of (beta, gamma). The symbols x_0, x_1 stand for :math:`x_k,x_{k-1}`, and
    g_0, f_0 and g_1, f_1 for gradient and value at :math:`y_k` and :math:`y_{k+1}`, and t for k, on which the
    coefficients may depend.

    Parameters
    ----------
    lr, beta, gamma : sympy.Expr
        :math:`\eta`, constant, and :math:`\beta` and :math:`\gamma`, which may depend on t.

    Examples
    --------
    >>> Iteration(*sympy.symbols("eta beta"), sympy.Integer(0)).rules[x0]
    beta*(x_0 - x_1) - eta*g_0 + x_0
    """

    lr: Expr
    beta: Expr = sympy.S.Zero
    gamma: Expr = sympy.S.Zero

    @property
    def state(self) -> tuple[Symbol, ...]:
        """The vectors that the state consists of."""
        return (x0,) if self.beta == 0 and self.gamma == 0 else (x0, x1)

    @property
    def rules(self) -> dict[Symbol, Expr]:
        """Each symbol of the state to its value after the step."""
        following = x0 + self.beta * (x0 - x1) - self.lr * g0
        return {x0: following, x1: x0, g0: g1, f0: f1, time: time + 1}

    @property
    def points(self) -> dict[str, tuple[Expr, Expr, Expr]]:
        """Where the function is evaluated: now, and one step later."""
        here = x0 + self.gamma * (x0 - x1)
        after = here.subs(self.rules, simultaneous=True)
        return {"0": (here, g0, f0), "1": (after, g1, f1)}

    tangents: ClassVar[tuple[tuple[Expr, Expr], ...]] = ()

    @property
    def values(self) -> tuple[Symbol, ...]:
        """Symbols of function values."""
        return (f0, f1)

    @property
    def vectors(self) -> tuple[Symbol, ...]:
        """Symbols of vectors."""
        return (*self.state, g0, g1)

    @property
    def energy_symbols(self) -> tuple[Symbol, ...]:
        """What an energy may hold: the next value of each is known."""
        return (f0, *self.state, g0)

    @property
    def constants(self) -> tuple[Expr, ...]:
        """Coefficients that do not depend on time."""
        return (self.lr,)

    @property
    def varying(self) -> tuple[Expr, ...]:
        """Coefficients that may depend on time."""
        return (self.beta, self.gamma)

    @property
    def gens(self) -> tuple[Symbol, ...]:
        """Values and vectors, in the order in which polynomials are gathered."""
        return (*self.values, *self.vectors)

    def decrease(self, field: Field, energy: Expr, decay: Expr) -> Element:
        """Return V after the step less the factor times V, expanded.

        Parameters
        ----------
        field : Field
            Holds all symbols of V and of the step.
        energy : sympy.Expr
            V, in the `energy_symbols`.
        decay : sympy.Expr
            The factor.

        Returns
        -------
        Element
            At most 0 where V falls by this factor.
        """
        value = field.read(energy)
        after = value.substitute({s: field.read(rule) for s, rule in self.rules.items()})
        return after - field.read(decay) * value

    def __str__(self) -> str:
        point = "x_k" if self.gamma == 0 else f"x_k + {_word(self.gamma)}(x_k - x_(k-1))"
        momentum = "" if self.beta == 0 else f" + {_word(self.beta)}(x_k - x_(k-1))"
        return f"x_(k+1) = x_k{momentum} - {_word(self.lr)}grad f({point})"

    def latex(self) -> str:
        """Return the iteration as LaTeX.

        Returns
        -------
        str
            Of :math:`x_{k+1}`, without dollar signs.
        """
        difference = r"(x_k-x_{k-1})"
        point = "x_k" if self.gamma == 0 else f"x_k+{_factor(self.gamma)}{difference}"
        momentum = "" if self.beta == 0 else f"+{_factor(self.beta)}{difference}"
        return rf"x_{{k+1}}=x_k{momentum}-{_factor(self.lr)}\nabla f({point})"
