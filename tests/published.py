"""Forty published rules, each written once as the code of its step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy

from odeopt import UpdateRule
from odeopt.rules import dot, norm, sign, sqrt


class Momentum(UpdateRule):
    """Rules whose only memory is one velocity or average, started at 0."""

    def initial_memory(self, x0):
        return (0 * x0,)


@dataclass(frozen=True)
class Sutskever(Momentum):
    """Sutskever, Martens, Dahl, Hinton, ICML 2013."""

    lr: object
    momentum: object

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        v = self.momentum * v - self.lr * grad(x + self.momentum * v)
        return x + v, (v,)


@dataclass(frozen=True)
class AggMo(UpdateRule):
    """Lucas, Sun, Zemel, Grosse, ICLR 2019: velocities with several dampings."""

    lr: object
    momenta: tuple

    def initial_memory(self, x0):
        return tuple(0 * x0 for _ in self.momenta)

    def step(self, k, iterates, memory, grad):
        (x,), g = iterates, grad(iterates[0])
        velocities = tuple(b * v - g for b, v in zip(self.momenta, memory, strict=True))
        return x + self.lr * sum(velocities[1:], velocities[0]) / len(velocities), velocities


@dataclass(frozen=True)
class ScheduleFree(UpdateRule):
    """Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, NeurIPS 2024."""

    lr: object
    beta: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad((1 - self.beta) * z + self.beta * x)
        c = 1 / (k + 1)
        return (1 - c) * x + c * z, (z,)


@dataclass(frozen=True)
class PolyakAverage(UpdateRule):
    """Polyak, Juditsky, SIAM J. Control Optim. 1992: the average of the iterates of gradient descent."""

    lr: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad(z)
        return x + (z - x) / (k + 2), (z,)


@dataclass(frozen=True)
class AveragedOutput(UpdateRule):
    """Exponential average of the weights (Tarvainen, Valpola, NeurIPS 2017) as the output."""

    lr: object
    decay: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad(z)
        return self.decay * x + (1 - self.decay) * z, (z,)


@dataclass(frozen=True)
class Lookahead(UpdateRule):
    """Zhang, Lucas, Ba, Hinton, NeurIPS 2019, around gradient descent: `period` inner steps."""

    lr: object
    alpha: object
    period = 4

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (slow,) = iterates, memory
        x = x - self.lr * grad(x)
        if k % 4 == 3:
            slow = slow + self.alpha * (x - slow)
            x = slow
        return x, (slow,)


@dataclass(frozen=True)
class SilverSteps(UpdateRule):
    """Altschuler, Parrilo, J. ACM 2024: steps 1 + rho^(nu - 1), here repeated with period 4."""

    lr: object
    period = 4

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        silver = 1 + 2**0.5
        size = 1 + silver ** (-1) if (k + 1) % 2 else (2 if (k + 1) % 4 else 1 + silver)
        return x - self.lr * size * grad(x), memory


@dataclass(frozen=True)
class CyclicalHeavyBall(UpdateRule):
    """Goujaud, Scieur, Dieuleveut, Taylor, Pedregosa, AISTATS 2022: two learning rates in turn."""

    lr: object
    momentum: object
    history = 2
    period = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        lr = self.lr * (3 if k % 2 else 1) / 2
        return x + self.momentum * (x - x_prev) - lr * grad(x), memory


@dataclass(frozen=True)
class Halpern(UpdateRule):
    """Halpern, Bull. AMS 1967; Lieder, Optim. Lett. 2021: anchored at the first iterate."""

    lr: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (x0,) = iterates, memory
        return x0 / (k + 2) + (x - self.lr * grad(x)) * (k + 1) / (k + 2), (x0,)


@dataclass(frozen=True)
class Extragradient(UpdateRule):
    """Korpelevich, Matekon 1976, with a fixed ratio of the two steps."""

    lr: object
    ratio: object
    gradients = 2

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * grad(x - self.ratio * self.lr * grad(x)), memory


@dataclass(frozen=True)
class Popov(UpdateRule):
    """Popov, Math. Notes 1980: the gradient at a point that the last gradient extrapolates."""

    lr: object

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (g,) = iterates, memory
        g = grad(x - 2 * self.lr * g)
        return x - self.lr * g, (g,)


@dataclass(frozen=True)
class Optimistic(UpdateRule):
    """Daskalakis, Ilyas, Syrgkanis, Zeng, ICLR 2018."""

    lr: object

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (last,) = iterates, memory
        g = grad(x)
        return x - self.lr * (2 * g - last), (g,)


@dataclass(frozen=True)
class OptimizedGradient(UpdateRule):
    """Kim, Fessler, Math. Program. 2016, with theta = (k + 2)/2."""

    lr: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (y_last,) = iterates, memory
        y = x - self.lr * grad(x)
        return y + k / (k + 3) * (y - y_last) + (k + 2) / (k + 3) * (y - x), (y,)


@dataclass(frozen=True)
class WarmHeavyBall(UpdateRule):
    """Heavy ball with the momentum k/(k + 3) (Ghadimi, Feyzmahdavian, Johansson, ECC 2015)."""

    lr: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + k / (k + 3) * (x - x_prev) - self.lr * grad(x), memory


@dataclass(frozen=True)
class Polynomial(UpdateRule):
    """Wibisono, Wilson, Jordan, PNAS 2016, p = 3: x'' + 4/t x' + 9 C t grad f = 0."""

    h: object
    C: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.C * 3 * k * k * self.h**3 * grad(x)
        return x + 3 / (k + 3) * (z - x), (z,)


@dataclass(frozen=True)
class LeapfrogFriction(UpdateRule):
    """Velocity Verlet (Verlet, Phys. Rev. 1967) with friction, the velocity kept as a displacement."""

    lr: object
    momentum: object
    gradients = 2

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        half = self.momentum * v - self.lr / 2 * grad(x)
        x = x + half
        return x, (half - self.lr / 2 * grad(x),)


@dataclass(frozen=True)
class Decayed(UpdateRule):
    """Heavy ball with weight decay in the gradient (Krogh, Hertz, NeurIPS 1991)."""

    lr: object
    momentum: object
    decay: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * (grad(x) + self.decay * x), memory


@dataclass(frozen=True)
class SGDW(Momentum):
    """Loshchilov, Hutter, ICLR 2019: decoupled decay beside a velocity."""

    lr: object
    momentum: object
    decay: object

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        v = self.momentum * v - self.lr * grad(x)
        return x + v - self.decay * x, (v,)


@dataclass(frozen=True)
class RobbinsMonro(UpdateRule):
    """Robbins, Monro, Ann. Math. Stat. 1951: steps that fall like a power, here (k + 1)^(-1/2)."""

    lr: object

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr / sqrt(k + 1) * grad(x), memory


@dataclass(frozen=True)
class LinearDecay(UpdateRule):
    """Defazio, Cutkosky, Mehta, Mishchenko 2023: the step falls to 0 at the horizon T."""

    lr: object
    horizon: object

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * sympy_max(1 - k * self.lr / self.horizon) * grad(x), memory


def sympy_max(value):
    """max(0, value) of a number or an expression."""
    symbolic = hasattr(value, "_sympy_") or hasattr(value, "free_symbols")
    return sympy.Max(0, sympy.sympify(value)) if symbolic else max(0.0, value)


@dataclass(frozen=True)
class Demon(Momentum):
    """Chen, Wolfe, Li, Kyrillidis, ICASSP 2022: a momentum that decays over the run."""

    lr: object
    time_step: object

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        momentum = 1 - self.time_step / (1 - k * self.time_step / 4)
        v = momentum * v - self.lr * grad(x)
        return x + v, (v,)


@dataclass(frozen=True)
class PID(UpdateRule):
    """An, Wang, Li, Sun, Dai, Zhang, CVPR 2018: a velocity and the change of the gradient."""

    lr: object
    momentum: object
    derivative: object

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (v, d, last) = iterates, memory
        g = grad(x)
        last = g if k == 0 else last
        v = self.momentum * v - self.lr * g
        d = self.momentum * d + (1 - self.momentum) * (g - last)
        return x + v - self.derivative * d, (v, d, g)


@dataclass(frozen=True)
class Leapfrog(UpdateRule):
    """The explicit midpoint rule, weakly unstable (Dahlquist, Math. Scand. 1956)."""

    lr: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x_prev - 2 * self.lr * grad(x), memory


@dataclass(frozen=True)
class MostAccurate(UpdateRule):
    """The explicit two-step method of third order: consistent, and zero-unstable (Dahlquist 1956)."""

    lr: object
    history = 2

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        (last,) = memory
        g = grad(x)
        return -4 * x + 5 * x_prev - self.lr * (4 * g + 2 * last), (g,)


# --- steps that are not linear ------------------------------------------------------------------------


@dataclass(frozen=True)
class Signum(Momentum):
    """Bernstein, Wang, Azizzadenesheli, Anandkumar, ICML 2018."""

    lr: object
    momentum: object

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        m = self.momentum * m + (1 - self.momentum) * grad(x)
        return x - self.lr * sign(m), (m,)


@dataclass(frozen=True)
class Lion(Momentum):
    """Chen, Liang, Huang et al., NeurIPS 2023."""

    lr: object
    beta1: object
    beta2: object
    decay: object

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        g = grad(x)
        update = sign(self.beta1 * m + (1 - self.beta1) * g) + self.decay * x
        return x - self.lr * update, (self.beta2 * m + (1 - self.beta2) * g,)


@dataclass(frozen=True)
class CentredRMSProp(UpdateRule):
    """Graves, arXiv 1308.0850: the mean square less the square of the mean."""

    lr: object
    alpha: object
    eps: object

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m = self.alpha * m + (1 - self.alpha) * g
        v = self.alpha * v + (1 - self.alpha) * g**2
        return x - self.lr * g / sqrt(v - m**2 + self.eps), (m, v)


@dataclass(frozen=True)
class AdamW(UpdateRule):
    """Loshchilov, Hutter, ICLR 2019."""

    lr: object
    beta1: object
    beta2: object
    eps: object
    decay: object

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0

    def direction(self, g, m, v, k):
        return m / (1 - self.beta1 ** (k + 1)), v / (1 - self.beta2 ** (k + 1))

    def step(self, k, iterates, memory, grad):
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g**2
        m_hat, v_hat = self.direction(g, m, v, k)
        return x - self.lr * (m_hat / (sqrt(v_hat) + self.eps) + self.decay * x), (m, v)


@dataclass(frozen=True)
class NAdam(AdamW):
    """Dozat, ICLR workshop 2016: Nesterov's look-ahead in Adam's mean."""

    def direction(self, g, m, v, k):
        ahead = self.beta1 * m / (1 - self.beta1 ** (k + 2)) + (1 - self.beta1) * g / (
            1 - self.beta1 ** (k + 1)
        )
        return ahead, v / (1 - self.beta2 ** (k + 1))


@dataclass(frozen=True)
class AdaBelief(AdamW):
    """Zhuang, Tang, Ding et al., NeurIPS 2020: the mean square of g - m."""

    def step(self, k, iterates, memory, grad):
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * (g - m) ** 2
        m_hat, v_hat = self.direction(g, m, v, k)
        return x - self.lr * m_hat / (sqrt(v_hat + self.eps) + self.eps), (m, v)


@dataclass(frozen=True)
class Yogi(AdamW):
    """Zaheer, Reddi, Sachan, Kale, Kumar, NeurIPS 2018: the mean square moves by its sign; it starts at 1."""

    def initial_memory(self, x0):
        return 0 * x0, 1 + 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = v - (1 - self.beta2) * sign(v - g**2) * g**2
        return x - self.lr * m / (sqrt(v) + self.eps), (m, v)


@dataclass(frozen=True)
class Adan(UpdateRule):
    """Xie, Zhou, Li, Lin, Yan, TPAMI 2024: Adam with the change of the gradient."""

    lr: object
    beta1: object
    beta2: object
    beta3: object
    eps: object

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0, 1 + 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v, n, last) = iterates, memory
        g = grad(x)
        last = g if k == 0 else last
        change = g - last
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * change
        n = self.beta3 * n + (1 - self.beta3) * (g + self.beta2 * change) ** 2
        return x - self.lr * (m + self.beta2 * v) / (sqrt(n) + self.eps), (m, v, n, g)


@dataclass(frozen=True)
class Adadelta(UpdateRule):
    """Zeiler, arXiv 1212.5701, with a learning rate and slow averages that start at 1."""

    lr: object
    rho: object

    def initial_memory(self, x0):
        return 1 + 0 * x0, 1 + 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (v, u) = iterates, memory
        g = grad(x)
        v = self.rho * v + (1 - self.rho) * g**2
        d = sqrt(u) / sqrt(v) * g
        u = self.rho * u + (1 - self.rho) * d**2
        return x - self.lr * d, (v, u)


@dataclass(frozen=True)
class Normalised(UpdateRule):
    """Cortes, Automatica 2006: gradient over its norm."""

    lr: object

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        return iterates[0] - self.lr * g / norm(g), memory


@dataclass(frozen=True)
class NormalisedMomentum(Momentum):
    """Cutkosky, Mehta, ICML 2020."""

    lr: object
    momentum: object

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        m = self.momentum * m + (1 - self.momentum) * grad(x)
        return x - self.lr * m / sqrt(dot(m, m) + sympy_or_float(0.01, m)), (m,)


def sympy_or_float(value, like):
    return value if isinstance(like, np.ndarray) else sympy.Rational(repr(value))


@dataclass(frozen=True)
class Clipped(UpdateRule):
    """Pascanu, Mikolov, Bengio, ICML 2013: the norm of the gradient is clipped."""

    lr: object
    threshold: object

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        return iterates[0] - self.lr * np.minimum(1, self.threshold / norm(g)) * g, memory


@dataclass(frozen=True)
class LARS(UpdateRule):
    """You, Gitman, Ginsburg, arXiv 1708.03888, one layer."""

    lr: object

    def step(self, k, iterates, memory, grad):
        (x,), g = iterates, grad(iterates[0])
        return x - self.lr * norm(x) / norm(g) * g, memory


@dataclass(frozen=True)
class AdaGradNorm(UpdateRule):
    """Ward, Wu, Bottou, JMLR 2020; torch-like from 0."""

    lr: object

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (b,) = iterates, memory
        g = grad(x)
        b = b + dot(g, g)
        return x - self.lr * g / sqrt(b), (b,)


@dataclass(frozen=True)
class SAM(UpdateRule):
    """Foret, Kleiner, Mobahi, Neyshabur, ICLR 2021, with a fixed radius."""

    lr: object
    rho: object
    gradients = 2

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        g = grad(x)
        return x - self.lr * grad(x + self.rho * g / norm(g)), memory


@dataclass(frozen=True)
class AMSGrad(AdamW):
    """Reddi, Kale, Kumar, ICLR 2018."""

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v, top) = iterates, memory
        g = grad(x)
        m = self.beta1 * m + (1 - self.beta1) * g
        v = self.beta2 * v + (1 - self.beta2) * g**2
        top = np.maximum(top, v)
        return x - self.lr * m / (sqrt(top) + self.eps), (m, v, top)


@dataclass(frozen=True)
class BarzilaiBorwein(UpdateRule):
    """Barzilai, Borwein, IMA J. Numer. Anal. 1988."""

    lr: object
    history = 2
    gradients = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        s, d = x - x_prev, grad(x) - grad(x_prev)
        return x - dot(s, s) / dot(s, d) * grad(x), memory


@dataclass(frozen=True)
class Restarted(UpdateRule):
    """O'Donoghue, Candes, Found. Comput. Math. 2015: momentum is dropped where it climbs."""

    lr: object
    momentum: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        g = grad(x)
        momentum = self.momentum if (g * (x - x_prev)).sum() < 0 else 0
        return x + momentum * (x - x_prev) - self.lr * g, memory


@dataclass(frozen=True)
class Muon(Momentum):
    """Jordan et al. 2024: a velocity made orthogonal, by one step of Newton and Schulz."""

    lr: object
    momentum: object

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        m = self.momentum * m + grad(x)
        return x - self.lr * (1.5 * m - 0.5 * m @ m.T @ m), (m,)
