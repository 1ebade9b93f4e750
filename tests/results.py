"""An instance of every class of results, by wing, as a reader meets it at a prompt."""

import concurrent.futures as cf
import tempfile

import numpy as np
import sympy

import odeopt
from odeopt import data, dynamics, kernels, limits, nets, proofs, rates, rules, spectra, studies
from odeopt.proofs import families

X = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [0.5, 0.5, 0.7]])
Y = np.array([0.0, 1.0, 3.0, -2.0])
POINTS = np.array([[0.3, 0.2, 0.9], [0.9, 0.1, 0.2]])
RULE = odeopt.HeavyBall(0.01, 0.9)
TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}


def of_equations():
    h = sympy.Symbol("h", positive=True)
    limit = odeopt.ode_limit(RULE)
    adam = odeopt.ode_limit(odeopt.Adam(0.01))
    error, descent = (
        odeopt.error_dynamics(odeopt.ode_limit(rule)) for rule in (RULE, odeopt.GradientDescent(0.1))
    )
    loss, kernel, y = odeopt.LogisticLoss(), np.eye(2) + 0.1, np.array([1.0, -1.0])
    prediction = odeopt.prediction_dynamics(limit, loss)
    run = dynamics.integrate_predictions(prediction, kernel, np.zeros(2), y, [0.0, 1.0], **TOLERANCES)
    decayed = odeopt.ode_limit(odeopt.TorchSGD(rules.Linear(0.01, steps=100), momentum=0.9))
    return [
        limit,
        limit.reading,
        adam,
        error,
        error.assumptions[0],
        odeopt.error_dynamics(adam),
        dynamics.ErrorLoss(1),
        odeopt.error_dynamics(decayed).momentum,
        odeopt.mode_solution(error),
        odeopt.mode_solution(descent),
        odeopt.integrate(error, kernel, y, [0.0, 1.0], **TOLERANCES),
        prediction,
        run,
        dynamics.energy(prediction, kernel, run),
        dynamics.lagrangian(prediction),
        dynamics.predict_iterates(RULE, kernel, loss, np.zeros(2), y, [0, 5]),
        loss,
        odeopt.SquaredLoss(),
        odeopt.SoftmaxLoss(),
        limits.integrate_limit(limit, lambda x: x, [1.0, 2.0], [0.0, 1.0], **TOLERANCES),
        *limits.correspondences(odeopt.HeavyBall(h**2, 1 - 3 * h), h),
        limits.time_scale(RULE),
    ]


def of_spectra():
    gram = odeopt.relu_gram(X)
    measure = odeopt.spectral_measure(gram, -Y)
    decay = odeopt.spectral_measure(gram, -Y, origin=0 * Y)
    k, cross = range(0, 21, 5), odeopt.relu_gram(POINTS, X)
    mode = odeopt.mode_solution(odeopt.error_dynamics(odeopt.ode_limit(RULE)))
    curve = odeopt.loss_curve(RULE, measure, k)
    return [
        measure,
        odeopt.spectral_measure(gram, -Y, num_matvecs=2),
        decay,
        decay.joint,
        curve,
        odeopt.loss_curve(mode, measure, [0.0, 1.0]),
        spectra.seen_from(measure, cross),
        odeopt.predict(RULE, measure, cross, k),
        spectra.ensemble(RULE, measure, gram, k),
        spectra.ensemble_limit(RULE, measure, gram),
        spectra.effective_dimension(gram, 0.1),
        spectra.fixed_point(odeopt.GradientDescent(0.1, weight_decay=0.25)),
        spectra.sgd_prediction(odeopt.GradientDescent(0.01), gram, -Y, 2, k),
        spectra.predicted_errors(RULE, gram, -Y, k),
        rates.run_growth(RULE, 4.0, num_steps=20),
        rates.steps_to(RULE, measure, 0.1),
        odeopt.exact_rate(mode.dynamics, 0.1),
        odeopt.discrete_rate(RULE, 0.1, 2.0),
        odeopt.fit_rate(odeopt.loss_curve(RULE, measure, range(200))),
        kernels.singular_part([[1.0], [2.0], [-1.0], [0.0]]),
        kernels.memory_plan(60_000, 784, memory_limit=12 * 2**30),
        odeopt.relu_gram_operator(X),
        kernels.relu_cross_operator(POINTS, X),
        kernels.NetworkKernel(depth=2),
        kernels.ConvolutionKernel(depth=2),
        data.prepare(X, Y),
    ]


def of_proofs():
    certificate = families.heavy_ball(b=2, mu=1)
    return [
        certificate,
        certificate.flow,
        certificate.function_class,
        certificate.multipliers[0],
        certificate.checks()[0],
        families.gradient_descent(mu=1, L=10, lr=0.1).flow,
        proofs.Search(1.9, 1e-8, "mu", 12),
        proofs.witness(certificate),
    ]


def of_networks():
    net, descent = nets.TwoLayerReLU(3, 64), odeopt.GradientDescent(0.01)
    options = {"laziness_at": [10], "snapshot_at": [5], "points": POINTS}
    run = nets.train(net, RULE, X, Y, 10, **options)
    batches = [
        nets.train_sgd(nets.TwoLayerReLU(3, 64), descent, X, Y, 10, batch_size=2, record_at=[0, 10], seed=s)
        for s in range(2)
    ]
    with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
        jobs = nets.run_jobs(lambda p: {"sum": np.arange(p)}, [({"p": 3}, 3)], folder, executor=pool)
    return [
        run,
        run.laziness,
        run.snapshots[0],
        nets.error_budget(run),
        *nets.predict_module(net, RULE, X, Y, [0, 5, 10], points=POINTS),
        nets.trust_estimate(net, RULE, X, Y, 10),
        nets.sgd_report(batches),
        nets.monte_carlo_kernel(lambda seed: nets.TwoLayerReLU(3, 16, seed=seed), X, draws=2),
        nets.empirical_operator(net, X),
        nets.empirical_operator(net, POINTS, X),
        jobs,
        nets.PaperSettings(),
    ]


def of_studies():
    small = studies.CheckSettings(width=64, seeds=2, num_steps=20)
    report = odeopt.check(X, Y, methods=["gd", RULE], settings=small)
    x = np.random.default_rng(0).standard_normal((30, 5))
    forecast = odeopt.forecast(x, np.sin(x[:, 0]), test=0.25, methods=["gd", "hb"], target=0.1)
    classes = studies.forecast_classes(x, (x[:, 0] > 0).astype(int), test=0.25, methods=["gd"], num_steps=9)
    return [
        small,
        report,
        *report.methods,
        forecast,
        forecast.methods[0],
        forecast.methods[0].test,
        forecast.test,
        classes,
        classes.methods[0],
        classes.methods[0].training,
    ]
