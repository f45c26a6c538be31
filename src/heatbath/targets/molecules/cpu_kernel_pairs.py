"""Pairs of atoms in the CPU kernel: who interacts with whom, and the Lennard-Jones and Coulomb terms.

Pairs i < j are listed row by row (one row per atom i), in each row first the pairs with Lennard-Jones or Coulomb
parameters, then the excluded ones, which only the solvent needs. A row keeps the position and the force of atom i in
registers.
"""

import numpy as np

from heatbath.targets.molecules.cpu_kernel_block import Block, Index, Vector3
from heatbath.targets.molecules.cpu_kernel_functions import reciprocal_square_root
from heatbath.targets.molecules.cpu_kernel_vectors import Lanes, Vector
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Pairs closer than this (nm) are given the force field at this distance, so that r^-14 stays a number.
CLOSEST = {4: 2e-3, 8: 1e-20}


def pair_parameters(terms: ForceFieldTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coulomb q q, s^2, 4 eps) of every pair, (n, n) each; zero where a pair does not interact.

    Without a cutoff exceptions are written into the tables; with one they are left out (``exception_rows`` has them).
    """
    n = terms.n_atoms
    if terms.nonbonded_method == "none":
        return np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    charge = terms.coulomb_constant * terms.charges[:, None] * terms.charges
    sigma = 0.5 * (terms.sigma[:, None] + terms.sigma)
    depth = 4.0 * np.sqrt(terms.epsilon[:, None] * terms.epsilon)
    i, j = terms.exception_atoms.T
    keep = 1.0 if terms.nonbonded_method == "no_cutoff" else 0.0
    for table, values in (
        (charge, keep * terms.coulomb_constant * terms.exception_chargeprod),
        (sigma, terms.exception_sigma),
        (depth, keep * 4.0 * terms.exception_epsilon),
    ):
        table[i, j] = table[j, i] = values
    return charge, np.where(depth == 0.0, 0.0, sigma**2), depth


class PairRows:
    """The list of pairs: ``partner[p]`` is j, rows begin at ``start[i]``; the interacting ones end at ``middle[i]``."""

    def __init__(self, terms: ForceFieldTerms, *, with_excluded: bool):
        charge, sigma2, depth = pair_parameters(terms)
        interacting = (charge != 0.0) | (depth != 0.0)
        partner, start, middle = [], [0], []
        for i in range(terms.n_atoms):
            later = np.arange(i + 1, terms.n_atoms)
            acting = interacting[i, later]
            partner.extend(later[acting])
            middle.append(len(partner))
            if with_excluded:
                partner.extend(later[~acting])
            start.append(len(partner))
        self.partner = np.array(partner, dtype=np.int32)
        self.start = np.array(start, dtype=np.int32)
        self.middle = np.array(middle, dtype=np.int32)
        owner = np.repeat(np.arange(terms.n_atoms), np.diff(self.start))
        pairs = (owner, self.partner)
        self.parameters = np.stack([charge[pairs], sigma2[pairs], depth[pairs]], axis=1)
        self.owner = owner

    @property
    def count(self) -> int:
        """Number of pairs."""
        return len(self.partner)


def squared_distance(lanes: Lanes, d: Vector3) -> Vector:
    """d . d, not less than the closest distance squared."""
    return lanes.at_least(d.dot(d), CLOSEST[lanes.precision.bytes] ** 2)


class NonbondedForce:
    """Lennard-Jones and Coulomb of one pair: energy, and -dU/dr / r, which times the distance vector is the force."""

    def __init__(self, lanes: Lanes, terms: ForceFieldTerms):
        self._lanes = lanes
        self._cutoff = terms.cutoff if terms.nonbonded_method == "cutoff_non_periodic" else None
        self._switch = terms.switching_distance if self._cutoff else None
        if self._cutoff:
            dielectric = terms.reaction_field_dielectric
            self._k_rf = (dielectric - 1.0) / (2.0 * dielectric + 1.0) / self._cutoff**3
            self._c_rf = 3.0 * dielectric / (2.0 * dielectric + 1.0) / self._cutoff

    def __call__(self, r2: Vector, charge: Vector, sigma2: Vector, depth: Vector) -> tuple[Vector, Vector]:
        """(energy, force over distance); the parameters are coulomb q q, s^2 and 4 eps."""
        lanes = self._lanes
        inverse = reciprocal_square_root(r2)
        energy, force = self._plain(inverse, charge, sigma2, depth)
        if self._cutoff is None:
            return energy, force
        dispersion, dispersion_force = self._dispersion(inverse, sigma2, depth)
        inverse2 = inverse * inverse
        if self._switch is not None:
            dispersion, dispersion_force = self._switched(r2, inverse, dispersion, dispersion_force * inverse2)
        else:
            dispersion_force = dispersion_force * inverse2
        energy = charge * (inverse + (r2 * self._k_rf - self._c_rf)) + dispersion
        force = charge * (inverse * inverse2 - 2.0 * self._k_rf) + dispersion_force
        inside = lanes.less_or_nan(r2, self._cutoff**2)
        return lanes.select(inside, energy, 0.0), lanes.select(inside, force, 0.0)

    def exception(self, r2: Vector, charge: Vector, sigma2: Vector, depth: Vector) -> tuple[Vector, Vector]:
        """The same without cutoff, reaction field and switching."""
        return self._plain(reciprocal_square_root(r2), charge, sigma2, depth)

    @staticmethod
    def _dispersion(inverse: Vector, sigma2: Vector, depth: Vector) -> tuple[Vector, Vector]:
        """(energy, -dU/dr r) of the Lennard-Jones term."""
        s2 = (inverse * inverse) * sigma2
        s6 = (s2 * s2) * s2
        deep = depth * s6
        return deep * (s6 - 1.0), deep * (12.0 * s6 - 6.0)

    def _plain(self, inverse: Vector, charge: Vector, sigma2: Vector, depth: Vector) -> tuple[Vector, Vector]:
        dispersion, push = self._dispersion(inverse, sigma2, depth)
        coulomb = charge * inverse
        return dispersion + coulomb, (push + coulomb) * (inverse * inverse)

    def _switched(self, r2: Vector, inverse: Vector, energy: Vector, force: Vector) -> tuple[Vector, Vector]:
        """Multiplied by S = 1 - 10 t^3 + 15 t^4 - 6 t^5; -d(E S)/dr / r = F S - E S'/r."""
        width = self._cutoff - self._switch
        t = self._lanes.at_least((r2 * inverse) * (1.0 / width) - self._switch / width, 0.0)
        t2 = t * t
        factor = 1.0 + (t2 * t) * (t * (15.0 - 6.0 * t) - 10.0)
        slope = (t2 * (t * (60.0 - 30.0 * t) - 30.0)) * (1.0 / width)
        return energy * factor, force * factor - (energy * slope) * inverse


def add_nonbonded(block: Block, terms: ForceFieldTerms) -> None:
    """Lennard-Jones and Coulomb of a molecule in vacuum: one pass over the interacting pairs."""
    rows = PairRows(terms, with_excluded=False)
    if not rows.count:
        return
    lanes = block.lanes
    partner, start, parameters = lanes.table(rows.partner), lanes.table(rows.start), lanes.table(rows.parameters)
    nonbonded = NonbondedForce(lanes, terms)
    with lanes.loop(0, terms.n_atoms) as i:
        here = block.position(i)
        energy, own = lanes.variable(), ForceSum(lanes)
        with lanes.loop(start.index(i), start.index(lanes.builder.add(i, lanes.integer(1)))) as pair:
            j = partner.index(pair)
            d = here.minus(block.position(j))
            values = (parameters.vector(pair, column) for column in range(3))
            pair_energy, force = nonbonded(squared_distance(lanes, d), *values)
            energy.add(pair_energy)
            push_apart(block, own, j, d, force)
        block.energy.add(energy.get())
        block.add_force(i, own.get())


def add_exceptions(block: Block, terms: ForceFieldTerms) -> None:
    """With a cutoff, the exceptions that are not zero, which are never cut."""
    if terms.nonbonded_method != "cutoff_non_periodic":
        return
    acting = (terms.exception_chargeprod != 0.0) | (terms.exception_epsilon != 0.0)
    if not acting.any():
        return
    lanes = block.lanes
    atoms = lanes.table(terms.exception_atoms[acting])
    depth = 4.0 * terms.exception_epsilon[acting]
    sigma2 = np.where(depth == 0.0, 0.0, terms.exception_sigma[acting] ** 2)
    parameters = block.table(terms.coulomb_constant * terms.exception_chargeprod[acting], sigma2, depth)
    nonbonded = NonbondedForce(lanes, terms)
    energy = lanes.variable()
    with lanes.loop(0, int(acting.sum())) as pair:
        i, j = atoms.index(pair, 0), atoms.index(pair, 1)
        d = block.position(i).minus(block.position(j))
        values = (parameters.vector(pair, column) for column in range(3))
        pair_energy, force = nonbonded.exception(squared_distance(lanes, d), *values)
        energy.add(pair_energy)
        block.add_force(i, d.times(force))
        block.add_force(j, d.times(-force))
    block.energy.add(energy.get())


class ForceSum:
    """The force on the atom of a row, kept in registers while its partners pass by."""

    def __init__(self, lanes: Lanes):
        self._sums = [lanes.variable() for _ in range(3)]

    def add(self, force: Vector3) -> None:
        """Add one pair's force."""
        for total, component in zip(self._sums, force, strict=True):
            total.add(component)

    def get(self) -> Vector3:
        """The sum."""
        return Vector3(*(total.get() for total in self._sums))


def push_apart(block: Block, own: ForceSum, j: Index, d: Vector3, force: Vector) -> None:
    """Add force * d to the row's atom and -force * d to atom j."""
    own.add(d.times(force))
    block.add_force(j, d.times(-force))
