"""Bonds, angles and torsions of the CPU kernel, with their analytic forces.

Angles and torsions are differentiated as in Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996): no singularity except
where the force field itself has one (an angle of 0 or pi, a torsion over a straight angle).
"""

import numpy as np

from heatbath.targets.molecules.cpu_kernel_block import Block, Vector3
from heatbath.targets.molecules.cpu_kernel_functions import angle_of, reciprocal_square_root, square_root
from heatbath.targets.molecules.cpu_kernel_vectors import Vector
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Floor of squared lengths that are divided by: coinciding atoms give a finite force instead of 0/0.
_TINY = 1e-24


def add_bonds(block: Block, terms: ForceFieldTerms) -> None:
    """k/2 (r - r0)^2."""
    if not len(terms.bond_atoms):
        return
    lanes = block.lanes
    atoms = lanes.table(terms.bond_atoms)
    parameters = block.table(terms.bond_length, terms.bond_k)
    energy = lanes.variable()
    with lanes.loop(0, len(terms.bond_atoms)) as bond:
        i, j = atoms.index(bond, 0), atoms.index(bond, 1)
        d = block.position(i).minus(block.position(j))
        r2 = lanes.at_least(d.dot(d), _TINY)
        inverse = reciprocal_square_root(r2)
        stretch = r2 * inverse - parameters.vector(bond, 0)
        slope = parameters.vector(bond, 1) * stretch
        energy.add((0.5 * stretch) * slope)
        force = d.times(-slope * inverse)
        block.add_force(i, force)
        block.add_force(j, force.times(lanes.vector(-1.0)))
    block.energy.add(energy.get())


def add_angles(block: Block, terms: ForceFieldTerms) -> None:
    """k/2 (theta - theta0)^2 with theta = atan2(|u x v|, u . v)."""
    if not len(terms.angle_atoms):
        return
    lanes = block.lanes
    atoms = lanes.table(terms.angle_atoms)
    parameters = block.table(terms.angle_value, terms.angle_k)
    energy = lanes.variable()
    with lanes.loop(0, len(terms.angle_atoms)) as angle:
        i, j, k = (atoms.index(angle, column) for column in range(3))
        centre = block.position(j)
        u, v = block.position(i).minus(centre), block.position(k).minus(centre)
        normal = u.cross(v)
        area = lanes.at_least(square_root(normal.dot(normal)), 1e-6)  # a straight angle pushes nowhere
        bend = angle_of(u.dot(v), area) - parameters.vector(angle, 0)
        slope = parameters.vector(angle, 1) * bend
        energy.add((0.5 * bend) * slope)
        per_area = -slope / area  # the angle opens along u x n on i and n x v on k
        on_i = u.cross(normal).times(per_area / lanes.at_least(u.dot(u), _TINY))
        on_k = normal.cross(v).times(per_area / lanes.at_least(v.dot(v), _TINY))
        block.add_force(i, on_i)
        block.add_force(k, on_k)
        block.add_force(j, on_i.plus(on_k).times(lanes.vector(-1.0)))
    block.energy.add(energy.get())


def torsion_geometry(a: Vector3, b: Vector3, c: Vector3, d: Vector3):
    """Cosine and sine of the torsion a-b-c-d, and the function slope -> forces on a, b, c, d for slope = dE/dphi."""
    first, axis, last = a.minus(b), c.minus(b), c.minus(d)
    left, right = first.cross(axis), axis.cross(last)
    axis2, left2, right2 = (v.x.lanes.at_least(v.dot(v), _TINY) for v in (axis, left, right))
    inverse_axis = reciprocal_square_root(axis2)
    inverse_left, inverse_right = reciprocal_square_root(left2), reciprocal_square_root(right2)
    both = inverse_left * inverse_right
    length = axis2 * inverse_axis
    cosine = left.dot(right) * both
    sine = (first.dot(right) * length) * both

    def forces(slope: Vector) -> tuple[Vector3, Vector3, Vector3, Vector3]:
        pull = slope * length
        on_a = left.times(-pull * (inverse_left * inverse_left))
        on_d = right.times(pull * (inverse_right * inverse_right))
        inverse_axis2 = inverse_axis * inverse_axis
        along_first = first.dot(axis) * inverse_axis2
        along_last = last.dot(axis) * inverse_axis2
        shear = on_a.times(along_first).minus(on_d.times(along_last))
        on_b = shear.minus(on_a)
        on_c = Vector3(-shear.x, -shear.y, -shear.z).minus(on_d)
        return on_a, on_b, on_c, on_d

    return cosine, sine, forces


def _fourier_series(terms: ForceFieldTerms) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Torsions of equal atoms merged: highest periodicity -> (atoms (m, 4), rows (m, 1 + 2 periodicity)).

    A row holds the constant, then the coefficients of cos(n phi) and of sin(n phi) for n = 1 to the highest periodicity.
    """
    merged: dict[tuple[int, ...], dict[int, complex]] = {}
    for quadruple, n, phase, k in zip(
        terms.torsion_atoms.tolist(),
        terms.torsion_periodicity.tolist(),
        terms.torsion_phase.tolist(),
        terms.torsion_k.tolist(),
        strict=True,
    ):
        series = merged.setdefault(min(tuple(quadruple), tuple(quadruple[::-1])), {})
        series[0] = series.get(0, 0.0) + k
        series[n] = series.get(n, 0.0) + k * np.exp(1j * phase)
    groups: dict[int, tuple[list, list]] = {}
    for quadruple, series in merged.items():
        highest = max(series)
        waves = [series.get(n, 0.0) for n in range(1, highest + 1)]
        row = [series[0].real, *(np.real(wave) for wave in waves), *(np.imag(wave) for wave in waves)]
        atoms, rows = groups.setdefault(highest, ([], []))
        atoms.append(quadruple)
        rows.append(row)
    return {n: (np.array(atoms, dtype=np.int32), np.array(rows)) for n, (atoms, rows) in sorted(groups.items())}


def add_torsions(block: Block, terms: ForceFieldTerms) -> None:
    """k (1 + cos(n phi - phase)), all n of the same four atoms at once; cos and sin of n phi by recurrence."""
    lanes = block.lanes
    for highest, (quadruples, rows) in _fourier_series(terms).items():
        atoms, parameters = lanes.table(quadruples), lanes.table(rows)
        sines = (
            np.abs(rows[:, 1 + highest :]) > 1e-14 * np.abs(rows).max()
        )  # a phase of pi in floating point is no sine
        energy = lanes.variable()
        with lanes.loop(0, len(quadruples)) as torsion:
            corners = [atoms.index(torsion, column) for column in range(4)]
            cosine, sine, forces = torsion_geometry(*(block.position(corner) for corner in corners))
            value, slope = parameters.vector(torsion, 0), lanes.vector(0.0)
            c, s = [lanes.vector(1.0), cosine], [lanes.vector(0.0), sine]
            for n in range(1, highest + 1):
                even = parameters.vector(torsion, n)
                value, slope = value + even * c[n], slope - (even * float(n)) * s[n]
                if sines[:, n - 1].any():
                    odd = parameters.vector(torsion, highest + n)
                    value, slope = value + odd * s[n], slope + (odd * float(n)) * c[n]
                c.append((2.0 * cosine) * c[n] - c[n - 1])
                s.append((2.0 * cosine) * s[n] - s[n - 1])
            energy.add(value)
            for corner, force in zip(corners, forces(slope), strict=True):
                block.add_force(corner, force)
        block.energy.add(energy.get())
