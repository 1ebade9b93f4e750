r"""Kernels of fully connected networks of infinite width: any depth, biases, ReLU, erf or GELU.

In the NTK parametrisation, with weights and biases N(0, 1),

.. math:: z^{1}=\frac{\sigma_w}{\sqrt d}Wx+\sigma_bb,\qquad
    z^{l+1}=\frac{\sigma_w}{\sqrt{m_l}}W\sigma(z^l)+\sigma_bb,

outputs :math:`z^{L+1}` of L hidden layers are a Gaussian process at the start, of covariance K, and gradients
move them by the kernel :math:`\Theta`:

.. math:: K^1=\Theta^1=\sigma_w^2\tfrac{x\cdot x'}d+\sigma_b^2,\quad K^{l+1}=\sigma_w^2E^l+\sigma_b^2,\quad
    \Theta^{l+1}=K^{l+1}+\sigma_w^2\,\dot E^l\,\Theta^l .

A neuron of infinitely many has mean 0 and variance :math:`K^l(x,x)` over its layer. So layer normalisation
before the activation divides :math:`K^l(x,x')` and :math:`\Theta^l(x,x')` by
:math:`\sqrt{(K^l(x,x)+\epsilon)(K^l(x',x')+\epsilon)}`; what else its Jacobian holds, projections on the
vector of ones and on the neurons themselves, is two directions of m.

What a layer needs of a pair beside its variances is its angle. It is followed as
:math:`1-\cos\theta`, of which nothing is lost where inputs coincide: with
:math:`a=\sigma_w^2\sqrt{E(z,z)E(z',z')}` and :math:`S=\sqrt{K^{l+1}(x,x)K^{l+1}(x',x')}`,

.. math:: S(1-\cos\theta)=a-\sigma_w^2E
    +\frac{\sigma_b^2\sigma_w^2\bigl(\sqrt{E(z,z)}-\sqrt{E(z',z')}\bigr)^2}{S+a+\sigma_b^2} .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import is_finite, real_array, require_choice, require_integer
from odeopt.kernels.between import kernel_between
from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.cross import CrossOperator
from odeopt.kernels.inputs import unit_rows
from odeopt.kernels.memory import Storage
from odeopt.kernels.operator import planned
from odeopt.kernels.products import Engine
from odeopt.kernels.profiles import PROFILES
from odeopt.kernels.shared_rows import points_and_rows

__all__ = ["NetworkKernel", "layer_variances"]

_DEEPEST = 10_000
_LEAST = 1.5e-154  # the root of the smallest normal number


@dataclass(frozen=True)
class NetworkKernel:
    r"""The kernel of a fully connected network of infinite width, all of whose parameters are trained.

    In the NTK parametrisation: :math:`z^{l+1}=\sigma_wm_l^{-1/2}W\sigma(z^l)+\sigma_bb` with W, b of N(0, 1),
    d in place of :math:`m_l` at the inputs. With ``weight_variance=(d, 1)`` and one hidden ReLU layer it is
    that of :func:`odeopt.relu_gram` with ``layers="both"``.

    Parameters
    ----------
    depth : int
        Number L of hidden layers.
    activation : {"relu", "erf", "gelu"}
        :math:`\max(z,0)`, :math:`\mathrm{erf}(z)` or :math:`z\Phi(z)`.
    weight_variance, bias_variance : float or sequence of L + 1 float
        :math:`\sigma_w^2>0` and :math:`\sigma_b^2\ge0`, of every layer or of each from the inputs on.
    kind : {"ntk", "nngp"}
        :math:`\Theta`, which moves the outputs, or K, their covariance at the start.
    layer_norm : float, optional
        Normalise before every activation, with this :math:`\epsilon\ge0` beside the variance (torch: 1e-5),
        without gain and bias, as ``torch.nn.LayerNorm(m, elementwise_affine=False)``; by default nowhere.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    .. [1] A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel", NeurIPS 2018.
    .. [2] J. Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent",
       NeurIPS 2019.
    .. [3] G. Yang, "Tensor programs II: neural tangent kernel for any architecture", arXiv:2006.14548, 2020.

    Examples
    --------
    >>> kernel = NetworkKernel(depth=3, weight_variance=1.69, bias_variance=0.16)
    >>> kernel([[1.0, 0.0, 0.0]], [[0.0, 2.0, 1.0], [1.0, 1.0, 1.0]]).round(8)
    array([[1.69848298, 2.11757993]])
    """

    depth: int = 1
    activation: Literal["relu", "erf", "gelu"] = "relu"
    weight_variance: float | Sequence[float] = 1.0
    bias_variance: float | Sequence[float] = 0.0
    kind: Literal["ntk", "nngp"] = "ntk"
    layer_norm: float | None = None

    def __post_init__(self) -> None:
        layer_variances(self)
        epsilon = self.layer_norm
        if epsilon is not None and (isinstance(epsilon, bool) or not is_finite(epsilon) or epsilon < 0):
            raise ValueError(
                "layer_norm must be the epsilon of the normalisation, a number of at least 0 (torch: 1e-5), "
                f"got {epsilon!r}"
            )

    def _layers(self) -> list[tuple[float, float]]:
        return layer_variances(self)

    def __call__(self, x: npt.ArrayLike, x2: npt.ArrayLike | None = None) -> np.ndarray:
        r"""Evaluate the kernel between inputs.

        Parameters
        ----------
        x : array_like, shape (n, d)
            One input a row, any finite ones.
        x2 : array_like, shape (n2, d), optional
            Inputs of the columns; by default `x` itself. A warning names rows that both sets hold.

        Returns
        -------
        numpy.ndarray, shape (n, n2)
            Float64, read-only, symmetric to the last bit if `x2` is `x`. Entries are accurate to some
            roundings of the largest of their row and column in every layer, nearly parallel inputs included;
            for erf and GELU times the variance :math:`K^l(x,x)` where that is above 1.

        Raises
        ------
        ValueError
            If the inputs are no finite matrices with as many columns, or too large for float64.

        Examples
        --------
        >>> NetworkKernel(activation="erf", kind="nngp")([[1.0], [2.0]]).round(6)
        array([[0.464559, 0.559288],
               [0.559288, 0.697044]])
        """
        if x2 is None:
            x = x2 = real_array(x, "x", ndim=2)
        else:
            x, x2 = points_and_rows(x, x2)
        return self._between(x, x2)

    def operator(self, x: npt.ArrayLike, x2: npt.ArrayLike) -> CrossOperator:
        r"""The kernel between inputs as an operator that computes its entries in every product, in blocks.

        Parameters
        ----------
        x : array_like, shape (n, d)
            Inputs of the rows.
        x2 : array_like, shape (n2, d)
            Inputs of the columns; a warning names rows that both sets hold.

        Returns
        -------
        CrossOperator
            Of shape (n, n2).

        Examples
        --------
        >>> kernel = NetworkKernel(bias_variance=1.0)
        >>> kernel.operator([[1.0]], [[2.0], [3.0]]) @ [1.0, 1.0] - kernel([[1.0]], [[2.0], [3.0]]).sum()
        array([0.])
        """
        return CrossOperator(self._between, *points_and_rows(x, x2))

    def gram_operator(
        self,
        x: npt.ArrayLike,
        *,
        device: str | None = None,
        storage: Storage = "auto",
        engine: Engine = "auto",
        num_vectors: int = 400,
        memory_limit: float | None = None,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> ReluGramOperator:
        r"""The kernel of inputs with themselves as an operator that keeps half of its entries, for Lanczos.

        Parameters
        ----------
        x : array_like, shape (n, d)
            One input a row, any finite ones.
        device, storage, engine : str, optional
            Where, how and by what entries are kept and multiplied, as in :func:`relu_gram_operator`.
        num_vectors : int, optional
            Vectors that the plan allows for beside the kernel.
        memory_limit : float, optional
            Bytes; by default four fifths of the memory that is free.
        progress : callable, optional
            Called as ``progress("kernel", done, n)`` with the number of rows computed.

        Returns
        -------
        ReluGramOperator
            Of shape (n, n), for an activation of any kind; `storage_error` bounds what float32 costs.

        Raises
        ------
        ValueError
            Before any work if an option is unknown or cannot be used, or the memory plan does not fit; during
            it if the kernel leaves the range of float64.

        Examples
        --------
        >>> kernel, x = NetworkKernel(2, "erf", bias_variance=0.1), [[1.0, 0.0], [0.6, 0.8]]
        >>> np.allclose(kernel.gram_operator(x) @ [1.0, 0.0], kernel(x)[:, 0], rtol=1e-13)
        True
        """
        x = real_array(x, "x", ndim=2)
        build, plan = planned(
            len(x),
            x.shape[1] + (self._layers()[0][1] > 0),
            device=device,
            engine=engine,
            storage=storage,
            num_vectors=num_vectors,
            memory_limit=memory_limit,
        )
        return build(*self._inputs(x), _Entries(self), plan, progress, False)

    def diagonal(self, x: npt.ArrayLike) -> np.ndarray:
        r"""Evaluate the kernel of each input with itself.

        Parameters
        ----------
        x : array_like, shape (n, d)
            One input a row, any finite ones.

        Returns
        -------
        numpy.ndarray, shape (n,)
            Float64, read-only.

        Examples
        --------
        >>> NetworkKernel(weight_variance=(2, 1)).diagonal([[1.0, 0.0], [1.0, 1.0]])
        array([1., 2.])
        """
        return _Entries(self).diagonal(self._inputs(real_array(x, "x", ndim=2))[1])

    def _between(self, x: np.ndarray, x2: np.ndarray) -> np.ndarray:
        rows = self._inputs(x)
        return kernel_between(rows, rows if x2 is x else self._inputs(x2), _Entries(self))

    def _inputs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Directions and norms of :math:`(\sigma_wx/\sqrt d,\ \sigma_b)`, whose products are :math:`K^1`."""
        weight, bias = np.sqrt(self._layers()[0])
        scaled = weight / np.sqrt(x.shape[1]) * x
        unit, norms = unit_rows(np.column_stack([scaled, np.full(len(x), bias)]) if bias else scaled)
        if (lost := (norms > 0) & (norms < _LEAST)).any():
            raise ValueError(
                f"x has a row of norm {norms[lost][0]:.3g}, whose square leaves the range of float64; "
                "rescale it"
            )
        return unit, norms

    def _recursion(self, p: Any, q: Any, gram: Any, overlap: Any, xp: Any) -> Any:
        """From variances, first kernel and angles to the kernel of the outputs."""
        profile, ntk = PROFILES[self.activation], gram
        for layer, (weight, bias) in enumerate(self._layers()[1:], start=1):
            if self.layer_norm is not None:
                p, q, ntk = _normalised(p, q, ntk, self.layer_norm, xp)
            found = profile(p, q, overlap, xp)
            gram = weight * found.product + bias
            ntk = gram + weight * found.slope * ntk
            if layer == self.depth:
                break
            p, q = weight * found.left + bias, weight * found.right + bias
            left, right, size = xp.sqrt(found.left), xp.sqrt(found.right), xp.sqrt(p) * xp.sqrt(q)
            gap = weight * found.gap
            if bias:
                gap = gap + bias * weight * (left - right) ** 2 / (size + weight * (left * right) + bias)
            gap = xp.clip(xp.where(size > 0, gap / xp.where(size > 0, size, 1.0), 1.0), 0, 2)
            overlap = np.pi - 2 * xp.arcsin(xp.sqrt(gap / 2))
        return ntk if self.kind == "ntk" else gram


def _normalised(p: Any, q: Any, ntk: Any, epsilon: float, xp: Any) -> tuple[Any, Any, Any]:
    """Variances and kernel of normalised neurons; those that are all 0 stay so."""
    left, right = (xp.where(v + epsilon > 0, v + epsilon, 1.0) for v in (p, q))
    return p / left, q / right, ntk / (xp.sqrt(left) * xp.sqrt(right))


@dataclass(frozen=True)
class _Entries:
    """The formula for the panels of an operator."""

    kernel: NetworkKernel
    parts: int = 3  # some three times the work arrays of the bias-free kernel

    @property
    def depth(self) -> int:
        return self.kernel.depth

    def compiled(self) -> None:
        """There is no code for it that numba compiles."""

    def entries(self, cosine: Any, overlap: Any, left: Any, right: Any, xp: Any = np) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            gram = self.kernel._recursion(left**2, right**2, left * right * cosine, overlap, xp)
        if not xp.isfinite(gram).all():
            raise ValueError(
                f"the kernel of x with norms up to {max(left.max(), right.max()):.3g} leaves the range of "
                "float64; rescale x to norms near 1, or the variances"
            )
        return gram

    def diagonal(self, norms: Any, xp: Any = np) -> Any:
        gram = self.entries(xp.sign(norms), xp.full_like(norms, np.pi), norms, norms, xp)
        if xp is np:
            gram.setflags(write=False)
        return gram


def layer_variances(network: Any) -> list[tuple[float, float]]:
    """Variances of weights and biases, layer by layer, of a kernel whose parameters are checked."""
    depth = require_integer("depth", network.depth, 1, _DEEPEST)
    require_choice("activation", network.activation, tuple(PROFILES))
    require_choice("kind", network.kind, ("ntk", "nngp"))
    weights = _of_layers("weight_variance", network.weight_variance, depth, True)
    return list(zip(weights, _of_layers("bias_variance", network.bias_variance, depth, False), strict=True))


def _of_layers(name: str, value: Any, depth: int, positive: bool) -> tuple[float, ...]:
    """Variances of all layers, of one number or of as many as there are layers."""
    values = [*value] if isinstance(value, (tuple, list, np.ndarray)) else [value] * (depth + 1)
    if len(values) != depth + 1:
        raise ValueError(
            f"{name} must be one number, or {depth + 1} for {depth} hidden layers and the outputs, got "
            f"{len(values)}"
        )
    for each in values:
        if not (is_finite(each) and (each > 0 if positive else each >= 0)):
            raise ValueError(
                f"{name} must be {'positive' if positive else 'nonnegative'} and finite, got {each!r}"
            )
    return tuple(map(float, values))
