"""Two ways to fill the lanes of a register in loops over pairs of atoms, behind one set of words.

Many configurations: a lane is a configuration, and the loop takes one pair at a time.
One configuration: a lane is a pair; the loop takes the pairs of one atom with as many consecutive partners as there are
lanes. Numbers of consecutive atoms and pairs are consecutive in memory, so that both read the same arrays.

Both do the same arithmetic in the same order for each configuration, and give the same result to the last bit: what pairs
contribute to the atom of their row is summed one after the other in both.
"""

import contextlib
from collections.abc import Iterator

import llvmlite.ir as ir

from heatbath.targets.molecules.cpu_kernel_block import Block, Vector3
from heatbath.targets.molecules.cpu_kernel_vectors import (
    INT64,
    Index,
    Lanes,
    Product,
    Table,
    Variable,
    Vector,
    VectorArray,
)


class PairLayout:
    """``lanes`` do the arithmetic of pairs; ``across`` is None when a lane is a configuration."""

    def __init__(self, block: Block, across: Lanes | None):
        self.block = block
        self.lanes = across or block.lanes
        self.pairs_in_lanes = across is not None
        self.pairs_left: ir.Value | None = None

    def row_of(self, table: Table) -> Table:
        """A table of atoms, to be read for the atom of the row."""
        return table.spread(self.lanes, across=False)

    def partners_of(self, table: Table) -> Table:
        """A table of atoms or pairs, to be read for the partners."""
        return table.spread(self.lanes, across=self.pairs_in_lanes)

    def row_value(self, array: VectorArray, atom: Index) -> Vector:
        """What an array of atoms holds for the atom of the row."""
        value = array.load(atom)
        return self.lanes.splat(self.lanes.first(value)) if self.pairs_in_lanes else value

    def row_position(self, atom: Index) -> Vector3:
        """Position of the atom of the row."""
        return Vector3(*(self.row_value(array, atom) for array in self.block.positions))

    def partners(self, array: VectorArray) -> VectorArray:
        """An array of atoms or pairs, to be read and written for the partners."""
        return array.across(self.lanes) if self.pairs_in_lanes else array

    def partner_position(self, atom: Index) -> Vector3:
        """Positions of the partners."""
        return Vector3(*(self.partners(array).load(atom) for array in self.block.positions))

    @contextlib.contextmanager
    def row(self, start: Table, i: ir.Value) -> Iterator[ir.Value]:
        """Run over the pairs of atom i: the index of the pair, or of the first of as many as there are lanes."""
        lanes, builder = self.block.lanes, self.lanes.builder
        last = start.index(builder.add(i, INT64(1)))
        with lanes.loop(start.index(i), last, step=self.lanes.width if self.pairs_in_lanes else 1) as pair:
            self.pairs_left = builder.sub(last, pair)
            yield pair

    @contextlib.contextmanager
    def if_acting(self, table: Table, pair: ir.Value) -> Iterator[None]:
        """Skip what excluded pairs do not need, where all lanes are the same pair."""
        with contextlib.nullcontext() if self.pairs_in_lanes else self.lanes.if_set(table.index(pair)):
            yield

    def push_apart(self, own: "RowSums", j: Index, d: Vector3, force: Vector) -> None:
        """Add force * d to the row's atom and -force * d to the partners."""
        own.add(*d.times(force))
        for array, component in zip(self.block.forces, d.times(-force), strict=True):
            self.partners(array).add(j, component)


class RowSums:
    """Sums over the pairs of a row, kept in registers."""

    def __init__(self, layout: PairLayout, count: int):
        self._layout = layout
        self._totals = [layout.block.lanes.variable() for _ in range(count)]

    def get(self) -> list[Vector]:
        """The sums."""
        return [total.get() for total in self._totals]

    def add(self, *terms: Vector) -> None:
        """Add one term to each sum; products are fused."""
        if not self._layout.pairs_in_lanes:
            for total, term in zip(self._totals, terms, strict=True):
                total.add(term)
            return
        lanes, wide = self._layout.block.lanes, self._layout.lanes
        factors = [self._in_memory(term) for term in terms]
        left = self._layout.pairs_left
        used = wide.builder.select(wide.builder.icmp_signed("<", left, INT64(wide.width)), left, INT64(wide.width))
        with lanes.loop(0, used) as lane:
            for total, arrays in zip(self._totals, factors, strict=True):
                _add_one(total, [array.load(lane) for array in arrays])

    def _in_memory(self, term: Vector) -> list[VectorArray]:
        """The term, or the factors of a product, where single lanes can be read."""
        lanes, wide = self._layout.block.lanes, self._layout.lanes
        builder = wide.builder
        arrays = []
        for part in (term.left, term.right) if isinstance(term, Product) and wide.fused else (term,):
            with builder.goto_entry_block():
                slot = builder.alloca(wide.type)
                slot.align = wide.bytes
            builder.store(part.value, slot, align=wide.bytes)
            arrays.append(VectorArray(lanes, builder.bitcast(slot, lanes.type.as_pointer())))
        return arrays


def _add_one(total: Variable, parts: list[Vector]) -> None:
    total.add(parts[0] * parts[1] if len(parts) == 2 else parts[0])
