"""Compiled loops of one-particle Monte Carlo on a CPU (needs numba). ``particle_engine`` is the way in.

Functions here are without annotations and work on plain arrays: coordinates as (d, N) rows, so that a loop over the partners of
one particle runs in vector registers. Positions are kept in [0, L), where the nearest image is min(|dx|, L - |dx|).
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as machine code, kept on disk, that runs without Python's lock.

    Reordered sums and fused products let the loops run in vector registers; NaN and infinities keep their meaning. What checks
    annotations may have wrapped the function, and is taken off.
    """
    fast = {"reassoc", "contract", "arcp", "nsz"}
    return numba.njit(inspect.unwrap(function), nogil=True, cache=True, fastmath=fast, error_model="numpy")


@compiled
def next_word(state):
    """Next number of xoshiro256++ (Blackman & Vigna 2021) and a new state in place."""
    total = state[0] + state[3]
    result = ((total << np.uint64(23)) | (total >> np.uint64(41))) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << np.uint64(45)) | (state[3] >> np.uint64(19))
    return result


@compiled
def uniform(state):
    """A number in [0, 1) with 53 random bits."""
    return (next_word(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def partner_energy(x, length, strength, inverse_square, cutoff_square, c0, c2, c4, px, py, pz, first, second):
    """Energy of a particle at (px, py, pz) with every other but ``first`` and ``second``; tables are those of its species."""
    total = 0.0
    count = x.shape[1]
    if x.shape[0] == 2:
        for k in range(count):
            dx, dy = abs(x[0, k] - px), abs(x[1, k] - py)
            dx, dy = min(dx, length - dx), min(dy, length - dy)
            square = (dx * dx + dy * dy) * inverse_square[k]
            inverse = 1.0 / square
            sixth = inverse * inverse * inverse
            value = strength[k] * (sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square))
            total += value if (square < cutoff_square) & (k != first) & (k != second) else 0.0
        return total
    for k in range(count):
        dx, dy, dz = abs(x[0, k] - px), abs(x[1, k] - py), abs(x[2, k] - pz)
        dx, dy, dz = min(dx, length - dx), min(dy, length - dy), min(dz, length - dz)
        square = (dx * dx + dy * dy + dz * dz) * inverse_square[k]
        inverse = 1.0 / square
        sixth = inverse * inverse * inverse
        value = strength[k] * (sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square))
        total += value if (square < cutoff_square) & (k != first) & (k != second) else 0.0
    return total


@compiled
def energy_at(x, kind, px, py, pz, table, first, second):
    """Energy of a particle of species ``kind`` at (px, py, pz) with every other but ``first`` and ``second``."""
    length, strength, inverse_square, cutoff_square, c0, c2, c4 = table
    return partner_energy(
        x, length, strength[kind], inverse_square[kind], cutoff_square, c0, c2, c4, px, py, pz, first, second
    )


@compiled
def energy_in_place_of(x, kind, i, table, first, second):
    """The same at the place of particle ``i``."""
    return energy_at(x, kind, x[0, i], x[1, i], x[x.shape[0] - 1, i], table, first, second)


@compiled
def total_energy(x, species, table):
    """U of one configuration, every pair."""
    total = 0.0
    for i in range(x.shape[1]):
        total += energy_in_place_of(x, species[i], i, table, i, i)
    return 0.5 * total


@compiled
def planar_change(x, length, strength, inverse_square, cutoff_square, c0, c2, c4, old_x, old_y, new_x, new_y):
    """Energy at (new_x, new_y) minus that at (old_x, old_y) in the plane, in one pass; partners at NaN are left out."""
    total = 0.0
    for k in range(x.shape[1]):
        px, py = x[0, k], x[1, k]
        dx, dy = abs(px - new_x), abs(py - new_y)
        dx, dy = min(dx, length - dx), min(dy, length - dy)
        square = (dx * dx + dy * dy) * inverse_square[k]
        inverse = 1.0 / square
        sixth = inverse * inverse * inverse
        after = sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square)
        after = after if square < cutoff_square else 0.0
        dx, dy = abs(px - old_x), abs(py - old_y)
        dx, dy = min(dx, length - dx), min(dy, length - dy)
        square = (dx * dx + dy * dy) * inverse_square[k]
        inverse = 1.0 / square
        sixth = inverse * inverse * inverse
        before = sixth * (sixth - 1.0) + c0 + square * (c2 + c4 * square)
        before = before if square < cutoff_square else 0.0
        total += strength[k] * (after - before)
    return total


@compiled
def displace(x, species, table, beta, step, random, place):
    """Try to move a random particle; returns whether it moved. ``place`` is working memory."""
    length = table[0]
    i = int(uniform(random) * x.shape[1])
    for axis in range(x.shape[0]):
        moved = x[axis, i] + step * (2.0 * uniform(random) - 1.0)
        moved -= length * np.floor(moved / length)
        place[axis] = moved if moved < length else 0.0
    kind = species[i]
    if x.shape[0] == 2:
        _, strength, inverse_square, cutoff_square, c0, c2, c4 = table
        old_x, old_y = x[0, i], x[1, i]
        # The particle itself is taken out of the sum by being nowhere.
        x[0, i] = np.nan
        change = planar_change(
            x, length, strength[kind], inverse_square[kind], cutoff_square, c0, c2, c4, old_x, old_y, place[0], place[1]
        )
        x[0, i] = old_x
    else:
        after = energy_at(x, kind, place[0], place[1], place[2], table, i, i)
        change = after - energy_in_place_of(x, kind, i, table, i, i)
    # A change that is not a number compares false and is rejected.
    accepted = change <= 0.0 or uniform(random) < np.exp(-beta * change)
    if accepted:
        for axis in range(x.shape[0]):
            x[axis, i] = place[axis]
    return accepted


@compiled
def exchange(x, species, table, beta, begin, counts, random):
    """Try to exchange a random particle with one of another species; returns whether they did."""
    count = x.shape[1]
    i = int(uniform(random) * count)
    own = counts[species[i]]
    j = int(uniform(random) * (count - own))
    if j >= begin[species[i]]:
        j += own
    after = energy_in_place_of(x, species[i], j, table, i, j) + energy_in_place_of(x, species[j], i, table, i, j)
    before = energy_in_place_of(x, species[i], i, table, i, j) + energy_in_place_of(x, species[j], j, table, i, j)
    change = after - before
    accepted = change <= 0.0 or uniform(random) < np.exp(-beta * change)
    if accepted:
        for axis in range(x.shape[0]):
            x[axis, i], x[axis, j] = x[axis, j], x[axis, i]
    return accepted


@compiled
def run_chain(x, species, table, beta, step, share, begin, counts, random, sweeps, energies, tallies):
    """``len(energies)`` records of one chain, ``sweeps`` sweeps of N moves apart; changes ``x``, ``random`` and ``tallies``.

    tallies: displacements tried and accepted, exchanges tried and accepted.
    """
    place = np.zeros(3)
    for record in range(len(energies)):
        for _ in range(sweeps * x.shape[1]):
            if share > 0.0 and uniform(random) < share:
                tallies[2] += 1
                tallies[3] += exchange(x, species, table, beta, begin, counts, random)
            else:
                tallies[0] += 1
                tallies[1] += displace(x, species, table, beta, step, random, place)
        energies[record] = total_energy(x, species, table)


@compiled
def run_chains(xs, species, table, betas, steps, share, begin, counts, randoms, sweeps, energies, tallies, low, high):
    """Chains ``low`` to ``high`` one after the other; called from one thread per share of the chains."""
    for chain in range(low, high):
        run_chain(
            xs[chain],
            species,
            table,
            betas[chain],
            steps[chain],
            share,
            begin,
            counts,
            randoms[chain],
            sweeps,
            energies[chain],
            tallies[chain],
        )
