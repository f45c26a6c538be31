"""Many chains of one-particle Monte Carlo on a CPU: the moves of ``ParticleMoves`` as compiled loops, on several threads.

The loops are compiled by numba at the first use on a machine (some seconds) and kept on disk. Every move draws whether it is a
displacement or an exchange, so that each is reversible. Results depend on the seed alone, not on the number of threads.
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from heatbath.errors import InvalidArgumentError, MissingExtraError
from heatbath.targets.liquids import Liquid


class Chains(NamedTuple):
    """Chains of a liquid at a moment: everything their future depends on.

    positions (chain, d, particle) in [0, L); energies U (chain,); random: states of the generators (chain, 4).
    """

    positions: Float[np.ndarray, "chain d particle"]
    energies: Float[np.ndarray, " chain"]
    random: UInt64[np.ndarray, "chain 4"]

    @property
    def configurations(self) -> Float[np.ndarray, "chain particle d"]:
        """Positions as the target takes them."""
        return np.swapaxes(self.positions, 1, 2)


class Moved(NamedTuple):
    """What a run did: U at every record (chain, record), displacements and exchanges tried and accepted (chain,).

    evaluations: energies looked at by all chains, in units of one energy of N (N - 1) / 2 pairs. A displacement looks at
    2 (N - 1) pairs, an exchange at 4 (N - 2), a record at all.
    """

    energies: Float[np.ndarray, "chain record"]
    displacements: Int[np.ndarray, " chain"]
    displaced: Int[np.ndarray, " chain"]
    exchanges: Int[np.ndarray, " chain"]
    exchanged: Int[np.ndarray, " chain"]
    evaluations: float

    @property
    def acceptance(self) -> float:
        """Share of displacements that were accepted."""
        return float(self.displaced.sum() / max(1, self.displacements.sum()))

    @property
    def exchange_acceptance(self) -> float:
        """Share of exchanges that were accepted."""
        return float(self.exchanged.sum() / max(1, self.exchanges.sum()))


class ParticleEngine:
    """Chains of ``liquid``, each at its own temperature, displaced one particle at a time and exchanged with ``exchange_share``.

    ``threads`` limits the number of threads (default: the CPUs of this process). Raises ``MissingExtraError`` without numba and
    ``InvalidArgumentError`` for an impossible share.
    """

    def __init__(self, liquid: Liquid, *, exchange_share: float = 0.0, threads: int | None = None):
        try:
            from heatbath.kernels import particle_loops
        except ImportError as error:
            raise MissingExtraError("numba", "liquids", "compiled Monte Carlo of particles") from error
        unlike = sum(count > 0 for count in liquid.counts) > 1
        if not 0 <= exchange_share < 1 or (exchange_share > 0 and not unlike):
            raise InvalidArgumentError(
                f"exchange_share must be in [0, 1), and 0 with a single species; found {exchange_share}"
            )
        self.liquid, self.exchange_share = liquid, float(exchange_share)
        self.threads = threads or available_threads()
        self._loops = particle_loops
        species, pair = liquid.species, liquid.pair
        self.species_of, self._counts = species.astype(np.int64), np.asarray(liquid.counts, dtype=np.int64)
        self._begin = np.cumsum(self._counts) - self._counts
        strength = np.ascontiguousarray(4 * pair.epsilon[:, species])
        inverse_square = np.ascontiguousarray(1 / pair.sigma[:, species] ** 2)
        self.table = (liquid.length, strength, inverse_square, pair.cutoff**2, *pair.coefficients)

    def begin(self, positions: Any, seed: int) -> Chains:
        """Chains at the given configurations (chain, particle, d), each with random numbers of its own."""
        xs = np.swapaxes(np.asarray(positions, dtype=np.float64), 1, 2)
        shape = (self.liquid.dimension, self.liquid.particles)
        if xs.shape[1:] != shape:
            raise InvalidArgumentError(
                f"expected positions (chain, {shape[1]}, {shape[0]}); found {np.shape(positions)}"
            )
        xs = np.ascontiguousarray(xs - self.liquid.length * np.floor(xs / self.liquid.length))
        xs[xs >= self.liquid.length] = 0.0
        random = np.random.default_rng(seed).integers(0, 2**64, (len(xs), 4), dtype=np.uint64)
        return Chains(xs, self.energies(xs), random)

    def energies(self, positions: Float[np.ndarray, "chain d particle"]) -> Float[np.ndarray, " chain"]:
        """U of every configuration, as the loops sum it."""
        return np.array([self._loops.total_energy(x, self.species_of, self.table) for x in positions])

    def run(
        self, chains: Chains, betas: Any, step_sizes: Any, *, sweeps: int, records: int = 1
    ) -> tuple[Chains, Moved]:
        """``records`` times ``sweeps`` sweeps of N moves for every chain; ``chains`` itself is left as it is.

        betas, step_sizes: one number, or one per chain.
        """
        count = len(chains.positions)
        if sweeps < 1 or records < 1:
            raise InvalidArgumentError(f"sweeps and records must be at least 1; found {sweeps} and {records}")
        betas, steps = (np.broadcast_to(np.asarray(value, float), count).copy() for value in (betas, step_sizes))
        xs, random = chains.positions.copy(), chains.random.copy()
        energies, tallies = np.empty((count, records)), np.zeros((count, 4), np.int64)

        def share(bounds):
            self._loops.run_chains(
                xs, self.species_of, self.table, betas, steps, self.exchange_share, self._begin, self._counts, random,
                sweeps, energies, tallies, *bounds,
            )  # fmt: skip

        on_threads(share, count, self.threads)
        tried, displaced, exchanges, exchanged = tallies.T
        evaluations = energies.size + self.evaluations(int(tried.sum()), int(exchanges.sum()))
        return Chains(xs, energies[:, -1].copy(), random), Moved(
            energies, tried, displaced, exchanges, exchanged, evaluations
        )

    def evaluations(self, displacements: int, exchanges: int) -> float:
        """Energies that so many moves look at; the unit is one sum over all N (N - 1) / 2 pairs."""
        count = self.liquid.particles
        return (2 * (count - 1) * displacements + 4 * (count - 2) * exchanges) / (0.5 * count * (count - 1))

    def tune(self, chains: Chains, betas: Any, *, goal: float = 0.4, rounds: int = 12, start: float = 0.1):
        """Chains after ``rounds`` short runs, and one step size per chain that gives about the acceptance ``goal``."""
        steps = np.full(len(chains.positions), float(start))
        for number in range(rounds):
            chains, moved = self.run(chains, betas, steps, sweeps=10)
            rate = moved.displaced / np.maximum(1, moved.displacements)
            gain = 2.0 / np.sqrt(1 + number)
            steps = np.clip(steps * np.exp(gain * (rate - goal)), 1e-4, 0.5 * self.liquid.length)
        return chains, steps


def on_threads(share: Callable[[tuple[int, int]], None], count: int, threads: int) -> None:
    """Call ``share((low, high))`` for about equal parts of range(count), each on a thread of its own."""
    edges = np.linspace(0, count, min(threads, count) + 1).astype(int)
    shares = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    if len(shares) == 1:
        share(shares[0])
        return
    with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(share, shares))


def available_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
