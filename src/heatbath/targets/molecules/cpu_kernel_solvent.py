"""Generalised Born solvent with OBC radii in the CPU kernel, together with the Lennard-Jones and Coulomb terms.

Three passes over all pairs, with a loop over atoms between them (``ForceFieldTerms`` has the formulas):

1. the integrals I_i of both directions and their derivatives D_ij = 2 (dI_ij/dr)/r, which are kept;
2. with the Born radii known, the energies of the pairs, dE/dB, and everything that pushes at fixed radii (kept);
3. the chain rule: the force of a pair is what pass 2 kept plus A_i D_ij + A_j D_ji, A = -1/2 dE/dB dB/dI.

Keeping three vectors per pair costs less than computing a logarithm twice. In dI/dr the derivatives through L and U
cancel wherever L is |r - s| or rho, except inside an atom that engulfs the other (s - r > rho) where the term for it
is missing: there dI/dr has an additional 1/L^2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from heatbath.targets.molecules.cpu_kernel_block import Vector3
from heatbath.targets.molecules.cpu_kernel_functions import (
    exponential,
    hyperbolic_tangent,
    log_of_ratio,
    logarithm,
    reciprocal,
    reciprocal_square_root,
)
from heatbath.targets.molecules.cpu_kernel_layout import PairLayout, RowSums
from heatbath.targets.molecules.cpu_kernel_pairs import NonbondedForce, PairRows, squared_distance
from heatbath.targets.molecules.cpu_kernel_vectors import Vector, rounded
from heatbath.targets.molecules.terms import ForceFieldTerms

_PROBE_RADIUS = 0.14  # nm, of the surface term
_BORN, _HALF_INVERSE, _SLOPE, _CHAIN = range(4)  # per atom: B, 1/(2 B), -2 dE/dB, and 2 I, later dB/dI, later A
_PER_ATOM, _PER_PAIR = 4, 3


def scratch_vectors(terms: ForceFieldTerms, room: int) -> int:
    """Vectors of working memory that the passes need, with ``room`` behind the last atom and the last pair."""
    n = terms.n_atoms
    return 0 if terms.gb_model is None else _PER_ATOM * (n + room) + _PER_PAIR * (n * (n - 1) // 2 + room)


class Distance(NamedTuple):
    """Of one pair: r^2, r, r/4, 1/r and -1/r^2."""

    squared: Vector
    r: Vector
    quarter: Vector
    inverse: Vector
    minus_inverse2: Vector


class Solvent:
    """Writes the passes; the tables are shared between them."""

    def __init__(self, layout: PairLayout, terms: ForceFieldTerms):
        self.layout, self.lanes, self.block, self.terms = layout, layout.lanes, layout.block, terms
        block, rows = layout.block, PairRows(terms, with_excluded=True)
        self.strength = -terms.gb_coulomb_constant * (
            1.0 / terms.gb_solute_dielectric - 1.0 / terms.gb_solvent_dielectric
        )
        charges = self.strength * terms.gb_charges[rows.owner] * terms.gb_charges[rows.partner]
        self.partner, self.start, self.acting = (
            block.lanes.table(array) for array in (rows.partner, rows.start, rows.acting)
        )
        self.parameters = layout.partners_of(block.table(charges, *rows.parameters.T))
        self.atoms = block.table(
            terms.gb_offset_radius,
            terms.gb_scaled_radius,
            0.25 * terms.gb_scaled_radius**2,
            1.0 / terms.gb_offset_radius,
            1.0 / terms.gb_radius,
            0.5 * self.strength * terms.gb_charges**2,
            terms.gb_surface_constant * (terms.gb_radius + _PROBE_RADIUS) ** 2 * terms.gb_radius**6,
        )
        self.per_atom = [block.scratch.from_index(which * block.stride) for which in range(_PER_ATOM)]
        first, length = _PER_ATOM * block.stride, rows.count + block.stride - terms.n_atoms
        self.kept = [layout.partners(block.scratch.from_index(first + which * length)) for which in range(_PER_PAIR)]
        self.nonbonded = NonbondedForce(self.lanes, terms)
        distinct = ~np.eye(terms.n_atoms, dtype=bool)
        rho, scaled = terms.gb_offset_radius[:, None], terms.gb_scaled_radius[None, :]
        # beyond this distance no sphere swallows an atom or lies inside one, and L/U is not below the lowest ratio
        self.closest = 1.001 * float(np.abs(rho - scaled)[distinct].max(initial=0.0))
        self.lowest_ratio = 0.999 * float((rho / (rho + 2.0 * scaled))[distinct].min(initial=1.0))

    def integrals(self) -> None:
        """Pass 1."""
        layout, lanes, sums = self.layout, self.lanes, self.per_atom[_CHAIN]
        with self.block.lanes.loop(0, self.block.stride) as i:
            for array in self.per_atom:
                array.store(i, 1.0)
            sums.store(i, 0.0)
        with self.block.lanes.loop(0, self.terms.n_atoms) as i:
            here = layout.row_position(i)
            of_i = [layout.row_of(self.atoms).vector(i, column) for column in range(4)]
            total = RowSums(layout, 1)
            with layout.row(self.start, i) as pair:
                j = self.partner.index(pair)
                r2 = squared_distance(lanes, here.minus(layout.partner_position(j)))
                inverse = reciprocal_square_root(r2)
                r = rounded(r2 * inverse)
                shape = Distance(r2, r, rounded(0.25 * r), inverse, rounded(-inverse * inverse))
                of_j = [layout.partners_of(self.atoms).vector(j, column) for column in range(4)]
                on_i, slope_i, on_j, slope_j = self._both_directions(shape, of_i, of_j)
                total.add(on_i)
                layout.partners(sums).add(j, on_j)
                self.kept[0].store(pair, slope_i)
                self.kept[1].store(pair, slope_j)
            sums.add(i, *total.get())

    def _both_directions(self, shape: Distance, i: Sequence[Vector], j: Sequence[Vector]) -> Sequence[Vector]:
        """(2 I_ij, D_ij, 2 I_ji, D_ji) of one pair; ``i`` and ``j`` are rho, s, s^2/4 and 1/rho of the two atoms.

        Distances below every |rho - s| hardly occur: the general formulas are computed only where some lane needs them,
        and taken only in those lanes, so that a configuration does not depend on its neighbours.
        """
        lanes = self.lanes
        usual = (*self._integral(shape, i[0], j[1], j[2]), *self._integral(shape, j[0], i[1], i[2]))
        if self.closest > 0.0:
            kept = [lanes.variable(value) for value in usual]
            close = lanes.less(shape.squared, self.closest**2)
            with lanes.if_any(close):
                general = (
                    *self._close_integral(shape, i[0], i[3], j[1], j[2]),
                    *self._close_integral(shape, j[0], j[3], i[1], i[2]),
                )
                for variable, value, other in zip(kept, general, usual, strict=True):
                    variable.set(lanes.select(close, value, other))
            usual = tuple(variable.get() for variable in kept)
        if self.terms.gb_cutoff is None:
            return usual
        counted = lanes.less_or_nan(shape.squared, self.terms.gb_cutoff**2)
        return [lanes.select(counted, value, 0.0) for value in usual]

    def _integral(self, shape: Distance, rho: Vector, scaled: Vector, quarter_scaled2: Vector) -> tuple[Vector, Vector]:
        """(2 I, 2 (dI/dr)/r) of one direction: the sphere of radius ``scaled`` around the other atom, at distance r."""
        upper = shape.r + scaled
        lower = self.lanes.at_least(shape.r - scaled, rho)
        half_log = rounded(log_of_ratio(lower, upper, self.lowest_ratio, times=0.5) * shape.inverse)
        integral, slope, _ = self._shell(shape, lower, upper, half_log, quarter_scaled2)
        return integral, slope

    def _shell(
        self, shape: Distance, lower: Vector, upper: Vector, half_log: Vector, quarter_scaled2: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """(2 I, 2 (dI/dr)/r, 1/L).

        With P = (1/L - 1/U)(1/L + 1/U) and g = log(L/U)/(2 r), written such that both need the same products:
        2 I = 1/L - 1/U - P (r - s^2/r)/4 + g and 2 (dI/dr)/r = -(P (r + s^2/r)/4 + g)/r^2.
        """
        both = reciprocal(upper * lower)
        inverse_lower, inverse_upper = rounded(upper * both), rounded(lower * both)
        difference = inverse_lower - inverse_upper
        product = rounded(difference * (inverse_lower + inverse_upper))
        reach = rounded(quarter_scaled2 * shape.inverse)
        integral = difference - product * (shape.quarter - reach) + half_log
        slope = shape.minus_inverse2 * (product * (shape.quarter + reach) + half_log)
        return integral, slope, inverse_lower

    def _close_integral(
        self, shape: Distance, rho: Vector, inverse_rho: Vector, scaled: Vector, quarter_scaled2: Vector
    ) -> tuple[Vector, Vector]:
        """The same at any distance, also where one sphere swallows the other."""
        lanes, inverse = self.lanes, shape.inverse
        upper = shape.r + scaled
        lower = lanes.at_least(lanes.absolute(shape.r - scaled), rho)
        half_log = rounded((logarithm(lower, times=0.5) - logarithm(upper, times=0.5)) * inverse)
        integral, slope, inverse_lower = self._shell(shape, lower, upper, half_log, quarter_scaled2)
        engulfed = lanes.less(rho, scaled - shape.r)
        if self.terms.gb_engulfed_term:
            integral = integral + lanes.select(engulfed, 2.0 * (inverse_rho - inverse_lower), 0.0)
        else:
            slope = slope + lanes.select(engulfed, (2.0 * inverse) * (inverse_lower * inverse_lower), 0.0)
        counted = lanes.less_or_nan(rho, upper)
        return lanes.select(counted, integral, 0.0), lanes.select(counted, slope, 0.0)

    def radii(self) -> None:
        """Born radii, their derivatives dB/dI, the energy of each atom alone and its part of dE/dB."""
        lanes, terms = self.block.lanes, self.terms
        energy = lanes.variable()
        with lanes.loop(0, terms.n_atoms) as i:
            rho, inverse_rho, inverse_radius, own, surface = (
                self.atoms.vector(i, column) for column in (0, 3, 4, 5, 6)
            )
            psi = rounded((0.5 * rho) * self.per_atom[_CHAIN].load(i))
            alpha, beta, gamma = terms.gb_alpha, terms.gb_beta, terms.gb_gamma
            tanh = hyperbolic_tangent(psi * (alpha + psi * (gamma * psi - beta)))
            inner_slope = alpha + psi * ((3.0 * gamma) * psi - 2.0 * beta)
            inverse = inverse_rho - tanh * inverse_radius
            born = reciprocal(inverse)
            chain = (born * born) * (((1.0 - tanh * tanh) * inner_slope) * (rho * inverse_radius))
            alone = rounded(own * inverse)
            inverse2 = rounded(inverse * inverse)
            exposed = surface * ((inverse2 * inverse2) * inverse2)
            energy.add(alone + exposed)
            self.per_atom[_BORN].store(i, born)
            self.per_atom[_HALF_INVERSE].store(i, 0.5 * inverse)
            self.per_atom[_SLOPE].store(i, (2.0 * (alone + 6.0 * exposed)) * inverse)
            self.per_atom[_CHAIN].store(i, chain)
        self.block.energy.add(energy.get())

    def pairs(self) -> None:
        """Pass 2: energies and forces at fixed radii, dE/dB."""
        layout, block, lanes = self.layout, self.block, self.lanes
        radii, half_inverses, slopes = (self.per_atom[which] for which in (_BORN, _HALF_INVERSE, _SLOPE))
        with block.lanes.loop(0, self.terms.n_atoms) as i:
            here = layout.row_position(i)
            born, half_inverse = layout.row_value(radii, i), layout.row_value(half_inverses, i)
            sums = RowSums(layout, 3)
            with layout.row(self.start, i) as pair:
                j = self.partner.index(pair)
                r2 = squared_distance(lanes, here.minus(layout.partner_position(j)))
                other = layout.partners(radii).load(j)
                quarter_inverse = half_inverse * layout.partners(half_inverses).load(j)
                charge, *values = (self.parameters.vector(pair, column) for column in range(4))
                polar, force, common = self._polar(r2, charge, born * other, quarter_inverse)
                plain_energy, plain_force = lanes.variable(), lanes.variable()
                with layout.if_acting(self.acting, pair):
                    plain = self.nonbonded(r2, *values)
                    plain_energy.set(plain[0])
                    plain_force.set(plain[1])
                sums.add(polar, plain_energy.get(), common * other)
                layout.partners(slopes).add(j, common * born)
                self.kept[2].store(pair, force + plain_force.get())
            polar_energy, energy, slope = sums.get()
            slopes.add(i, slope)
            block.energy.add(polar_energy)
            block.energy.add(energy)

    def _polar(
        self, r2: Vector, charge: Vector, product: Vector, quarter_inverse: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """(energy, -dE/dr / r, -2 dE/dB_i / B_j = -2 dE/dB_j / B_i) of charge/f, f^2 = r^2 + B_i B_j exp(-r^2/(4 B_i B_j))."""
        lanes = self.lanes
        exponent = rounded(r2 * quarter_inverse)
        decay = exponential(-exponent)
        inverse = reciprocal_square_root(product * decay + r2)
        energy = rounded(charge * inverse)
        strength = rounded(energy * (inverse * inverse))
        force = strength * (1.0 - 0.25 * decay)
        common = strength * (decay + exponent * decay)
        cutoff = self.terms.gb_cutoff
        if cutoff is not None:
            inside = lanes.less_or_nan(r2, cutoff**2)
            energy = energy - charge * (1.0 / cutoff)
            energy, force, common = (lanes.select(inside, value, 0.0) for value in (energy, force, common))
        return energy, force, common

    def forces(self) -> None:
        """Pass 3: the chain rule through the Born radii, and all forces of pairs."""
        layout, block, chains = self.layout, self.block, self.per_atom[_CHAIN]
        with block.lanes.loop(0, self.terms.n_atoms) as i:
            chains.store(i, chains.load(i) * (0.25 * self.per_atom[_SLOPE].load(i)))
        with block.lanes.loop(0, self.terms.n_atoms) as i:
            here, chain, own = layout.row_position(i), layout.row_value(chains, i), RowSums(layout, 3)
            with layout.row(self.start, i) as pair:
                j = self.partner.index(pair)
                d = here.minus(layout.partner_position(j))
                inward, outward, kept = (array.load(pair) for array in self.kept)
                force = outward * layout.partners(chains).load(j) + (inward * chain + kept)
                layout.push_apart(own, j, d, force)
            block.add_force(i, Vector3(*own.get()))


def add_solvent_and_nonbonded(layout: PairLayout, terms: ForceFieldTerms) -> None:
    """Generalised Born, surface, Lennard-Jones and Coulomb."""
    solvent = Solvent(layout, terms)
    solvent.integrals()
    solvent.radii()
    solvent.pairs()
    solvent.forces()
