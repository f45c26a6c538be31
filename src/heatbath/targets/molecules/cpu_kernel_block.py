"""What every term of the CPU kernel works on: the positions and forces of one block of configurations."""

from typing import NamedTuple

import llvmlite.ir as ir
import numpy as np

from heatbath.targets.molecules.cpu_kernel_vectors import Lanes, Vector, VectorArray, rounded

Index = ir.Value | int


class Vector3(NamedTuple):
    """A vector in space, one per lane."""

    x: Vector
    y: Vector
    z: Vector

    def minus(self, other: "Vector3") -> "Vector3":
        """self - other."""
        return Vector3(self.x - other.x, self.y - other.y, self.z - other.z)

    def plus(self, other: "Vector3") -> "Vector3":
        """self + other."""
        return Vector3(self.x + other.x, self.y + other.y, self.z + other.z)

    def times(self, factor: Vector) -> "Vector3":
        """factor * self; what is added to it fuses."""
        return Vector3(factor * self.x, factor * self.y, factor * self.z)

    def dot(self, other: "Vector3") -> Vector:
        """self . other."""
        return self.x * other.x + (self.y * other.y + self.z * other.z)

    def cross(self, other: "Vector3") -> "Vector3":
        """Self x other."""
        return Vector3(
            self.y * other.z - rounded(self.z * other.y),
            self.z * other.x - rounded(self.x * other.z),
            self.x * other.y - rounded(self.y * other.x),
        )


class Energy:
    """The energy of each lane, summed in float64 whatever the precision of the terms."""

    def __init__(self, lanes: Lanes):
        self._lanes = lanes
        self._type = ir.VectorType(ir.DoubleType(), lanes.width)
        builder = lanes.builder
        with builder.goto_entry_block():
            self._slot = builder.alloca(self._type)
        builder.store(ir.Constant(self._type, [0.0] * lanes.width), self._slot)

    def add(self, term: Vector) -> None:
        """Add one term's energy."""
        builder = self._lanes.builder
        wide = term.value if self._lanes.precision.bytes == 8 else builder.fpext(term.value, self._type)
        builder.store(builder.fadd(builder.load(self._slot), wide), self._slot)

    def total(self) -> Vector:
        """The sum, in the precision of the lanes."""
        builder, lanes = self._lanes.builder, self._lanes
        value = builder.load(self._slot)
        return Vector(lanes, value if lanes.precision.bytes == 8 else builder.fptrunc(value, lanes.type))


class Block:
    """Positions and forces of ``width`` configurations, one array of vectors each: atom-major, x y z within an atom."""

    def __init__(self, lanes: Lanes, n_atoms: int, positions: VectorArray, forces: VectorArray, scratch: VectorArray):
        self.lanes = lanes
        self.n_atoms = n_atoms
        self.positions = positions
        self.forces = forces
        self.scratch = scratch
        self.energy = Energy(lanes)

    def _first(self, atom: Index) -> Index:
        return 3 * atom if isinstance(atom, int) else self.lanes.builder.mul(atom, self.lanes.integer(3))

    def _load(self, array: VectorArray, atom: Index) -> Vector3:
        place = array.from_index(self._first(atom))
        return Vector3(place.load(0), place.load(1), place.load(2))

    def position(self, atom: Index) -> Vector3:
        """Position of an atom."""
        return self._load(self.positions, atom)

    def add_force(self, atom: Index, force: Vector3) -> None:
        """Add to the force on an atom."""
        place = self.forces.from_index(self._first(atom))
        place.add(0, force.x)
        place.add(1, force.y)
        place.add(2, force.z)

    def clear_forces(self) -> None:
        """Set all forces to zero."""
        with self.lanes.loop(0, 3 * self.n_atoms) as index:
            self.forces.store(index, 0.0)

    def table(self, *columns: np.ndarray):
        """Parameters side by side, one row per term."""
        return self.lanes.table(np.stack(columns, axis=1))
