"""Molecules in bonds, angles and torsions: the map to Cartesian coordinates and back, with its exact Jacobian.

With the root atom at x_0 and the molecule's orientation Omega,

    d^{3n}x = d^3x_0 dOmega prod_{i>=1} r_i^2 dr_i prod_{i>=2} sin(theta_i) dtheta_i prod_{i>=3} dtau_i,

where dOmega integrates to 8 pi^2 over all orientations. Differences of sibling torsions, the mean torsion of a methyl group and
the centre instead of the root change no volume.
"""

import math
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from heatbath.errors import InvalidArgumentError, StructureError
from heatbath.models.base import Distribution
from heatbath.models.rigid import random_rotation
from heatbath.models.z_matrix import ZMatrix

#: log of the volume of all orientations.
LOG_ORIENTATIONS = math.log(8 * math.pi**2)


class Internal(NamedTuple):
    """Internal coordinates of n atoms in the order of the Z-matrix: bonds (nm), angles and torsions (radians).

    ``bonds`` of slots 1..n, ``angles`` of slots 2..n, ``torsions`` of slots 3..n. Torsions lie in [-pi, pi); those of
    ``ZMatrix.phases`` are differences to the leader's torsion, measured from that difference in the reference structure; the
    torsion of a rotor is the mean over its hydrogens.
    """

    bonds: Float[Array, " bonds"]
    angles: Float[Array, " angles"]
    torsions: Float[Array, " torsions"]


class InternalCoordinates(eqx.Module):
    """The map between Cartesian and internal coordinates of one molecule.

    ``offsets`` (n - 3): for siblings the difference to their leader's torsion in the reference structure, else 0. A constant.
    """

    frozen: ClassVar[bool] = True

    offsets: Float[Array, " torsions"]
    z_matrix: ZMatrix = eqx.field(static=True)

    @staticmethod
    def create(bonds, masses, reference: Float[Array | np.ndarray, "atoms 3"]) -> "InternalCoordinates":
        """From the bond graph (pairs of atoms), masses (or atomic numbers) and a reference structure in nm.

        Raises ``StructureError`` when the molecule is not connected, the reference is not finite, or a bond angle of it is
        within 8 degrees of straight or folded (the torsion beyond it would mean nothing).
        """
        reference = np.asarray(reference, dtype=np.float64)
        z_matrix = ZMatrix.from_bonds(bonds, np.asarray(masses, dtype=np.float64))
        if reference.shape != (z_matrix.n_atoms, 3) or not np.isfinite(reference).all():
            raise StructureError(
                f"expected finite reference positions ({z_matrix.n_atoms}, 3) in nm; found {reference.shape}"
            )
        plain = InternalCoordinates(jnp.zeros(z_matrix.n_atoms - 3), z_matrix)
        measured = eqx.filter_jit(plain.from_cartesian)
        angles, torsions = (np.asarray(v) for v in measured(jnp.asarray(reference, dtype=float))[0][1:])
        worst = int(np.argmin(np.sin(angles)))
        if math.sin(angles[worst]) < math.sin(math.radians(8)):
            raise StructureError(
                f"the angle that places atom {z_matrix.order[worst + 2]} is {math.degrees(angles[worst]):.1f} degrees "
                "in the reference; internal coordinates need bent angles. Use a Cartesian model"
            )
        return InternalCoordinates(plain._sibling_phases(torsions), z_matrix)

    def _sibling_phases(self, torsions):
        """Offsets from the plain coordinates of the reference: phases only."""
        offsets = np.zeros(self.z_matrix.n_atoms - 3)
        chosen = list(self.z_matrix.phases)
        offsets[chosen] = torsions[chosen]
        return jnp.asarray(offsets, dtype=float)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.z_matrix.n_atoms

    # Cartesian -> internal -------------------------------------------------------------------------------------------
    def from_cartesian(self, x: Float[Array, "atoms 3"]) -> tuple[Internal, Scalar]:
        """Internal coordinates of x, and log|d(internal, orientation, centre)/dx| = -sum log(r^2) - sum log(sin theta)."""
        z = self.z_matrix
        slots = x[np.array(z.order)]
        back = slots[np.array(z.parent[1:])] - slots[1:]
        bonds = jnp.sqrt(jnp.sum(back * back, axis=-1))
        to_grandparent = slots[np.array((1, *z.grandparent[3:]))] - slots[np.array(z.parent[2:])]
        angles = _angle(-back[1:], to_grandparent)
        to_plane = slots[np.array(z.plane[3:], dtype=int)] - slots[np.array(z.grandparent[3:], dtype=int)]
        raw = _dihedral(back[2:], to_grandparent[1:], to_plane)
        internal = Internal(bonds, angles, self._relative(raw))
        return internal, -self.log_volume(internal)

    def _relative(self, raw):
        """Torsions as Cartesian coordinates have them -> differences for siblings, means for rotors."""
        leaders = np.array(self.z_matrix.leader[3:], dtype=int)
        padded = jnp.concatenate([jnp.zeros(3, raw.dtype), raw])
        own = leaders == np.arange(3, self.n_atoms)
        difference = wrap(raw - padded[leaders] - self.offsets.astype(raw.dtype))
        relative = jnp.where(own, raw, difference)
        return wrap(relative + self._rotor_means(difference)) if self.z_matrix.rotors else relative

    def _absolute(self, torsions):
        """The inverse of ``_relative``."""
        leaders = np.array(self.z_matrix.leader[3:], dtype=int)
        own = leaders == np.arange(3, self.n_atoms)
        if self.z_matrix.rotors:
            torsions = torsions - self._rotor_means(torsions)
        padded = jnp.concatenate([jnp.zeros(3, torsions.dtype), torsions])
        return jnp.where(own, torsions, padded[leaders] + torsions + self.offsets.astype(torsions.dtype))

    def _rotor_means(self, phases):
        """For leaders of rotors the mean of 0 and their siblings' phases, else 0: mean torsion = leader's torsion + this."""
        rotors = np.array(self.z_matrix.rotors) - 3
        means = np.zeros((self.n_atoms - 3, self.n_atoms - 3))
        means[rotors[:, 0], rotors[:, 1]] = means[rotors[:, 0], rotors[:, 2]] = 1 / 3
        return jnp.asarray(means, phases.dtype) @ phases

    def log_volume(self, internal: Internal) -> Scalar:
        """log|dx/d(internal, orientation, centre)| = sum_{i>=1} 2 log r_i + sum_{i>=2} log sin(theta_i)."""
        bonds, sines = jnp.abs(internal.bonds), jnp.abs(jnp.sin(internal.angles))
        return 2 * jnp.sum(jnp.log(bonds)).astype(float) + jnp.sum(jnp.log(sines)).astype(float)

    # Internal -> Cartesian -------------------------------------------------------------------------------------------
    def to_cartesian(self, internal: Internal) -> tuple[Float[Array, "atoms 3"], Scalar]:
        """Positions with the root at the origin in a fixed orientation, and log|dx/d(internal, orientation, centre)|.

        All atoms of one level of the tree are placed at once: the frame of an atom is that of its parent turned by torsion and
        angle, so no cross product or norm is taken.
        """
        z = self.z_matrix
        dtype = internal.bonds.dtype
        cosine, sine = jnp.cos(internal.angles), jnp.sin(internal.angles)
        torsions = jnp.concatenate([jnp.zeros(1, dtype), self._absolute(internal.torsions)])
        turn = jnp.stack([cosine, sine, jnp.cos(torsions), jnp.sin(torsions)], axis=-1)
        # Frames are rows (e1, e2, e3): e1 along the bond into the atom, e2 towards the side of torsion 0, e3 = e1 x e2.
        root = jnp.array([[[-1, 0, 0], [0, 1, 0], [0, 0, -1]]], dtype)
        first = jnp.eye(3, dtype=dtype)[None]
        positions, frames, begin = [jnp.zeros((1, 3), dtype)], root, 0
        for low, high in z.levels:
            parents = np.array(z.parent[low:high]) - begin
            if low == 1:  # slot 1 defines the axis; the others hang on the root
                rest = _turned(jnp.broadcast_to(root, (high - 2, 3, 3)), turn[: high - 2])
                frames = jnp.concatenate([first, rest])
                origin = jnp.zeros((high - low, 3), dtype)
            else:
                frames = _turned(frames[parents], turn[low - 2 : high - 2])
                origin = positions[-1][parents]
            positions.append(origin + internal.bonds[low - 1 : high - 1, None] * frames[:, 0])
            begin = low
        placed = jnp.concatenate(positions)
        return placed[np.argsort(np.array(z.order))], self.log_volume(internal)


def wrap(angle):
    """The angle moved by turns into [-pi, pi)."""
    return angle - 2 * math.pi * jnp.floor(angle / (2 * math.pi) + 0.5)


def _turned(frames, turn):
    """Frames of children from the frames of their parents: (cos theta, sin theta, cos tau, sin tau) per child."""
    cosine, sine, along, across = (turn[:, i, None] for i in range(4))
    e1, e2, e3 = frames[:, 0], frames[:, 1], frames[:, 2]
    side = along * e2 + across * e3
    return jnp.stack([sine * side - cosine * e1, -sine * e1 - cosine * side, along * e3 - across * e2], axis=1)


def _angle(a, b):
    """Angle of two vectors from sine and cosine, accurate also near 0 and pi."""
    cross = jnp.cross(a, b)
    return jnp.arctan2(jnp.sqrt(jnp.sum(cross * cross, axis=-1)), jnp.sum(a * b, axis=-1))


def _dihedral(back, to_grandparent, to_plane):
    """Torsion i-p-g-h from p - i, g - p and h - g; trans is pi (IUPAC sign)."""
    m, n = jnp.cross(back, to_grandparent), jnp.cross(to_grandparent, to_plane)
    length = jnp.sqrt(jnp.sum(to_grandparent * to_grandparent, axis=-1))
    return jnp.arctan2(length * jnp.sum(back * n, axis=-1), jnp.sum(m * n, axis=-1))


class EqualHydrogens(eqx.Module):
    """x -> x with the hydrogens of every methyl (and ammonium) group exchanged in a circle by a random number of places.

    These exchanges are proper rotations of the group by 120 degrees up to names: the energy does not see them, so data may be
    exchanged at random, which multiplies them by three per group. ``members`` (groups, 3) are atoms. A constant.
    """

    frozen: ClassVar[bool] = True

    members: Int[Array, "groups 3"]

    def __call__(self, key: Key[Array, ""], x: Float[Array, "atoms 3"]) -> Float[Array, "atoms 3"]:
        places = jax.random.randint(key, (self.members.shape[0], 1), 0, 3)
        exchanged = jnp.take_along_axis(self.members, (jnp.arange(3) + places) % 3, axis=1)
        return x[jnp.arange(x.shape[0]).at[self.members].set(exchanged)]


class MolecularDistribution(Distribution):
    """A distribution of internal coordinates as one of positions (atoms, 3) in nm, normalised on all of R^(3n).

    q(x) = q(bonds, angles, torsions) / (8 pi^2 prod r^2 prod sin theta) N(centre; 0, sigma^2 I): every orientation is equally
    likely and the unweighted mean of the atoms is normal with sigma = ``centre_scale`` (nm). Only bonds above 0 and angles in
    (0, pi) are molecules; a draw beyond them (tens of standard deviations for chemical bonds) would get the density of its
    unfolded coordinates.
    """

    coordinates: InternalCoordinates
    internal: Distribution
    centre_scale: float = eqx.field(static=True)

    @property
    def augmentation(self) -> EqualHydrogens | None:
        """What training may do to every configuration, ``augmentation(key, x)``; None for molecules without equal hydrogens."""
        z_matrix = self.coordinates.z_matrix
        if not z_matrix.rotors:
            return None
        return EqualHydrogens(jnp.asarray([[z_matrix.order[slot] for slot in rotor] for rotor in z_matrix.rotors]))

    def __check_init__(self):
        if not self.centre_scale > 0:
            raise InvalidArgumentError(f"centre_scale must be a positive length in nm; found {self.centre_scale}")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "atoms 3"]:
        return self.sample_and_log_prob(key)[0]

    def log_prob(self, x: Float[Array, "atoms 3"]) -> Scalar:
        internal, log_det = self.coordinates.from_cartesian(x)
        return self.internal.log_prob(internal) + log_det + self._log_pose(jnp.mean(x, axis=0))

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[Float[Array, "atoms 3"], Scalar]:
        key_internal, key_rotation, key_centre = jax.random.split(key, 3)
        internal, log_prob = self.internal.sample_and_log_prob(key_internal)
        x, log_det = self.coordinates.to_cartesian(internal)
        centre = self.centre_scale * jax.random.normal(key_centre, (3,), x.dtype)
        x = (x - jnp.mean(x, axis=0)) @ random_rotation(key_rotation, x.dtype) + centre
        return x, log_prob - log_det + self._log_pose(centre)

    def _log_pose(self, centre):
        """log density of the centre and of the orientation."""
        scaled = centre / self.centre_scale
        log_normal = -0.5 * jnp.sum(scaled * scaled) - 3 * math.log(self.centre_scale * math.sqrt(2 * math.pi))
        return (log_normal - LOG_ORIENTATIONS).astype(float)
