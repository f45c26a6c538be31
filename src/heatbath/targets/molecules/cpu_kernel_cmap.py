"""CMAP corrections in the CPU kernel: bicubic patches on the torus of two torsions, looked up lane by lane."""

import math

import llvmlite.ir as ir
import numpy as np

from heatbath.targets.molecules.cmap import patch_coefficients
from heatbath.targets.molecules.cpu_kernel_block import Block
from heatbath.targets.molecules.cpu_kernel_bonded import torsion_geometry
from heatbath.targets.molecules.cpu_kernel_functions import angle_of
from heatbath.targets.molecules.cpu_kernel_vectors import INT32, INT64, Lanes, Table, Vector, VectorArray
from heatbath.targets.molecules.terms import ForceFieldTerms

_COEFFICIENTS = 16


def add_cmap(block: Block, terms: ForceFieldTerms) -> None:
    """E = sum_ab C[a, b] u^a v^b with u, v the places of phi, psi in their cell of the grid."""
    if not len(terms.cmap_torsions):
        return
    lanes, size = block.lanes, terms.cmap_maps.shape[1]
    atoms = lanes.table(terms.cmap_torsions)
    origins = lanes.table((terms.cmap_map_index * size**2).astype(np.int32))
    cells = lanes.table(patch_coefficients(terms.cmap_maps).reshape(-1, _COEFFICIENTS))
    patches = Patches(lanes, cells)
    per_radian = size / (2.0 * math.pi)
    energy = lanes.variable()
    with lanes.loop(0, len(terms.cmap_torsions)) as term:
        corners = [atoms.index(term, column) for column in range(8)]
        fractions, nodes, torsions = [], [], []
        for first in (0, 4):
            cosine, sine, forces = torsion_geometry(*(block.position(corner) for corner in corners[first : first + 4]))
            angle = angle_of(cosine, lanes.absolute(sine))
            place = lanes.select(lanes.less(sine, 0.0), -angle, angle) * per_radian
            node = lanes.call("llvm.floor." + lanes.suffix, lanes.type, place)
            nodes.append(_grid_line(node, size))
            fractions.append(place - node)
            torsions.append(forces)
        patches.gather(_cell(lanes, origins.index(term), nodes, size))
        value, along_u, along_v = patches.evaluate(*fractions)
        energy.add(value)
        for first, forces, slope in zip((0, 4), torsions, (along_u, along_v), strict=True):
            for corner, force in zip(corners[first : first + 4], forces(slope * per_radian), strict=True):
                block.add_force(corner, force)
    block.energy.add(energy.get())


def _grid_line(node: Vector, size: int) -> ir.Value:
    """The line of the grid below each lane's angle as 32-bit numbers in [0, size), whatever the lane holds."""
    lanes = node.lanes
    wrapped = lanes.select(lanes.less(node, 0.0), node + float(size), node)
    legal = lanes.builder.and_(lanes.less(lanes.vector(-0.5), wrapped), lanes.less(wrapped, size - 0.5))
    safe = lanes.select(legal, wrapped, 0.0)  # NaN becomes 0: the fraction keeps it
    return lanes.builder.fptosi(safe.value, ir.VectorType(INT32, lanes.width))


def _cell(lanes: Lanes, origin: ir.Value, nodes: list[ir.Value], size: int) -> ir.Value:
    """Row of the table of patches, per lane."""
    builder = lanes.builder
    kind = ir.VectorType(INT32, lanes.width)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(origin, INT32), INT32(0))
    origins = builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes.width))
    row = builder.mul(nodes[0], ir.Constant(kind, [size] * lanes.width))
    return builder.add(origins, builder.add(row, nodes[1]))


class Patches:
    """The coefficients of one cell per lane, gathered into vectors."""

    def __init__(self, lanes: Lanes, cells: Table):
        self._lanes, self._cells = lanes, cells
        builder = lanes.builder
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(lanes.type, _COEFFICIENTS))
            slot.align = lanes.bytes
            self._rows = builder.alloca(ir.ArrayType(INT32, lanes.width))
            self._rows.align = 64
        self._scalars = builder.bitcast(slot, lanes.precision.float.as_pointer())
        self._vectors = VectorArray(lanes, builder.bitcast(slot, lanes.type.as_pointer()))

    def gather(self, rows: ir.Value) -> None:
        """Fetch the patch in row ``rows[lane]`` for every lane."""
        lanes, builder = self._lanes, self._lanes.builder
        builder.store(rows, builder.bitcast(self._rows, rows.type.as_pointer()), align=4)
        scalars = builder.bitcast(self._rows, INT32.as_pointer())
        with lanes.loop(0, lanes.width) as lane:
            row = builder.sext(builder.load(builder.gep(scalars, [lane], source_etype=INT32), typ=INT32), INT64)
            for coefficient in range(_COEFFICIENTS):
                place = builder.add(lane, INT64(coefficient * lanes.width))
                target = builder.gep(self._scalars, [place], source_etype=lanes.precision.float)
                builder.store(self._cells.scalar(row, coefficient), target)

    def evaluate(self, u: Vector, v: Vector) -> tuple[Vector, Vector, Vector]:
        """(E, dE/du, dE/dv) of the gathered patches."""
        lanes = self._lanes
        value = along_u = along_v = lanes.vector(0.0)
        for a in reversed(range(4)):
            c = [self._vectors.load(4 * a + b) for b in range(4)]
            row = ((c[3] * v + c[2]) * v + c[1]) * v + c[0]
            slope = ((3.0 * c[3]) * v + 2.0 * c[2]) * v + c[1]
            along_u = along_u * u + value
            value = value * u + row
            along_v = along_v * u + slope
        return value, along_u, along_v
