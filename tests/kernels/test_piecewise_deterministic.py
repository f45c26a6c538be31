"""Bouncy-particle and zig-zag samplers beyond the protocol of kernels: violated bounds, bad energies, refused parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import BouncyParticle, ZigZag
from heatbath.kernels.piecewise_deterministic import Bounces
from heatbath.kinetics.jump_process import begin
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets.toy import Gaussian

KERNELS = {"bouncy": BouncyParticle, "zig-zag": ZigZag}


class Quartic(LogDensity):
    """Its curvature has no bound; above 3 it is not a number."""

    def __call__(self, x):
        return jnp.where(x[0] > 3, jnp.nan, jnp.sum(x**4))

    @property
    def beta(self):
        return 1.0


def run(kernel, u, start, steps=60, chains=64):
    @jax.jit
    def all_chains(keys):
        def chain(key):
            state = kernel.init(key, start, u)
            return jax.lax.scan(lambda s, k: kernel.step(k, s, u), state, jax.random.split(key, steps))

        return jax.vmap(chain)(keys)

    return all_chains(jax.random.split(jax.random.key(0), chains))


@pytest.mark.parametrize("name", KERNELS)
def test_a_true_bound_is_never_broken(name):
    """For a Gaussian the largest eigenvalue is the bound: no step may report a violation, and u is carried correctly."""
    u = ReducedEnergy(Gaussian([0.0, 0.0], [1.0, 0.25]), ThermoState(2.0))
    state, info = run(KERNELS[name](4.0), u, jnp.array([0.5, 0.1]))
    assert np.asarray(info.finite).all()
    np.testing.assert_allclose(state.reduced_energy, jax.vmap(u)(state.position), rtol=1e-9)
    assert np.asarray(info.evaluations).mean() > 2


def test_fresh_velocities_are_part_of_the_bound():
    """A slow particle that goes downhill is renewed at the rate ``refresh``, however slowly the slope may change on its way.

    Adding the rate to the negative slope instead of to its positive part loses it: the bound was 0.2 here for a hazard of 1.
    """
    u = ReducedEnergy(Gaussian([0.0, 0.0], [1.0, 0.25]), ThermoState(2.0))
    process = Bounces(u, jnp.asarray(8.0), jnp.asarray(1.0))
    flight = begin(jax.random.key(0), (jnp.array([30.0, 0.1]), jnp.array([-0.07, 0.0]))).flight
    window = process.window(flight)
    for share in (0.0, 0.5, 1.0):
        there = flight._replace(log_elapsed=window.log_length + np.log(np.maximum(share, 1e-300)))
        assert float(process.log_hazard(there)) <= float(window.log_rate)


@pytest.mark.parametrize("name", KERNELS)
def test_a_broken_bound_is_reported(name):
    """Too small a curvature samples another law; the step has to say so instead of looking exact."""
    u = ReducedEnergy(Gaussian([0.0, 0.0], [1.0, 0.25]), ThermoState(2.0))
    _, info = run(KERNELS[name](0.05), u, jnp.array([0.5, 0.1]))
    assert not np.asarray(info.finite).all()


@pytest.mark.parametrize("name", KERNELS)
def test_energies_that_are_not_finite_turn_the_particle_round(name):
    """A flight into NaN must not stay in the chain."""
    state, _ = run(KERNELS[name](100.0), Quartic(), jnp.array([0.1]))
    assert np.isfinite(state.position).all()
    assert np.isfinite(state.reduced_energy).all()


def test_bounds_and_durations_are_positive():
    """A bound of zero would never let a particle bounce."""
    with pytest.raises(InvalidArgumentError, match="curvature"):
        BouncyParticle(0.0)
    with pytest.raises(InvalidArgumentError, match="duration"):
        ZigZag(1.0, duration=-1.0)
    with pytest.raises(InvalidArgumentError, match="one array"):
        ZigZag(1.0).init(jax.random.key(0), {"a": jnp.zeros(2)}, Quartic())
