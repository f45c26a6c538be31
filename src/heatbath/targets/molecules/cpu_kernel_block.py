"""What every term of the CPU kernel works on: the positions and forces of one block of configurations."""

from typing import NamedTuple

import llvmlite.ir as ir
import numpy as np

from heatbath.targets.molecules.cpu_kernel_vectors import Index, Lanes, Vector, VectorArray, rounded

_FAR_AWAY = 1000.0  # nm


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
    """Positions and forces of ``width`` configurations: all x, then all y, then all z, ``stride`` vectors each.

    The room behind the last atom, if any, holds a place far away: see ``cpu_kernel_layout``.
    """

    def __init__(self, lanes: Lanes, n_atoms: int, stride: int, memory: VectorArray):
        self.lanes = lanes
        self.n_atoms = n_atoms
        self.stride = stride
        self.positions = [memory.from_index(axis * stride) for axis in range(3)]
        self.forces = [memory.from_index((3 + axis) * stride) for axis in range(3)]
        self.scratch = memory.from_index(6 * stride)
        self.energy = Energy(lanes)

    def position(self, atom: Index) -> Vector3:
        """Position of an atom."""
        return Vector3(*(array.load(atom) for array in self.positions))

    def add_force(self, atom: Index, force: Vector3) -> None:
        """Add to the force on an atom."""
        for array, component in zip(self.forces, force, strict=True):
            array.add(atom, component)

    def clear_forces(self) -> None:
        """Set all forces to zero, and the positions behind the last atom far away."""
        with self.lanes.loop(0, self.stride) as index:
            for array in self.forces:
                array.store(index, 0.0)
        with self.lanes.loop(self.n_atoms, self.stride) as index:
            for array in self.positions:
                array.store(index, _FAR_AWAY)

    def table(self, *columns: np.ndarray):
        """Parameters side by side, one row per term."""
        return self.lanes.table(np.stack(columns, axis=1))
