"""The generator of small molecules on a CPU: a normalizing flow over bonds, angles and torsions.

Torsions about bonds carry the modes of a molecule: they come first, from circular coupling layers over a uniform base, and those
of methyl groups by maps that commute with rotations by 120 degrees. Bonds, angles and sibling torsions are nearly normal given
them: whitened by the data's mean and covariance and then moved by coupling layers that see all torsions. So the layers that have
most parameters have the easy task, and every coordinate still depends on all before it.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Bijection, Chain, Stacked
from heatbath.models.coupling import CoordinateBase, Periods, Turned, coupling_stack
from heatbath.models.flow import Flow
from heatbath.models.internal_coordinates import Internal, InternalCoordinates, MolecularDistribution
from heatbath.models.nets.residual import ResidualNetwork

#: Spread assumed for bonds (nm), angles and sibling torsions (radians) where no data are given.
DEFAULT_SPREAD = (0.003, 0.06, 0.15)
#: Networks see torsions as cosines and sines of their first multiples.
HARMONICS = 3


class CorrelationWhitening(Bijection):
    """x = mean + factor z: data become uncorrelated with unit variance. A constant of the model.

    The factor is diag(spread) times the symmetric root of the correlations: each z stays as close as possible to one coordinate,
    whatever units the coordinates have.
    """

    frozen: ClassVar[bool] = True

    mean: Float[Array, " n"]
    factor: Float[Array, "n n"]
    inverse_factor: Float[Array, "n n"]

    @staticmethod
    def from_moments(mean, covariance) -> "CorrelationWhitening":
        """From mean (n,) and covariance (n, n). Raises ``InvalidArgumentError`` when it is not positive definite."""
        spread = np.sqrt(np.diag(covariance))
        varies = bool((spread > 0).all())
        values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread)) if varies else (np.zeros(1), np.eye(1))
        if not (values > 1e-10).all():
            raise InvalidArgumentError(
                "the data do not determine a covariance: coordinates are constant or exactly dependent. Use more configurations"
            )
        factor = spread[:, None] * (vectors * np.sqrt(values)) @ vectors.T
        return CorrelationWhitening(*(jnp.asarray(v, dtype=float) for v in (mean, factor, np.linalg.inv(factor))))

    def forward(self, z):
        return (self.mean + self.factor @ z).astype(z.dtype), self._log_det()

    def inverse(self, x):
        inverse = self.inverse_factor.astype(x.dtype)
        return (x - self.mean.astype(x.dtype)) @ inverse.T, -self._log_det()

    def _log_det(self):
        return jnp.linalg.slogdet(self.factor)[1]


class InternalFlow(Distribution):
    """A density of ``Internal``: torsions about bonds by ``torsions``, all other coordinates given them.

    log q = log q(free torsions) + log N(z; 0, I) + log|det dz/d(stiff)|, where z comes from the whitened stiff coordinates
    (bonds, angles, sibling torsions) through coupling layers whose context is ``embedding`` of the free torsions.
    """

    coordinates: InternalCoordinates
    torsions: Flow
    embedding: ResidualNetwork
    stiff: Stacked
    turned: Turned
    whitening: CorrelationWhitening

    def log_prob(self, x: Internal) -> Scalar:
        free, stiff = self._split(x)
        z, log_det_whitening = self.whitening.inverse(stiff)
        (_, z), log_det = self.stiff.inverse((self._context(free), z))
        z = self.turned.inverse(z)[0]
        return self.torsions.log_prob(free) + _log_normal(z) + log_det + log_det_whitening

    def sample(self, key: Key[Array, ""]) -> Internal:
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Internal, Scalar]:
        key_torsions, key_stiff = jax.random.split(key)
        free, log_prob = self.torsions.sample_and_log_prob(key_torsions)
        z = jax.random.normal(key_stiff, self.whitening.mean.shape, free.dtype)
        (_, stiff), log_det = self.stiff.forward((self._context(free), self.turned.forward(z)[0]))
        stiff, log_det_whitening = self.whitening.forward(stiff)
        return self._join(free, stiff), log_prob + _log_normal(z) - log_det - log_det_whitening

    def _context(self, free):
        angles = jnp.arange(1, HARMONICS + 1, dtype=free.dtype)[:, None] * free
        return self.embedding(jnp.concatenate([jnp.cos(angles).ravel(), jnp.sin(angles).ravel()]))

    def _split(self, x: Internal):
        return _split(self.coordinates.z_matrix, x)

    def _join(self, free, stiff):
        z_matrix = self.coordinates.z_matrix
        n = z_matrix.n_atoms
        bonds, angles, phases = stiff[: n - 1], stiff[n - 1 : 2 * n - 3], stiff[2 * n - 3 :]
        order = np.argsort(np.array((*z_matrix.free, *z_matrix.phases), dtype=int))
        return Internal(bonds, angles, jnp.concatenate([free, phases])[order])


def _split(z_matrix, x: Internal):
    """(torsions about bonds, all stiff coordinates)."""
    free, phases = np.array(z_matrix.free, dtype=int), np.array(z_matrix.phases, dtype=int)
    return x.torsions[..., free], jnp.concatenate([x.bonds, x.angles, x.torsions[..., phases]], axis=-1)


def _log_normal(z):
    return (-0.5 * jnp.sum(z * z) - 0.5 * z.size * math.log(2 * math.pi)).astype(float)


def internal_coordinate_flow(
    key: Key[Array, ""],
    *,
    bonds,
    masses,
    reference: Float[Array | np.ndarray, "atoms 3"],
    data: Float[Array | np.ndarray, "..."] | None = None,
    layers: int = 6,
    width: int = 128,
    depth: int = 1,
    bins: int = 8,
    torsion_layers: int = 8,
    torsion_width: int = 64,
    torsion_bins: int = 12,
    context: int = 64,
    centre_scale: float = 0.1,
) -> MolecularDistribution:
    """A flow over positions (atoms, 3) in nm of the molecule with these bonds (pairs of atoms), masses (u) and reference.

    data:           configurations for mean and covariance of the stiff coordinates (at most 40 000 are looked at); none: the
                    reference and usual spreads. The model has the same arrays either way.
    layers, width, depth, bins: coupling layers of the stiff coordinates, their networks and splines (0 bins: affine).
    torsion_*:      the same for the torsions about bonds.
    context:        length of the vector by which stiff layers see the torsions.
    centre_scale:   sigma of the centre of the atoms, nm.

    Mirror images of stereocentres and flipped planar groups lie tens of standard deviations out: the density there is positive
    and negligible. Raises ``StructureError`` and ``InvalidArgumentError`` for what does not fit.
    """
    coordinates = InternalCoordinates.create(bonds, masses, reference)
    z_matrix = coordinates.z_matrix
    keys = jax.random.split(key, 3)
    periods = _torsion_periods(z_matrix)
    torsions = _torsion_flow(keys[0], periods, torsion_layers, torsion_width, torsion_bins)
    whitening = _whitening(coordinates, reference, data)
    stiff, turned = coupling_stack(
        keys[1], np.zeros(whitening.mean.size), layers=layers, width=width, depth=depth, bins=bins, context=context
    )
    embedding = ResidualNetwork.create(keys[2], 2 * HARMONICS * periods.size, context, width=width, depth=1, gain=1.0)
    flow = InternalFlow(coordinates, torsions, embedding, stiff, turned, whitening)
    return MolecularDistribution(coordinates, flow, centre_scale)


def _torsion_periods(z_matrix) -> np.ndarray:
    leaders = {rotor[0] - 3 for rotor in z_matrix.rotors}
    return np.array([2 * math.pi / 3 if index in leaders else 2 * math.pi for index in z_matrix.free])


def _torsion_flow(key, periods, layers: int, width: int, bins: int) -> Flow:
    stack, turned = coupling_stack(key, periods, layers=layers, width=width, depth=1, bins=bins)
    base = CoordinateBase(Periods(jnp.asarray(periods, dtype=float)))
    return Flow(base, Chain((turned, stack)))


def _whitening(coordinates: InternalCoordinates, reference, data) -> CorrelationWhitening:
    if data is None:
        internal = coordinates.from_cartesian(jnp.asarray(reference, dtype=float))[0]
        mean = np.asarray(_split(coordinates.z_matrix, internal)[1])
        n = coordinates.n_atoms
        counts = (n - 1, n - 2, mean.size - 2 * n + 3)
        spread = np.repeat(DEFAULT_SPREAD, counts)
        return CorrelationWhitening.from_moments(mean, np.diag(spread**2))
    data = np.asarray(data)
    if data.ndim != 3 or data.shape[1:] != (coordinates.n_atoms, 3):
        raise InvalidArgumentError(
            f"expected data (configurations, {coordinates.n_atoms}, 3) in nm; found {data.shape}"
        )
    chosen = jnp.asarray(data[:: max(1, len(data) // 20_000)])
    split = jax.jit(jax.vmap(lambda x: _split(coordinates.z_matrix, coordinates.from_cartesian(x)[0])[1]))
    stiff = np.asarray(split(chosen), dtype=np.float64)
    return CorrelationWhitening.from_moments(stiff.mean(axis=0), np.cov(stiff.T))
