"""Vectors of machine code: the arithmetic in which the CPU force field is written.

``Lanes`` writes LLVM instructions; a ``Vector`` stands for one SIMD register whose lanes are ``width`` configurations,
and its operators append instructions, so that the physics reads as formulas. Three rules keep the result of one
configuration independent of its neighbours, of the width and of the thread: no operation crosses lanes; no fast-math
flag is set (nothing is reassociated, NaN stays NaN); a product is fused into a following sum here, explicitly, wherever
the CPU has fused multiply-add, and never at the optimiser's choice.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence

import llvmlite.ir as ir
import numpy as np

INT1, INT8, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
VOID = ir.VoidType()
MOST_LANES = 16  # of any register: readers of consecutive numbers may run this far behind the last one

Index = ir.Value | ir.Constant | int


@dataclasses.dataclass(frozen=True)
class Precision:
    """A floating-point format: its NumPy dtype, LLVM types and the layout of its bits."""

    dtype: np.dtype
    float: ir.Type
    integer: ir.IntType
    mantissa_bits: int
    exponent_bias: int

    @property
    def bytes(self) -> int:
        """Size of one number."""
        return self.dtype.itemsize


PRECISIONS = {
    "float32": Precision(np.dtype(np.float32), ir.FloatType(), INT32, 23, 127),
    "float64": Precision(np.dtype(np.float64), ir.DoubleType(), INT64, 52, 1023),
}


class Vector:
    """One register of ``width`` floating-point lanes; made by ``Lanes``, never changed."""

    def __init__(self, lanes: "Lanes", value: ir.Value):
        self.lanes = lanes
        self.value = value

    def __add__(self, other: "Vector | float") -> "Vector":
        return self.lanes.sum_of(self, self.lanes.vector(other))

    def __radd__(self, other: "Vector | float") -> "Vector":
        return self.lanes.sum_of(self, self.lanes.vector(other))

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self.lanes.difference_of(self, self.lanes.vector(other))

    def __rsub__(self, other: "Vector | float") -> "Vector":
        return self.lanes.difference_of(self.lanes.vector(other), self)

    def __mul__(self, other: "Vector | float") -> "Product":
        return Product(self, self.lanes.vector(other))

    def __rmul__(self, other: "Vector | float") -> "Product":
        return Product(self.lanes.vector(other), self)

    def __truediv__(self, other: "Vector | float") -> "Vector":
        return Vector(self.lanes, self.lanes.builder.fdiv(self.value, self.lanes.vector(other).value))

    def __neg__(self) -> "Vector":
        return Vector(self.lanes, self.lanes.builder.fneg(self.value))


class Product(Vector):
    """A vector that remembers its factors, so that a following sum can fuse (the unused product is removed as dead)."""

    def __init__(self, left: Vector, right: Vector):
        super().__init__(left.lanes, left.lanes.builder.fmul(left.value, right.value))
        self.left, self.right = left, right

    def __neg__(self) -> "Product":
        return Product(-self.left, self.right)


def rounded(product: Vector) -> Vector:
    """A product as an ordinary vector, which does not fuse: it is used more than once, or another product should fuse."""
    return Vector(product.lanes, product.value)


class Variable:
    """A vector that loops may change."""

    def __init__(self, lanes: "Lanes", initial: Vector | float, *, type_: ir.Type | None = None):
        self.lanes = lanes
        with lanes.builder.goto_entry_block():
            self._slot = lanes.builder.alloca(type_ or lanes.type)
        self.set(initial)

    def get(self) -> Vector:
        """The present value."""
        return Vector(self.lanes, self.lanes.builder.load(self._slot))

    def set(self, value: Vector | float) -> None:
        """Replace the value."""
        self.lanes.builder.store(self.lanes.vector(value).value, self._slot)

    def add(self, value: Vector) -> None:
        """Add to the value; a product is fused."""
        self.set(self.lanes.sum_of(value, self.get()))


class VectorArray:
    """Vectors in memory, behind a pointer that is aligned to their size."""

    def __init__(self, lanes: "Lanes", pointer: ir.Value, *, unit: "Lanes | None" = None):
        self.lanes = lanes
        self.pointer = pointer
        self._unit = unit or lanes  # what an index counts

    def across(self, wide: "Lanes") -> "VectorArray":
        """The same memory read in vectors of ``wide``, that begin at any of the present elements."""
        return VectorArray(wide, self.pointer, unit=self.lanes)

    def _place(self, index: Index) -> ir.Value:
        builder = self.lanes.builder
        place = builder.gep(self.pointer, [self.lanes.integer(index)], source_etype=self._unit.type)
        return builder.bitcast(place, self.lanes.type.as_pointer())

    def load(self, index: Index) -> Vector:
        """The vector at ``index``."""
        lanes = self.lanes
        return Vector(lanes, lanes.builder.load(self._place(index), align=self._unit.bytes, typ=lanes.type))

    def store(self, index: Index, value: Vector | float) -> None:
        """Overwrite the vector at ``index``."""
        self.lanes.builder.store(self.lanes.vector(value).value, self._place(index), align=self._unit.bytes)

    def add(self, index: Index, value: Vector) -> None:
        """Add to the vector at ``index``; a product is fused."""
        self.store(index, self.lanes.sum_of(value, self.load(index)))

    def from_index(self, index: Index) -> "VectorArray":
        """The array that begins at ``index`` of this one."""
        return VectorArray(self.lanes, self._place(index), unit=self._unit)


class Table:
    """Numbers of the force field at a fixed address, one row per term; column by column, with room behind the last row.

    A vector has the number of one row in every lane, or (``across``) the numbers of as many rows as there are lanes.
    """

    def __init__(self, lanes: "Lanes", values: np.ndarray):
        self.lanes = lanes
        whole = values.dtype.kind == "i"
        self._element = INT32 if whole else lanes.precision.float
        columns = values.reshape(len(values), -1).T.astype(np.int32 if whole else lanes.precision.dtype)
        padded = np.pad(columns, ((0, 0), (0, MOST_LANES)), mode="edge" if columns.size else "constant")
        array = np.ascontiguousarray(padded)
        lanes.constants.append(array)
        self._rows = array.shape[1]
        self._base = ir.Constant(INT64, array.ctypes.data)
        self._across = False

    def spread(self, lanes: "Lanes", *, across: bool) -> "Table":
        """The same table read in other vectors."""
        other = copy.copy(self)
        other.lanes, other._across = lanes, across
        return other

    def _place(self, row: Index, column: int) -> ir.Value:
        builder, lanes = self.lanes.builder, self.lanes
        base = builder.inttoptr(self._base, self._element.as_pointer())
        place = builder.add(lanes.integer(row), lanes.integer(column * self._rows))
        return builder.gep(base, [place], source_etype=self._element)

    def scalar(self, row: Index, column: int) -> ir.Value:
        """The number in that place, as it is in memory."""
        return self.lanes.builder.load(self._place(row, column), typ=self._element)

    def vector(self, row: Index, column: int = 0) -> Vector:
        """The number in that place in every lane; or, across, of this and the following rows."""
        lanes = self.lanes
        if not self._across:
            return lanes.splat(self.scalar(row, column))
        place = lanes.builder.bitcast(self._place(row, column), lanes.type.as_pointer())
        return Vector(lanes, lanes.builder.load(place, align=lanes.precision.bytes, typ=lanes.type))

    def index(self, row: Index, column: int = 0) -> ir.Value:
        """The whole number in that place, as a 64-bit index."""
        return self.lanes.builder.sext(self.scalar(row, column), INT64)


class Lanes:
    """The writer of vector instructions at one width and precision, into one LLVM function.

    ``constants`` collects the arrays whose addresses are written into the code: they must live as long as the code.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        precision: Precision,
        width: int,
        features: frozenset[str],
        constants: list[np.ndarray],
    ):
        self.builder = builder
        self.precision = precision
        self.width = width
        self.features = features
        self.constants = constants
        self.type = ir.VectorType(precision.float, width)
        self.integer_type = ir.VectorType(precision.integer, width)
        self.bytes = width * precision.bytes
        self.fused = "fma" in features or "neon" in features

    def with_width(self, width: int) -> "Lanes":
        """A writer into the same function, of other vectors."""
        return type(self)(self.builder, self.precision, width, self.features, self.constants)

    # Values -----------------------------------------------------------------------------------------------------------
    def integer(self, value: Index) -> Index:
        """A 64-bit index."""
        return ir.Constant(INT64, value) if isinstance(value, int) else value

    def vector(self, value: Vector | float) -> Vector:
        """``value`` as a vector; a number goes to every lane."""
        if isinstance(value, Vector):
            return value
        return Vector(self, ir.Constant(self.type, [float(self.precision.dtype.type(value))] * self.width))

    def first(self, vector: Vector) -> ir.Value:
        """The number in lane 0."""
        return vector.lanes.builder.extract_element(vector.value, INT32(0))

    def splat(self, scalar: ir.Value) -> Vector:
        """A number of the running program, in every lane."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, INT32(0))
        zeros = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        return Vector(self, self.builder.shuffle_vector(first, undefined, zeros))

    def variable(self, initial: Vector | float = 0.0) -> Variable:
        """A new variable."""
        return Variable(self, initial)

    def table(self, values: np.ndarray | Sequence) -> Table:
        """Parameters as constants of the program."""
        return Table(self, np.asarray(values))

    # Arithmetic -------------------------------------------------------------------------------------------------------
    def _fma(self, left: Vector, right: Vector, addend: Vector) -> Vector:
        return self.call("llvm.fma." + self.suffix, self.type, left, right, addend)

    def sum_of(self, a: Vector, b: Vector) -> Vector:
        """a + b, fused when either is a product."""
        if self.fused and isinstance(a, Product):
            return self._fma(a.left, a.right, b)
        if self.fused and isinstance(b, Product):
            return self._fma(b.left, b.right, a)
        return Vector(self, self.builder.fadd(a.value, b.value))

    def difference_of(self, a: Vector, b: Vector) -> Vector:
        """a - b, fused when either is a product."""
        if self.fused and isinstance(a, Product):
            return self._fma(a.left, a.right, Vector(self, self.builder.fneg(b.value)))
        if self.fused and isinstance(b, Product):
            return self._fma(-b.left, b.right, a)
        return Vector(self, self.builder.fsub(a.value, b.value))

    @property
    def suffix(self) -> str:
        """How LLVM writes the type in the name of an intrinsic."""
        return f"v{self.width}f{8 * self.precision.bytes}"

    def call(self, name: str, result: ir.Type, *arguments: Vector | ir.Value) -> Vector:
        """Call an LLVM intrinsic."""
        values = [item.value if isinstance(item, Vector) else item for item in arguments]
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [value.type for value in values]), name)
        return Vector(self, self.builder.call(function, values))

    def absolute(self, a: Vector) -> Vector:
        """|a|."""
        return self.call("llvm.fabs." + self.suffix, self.type, a)

    # Choices ----------------------------------------------------------------------------------------------------------
    def less(self, a: Vector, b: Vector | float) -> ir.Value:
        """Mask of the lanes where a < b; a NaN is not less."""
        return self.builder.fcmp_ordered("<", a.value, self.vector(b).value)

    def less_or_nan(self, a: Vector, b: Vector | float) -> ir.Value:
        """Mask of the lanes where a < b or either is NaN: what is masked by it cannot hide a NaN."""
        return self.builder.fcmp_unordered("<", a.value, self.vector(b).value)

    def select(self, mask: ir.Value, a: Vector | float, b: Vector | float) -> Vector:
        """``a`` where the mask is set, ``b`` elsewhere."""
        return Vector(self, self.builder.select(mask, self.vector(a).value, self.vector(b).value))

    def at_least(self, a: Vector, floor: Vector | float) -> Vector:
        """max(a, floor); a NaN in ``a`` stays."""
        return self.select(self.less(a, floor), floor, a)

    @contextlib.contextmanager
    def if_any(self, mask: ir.Value) -> Iterator[None]:
        """``with lanes.if_any(mask)``: the body runs when some lane is set, which is expected to be rare."""
        builder = self.builder
        bits = builder.bitcast(mask, ir.IntType(self.width))
        with builder.if_then(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), likely=False):
            yield

    # Control ----------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def if_set(self, flag: ir.Value) -> Iterator[None]:
        """``with lanes.if_set(flag)``: the body runs when the number, the same for all lanes, is not zero."""
        with self.builder.if_then(self.builder.icmp_signed("!=", flag, ir.Constant(flag.type, 0))):
            yield

    @contextlib.contextmanager
    def loop(self, start: Index, stop: Index, step: int = 1) -> Iterator[ir.Value]:
        """``with lanes.loop(start, stop) as index``: the body runs for start <= index < stop, every ``step``."""
        builder, first, last = self.builder, self.integer(start), self.integer(stop)
        before = builder.block
        body, done = builder.append_basic_block("body"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", first, last), body, done)
        builder.position_at_end(body)
        index = builder.phi(INT64)
        index.add_incoming(first, before)
        yield index
        following = builder.add(index, INT64(step))
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, last), body, done)
        builder.position_at_end(done)
