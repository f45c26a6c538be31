"""Molecular dynamics of many copies of a liquid on a CPU: Langevin dynamics by BAOAB in compiled loops, on several threads."""

from typing import Any

import numpy as np
from jaxtyping import Float

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.kernels.particle_engine import Chains, Moved, ParticleEngine, on_threads
from heatbath.targets.liquids import Liquid


class ParticleDynamics:
    """dv = -grad U dt - gamma v dt + sqrt(2 gamma / beta) dW of masses 1, by BAOAB; the interface of ``ParticleEngine``.

    ``step_sizes`` are time steps and ``sweeps`` steps of dynamics, one energy-and-force evaluation each. A run begins with
    velocities drawn anew. Positions are sampled with a bias that shrinks with the time step; at 0.005 and T <= 1 it is far
    below the statistical errors of runs of 10^6 steps. Raises ``NonFiniteError`` when a chain leaves the finite numbers, which a
    smaller step prevents. Source: Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34.
    """

    def __init__(self, liquid: Liquid, *, friction: float = 1.0, threads: int | None = None):
        if not friction > 0:
            raise InvalidArgumentError(f"friction must be positive; found {friction}")
        self.liquid, self.friction = liquid, float(friction)
        self._engine = ParticleEngine(liquid, threads=threads)
        from heatbath.kernels import dynamics_loops

        self._loops = dynamics_loops

    def begin(self, positions: Any, seed: int) -> Chains:
        """Chains at the given configurations (chain, particle, d)."""
        return self._engine.begin(positions, seed)

    def run(
        self, chains: Chains, betas: Any, step_sizes: Any, *, sweeps: int, records: int = 1
    ) -> tuple[Chains, Moved]:
        """``records`` times ``sweeps`` steps for every chain; ``chains`` itself is left as it is."""
        count, engine = len(chains.positions), self._engine
        if sweeps < 1 or records < 1:
            raise InvalidArgumentError(f"sweeps and records must be at least 1; found {sweeps} and {records}")
        betas, steps = (np.broadcast_to(np.asarray(value, float), count).copy() for value in (betas, step_sizes))
        xs, random, energies = chains.positions.copy(), chains.random.copy(), np.empty((count, records))

        def share(bounds):
            self._loops.run_many(
                xs, engine.species_of, engine.table, betas, steps, self.friction, random, sweeps, energies, *bounds
            )

        on_threads(share, count, engine.threads)
        if not np.isfinite(energies).all():
            raise NonFiniteError(
                f"dynamics at time steps up to {steps.max():g} left the finite numbers; take a smaller one"
            )
        none, taken = np.zeros(count, np.int64), np.full(count, sweeps * records, np.int64)
        moved = Moved(energies, taken, taken, none, none, float(count * (sweeps * records + 1)))
        return Chains(xs, energies[:, -1].copy(), random), moved

    def tune(self, chains: Chains, betas: Any, *, start: float = 0.005, **unused: Any):
        """Dynamics has nothing to tune: ``chains`` and the time step ``start``."""
        return chains, np.full(len(chains.positions), start)

    def forces(self, x: Float[np.ndarray, "d particle"]) -> tuple[float, Float[np.ndarray, "d particle"]]:
        """U and -grad U of one configuration, as the loops sum them."""
        force = np.zeros_like(x)
        return self._loops.forces(x, self._engine.species_of, self._engine.table, force), force
