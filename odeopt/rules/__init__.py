r"""Update rules: a method is the code of one step; and what a linear one is on eigenvalues."""

from odeopt.rules.adaptive import AdaGrad, Adam, RMSProp, SignDescent
from odeopt.rules.averaged import Averaged, Lookahead, ScheduleFree
from odeopt.rules.base import Scalar, UpdateRule, iterate
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov, NesterovConstant
from odeopt.rules.functions import dot, norm, sign, sqrt
from odeopt.rules.linear import error_polynomials, residual_polynomials, spectral_radius, transition_matrix
from odeopt.rules.momentum import QHM, TorchSGD, TripleMomentum
from odeopt.rules.names import named_rules, rule_grid
from odeopt.rules.schedule import Schedule
from odeopt.rules.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    Step,
    Warmup,
    WarmupStableDecay,
)
from odeopt.rules.tables import Formula, Recursion, Table
from odeopt.rules.weight_decay import WeightDecayed

__all__ = [
    "QHM", "AdaGrad", "Adam", "Averaged", "Constant", "Cosine", "Exponential", "Formula", "GradientDescent",
    "HeavyBall", "HigherMomentum", "InverseSqrt", "Linear", "Lookahead", "Nesterov", "NesterovConstant",
    "RMSProp", "Recursion", "Scalar", "Schedule", "ScheduleFree", "SignDescent", "Step", "Table",
    "TorchSGD", "TripleMomentum", "UpdateRule", "Warmup", "WarmupStableDecay", "WeightDecayed", "dot",
    "error_polynomials", "iterate", "named_rules", "norm", "residual_polynomials", "rule_grid", "sign",
    "spectral_radius", "sqrt", "transition_matrix",
]  # fmt: skip
