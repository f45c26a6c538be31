"""The Mueller-Brown surface by MALA, HMC and replica exchange, against quadrature: 0.05 kT below 6 kT."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.estimators import free_energy_surface
from heatbath.kernels import HMC, MALA
from heatbath.samplers import geometric_ladder
from heatbath.samplers.base import run_to_end
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.state import ThermoState
from heatbath.targets.toy import MuellerBrown

TARGET = MuellerBrown()
BETA = 1 / 15
EDGES = (np.linspace(-1.7, 1.3, 31), np.linspace(-0.5, 2.1, 27))


@functools.cache
def exact_surface(parts: int = 16) -> np.ndarray:
    """-log of the mass of every bin, zero at its minimum, by the midpoint rule on ``parts`` x ``parts`` points per bin."""
    axes = []
    for edges in EDGES:
        width = (edges[1] - edges[0]) / parts
        axes.append(edges[0] + width * (np.arange(parts * (len(edges) - 1)) + 0.5))
    grid = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
    density = np.exp(-BETA * np.asarray(jax.jit(jax.vmap(TARGET.energy))(grid)))
    shape = (len(EDGES[0]) - 1, parts, len(EDGES[1]) - 1, parts)
    mass = density.reshape(shape).sum(axis=(1, 3))
    return -np.log(mass / mass.max())


def surface_error(ensemble) -> float:
    """Root mean square difference from the exact surface, in kT, over bins below 6 kT, up to a constant."""
    x = np.asarray(ensemble.samples, dtype=np.float64)
    surface = free_energy_surface(ensemble, (x[..., 0], x[..., 1]), bins=EDGES)
    exact = exact_surface()
    low = exact < 6
    difference = (surface.free_energy - exact)[low]
    # Weight by mass, not bin by bin, for the constant: the minimum of a noisy surface is a biased zero.
    mass = np.exp(-exact[low])
    difference = difference - np.sum(mass * difference) / mass.sum()
    return float(np.sqrt(np.mean(difference**2)))


def sampler(method: str, draws: int):
    state = ThermoState(BETA)
    if method == "replica-exchange":
        betas = geometric_ladder(BETA, BETA / 4, 4)
        kernel = HMC(jnp.asarray(0.01), num_steps=6)
        return ReplicaExchangeSampler(
            TARGET, state, kernel, betas, 64, draws, thin=2, warmup_rounds=400, draws_per_chunk=min(draws, 500)
        )
    kernel, thin = (HMC(jnp.asarray(0.01), num_steps=8), 4) if method == "hmc" else (MALA(jnp.asarray(0.01)), 40)
    return ChainsSampler(
        TARGET, state, kernel, 256, draws, thin, warmup_steps=400 * thin, draws_per_chunk=min(draws, 500)
    )


@pytest.mark.parametrize("method", ["hmc", "replica-exchange"])
def test_surface_coarse(method):
    """A wrong weight of a minimum or a wrong width of the valley shows as a shift of its bins, far above 0.2 kT."""
    ensemble = run_to_end(sampler(method, 400), jax.random.key(4)).ensemble
    assert surface_error(ensemble) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mala", "hmc", "replica-exchange"])
def test_surface_to_a_twentieth_of_kt(method):
    """The published figure of merit: root mean square error below 0.05 kT for everything below 6 kT."""
    draws = {"mala": 20_000, "hmc": 20_000, "replica-exchange": 10_000}[method]
    ensemble = run_to_end(sampler(method, draws), jax.random.key(5)).ensemble
    assert surface_error(ensemble) < 0.05


def test_the_measure_sees_a_wrong_temperature():
    """Negative control: draws at a temperature 15 % off must miss the coarse mark."""
    wrong = ChainsSampler(
        TARGET,
        ThermoState(BETA * 0.85),
        HMC(jnp.asarray(0.01), num_steps=8),
        256,
        400,
        4,
        warmup_steps=1600,
        draws_per_chunk=400,
    )
    assert surface_error(run_to_end(wrong, jax.random.key(4)).ensemble) > 0.2
