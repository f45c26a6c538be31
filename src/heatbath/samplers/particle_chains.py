"""Liquids on a CPU: independent chains or replica exchange at many temperatures at once, by compiled moves of particles.

L ladders of R temperatures; a chain at every one. A round moves every chain (``ParticleEngine`` or ``ParticleDynamics``) and
then, with ``exchange``, offers exchanges of configurations to neighbours of the same ladder, even and odd pairs in turn, by the
rule of ``samplers.exchange``. Without it the R x L chains are independent. Ladders never meet: errors come from their spread.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError
from heatbath.estimate import Estimate
from heatbath.estimators import mbar
from heatbath.kernels.particle_dynamics import ParticleDynamics
from heatbath.kernels.particle_engine import Chains, ParticleEngine
from heatbath.process import Chunk
from heatbath.random import named_key, step_key
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.exchange import Swap, exchange_log_ratios, swap
from heatbath.samplers.starts import starts
from heatbath.state import ThermoState
from heatbath.targets.liquids import Liquid


class ParticleCarry(NamedTuple):
    """The state of a run: key data, rounds done, configurations (ladder, rung, d, particle), U of them, states of the random
    numbers as pairs of 32 bits, step sizes, exchange rates and their attempts per pair, and energy evaluations used.
    """

    key: Any
    round: Any
    positions: Any
    energies: Any
    random: Any
    steps: Any
    swapped: Any
    attempts: Any
    evaluations: Any


class ParticleSampler(Sampler):
    """Chains of a liquid at the temperatures 1 / ``betas``.

    betas:           (rungs,) inverse temperatures, falling; the ensemble that is collected belongs to the first.
    ladders:         independent ladders, or chains per temperature.
    draws:           recorded times per ladder, ``sweeps`` sweeps apart (steps, for dynamics); ``warmup`` recorded times before
                     them are thrown away, during which step sizes are tuned; in their first half all chains are cooled from the
                     inverse temperature ``hot``, since random starts at low temperatures would be far from equilibrium.
    moves:           "metropolis", with the share ``exchange_share`` of exchanges of unlike particles, or "dynamics" with the time
                     step ``time_step``.
    exchange:        offer exchanges between temperatures after every record.
    initial:         configurations (ladders, rungs, particle, d), or None for ``target.initial``.

    Production arrays: ``energies`` (draw, ladder, rung), and ``samples`` (draw, ladder, particle, d) of the first temperature,
    float32. ``cost`` and the carry count energies in units of one sum over all pairs.
    """

    target: Liquid
    betas: Float[np.ndarray, " rung"] = eqx.field(converter=lambda betas: np.asarray(betas, dtype=float))
    ladders: int = eqx.field(static=True)
    draws: int = eqx.field(static=True)
    sweeps: int = eqx.field(static=True, default=20)
    warmup: int = eqx.field(static=True, default=100)
    moves: Literal["metropolis", "dynamics"] = eqx.field(static=True, default="metropolis")
    exchange_share: float = eqx.field(static=True, default=0.0)
    exchange: bool = eqx.field(static=True, default=False)
    time_step: float = eqx.field(static=True, default=0.005)
    hot: float = eqx.field(static=True, default=0.2)
    draws_per_chunk: int = eqx.field(static=True, default=20)
    initial: Any = None

    def __check_init__(self):
        betas = np.asarray(self.betas)
        if betas.ndim != 1 or not (betas > 0).all() or not (np.diff(betas) < 0).all():
            raise InvalidArgumentError(f"betas must be positive and fall from rung to rung; found {betas.tolist()}")
        for name in ("ladders", "draws", "sweeps", "draws_per_chunk"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1; found {getattr(self, name)}")
        if self.warmup < 0 or self.moves not in ("metropolis", "dynamics"):
            raise InvalidArgumentError(
                f"expected warmup of 0 or more and moves 'metropolis' or 'dynamics'; found {self.warmup} and {self.moves!r}"
            )

    # Sizes ------------------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """(ladders, rungs)."""
        return self.ladders, len(self.betas)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        return {"energies": ("draw", "ladder", "rung"), "samples": ("draw", "ladder", "particle", "xyz")}

    def engine(self) -> ParticleEngine | ParticleDynamics:
        """What moves the particles."""
        if self.moves == "dynamics":
            return ParticleDynamics(self.target)
        return ParticleEngine(self.target, exchange_share=self.exchange_share)

    def cost(self) -> Cost:
        share = self.exchange_share
        per_sweep = 1.0 if self.moves == "dynamics" else 4 * (1 - share) + 8 * share
        chains = self.ladders * len(self.betas)
        recorded = self.draws * self.ladders * (len(self.betas) * 8 + self.target.particles * self.target.dimension * 4)
        return Cost(int((self.warmup + self.draws) * self.sweeps * per_sweep * chains), 4 * recorded + 2**26, recorded)

    # Driving ----------------------------------------------------------------------------------------------------------
    def begin(self, key: Key[Array, ""]) -> ParticleCarry:
        initial = starts(self.target, named_key(key, "start"), self.initial, self.shape, "float64")
        positions = np.asarray(initial).reshape(-1, *initial.shape[2:])
        seed = int(jax.random.bits(named_key(key, "particles"), dtype=jnp.uint32))
        chains = self.engine().begin(positions, seed)
        step, pairs = (self.time_step if self.moves == "dynamics" else 0.1), len(self.betas) - 1
        return ParticleCarry(
            np.asarray(jax.random.key_data(named_key(key, "exchange"))),
            np.int32(0),
            chains.positions.reshape(*self.shape, *chains.positions.shape[1:]),
            chains.energies.reshape(self.shape),
            chains.random.view(np.uint32).reshape(*self.shape, -1),
            np.full(self.shape, step),
            np.zeros((self.ladders, pairs)),
            np.zeros(pairs),
            np.float64(chains.energies.size),
        )

    def advance(self, carry: ParticleCarry) -> tuple[ParticleCarry, Chunk]:
        number, evaluations = int(carry.round), float(carry.evaluations)
        warm = number < self.warmup
        rounds = min(self.draws_per_chunk, (self.warmup if warm else self.warmup + self.draws) - number)
        if warm and self.moves == "metropolis":
            carry = self._tuned(carry)
        energies, samples = [], []
        for _ in range(rounds):
            carry, recorded = self._round(carry)
            energies.append(recorded)
            samples.append(np.swapaxes(np.asarray(carry.positions)[:, 0], 1, 2).astype(np.float32))
        arrays = {} if warm else {"energies": np.stack(energies), "samples": np.stack(samples)}
        rates = np.asarray(carry.swapped).mean(0) / np.maximum(1, carry.attempts)
        metrics = {
            "evaluations": float(carry.evaluations) - evaluations,
            "mean_energy": float(np.asarray(carry.energies)[:, 0].mean() / self.target.particles),
            "lowest_swap_acceptance": float(rates.min()) if self.exchange and rates.size else 1.0,
        }
        return carry, Chunk("warm-up" if warm else "production", arrays, metrics)

    def finished(self, carry: ParticleCarry) -> bool:
        return int(carry.round) >= self.warmup + self.draws

    def progress(self, carry: ParticleCarry) -> float:
        return int(carry.round) / (self.warmup + self.draws)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: ParticleCarry) -> Sampled:
        """Equally weighted draws of the first temperature, axes (chain, draw); ``energies`` of all rungs in the diagnostics."""
        energies = np.asarray(arrays["energies"], dtype=np.float64)
        state = ThermoState(float(self.betas[0]))
        samples = np.swapaxes(np.asarray(arrays["samples"]), 0, 1)
        own = energies[:, :, 0].T
        bias = None if self.moves == "metropolis" else "molecular dynamics with a finite time step"
        ensemble = Ensemble(samples, np.zeros(own.shape), state, own, axes=("chain", "draw"), absolute=False, bias=bias)
        diagnostics = {
            "method": "replica-exchange" if self.exchange else self.moves,
            "betas": self.betas,
            "step_sizes": np.asarray(carry.steps).mean(0),
            "swap_acceptance": np.asarray(carry.swapped).mean(0) / np.maximum(1, carry.attempts),
            "evaluations": float(carry.evaluations),
            "energies": energies,
        }
        return Sampled(ensemble, diagnostics)

    def log_z(self, energies: Float[np.ndarray, "draw ladder rung"]) -> Estimate:
        """log Z of every temperature relative to that of the last, by MBAR over all rungs; (rung,).

        Errors are from the spread over ladders, of which there must be two.
        """
        draws, ladders, rungs = energies.shape
        found = []
        for own in np.swapaxes(np.asarray(energies, dtype=np.float64), 0, 1):
            u_kn = self.betas[:, None] * own.T.reshape(-1)
            result = mbar(u_kn, np.full(rungs, draws))
            found.append(result.f_k[-1] - result.f_k)
        values = np.stack(found)
        error = values.std(axis=0, ddof=1) / np.sqrt(ladders)
        return Estimate(values.mean(0), error, method="MBAR per ladder", converged=ladders > 1)

    # One round --------------------------------------------------------------------------------------------------------
    def _chains(self, carry: ParticleCarry) -> Chains:
        positions = np.asarray(carry.positions)
        random = np.ascontiguousarray(np.asarray(carry.random), dtype=np.uint32).reshape(-1, 8).view(np.uint64)
        return Chains(positions.reshape(-1, *positions.shape[2:]), np.asarray(carry.energies).reshape(-1), random)

    def _with(self, carry: ParticleCarry, chains: Chains, evaluations: float) -> ParticleCarry:
        return carry._replace(
            positions=chains.positions.reshape(*self.shape, *chains.positions.shape[1:]),
            energies=chains.energies.reshape(self.shape),
            random=chains.random.view(np.uint32).reshape(*self.shape, -1),
            evaluations=np.float64(carry.evaluations + evaluations),
        )

    def _current_betas(self, carry: ParticleCarry) -> np.ndarray:
        """Of every chain: in the first half of warm-up all are cooled from ``hot``, evenly in log beta."""
        betas = np.asarray(self.betas)
        half = self.warmup // 2
        if int(carry.round) < half:
            start = np.minimum(betas, self.hot)
            betas = start * (betas / start) ** (int(carry.round) / half)
        return np.broadcast_to(betas, self.shape).reshape(-1)

    def _tuned(self, carry: ParticleCarry) -> ParticleCarry:
        """Step sizes brought towards an acceptance of 0.4, one per temperature (the mean over ladders), in a few short runs."""
        engine = self.engine()
        for _ in range(4):
            steps = np.asarray(carry.steps)
            chains, moved = engine.run(self._chains(carry), self._current_betas(carry), steps.reshape(-1), sweeps=10)
            rate = (moved.displaced / np.maximum(1, moved.displacements)).reshape(self.shape).mean(0)
            new = np.clip(steps * np.exp(2 * (rate - 0.4)), 1e-4, 0.5 * self.target.length)
            carry = self._with(carry, chains, moved.evaluations)._replace(steps=new)
        return carry

    def _round(self, carry: ParticleCarry) -> tuple[ParticleCarry, np.ndarray]:
        """Moves, then exchanges: the new carry and U of every chain after both."""
        steps = np.asarray(carry.steps).reshape(-1)
        chains, moved = self.engine().run(self._chains(carry), self._current_betas(carry), steps, sweeps=self.sweeps)
        carry = self._with(carry, chains, moved.evaluations)._replace(round=np.int32(carry.round + 1))
        if self.exchange and len(self.betas) > 1 and int(carry.round) > self.warmup // 2:
            carry = self._exchanged(carry)
        return carry, np.asarray(carry.energies)

    def _exchanged(self, carry: ParticleCarry) -> ParticleCarry:
        key = step_key(jax.random.wrap_key_data(jnp.asarray(carry.key)), int(carry.round))
        parity = int(carry.round) % 2
        found = _swaps(key, jnp.asarray(self.betas), jnp.asarray(carry.energies), parity)
        source, rows = np.asarray(found.source), np.arange(self.ladders)[:, None]
        return carry._replace(
            positions=np.asarray(carry.positions)[rows, source],
            energies=np.asarray(carry.energies)[rows, source],
            swapped=np.asarray(carry.swapped) + np.asarray(found.probability),
            attempts=np.asarray(carry.attempts) + np.asarray(found.attempted)[0],
        )


@eqx.filter_jit
def _swaps(key: Key[Array, ""], betas: Array, energies: Array, parity: Any) -> Swap:
    ladder = ThermoState(betas)

    def one(key, energies):
        return swap(key, exchange_log_ratios(ladder, None, energies), jnp.asarray(parity))

    return jax.vmap(one)(jax.random.split(key, energies.shape[0]), energies)
