"""Clusters without a held centre: importance sampling, SMC and long Markov chains must tell the same mean energies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.kernels import HMC, MALA, UnadjustedLangevin
from heatbath.models.gaussian import Normal
from heatbath.samplers.centre import forget_centre, held_at_centre
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.importance import importance
from heatbath.samplers.proposals import FromDistribution
from heatbath.samplers.smc import find_schedule, smc
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.clusters import dw4, lj13

SIGMAS = 4.0


def start(target, scale: float):
    """Independent normals for all particles, and the state whose centre is held by the same law."""
    count, _ = target.space.shape
    return Normal(jnp.zeros(target.space.shape), scale), held_at_centre(ThermoState(1.0), scale / np.sqrt(count))


def by_chains(target, state, step: float, draws: int):
    """Mean energy of 32 HMC chains that know nothing of the start, error from their spread."""
    sampler = ChainsSampler(
        target, state, HMC(jnp.asarray(step), num_steps=10), 32, draws, warmup_steps=1000, dtype="float64"
    )
    return sampler.run(jax.random.key(0))


def agree(first, second):
    error = np.hypot(first.standard_error, second.standard_error)
    assert abs(first.value - second.value) < SIGMAS * error


@functools.cache
def dw4_chains():
    target = dw4(centre_trap=0.0)
    return by_chains(target, start(target, 2.0)[1], 0.2, 32_000)


@functools.cache
def dw4_importance():
    target = dw4(centre_trap=0.0)
    normal, state = start(target, 2.2)
    return importance(jax.random.key(1), FromDistribution(normal), ReducedEnergy(target, state), 400_000, chunk=100_000)


def energy(ensemble):
    return ensemble.expect(np.asarray(ensemble.energies, dtype=np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [MALA(jnp.asarray(0.3)), UnadjustedLangevin(jnp.asarray(0.1))], ids=["mala", "ula"])
def test_four_particles_three_ways(kernel, record_property):
    """DW-4 without a trap: a wrong treatment of the centre or of path weights moves the mean energy or log Z."""
    target = dw4(centre_trap=0.0)
    normal, state = start(target, 2.0)
    u = ReducedEnergy(target, state)
    schedule = find_schedule(jax.random.key(2), normal, u, kernel=kernel, particles=1000, steps=3)
    ensemble = smc(jax.random.key(3), normal, u, 8000, kernel=kernel, schedule=schedule, steps=3)
    record_property("<u> chains", str(energy(dw4_chains())))
    record_property("<u> importance", str(energy(dw4_importance())))
    record_property("<u> smc", str(energy(ensemble)))
    record_property("log Z importance", str(dw4_importance().log_z))
    record_property("log Z smc", str(ensemble.log_z))
    assert energy(ensemble).standard_error < 0.15
    agree(energy(ensemble), energy(dw4_chains()))
    agree(energy(ensemble), energy(dw4_importance()))
    agree(energy(dw4_importance()), energy(dw4_chains()))
    # The normalised centre term makes log Z the same for starts of different width.
    agree(ensemble.log_z, dw4_importance().log_z)
    agree(energy(forget_centre(ensemble)), energy(ensemble))


@pytest.mark.slow
def test_thirteen_lennard_jones_particles(record_property):
    """LJ-13: SMC from a normal through singular energies must arrive where HMC chains are."""
    target = lj13(centre_trap=0.0)
    normal, state = start(target, 0.8)
    u = ReducedEnergy(target, state)
    ensemble = smc(jax.random.key(4), normal, u, 6000, kernel=HMC(jnp.asarray(0.05), num_steps=8))
    chains = by_chains(target, state, 0.03, 16_000)
    record_property("<u> chains", str(energy(chains)))
    record_property("<u> smc", str(energy(ensemble)))
    assert energy(ensemble).standard_error < 0.5
    agree(energy(ensemble), energy(chains))
