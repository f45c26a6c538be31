"""Collisions of a tagged particle with a background: their rate, the partner's velocity, and what a collision does.

The kernel is B = b(n.om) |w - w*|^gamma with a bounded angular law b; the background is the Maxwellian of temperature 1 or at
rest. Velocities are written as ``Velocity(vector, log_scale)``, so that speeds beyond the largest floating-point number
are ordinary.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Scalar
from scipy.special import gammaln, hyp1f1

from heatbath.errors import InvalidArgumentError

#: Speed up to which the collision rate is tabulated; beyond it an asymptotic series is exact to rounding.
TABLE_SPEED = 20.0
TABLE_POINTS = 2048
#: Speed up to which the radius of the rejection ball is tabulated.
BALL_SPEED = 50.0
_SERIES = 10


class Velocity(NamedTuple):
    """w = exp(log_scale) vector, with |vector| of order one for fast particles and log_scale 0 for slow ones."""

    vector: Array
    log_scale: Scalar

    @property
    def log_speed(self) -> Scalar:
        """log |w|."""
        return self.log_scale + jnp.log(jnp.linalg.norm(self.vector, axis=-1))


def velocity(vector: Any) -> Velocity:
    """An ordinary vector of three components (any leading axes) as a ``Velocity``."""
    vector = jnp.asarray(vector, jnp.result_type(float))
    return Velocity(vector, jnp.zeros(vector.shape[:-1], vector.dtype))


class CollisionLaw(eqx.Module):
    """How often and how a tagged particle collides.

    gamma:       homogeneity of the kernel, -3 < gamma <= 1 (0: Maxwell molecules; 1: hard spheres)
    strength:    Lambda, the integral of b over directions
    angular:     p of b ~ |n.om|^p: 0 is uniform in om, 1 isotropic scattering in the centre of mass
    background:  "maxwellian" (temperature 1, comoving) or "rest" (all partners at w* = 0, the simplified model: every collision
                 slows down, and a particle too slow for the shear comes to rest in a finite time)

    After a collision w' = w - ((w - w*).om) om. Make one with ``collision_law``, which checks and tabulates.
    """

    gamma: Float[Array, ""]
    log_strength: Float[Array, ""]
    angular: Float[Array, ""]
    log_rates: Float[Array, " points"]
    slopes: Float[Array, " points"]
    ball: Float[Array, " speeds"]
    series: Float[Array, " terms"]
    background: Literal["maxwellian", "rest"] = eqx.field(static=True)
    sign: int = eqx.field(static=True)

    def log_rate(self, log_speed: Scalar) -> Scalar:
        """log of lam(w) = Lambda E|w - w*|^gamma, w* from the background, as a function of log |w|."""
        if self.background == "rest":
            return self.log_strength + self.gamma * log_speed
        if self.sign == 0:
            return self.log_strength + 0.0 * log_speed
        slow = jnp.minimum(log_speed, jnp.log(TABLE_SPEED))
        position = jnp.log1p(jnp.exp(2 * slow)) / jnp.log1p(TABLE_SPEED**2) * (TABLE_POINTS - 1)
        inside = _hermite(self.log_rates, self.slopes, position)
        fast = jnp.maximum(log_speed, jnp.log(TABLE_SPEED))
        outside = self.gamma * fast + jnp.log(jnp.polyval(self.series[::-1], jnp.exp(-2 * fast)))
        return self.log_strength + jnp.where(log_speed < jnp.log(TABLE_SPEED), inside, outside)

    def partner(self, key: Key[Array, ""], w: Velocity) -> tuple[Float[Array, "3"], Bool[Array, ""]]:
        """One attempt at w* from the density ~ M(w*) |w - w*|^gamma, and whether it is accepted.

        gamma < 0: propose from M outside a ball about w, where |u|^gamma <= d^gamma, or from |u|^gamma inside it, where
        M <= M_max. gamma > 0: |u|^gamma <= |w|^gamma + 1 - gamma + gamma |w*| is a mixture of M and |w*| M.
        """
        if self.background == "rest":
            return jnp.zeros_like(w.vector), jnp.ones((), bool)
        normal_key, uniform_key = jax.random.split(key)
        normals = jax.random.normal(normal_key, (7,), w.vector.dtype)
        if self.sign == 0:
            return normals[:3], jnp.ones((), bool)
        uniforms = jax.random.uniform(uniform_key, (3,), w.vector.dtype)
        if self.sign > 0:
            return self._partner_growing(normals, uniforms, w)
        return self._partner_decaying(normals, uniforms, w)

    def _partner_decaying(self, normals, uniforms, w):
        log_speed = jnp.maximum(w.log_speed, -600.0)
        log_ball, log_odds = self._ball(log_speed)
        inside = jnp.log(uniforms[0]) < jax.nn.log_sigmoid(log_odds)
        direction = normals[3:6] / jnp.linalg.norm(normals[3:6])
        radius = jnp.exp(jnp.minimum(log_ball, 100.0) + jnp.log(uniforms[1]) / (3 + self.gamma))
        near = jnp.exp(jnp.minimum(w.log_scale, 100.0)) * w.vector - radius * direction
        log_top = -0.5 * jnp.maximum(jnp.exp(jnp.minimum(log_speed, 100.0)) - jnp.exp(log_ball), 0.0) ** 2
        log_accept_near = -0.5 * jnp.sum(near**2) - log_top
        far = normals[:3]
        log_gap = _relative(w, far).log_speed
        log_accept_far = jnp.where(log_gap > log_ball, self.gamma * (log_gap - log_ball), -jnp.inf)
        accept = jnp.log(uniforms[2]) < jnp.where(inside, log_accept_near, log_accept_far)
        return jnp.where(inside, near, far), accept

    def _ball(self, log_speed):
        """log of the ball's radius d, and the log odds of proposing from it."""
        speed = jnp.exp(jnp.minimum(log_speed, jnp.log(1e8)))
        position = jnp.minimum(speed / BALL_SPEED, 1.0) * (self.ball.shape[0] - 1)
        slow = jnp.interp(position, jnp.arange(self.ball.shape[0], dtype=speed.dtype), self.ball)
        margin = jnp.sqrt(2 * (3 * jnp.log(jnp.maximum(speed, BALL_SPEED)) - jnp.log(3 + self.gamma) + 3))
        distance = jnp.where(speed < BALL_SPEED, slow, speed - margin)
        log_inside = _log_volume(self.gamma) + 3 * jnp.log(distance) - 0.5 * jnp.maximum(speed - distance, 0.0) ** 2
        # beyond 1e8 nothing inside the ball is ever accepted in floating point, and all partners are slow beside w
        far = log_speed > jnp.log(1e8)
        return jnp.where(far, log_speed - 0.01, jnp.log(distance)), jnp.where(far, -jnp.inf, log_inside)

    def _partner_growing(self, normals, uniforms, w):
        gamma = self.gamma
        log_plain = jnp.logaddexp(gamma * w.log_speed, jnp.log1p(-gamma))
        log_weighted = jnp.log(gamma) + jnp.log(_mean_speed())
        weighted = jnp.log(uniforms[0]) < jax.nn.log_sigmoid(log_weighted - log_plain)
        # |w*| M has the radius of a normal vector in four dimensions
        stretched = normals[:3] / jnp.linalg.norm(normals[:3]) * jnp.linalg.norm(normals[3:])
        partner = jnp.where(weighted, stretched, normals[:3])
        envelope = jnp.logaddexp(log_plain, jnp.log(gamma) + jnp.log(jnp.linalg.norm(partner)))
        accept = jnp.log(uniforms[2]) < gamma * _relative(w, partner).log_speed - envelope
        return partner, accept

    def collide(self, key: Key[Array, ""], w: Velocity, partner: Float[Array, "3"]) -> Velocity:
        """w' = w* + u - (u.om) om for u = w - w*, om from the angular law; in this form nothing cancels."""
        normal_key, uniform_key = jax.random.split(key)
        u = w if self.background == "rest" else _relative(w, partner)
        size = jnp.linalg.norm(u.vector)
        n = u.vector / size
        uniform = jax.random.uniform(uniform_key, (), u.vector.dtype)
        log_cosine = jnp.log(uniform) / (1 + self.angular)
        cosine, sine = jnp.exp(log_cosine), jnp.sqrt(-jnp.expm1(2 * log_cosine))
        normal = jax.random.normal(normal_key, (3,), u.vector.dtype)
        across = normal - jnp.dot(normal, n) * n
        across = across / jnp.linalg.norm(across)
        kept = size * sine * (sine * n - cosine * across)
        if self.background == "rest":
            return rescaled(Velocity(kept, w.log_scale), None)
        return rescaled(Velocity(jnp.exp(-w.log_scale) * partner + kept, w.log_scale), 0.0)


def collision_law(
    gamma: float,
    *,
    strength: float = 1.0,
    angular: float = 0.0,
    background: Literal["maxwellian", "rest"] = "maxwellian",
) -> CollisionLaw:
    """A ``CollisionLaw`` with its tables. Raises ``InvalidArgumentError`` for parameters without a meaning."""
    if not -3 < gamma <= 1:
        raise InvalidArgumentError(
            f"gamma must be above -3 (the collision rate diverges there) and at most 1; found {gamma}"
        )
    if not (np.isfinite(strength) and strength > 0):
        raise InvalidArgumentError(f"the strength of collisions must be positive and finite; found {strength}")
    if not 0 <= angular < np.inf:
        raise InvalidArgumentError(f"the angular exponent must be at least 0 (0 uniform, 1 isotropic); found {angular}")
    if background not in ("maxwellian", "rest"):
        raise InvalidArgumentError(f"background is 'maxwellian' or 'rest'; found {background!r}")
    if background == "rest" and gamma >= 0:
        raise InvalidArgumentError(
            f"a background at rest is offered for gamma < 0, where slow particles collide often; found gamma = {gamma}. "
            "Use the Maxwellian background."
        )
    log_rates, slopes = _rate_table(gamma)
    sign = 0 if gamma == 0 else 1 if gamma > 0 else -1
    ball = _ball_table(gamma) if sign < 0 else np.ones(2)
    real = [
        jnp.asarray(value, jnp.result_type(float))
        for value in (gamma, np.log(strength), angular, log_rates, slopes, ball, _series(gamma))
    ]
    return CollisionLaw(*real, background=background, sign=sign)


def collision_rate(speed: Float[np.ndarray, "..."] | float, gamma: float, strength: float = 1.0) -> np.ndarray:
    """lam(w) = Lambda 2^(g/2) Gamma((3+g)/2) / Gamma(3/2) 1F1(-g/2; 3/2; -|w|^2/2), for a Maxwellian background."""
    speed = np.asarray(speed, float)
    near = np.minimum(speed, TABLE_SPEED)
    log_front = 0.5 * gamma * np.log(2) + gammaln((3 + gamma) / 2) - gammaln(1.5)
    # Kummer's form is a sum of positive terms
    kummer = np.exp(-(near**2) / 2) * hyp1f1((3 + gamma) / 2, 1.5, near**2 / 2)
    far = np.maximum(speed, TABLE_SPEED)
    tail = far**gamma * np.polynomial.polynomial.polyval(far**-2, _series(gamma))
    return np.asarray(strength * np.where(speed < TABLE_SPEED, np.exp(log_front) * kummer, tail))


def rescaled(w: Velocity, floor: float | None) -> Velocity:
    """The same velocity with a vector of length one, or with log_scale ``floor`` where that would be smaller."""
    size = jnp.linalg.norm(w.vector)
    log_scale = w.log_scale + jnp.log(size)
    if floor is not None:
        log_scale = jnp.maximum(log_scale, floor)
    return Velocity(w.vector * jnp.exp(w.log_scale - log_scale), log_scale)


def _relative(w: Velocity, partner: Array) -> Velocity:
    return Velocity(w.vector - jnp.exp(-w.log_scale) * partner, w.log_scale)


def _mean_speed() -> float:
    """E|w*| of the Maxwellian."""
    return float(2 * np.sqrt(2 / np.pi))


def _log_volume(gamma):
    """log of 4 pi (2 pi)^(-3/2) / (3 + gamma): the integral of M_max |u|^gamma over a ball of radius d, over d^(3+gamma)."""
    return float(np.log(4 * np.pi) - 1.5 * np.log(2 * np.pi)) - jnp.log(3 + gamma)


def _series(gamma: float) -> np.ndarray:
    """Coefficients of E|w - w*|^gamma / |w|^gamma in 1/|w|^2: exp(Laplacian / 2) applied to |w|^gamma."""
    terms = [1.0]
    for k in range(_SERIES):
        terms.append(terms[-1] * (gamma - 2 * k) * (gamma - 2 * k + 1) / (2 * (k + 1)))
    return np.array(terms)


def _rate_table(gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """log lam / Lambda and its derivative on a grid uniform in log(1 + |w|^2)."""
    grid = np.linspace(0, np.log1p(TABLE_SPEED**2), TABLE_POINTS)
    half = np.expm1(grid) / 2
    front = np.exp(0.5 * gamma * np.log(2) + gammaln((3 + gamma) / 2) - gammaln(1.5) - half)
    rate = front * hyp1f1((3 + gamma) / 2, 1.5, half)
    slope = front * gamma / 3 * hyp1f1((3 + gamma) / 2, 2.5, half)  # d/d(|w|^2/2) by Kummer's transformation
    step = grid[1] - grid[0]
    return np.log(rate), slope / rate * (half + 0.5) * step


def _hermite(values: Array, slopes: Array, position: Scalar) -> Scalar:
    """Cubic interpolation; ``slopes`` are derivatives by the index."""
    index = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, values.shape[0] - 2)
    t = position - index
    left, right = values[index], values[index + 1]
    rise = right - left
    bend = (slopes[index] - rise) * (1 - t) + (rise - slopes[index + 1]) * t
    return left + rise * t + t * (1 - t) * bend


def _ball_table(gamma: float) -> np.ndarray:
    """The radius d that makes proposals of partners most often accepted, on a grid of speeds."""
    speed = np.linspace(0, BALL_SPEED, 501)[:, None]
    distance = np.geomspace(0.02, BALL_SPEED + 5, 1500)[None]
    volume = 4 * np.pi * (2 * np.pi) ** -1.5 / (3 + gamma)
    envelope = distance**gamma * (1 + volume * distance**3 * np.exp(-0.5 * np.maximum(speed - distance, 0) ** 2))
    return distance[0, envelope.argmin(axis=1)]
