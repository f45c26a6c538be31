"""The processes of the experiment generalized-ensemble: samples of spins, pairs of kernels, driven trajectories."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from heatbath.estimators.exponential_families import MasterEquation, driven_spins
from heatbath.estimators.exponential_families.trajectories import JumpTrajectories
from heatbath.kernels import HMC, MALA, Compose, Gibbs, Kernel, RandomWalk, UnadjustedLangevin
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.transition_counts import TransitionCounts
from heatbath.state import ThermoState
from heatbath.targets.spins import spin_glass
from heatbath.targets.toy import DoubleWell

#: Edges of the cells into which the double well is cut along x; y has its sign.
_EDGES = np.array([-0.8, 0.0, 0.8])
#: Draws per chain between two looks at the clock.
_CHUNK = 400
#: Chunks of a stage of trajectories.
_TRAJECTORY_CHUNKS = 10


def spin_sampler(prepared: Any) -> ChainsSampler:
    """Gibbs chains of the spin model from random starts."""
    settings = prepared.config.sampler
    draws = math.ceil(settings.samples / settings.chains)
    return ChainsSampler(
        prepared.target,
        prepared.state,
        Gibbs(2),
        settings.chains,
        draws=draws,
        thin=settings.thin,
        warmup_steps=settings.warmup,
        draws_per_chunk=min(_CHUNK, draws),
        method="gibbs",
    )


def transition_counts(prepared: Any, name: str) -> TransitionCounts:
    """Pairs of the kernel called ``name``: on a double well for moves of real numbers, on three spins for Gibbs moves."""
    pairs = prepared.config.kernels.pairs
    options: dict[str, Any] = {"pairs": pairs, "pairs_per_chunk": min(20_000, pairs)}
    if name.startswith("gibbs"):
        target: Any = spin_glass(3, 0.6, 1.0, 5)
        cell: Any = lambda x: x @ jnp.array([4, 2, 1])  # noqa: E731
    else:
        target = DoubleWell(barrier=2.0, tilt=0.4, dimension=2)
        cell = _cell
    return TransitionCounts(target, ThermoState(1.0), kernel(name), cell, 8, **options)


def _cell(x: Any) -> Any:
    return 2 * jnp.searchsorted(jnp.asarray(_EDGES), x[0]) + (x[1] > 0)


def kernel(name: str) -> Kernel:
    """The kernel called ``name`` in configurations."""
    return {
        "random-walk": RandomWalk(0.8),
        "mala": MALA(0.4),
        "hmc": HMC(0.3, num_steps=4),
        "gibbs-random": Gibbs(2, "random"),
        "gibbs-sequential": Gibbs(2, "sequential"),
        "mala-then-random-walk": Compose((MALA(0.4), RandomWalk(0.8))),
        "unadjusted-langevin": UnadjustedLangevin(0.5),
    }[name]


def driven_parameters(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Couplings (n, n), one of which is not mutual (spin 0 feels the last spin more), and fields (n,)."""
    settings = config.driven
    rng = np.random.default_rng([config.seed, 1])
    couplings = rng.normal(size=(settings.spins, settings.spins)) * settings.scale
    couplings = (couplings + couplings.T) / 2
    np.fill_diagonal(couplings, 0.0)
    couplings[0, -1] += settings.force
    return couplings, rng.normal(size=settings.spins) * settings.scale


def driven_model(config: Any) -> MasterEquation:
    """The master equation of the driven spins."""
    return driven_spins(*driven_parameters(config))


def trajectories(prepared: Any) -> JumpTrajectories:
    """Trajectories of the driven spins."""
    settings = prepared.config.driven
    per_chunk = math.ceil(settings.jumps / _TRAJECTORY_CHUNKS)
    return JumpTrajectories(prepared.driven, settings.trajectories, _TRAJECTORY_CHUNKS, per_chunk)
