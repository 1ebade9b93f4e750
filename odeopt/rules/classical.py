r"""The named methods without memory, each written once as the code of its step.

Those with memory or constants of their own stand in :mod:`odeopt.rules.momentum`, the adaptive ones in
:mod:`odeopt.rules.adaptive`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from odeopt.checks import is_number, is_symbolic
from odeopt.rules.base import Scalar, Scaling, UpdateRule, iterate, require_below_one
from odeopt.rules.resolve import complement
from odeopt.rules.weight_decay import WeightDecayed

if TYPE_CHECKING:
    import sympy

__all__ = [
    "GradientDescent", "HeavyBall", "HigherMomentum", "Nesterov", "NesterovConstant", "UpdateRule",
    "iterate",
]  # fmt: skip


def _inertial(rule: HeavyBall | NesterovConstant, h: sympy.Symbol) -> Scaling:
    """Embed lr = h^2, momentum = 1 - b h, with b = (1 - momentum) / sqrt(lr) held fixed."""
    import sympy

    b = sympy.Symbol("b", positive=True)
    lr: Any = rule.lr
    time_step = math.sqrt(lr)
    family = rule.replace(lr=h**2, momentum=1 - b * h)
    return family, {b: complement(rule.momentum) / time_step}, time_step


@dataclass(frozen=True, repr=False)
class GradientDescent(WeightDecayed):
    r"""Gradient descent, :math:`x_{k+1}=x_k-\eta\nabla f(x_k)`.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Examples
    --------
    >>> GradientDescent(lr=0.1).label
    'GradientDescent(lr=0.1)'
    """

    lr: Scalar

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,) = iterates
        return x - self.lr * grad(x), memory


@dataclass(frozen=True, repr=False)
class HeavyBall(WeightDecayed):
    r"""Polyak's heavy ball, :math:`x_{k+1}=x_k+\beta(x_k-x_{k-1})-\eta\nabla f(x_k)`.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    momentum : float or sympy.Expr
        Momentum :math:`0\le\beta<1`.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Examples
    --------
    >>> HeavyBall(lr=0.1, momentum=1.5)
    Traceback (most recent call last):
        ...
    ValueError: momentum must lie in [0, 1), got 1.5; 1 would mean no friction
    """

    lr: Scalar
    momentum: Scalar
    history = 2

    def validate(self) -> None:
        require_below_one("momentum", self.momentum)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * grad(x), memory

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        return None if regime == "fixed" else _inertial(self, h)

    @classmethod
    def with_friction(cls, lr: float, friction: float) -> HeavyBall:
        r"""Heavy ball that is the central-difference scheme of :math:`\ddot x+b\dot x+\nabla f(x)=0`.

        With the time step h, the scheme has :math:`\eta=h^2/(1+\frac{bh}2)` and
        :math:`\beta=(1-\frac{bh}2)/(1+\frac{bh}2)`; h is solved from the learning rate.

        Parameters
        ----------
        lr : float
            Learning rate :math:`\eta>0`.
        friction : float
            Coefficient b > 0, small enough that the momentum is not negative: :math:`b\sqrt{2\eta}\le2`.

        Returns
        -------
        HeavyBall
            With :math:`\beta` in [0, 1).

        Raises
        ------
        ValueError
            If the friction is not positive, or too large for the learning rate.

        Examples
        --------
        >>> from odeopt import ode_limit
        >>> print(ode_limit(HeavyBall.with_friction(lr=0.01, friction=2.0)))
        X'' + 2*X' + grad f(X) = 0
        """
        if not is_number(friction) or not friction > 0:
            raise ValueError(f"friction must be positive, got {friction!r}")
        h = friction * lr / 4 + math.sqrt((friction * lr / 4) ** 2 + lr)
        damping = friction * h / 2
        if damping > 1:
            raise ValueError(
                f"friction = {friction:.6g} with lr = {lr:.6g} gives a negative momentum; lower friction to "
                f"{math.sqrt(2 / lr):.6g}, or lower lr"
            )
        return cls(lr, (1 - damping) / (1 + damping))


@dataclass(frozen=True, repr=False)
class Nesterov(WeightDecayed):
    r"""Nesterov's method with vanishing friction r/t (NAG-C).

    .. math::
        y_k=x_k+\tfrac{k-1}{k+r-1}(x_k-x_{k-1})\ (k\ge1),\quad y_0=x_0,\quad
        x_{k+1}=y_k-\eta\nabla f(y_k).

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    r : float or sympy.Expr
        Friction :math:`r\ge0`; 3 is the classical choice [1]_.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    References
    ----------
    .. [1] W. Su, S. Boyd, E. Candes, "A differential equation for modeling Nesterov's accelerated
       gradient method", JMLR 17 (2016).

    Examples
    --------
    >>> from itertools import islice
    >>> list(islice(iterate(Nesterov(lr=0.5), 1.0, lambda x: x), 3))
    [1.0, 0.5, 0.25]
    """

    lr: Scalar
    r: Scalar = 3
    history = 2

    def validate(self) -> None:
        if is_number(self.r) and self.r < 0:
            raise ValueError(f"r must be nonnegative, got {self.r!r}; negative friction has no limit")

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        x, x_prev = iterates
        # k = 0: x_0 = x_{-1}, so the weight is irrelevant; k = 1: the weight is 0 for every r >= 0.
        weight = 0 if k in (0, 1) else (k - 1) / (k + self.r - 1)
        y = x + weight * (x - x_prev)
        return y - self.lr * grad(y), memory


@dataclass(frozen=True, repr=False)
class NesterovConstant(WeightDecayed):
    r"""Nesterov's method with constant momentum (NAG-SC).

    .. math:: y_k=x_k+\beta(x_k-x_{k-1}),\quad x_{k+1}=y_k-\eta\nabla f(y_k).

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    momentum : float or sympy.Expr
        Momentum :math:`0\le\beta<1`.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Examples
    --------
    >>> from itertools import islice
    >>> list(islice(iterate(NesterovConstant(0.5, 0.5), 1.0, lambda x: x), 3))
    [1.0, 0.5, 0.125]
    """

    lr: Scalar
    momentum: Scalar
    history = 2

    def validate(self) -> None:
        require_below_one("momentum", self.momentum)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        x, x_prev = iterates
        y = x + self.momentum * (x - x_prev)
        return y - self.lr * grad(y), memory

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        return None if regime == "fixed" else _inertial(self, h)


@dataclass(frozen=True)
class HigherMomentum(UpdateRule):
    r"""Momentum of any order, :math:`x_{k+1}=x_k+\sum_j\beta_j(x_{k+1-j}-x_{k-j})-\eta\nabla f(x_k)`.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    momenta : sequence of float or sympy.Expr
        :math:`(\beta_1,\dots,\beta_p)`. The roots of :math:`z^p=\sum_j\beta_jz^{p-j}` must lie in
        the closed unit disk: outside it the increments grow even where the gradient is zero.

    Examples
    --------
    >>> HigherMomentum(lr=0.1, momenta=(0.2, 0.5)).history
    3
    """

    lr: Scalar
    momenta: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        momenta = self.momenta
        if is_number(momenta) or is_symbolic(momenta):
            momenta = (momenta,)
        object.__setattr__(self, "momenta", tuple(momenta))
        if not self.momenta:
            raise ValueError("momenta must not be empty; for no momentum use GradientDescent")
        super().__post_init__()

    @property
    def history(self) -> int:  # type: ignore[override]
        """Number of iterates that the step reads, that of the momenta and one."""
        return len(self.momenta) + 1

    def validate(self) -> None:
        if not self.is_numeric:
            return
        size = max(abs(self._momentum_roots()), default=0.0)
        # A root on the circle (momenta that sum to 1) is allowed; 1e-9 is the accuracy of a
        # simple root, the smallest excess that growth over 1e9 steps could show.
        if size > 1 + 1e-9:
            raise ValueError(
                f"momenta {self.momenta!r} have a root of modulus {size:.6g} > 1 in "
                "z^p = sum_j beta_j z^(p-j), so increments grow without any gradient; lower them"
            )

    def _momentum_roots(self):
        import numpy as np

        momenta: tuple[Any, ...] = self.momenta
        return np.roots([1.0, *(-float(beta) for beta in momenta)])

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        x = iterates[0]
        x_next = x - self.lr * grad(x)
        for beta, newer, older in zip(self.momenta, iterates, iterates[1:], strict=False):
            x_next = x_next + beta * (newer - older)
        return x_next, memory

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says; "natural" keeps the momenta fixed.

        "inertial" writes the momentum polynomial in :math:`w=(z-1)/h` as
        :math:`h^p(w^p+g_{p-1}w^{p-1}+\dots+g_0)`, holds the :math:`g_j` fixed and sets
        :math:`\eta=h^{p+1}`, which gives an equation of order p + 1.
        """
        if regime != "inertial":
            return None
        import numpy as np
        import sympy

        p = len(self.momenta)
        lr: Any = self.lr
        time_step = lr ** (1 / (p + 1))
        friction = np.poly((self._momentum_roots() - 1) / time_step).real[1:]
        symbols = [sympy.Symbol(f"g_{j}", real=True) for j in reversed(range(p))]
        z = sympy.Symbol("z")
        terms = [(z - 1) ** p] + [g * h ** (j + 1) * (z - 1) ** (p - 1 - j) for j, g in enumerate(symbols)]
        momenta = [-c for c in sympy.Poly(sum(terms), z).all_coeffs()[1:]]
        family = HigherMomentum(lr=h ** (p + 1), momenta=tuple(momenta))
        return family, dict(zip(symbols, map(float, friction), strict=True)), time_step
