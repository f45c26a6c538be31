"""Thermodynamic states and reduced energies."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import TemperatureError
from heatbath.spaces import Euclidean
from heatbath.state import ReducedEnergy, ThermoState, at_temperature, reduced_energies
from heatbath.targets.base import Target


class Quadratic(Target):
    """U = |x|^2 / 2 in kJ/mol."""

    space: Euclidean = Euclidean((2,))

    @property
    def unit(self):
        return "kJ/mol"

    def energy(self, x):
        return jnp.sum(x**2) / 2


class Pull(eqx.Module):
    """A linear bias with its own strength."""

    strength: jax.Array

    def __call__(self, x):
        return self.strength * x[0]


def test_the_reduced_energy_is_beta_u_plus_bias():
    """u must grow with beta; the bias must not be multiplied by it."""
    state = ThermoState(3.0, bias=Pull(jnp.asarray(0.5)))
    assert float(ReducedEnergy(Quadratic(), state)(jnp.array([1.0, 2.0]))) == pytest.approx(3 * 2.5 + 0.5)


def test_dtype_follows_the_configuration():
    """beta in float64 must not lift float32 dynamics to float64."""
    u = ReducedEnergy(Quadratic(), ThermoState(3.0))
    assert u(jnp.ones(2, jnp.float32)).dtype == jnp.float32
    assert u(jnp.ones(2, jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize("beta", [-1.0, float("nan"), float("inf")])
def test_impossible_betas_are_refused(beta):
    """The Boltzmann distribution needs 0 <= beta < infinity."""
    with pytest.raises(TemperatureError):
        ThermoState(beta)


def test_temperatures_go_both_ways():
    """300 K in, 300 K out."""
    state = at_temperature(Quadratic(), "300 K")
    assert state.temperature("kJ/mol") == pytest.approx(300)


def test_ladders_stack_and_give_the_u_kn_matrix(key):
    """Row k of u_kn is the reduced energy in state k, bias included."""
    states = [ThermoState(b, bias=Pull(jnp.asarray(s))) for b, s in ((1.0, 0.0), (2.0, 1.0), (0.5, -1.0))]
    ladder = ThermoState.stack(states)
    xs = jax.random.normal(key, (5, 2))
    matrix = reduced_energies(Quadratic(), xs, ladder)
    for k, state in enumerate(states):
        u = ReducedEnergy(Quadratic(), state)
        np.testing.assert_allclose(matrix[k], [u(x) for x in xs], rtol=1e-12)
        assert float(ladder[k].beta) == float(state.beta)
