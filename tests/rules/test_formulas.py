"""Formulas are printed as a mathematician writes them, and stay the same expressions."""

import pytest
import sympy
from sympy import Rational, Symbol

from odeopt import HeavyBall, certify, error_dynamics, mode_solution, ode_limit
from odeopt.proofs.families import heavy_ball
from odeopt.proofs.latex import printed_proof
from odeopt.proofs.notation import PLAIN
from odeopt.rules.formulas import ROUNDED, VectorName, latex, normal, text

b, beta, eta, h, t = sympy.symbols("b beta eta h t", positive=True)
LONG = Rational(2947853383768011, 2500000000000000)

WRITTEN = [
    (-1 / (beta - 1), "1/(1 - beta)", r"\frac{1}{1 - \beta}"),
    (1 / (beta - 1), "-1/(1 - beta)", r"- \frac{1}{1 - \beta}"),
    (1 - b * h, "1 - b*h", "1 - b h"),
    (beta - 1, "beta - 1", r"\beta - 1"),
    (1 - b - beta, "1 - b - beta", r"1 - b - \beta"),
    (h * (beta + 1) / (beta - 1) ** 2, "h*(1 + beta)/(1 - beta)**2", None),
    (eta * (beta - 1), "-eta*(1 - beta)", r"- \eta \left(1 - \beta\right)"),
    (b**3 * h**2 / 3 + b**2 * h / 2 + b, "b + b**2*h/2 + b**3*h**2/3", None),
    (1 + h * b / (2 * t), "1 + b*h/(2*t)", None),
    # what grows stands first, and keeps its sign
    (t + 3, "t + 3", "t + 3"),
    (8 - t, "8 - t", "8 - t"),
    (1 / (t - 1), "1/(t - 1)", r"\frac{1}{t - 1}"),
    (b**2 - b, "b**2 - b", "b^{2} - b"),
    (1 / sympy.sqrt(h + 1), "1/sqrt(1 + h)", None),
    # the eigenvalue by its name, whatever Python lets it be called
    (Symbol("lam") * t, "lambda*t", r"\lambda t"),
    (Symbol("lambda_") / 2, "lambda/2", r"\frac{\lambda}{2}"),
    # numbers
    (sympy.Float(0.1) * h, "0.1*h", "0.1 h"),
    (sympy.Float(1e-8), "1e-8", "10^{-8}"),
    (sympy.Float(2.5e-8), "2.5e-8", r"2.5 \cdot 10^{-8}"),
    (sympy.Float(2.5e-8) ** h, "2.5e-8**h", r"\left(2.5 \cdot 10^{-8}\right)^{h}"),
    (sympy.Float(0.9999999) * h, "0.9999999*h", "0.9999999 h"),
    (sympy.Float(2.0000000000000004) * h, "2*h", "2 h"),
    (Rational(3, 10), "3/10", r"\frac{3}{10}"),
    (Rational(12345678, 97), "12345678/97", None),
    (-LONG * h, "-1.17914...*h", r"- 1.17914\ldots h"),
    (Rational(1, 10**9 + 7), "1e-9...", r"1\ldots \cdot 10^{-9}"),
    # vectors last
    (VectorName("X") * (1 - beta), None, r"\left(1 - \beta\right) X"),
    (h**2 * VectorName("M_10") / 2, None, r"\frac{h^{2}}{2} M_{10}"),
]


@pytest.mark.parametrize(("expr", "plain", "tex"), WRITTEN, ids=str)
def test_formula_is_written_as_in_a_paper(expr, plain, tex):
    assert plain is None or text(expr) == plain
    assert tex is None or latex(expr) == tex


@pytest.mark.parametrize("expr", [e for e, plain, _ in WRITTEN if ROUNDED not in str(plain)], ids=str)
def test_sign_of_factors_changes_the_writing_alone(expr):
    assert sympy.simplify(normal(expr) - expr) == 0
    assert normal(normal(expr)) == normal(expr)


def test_limits_and_modes_have_no_negative_denominators():
    limit = ode_limit(HeavyBall(h, beta), h, resolution=1)
    equation = "X' + (1/(1 - beta))*grad f(X) + (h*(1 + beta)/(2*(1 - beta)**3))*grad^2 f(X)[grad f(X)] = 0"
    assert str(limit) == equation
    assert r"\beta - 1" not in "".join([limit.latex(), *(step.latex() for step in limit.steps)])
    assert (
        limit.steps[0]
        .latex()
        .endswith(r"x_{k+1} = \left(1 + \beta\right) x_k - \beta x_{k-1} - h \nabla f(x_k)")
    )
    mode = mode_solution(error_dynamics(ode_limit(HeavyBall(h, beta), h)))
    assert mode._repr_latex_().endswith(r"e^{- \frac{\lambda t}{1 - \beta}}$")
    assert repr(HeavyBall(h**2, 1 - b * h)) == "HeavyBall(lr=h**2, momentum=1 - b*h)"


def test_expansion_goes_by_powers_of_the_step_and_an_equation_by_derivatives():
    steps = {s.title: s.latex() for s in ode_limit(HeavyBall(h**2, 1 - b * h), h, resolution=1).steps}
    assert r"X + h \dot{X} + \frac{h^{2}}{2} \ddot{X} + \frac{h^{3}}{6} \dddot{X} + O" in steps["Expansion"]
    assert steps["Limit, order h^2"].endswith(r"\ddot{X} + b \dot{X} + \nabla f(X) = 0")


def test_proof_with_long_numbers_says_that_they_are_rounded_and_holds_them_exactly():
    limit = ode_limit(HeavyBall(0.013, 0.87))
    certificate = certify(limit, mu=1)
    assert str(certificate.flow.friction[0]).startswith("2947853383768011/")
    for page in (printed_proof(certificate, PLAIN), certificate.latex()):
        assert "2947853383768011" not in page
        assert "1.17914" in page
        assert "is rounded" in page.splitlines()[-1 if "aligned" not in page else -2]
    assert "2947853383768011/2500000000000000" in certificate.to_json()
    assert certificate.from_json(certificate.to_json()).verify()
    assert "rounded" not in heavy_ball(b=2, mu=1).latex()
