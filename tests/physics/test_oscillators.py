"""Kernels against harmonic oscillators, whose energies and covariances are known, and Langevin's bias against quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.kernels import HMC, MALA, Compose, Langevin, MixtureKernel, RandomWalk, Repeat
from heatbath.samplers.base import run_to_end
from heatbath.samplers.chains import ChainsSampler
from heatbath.state import ThermoState
from heatbath.targets.mixtures import GaussianMixture
from heatbath.targets.toy import HarmonicOscillators

BETA = 1.7
MASSES = (1.0, 2.0, 3.0)
TARGET = HarmonicOscillators((1.0, 4.0, 25.0), MASSES)
#: BAOAB samples positions of harmonic oscillators without error, so that Langevin too has to be right here.
KERNELS = {
    "hmc": (HMC(jnp.asarray(0.2), num_steps=8, masses=jnp.asarray(MASSES)), 1),
    "mala": (MALA(jnp.asarray(0.3), masses=jnp.asarray(TARGET.stiffness)), 8),
    "random-walk": (RandomWalk(jnp.asarray(0.4), scale=1 / jnp.sqrt(TARGET.stiffness)), 30),
    "langevin": (Langevin(0.1, friction=1.0, masses=jnp.asarray(MASSES)), 40),
    "repeat": (Repeat(HMC(jnp.asarray(0.2), num_steps=4), 2), 1),
    "compose": (Compose((MALA(0.3), RandomWalk(0.3))), 8),
    "mixture-kernel": (MixtureKernel((HMC(0.2, num_steps=6), RandomWalk(0.4)), (0.5, 0.5)), 2),
}


@functools.cache
def draws(name: str):
    """64 chains from one far corner, warmed up."""
    kernel, thin = KERNELS[name]
    sampler = ChainsSampler(
        TARGET,
        ThermoState(BETA),
        kernel,
        chains=64,
        draws=300,
        thin=thin,
        warmup_steps=600 * thin,
        draws_per_chunk=300,
        initial=jnp.array([2.0, -2.0, 1.0]),
        dtype="float64",
    )
    return run_to_end(sampler, jax.random.key(8))


#: The protocol suite tries these on harder targets; here they are repeated by `make validate`.
COMBINED = ("repeat", "compose", "mixture-kernel")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in COMBINED else ()) for name in KERNELS]
)
def test_energies_and_covariances(name):
    """<U> = d/(2 beta) and <x_i x_j> = delta_ij/(beta k_i), each within 3 standard errors of 64 independent chains.

    Seven numbers per kernel, 0.4 % false alarms each; seeds are fixed.
    """
    ensemble = draws(name).ensemble
    energy = ensemble.expect(np.asarray(ensemble.energies))
    assert abs(energy.value - 1.5 / BETA) < 3 * energy.standard_error
    pairs = np.triu_indices(3)
    covariance = ensemble.expect(lambda x: jnp.outer(x, x)[pairs])
    exact = np.diag(1 / (BETA * np.asarray(TARGET.stiffness)))[pairs]
    z = (np.asarray(covariance.value) - exact) / np.asarray(covariance.standard_error)
    assert (np.abs(z) < 3).all(), z
    # The test has teeth: a temperature that is 5 % off would be seen.
    assert energy.standard_error < 0.05 * 1.5 / BETA / 3


@pytest.mark.parametrize("name", ["hmc", "mala", "random-walk"])
def test_warm_up_finds_the_asked_acceptance(name):
    """A step size that adapts the wrong way would end at acceptance 0 or 1."""
    acceptance = draws(name).diagnostics["acceptance"].mean()
    assert abs(acceptance - KERNELS[name][0].target_acceptance) < 0.05


def test_langevin_bias_shrinks_with_the_step():
    """On a well with a sharp core BAOAB has its declared bias: plain at 0.9 of the stable step, not to be seen at half of it."""
    target = GaussianMixture([0.5, 0.5], [[0.0], [0.0]], [[[0.15]], [[1.5]]])
    exact = target.mean(target.energy, 1.0)

    def error(step):
        sampler = ChainsSampler(
            target,
            ThermoState(1.0),
            Langevin(jnp.asarray(step), friction=2.0),
            chains=2000,
            draws=150,
            thin=5,
            warmup_steps=200,
            draws_per_chunk=50,
            dtype="float64",
        )
        ensemble = run_to_end(sampler, jax.random.key(2)).ensemble
        estimate = ensemble.expect(np.asarray(ensemble.energies))
        assert estimate.notes, "the bias must travel with every estimate"
        return estimate.value - exact, estimate.standard_error

    coarse, coarse_error = error(0.7)
    fine, fine_error = error(0.35)
    assert coarse > 8 * coarse_error
    assert abs(fine) < coarse / 4 + 3 * fine_error
