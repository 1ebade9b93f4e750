r"""Momentum beyond the textbook forms: triple momentum, quasi-hyperbolic momentum, torch's SGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odeopt.checks import is_number
from odeopt.rules.base import Scalar, Scaling, UpdateRule, require_below_one
from odeopt.rules.resolve import complement
from odeopt.rules.weight_decay import WeightDecayed

__all__ = ["QHM", "TorchSGD", "TripleMomentum"]


@dataclass(frozen=True)
class TripleMomentum(UpdateRule):
    r"""Triple momentum: three weights of the last increment, tuned for smooth strongly convex functions.

    .. math::
        \xi_{k+1}=\xi_k+\beta(\xi_k-\xi_{k-1})-\eta\nabla f(y_k),\quad
        y_k=\xi_k+\gamma(\xi_k-\xi_{k-1}).

    The iterate of the rule is :math:`\xi_k`. The sequence of the convergence theorem is a third one,
    :math:`x_k=\xi_k+\delta(\xi_k-\xi_{k-1})`, see :meth:`output`.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    beta : float or sympy.Expr
        Momentum :math:`0\le\beta<1`.
    gamma : float or sympy.Expr
        Extrapolation of the point where the gradient is taken: 0 is heavy ball, :math:`\beta` is
        Nesterov's constant momentum.
    delta : float or sympy.Expr
        Extrapolation of the output; the iterates do not depend on it.

    Notes
    -----
    On quadratics the gradient points :math:`y_k` run the recursion of :class:`QHM` with
    ``lr / (1 - beta)``, momentum ``beta`` and ``nu = 1 - gamma * (1 - beta) / beta``.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(TripleMomentum(0.5, 0.5, 0.25, 1.0), 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.0625, -0.13281...]
    """

    lr: Scalar
    beta: Scalar
    gamma: Scalar
    delta: Scalar
    history = 2

    @classmethod
    def tuned(cls, mu: float, L: float) -> TripleMomentum:
        r"""Return the rule with the constants for mu-strongly convex, L-smooth functions.

        With :math:`\rho=1-\sqrt{\mu/L}`, its asymptotic factor,

        .. math::
            \eta=\tfrac{1+\rho}L,\quad \beta=\tfrac{\rho^2}{2-\rho},\quad
            \gamma=\tfrac{\rho^2}{(1+\rho)(2-\rho)},\quad \delta=\tfrac{\rho^2}{1-\rho^2}.

        Parameters
        ----------
        mu, L : float
            Smallest and largest curvature, 0 < mu <= L.

        Returns
        -------
        TripleMomentum
            Of asymptotic factor :math:`\rho` a step.

        Raises
        ------
        ValueError
            Unless mu and L are finite and 0 < mu <= L.

        References
        ----------
        The constants are those of Van Scoy et al., Theorem 1, as given in the documentation of PEPit.

        Examples
        --------
        >>> TripleMomentum.tuned(mu=1.0, L=4.0).label
        'TripleMomentum(lr=0.375, beta=0.1667, gamma=0.1111, delta=0.3333)'
        """
        for name, value in (("mu", mu), ("L", L)):
            if not is_number(value) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if mu <= 0:
            raise ValueError(f"mu must be positive, got {mu!r}; without strong convexity use Nesterov")
        if L < mu:
            raise ValueError(f"L must be at least mu, got mu = {mu!r}, L = {L!r}")
        rho = 1 - math.sqrt(mu / L)
        return cls(
            lr=(1 + rho) / L,
            beta=rho**2 / (2 - rho),
            gamma=rho**2 / ((1 + rho) * (2 - rho)),
            delta=rho**2 / (1 - rho**2),
        )

    def validate(self) -> None:
        require_below_one("beta", self.beta)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        xi, xi_prev = iterates
        y = xi + self.gamma * (xi - xi_prev)
        return xi + self.beta * (xi - xi_prev) - self.lr * grad(y), memory

    def output(self, iterates: tuple[Any, ...]) -> Any:
        r"""Return :math:`x_k=\xi_k+\delta(\xi_k-\xi_{k-1})`, the sequence of the convergence theorem.

        Parameters
        ----------
        iterates : tuple
            :math:`(\xi_k,\xi_{k-1})`, as the step reads them; both :math:`\xi_0` for k = 0.

        Returns
        -------
        object of the kind of the iterates
            The point :math:`x_k`, at which no gradient is taken.

        Examples
        --------
        >>> TripleMomentum(0.5, 0.5, 0.25, delta=1.0).output((0.5, 1.0))
        0.0
        """
        xi, xi_prev = iterates
        return xi + self.delta * (xi - xi_prev)

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says: :math:`\eta=h^2`, :math:`\beta=1-bh`, gamma fixed."""
        if regime == "fixed":
            return None
        import sympy

        b, gamma = sympy.Symbol("b", positive=True), sympy.Symbol("gamma", real=True)
        lr: Any = self.lr
        time_step = math.sqrt(lr)
        family = self.replace(lr=h**2, beta=1 - b * h, gamma=gamma)
        return family, {b: complement(self.beta) / time_step, gamma: self.gamma}, time_step


@dataclass(frozen=True, repr=False)
class QHM(WeightDecayed):
    r"""Quasi-hyperbolic momentum: a weighted mean of the gradient and of its running average.

    .. math::
        g_{k+1}=\beta g_k+(1-\beta)\nabla f(x_k),\quad
        x_{k+1}=x_k-\eta\,[(1-\nu)\nabla f(x_k)+\nu g_{k+1}].

    The average is dampened (the new gradient enters it with weight :math:`1-\beta`) and starts at 0.
    The memory is ``(average,)``.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`. Converted from plain momentum it is larger by the factor
        :math:`1/(1-\beta)`.
    momentum : float or sympy.Expr
        Momentum :math:`0\le\beta<1`.
    nu : float or sympy.Expr
        Weight :math:`0\le\nu\le1` of the average: 0 is gradient descent; 1 is heavy ball, and
        :math:`\beta` is Nesterov's constant momentum at its gradient points :math:`y_k`, both with
        the learning rate :math:`(1-\beta)\eta`.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Notes
    -----
    On the quadratic :math:`\tfrac12\lambda z^2` it is stable if and only if
    :math:`0<\eta\lambda<2(1+\beta)/(1+\beta-2\nu\beta)`.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(QHM(lr=1.0, momentum=0.5, nu=0.5), 1.0, lambda x: x), 4))
    [1.0, 0.25, -0.0625, -0.109375]
    """

    lr: Scalar
    momentum: Scalar
    nu: Scalar

    def validate(self) -> None:
        require_below_one("momentum", self.momentum)
        if is_number(self.nu) and not 0 <= self.nu <= 1:
            raise ValueError(f"nu must lie in [0, 1], got {self.nu!r}; it is the weight of a mean")

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (0 * x0,)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,), (average,) = iterates, memory
        g = grad(x)
        average = self.momentum * average + (1 - self.momentum) * g
        return x - self.lr * ((1 - self.nu) * g + self.nu * average), (average,)

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says: :math:`\eta=h/b`, :math:`\beta=1-bh`; nu stays fixed.

        Then h^2 is :math:`(1-\beta)\eta`, the learning rate of the heavy ball that nu = 1 is.
        """
        if regime == "fixed" or self.momentum == 0:
            return None
        import sympy

        b, nu = sympy.Symbol("b", positive=True), sympy.Symbol("nu", nonnegative=True)
        time_step = math.sqrt(self.lr * complement(self.momentum))
        family = self.replace(lr=h / b, momentum=1 - b * h, nu=nu)
        return family, {b: complement(self.momentum) / time_step, nu: self.nu}, time_step


@dataclass(frozen=True, repr=False)
class TorchSGD(WeightDecayed):
    r"""``torch.optim.SGD``, with every convention of it.

    .. math::
        B_k=\mu B_{k-1}+(1-\tau)\nabla f(x_k),\quad
        x_{k+1}=x_k-\eta B_k\ \text{ or, if nesterov, }\ x_k-\eta(\nabla f(x_k)+\mu B_k).

    The first buffer is the gradient itself, without the factor :math:`1-\tau`. The memory is
    ``(buffer,)``, and None for ``momentum=0``, where torch keeps no buffer.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    momentum : float or sympy.Expr
        Momentum :math:`0\le\mu<1`.
    dampening : float or sympy.Expr
        :math:`0\le\tau<1`; 0 where nesterov is set, as torch requires.
    nesterov : bool
        Take the step along the gradient plus :math:`\mu` times the new buffer.
    r : float or sympy.Expr, optional
        Overwrite the momentum before the k-th step, k = 1, 2, ..., with :math:`\frac{k-1}{k+r-1}`,
        r > 0; then leave `momentum` out. The first of these momenta is 0, and there torch creates no
        buffer: it begins with the gradient of the second step.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Notes
    -----
    With constant momentum and nesterov the parameter is the gradient point :math:`y_k` of
    :class:`odeopt.NesterovConstant`, not its iterate. With `r` it is another sequence than
    :class:`odeopt.Nesterov`, which has :math:`\mu_{k-1}` where torch has :math:`\mu_k` a second time;
    both have the same ODE limit, from which they differ by :math:`O(\sqrt\eta)`.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> rule = TorchSGD(lr=0.5, momentum=0.5, dampening=0.5)
    >>> list(islice(iterate(rule, 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.125, -0.09375]
    >>> TorchSGD(lr=0.5, nesterov=True)
    Traceback (most recent call last):
        ...
    ValueError: nesterov needs momentum > 0 or a schedule r, got momentum = 0; set one of them
    """

    lr: Scalar
    momentum: Scalar = 0
    dampening: Scalar = 0
    nesterov: bool = False
    r: Scalar | None = None

    def validate(self) -> None:
        require_below_one("momentum", self.momentum)
        require_below_one("dampening", self.dampening, "1 would ignore every gradient but the first")
        if self.r is not None and is_number(self.r) and self.r <= 0:
            raise ValueError(f"r must be positive, got {self.r!r}; r = 0 makes the first momentum 0/0")
        if self.r is not None and self.momentum != 0:
            raise ValueError(
                f"momentum = {self.momentum!r} would be overwritten by the schedule of r = {self.r!r}; "
                "leave one of them out"
            )
        if self.nesterov and self.momentum == 0 and self.r is None:
            raise ValueError(
                f"nesterov needs momentum > 0 or a schedule r, got momentum = {self.momentum!r}; "
                "set one of them"
            )
        if self.nesterov and self.dampening != 0:
            raise ValueError(f"nesterov needs dampening = 0, got {self.dampening!r}; torch requires it")

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return None if self.momentum == 0 and self.r is None else (0 * x0,)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,) = iterates
        g = grad(x)
        # torch skips the buffer wherever the momentum is 0: for ever, or in the first step of a schedule
        if not memory or (self.r is not None and k == 0):
            return x - self.lr * g, memory
        momentum, first = (self.momentum, 0) if self.r is None else (k / (k + self.r), 1)
        (buffer,) = memory
        buffer = g if k == first else momentum * buffer + (1 - self.dampening) * g
        return x - self.lr * (g + momentum * buffer if self.nesterov else buffer), (buffer,)

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says: :math:`(1-\tau)\eta=h^2`, :math:`\mu=1-bh`."""
        if regime == "fixed" or self.momentum == 0:
            return None
        import sympy

        b, tau = sympy.Symbol("b", positive=True), sympy.Symbol("tau", positive=True)
        time_step = math.sqrt(self.lr * complement(self.dampening))
        values = {b: complement(self.momentum) / time_step}
        if self.dampening == 0:
            return self.replace(lr=h**2, momentum=1 - b * h), values, time_step
        family = self.replace(lr=h**2 / (1 - tau), momentum=1 - b * h, dampening=tau)
        return family, values | {tau: self.dampening}, time_step
