r"""From a kernel and an error to loss curves, by one spectral measure, with bounds."""

from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.effective_dimension import EffectiveDimension, effective_dimension
from odeopt.spectra.errors import predicted_errors
from odeopt.spectra.fixed_point import FixedPoint, fixed_point
from odeopt.spectra.measure import SpectralMeasure, spectral_measure
from odeopt.spectra.minibatch import SGDPrediction, sgd_prediction
from odeopt.spectra.weights import squared_weights

__all__ = [
    "EffectiveDimension",
    "FixedPoint",
    "LossCurve",
    "SGDPrediction",
    "SpectralMeasure",
    "effective_dimension",
    "fixed_point",
    "loss_curve",
    "predicted_errors",
    "sgd_prediction",
    "spectral_measure",
    "squared_weights",
]
