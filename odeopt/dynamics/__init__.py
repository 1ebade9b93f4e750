r"""The error and the predictions in function space: their ODE, its closed forms, and its integration."""

from odeopt.dynamics.energy import Energy, Lagrangian, energy, lagrangian
from odeopt.dynamics.error import Assumption, ErrorDynamics, ErrorLoss, PreconditionedDynamics, error_dynamics
from odeopt.dynamics.integrate import PredictionTrajectory, Trajectory, integrate, integrate_predictions
from odeopt.dynamics.integrated_mode import integrated_mode
from odeopt.dynamics.iterates import PredictionIterates, predict_iterates
from odeopt.dynamics.losses import LogisticLoss, PredictionLoss, SoftmaxLoss, SquaredLoss
from odeopt.dynamics.modes import ModeSolution, mode_solution
from odeopt.dynamics.momentum import ErrorMomentum
from odeopt.dynamics.points import predict_points
from odeopt.dynamics.prediction import PredictionDynamics, prediction_dynamics

__all__ = [
    "Assumption", "Energy", "ErrorDynamics", "ErrorLoss", "ErrorMomentum", "Lagrangian", "LogisticLoss",
    "ModeSolution", "PreconditionedDynamics", "PredictionDynamics", "PredictionIterates", "PredictionLoss",
    "PredictionTrajectory", "SoftmaxLoss", "SquaredLoss", "Trajectory", "energy", "error_dynamics",
    "integrate", "integrate_predictions", "integrated_mode", "lagrangian", "mode_solution",
    "predict_iterates", "predict_points", "prediction_dynamics",
]  # fmt: skip
