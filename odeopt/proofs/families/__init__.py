r"""Certificates in closed form, verified for symbols."""

from odeopt.proofs.families.constant import (
    gradient_flow,
    gradient_flow_convex,
    heavy_ball,
    heavy_ball_classical,
    heavy_ball_quadratic,
    heavy_ball_smooth,
)
from odeopt.proofs.families.iterations import (
    gradient_descent,
    gradient_descent_convex,
    nesterov_constant,
    nesterov_descent,
    triple_momentum,
)
from odeopt.proofs.families.vanishing import (
    any_damping,
    nesterov_convex,
    nesterov_hessian,
    nesterov_quadratic,
    nesterov_smooth,
    nesterov_strongly_convex,
)

__all__ = [
    "any_damping", "gradient_descent", "gradient_descent_convex", "gradient_flow", "gradient_flow_convex",
    "heavy_ball", "heavy_ball_classical", "heavy_ball_quadratic", "heavy_ball_smooth",
    "nesterov_constant", "nesterov_convex", "nesterov_descent", "nesterov_hessian", "nesterov_quadratic",
    "nesterov_smooth", "nesterov_strongly_convex", "triple_momentum",
]  # fmt: skip
