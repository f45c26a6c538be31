"""Coupling layers: half of the coordinates is moved by a map whose parameters a network computes from the other half.

A layer changes the first ``changed`` coordinates, then turns the vector by as many places, so equal layers one after another
change cyclic windows of the coordinates and ``Stacked`` scans them with no gathers. Coordinates may lie on the line (shift,
scale and a rational-quadratic spline) or on a circle (circular spline); what a coordinate is, is data of the layer.

Sources: Dinh et al., arXiv 1605.08803 (affine); Durkan et al., arXiv 1906.04032 (splines); Rezende et al., arXiv 2002.02428
(circles).
"""

import math
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection, Chain, Stacked
from heatbath.models.flow import Flow
from heatbath.models.gaussian import Normal
from heatbath.models.nets.residual import BranchedNetwork
from heatbath.models.splines import circular_rational_quadratic, rational_quadratic

#: Splines of line coordinates act on [-BOUND, BOUND] after shift and scale, where a standard normal has all but 6e-7 of its mass.
BOUND = 5.0
#: One layer scales a coordinate by at most exp(MAXIMUM_LOG_SCALE).
MAXIMUM_LOG_SCALE = 3.0


class Periods(eqx.Module):
    """Period of each coordinate in radians; 0 says that it lies on the line. A constant of the model."""

    frozen: ClassVar[bool] = True

    values: Float[Array, " n"]

    @property
    def circular(self):
        """Which coordinates lie on a circle."""
        return self.values > 0

    @property
    def safe(self):
        """Periods, with 2 pi for coordinates on the line."""
        return jnp.where(self.circular, self.values, 2 * math.pi)


class Coupling(Bijection):
    """One layer on a vector of n coordinates, of which the first m are changed (in the direction x -> z):

    z = (x_{m..n}, g^-1(x_{0..m}; network(features(x_{m..n}), context))).

    g^-1 on the line is the spline (``bins`` > 0) of (x - shift) exp(-log_scale); on a circle it is the circular spline. Kept
    coordinates enter the network as they are, circles as cosine and sine of 2 pi x / period. ``kinds`` is ``"line"``,
    ``"circle"`` or ``"mixed"``; only ``"mixed"`` computes both and selects. ``context`` is a vector for conditional flows.
    """

    network: BranchedNetwork
    kept_periods: Periods
    changed_periods: Periods
    bins: int = eqx.field(static=True)
    kinds: str = eqx.field(static=True)

    @staticmethod
    def create(
        key: Key[Array, ""],
        kept_periods: Float[Array, " k"],
        changed_periods: Float[Array, " m"],
        *,
        bins: int,
        kinds: str,
        width: int,
        depth: int,
        context: int = 0,
        gain: float = 0.0,
    ) -> "Coupling":
        """A fresh layer, the identity when ``gain`` is 0. ``context`` is the length of the context vector."""
        per_kept = 2 if kinds == "circle" else 3 if kinds == "mixed" else 1
        inputs = per_kept * kept_periods.size + context
        shapes = [(*count, changed_periods.size) for count in _parameters(bins, kinds)]
        network = BranchedNetwork.create(key, inputs, shapes, width=width, depth=depth, gain=gain)
        return Coupling(network, Periods(kept_periods), Periods(changed_periods), bins, kinds)

    def inverse(self, x: Float[Array, " n"], context: Float[Array, " c"] | None = None):
        changed, kept = self._split(x, self.changed_periods.values.size)
        z, log_det = _apply(self, changed, kept, context, inverse=False)
        return jnp.concatenate([kept, z]), log_det

    def forward(self, z: Float[Array, " n"], context: Float[Array, " c"] | None = None):
        kept, changed = self._split(z, self.kept_periods.values.size)
        x, log_det = _apply(self, changed, kept, context, inverse=True)
        return jnp.concatenate([x, kept]), log_det

    @staticmethod
    def _split(vector, at: int):
        return vector[:at], vector[at:]

    def _raw(self, kept, context):
        parts = [] if context is None else [context.astype(kept.dtype)]
        if self.kinds == "line":
            parts.append(kept)
        else:
            circular, angle = (
                self.kept_periods.circular,
                kept * (2 * math.pi / self.kept_periods.safe).astype(kept.dtype),
            )
            parts += [jnp.where(circular, jnp.cos(angle), 0), jnp.where(circular, jnp.sin(angle), 0)]
            if self.kinds == "mixed":
                parts.append(jnp.where(circular, 0, kept))
        return self.network(jnp.concatenate(parts))

    def _transform(self, value, raw, *, inverse: bool):
        """The elementwise map from x to z, or with ``inverse`` from z to x."""
        if self.kinds == "line":
            result, log_slope = _line(value, raw, inverse=inverse)
        elif self.kinds == "circle":
            result, log_slope = _circle(value, raw, self.changed_periods, inverse=inverse)
        else:
            circular = self.changed_periods.circular
            shift, log_scale, widths, heights, slopes, seam = raw
            on_line = _line(value, (shift, log_scale, widths, heights, slopes), inverse=inverse)
            on_circle = _circle(
                value, (shift, widths, heights, jnp.concatenate([seam, slopes])), self.changed_periods, inverse=inverse
            )
            result = jnp.where(circular, on_circle[0], on_line[0])
            log_slope = jnp.where(circular, on_circle[1], on_line[1])
        return result, jnp.sum(log_slope).astype(float)


@partial(eqx.filter_checkpoint, policy=jax.checkpoint_policies.dots_saveable)
def _apply(layer: Coupling, changed, kept, context, *, inverse: bool):
    """The changed coordinates after the layer.

    Gradients keep the matrix products only and compute the splines again: on a CPU memory traffic for all intermediate
    values of a batch takes longer than the arithmetic.
    """
    return layer._transform(changed, layer._raw(kept, context), inverse=inverse)


def _parameters(bins: int, kinds: str) -> tuple[tuple[int, ...], ...]:
    """Shapes of a coordinate's parameters: shift, log scale (line), widths, heights, slopes, slope at the seam."""
    if kinds == "line":
        return ((), (), (bins,), (bins,), (bins - 1,)) if bins else ((), ())
    return ((), (bins,), (bins,), (bins,)) if kinds == "circle" else ((), (), (bins,), (bins,), (bins - 1,), (1,))


def _line(value, raw, *, inverse: bool):
    shift, log_scale = raw[0].astype(value.dtype), _limited(raw[1]).astype(value.dtype)
    if inverse:
        value, log_slope = rational_quadratic(value, *raw[2:], bound=BOUND, inverse=True) if raw[2:] else (value, 0)
        return value * jnp.exp(log_scale) + shift, log_slope + log_scale
    value = (value - shift) * jnp.exp(-log_scale)
    result, log_slope = rational_quadratic(value, *raw[2:], bound=BOUND) if raw[2:] else (value, 0)
    return result, log_slope - log_scale


def _circle(value, raw, periods: Periods, *, inverse: bool):
    period = periods.safe.astype(value.dtype)
    rotation, widths, heights, slopes = raw
    return circular_rational_quadratic(value, widths, heights, slopes, rotation, period=period, inverse=inverse)


def _limited(raw):
    return MAXIMUM_LOG_SCALE * jnp.tanh(raw / MAXIMUM_LOG_SCALE)


class Turned(Bijection):
    """z -> z turned by ``places`` positions to the right; log det 0."""

    places: int = eqx.field(static=True)

    def forward(self, z):
        return jnp.roll(z, self.places), jnp.zeros(())

    def inverse(self, x):
        return jnp.roll(x, -self.places), jnp.zeros(())


class Conditioned(Bijection):
    """A coupling layer on pairs (context, vector) that leaves the context as it is: what conditional flows scan."""

    layer: Coupling

    def forward(self, z):
        context, value = z
        value, log_det = self.layer.forward(value, context)
        return (context, value), log_det

    def inverse(self, x):
        context, value = x
        value, log_det = self.layer.inverse(value, context)
        return (context, value), log_det


def coupling_stack(
    key: Key[Array, ""],
    periods: Float[np.ndarray, " n"],
    *,
    layers: int,
    width: int,
    depth: int = 2,
    bins: int = 8,
    context: int = 0,
    gain: float = 0.0,
) -> tuple[Stacked, Turned]:
    """``layers`` couplings over the coordinates with these periods (0: on the line), and the turn that restores their order.

    ``Chain((turned, stacked))`` maps z to x with both in the order of ``periods``. With ``context`` > 0 the stack acts on pairs
    (context, vector) and the turn on the vector alone.
    """
    periods = np.asarray(periods, dtype=np.float64)
    n, changed = periods.size, _window(periods.size)
    circular = periods > 0
    kinds = "circle" if circular.all() else "mixed" if circular.any() else "line"
    if layers < 1 or bins < 0 or (bins < 2 and (bins == 1 or kinds != "line")):
        raise InvalidArgumentError(
            f"expected layers >= 1 and bins >= 2 (0 for affine layers on the line); found {layers} and {bins}"
        )
    # The inverse runs through the layers backwards; its step s meets the coordinates turned to the left by s windows.
    orders = np.stack([np.roll(periods, -changed * (layers - 1 - layer)) for layer in range(layers)])

    def make(key, order):
        layer = Coupling.create(
            key,
            order[changed:],
            order[:changed],
            bins=bins,
            kinds=kinds,
            width=width,
            depth=depth,
            context=context,
            gain=gain,
        )
        return Conditioned(layer) if context else layer

    stack = Stacked(eqx.filter_vmap(make)(jax.random.split(key, layers), jnp.asarray(orders, dtype=float)))
    return stack, Turned(-(changed * layers) % n)


def _window(n: int) -> int:
    """The number of coordinates a layer changes: about half, with no common divisor with n so that windows shift."""
    if n < 2:
        raise InvalidArgumentError(f"coupling layers need at least two coordinates; found {n}")
    return next(size for size in range(n // 2, 0, -1) if math.gcd(size, n) == 1)


class CoordinateBase(Distribution):
    """Independent base variables: uniform angles in [-pi, pi) where the period is positive, standard normal elsewhere."""

    frozen: ClassVar[bool] = True

    periods: Periods

    def sample(self, key: Key[Array, ""]) -> Float[Array, " n"]:
        values = self.periods.values
        line = jax.random.normal(key, values.shape, values.dtype)
        angle = jax.random.uniform(jax.random.fold_in(key, 1), values.shape, values.dtype, -math.pi, math.pi)
        return jnp.where(self.periods.circular, angle, line)

    def log_prob(self, x: Float[Array, " n"]) -> Scalar:
        line = -0.5 * x * x - 0.5 * math.log(2 * math.pi)
        inside = jnp.where(jnp.abs(x) <= math.pi + 1e-5, -math.log(2 * math.pi), -jnp.inf)
        return jnp.sum(jnp.where(self.periods.circular, inside, line)).astype(float)


def coupling_flow(
    key: Key[Array, ""],
    dimension: int,
    *,
    layers: int = 8,
    width: int = 64,
    depth: int = 2,
    bins: int = 8,
    circular=False,
    gain: float = 0.0,
) -> Flow:
    """A coupling flow on a vector, starting as the identity.

    bins:     of the rational-quadratic splines; 0 makes the layers affine (RealNVP).
    circular: mask (dimension,) of the coordinates that are angles in [-pi, pi); their base is uniform, that of the others normal.
    gain:     scale of the conditioners' last weights at the start, 0 for the identity.
    Raises ``InvalidArgumentError`` when sizes do not fit.
    """
    mask = np.broadcast_to(np.asarray(circular, dtype=bool), (dimension,))
    periods = np.where(mask, 2 * math.pi, 0.0)
    stack, turned = coupling_stack(key, periods, layers=layers, width=width, depth=depth, bins=bins, gain=gain)
    base = CoordinateBase(Periods(jnp.asarray(periods, dtype=float))) if mask.any() else Normal(jnp.zeros(dimension))
    return Flow(base, Chain((turned, stack)))
