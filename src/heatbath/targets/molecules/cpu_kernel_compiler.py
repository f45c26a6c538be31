"""From a table of terms to machine code for this CPU: writes the instructions, optimises and loads them.

The code of one molecule is written for that molecule: the numbers of the force field are constants at fixed addresses,
and terms that do not occur leave no trace. LLVM comes with llvmlite, the code generator of Numba; no compiler is needed.
"""

import dataclasses
import functools
import threading

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from heatbath.targets.molecules.cpu_kernel_block import Block
from heatbath.targets.molecules.cpu_kernel_bonded import add_angles, add_bonds, add_torsions
from heatbath.targets.molecules.cpu_kernel_cmap import add_cmap
from heatbath.targets.molecules.cpu_kernel_handler import BlockCode, write_handler
from heatbath.targets.molecules.cpu_kernel_layout import PairLayout
from heatbath.targets.molecules.cpu_kernel_pairs import add_exceptions, add_nonbonded
from heatbath.targets.molecules.cpu_kernel_solvent import add_solvent_and_nonbonded, scratch_vectors
from heatbath.targets.molecules.cpu_kernel_vectors import (
    INT64,
    PRECISIONS,
    VOID,
    Lanes,
    Precision,
    Vector,
    VectorArray,
)
from heatbath.targets.molecules.terms import ForceFieldTerms

_PAIRS_WORTH_A_THREAD = 400  # pairs of atoms, per thread, that take longer than waking it
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """Loaded code: the address of the XLA handler, and what has to live as long as it.

    ``alive`` is the execution engine and the arrays whose addresses the code contains.
    """

    address: int
    alive: tuple


@functools.cache
def host_features() -> frozenset[str]:
    """Instruction-set extensions of this CPU, as LLVM names them."""
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def widths(dtype: str) -> list[int]:
    """Configurations per block that make sense here: a full register, half of one where that is a register too, one."""
    full = _full_width(PRECISIONS[dtype])
    return [full, full // 2, 1] if "avx" in host_features() else [full, 1]


def blocks_worth_a_thread(n_atoms: int) -> int:
    """How many blocks a thread needs to do to be worth waking."""
    return max(1, -(-_PAIRS_WORTH_A_THREAD // max(1, n_atoms * (n_atoms - 1) // 2)))


def _full_width(precision: Precision) -> int:
    register = 64 if "avx512vl" in host_features() else 32 if "avx" in host_features() else 16
    return register // precision.bytes


def target_machine() -> llvm.TargetMachine:
    """A code generator for this CPU. Each execution engine takes one over and frees it, so they are not shared."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )


def compile_terms(terms: ForceFieldTerms, dtype: str, width: int, name: str, *, threads: int) -> Program:
    """The program of one molecule in ``"float32"`` or ``"float64"``, ``width`` configurations at a time."""
    precision = PRECISIONS[dtype]
    constants: list[np.ndarray] = []
    module = ir.Module(name)
    with _lock:
        machine = target_machine()
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        function = write_block(module, terms, precision, width, host_features(), constants)
        needs = _block_vectors(terms, precision, width) * width * precision.bytes
        code = BlockCode(function, width, needs)
        least = blocks_worth_a_thread(terms.n_atoms)
        write_handler(module, name, terms.n_atoms, precision.bytes, code, threads=threads, least_blocks=least)
        engine = load(str(module), machine)
        address = engine.get_function_address(name)
    return Program(address, (engine, constants))


def _room(precision: Precision, width: int) -> int:
    """Vectors of room behind arrays of atoms and pairs: where lanes are pairs, the last read goes beyond the last atom."""
    return _full_width(precision) if width == 1 else 0


def _block_vectors(terms: ForceFieldTerms, precision: Precision, width: int) -> int:
    room = _room(precision, width)
    return 6 * (terms.n_atoms + room) + scratch_vectors(terms, room)


def load(text: str, machine: llvm.TargetMachine) -> llvm.ExecutionEngine:
    """Parse, optimise and load. No vectoriser is asked to help: the code is vectors already."""
    parsed = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


def write_block(
    module: ir.Module,
    terms: ForceFieldTerms,
    precision: Precision,
    width: int,
    features: frozenset[str],
    constants: list[np.ndarray],
) -> ir.Function:
    """``void block(positions, energies, forces, used, workspace)``: addresses; rows beyond ``used`` are not touched."""
    function = ir.Function(module, ir.FunctionType(VOID, [INT64] * 5), f"block{width}")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    start = builder.append_basic_block("start")
    builder.branch(start)
    builder.position_at_end(start)
    lanes = Lanes(builder, precision, width, features, constants)
    positions, energies, forces, used, workspace = function.args
    memory = VectorArray(lanes, builder.inttoptr(workspace, lanes.type.as_pointer()))
    block = Block(lanes, terms.n_atoms, terms.n_atoms + _room(precision, width), memory)
    write_transposition(block, positions, block.positions, used, inwards=True)
    block.clear_forces()
    add_bonds(block, terms)
    add_angles(block, terms)
    add_torsions(block, terms)
    add_cmap(block, terms)
    add_exceptions(block, terms)
    layout = PairLayout(block, lanes.with_width(_full_width(precision)) if width == 1 else None)
    if terms.gb_model is None:
        add_nonbonded(layout, terms)
    else:
        add_solvent_and_nonbonded(layout, terms)
    write_transposition(block, forces, block.forces, used, inwards=False)
    _write_energies(lanes, energies, block.energy.total(), memory, used)
    builder.ret_void()
    return function


def write_transposition(
    block: Block, rows: ir.Value, columns: list[VectorArray], used: ir.Value, *, inwards: bool
) -> None:
    """Copy ``used`` configurations (atoms, 3) into lanes, or back; unused lanes repeat the last one."""
    lanes, builder = block.lanes, block.lanes.builder
    element = lanes.precision.float
    outer = builder.inttoptr(rows, element.as_pointer())
    inner = [builder.bitcast(column.pointer, element.as_pointer()) for column in columns]
    last = builder.sub(used, INT64(1))
    with lanes.loop(0, lanes.width if inwards else used) as lane:
        row = builder.select(builder.icmp_signed("<", lane, used), lane, last)
        origin = builder.mul(row, INT64(3 * block.n_atoms))
        with lanes.loop(0, block.n_atoms) as atom:
            first = builder.add(origin, builder.mul(atom, INT64(3)))
            place = builder.add(builder.mul(atom, INT64(lanes.width)), lane)
            for axis in range(3):
                far = builder.gep(outer, [builder.add(first, INT64(axis))], source_etype=element)
                near = builder.gep(inner[axis], [place], source_etype=element)
                source, sink = (far, near) if inwards else (near, far)
                builder.store(builder.load(source, typ=element), sink)


def _write_energies(lanes: Lanes, energies: ir.Value, total: Vector, spare: VectorArray, used: ir.Value) -> None:
    """Store the energies of the used lanes, by way of the workspace."""
    spare.store(0, total)
    element, builder = lanes.precision.float, lanes.builder
    source = builder.bitcast(spare.pointer, element.as_pointer())
    sink = builder.inttoptr(energies, element.as_pointer())
    with lanes.loop(0, used) as lane:
        number = builder.load(builder.gep(source, [lane], source_etype=element), typ=element)
        builder.store(number, builder.gep(sink, [lane], source_etype=element))
