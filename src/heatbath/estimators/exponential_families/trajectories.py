"""Trajectories of a master equation as a process: jumps are counted in chunks, each with its own random numbers."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from heatbath.estimators.exponential_families.master_equation import MasterEquation
from heatbath.process import Chunk, Process
from heatbath.random import named_key


class TrajectoriesCarry(NamedTuple):
    """Key data, number of chunks done, last state of every trajectory, jumps (trajectory, from, to), time (trajectory,)."""

    key: Array
    step: Array
    states: Array
    counts: Array
    times: Array


class JumpTrajectories(Process):
    """``trajectories`` independent stationary trajectories of ``chunks * jumps_per_chunk`` jumps each."""

    equation: MasterEquation = eqx.field(static=True)
    trajectories: int = eqx.field(static=True)
    chunks: int = eqx.field(static=True)
    jumps_per_chunk: int = eqx.field(static=True)

    def begin(self, key: Key[Array, ""]) -> TrajectoriesCarry:
        data = np.asarray(jax.random.key_data(named_key(key, "jumps")))
        states = np.random.default_rng(data).choice(self.equation.size, self.trajectories, p=self.equation.stationary)
        counts = np.zeros((self.trajectories, self.equation.size, self.equation.size), dtype=np.int32)
        zero = jnp.zeros((), jnp.int32)
        held = map(jnp.asarray, (states.astype(np.int32), counts, np.zeros(self.trajectories)))
        return TrajectoriesCarry(jnp.asarray(data), zero, *held)

    def advance(self, carry: TrajectoriesCarry) -> tuple[TrajectoriesCarry, Chunk]:
        rng = np.random.default_rng([*np.asarray(carry.key).tolist(), int(carry.step)])
        new, states = self.equation.jump_counts(rng, self.jumps_per_chunk, self.trajectories, np.asarray(carry.states))
        times = np.asarray(carry.times) + [self.equation.dwell_time(rng, one) for one in new]
        counts = np.asarray(carry.counts) + new.astype(np.int32)
        carry = TrajectoriesCarry(
            carry.key, carry.step + 1, *map(jnp.asarray, (states.astype(np.int32), counts, times))
        )
        return carry, Chunk("training", {}, {"evaluations": float(new.sum()), "jumps": float(counts.sum())})

    def finished(self, carry: TrajectoriesCarry) -> bool:
        return int(carry.step) >= self.chunks

    def progress(self, carry: TrajectoriesCarry) -> float:
        return min(1.0, int(carry.step) / self.chunks)
