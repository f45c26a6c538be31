"""How many vector instructions does one block of the CPU kernel need, and how fast can this CPU issue them?

Both numbers bound the speed from above: a block cannot take less than its arithmetic instructions divided by the rate of
independent fused multiply-adds. The count is taken from the code as it is written, with the true trip counts.
"""

import contextlib
import ctypes
import dataclasses
import time

import llvmlite.ir as ir
import numpy as np

from heatbath.targets.molecules import cpu_kernel_compiler as compiler
from heatbath.targets.molecules.cpu_kernel_pairs import PairRows
from heatbath.targets.molecules.cpu_kernel_vectors import INT64, PRECISIONS, VOID, Lanes
from heatbath.targets.molecules.terms import ForceFieldTerms

_CHAINS = 12


@dataclasses.dataclass(frozen=True)
class Operations:
    """Vector instructions of one block: arithmetic (also square roots and estimates), comparisons and bits, memory."""

    arithmetic: float
    other: float
    memory: float


class CountingLanes(Lanes):
    """Writes the same code and remembers which blocks are how often executed."""

    trips: list[float]
    acting: float

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.spans: list[tuple[int, int, float]] = []

    @contextlib.contextmanager
    def _span(self, context, times: float):
        blocks = self.builder.function.blocks
        first = len(blocks)
        with context as value:
            yield value
        self.spans.append((first, len(blocks), times))

    def loop(self, start, stop, step=1):
        """A loop whose trips are known, or the next one of the loops over pairs."""
        known = isinstance(start, int) and isinstance(stop, int)
        trips = (stop - start) / step if known else self.trips.pop(0) if self.trips else 0.0  # 0: copying of results
        return self._span(super().loop(start, stop, step), trips)

    def if_set(self, flag):
        """What is skipped for excluded pairs."""
        return self._span(super().if_set(flag), self.acting)

    def if_any(self, mask):
        """The rare branch: not executed."""
        return self._span(super().if_any(mask), 0.0)

    def executions(self, index: int) -> float:
        """How often basic block ``index`` runs. (Block first + 1 of a span is its exit and belongs outside.)"""
        times = 1.0
        for first, last, trips in self.spans:
            if index == first or first + 2 <= index < last:
                times *= trips
        return times


def count(terms: ForceFieldTerms, dtype: str, width: int) -> Operations:
    """Instructions of one block of ``width`` configurations."""
    rows = PairRows(terms, with_excluded=terms.gb_model is not None)
    passes = 1 if terms.gb_model is None else 3
    made = []

    class Counting(CountingLanes):
        trips = [rows.count / terms.n_atoms] * passes
        acting = float(rows.acting.mean()) if rows.count else 0.0

        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    original, compiler.Lanes = compiler.Lanes, Counting
    original_copy, compiler.write_transposition = compiler.write_transposition, lambda *_, **__: None
    try:
        function = compiler.write_block(
            ir.Module("count"), terms, PRECISIONS[dtype], width, compiler.host_features(), []
        )
    finally:
        compiler.Lanes, compiler.write_transposition = original, original_copy
    return _tally(function, made[0])


def _tally(function: ir.Function, lanes: CountingLanes) -> Operations:
    used = {id(operand) for block in function.blocks for line in block.instructions for operand in line.operands}
    totals = {"arithmetic": 0.0, "other": 0.0, "memory": 0.0}
    for index, block in enumerate(function.blocks):
        times = lanes.executions(index)
        for line in block.instructions:
            kind = _kind(line, alive=id(line) in used)
            if kind is not None:
                totals[kind] += times
    return Operations(**totals)


def _kind(line: ir.Instruction, *, alive: bool) -> str | None:
    if line.opname == "store":
        value, place = line.operands
        return "memory" if isinstance(value.type, ir.VectorType) and not isinstance(place, ir.AllocaInstr) else None
    if (
        not isinstance(line.type, ir.VectorType)
        or not alive
        or line.opname in ("fneg", "insertelement", "shufflevector", "bitcast")
    ):
        return None
    if line.opname == "load":
        return None if isinstance(line.operands[0], ir.AllocaInstr) else "memory"
    return "arithmetic" if line.opname in ("fadd", "fsub", "fmul", "fdiv", "call") else "other"


def multiply_adds_per_second(dtype: str, width: int, seconds: float = 0.3) -> float:
    """Independent fused multiply-adds of full registers per second on one core, measured now."""
    module, machine = ir.Module("peak"), compiler.target_machine()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    function = ir.Function(module, ir.FunctionType(VOID, [INT64, INT64]), "peak")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    start = builder.append_basic_block("start")
    builder.branch(start)
    builder.position_at_end(start)
    lanes = Lanes(builder, PRECISIONS[dtype], width, compiler.host_features(), [])
    factor = lanes.splat(builder.load(builder.inttoptr(function.args[0], PRECISIONS[dtype].float.as_pointer())))
    chains = [lanes.variable(float(k)) for k in range(_CHAINS)]
    with lanes.loop(0, function.args[1]):
        for chain in chains:
            chain.set(chain.get() * factor + factor)
    total = lanes.vector(0.0)
    for chain in chains:
        total = total + chain.get()
    builder.store(
        builder.extract_element(total.value, ir.Constant(ir.IntType(32), 0)),
        builder.inttoptr(function.args[0], PRECISIONS[dtype].float.as_pointer()),
    )
    builder.ret_void()
    engine = compiler.load(str(module), machine)
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("peak"))
    number = np.array([0.999], dtype)
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        run(number.ctypes.data, 200_000)
        best = max(best, 200_000 * _CHAINS / (time.perf_counter() - begun))
    return best
