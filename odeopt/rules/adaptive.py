r"""Adaptive methods, componentwise: the step divides by a running size of the gradient.

The conventions are those of ``torch.optim``: squared averages start at 0, and eps stands outside the
root. None of these steps is linear in the iterates, so on a quadratic there are no residual
polynomials; in prediction space their limits do not close in the error and the kernel either, because
the preconditioner acts on the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odeopt.checks import is_number
from odeopt.rules.base import Scalar, Scaling, UpdateRule, require_below_one
from odeopt.rules.functions import sign, sqrt
from odeopt.rules.resolve import complement
from odeopt.rules.weight_decay import WeightDecayed

__all__ = ["AdaGrad", "Adam", "RMSProp", "SignDescent"]

_FORGETS_NOTHING = "1 would never forget the first gradient"


def _require_eps(eps: Scalar) -> None:
    if is_number(eps) and eps < 0:
        raise ValueError(f"eps must be nonnegative, got {eps!r}; it is added to a root, say 1e-8")


def _shrinking(h, time_step: Any, **decays: tuple[str, Any]) -> tuple[dict, dict]:
    """Write each decay rate as 1 - rate * h, and give the rates that match it at h = time_step."""
    import sympy

    fields, values = {}, {}
    for name, (letter, decay) in decays.items():
        rate = sympy.Symbol(letter, positive=True)
        fields[name], values[rate] = 1 - rate * h, complement(decay) / time_step
    return fields, values


@dataclass(frozen=True)
class SignDescent(UpdateRule):
    r"""Descent along the sign of the gradient, :math:`x_{k+1}=x_k-\eta\,\mathrm{sign}\nabla f(x_k)`.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`, the distance that every component moves.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(SignDescent(lr=0.75), 1.0, lambda x: x), 4))
    [1.0, 0.25, -0.5, 0.25]
    """

    lr: Scalar

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,) = iterates
        return x - self.lr * sign(grad(x)), memory


@dataclass(frozen=True)
class RMSProp(UpdateRule):
    r"""The gradient over the root of a running mean of its square.

    .. math::
        v_{k+1}=\alpha v_k+(1-\alpha)\nabla f(x_k)^2,\quad
        x_{k+1}=x_k-\eta\frac{\nabla f(x_k)}{\sqrt{v_{k+1}}+\varepsilon}.

    The memory is ``(v,)``. ``torch.optim.RMSprop`` with its defaults is the same sequence.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    alpha : float or sympy.Expr
        Decay :math:`0\le\alpha<1` of the mean of squares.
    eps : float or sympy.Expr
        :math:`\varepsilon\ge0`.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(RMSProp(lr=0.25, alpha=0.75, eps=0.0), 1.0, lambda x: x), 3))
    [1.0, 0.5, 0.25]
    """

    lr: Scalar
    alpha: Scalar = 0.99
    eps: Scalar = 1e-8

    def validate(self) -> None:
        require_below_one("alpha", self.alpha, _FORGETS_NOTHING)
        _require_eps(self.eps)

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (0 * x0,)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,), (v,) = iterates, memory
        g = grad(x)
        v = self.alpha * v + (1 - self.alpha) * g**2
        return x - self.lr * g / (sqrt(v) + self.eps), (v,)

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says: :math:`\eta=h`; unless "fixed", :math:`\alpha=1-bh`."""
        if regime == "fixed":
            return None
        fields, values = _shrinking(h, self.lr, alpha=("b", self.alpha))
        return self.replace(lr=h, **fields), values, self.lr


@dataclass(frozen=True, repr=False)
class Adam(WeightDecayed):
    r"""A running mean of the gradient over the root of one of its square.

    .. math::
        m_{k+1}&=\beta_1m_k+(1-\beta_1)\nabla f(x_k),\quad
        v_{k+1}=\beta_2v_k+(1-\beta_2)\nabla f(x_k)^2,\\
        x_{k+1}&=x_k-\eta\frac{\hat m_{k+1}}{\sqrt{\hat v_{k+1}}+\varepsilon},\quad
        \hat m_k=\frac{m_k}{1-\beta_1^k},\quad \hat v_k=\frac{v_k}{1-\beta_2^k}.

    The memory is ``(m, v)``, before the correction. ``torch.optim.Adam`` is the same sequence.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    beta1, beta2 : float or sympy.Expr
        Decays in [0, 1) of the two means.
    eps : float or sympy.Expr
        :math:`\varepsilon\ge0`.
    bias_correction : bool
        Divide the means by the sum of their weights; without it m and v stand in place of
        :math:`\hat m` and :math:`\hat v`.
    weight_decay, decoupled, to_start : optional
        By keyword, as in :class:`odeopt.rules.WeightDecayed`.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> [round(x, 6) for x in islice(iterate(Adam(lr=0.25), 1.0, lambda x: x), 4)]
    [1.0, 0.75, 0.504356, 0.268487]
    """

    lr: Scalar
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    bias_correction: bool = True

    def validate(self) -> None:
        require_below_one("beta1", self.beta1, _FORGETS_NOTHING)
        require_below_one("beta2", self.beta2, _FORGETS_NOTHING)
        _require_eps(self.eps)

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return 0 * x0, 0 * x0

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat, v_hat = m, v
        if self.bias_correction:
            m_hat, v_hat = m / (1 - self.beta1 ** (k + 1)), v / (1 - self.beta2 ** (k + 1))
        return x - self.lr * m_hat / (sqrt(v_hat) + self.eps), (m, v)

    def scaling(self, h: Any, regime: str = "natural") -> Scaling | None:
        r"""Embed as :meth:`UpdateRule.scaling` says: :math:`\eta=h`; unless "fixed", decays 1-ah, 1-bh."""
        if regime == "fixed":
            return None
        fields, values = _shrinking(h, self.lr, beta1=("a", self.beta1), beta2=("b", self.beta2))
        return self.replace(lr=h, **fields), values, self.lr


@dataclass(frozen=True)
class AdaGrad(UpdateRule):
    r"""The gradient over the root of the sum of all its squares.

    .. math::
        s_{k+1}=s_k+\nabla f(x_k)^2,\quad
        x_{k+1}=x_k-\eta\frac{\nabla f(x_k)}{\sqrt{s_{k+1}}+\varepsilon}.

    The memory is ``(s,)``. ``torch.optim.Adagrad`` with its defaults is the same sequence.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    eps : float or sympy.Expr
        :math:`\varepsilon\ge0`.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> [round(x, 6) for x in islice(iterate(AdaGrad(lr=0.25), 1.0, lambda x: x), 4)]
    [1.0, 0.75, 0.6, 0.491817]
    """

    lr: Scalar
    eps: Scalar = 1e-10

    def validate(self) -> None:
        _require_eps(self.eps)

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (0 * x0,)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,), (s,) = iterates, memory
        g = grad(x)
        s = s + g**2
        return x - self.lr * g / (sqrt(s) + self.eps), (s,)
