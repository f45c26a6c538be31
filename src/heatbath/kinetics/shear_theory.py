"""Exact laws of the sheared tagged particle: what a simulation of ``kinetics.shear`` must show.

The regimes are those of arXiv 2506.15449; its theorems hold no numbers, and the closed forms below are derived here:
second moments, Lyapunov and moment-Lyapunov exponents for gamma = 0, the log-uniform law and the relation between collisions at
different times for -1 < gamma < 0, and the remaining hazard for gamma < -1. K is the shear rate, a = -gamma, T = 1.
"""

import dataclasses
import math

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float
from scipy.special import gammaln, lpmv

from heatbath.errors import InvalidArgumentError


# gamma = 0: second moments --------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class MaxwellMoments:
    """dM/dt = -(L M + M L^T) - relaxation M + mixing tr(M) I + (relaxation - 3 mixing) I for M = E[w w^T], gamma = 0.

    With A = strength E[(n.om)^2] and P = strength E[(n.om)^4] over the angular law: relaxation = 2A - (3P - A)/2 and
    mixing = (A - P)/2 (strength 1: 8/15 and 1/15 for uniform om, 3/4 and 1/12 for isotropic scattering).
    """

    relaxation: float
    mixing: float

    @staticmethod
    def of(angular: float = 0.0, strength: float = 1.0) -> "MaxwellMoments":
        """For b ~ |n.om|^angular."""
        second = strength * (1 + angular) / (3 + angular)
        fourth = strength * (1 + angular) / (5 + angular)
        return MaxwellMoments(2 * second - (3 * fourth - second) / 2, (second - fourth) / 2)

    @property
    def critical_rate(self) -> float:
        """The shear rate beyond which E|w|^2 grows without limit. The law itself stays tight far beyond it."""
        return self.relaxation * math.sqrt((self.relaxation - 3 * self.mixing) / (2 * self.mixing))

    def growth(self, rate: float) -> float:
        """mu of tr M ~ exp(mu t), the largest root of (mu + al)^3 = 3 be (mu + al)^2 + 2 be K^2; negative below critical."""
        roots = np.roots([1.0, -3 * self.mixing, 0.0, -2 * self.mixing * rate**2])
        return float(max(root.real for root in roots if abs(root.imag) < 1e-9)) - self.relaxation

    def stationary(self, rate: float) -> Float[np.ndarray, "3 3"]:
        """E[w w^T] of the stationary state. Raises ``InvalidArgumentError`` at and beyond the critical rate."""
        if rate >= self.critical_rate:
            raise InvalidArgumentError(
                f"second moments are stationary below the shear rate {self.critical_rate:.5g}; found {rate:.5g}"
            )
        al, be = self.relaxation, self.mixing
        second = (al - 3 * be) / (al - be * (3 + 2 * rate**2 / al**2))
        moments = np.diag([(1 + 2 * rate**2 / al**2) * second, second, second])
        moments[0, 1] = moments[1, 0] = -rate * second / al
        return moments

    def at(self, time: float, gradient: Float[np.ndarray, "3 3"], start: Float[np.ndarray, "3 3"]) -> np.ndarray:
        """M(time) from M(0) = ``start`` under a constant velocity gradient L."""
        eye, unit = np.eye(3), np.eye(3).reshape(-1)
        linear = -np.kron(gradient, eye) - np.kron(eye, gradient) - self.relaxation * np.eye(9)
        linear = linear + self.mixing * np.outer(unit, unit)
        full = np.zeros((10, 10))
        full[:9, :9], full[:9, 9] = linear, (self.relaxation - 3 * self.mixing) * unit
        return (scipy.linalg.expm(time * full) @ np.append(start.reshape(-1), 1.0))[:9].reshape(3, 3)


# gamma = 0: Lyapunov exponents ----------------------------------------------------------------------------------------
def moment_lyapunov(order: float, rate: float, angular: float = 0.0, strength: float = 1.0, degree: int = 24) -> float:
    """k(p) = lim (1/t) log E|w|^p for gamma = 0 and large |w|: the top eigenvalue of the generator on |w|^p Y(w/|w|).

    On spherical harmonics a collision is diagonal, strength (E[s^p P_l(s)] - 1) with s = sqrt(1 - (n.om)^2), and shear couples l
    with l and l +- 2. ``degree`` is the largest l. k(0) = 0; k(2) is the growth of the second moments where they grow.
    """
    half = degree // 2
    labels = [(level, m) for level in range(0, 2 * half + 1, 2) for m in range(-level, level + 1, 2)]
    index = {label: position for position, label in enumerate(labels)}
    nodes, weights = np.polynomial.legendre.leggauss(2 * half + 4)
    profile, turned = _legendre(labels, nodes)
    matrix = np.zeros((len(labels), len(labels)), complex)
    kept = _kept(order, angular, half)
    for column, (level, m) in enumerate(labels):
        # w2 d/dw1 (|w|^p Y) on the sphere: p w1 w2 Y + w1 w2 (cos/sin) dY/dtheta - sin^2(phi) dY/dphi
        slope = order * (1 - nodes**2) * profile[column] + turned[column]
        turn = 0.25j * m * profile[column]
        for n, integrand in ((m, -2 * turn), (m + 2, slope / 4j + turn), (m - 2, -slope / 4j + turn)):
            for row in (index.get((other, n)) for other in (level - 2, level, level + 2)):
                if row is not None:
                    matrix[row, column] = -rate * np.sum(weights * profile[row] * integrand)
        matrix[column, column] += strength * (kept[level // 2] - 1)
    return float(np.linalg.eigvals(matrix).real.max())


def _kept(order: float, angular: float, half: int) -> list[float]:
    """E[s^p P_l(s)] over the angular law for l = 0, 2, ..., 2 half: what a collision keeps of |w|^p Y_lm."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    sine = np.sqrt(-np.expm1(2 * np.log((nodes + 1) / 2) / (1 + angular)))
    levels = (np.polynomial.legendre.Legendre.basis(2 * k)(sine) for k in range(half + 1))
    return [float(np.sum(weights / 2 * sine**order * level)) for level in levels]


def lyapunov(rate: float, angular: float = 0.0, strength: float = 1.0, degree: int = 24) -> float:
    """chi = k'(0), the growth rate of a typical |w| for gamma = 0. Where it is positive there is no stationary state."""
    step = 1e-3
    up, down = (moment_lyapunov(p, rate, angular, strength, degree) for p in (step, -step))
    return (up - down) / (2 * step)


def tail_exponent(rate: float, angular: float = 0.0, strength: float = 1.0, degree: int = 24) -> float:
    """p of the stationary tail f ~ |w|^(-3-p): the positive root of k(p). Raises ``InvalidArgumentError`` where chi >= 0."""
    if lyapunov(rate, angular, strength, degree) >= 0:
        raise InvalidArgumentError(f"at the shear rate {rate:.5g} a typical speed grows: there is no stationary state")

    def k(order):
        return moment_lyapunov(order, rate, angular, strength, degree)

    high = 1.0
    while k(high) < 0:
        high *= 2
        if high > 64:
            raise InvalidArgumentError(f"the tail at the shear rate {rate:.5g} is thinner than a power of 64")
    return float(scipy.optimize.brentq(k, 1e-3, high, xtol=1e-8))


def _legendre(labels, nodes) -> tuple[np.ndarray, np.ndarray]:
    """Normalised P_l^m at the nodes (azimuth divided out), and sin cos d/dtheta of them."""
    profile, turned = [], []
    for level, m in labels:
        size = abs(m)
        log_norm = 0.5 * (math.log((2 * level + 1) / 2) + gammaln(level - size + 1) - gammaln(level + size + 1))
        here = math.exp(log_norm) * lpmv(size, level, nodes)
        below = math.exp(log_norm) * lpmv(size, level - 1, nodes) if level > size else np.zeros_like(nodes)
        profile.append(here)
        turned.append(nodes * (level * nodes * here - (level + size) * below))
    return np.array(profile), np.array(turned)


# -1 < gamma < 0: no self-similar profile ------------------------------------------------------------------------------
def log_uniform_cdf(y: Float[np.ndarray, "..."], gamma: float) -> np.ndarray:
    """The limit law of y = log|w2| / log t: density c / y on [1/a - 1, 1/a], c = 1 / log(1/(1 - a)).

    Exact in the limit when the memory of the initial law (``memory``) is zero; it decays for no a, but is tiny for a <= 0.5
    and thermal starts.
    """
    a = _exponent(gamma)
    low = 1 / a - 1
    return np.asarray(np.clip(np.log(np.maximum(y, low * 1e-9) / low) / -math.log1p(-a), 0.0, 1.0))


def log_uniform_quantile(probability: Float[np.ndarray, "..."], gamma: float) -> np.ndarray:
    """(1/a - 1) (1 - a)^(-probability)."""
    a = _exponent(gamma)
    return np.asarray((1 / a - 1) * (1 - a) ** -np.asarray(probability, float))


def memory(y: Float[np.ndarray, " particle"], gamma: float) -> complex:
    """The first Fourier mode of log y on its circle of length log(1/(1 - a)): 0 for the log-uniform law.

    What is left of the initial law for ever: the flux of collisions obeys J(tau) = (1 - a) J((1 - a) tau), tau = log t, so that
    J = P(log tau) / tau with any function P of that period.
    """
    period = -math.log1p(-_exponent(gamma))
    return complex(np.mean(np.exp(2j * np.pi * np.log(y) / period)))


def collision_shift(gamma: float, rate: float, angular: float = 0.0) -> float:
    """The mean of tau' - tau / (1 - a) for collisions at tau and next at tau' (log times): a (log K + E log|om1 om2|) / (1 - a).

    From l = |w2| a flight lasts s with log s = [log((1-a) E) + a log(K l)] / (1-a), E exponential, and ends at w1 = -K l s, so
    that the next l is K l s |om1 om2|; the terms in E cancel in the mean. E log|om1 om2| is -2 for uniform om. The relation
    J(tau) = (1 - a) J((1 - a) tau) is exact for windows whose ends are related by this; left out, it costs terms of order 1/tau.
    """
    a = _exponent(gamma)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    cosine = (0.5 * (nodes + 1)) ** (1 / (1 + angular))
    across = 0.25 * float(np.sum(weights * np.log1p(-(cosine**2))))  # E log sin of the angle
    return a * (math.log(rate) - 1 / (1 + angular) + across - math.log(2)) / (1 - a)


def _exponent(gamma: float) -> float:
    if not -1 < gamma < 0:
        raise InvalidArgumentError(f"this law holds for -1 < gamma < 0; found gamma = {gamma}")
    return -gamma


# gamma < -1: frozen collisions ----------------------------------------------------------------------------------------
def frozen_hazard(w2, w3, rate: float, gamma: float, strength: float = 1.0) -> np.ndarray:
    """The hazard left for all times, from w1 = 0 with a background at rest, gamma < -1:

        H = strength |w_perp|^(1-a) / (K |w2|) sqrt(pi) Gamma((a-1)/2) / (2 Gamma(a/2)),

    so that exp(-H) is the probability of no further collision. Raises ``InvalidArgumentError`` for gamma >= -1: it diverges.
    """
    if not gamma < -1:
        raise InvalidArgumentError(f"collisions freeze for gamma < -1 only; found gamma = {gamma}")
    a = -gamma
    front = strength * math.sqrt(math.pi) / 2 * math.exp(gammaln((a - 1) / 2) - gammaln(a / 2))
    return np.asarray(front * np.hypot(w2, w3) ** (1 - a) / (rate * np.abs(w2)))
