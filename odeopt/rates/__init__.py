r"""How fast: rates of the ODE, of the iteration, and of a curve; stability limits and tuned methods."""

from odeopt.rates.envelope import envelope, steps_envelope
from odeopt.rates.fit import fit_rate
from odeopt.rates.horizon import Growth, frozen_radius, run_growth
from odeopt.rates.iteration import crossover_step, discrete_rate, max_learning_rate
from odeopt.rates.maps import radius_map, rate_map
from odeopt.rates.rate import Rate, exact_rate
from odeopt.rates.steps import StepsTo, steps_to
from odeopt.rates.tuning import tune, tune_for

__all__ = [
    "Growth", "Rate", "StepsTo", "crossover_step", "discrete_rate", "envelope", "exact_rate", "fit_rate",
    "frozen_radius", "max_learning_rate", "radius_map", "rate_map", "run_growth", "steps_envelope",
    "steps_to", "tune", "tune_for",
]  # fmt: skip
