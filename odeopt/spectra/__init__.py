r"""From a kernel and an error to loss curves, by one spectral measure, with bounds."""

from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.effective_dimension import EffectiveDimension, effective_dimension
from odeopt.spectra.ensemble_curve import EnsembleCurve
from odeopt.spectra.ensemble_points import ensemble_at
from odeopt.spectra.ensembles import ensemble, ensemble_limit
from odeopt.spectra.errors import predicted_errors
from odeopt.spectra.fixed_point import FixedPoint, fixed_point
from odeopt.spectra.measure import SpectralMeasure, spectral_measure
from odeopt.spectra.minibatch import SGDPrediction, sgd_prediction
from odeopt.spectra.point_curve import PointCurve
from odeopt.spectra.predictions import SeenBasis, predict, seen_from
from odeopt.spectra.weights import squared_weights

__all__ = [
    "EffectiveDimension", "EnsembleCurve", "FixedPoint", "LossCurve", "PointCurve", "SGDPrediction",
    "SeenBasis", "SpectralMeasure", "effective_dimension", "ensemble", "ensemble_at", "ensemble_limit",
    "fixed_point", "loss_curve", "predict", "predicted_errors", "seen_from", "sgd_prediction",
    "spectral_measure", "squared_weights",
]  # fmt: skip
