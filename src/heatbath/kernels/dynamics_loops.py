"""Compiled loops of molecular dynamics of particles in a periodic box (needs numba). ``particle_dynamics`` is the way in.

Coordinates, velocities and forces are (d, N) rows, and tables those of ``particle_loops``. The force of every pair is summed
twice, once for each partner, so that the inner loop runs in vector registers.
"""

import numpy as np

from heatbath.kernels.particle_loops import compiled, uniform


@compiled
def normal_pair(random, out):
    """Two independent standard normal numbers (Box & Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(random)))
    angle = 2.0 * np.pi * uniform(random)
    out[0], out[1] = radius * np.cos(angle), radius * np.sin(angle)


@compiled
def force_row(x, length, strength, inverse_square, cutoff_square, c0, c2, c4, i, force):
    """The force on particle i into ``force`` (d, N), and the energy of its pairs; tables are those of its species."""
    total, fx, fy, fz = 0.0, 0.0, 0.0, 0.0
    half = 0.5 * length
    if x.shape[0] == 2:
        px, py = x[0, i], x[1, i]
        for k in range(x.shape[1]):
            dx, dy = px - x[0, k], py - x[1, k]
            dx -= length * (1.0 if dx > half else 0.0) - length * (1.0 if dx < -half else 0.0)
            dy -= length * (1.0 if dy > half else 0.0) - length * (1.0 if dy < -half else 0.0)
            square = (dx * dx + dy * dy) * inverse_square[k]
            inside = (square < cutoff_square) & (k != i)
            inverse = 1.0 / (square if inside else 1.0)
            sixth = inverse * inverse * inverse
            scale = strength[k] if inside else 0.0
            total += scale * (sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square))
            slope = scale * ((6.0 * sixth - 3.0) * sixth * inverse - c2 - 2.0 * c4 * square) * 2.0 * inverse_square[k]
            fx += slope * dx
            fy += slope * dy
        force[0, i], force[1, i] = fx, fy
        return total
    px, py, pz = x[0, i], x[1, i], x[2, i]
    for k in range(x.shape[1]):
        dx, dy, dz = px - x[0, k], py - x[1, k], pz - x[2, k]
        dx -= length * (1.0 if dx > half else 0.0) - length * (1.0 if dx < -half else 0.0)
        dy -= length * (1.0 if dy > half else 0.0) - length * (1.0 if dy < -half else 0.0)
        dz -= length * (1.0 if dz > half else 0.0) - length * (1.0 if dz < -half else 0.0)
        square = (dx * dx + dy * dy + dz * dz) * inverse_square[k]
        inside = (square < cutoff_square) & (k != i)
        inverse = 1.0 / (square if inside else 1.0)
        sixth = inverse * inverse * inverse
        scale = strength[k] if inside else 0.0
        total += scale * (sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square))
        slope = scale * ((6.0 * sixth - 3.0) * sixth * inverse - c2 - 2.0 * c4 * square) * 2.0 * inverse_square[k]
        fx += slope * dx
        fy += slope * dy
        fz += slope * dz
    force[0, i], force[1, i], force[2, i] = fx, fy, fz
    return total


@compiled
def forces(x, species, table, force):
    """All forces into ``force``; returns U."""
    length, strength, inverse_square, cutoff_square, c0, c2, c4 = table
    total = 0.0
    for i in range(x.shape[1]):
        kind = species[i]
        total += force_row(x, length, strength[kind], inverse_square[kind], cutoff_square, c0, c2, c4, i, force)
    return 0.5 * total


@compiled
def drift(x, v, time, length):
    """x + time v, in [0, L)."""
    for axis in range(x.shape[0]):
        for i in range(x.shape[1]):
            moved = x[axis, i] + time * v[axis, i]
            moved -= length * np.floor(moved / length)
            x[axis, i] = moved if moved < length else 0.0


@compiled
def thermostat(v, keep, spread, random, pair):
    """v <- keep v + spread xi."""
    for axis in range(v.shape[0]):
        for i in range(0, v.shape[1], 2):
            normal_pair(random, pair)
            v[axis, i] = keep * v[axis, i] + spread * pair[0]
            if i + 1 < v.shape[1]:
                v[axis, i + 1] = keep * v[axis, i + 1] + spread * pair[1]


@compiled
def run_dynamics(x, species, table, beta, step, friction, random, steps, energies):
    """``len(energies)`` records of one chain, ``steps`` steps apart, from new velocities; changes ``x`` and ``random``."""
    v, force, pair = np.zeros(x.shape), np.zeros(x.shape), np.zeros(2)
    thermostat(v, 0.0, np.sqrt(1.0 / beta), random, pair)
    keep = np.exp(-friction * step)
    spread = np.sqrt((1.0 - keep * keep) / beta)
    length = table[0]
    forces(x, species, table, force)
    for record in range(len(energies)):
        energy = 0.0
        for _ in range(steps):
            v += 0.5 * step * force
            drift(x, v, 0.5 * step, length)
            thermostat(v, keep, spread, random, pair)
            drift(x, v, 0.5 * step, length)
            energy = forces(x, species, table, force)
            v += 0.5 * step * force
        energies[record] = energy


@compiled
def run_many(xs, species, table, betas, steps, friction, randoms, count, energies, low, high):
    """Chains ``low`` to ``high`` one after the other."""
    for chain in range(low, high):
        run_dynamics(
            xs[chain], species, table, betas[chain], steps[chain], friction, randoms[chain], count, energies[chain]
        )
