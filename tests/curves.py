"""Modes and rules whose curves the tests of brackets follow."""

import dataclasses
import functools

import numpy as np
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    error_dynamics,
    mode_solution,
    ode_limit,
)

EPS = np.finfo(float).eps


@functools.cache
def mode_of(rule, **options):
    return mode_solution(error_dynamics(ode_limit(rule, **options)))


# The ODEs of these depend on no number but r, so that they are derived once, where they are first asked for.
def flow():
    return mode_of(GradientDescent(0.1))


def bessel(r):
    return mode_of(Nesterov(0.1, r))


def with_friction(b):
    oscillator = mode_of(HeavyBall(0.01, 0.8)).dynamics
    stiffness, _, mass = oscillator.coefficients
    return mode_solution(
        dataclasses.replace(oscillator, coefficients=(stiffness, sympy.Float(float(b)), mass))
    )


def ode_modes(lam):
    top, low = max(lam.max(), 1e-3), max(lam.min(), 1e-4)
    frictions = (0.6 * np.sqrt(low), 2 * np.sqrt(low), np.sqrt(top), 2.2 * np.sqrt(top))
    return [flow(), *map(bessel, (1, 3, 6.5)), *map(with_friction, frictions)]


def rules(lam):
    top = max(lam.max(), 1e-3)
    return [
        GradientDescent(0.9 / top),
        GradientDescent(1.9 / top),
        HeavyBall(1.5 / top, 0.9),
        NesterovConstant(1.0 / top, 0.9),
        Nesterov(1.0 / top, 3),
        HigherMomentum(0.5 / top, (0.2, 0.5)),
        TripleMomentum(1.0 / top, 0.7, 0.3, 1.0),
        TorchSGD(0.5 / top, 0.8, dampening=0.3),
    ]
