"""log Z and likelihoods of Boltzmann machines by annealing, against sums over all states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.samplers.machine_annealing import (
    between,
    clamped_log_z,
    independent,
    independent_log_z,
    log_partition,
)
from heatbath.targets.boltzmann_machines import Offsets, boltzmann_machine


def centred(sizes, scale):
    machine = boltzmann_machine(sizes, scale=scale, seed=6)
    offsets = tuple(jnp.linspace(0.2, 0.7, size) for size in machine.sizes)
    return eqx.tree_at(lambda m: m.offsets, machine, Offsets(offsets))


MACHINE = centred((6, 5, 4), 1.0)


def test_both_bounds_close_on_the_exact_log_z():
    """A wrong weight, order or constant shows: within 0.05 nats from both sides, and within 4.5 standard errors."""
    found = log_partition(jax.random.key(0), MACHINE, chains=400, levels=200)
    exact = MACHINE.log_z(1.0)
    for side in (found.lower, found.upper):
        assert abs(side.value - exact) < min(0.05, 4.5 * side.standard_error)
    assert abs(found.gap) < 0.1


def test_mean_weights_are_exact_however_few_the_levels():
    """However few levels, mean weights are exact both ways when the way back starts from exact draws: 4.5 standard errors."""
    small = centred((4, 3, 3), 2.0)
    starts = jax.jit(jax.vmap(lambda k: small.sample(k, 1.0)))(jax.random.split(jax.random.key(1), 4000))
    found = log_partition(jax.random.key(2), small, chains=4000, levels=2, starts=starts)
    exact = small.log_z(1.0)
    assert abs(found.lower.value - exact) < 4.5 * found.lower.standard_error
    assert abs(found.upper.value - exact) < 4.5 * found.upper.standard_error


def test_the_path_is_linear():
    """Its ends are the machines themselves; the sum of the one without weights is the closed form."""
    first = independent(MACHINE, tuple(jnp.full(size, 0.3) for size in MACHINE.sizes))
    x = jnp.arange(15) % 2
    for level in (0.0, 0.25, 1.0):
        mixed = (1 - level) * first.energy(x) + level * MACHINE.energy(x)
        np.testing.assert_allclose(between(first, MACHINE, level).energy(x), mixed, rtol=1e-9)
    np.testing.assert_allclose(independent_log_z(first), first.log_z(1.0), rtol=1e-10)


@pytest.mark.parametrize("sizes", [(3, 12, 11), (3, 5)], ids=["annealed", "one hidden layer"])
def test_likelihoods_of_rows(sizes):
    """log p(v) is the clamped sum minus log Z: exact for one hidden layer, by annealing to 0.05 nats else."""
    machine = centred(sizes, 0.5)
    visible = jnp.array([[0, 1, 1], [1, 1, 0], [0, 0, 0]])
    found = clamped_log_z(jax.random.key(3), machine, visible, chains=100, levels=100) - machine.log_z(1.0)
    exact = np.asarray(jax.jit(jax.vmap(machine.log_likelihood))(visible))
    np.testing.assert_allclose(found, exact, atol=0.05 if len(sizes) == 3 else 1e-9)


def test_impossible_annealing_is_refused():
    """One chain has no error."""
    with pytest.raises(InvalidArgumentError, match="two chains"):
        log_partition(jax.random.key(0), MACHINE, chains=1)
