r"""The paper's experiments: the authors' network and settings, each run beside the linear theory.

Network and settings are those of the authors' public notebook (Z. Bu, S. Xu, K. Chen, "A Dynamical View on
Optimization Algorithms of Overparameterized Neural Networks", AISTATS 2021): a hidden layer with bias, no
factor :math:`1/\sqrt m`, both layers trained, mean squared error. It is not the parametrisation of the
theory: its kernel grows like m, and at the learning rate of the notebook the linear recursion is unstable at
the start. Every run says so before it is trained (`lr_lam_max` against `limit`), and the linear
prediction is made twice: from the start, and anew from a state after the network has settled.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array, require_integer
from odeopt.nets.kernels.closed import empirical_gram
from odeopt.nets.networks import PaperReLU
from odeopt.nets.sweeps.jobs import JobResults, run_jobs
from odeopt.nets.sweeps.sweep import earlier_specs
from odeopt.nets.training.train import train
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum
from odeopt.rules.momentum import TorchSGD
from odeopt.rules.names import rule_spec
from odeopt.shown import Shown, Summary, changed

__all__ = ["PaperSettings", "paper_data", "paper_study", "power_slopes", "unstable_runs"]

# Mean squared norm to which scikit-learn's digits are scaled: with it the learning rate 1e-4 times the
# largest eigenvalue is about 4 at width 3000, nearly what it is on the authors' 28 x 28 digits.
DIGITS_SQUARED_NORM = 54.0


@dataclass(frozen=True, repr=False)
class PaperSettings(Shown):
    """Sizes of the study; the defaults are the authors', with 60 examples.

    Parameters
    ----------
    width, epochs : int
        Of the curves against the epoch.
    lr : float
        Learning rate of these.
    widths : tuple of int
        Abscissae of the losses against the width.
    width_epoch : int
        Epoch at which those are read.
    width_lr : float
        Learning rate of those.
    seeds : int
        Networks over which the losses against the width are averaged.
    restart : int
        Step from whose state the linear prediction starts anew.
    curve_seeds : int
        Those over which the curves against the epoch are.

    Examples
    --------
    >>> settings = PaperSettings(widths=(100, 200))
    >>> list(settings.figures()["heavy ball, width"])
    ['beta = 0', 'beta = 0.6', 'beta = 0.9']
    >>> PaperSettings(restart=300)
    Traceback (most recent call last):
        ...
    ValueError: restart must lie between 0 and the numbers of epochs 5000 and 200, got 300
    """

    width: int = 3000
    epochs: int = 5000
    lr: float = 1e-4
    widths: tuple[int, ...] = (1000, 2000, 3000, 4000, 6000, 8000)
    width_epoch: int = 200
    width_lr: float = 5e-5
    seeds: int = 3
    restart: int = 100
    curve_seeds: int = 1

    def _summary(self) -> Summary:
        return Summary(changed(self))

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "width_epoch", "seeds", "restart", "curve_seeds"):
            require_integer(name, getattr(self, name), 1)
        for width in self.widths:
            require_integer("each of widths", width, 1)
        if not 0 < self.restart < min(self.epochs, self.width_epoch):
            raise ValueError(
                f"restart must lie between 0 and the numbers of epochs {self.epochs} and {self.width_epoch}, "
                f"got {self.restart}"
            )

    def figures(self) -> dict[str, dict[str, UpdateRule]]:
        """Return the rules of each figure, by label.

        Returns
        -------
        dict
            Name of the figure to label to rule.
        """

        def momentum(lr: float, values: tuple) -> dict[str, UpdateRule]:
            return {f"beta = {b:g}": HeavyBall(lr, b) if b else GradientDescent(lr) for b in values}

        def nesterov(lr: float, values: tuple) -> dict[str, UpdateRule]:
            # torch's, whose momentum the authors overwrite before each step
            return {f"d = {r:g}": TorchSGD(lr, r=r, nesterov=True) for r in values}

        return {
            "heavy ball, width": momentum(self.width_lr, (0, 0.6, 0.9)),
            "Nesterov, width": nesterov(self.width_lr, (2, 4, 10)),
            "heavy ball": momentum(self.lr, (0, 0.2, 0.5, 0.8)),
            "Nesterov": nesterov(self.lr, (2, 3, 6, 8)),
            "higher momentum": {
                f"({b1:g}, {b2:g})": HigherMomentum(self.lr, (b1, b2)) if b1 else GradientDescent(self.lr)
                for b1, b2 in ((0, 0), (0.2, 0), (0.2, 0.2), (0.2, 0.5), (0.2, 0.8))
            },
        }


def paper_data(
    x: npt.ArrayLike, y: npt.ArrayLike, *, squared_norm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs with a last column of ones, for the biases, and raw labels.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Inputs.
    y : array_like, shape (n,)
        Labels, as numbers.
    squared_norm : float, optional
        Mean squared norm to which x is scaled; by default it is left as it is.

    Returns
    -------
    x : numpy.ndarray, shape (n, d + 1)
        Scaled, with the column.
    y : numpy.ndarray, shape (n,)
        In float64.

    Raises
    ------
    ValueError
        If the arrays do not fit, or x is zero.

    Examples
    --------
    >>> x, y = paper_data([[1.0, 2.0], [0.0, 3.0]], [0, 1], squared_norm=28)
    >>> x
    array([[2., 4., 1.],
           [0., 6., 1.]])
    """
    x, y = real_array(x, "x", ndim=2), real_array(y, "y", ndim=1)
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, got {len(x)} inputs and {len(y)} targets")
    mean = float((x**2).sum(axis=1).mean())
    if mean == 0:
        raise ValueError("x must not be zero")
    scale = 1.0 if squared_norm is None else math.sqrt(squared_norm / mean)
    return np.column_stack([x * scale, np.ones(len(x))]), y


@dataclass(frozen=True)
class _Job:
    rule: UpdateRule
    width: int
    seed: int
    epochs: int
    restart: int
    x: np.ndarray
    y: np.ndarray


def paper_study(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    folder: str | os.PathLike[str],
    *,
    settings: PaperSettings | None = None,
    squared_norm: float | None = None,
    executor: cf.Executor | None = None,
    workers: int | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> JobResults:
    r"""Run all that the six figures show; a run that is there already is not run again.

    Each run holds "k", "loss" (the mean squared error), "linear_loss" (predicted from H(0), inf once the
    recursion has left the finite numbers), "restart_k" and "restart_loss" (predicted from the state at
    that step, nan before it), and the numbers "lr_lam_max", "limit" (largest stable lr times eigenvalue),
    "lr_lam_max_restart", "lam_min_restart", "kernel_drift" (at the restart).

    Parameters
    ----------
    x : array_like, shape (n, d)
        Raw inputs, such as those of :func:`odeopt.data.load_digits`.
    y : array_like, shape (n,)
        Raw labels.
    folder : path-like
        Where the runs are kept, a file each.
    settings : PaperSettings, optional
        Sizes; by default the authors'.
    squared_norm : float, optional
        As for :func:`paper_data`; ``DIGITS_SQUARED_NORM`` for scikit-learn's digits.
    executor, workers, progress : optional
        As for :func:`odeopt.nets.sweep`.

    Returns
    -------
    JobResults
        The spec of an entry names its "figure", its "label", the width and the seed.

    Raises
    ------
    ValueError
        If the data or the folder cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> small = PaperSettings(60, 20, 1e-3, (30, 60), 20, 5e-4, seeds=1, restart=10)
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = paper_study(rng.random((5, 3)), range(5), folder, settings=small, executor=pool)
    ...     len(results.entries), sorted({entry["spec"]["figure"] for entry in results.entries})[:2]
    (25, ['Nesterov', 'Nesterov, width'])
    """
    settings = PaperSettings() if settings is None else settings
    x, y = paper_data(x, y, squared_norm=squared_norm)
    data = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()[:16]
    jobs = []
    for figure, rules in settings.figures().items():
        by_width = figure.endswith("width")
        widths = settings.widths if by_width else (settings.width,)
        seeds = range(settings.seeds if by_width else settings.curve_seeds)
        epochs = settings.width_epoch if by_width else settings.epochs
        for label, rule in rules.items():
            for width in widths:
                for seed in seeds:
                    spec = {"figure": figure, "label": label, "rule": rule_spec(rule), "width": int(width)}
                    spec |= {"seed": seed, "epochs": epochs, "restart": settings.restart, "data": data}
                    jobs.append((spec, _Job(rule, int(width), seed, epochs, settings.restart, x, y)))
    # the longest first, so that no core is left alone with one at the end
    order = sorted(range(len(jobs)), key=lambda i: -jobs[i][0]["width"] * jobs[i][0]["epochs"])
    jobs = [jobs[i] for i in order]
    earlier = earlier_specs(jobs, folder)
    return run_jobs(
        _run, jobs, folder, executor=executor, workers=workers, earlier=earlier, progress=progress
    )


def _run(job: _Job) -> dict[str, Any]:
    from odeopt.rates.iteration import max_learning_rate  # brings sympy, as loss_curve does
    from odeopt.spectra.curve import loss_curve
    from odeopt.spectra.measure import spectral_measure

    n, net = len(job.y), PaperReLU(job.x.shape[1] - 1, job.width, seed=job.seed)
    kernel = 2 / n * empirical_gram(net, job.x)
    lam_max = float(np.linalg.eigvalsh(kernel)[-1])
    k = np.unique(np.geomspace(1, job.epochs, 300).round().astype(int))
    k = np.unique([0, *k, *np.linspace(0, job.epochs, 101).astype(int)])
    options = {"record_at": k, "snapshot_at": [job.restart], "reduction": "mean", "allow_unstable": True}
    run = train(net, job.rule, job.x, job.y, job.epochs, **options)
    result = {
        "k": run.k,
        "loss": 2 / n * run.loss,
        "linear_loss": 2 / n * loss_curve(job.rule, spectral_measure(kernel, run.errors[0]), run.k).loss,
        "restart_k": job.restart,
        "restart_loss": np.full(run.k.size, np.nan),
        "lr_lam_max": job.rule.lr * lam_max,
        "limit": lam_max * max_learning_rate(job.rule, lam_max),
        "lr_lam_max_restart": np.nan,
        "lam_min_restart": np.nan,
        "kernel_drift": np.nan,
    }
    if run.snapshots:
        (snapshot,) = run.snapshots
        later = run.k >= job.restart
        result["restart_loss"][later] = 2 / n * snapshot.predict(run.k[later])
        result["lr_lam_max_restart"] = job.rule.lr * snapshot.lam_max
        result["kernel_drift"] = np.linalg.norm(snapshot.kernel - kernel, 2) / lam_max
        result["lam_min_restart"] = float(np.linalg.eigvalsh(snapshot.kernel)[0])
    return result


def unstable_runs(results: JobResults) -> list[str]:
    """Name the methods of the study that start above the stability limit, where no linear prediction holds.

    Parameters
    ----------
    results : JobResults
        Of :func:`paper_study`; of another sweep the list is empty.

    Returns
    -------
    list of str
        A line for each method: its name, the largest lr * lambda_max, and the limit.

    Examples
    --------
    >>> import tempfile
    >>> small = PaperSettings(30, 20, 0.05, (30,), 20, 5e-4, seeds=1, restart=5)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = paper_study(np.eye(3) + 1, range(3), folder, settings=small, executor=pool)
    ...     unstable_runs(results)[0]
    'Nesterov, d = 2: lr * lambda_max up to 3.46 at the start, above the stability limit 1.33'
    """
    worst: dict[str, tuple[float, float]] = {}
    for entry in results.entries:
        if entry["status"] == "done" and "figure" in entry["spec"]:
            held, spec = results.load(entry), entry["spec"]
            found = float(held["lr_lam_max"]), float(held["limit"])
            if found[0] > found[1]:
                name = f"{spec['figure']}, {spec['label']}"
                worst[name] = max(worst.get(name, found), found)
    return [
        f"{name}: lr * lambda_max up to {value:.2f} at the start, above the stability limit {limit:.2f}"
        for name, (value, limit) in sorted(worst.items())
    ]


def power_slopes(
    results: JobResults, first: int | None = None, last: int | None = None
) -> list[dict[str, float]]:
    r"""Log-log slopes of Nesterov's runs between two epochs, beside what the theory says of them.

    Once :math:`k\sqrt{\eta\lambda_{\min}}\gg1` the loss is an oscillation times
    :math:`k^{-r}(1-\eta\lambda_{\min})^k`, whose slope over the interval is :math:`-r` plus that of the
    discrete factor. Before, modes that have not begun to oscillate make it flatter.

    Parameters
    ----------
    results : JobResults
        Of :func:`paper_study`.
    first, last : int, optional
        The epochs, after the restart; by default the last four fifths of the run.

    Returns
    -------
    list of dict
        For each friction "r": "trained", "restarted prediction", "power", "power and factor", and "begun",
        :math:`k\sqrt{\eta\lambda_{\min}}` at the last epoch; means over the seeds.

    Examples
    --------
    >>> import tempfile
    >>> small = PaperSettings(30, 20, 1e-3, (30,), 20, 5e-4, seeds=1, restart=10)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = paper_study(np.eye(3) + 1, range(3), folder, settings=small, executor=pool)
    ...     [(row["r"], row["power"]) for row in power_slopes(results)]
    [(2.0, -2.0), (3.0, -3.0), (6.0, -6.0), (8.0, -8.0)]
    """
    rows: dict[float, list[dict[str, float]]] = {}
    for entry in results.entries:
        if entry["spec"].get("figure") != "Nesterov" or entry["status"] != "done":
            continue
        held = results.load(entry)
        last = int(held["k"][-1]) if last is None else last
        first = max(last // 5, int(held["restart_k"])) if first is None else first
        r, lr = entry["spec"]["rule"]["r"], entry["spec"]["rule"]["lr"]
        inside = (held["k"] >= first) & (held["k"] <= last) & (held["loss"] > 0)
        log_k = np.log(held["k"][inside])
        factor = held["k"][inside] * np.log1p(-lr * held["lam_min_restart"])

        def slope(values: np.ndarray, log_k: np.ndarray = log_k) -> float:
            return float(np.polyfit(log_k, values, 1)[0])

        rows.setdefault(r, []).append(
            {
                "r": r,
                "trained": slope(np.log(held["loss"][inside])),
                "restarted prediction": slope(np.log(held["restart_loss"][inside])),
                "power": -r,
                "power and factor": -r + slope(factor),
                "begun": last * math.sqrt(max(0.0, lr * float(held["lam_min_restart"]))),
            }
        )
    return [{key: float(np.mean([row[key] for row in rows[r]])) for key in rows[r][0]} for r in sorted(rows)]
