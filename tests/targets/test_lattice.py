"""Spins: three independent routes to log Z agree; local energies, counts of bonds, observables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.targets import lattice, toy


def enumerated_log_z(target, beta):
    """By the plain sum over configurations, without the transfer matrix."""
    energies = jax.jit(jax.vmap(lambda n: target.energy(target.configuration(n))))(jnp.arange(target.configurations))
    return float(jax.nn.logsumexp(-beta * energies))


@pytest.mark.parametrize("beta", [0.25, 0.44, 0.9])
def test_three_routes_to_the_ising_partition_function(beta):
    """Transfer matrix, enumeration and Kaufman's formula: an error in one would have to be in all."""
    small = lattice.ising_square(3, 4)
    assert np.isclose(small.log_z(beta), enumerated_log_z(small, beta), rtol=1e-12)
    assert np.isclose(small.log_z(beta), lattice.kaufman_log_z(3, 4, beta), rtol=1e-12)
    assert np.isclose(lattice.kaufman_log_z(4, 3, beta), lattice.kaufman_log_z(3, 4, beta), rtol=1e-12)
    assert np.isclose(lattice.ising_square(6, 11).log_z(beta), lattice.kaufman_log_z(6, 11, beta), rtol=1e-12)


def test_fields_and_more_states():
    """Transfer matrices with a field and with three states against enumeration, on strips two sites wide too."""
    for target in (
        lattice.ising((2, 5), 0.6, 0.35),
        lattice.potts((2, 4), 3, 0.9, 0.2),
        lattice.potts((7,), 3, 1.1, -0.4),
        lattice.ising((1, 6), 1.0, 0.1),
        lattice.ising((1,), 1.0, 0.5),
    ):
        assert np.isclose(target.log_z(0.7), enumerated_log_z(target, 0.7), rtol=1e-12)


def test_ising_chain_has_its_closed_form():
    """Z = l_+^N + l_-^N with a field."""
    beta, field, n = 0.8, 0.3, 12
    root = np.sqrt(np.exp(2 * beta) * np.sinh(beta * field) ** 2 + np.exp(-2 * beta))
    plus, minus = (np.exp(beta) * np.cosh(beta * field) + sign * root for sign in (1, -1))
    assert np.isclose(lattice.ising_chain(n, 1.0, field).log_z(beta), np.log(plus**n + minus**n), rtol=1e-13)


def test_critical_free_energy_of_a_large_lattice():
    """Onsager: log Z / N at the critical point is log(2)/2 + 2 G / pi = 0.929695 (G Catalan's constant), up to 1/N terms."""
    beta = 0.5 * np.log(1 + np.sqrt(2))
    assert np.isclose(lattice.kaufman_log_z(64, 64, beta) / 64**2, 0.9296953983, atol=5e-4)


def test_energies_count_every_bond_once():
    """All spins up: 2 N bonds on a square, N on a chain, 3 N in a cube; a checkerboard has the opposite sign."""
    up = jnp.ones((4, 4), dtype=int)
    checkerboard = jnp.indices((4, 4)).sum(0) % 2
    target = lattice.ising_square(4, 4)
    assert target.energy(up) == -32
    assert target.energy(checkerboard) == 32
    assert lattice.ising((4, 4, 4)).energy(jnp.ones((4, 4, 4), dtype=int)) == -192
    assert lattice.ising_chain(5, field=0.5).energy(jnp.zeros(5, dtype=int)) == -5 + 2.5


@pytest.mark.parametrize("shape", [(6,), (1, 4), (2, 3), (3, 4), (2, 2, 3)])
def test_conditional_energies_are_energy_differences(shape):
    """A wrong neighbour would make every Gibbs move leave the wrong distribution invariant."""
    target = lattice.potts(shape, 3, 0.8, 0.25)
    x = target.space.random(jax.random.key(4))
    local = jax.jit(lambda x, site: target.conditional_energies(x, site))
    energy = jax.jit(lambda x: target.energy(x))
    for site in range(target.sites):
        whole = [energy(x.reshape(-1).at[site].set(value).reshape(shape)) for value in range(3)]
        difference = np.asarray(local(x, site)) - np.asarray(whole)
        assert np.ptp(difference) < 1e-12


def test_means_by_enumeration():
    """<U> against the derivative of log Z; the magnetisation follows the field."""
    target = lattice.ising((3, 3), 0.5, 0.2)
    assert np.isclose(target.mean(target.energy, 0.6), toy.mean_energy(target, 0.6), rtol=1e-8)
    observables = target.observables()
    assert target.mean(observables["magnetisation"].function, 0.6) > 0.1
    inside = [target.mean(lambda x, b=b: jnp.where(b(x), 1.0, 0.0), 0.6) for b in target.basins().values()]
    assert np.isclose(sum(inside), 1.0)


def test_what_is_too_large_is_not_claimed():
    """Enumeration of 2^64 states must be refused at once."""
    large = lattice.ising((12, 12))
    assert not large.knows("log_z")
    assert not large.knows("sample")
    with pytest.raises(UnknownTruthError, match="too many"):
        large.log_z(1.0)
    with pytest.raises(UnknownTruthError, match="too many"):
        large.mean(large.energy, 1.0)
    strip = lattice.ising_square(10, 40)
    assert strip.knows("log_z")
    assert not strip.knows("mean")


def test_impossible_lattices_are_refused():
    """Each with what was expected."""
    with pytest.raises(InvalidArgumentError, match="positive lengths"):
        lattice.ising((0, 3))
    with pytest.raises(InvalidArgumentError, match="two states"):
        lattice.potts((3, 3), states=1)
    with pytest.raises(InvalidArgumentError, match="symmetric"):
        lattice.PairLattice((3,), [[0.0, 1.0], [2.0, 0.0]], [0.0, 0.0], [0.0, 1.0])
    with pytest.raises(InvalidArgumentError, match="at least 3"):
        lattice.kaufman_log_z(2, 5, 0.4)
