"""Pairs of atoms in the CPU kernel: who interacts with whom, and the Lennard-Jones and Coulomb terms.

Pairs i < j are listed row by row, one row per atom i, partners ascending. A row keeps the position of atom i and the sums
for it in registers. Excluded pairs are listed where the solvent needs them, with zero parameters.
"""

import numpy as np

from heatbath.targets.molecules.cpu_kernel_block import Block, Vector3
from heatbath.targets.molecules.cpu_kernel_functions import reciprocal_square_root
from heatbath.targets.molecules.cpu_kernel_layout import PairLayout, RowSums
from heatbath.targets.molecules.cpu_kernel_vectors import Lanes, Product, Vector, rounded
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Pairs closer than this (nm) are given the force field at this distance, so that r^-14 stays a number.
CLOSEST = {4: 2e-3, 8: 1e-20}


def pair_parameters(terms: ForceFieldTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coulomb q q, c6, c12) of every pair, (n, n) each, with c6 = 4 eps s^6 and c12 = 4 eps s^12; zero: no interaction.

    Without a cutoff exceptions are written into the tables; with one they are left out (``exception_rows`` has them).
    """
    n = terms.n_atoms
    if terms.nonbonded_method == "none":
        return np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    charge = terms.coulomb_constant * terms.charges[:, None] * terms.charges
    sigma = 0.5 * (terms.sigma[:, None] + terms.sigma)
    depth = 4.0 * np.sqrt(terms.epsilon[:, None] * terms.epsilon)
    c6, c12 = depth * sigma**6, depth * sigma**12
    i, j = terms.exception_atoms.T
    for table, values in zip((charge, c6, c12), exception_parameters(terms), strict=True):
        table[i, j] = table[j, i] = values if terms.nonbonded_method == "no_cutoff" else 0.0
    return charge, c6, c12


def exception_parameters(terms: ForceFieldTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coulomb q q, c6, c12) of every exception."""
    depth = 4.0 * terms.exception_epsilon
    charge = terms.coulomb_constant * terms.exception_chargeprod
    return charge, depth * terms.exception_sigma**6, depth * terms.exception_sigma**12


class PairRows:
    """The list of pairs: ``partner[p]`` is j, the row of atom i begins at ``start[i]``, ``acting[p]`` says whether the pair
    has Lennard-Jones or Coulomb parameters; ``with_excluded=False`` lists only those that do.
    """

    def __init__(self, terms: ForceFieldTerms, *, with_excluded: bool):
        parameters = np.stack(pair_parameters(terms), axis=-1)
        later = np.triu(np.ones((terms.n_atoms, terms.n_atoms), dtype=bool), k=1)
        acting = (parameters != 0.0).any(axis=-1)
        listed = later if with_excluded else later & acting
        self.owner, partner = np.nonzero(listed)
        self.partner = partner.astype(np.int32)
        self.start = np.concatenate([[0], np.cumsum(listed.sum(axis=1))]).astype(np.int32)
        self.acting = acting[self.owner, partner].astype(np.int32)
        self.parameters = parameters[self.owner, partner]

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
        self._switch = terms.switching_distance
        self._dielectric = terms.reaction_field_dielectric

    def __call__(self, r2: Vector, charge: Vector, c6: Vector, c12: Vector) -> tuple[Vector, Vector]:
        """(energy, force over distance); the parameters are coulomb q q, 4 eps s^6 and 4 eps s^12."""
        if self._cutoff is None:
            return self.uncut(r2, charge, c6, c12)
        lanes, cutoff, dielectric = self._lanes, self._cutoff, self._dielectric
        k_rf = (dielectric - 1.0) / (2.0 * dielectric + 1.0) / cutoff**3
        c_rf = 3.0 * dielectric / (2.0 * dielectric + 1.0) / cutoff
        inverse = reciprocal_square_root(r2)
        inverse2 = inverse * inverse
        dispersion, push = self._dispersion(inverse2, c6, c12)
        if self._switch is not None:
            dispersion, push = self._switched(r2 * inverse, dispersion, push, self._switch, cutoff - self._switch)
        energy = charge * (inverse + (r2 * k_rf - c_rf)) + dispersion
        force = charge * (inverse * inverse2 - 2.0 * k_rf) + push * inverse2
        inside = lanes.less_or_nan(r2, cutoff**2)
        return lanes.select(inside, energy, 0.0), lanes.select(inside, force, 0.0)

    def uncut(self, r2: Vector, charge: Vector, c6: Vector, c12: Vector) -> tuple[Vector, Vector]:
        """The same without cutoff, reaction field and switching."""
        inverse = reciprocal_square_root(r2)
        inverse2 = inverse * inverse
        dispersion, push = self._dispersion(inverse2, c6, c12)
        coulomb = charge * inverse
        return coulomb + dispersion, (push + rounded(coulomb)) * inverse2

    @staticmethod
    def _dispersion(inverse2: Vector, c6: Vector, c12: Vector) -> tuple[Vector, Product]:
        """(E, -dE/dr r) with E = c12/r^12 - c6/r^6; the second is 6 (E + c12/r^12)."""
        inverse6 = (inverse2 * inverse2) * inverse2
        repulsion = c12 * inverse6
        energy = rounded((repulsion - c6) * inverse6)
        return energy, 6.0 * (repulsion * inverse6 + energy)

    def _switched(self, r: Vector, energy: Vector, push: Vector, switch: float, width: float) -> tuple[Vector, Vector]:
        """Multiplied by S = 1 - 10 t^3 + 15 t^4 - 6 t^5, t = (r - switch)/width; -d(E S)/dr r = push S - E S' r."""
        t = self._lanes.at_least((r - switch) * (1.0 / width), 0.0)
        t2 = t * t
        factor = 1.0 + (t2 * t) * (t * (15.0 - 6.0 * t) - 10.0)
        slope = (t2 * (t * (60.0 - 30.0 * t) - 30.0)) * (1.0 / width)
        return energy * factor, push * factor - (energy * slope) * r


def add_nonbonded(layout: PairLayout, terms: ForceFieldTerms) -> None:
    """Lennard-Jones and Coulomb of a molecule in vacuum, in one pass."""
    rows = PairRows(terms, with_excluded=layout.pairs_in_lanes)  # partners in lanes have to be consecutive atoms
    if not rows.acting.any():
        return
    block, lanes = layout.block, layout.lanes
    partner, start = block.lanes.table(rows.partner), block.lanes.table(rows.start)
    parameters = layout.partners_of(block.lanes.table(rows.parameters))
    nonbonded = NonbondedForce(lanes, terms)
    with block.lanes.loop(0, terms.n_atoms) as i:
        here = layout.row_position(i)
        energy, own = RowSums(layout, 1), RowSums(layout, 3)
        with layout.row(start, i) as pair:
            j = partner.index(pair)
            d = here.minus(layout.partner_position(j))
            values = (parameters.vector(pair, column) for column in range(3))
            pair_energy, force = nonbonded(squared_distance(lanes, d), *values)
            energy.add(pair_energy)
            layout.push_apart(own, j, d, force)
        block.energy.add(*energy.get())
        block.add_force(i, Vector3(*own.get()))


def add_exceptions(block: Block, terms: ForceFieldTerms) -> None:
    """With a cutoff, the exceptions that are not zero, which are never cut."""
    if terms.nonbonded_method != "cutoff_non_periodic":
        return
    parameters = np.stack(exception_parameters(terms), axis=1)
    acting = (parameters != 0.0).any(axis=1)
    if not acting.any():
        return
    lanes = block.lanes
    atoms, table = lanes.table(terms.exception_atoms[acting]), lanes.table(parameters[acting])
    nonbonded = NonbondedForce(lanes, terms)
    energy = lanes.variable()
    with lanes.loop(0, int(acting.sum())) as pair:
        i, j = atoms.index(pair, 0), atoms.index(pair, 1)
        d = block.position(i).minus(block.position(j))
        values = (table.vector(pair, column) for column in range(3))
        pair_energy, force = nonbonded.uncut(squared_distance(lanes, d), *values)
        energy.add(pair_energy)
        block.add_force(i, d.times(force))
        block.add_force(j, d.times(-force))
    block.energy.add(energy.get())
