"""Tampered certificates: changes of true ones, at random and by kind."""

import functools
import json

import numpy as np
from sympy import Integer, Rational, sqrt

from odeopt import GradientDescent, HeavyBall, certify
from odeopt.proofs import Flow, families

BASES = {
    "gradient flow": lambda: families.gradient_flow(mu=1),
    "heavy ball": lambda: families.heavy_ball(b=2, mu=1),
    "heavy ball, root": lambda: families.heavy_ball(b=3, mu=1),
    "heavy ball, critical": lambda: families.heavy_ball(b=3 / sqrt(2), mu=1),
    "heavy ball, symbols": families.heavy_ball,
    "smooth": lambda: families.heavy_ball_smooth(1, Rational(3, 2)),
    "smooth, symbols": families.heavy_ball_smooth,
    "quadratics": lambda: families.heavy_ball_quadratic(b=3, mu=1),
    "quadratics, symbols": families.heavy_ball_quadratic,
    "r/t, quadratics": lambda: families.nesterov_quadratic(r=3, mu=1),
    "r/t, convex, symbols": families.nesterov_convex,
    "r/t, strongly convex": lambda: families.nesterov_strongly_convex(r=6, mu=1),
    "r/t, smooth, symbols": lambda: families.nesterov_smooth(above_two=True),
    "any damping": families.any_damping,
    "searched": lambda: certify(Flow((Integer(2),)), mu=1, L=10),
    "Hessian": lambda: certify(Flow((Integer(2),), hessian=Rational(1, 10)), mu=1, L=10),
    "third order": lambda: certify(Flow((Integer(6), Integer(5))), mu=1, L=2),
    "gradient descent": lambda: families.gradient_descent(lr=Rational(2, 5), mu=1, L=4),
    "gradient descent, symbols": families.gradient_descent,
    "searched iteration": lambda: certify(HeavyBall(Rational(1, 10), Rational(3, 10)), mu=1, L=4),
    "triple momentum": lambda: families.triple_momentum(mu=1, L=4),
    "triple momentum, symbols": families.triple_momentum,
    "potential": lambda: certify(GradientDescent(lr=1), L=1),
    "potential, symbols": families.gradient_descent_convex,
    "Nesterov potential": lambda: families.nesterov_descent(lr=1, L=1, r=3),
}
ZERO = "(sqrt(5+2*sqrt(6))-sqrt(2)-sqrt(3))"
SLOW = [
    "((f+x+v)**64)**64",
    "(f+x+v+g+2*x*v+3*f*g+7*x*x)**60",
    "(1+sqrt(2)+sqrt(3)+sqrt(5))**64",
    "+".join(f"sqrt({p})" for p in (2, 3, 5, 7, 11, 13, 17, 19)),
    f"1/{ZERO}",
    f"{ZERO}**64*2**60",
    "(" * 40 + "1" + ")" * 40,
    "*".join(["(7**60/3**60)"] * 60),
    "sqrt(" * 20 + "2" + ")" * 20,
    "*".join(["(x+2*v-3*g+f)"] * 30),
    "/".join(f"(t+{i})" for i in range(1, 60)),
    "+".join(f"1/(t+{i})" for i in range(1, 60)),
]
JUNK = [
    None,
    1,
    1.5,
    True,
    [],
    {},
    "",
    "x" * 30_000,
    "\u0661",
    "1e5",
    "0x1",
    "1_0",
    "f f",
    "f;1",
    "x.y",
    "x[0]",
]
JUNK += [
    "f(x)",
    "lambda: 1",
    "x if f else v",
    "__import__('os')",
    "2**65",
    "x**v",
    "sqrt(-1)",
    "sqrt(x,v)",
    "1/0",
]
JUNK += ["x@v", "-" * 500 + "1", "1+" * 4000 + "1", [[["1"]]], {"a": 1}]


def places(content, path=()):
    """Paths to all leaves of a document."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs:
        if isinstance(value, (dict, list)) and value:
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def put(content, path, change):
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = change(content[path[-1]])


def expressions(content):
    """Paths to the leaves that hold expressions of the proof."""
    skipped = {"format", "title", "law", "search", "signs", "vectors"}
    labels = {"name", "symbol", "kind", "strict", "horizon"}
    found = [p for p in places(content) if p[0] not in skipped and p[-1] not in labels]
    return [p for p in found if _at(content, p) is not None and isinstance(_at(content, p), str)]


def _at(content, path):
    for key in path:
        content = content[key]
    return content


def number(content, rng):
    """One expression a little, or much, off."""
    path = pick(rng, expressions(content))
    size = pick(rng, ["1/10**9", "-1/10**9", "1/7", "-1", f"{ZERO}+1/10**30"])
    put(content, path, lambda e: pick(rng, [f"{e} + {size}", f"({e})*(1 + {size})", f"-({e})", "0"]))


def symbol(content, rng):
    symbols = ["f", "x", "v", "g", "q", "t", "x_0", "x_1", "g_0", "g_1", "f_0", "f_1", "nu", "s", "mu"]
    path = pick(rng, expressions(content))
    put(content, path, lambda e: pick(rng, [f"{e} + {pick(rng, symbols)}", f"({e})*{pick(rng, symbols)}",
                                            pick(rng, symbols), f"({e})/{pick(rng, symbols)}"]))  # fmt: skip


def shape(content, rng):
    rows = content["remainder"]
    n = len(rows)
    kind = rng.integers(6)
    content["remainder"] = [
        [[e for row in rows for e in row]], rows[:-1], [row[:-1] for row in rows], [*rows, rows[0]],
        [["-1" if i == j else "0" for j in range(n)] for i in range(n)], [row[::-1] for row in rows],
    ][kind]  # fmt: skip
    if rng.random() < 0.3:
        content["vectors"] = pick(
            rng, [content["vectors"][:-1], content["vectors"] * 2, [], content["vectors"][::-1]]
        )


def correction(content, rng):
    content["correction"] = pick(
        rng, ["1/t**2", "-1/t**2", "-10*s**2/t**2", "1/t", f"-1/({ZERO}*t**3+t)", "-5/t**3"]
    )
    if rng.random() < 0.5:
        content["domain"].append({"symbol": "s", "lower": None, "upper": None, "strict": False})
        if content["flow"]["kind"] == "flow":
            content["flow"]["derivatives"]["s"] = pick(rng, ["1", "-s", "s**2"])


def domain(content, rng):
    bounds = content["domain"]
    lower = pick(rng, ["0", f"1/{ZERO}", "t", "1", None])
    extra = {"symbol": pick(rng, ["p", "t", "x", "s", "mu"]), "lower": lower,
             "upper": pick(rng, [None, "0", "1", ZERO, "t"]), "strict": bool(rng.integers(2))}  # fmt: skip
    if not bounds or rng.random() < 0.3:
        bounds.insert(int(rng.integers(len(bounds) + 1)), extra)
        return
    i = int(rng.integers(len(bounds)))
    kind = rng.integers(6)
    if kind == 0:
        del bounds[i]
    elif kind == 1:
        bounds[i]["lower"] = pick(rng, [None, "-1", f"({bounds[i]['lower'] or 0}) - 1/1000", f"1/{ZERO}"])
    elif kind == 2:
        bounds[i]["upper"] = pick(rng, [None, "5", bounds[i]["lower"], "t", "-7"])
    elif kind == 3:
        bounds[i]["strict"] = not bounds[i]["strict"]
    elif kind == 4:
        bounds.append(dict(bounds[i]))
    else:
        bounds.reverse()


def equality(content, rng):
    """E(x) = 0 where the class grants it or not, added to V or to the multipliers."""
    one = content["flow"]["kind"] == "iteration"
    name, e, energy = ("E(0)", "g_0*x_0 - 2*f_0", "g_0*x_0") if one else ("E(x)", "g*x - 2*f", "g*x")
    if rng.random() < 0.7:
        content["class"] = {"kind": "quadratic", "mu": content["class"]["mu"], "L": content["class"]["L"]}
    if rng.random() < 0.5:
        share = pick(rng, ["1/2", "1/2 - 1/1000", "t**(-3) + 1/2", "1"])
        content["energy"] = pick(rng, [f"{content['energy']} + ({share})*({e})", f"{e[-3:]} - {energy}/2"])
        content["positivity"].append(
            {"name": name, "value": pick(rng, [f"-({share})", share, "0"]), "inequality": e}
        )
    content["multipliers"].append(
        {"name": name, "value": pick(rng, ["0", "1", "-5", "1/t"]), "inequality": e}
    )


def function_class(content, rng):
    content["class"][pick(rng, ["mu", "L"])] = pick(rng, ["0", "1", "2", "100", None, "99/100", "mu", "t"])
    if rng.random() < 0.3:
        content["class"]["kind"] = pick(rng, ["convex", "quadratic", "strongly convex", "all"])


def law(content, rng):
    content["law"] = pick(rng, ["exponential", "power", "integral", "factor", "potential", "none"])
    if rng.random() < 0.5:
        put(content, ("rate",), lambda e: pick(rng, [f"2*({e})", "1", "50"]))


def ends(content, rng):
    if content["ends"] is None:
        content["ends"] = {"horizon": "N", "bound": "x_0**2", "start": [], "value": "f_0", "end": []}
        return
    path = pick(rng, [p for p in expressions(content) if p[0] == "ends"])
    put(
        content,
        path,
        lambda e: pick(rng, [f"({e})/2", f"2*({e})", "0", "f_0", "x_0**2", "1", "t", f"({e})*N"]),
    )


def slow(content, rng):
    put(content, pick(rng, expressions(content)), lambda _: pick(rng, SLOW))


def junk(content, rng):
    put(content, pick(rng, list(places(content))), lambda _: pick(rng, JUNK))


def keys(content, rng):
    path = pick(rng, [p for p in places(content) if isinstance(p[-1], str)])
    inside = _at(content, path[:-1])
    if rng.random() < 0.5:
        del inside[path[-1]]
    else:
        inside["more"] = 1


def evidence(content, rng):
    paths = [p for p in expressions(content) if p[0] in ("point", "squares")]
    if paths:
        put(content, pick(rng, paths), lambda e: pick(rng, [f"-({e})", f"({e}) + 1/10**6", "0", f"1/{ZERO}"]))


KINDS = [
    number,
    symbol,
    shape,
    correction,
    domain,
    equality,
    function_class,
    law,
    ends,
    slow,
    junk,
    keys,
    evidence,
]
WEIGHTS = np.array([6, 2, 2, 2, 3, 3, 2, 1, 2, 2, 2, 1, 1], float)


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


@functools.cache
def documents():
    return {name: json.loads(make().to_json()) for name, make in BASES.items()}


def tampered(bases, rng):
    """Return the name of the kind, and the text of one changed document."""
    content = json.loads(json.dumps(bases[pick(rng, list(bases))]))
    kind = KINDS[int(rng.choice(len(KINDS), p=WEIGHTS / WEIGHTS.sum()))]
    if rng.random() < 0.5:  # as it was before there was evidence, where there were no potentials
        for name in ("ends", "point", "squares", "signs"):
            if kind not in (ends, evidence) and content["law"] != "potential":
                del content[name]
                content["format"] = "odeopt certificate 1"
    kind(content, rng)
    text = json.dumps(content)
    if rng.random() < 0.02:
        text = pick(rng, [text[:-1] + ', "rate": "1"}', text.replace('"1"', "NaN", 1), text[: len(text) // 2],
                          "[" * 5000, text.replace("1", "１", 1)])  # fmt: skip
    return kind.__name__, text
