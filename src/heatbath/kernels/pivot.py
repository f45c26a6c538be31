"""Pivot moves: turn everything behind a bond by a random angle. They hop over torsional barriers that dynamics has to climb."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState, decide, point, point_under
from heatbath.kernels.positions import choose, require_floating
from heatbath.state import LogDensity


class Pivot(Kernel):
    """A random bond of ``bonds`` is drawn, and the atoms ``moving`` behind it are turned by a random angle.

    Angles are uniform on the circle with probability 1/2 and normal with width 0.3 rad otherwise: far and near moves. A
    rotation keeps lengths, angles and volume, its inverse is as likely, and the choice of the bond does not depend on x; so
    min(1, exp(u(x) - u(x'))) leaves exp(-u) invariant. Pivots alone are not ergodic (bonds never stretch): compose
    them with HMC or Langevin.

    bonds:   (bonds, 2) atom indices: a fixed atom and the first atom that turns (it lies on the axis).
    moving:  (bonds, atoms) whether an atom turns.

    Source: Lal, Mol. Phys. 17, 57 (1969); Madras & Sokal, J. Stat. Phys. 50, 109 (1988).
    """

    bonds: Int[Array, "bonds 2"]
    moving: Bool[Array, "bonds atoms"]

    def __init__(self, bonds, moving):
        bonds, moving = np.asarray(bonds, dtype=np.int32).reshape(-1, 2), np.asarray(moving, dtype=bool)
        if moving.ndim != 2 or len(bonds) != len(moving) or len(bonds) == 0:
            raise InvalidArgumentError(
                f"Pivot needs at least one bond and a row of moving atoms for each; found {bonds.shape} and {moving.shape}"
            )
        self.bonds, self.moving = jnp.asarray(bonds), jnp.asarray(moving)

    def init(self, key: Key[Array, ""], x: Float[Array, "atoms 3"], u: LogDensity) -> PointState:
        require_floating(x, "Pivot")
        return point(x, u)

    def restart(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> PointState:
        return point_under(state, u)

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_bond, key_angle, key_accept = jax.random.split(key, 3)
        bond = jax.random.randint(key_bond, (), 0, self.bonds.shape[0])
        angle = self.draw_angle(key_angle, state.position.dtype)
        first, second = self.bonds[bond, 0], self.bonds[bond, 1]
        position = turned(state.position, first, second, self.moving[bond], angle)
        proposed = point(position, u)
        finite = jnp.isfinite(proposed.reduced_energy)
        log_ratio = state.reduced_energy - proposed.reduced_energy
        accepted, probability = decide(key_accept, log_ratio, finite, state.reduced_energy)
        new = choose(accepted, proposed, state)
        return new, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))

    def draw_angle(self, key: Key[Array, ""], dtype: jnp.dtype) -> Float[Array, ""]:
        """An angle in radians from a law that is even in it."""
        key_far, key_uniform, key_normal = jax.random.split(key, 3)
        far = jax.random.uniform(key_uniform, dtype=dtype, minval=-jnp.pi, maxval=jnp.pi)
        near = 0.3 * jax.random.normal(key_normal, dtype=dtype)
        return jnp.where(jax.random.bernoulli(key_far), far, near)


def turned(
    x: Float[Array, "atoms 3"],
    first: Int[Array, ""],
    second: Int[Array, ""],
    moving: Bool[Array, " atoms"],
    angle: Float[Array, ""],
) -> Float[Array, "atoms 3"]:
    """``x`` with the ``moving`` atoms turned about the axis from atom ``first`` to ``second`` (Rodrigues' formula)."""
    origin = x[second]
    axis = origin - x[first]
    axis = axis / jnp.sqrt(jnp.sum(axis**2))
    arm = x - origin
    along = (arm @ axis)[:, None] * axis
    rotated = along + (arm - along) * jnp.cos(angle) + jnp.cross(axis, arm) * jnp.sin(angle)
    return jnp.where(moving[:, None], origin + rotated, x)


def pivots_of(neighbours: tuple[tuple[int, ...], ...], frozen: frozenset[frozenset[int]] = frozenset()) -> Pivot | None:
    """Pivots about every bond that can turn: not terminal, not in a ring, not among ``frozen`` (pairs of atoms).

    neighbours:  atoms bonded to each atom. The smaller side of each bond turns. None when no bond can turn.
    """
    bonds, moving = [], []
    for first, second in ((i, j) for i, members in enumerate(neighbours) for j in members if i < j):
        if frozenset((first, second)) in frozen or min(len(neighbours[first]), len(neighbours[second])) < 2:
            continue
        side = _side(neighbours, start=second, without=first)
        if first in side:
            continue
        if 2 * len(side) > len(neighbours):
            first, second = second, first
            side = _side(neighbours, start=second, without=first)
        bonds.append((first, second))
        moving.append([atom in side for atom in range(len(neighbours))])
    return Pivot(bonds, moving) if bonds else None


def _side(neighbours, *, start: int, without: int) -> set[int]:
    """Atoms reached from ``start`` when its bond to ``without`` is cut (all of them when that bond is in a ring)."""
    reached, open_ends = {start}, [start]
    while open_ends:
        atom = open_ends.pop()
        for other in neighbours[atom]:
            if other not in reached and (atom, other) != (start, without):
                reached.add(other)
                open_ends.append(other)
    return reached
