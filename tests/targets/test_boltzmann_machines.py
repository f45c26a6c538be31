"""Layered Boltzmann machines: half sums equal full sums, centring changes nothing but coordinates, conditionals are right."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.targets.boltzmann_machines import BoltzmannMachine, Offsets, boltzmann_machine, orthogonal_weights


def centred(machine):
    """The same layers with offsets off zero."""
    offsets = tuple(jnp.linspace(0.1, 0.8, size) for size in machine.sizes)
    return eqx.tree_at(lambda m: m.offsets, machine, Offsets(offsets))


@pytest.fixture(scope="module")
def machine():
    return centred(boltzmann_machine((3, 4, 2), seed=5))


def every(units):
    return jnp.asarray(list(itertools.product((0, 1), repeat=units)))


def test_half_sums_equal_full_sums(machine):
    """log Z sums one half by formula; log p(v) does so twice. Both against the plain list of all states, at two temperatures."""
    states = every(9)
    u = np.asarray(jax.vmap(machine.energy)(states))
    for beta in (0.6, 1.0):
        np.testing.assert_allclose(machine.log_z(beta), np.log(np.exp(-beta * u).sum()), rtol=1e-10)
    p = np.exp(-u) / np.exp(-u).sum()
    by_visible = np.bincount(np.asarray(states[:, :3]) @ [4, 2, 1], p)
    found = jax.jit(jax.vmap(machine.log_likelihood))(every(3))
    np.testing.assert_allclose(np.exp(np.asarray(found)), by_visible, rtol=1e-9)


def test_gradient_of_the_likelihood_is_the_difference_of_two_means(machine):
    """d log p(v)/d W = E[-dU/dW | v] - E[-dU/dW]: what every learning rule of these machines estimates."""
    v, states = jnp.array([1, 0, 1]), every(9)
    gradient = jax.jit(jax.grad(lambda m: m.log_likelihood(v)))(machine)
    weights = jax.vmap(lambda x: jnp.exp(-machine.energy(x)))(states)
    given = weights * jnp.all(states[:, :3] == v, axis=1)
    for_all = jax.vmap(jax.grad(lambda m, x: -m.energy(x)), in_axes=(None, 0))(machine, states)
    for own, each in zip(gradient.weights, for_all.weights, strict=True):
        expected = jnp.tensordot(given / given.sum() - weights / weights.sum(), each, 1)
        np.testing.assert_allclose(own, expected, rtol=1e-7, atol=1e-10)


def test_fields_are_energy_differences(machine):
    """A wrong neighbour in a field would bias every Gibbs move."""
    x = jnp.array([1, 0, 1, 0, 0, 1, 1, 0, 1])
    for site in range(9):
        difference = machine.energy(x.at[site].set(1)) - machine.energy(x.at[site].set(0))
        low, high = machine.conditional_energies(x, site)
        np.testing.assert_allclose(high - low, difference, rtol=1e-9)


def test_centring_moves_only_the_biases(machine):
    """A centred machine is a plain one with other biases: same weights, same law."""
    o, w = machine.offsets.layers, machine.weights
    biases = [
        b - (o[i - 1] @ w[i - 1] if i else 0) - (w[i] @ o[i + 1] if i < 2 else 0) for i, b in enumerate(machine.biases)
    ]
    plain = BoltzmannMachine(w, tuple(biases), Offsets(tuple(map(jnp.zeros_like, o))))
    gap = np.asarray(jax.vmap(lambda x: plain.energy(x) - machine.energy(x))(every(9)))
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9, atol=1e-12)


def test_impossible_machines_are_refused():
    """Layers that do not fit would broadcast into another machine."""
    good = boltzmann_machine((3, 2), visible_means=(0.2, 0.5, 0.7))
    with pytest.raises(InvalidArgumentError, match="between layers"):
        eqx.tree_at(lambda m: m.weights, good, (jnp.zeros((2, 2)),)).__check_init__()
    with pytest.raises(InvalidArgumentError, match="none empty"):
        boltzmann_machine((3,))
    with pytest.raises(InvalidArgumentError, match=r"\(0, 1\)"):
        boltzmann_machine((2, 2), visible_means=(0.0, 0.5))
    large = boltzmann_machine((40, 30), scale=0.1)
    assert not large.knows("log_z")
    with pytest.raises(UnknownTruthError, match="too long"):
        large.log_z(1.0)


def test_orthogonal_weights_are_orthogonal():
    """Rows or columns of every matrix, whichever are fewer, must be orthonormal."""
    for weight in orthogonal_weights(boltzmann_machine((5, 3, 4))).weights:
        small = weight if weight.shape[0] <= weight.shape[1] else weight.T
        np.testing.assert_allclose(small @ small.T, np.eye(len(small)), atol=1e-12)
