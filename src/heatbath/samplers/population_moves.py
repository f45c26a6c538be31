"""What moves a population at one temperature: steps of any exact kernel, sweeps of compiled particle moves, or dynamics."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel
from heatbath.kernels.particle_dynamics import ParticleDynamics
from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.random import walker_keys
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.targets.liquids import Liquid


class PopulationMoved(NamedTuple):
    """Members after their moves, U of them, the share of moves accepted, and the energies looked at by all.

    recorded: U of every member at times on the way, (member, record), where averages may be taken; None: only at the end.
    """

    positions: PyTree
    energies: Float[Array, " member"] | Float[np.ndarray, " member"]
    acceptance: float
    evaluations: float
    recorded: Float[np.ndarray, "member record"] | None = None


class PopulationMoves(abc.ABC):
    """Moves of every member, independently, that leave exp(-beta U) invariant: exactly, unless ``bias`` says why not."""

    bias: str | None = None

    @abc.abstractmethod
    def __call__(self, key: Key[Array, ""], target: Target, positions: PyTree, beta: float) -> PopulationMoved:
        """The population after its moves at ``beta``."""


class KernelMoves(PopulationMoves):
    """``steps`` steps of ``kernel``, which must be exact and keeps its step size."""

    def __init__(self, kernel: Kernel, steps: int = 10):
        if steps < 1:
            raise InvalidArgumentError(f"steps must be at least 1; found {steps}")
        if not kernel.exact:
            raise InvalidArgumentError(
                f"population annealing needs an exact kernel; {type(kernel).__name__} is biased: {kernel.bias}"
            )
        self.kernel, self.steps = kernel, steps

    def __call__(self, key, target, positions, beta):
        moved, energies, acceptance, evaluations = _kernel_moves(
            key, target, positions, jnp.asarray(beta, dtype=float), self.kernel, self.steps
        )
        return PopulationMoved(moved, energies, float(acceptance), float(evaluations))


@eqx.filter_jit
def _kernel_moves(key, target, positions, beta, kernel: Kernel, steps: int):
    u = ReducedEnergy(target, ThermoState(beta))

    def move(key, x):
        key_init, key_steps = jax.random.split(key)
        state, infos = jax.lax.scan(
            lambda state, key: kernel.step(key, state, u),
            kernel.init(key_init, x, u),
            jax.random.split(key_steps, steps),
        )
        return target.space.wrap(state.position), infos.acceptance.mean(), infos.evaluations.sum(dtype=jnp.int32)

    count = jax.tree.leaves(positions)[0].shape[0]
    moved, acceptance, evaluations = jax.vmap(move)(walker_keys(key, count), positions)
    # One evaluation to begin every member's chain, and one of its energy at the end.
    return moved, jax.vmap(target.energy)(moved), acceptance.mean(), evaluations.sum() + 2 * count


#: Largest displacement at T = 1 of a dense liquid of particles of diameter 1, in diameters: a third of the moves are accepted.
STEP_SIZE = 0.13


class EngineMoves(PopulationMoves):
    """``sweeps`` sweeps (or steps) of compiled loops with a step that is fixed beforehand.

    Steps tuned on the members themselves would make their moves depend on where they are. U is recorded ``records`` times, of
    which the later half is kept for averages; sweeps are rounded up to a multiple.
    """

    def __init__(self, engine: ParticleEngine | ParticleDynamics, sweeps: int, records: int):
        if min(sweeps, records) < 1:
            raise InvalidArgumentError(f"expected one sweep and one record or more; found {sweeps} and {records}")
        self.engine, self.sweeps, self.records = engine, sweeps, records

    @abc.abstractmethod
    def step(self, beta: float) -> float:
        """Largest displacement, or time step, at ``beta``."""

    def __call__(self, key, target, positions, beta):
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        begin, length = self.engine.begin(np.asarray(positions), seed), -(-self.sweeps // self.records)
        chains, moved = self.engine.run(begin, beta, self.step(beta), sweeps=length, records=self.records)
        return PopulationMoved(
            jnp.asarray(chains.configurations),
            jnp.asarray(chains.energies),
            moved.acceptance,
            moved.evaluations,
            moved.energies[:, self.records // 2 :],
        )


class ParticleSweeps(EngineMoves):
    """``sweeps`` sweeps of one-particle moves of a liquid.

    Displacements are at most ``step_size`` sqrt(T) along each axis; ``exchange_share`` of the moves are exchanges of unlike
    particles.
    """

    def __init__(
        self,
        liquid: Liquid,
        sweeps: int = 50,
        *,
        step_size: float = STEP_SIZE,
        exchange_share: float = 0.0,
        records: int = 1,
    ):
        if not step_size > 0:
            raise InvalidArgumentError(f"step_size must be positive; found {step_size}")
        super().__init__(ParticleEngine(liquid, exchange_share=exchange_share), sweeps, records)
        self.step_size = float(step_size)

    def step(self, beta: float) -> float:
        return self.step_size / np.sqrt(beta)


class DynamicsSteps(EngineMoves):
    """``steps`` steps of Langevin dynamics of a liquid, one energy with its forces each.

    The ``time_step`` is that at T <= 1; above it falls as 1 / sqrt(T), since particles are faster. It biases the population; the
    attribute ``bias`` declares it. Velocities are drawn anew for every call.
    """

    bias = "molecular dynamics with a finite time step"

    def __init__(self, liquid: Liquid, steps: int = 200, *, time_step: float = 0.005, records: int = 1):
        if not time_step > 0:
            raise InvalidArgumentError(f"time_step must be positive; found {time_step}")
        super().__init__(ParticleDynamics(liquid), steps, records)
        self.time_step = float(time_step)

    def step(self, beta: float) -> float:
        return self.time_step * min(1.0, np.sqrt(beta))
