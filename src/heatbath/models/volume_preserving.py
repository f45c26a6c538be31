"""Layers whose Jacobian determinant is one constant, for steerable flows.

They act on flat vectors: ``linear`` reals followed by ``circular`` angles in [-pi, pi). Source: Dibak et al., arXiv 2108.01590;
additive coupling: Dinh et al., arXiv 1410.8516.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.models.bijections import Bijection, Chain, Stacked
from heatbath.models.nets.residual import ResidualNetwork
from heatbath.models.steerable_flow import SteerableFlow, ThermalBase, Thermostat
from heatbath.spaces import wrap_angle

#: Log scales of one coupling stay within these bounds (before their mean is taken away).
LARGEST_LOG_SCALE = 2.0
#: A conditioner sees cos and sin of the first so many multiples of an angle.
HARMONICS = 3


class VolumePreservingCoupling(Bijection):
    """Two couplings, each moving one half of the coordinates given the other half.

        a' = exp(s - mean(s)) a + t   for reals,   c' = c + r (mod 2 pi)   for angles,   (s, t, r) = net(other half)

    after each real was scaled by a learned constant: log|det| = sum(log_scale), the same everywhere. With ``scaled`` False, s = 0
    (additive coupling). ``order`` and ``angle_order`` say which coordinates make the halves.
    """

    order: Int[Array, " linear"]
    angle_order: Int[Array, " circular"]
    log_scale: Float[Array, " linear"]
    first: ResidualNetwork
    second: ResidualNetwork
    scaled: bool = eqx.field(static=True, default=True)

    def forward(self, z: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        a, b = self._halves(z * self._constant(z))
        b = self._moved(self.first, a, b, inverse=False)
        a = self._moved(self.second, b, a, inverse=False)
        return self._joined(a, b), self._log_det()

    def inverse(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        a, b = self._halves(x)
        a = self._moved(self.second, b, a, inverse=True)
        b = self._moved(self.first, a, b, inverse=True)
        z = self._joined(a, b)
        return z / self._constant(z), -self._log_det()

    def _log_det(self):
        return jnp.sum(self.log_scale.astype(jnp.result_type(float)))

    def _constant(self, z):
        ones = jnp.ones(len(self.angle_order), z.dtype)
        return jnp.concatenate([jnp.exp(self.log_scale).astype(z.dtype), ones])

    def _halves(self, v):
        count, reals, angles = len(self.order), v[self.order], v[len(self.order) :][self.angle_order]
        cut, angle_cut = count // 2, len(self.angle_order) // 2
        return (reals[:cut], angles[:angle_cut]), (reals[cut:], angles[angle_cut:])

    def _joined(self, first, second):
        reals = jnp.concatenate([first[0], second[0]])[jnp.argsort(self.order)]
        angles = jnp.concatenate([first[1], second[1]])[jnp.argsort(self.angle_order)]
        return jnp.concatenate([reals, angles])

    def _moved(self, net, given, half, *, inverse: bool):
        reals, angles = half
        raw = net(features(*given))
        scales, shifts, turns = jnp.split(raw, [len(reals), 2 * len(reals)])
        if not self.scaled:
            scales = jnp.zeros_like(scales)
        scales = LARGEST_LOG_SCALE * jnp.tanh(scales / LARGEST_LOG_SCALE)
        # In the precision of the coordinates, or the mean would leave a determinant that differs from 1 by float32 rounding.
        scales, shifts, turns = (part.astype(reals.dtype) for part in (scales, shifts, turns))
        scales = scales - jnp.mean(scales) if len(reals) else scales
        if inverse:
            return (reals - shifts) * jnp.exp(-scales), wrap_angle(angles - turns)
        return reals * jnp.exp(scales) + shifts, wrap_angle(angles + turns)


class Whitening(Bijection):
    """v -> the same with its first reals replaced by mean + matrix @ reals; log|det| = log|det matrix|. Constants of the data."""

    frozen: ClassVar[bool] = True

    mean: Float[Array, " n"]
    matrix: Float[Array, "n n"]
    inverse_matrix: Float[Array, "n n"]
    log_det: Float[Array, ""]

    @staticmethod
    def of(data: Float[Array | np.ndarray, "draws n"] | None, size: int) -> "Whitening":
        """Principal axes of ``data``, scaled to unit variance; the identity without data."""
        if data is None:
            return Whitening.diagonal(np.zeros(size), np.ones(size))
        values = np.asarray(data, dtype=np.float64)
        variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(values.T)))
        if variances.min() <= 1e-12 * variances.max():
            raise InvalidArgumentError(
                "the data have no width in some direction, so they cannot be whitened; give independent coordinates"
            )
        # V diag(s) V^T keeps every coordinate close to itself, which keeps their meaning for the network.
        widths = np.sqrt(variances)
        arrays = (values.mean(axis=0), (axes * widths) @ axes.T, (axes / widths) @ axes.T, np.log(widths).sum())
        return Whitening(*(jnp.asarray(array, dtype=float) for array in arrays))

    @staticmethod
    def diagonal(mean: Float[np.ndarray, " n"], widths: Float[np.ndarray, " n"]) -> "Whitening":
        """mean + widths * v, elementwise."""
        arrays = (mean, np.diag(widths), np.diag(1 / widths), np.log(widths).sum())
        return Whitening(*(jnp.asarray(array, dtype=float) for array in arrays))

    def forward(self, z: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        size = len(self.mean)
        reals = (self.mean + self.matrix @ z[:size]).astype(z.dtype)
        return jnp.concatenate([reals, z[size:]]), self.log_det

    def inverse(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        size = len(self.mean)
        reals = (self.inverse_matrix @ (x[:size] - self.mean)).astype(x.dtype)
        return jnp.concatenate([reals, x[size:]]), -self.log_det


class Momenta(Bijection):
    """A flat vector as {"x": first ``size`` entries, "y": the rest}; log det 0."""

    size: int = eqx.field(static=True)

    def forward(self, z: Float[Array, " d"]) -> tuple[PyTree, Float[Array, ""]]:
        return {"x": z[: self.size], "y": z[self.size :]}, jnp.zeros(())

    def inverse(self, x: PyTree) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        return jnp.concatenate([x["x"], x["y"]]), jnp.zeros(())


def features(reals: Float[Array, " n"], angles: Float[Array, " m"]) -> Float[Array, " f"]:
    """What a conditioner sees: the reals, and cosines and sines of the first ``HARMONICS`` multiples of the angles."""
    multiples = (jnp.arange(1, HARMONICS + 1, dtype=angles.dtype)[:, None] * angles).reshape(-1)
    return jnp.concatenate([reals, jnp.cos(multiples), jnp.sin(multiples)])


def volume_preserving_layers(
    key: Key[Array, ""],
    linear: int,
    circular: int = 0,
    *,
    layers: int = 8,
    width: int = 64,
    depth: int = 2,
    scaled: bool = True,
    gain: float = 0.0,
    dtype=jnp.float32,
) -> Stacked:
    """``layers`` couplings of random halves, compiled once; together the identity while ``gain`` is 0.

    Raises ``InvalidArgumentError`` for fewer than two coordinates, or sizes below one.
    """
    if linear + circular < 2 or layers < 1 or linear < 0 or circular < 0:
        raise InvalidArgumentError(
            f"coupling needs at least two coordinates and one layer; found {linear} reals, {circular} angles, {layers} layers"
        )
    near = (linear // 2, circular // 2)
    far = (linear - near[0], circular - near[1])

    def make(key):
        keys = jax.random.split(key, 4)

        def net(key, given, moved):
            inputs, outputs = given[0] + 2 * HARMONICS * given[1], 2 * moved[0] + moved[1]
            return ResidualNetwork.create(key, inputs, outputs, width=width, depth=depth, gain=gain, dtype=dtype)

        return VolumePreservingCoupling(
            order=jax.random.permutation(keys[0], linear),
            angle_order=jax.random.permutation(keys[1], circular),
            log_scale=jnp.zeros(linear, dtype),
            first=net(keys[2], near, far),
            second=net(keys[3], far, near),
            scaled=scaled,
        )

    return Stacked(eqx.filter_vmap(make)(jax.random.split(key, layers)))


def steerable_flow(
    key: Key[Array, ""],
    dimension: int,
    *,
    auxiliaries: int | None = None,
    data: Float[Array | np.ndarray, "draws dimension"] | None = None,
    reference_beta: float = 1.0,
    layers: int = 8,
    width: int = 64,
    depth: int = 2,
    scaled: bool = True,
    gain: float = 0.0,
    dtype=jnp.float32,
) -> SteerableFlow:
    """A volume-preserving flow over R^dimension with ``auxiliaries`` momenta (as many as coordinates unless said otherwise).

    ``data`` are draws at ``reference_beta``, of which only mean and covariance are used. A draw is {"x": (dimension,), "y":
    (auxiliaries,)}, or an array (dimension,) when there are no auxiliaries.
    """
    if dimension < 1 or (auxiliaries is not None and auxiliaries < 0):
        raise InvalidArgumentError(f"expected dimension >= 1 and auxiliaries >= 0; found {dimension} and {auxiliaries}")
    momenta = dimension if auxiliaries is None else auxiliaries
    total = dimension + momenta
    coupled = volume_preserving_layers(
        key, total, layers=layers, width=width, depth=depth, scaled=scaled, gain=gain, dtype=dtype
    )
    parts = (coupled, Whitening.of(data, dimension)) + ((Momenta(dimension),) if momenta else ())
    base = ThermalBase(thermostat=Thermostat(reference_beta), linear=total)
    return SteerableFlow(base=base, bijection=Chain(parts), momenta_count=momenta)  # pyright: ignore
