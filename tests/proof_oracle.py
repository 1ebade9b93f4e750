"""What an accepted certificate claims, tried in floats: on its domain, and on functions of its class."""

import numpy as np
import sympy
from sympy import Integer

from odeopt.proofs import Flow
from odeopt.proofs import flow as names


def contradiction(w, draws=2, seed=0):
    """Return what is wrong with an accepted certificate at points of its domain, "" where nothing is seen."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        at = {}
        for b in w.domain:
            low, high = (None if e is None else float(e.subs(at)) for e in (b.lower, b.upper))
            if low is not None and high is not None:
                if not low < high:
                    break
                at[b.symbol] = rng.uniform(low, high)
            else:
                away = float(np.exp(rng.uniform(-6, 4)))
                free = low is None and high is None
                at[b.symbol] = rng.normal() * 3 if free else low + away if high is None else high - away
        else:
            if wrong := _wrong_at(w, at, rng) or (w.ends and _bound_missed(w, at)):
                return wrong
    return ""


def _wrong_at(w, at, rng):
    def value(e):
        return float(sympy.sympify(e, strict=True).xreplace(numeric).evalf(40))

    numeric = {s: sympy.Float(v, 40) for s, v in at.items()}
    mu, L = value(w.function_class.mu), None if w.function_class.L is None else value(w.function_class.L)
    if mu < -1e-12 or (L is not None and L < mu * (1 - 1e-12)):
        return "class"
    if value(w.rate) <= -1e-12:
        return "rate"
    weights = [(m.name, value(m.value)) for m in (*w.multipliers, *w.positivity)]
    if any(v < -1e-9 * (1 + abs(v)) for name, v in weights if name[0] != "E"):
        return "multiplier"
    S = np.array([[value(e) for e in row] for row in w.remainder.tolist()], float).reshape(w.remainder.shape)
    if S.shape != (len(w.vectors),) * 2 or not _semidefinite(-S):
        return "S"
    positive = w.energy + sum(m.value * _inequality(w, m.name) for m in w.positivity)
    still = dict.fromkeys(w.flow.gens, 0)
    T = np.array([[value(sympy.diff(positive, a, b).subs(still)) for b in w.vectors] for a in w.vectors])
    if not _semidefinite(T):
        return "T"
    gens = {s: float(v) for s, v in zip(w.flow.gens, rng.normal(size=len(w.flow.gens)), strict=True)}
    return _identity_off(w, at | gens)


def _semidefinite(form):
    """Up to the rounding of the entries; what leaves the floats is not judged."""
    if not np.isfinite(form).all():
        return True
    symmetric = (form + form.T) / 2
    return np.linalg.eigvalsh(symmetric).min(initial=0) >= -1e-8 * (1 + abs(form).max(initial=0))


def _identity_off(w, at):
    """The identity with random numbers for all vectors and values, by the rules written out here."""
    V, n = w.energy, names
    numeric = {s: sympy.Float(v, 40) for s, v in at.items()}

    def value(e):
        return float(sympy.sympify(e, strict=True).xreplace(numeric).evalf(40))

    if isinstance(w.flow, Flow):
        derivative = sum(sympy.diff(V, s) * rule for s, rule in w.flow.rules.items())
        change = derivative + (w.rate / n.time + w.correction if w.law == "power" else w.rate) * V
    else:
        after = V.subs(w.flow.rules, simultaneous=True)
        change = after - (1 if w.law == "potential" else w.rate) * V
    z = sympy.Matrix(w.vectors)
    right = sum(m.value * _inequality(w, m.name) for m in w.multipliers) + (z.T * w.remainder * z)[0]
    scale = 1 + abs(value(V)) + sum(abs(value(m.value * m.inequality)) for m in w.multipliers)
    return "identity" if abs(value(change - right)) > 1e-9 * scale else ""


def _inequality(w, name):
    mu, L = w.function_class.mu, w.function_class.L
    points = {**w.flow.points, "*": (Integer(0),) * 3}
    kind, _, inner = name.partition("(")
    chosen = [points[p] for p in inner.rstrip(")").split(",")] if inner else []
    if kind in "AC":
        (xi, gi, fi), (xj, gj, fj) = chosen
        plain = fj - fi + gj * (xi - xj) + mu * (xi - xj) ** 2 / 2
        more = 0 if L is None or kind == "C" else (gi - gj - mu * (xi - xj)) ** 2 / (2 * (L - mu))
        return plain + more
    if kind == "D":
        v, q = w.flow.tangents[0]
        return v * (mu * v - q) if L is None else (q - mu * v) * (q - L * v)
    x, g, f = chosen[0]
    return mu * x**2 / 2 - f if kind == "G" else g * x - 2 * f


def _bound_missed(w, at):
    """What a potential says of f after N steps, on quadratics and parabolas with straight ends."""
    times = (w.ends.horizon, names.time)
    steps = min(40, int(at[w.ends.horizon]) + 1)
    parameters = {s: v for s, v in at.items() if s not in times}

    def value(e, k):
        return float(sympy.sympify(e, strict=True).subs(parameters | dict.fromkeys(times, k)))

    mu, L = value(w.function_class.mu, 0), value(w.function_class.L or 1, 0)
    bound = value(w.ends.bound.coeff(names.x0, 2), steps)
    weight, square = (value(sympy.expand(w.ends.value).coeff(s), steps) for s in (names.f0, names.g0**2))
    coefficients = [[value(e, k) for e in (w.flow.lr, w.flow.beta, w.flow.gamma)] for k in range(steps + 1)]
    for width in (np.inf, 1.0, 1 / (2 * steps + 1), 1 / steps):  # beyond it f grows like |x|
        curved = np.array([L]) if width < np.inf else np.linspace(mu, L, 41)
        x = last = np.ones_like(curved)
        for k in range(steps + 1):
            lr, beta, gamma = coefficients[k]
            here = x + gamma * (x - last)
            bent, size = np.clip(here, -width, width), np.abs(here)
            g = (curved - mu) * bent + mu * here
            x, last = x + beta * (x - last) - lr * g, x
        f = (curved - mu) * np.abs(bent) * (size - np.abs(bent) / 2) + mu * here**2 / 2
        if (weight * f + square * g**2 > bound * (1 + 1e-9)).any():
            return f"the bound after {steps} steps"
    return ""
