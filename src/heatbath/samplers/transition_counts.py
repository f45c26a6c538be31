"""Pairs (x, x') of a kernel, x from the exact law, counted by cells: what certifies the kernel's detailed balance."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.process import Chunk, Process
from heatbath.random import named_key, step_key
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target


class CountsCarry(NamedTuple):
    """Key data, number of chunks done, and the counts so far (cell of x, cell of x')."""

    key: Array
    step: Array
    counts: Array


class TransitionCounts(Process):
    """``pairs`` independent pairs of one step of ``kernel``, each from its own exact draw of ``target`` at ``state``.

    cell: the cell of a configuration, an integer in 0 .. cells-1. The counts go to ``estimators.pair_symmetry_test`` (detailed
    balance) and ``stationarity_test``. Raises ``InvalidArgumentError`` for a target without exact draws.
    """

    target: Target
    state: ThermoState
    kernel: Kernel
    cell: Callable[[PyTree], Any]
    cells: int = eqx.field(static=True)
    pairs: int = eqx.field(static=True)
    pairs_per_chunk: int = eqx.field(static=True, default=20_000)

    def __check_init__(self):
        if not self.target.knows("sample"):
            raise InvalidArgumentError(f"pairs start from exact draws, and {type(self.target).__name__} has none")
        for name in ("cells", "pairs", "pairs_per_chunk"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {getattr(self, name)}")

    @property
    def _chunks(self) -> int:
        return -(-self.pairs // self.pairs_per_chunk)

    def begin(self, key: Key[Array, ""]) -> CountsCarry:
        counts = jnp.zeros((self.cells, self.cells), jnp.int32)
        return CountsCarry(jax.random.key_data(named_key(key, "pairs")), jnp.zeros((), jnp.int32), counts)

    def advance(self, carry: CountsCarry) -> tuple[CountsCarry, Chunk]:
        carry = _count(self, carry)
        made = int(np.asarray(carry.counts).sum())
        evaluations = float(self.pairs_per_chunk * (1 + self.kernel.evaluations))
        return carry, Chunk("training", {}, {"evaluations": evaluations, "pairs": float(made)})

    def finished(self, carry: CountsCarry) -> bool:
        return int(carry.step) >= self._chunks

    def progress(self, carry: CountsCarry) -> float:
        return min(1.0, int(carry.step) / self._chunks)

    def _pair(self, key: Array) -> tuple[Array, Array]:
        key_draw, key_init, key_step = jax.random.split(key, 3)
        u = ReducedEnergy(self.target, self.state)
        x = self.target.sample(key_draw, cast(float, self.state.beta))
        state, _ = self.kernel.step(key_step, self.kernel.init(key_init, x, u), u)
        return self.cell(x), self.cell(state.position)


@eqx.filter_jit
def _count(process: TransitionCounts, carry: CountsCarry) -> CountsCarry:
    keys = jax.random.split(step_key(jax.random.wrap_key_data(carry.key), carry.step), process.pairs_per_chunk)
    before, after = jax.lax.map(process._pair, keys, batch_size=2000)
    counts = carry.counts.at[before, after].add(1)
    return CountsCarry(carry.key, carry.step + 1, counts)
