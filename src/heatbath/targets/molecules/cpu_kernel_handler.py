"""The function that XLA calls: reads XLA's call frame, deals blocks of configurations out to threads.

The layout of the frame is that of ``xla/ffi/api/c_api.h`` (``jax.ffi.include_dir()``), whose fields keep their places
since version 0.1 of that interface; they are read here as 64-bit words. The thread that XLA calls on works together with
``workers - 1`` tasks in XLA's own thread pool. Blocks are taken from a shared counter, so that the caller never waits
for a task that has not begun: a task that comes too late finds no block, and the last one to leave frees the job. Each
thread has working memory of its own for the time of the call.
"""

import ctypes
import dataclasses
import sys

import llvmlite.binding as llvm
import llvmlite.ir as ir

from heatbath.targets.molecules.cpu_kernel_vectors import INT32, INT64, VOID

# Words of XLA_FFI_CallFrame, XLA_FFI_Buffer, XLA_FFI_Api and the extension that asks for metadata.
_FRAME_EXTENSION, _FRAME_API, _FRAME_CONTEXT, _FRAME_STAGE = 1, 2, 3, 4
_FRAME_ARGUMENTS, _FRAME_RESULTS = 9, 14
_BUFFER_DATA, _BUFFER_DIMENSIONS = 3, 5
_API_VERSION, _API_ERROR_CREATE, _API_ERROR_DESTROY, _API_SCHEDULE = 4, 6, 8, 17
_EXTENSION_METADATA, _METADATA_VERSION = 3, 3
_EXECUTE = 3
_RESOURCE_EXHAUSTED, _FAILED_PRECONDITION = 8, 9
_NO_MEMORY = "no memory left for the working space of the force field"
_OTHER_MOLECULE = "the force field was called with another number of atoms than it was compiled for"

# Words of a job.
_REFERENCES, _NEXT_BLOCK, _DONE, _POSITIONS, _ENERGIES, _FORCES, _BATCH = range(7)
_JOB_WORDS = 7
_ALIGNMENT = 64

_DEFAULT_MXCSR = 0x1F80  # round to nearest, no flushing of denormals: the same arithmetic on every thread


def _library_address(name: str) -> int:
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _yield_address() -> int:
    if sys.platform == "win32":
        return ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value or 0
    return _library_address("sched_yield")


@dataclasses.dataclass(frozen=True)
class BlockCode:
    """A block function ``void f(positions, energies, forces, lanes used, workspace)``: addresses, and what it needs."""

    function: ir.Function
    width: int
    workspace_bytes: int


class Writer:
    """Instruction writer with words, atomics and calls through addresses."""

    def __init__(self, function: ir.Function):
        self.function = function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))

    def word_pointer(self, base: ir.Value, index: int) -> ir.Value:
        """Pointer to 64-bit word ``index`` behind the address ``base``."""
        address = self.builder.add(base, INT64(8 * index))
        return self.builder.inttoptr(address, INT64.as_pointer())

    def word(self, base: ir.Value, index: int) -> ir.Value:
        """That word."""
        return self.builder.load(self.word_pointer(base, index), typ=INT64)

    def allocate(self, size: int) -> ir.Value:
        """The address of new memory, or 0."""
        return self.call_address(_library_address("malloc"), INT64, INT64(size + _ALIGNMENT))

    def store(self, value: ir.Value | int, base: ir.Value, index: int) -> None:
        """Write that word."""
        self.builder.store(INT64(value) if isinstance(value, int) else value, self.word_pointer(base, index))

    def fetch_add(self, base: ir.Value, index: int, amount: int) -> ir.Value:
        """Add to that word atomically; the value before."""
        return self.builder.atomic_rmw("add", self.word_pointer(base, index), INT64(amount), "acq_rel")

    def call_address(self, address: ir.Value | int, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Call the C function at an address."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        place = INT64(address) if isinstance(address, int) else address
        return self.builder.call(self.builder.inttoptr(place, kind.as_pointer()), arguments)


def write_handler(
    module: ir.Module, name: str, n_atoms: int, element_bytes: int, code: BlockCode, *, threads: int, least_blocks: int
) -> None:
    """Write the handler ``name``: positions (batch, n, 3) -> energies (batch,), forces (batch, n, 3).

    At most ``threads`` threads, each with at least ``least_blocks`` blocks to do.
    """
    run = _write_run(module, name + "_run", n_atoms, element_bytes, code)
    release = _write_release(module, name + "_release")
    task = _write_task(module, name + "_task", run, release, code)
    w = Writer(ir.Function(module, ir.FunctionType(INT64, [INT64]), name))
    builder, frame = w.builder, w.function.args[0]
    _write_metadata(w, frame)

    def buffer(kind: int, index: int) -> ir.Value:
        return w.word(w.word(frame, kind), index)

    positions = buffer(_FRAME_ARGUMENTS, 0)
    atoms = w.word(w.word(positions, _BUFFER_DIMENSIONS), 1)
    with builder.if_then(builder.icmp_signed("!=", atoms, INT64(n_atoms)), likely=False):
        builder.ret(_write_error(w, frame, _FAILED_PRECONDITION, _OTHER_MOLECULE))
    memory = w.allocate(code.workspace_bytes + 8 * _JOB_WORDS)
    with builder.if_then(builder.icmp_unsigned("==", memory, INT64(0)), likely=False):
        builder.ret(_write_error(w, frame, _RESOURCE_EXHAUSTED, _NO_MEMORY))
    job, workspace = memory, builder.add(memory, INT64(8 * _JOB_WORDS))
    batch = w.word(w.word(positions, _BUFFER_DIMENSIONS), 0)
    blocks = _blocks(builder, batch, code.width)
    workers = _clamp(builder, builder.udiv(blocks, INT64(least_blocks)), 1, threads)
    for place, value in (
        (_NEXT_BLOCK, 0),
        (_DONE, 0),
        (_REFERENCES, workers),
        (_POSITIONS, w.word(positions, _BUFFER_DATA)),
        (_ENERGIES, w.word(buffer(_FRAME_RESULTS, 0), _BUFFER_DATA)),
        (_FORCES, w.word(buffer(_FRAME_RESULTS, 1), _BUFFER_DATA)),
        (_BATCH, batch),
    ):
        w.store(value, job, place)
    _write_schedule(w, frame, task, job, workers, release)
    builder.call(run, [job, workspace])
    _write_wait(w, job, blocks)
    builder.call(release, [job])
    builder.ret(INT64(0))


def _write_metadata(w: Writer, frame: ir.Value) -> None:
    """Answer XLA's question about the version, and do nothing at the stages before execution."""
    builder = w.builder
    extension = w.word(frame, _FRAME_EXTENSION)
    with builder.if_then(builder.icmp_unsigned("!=", extension, INT64(0))):
        metadata = w.word(extension, _EXTENSION_METADATA)
        version = w.word(w.word(frame, _FRAME_API), _API_VERSION)  # major in the low half, minor in the high half
        known = builder.icmp_signed("==", builder.trunc(version, INT32), INT32(0))
        w.store(builder.select(known, version, INT64(-1)), metadata, _METADATA_VERSION)  # another layout: XLA refuses
        builder.ret(INT64(0))
    stage = builder.trunc(w.word(frame, _FRAME_STAGE), INT32)
    with builder.if_then(builder.icmp_unsigned("!=", stage, INT32(_EXECUTE))):
        builder.ret(INT64(0))


def _write_error(w: Writer, frame: ir.Value, code: int, sentence: str) -> ir.Value:
    """An XLA_FFI_Error."""
    text = bytearray(sentence.encode() + b"\0")
    message = ir.GlobalVariable(w.function.module, ir.ArrayType(ir.IntType(8), len(text)), f"message_{code}")
    message.initializer = ir.Constant(ir.ArrayType(ir.IntType(8), len(text)), text)
    message.global_constant = True
    with w.builder.goto_entry_block():
        request = w.builder.ptrtoint(w.builder.alloca(ir.ArrayType(INT64, 4)), INT64)
    for index, value in enumerate((28, 0, w.builder.ptrtoint(message, INT64), code)):
        w.store(value, request, index)
    return w.call_address(w.word(w.word(frame, _FRAME_API), _API_ERROR_CREATE), INT64, request)


def _clamp(builder: ir.IRBuilder, value: ir.Value, low: int, high: int) -> ir.Value:
    value = builder.select(builder.icmp_signed("<", value, INT64(low)), INT64(low), value)
    return builder.select(builder.icmp_signed(">", value, INT64(high)), INT64(high), value)


def _blocks(builder: ir.IRBuilder, batch: ir.Value, width: int) -> ir.Value:
    return builder.udiv(builder.add(batch, INT64(width - 1)), INT64(width))


def _write_schedule(
    w: Writer, frame: ir.Value, task: ir.Function, job: ir.Value, workers: ir.Value, release: ir.Function
):
    """Hand ``workers - 1`` tasks to XLA's thread pool; where there is none, give their references back."""
    builder = w.builder
    api = w.word(frame, _FRAME_API)
    with builder.goto_entry_block():
        request = builder.ptrtoint(builder.alloca(ir.ArrayType(INT64, 5)), INT64)
        complaint = builder.ptrtoint(builder.alloca(ir.ArrayType(INT64, 3)), INT64)
    values = (40, 0, w.word(frame, _FRAME_CONTEXT), builder.ptrtoint(task, INT64), job)
    for index, value in enumerate(values):
        w.store(value, request, index)
    loop, body, done = (builder.append_basic_block(name) for name in ("schedule", "schedule_one", "scheduled"))
    before = builder.block
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(INT64)
    index.add_incoming(INT64(1), before)
    builder.cbranch(builder.icmp_signed("<", index, workers), body, done)
    builder.position_at_end(body)
    error = w.call_address(w.word(api, _API_SCHEDULE), INT64, request)
    with builder.if_then(builder.icmp_unsigned("!=", error, INT64(0))):
        for place, value in enumerate((24, 0, error)):
            w.store(value, complaint, place)
        w.call_address(w.word(api, _API_ERROR_DESTROY), VOID, complaint)
        builder.call(release, [job])
    index.add_incoming(builder.add(index, INT64(1)), builder.block)
    builder.branch(loop)
    builder.position_at_end(done)


def _write_wait(w: Writer, job: ir.Value, blocks: ir.Value) -> None:
    """Wait for the blocks that other threads have taken: at most the time of one block."""
    builder = w.builder
    check, yielding, done = (builder.append_basic_block(name) for name in ("check", "yield", "finished"))
    builder.branch(check)
    builder.position_at_end(check)
    builder.cbranch(builder.icmp_signed("<", w.fetch_add(job, _DONE, 0), blocks), yielding, done)
    builder.position_at_end(yielding)
    w.call_address(_yield_address(), INT32)
    builder.branch(check)
    builder.position_at_end(done)


def _write_release(module: ir.Module, name: str) -> ir.Function:
    """Give back one reference of the job; the last one frees it, and the caller's working memory with it."""
    function = ir.Function(module, ir.FunctionType(VOID, [INT64]), name)
    function.linkage = "internal"
    w = Writer(function)
    job = function.args[0]
    left = w.fetch_add(job, _REFERENCES, -1)
    with w.builder.if_then(w.builder.icmp_signed("==", left, INT64(1))):
        w.call_address(_library_address("free"), VOID, job)
    w.builder.ret_void()
    return function


def _write_task(module: ir.Module, name: str, run: ir.Function, release: ir.Function, code: BlockCode) -> ir.Function:
    """What XLA's thread pool calls: ``void task(void* job)``. Without blocks or memory left it leaves it to the others."""
    w = Writer(ir.Function(module, ir.FunctionType(VOID, [INT64]), name))
    builder, job = w.builder, w.function.args[0]
    left = builder.icmp_signed("<", w.fetch_add(job, _NEXT_BLOCK, 0), _blocks(builder, w.word(job, _BATCH), code.width))
    with builder.if_then(left):
        workspace = w.allocate(code.workspace_bytes)
        with builder.if_then(builder.icmp_unsigned("!=", workspace, INT64(0))):
            builder.call(run, [job, workspace])
            w.call_address(_library_address("free"), VOID, workspace)
    builder.call(release, [job])
    builder.ret_void()
    return w.function


def _write_run(module: ir.Module, name: str, n_atoms: int, element_bytes: int, code: BlockCode) -> ir.Function:
    """``void run(job, workspace)``: take blocks until none is left."""
    function = ir.Function(module, ir.FunctionType(VOID, [INT64, INT64]), name)
    function.linkage = "internal"
    w = Writer(function)
    builder, job = w.builder, function.args[0]
    restore = _write_control_register(w)
    batch = w.word(job, _BATCH)
    blocks = _blocks(builder, batch, code.width)
    workspace = builder.and_(builder.add(function.args[1], INT64(_ALIGNMENT - 1)), INT64(-_ALIGNMENT))
    take, work, done = (builder.append_basic_block(label) for label in ("take", "work", "none_left"))
    builder.branch(take)
    builder.position_at_end(take)
    block = w.fetch_add(job, _NEXT_BLOCK, 1)
    builder.cbranch(builder.icmp_signed("<", block, blocks), work, done)
    builder.position_at_end(work)
    first = builder.mul(block, INT64(code.width))
    left = builder.sub(batch, first)
    full = builder.icmp_signed(">", left, INT64(code.width))
    used = builder.select(full, INT64(code.width), left)
    size = n_atoms * 3 * element_bytes
    arguments = (
        builder.add(w.word(job, _POSITIONS), builder.mul(first, INT64(size))),
        builder.add(w.word(job, _ENERGIES), builder.mul(first, INT64(element_bytes))),
        builder.add(w.word(job, _FORCES), builder.mul(first, INT64(size))),
        used,
        workspace,
    )
    builder.call(code.function, arguments)
    w.fetch_add(job, _DONE, 1)
    builder.branch(take)
    builder.position_at_end(done)
    restore()
    builder.ret_void()
    return function


def _write_control_register(w: Writer):
    """On x86, set the default rounding and denormals; returns what writes the instructions that restore the old mode."""
    if not llvm.get_process_triple().startswith(("x86_64", "amd64")):
        return lambda: None
    builder, module = w.builder, w.function.module
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(VOID, [pointer])
    names = ("llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr")
    save, load = (module.globals.get(name) or ir.Function(module, kind, name) for name in names)
    before, ours = builder.alloca(INT32), builder.alloca(INT32)
    builder.call(save, [builder.bitcast(before, pointer)])
    builder.store(INT32(_DEFAULT_MXCSR), ours)
    builder.call(load, [builder.bitcast(ours, pointer)])
    return lambda: builder.call(load, [builder.bitcast(before, pointer)])
