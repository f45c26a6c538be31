"""A temperature-steerable generator of molecules, exact in Cartesian space.

Internal coordinates have a Jacobian, prod r^2 sin(theta), that would break the scaling law exp(-U / tau) in a flow over bonds and
angles themselves. In r^3 / 3 and -cos(theta) it is one: d^{3n}x = d(centre) d(orientation) prod d(r^3/3) prod d(-cos theta) prod
d(torsion). A volume-preserving flow over these coordinates is therefore exactly steerable for x itself.
"""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, Scalar

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.bijections import Chain
from heatbath.models.internal_coordinates import (
    LOG_ORIENTATIONS,
    EqualHydrogens,
    Internal,
    InternalCoordinates,
    random_rotation,
)
from heatbath.models.steerable_flow import Steerable, SteerableFlow, Thermostat, normal_log_prob
from heatbath.models.torsion_base import TorsionBase
from heatbath.models.volume_preserving import Whitening, volume_preserving_layers
from heatbath.models.z_matrix import ZMatrix
from heatbath.spaces import wrap_angle

#: Spread of r (nm), cos(theta) and sibling torsions assumed where there are no data.
DEFAULT_SPREADS = (0.004, 0.07, 0.15)


class VolumeCoordinates(eqx.Module):
    """Internal coordinates as a flat vector of unit Jacobian: r^3 / 3, -cos(theta), sibling torsions; torsions about bonds.

    ``order`` arranges the torsions about bonds (positions in ``z_matrix.free``): single ones first, then pairs. Those of rotors
    of three equal hydrogens count three times, which leaves a label 0, 1, 2, all equally likely, and a density of equal value.
    """

    frozen: ClassVar[bool] = True

    z_matrix: ZMatrix = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)

    @property
    def reals(self) -> int:
        """Number of coordinates that are not angles."""
        n = self.z_matrix.n_atoms
        return (n - 1) + (n - 2) + len(self.z_matrix.phases)

    @property
    def folds(self) -> Float[np.ndarray, " angles"]:
        """1 or 3 per angle of the flat vector."""
        rotors = {slots[0] - 3 for slots in self.z_matrix.rotors}
        return np.array([3.0 if position in rotors else 1.0 for position in self._angles])

    @property
    def _angles(self) -> list[int]:
        return [self.z_matrix.free[place] for place in self.order]

    def flat(self, x: Internal) -> tuple[Float[Array, " reals"], Float[Array, " angles"], Int[Array, " angles"]]:
        """(reals, angles in [-pi, pi), labels)."""
        phases = x.torsions[np.array(self.z_matrix.phases, dtype=int)]
        reals = jnp.concatenate([x.bonds**3 / 3, -jnp.cos(x.angles), phases])
        folds = jnp.asarray(self.folds, x.torsions.dtype)
        many = folds * x.torsions[np.array(self._angles, dtype=int)]
        turns = jnp.floor(many / (2 * jnp.pi) + 0.5)
        return reals, many - 2 * jnp.pi * turns, turns.astype(jnp.int32)

    def internal(self, reals, angles, labels) -> tuple[Internal, Array]:
        """The inverse of ``flat``, and whether the reals lie in its range (r > 0, |cos theta| < 1)."""
        n = self.z_matrix.n_atoms
        cubes, cosines, phases = jnp.split(reals, [n - 1, 2 * n - 3])
        possible = jnp.all(cubes > 0) & jnp.all(jnp.abs(cosines) < 1)
        bonds = jnp.cbrt(3 * jnp.where(cubes > 0, cubes, 1e-6))
        bends = jnp.arccos(jnp.where(jnp.abs(cosines) < 1, -cosines, 0.0))
        free = wrap_angle((angles + 2 * jnp.pi * labels) / self.folds.astype(angles.dtype))
        back = np.argsort(np.array((*self._angles, *self.z_matrix.phases), dtype=int))
        return Internal(bonds, bends, jnp.concatenate([free, wrap_angle(phases)])[back]), possible


class SteerableMolecule(Steerable):
    """A steerable flow over ``VolumeCoordinates`` as a distribution of positions (atoms, 3) in nm, on all of R^(3n).

    ``flow`` acts on (reals, momenta, angles). Orientations are uniform and the centre of the atoms is N(0, centre_scale^2 I) at
    every temperature; in everything else p^tau'(x) ~ p^tau(x)^(tau / tau') exactly. A draw of the flow outside the range of the
    coordinates stands for no molecule: it comes with log_prob = +inf, that is with weight zero.
    """

    coordinates: InternalCoordinates
    volume: VolumeCoordinates
    flow: SteerableFlow
    centre_scale: float = eqx.field(static=True)

    def __check_init__(self):
        if not self.centre_scale > 0:
            raise InvalidArgumentError(f"centre_scale must be a positive length in nm; found {self.centre_scale}")

    @property
    def thermostat(self) -> Thermostat:
        return self.flow.thermostat

    @property
    def exact(self) -> bool:
        return self.flow.exact

    @property
    def bias(self) -> str | None:
        return self.flow.bias

    @property
    def auxiliaries(self) -> int:
        return self.flow.auxiliaries

    @property
    def augmentation(self) -> "Augmentation | None":
        """What training does to every configuration, ``augmentation(key, x)``; None where there is nothing to do."""
        order, rotors = self.volume.z_matrix.order, self.volume.z_matrix.rotors
        if not rotors and not self.auxiliaries:
            return None
        members = [[order[slot] for slot in rotor] for rotor in rotors]
        hydrogens = EqualHydrogens(jnp.asarray(members, jnp.int32)) if rotors else None
        return Augmentation(hydrogens, self.flow.momenta)

    def at(self, beta) -> "SteerableMolecule":
        return dataclasses.replace(self, flow=self.flow.at(beta))

    def log_prob(self, x: PyTree) -> Scalar:
        positions = self._positions(x)
        flat, _ = self._flat(x)
        return self.flow.log_prob(flat) + self._log_pose(jnp.mean(positions, axis=0))

    def sample(self, key: Key[Array, ""]) -> PyTree:
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key: Key[Array, ""]) -> tuple[PyTree, Scalar]:
        key_flow, key_label, key_rotation, key_centre = jax.random.split(key, 4)
        flat, log_prob = self.flow.sample_and_log_prob(key_flow)
        folds = self.volume.folds
        labels = jnp.floor(jax.random.uniform(key_label, folds.shape) * folds).astype(jnp.int32)
        local, momenta, possible = self._placed(flat, labels)
        centre = self.centre_scale * jax.random.normal(key_centre, (3,), local.dtype)
        positions = (local - jnp.mean(local, axis=0)) @ random_rotation(key_rotation, local.dtype) + centre
        log_prob = jnp.where(possible, log_prob + self._log_pose(centre), jnp.inf)
        return self._value(positions, momenta), log_prob

    def carried(self, x: PyTree, beta) -> PyTree:
        """The molecule at another temperature with its centre, its orientation (of the first three atoms) and labels kept."""
        positions = self._positions(x)
        flat, labels = self._flat(x)
        local, momenta, possible = self._placed(self.flow.carried(flat, beta), labels)
        first = np.array(self.volume.z_matrix.order[:3])
        rotation = _frame(local[first]).T @ _frame(positions[first])
        moved = (local - jnp.mean(local, axis=0)) @ rotation + jnp.mean(positions, axis=0)
        return self._value(jnp.where(possible, moved, jnp.nan), momenta)

    def _positions(self, x: PyTree) -> Array:
        return x["x"] if self.auxiliaries else x

    def _value(self, positions, momenta) -> PyTree:
        return {"x": positions, "y": momenta} if self.auxiliaries else positions

    def _flat(self, x: PyTree) -> tuple[Array, Array]:
        internal, _ = self.coordinates.from_cartesian(self._positions(x))
        reals, angles, labels = self.volume.flat(internal)
        momenta = [x["y"].astype(reals.dtype)] if self.auxiliaries else []
        return jnp.concatenate([reals, *momenta, angles]), labels

    def _placed(self, flat, labels) -> tuple[Array, Array, Array]:
        """Positions in the frame of the coordinates, momenta, and whether there is such a molecule."""
        reals, momenta, angles = jnp.split(flat, [self.volume.reals, self.volume.reals + self.auxiliaries])
        internal, possible = self.volume.internal(reals, angles, labels)
        return self.coordinates.to_cartesian(internal)[0], momenta, possible

    def _log_pose(self, centre) -> Scalar:
        return normal_log_prob(centre, jnp.asarray(self.centre_scale**2)) - LOG_ORIENTATIONS


class Augmentation(eqx.Module):
    """x -> x with the equal hydrogens of every rotor exchanged, and {"x", "y"} with fresh ``momenta`` where there are any.

    The energy does not see which hydrogen is which, so the exchange multiplies the data by three per rotor.
    """

    hydrogens: EqualHydrogens | None
    momenta: Distribution | None

    def __call__(self, key: Key[Array, ""], x: Float[Array, "atoms 3"]) -> PyTree:
        key_hydrogens, key_momenta = jax.random.split(key)
        if self.hydrogens is not None:
            x = self.hydrogens(key_hydrogens, x)
        if self.momenta is None:
            return x
        return {"x": x, "y": self.momenta.sample(key_momenta).astype(x.dtype)}


def _frame(three: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Rows of a right-handed frame from the root and the two atoms bonded to it."""
    along, side = three[1] - three[0], three[2] - three[0]
    first = along / jnp.linalg.norm(along)
    normal = jnp.cross(first, side)
    third = normal / jnp.linalg.norm(normal)
    return jnp.stack([first, jnp.cross(third, first), third])


def steerable_molecule(
    key: Key[Array, ""],
    *,
    bonds,
    masses,
    reference: Float[Array | np.ndarray, "atoms 3"],
    reference_beta: float,
    data: Float[Array | np.ndarray, "draws atoms 3"] | None = None,
    auxiliaries: int | None = None,
    layers: int = 6,
    width: int = 128,
    depth: int = 1,
    orders: int = 6,
    pair_orders: int = 8,
    centre_scale: float = 0.1,
) -> SteerableMolecule:
    """A generator for the molecule with these bonds (pairs of atoms), masses (u) and reference, at every temperature.

    reference_beta:       inverse temperature of ``data`` and of the training (mol/kJ for force fields).
    data:                 configurations for spreads and torsions to start from; without them usual spreads, flat torsions.
    auxiliaries:          number of momenta; None for one per coordinate that is no angle. With 0 the density of x is known.
    layers, width, depth: couplings and their networks.
    orders, pair_orders:  of the trigonometric polynomials of torsion energies.
    """
    coordinates = InternalCoordinates.create(bonds, masses, reference)
    singles, pairs = torsion_groups(coordinates.z_matrix, bonds)
    volume = VolumeCoordinates(coordinates.z_matrix, (*singles, *(place for pair in pairs for place in pair)))
    momenta = volume.reals if auxiliaries is None else auxiliaries
    linear, circular = volume.reals + momenta, len(volume.order)
    base = TorsionBase.create(
        Thermostat(reference_beta),
        linear,
        breathing=volume.reals,
        singles=len(singles),
        pairs=len(pairs),
        orders=orders,
        pair_orders=pair_orders,
    )
    if data is None:
        whitening = _usual_spreads(coordinates, volume, reference)
    else:
        reals, angles = _flattened(coordinates, volume, data)
        base, whitening = base.fitted(angles), Whitening.of(reals, volume.reals)
    coupled = volume_preserving_layers(key, linear, circular, layers=layers, width=width, depth=depth)
    flow = SteerableFlow(base=base, bijection=Chain((coupled, whitening)), momenta_count=momenta)  # pyright: ignore
    return SteerableMolecule(coordinates, volume, flow, centre_scale)  # pyright: ignore


def torsion_groups(z_matrix: ZMatrix, bonds) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """(single torsions, pairs), as positions in ``z_matrix.free``.

    A pair turns the two bonds at an atom with four neighbours that lead to the largest parts of the molecule (phi and psi in
    a protein). Methyl rotors and bonds between planar atoms (peptide bonds) stay single.
    """
    counts = np.bincount(np.asarray(bonds).reshape(-1), minlength=z_matrix.n_atoms)
    rotors = {slots[0] for slots in z_matrix.rotors}
    sizes = _branch_sizes(z_matrix)
    at_centre: dict[int, list[tuple[int, int]]] = {}
    for place, position in enumerate(z_matrix.free):
        slot = position + 3
        ends = z_matrix.parent[slot], z_matrix.grandparent[slot]
        for centre, other in (ends, ends[::-1]):
            if slot not in rotors and counts[z_matrix.order[centre]] == 4:
                beyond = sizes[other] if z_matrix.parent[other] == centre else z_matrix.n_atoms - sizes[centre]
                at_centre.setdefault(centre, []).append((-beyond, place))
    pairs, taken = [], set()
    for members in at_centre.values():
        free = [place for _, place in sorted(members) if place not in taken]
        if len(free) >= 2:
            pairs.append((free[0], free[1]))
            taken |= {free[0], free[1]}
    singles = tuple(place for place in range(len(z_matrix.free)) if place not in taken)
    return singles, tuple(pairs)


def _branch_sizes(z_matrix: ZMatrix) -> list[int]:
    """Atoms in the branch that begins at every slot."""
    sizes = [1] * z_matrix.n_atoms
    for slot in range(z_matrix.n_atoms - 1, 0, -1):
        sizes[z_matrix.parent[slot]] += sizes[slot]
    return sizes


def _flattened(coordinates, volume, data) -> tuple[np.ndarray, np.ndarray]:
    flat = jax.jit(jax.vmap(lambda x: volume.flat(coordinates.from_cartesian(x)[0])[:2]))
    reals, angles = flat(jnp.asarray(np.asarray(data), dtype=float))
    return np.asarray(reals), np.asarray(angles)


def _usual_spreads(coordinates, volume, reference) -> Whitening:
    """Around the reference structure: the width of r^3 / 3 is r^2 times that of r."""
    reals = _flattened(coordinates, volume, np.asarray(reference)[None])[0][0]
    n = volume.z_matrix.n_atoms
    lengths = np.cbrt(3 * reals[: n - 1])
    of_bonds, of_angles, of_phases = DEFAULT_SPREADS
    spreads = np.concatenate(
        [lengths**2 * of_bonds, np.full(n - 2, of_angles), np.full(len(volume.z_matrix.phases), of_phases)]
    )
    return Whitening.diagonal(reals, spreads)
