r"""What is dropped on the way from the weights of a network to its prediction error."""

from __future__ import annotations

from dataclasses import dataclass

from odeopt.shown import Shown

__all__ = ["Assumption", "assumptions_of"]


@dataclass(frozen=True, repr=False)
class Assumption(Shown):
    """A term that the linear dynamics drops, and when it vanishes.

    Parameters
    ----------
    name : str
        What is assumed, in a few words.
    dropped : str
        The term.
    vanishes : str
        Where the term is zero, or how it shrinks with the width.

    Examples
    --------
    >>> from odeopt import GradientDescent, error_dynamics, ode_limit
    >>> (assumption,) = error_dynamics(ode_limit(GradientDescent(lr=0.1))).assumptions
    >>> assumption.name, assumption.dropped
    ('constant kernel', "the change of H(t) = J(t) J(t)'")
    """

    name: str
    dropped: str
    vanishes: str

    def __str__(self) -> str:
        return f"{self.name}: drops {self.dropped}; {self.vanishes}"


def assumptions_of(order: int, dropped_curvature: bool) -> tuple[Assumption, ...]:
    """What is dropped from an equation of this order."""
    listed = [
        Assumption(
            "constant kernel",
            "the change of H(t) = J(t) J(t)'",
            "vanishes for a model linear in its weights, and as m^(-1/2) for width m (measured)",
        )
    ]
    if order >= 2:
        names = {2: "J-dot w-dot", 3: "2 J-dot w-ddot + J-ddot w-dot"}
        listed += [
            Assumption(
                "moving Jacobian",
                f"the right side {names.get(order, 'of derivatives of J')}, from differentiating u(w(t))",
                "vanishes for a model linear in its weights",
            ),
            Assumption(
                "activation flips",
                "what a ReLU adds to the moving Jacobian: with the first layer trained, J-dot is zero "
                "between flips, and at a flip of neuron r on sample i the velocity of Delta_i jumps by "
                "a_r m^(-1/2) |w_r-dot . x_i|",
                "each jump is of order 1/m, since w_r-dot is itself of order m^(-1/2)",
            ),
        ]
    if dropped_curvature:
        listed.append(
            Assumption(
                "Gauss-Newton curvature",
                "the part sum_i Delta_i (Hessian of u_i) of the Hessian of the loss",
                "vanishes where the model is linear in its weights or the error is zero",
            )
        )
    return tuple(listed)
