"""Clusters: published ground states, invariances, conventions of the centre of mass, the two-particle integral."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.targets import clusters


def icosahedral(shells):
    """The Mackay icosahedron with one or two shells: 13 or 55 sites, neighbours about 1 apart."""
    golden = (1 + 5**0.5) / 2
    vertices = [
        np.roll([0.0, a, b * golden], shift) for shift in range(3) for a, b in itertools.product((1.0, -1.0), repeat=2)
    ]
    vertices = np.array(vertices) / np.linalg.norm(vertices[0])
    sites = [np.zeros((1, 3)), vertices]
    if shells == 2:
        edges = [
            vertices[i] + vertices[j]
            for i, j in itertools.combinations(range(12), 2)
            if np.linalg.norm(vertices[i] - vertices[j]) < 1.1
        ]
        sites += [2 * vertices, np.array(edges)]
    return np.concatenate(sites)


def relaxed_energy(target, start):
    program = jax.jit(jax.value_and_grad(lambda x: target.energy(x.reshape(start.shape))))
    found = minimize(
        lambda x: [np.asarray(part) for part in program(x)], start.ravel(), jac=True, method="L-BFGS-B", tol=1e-12
    )
    return found.fun


@pytest.mark.parametrize(
    ("build", "shells", "energy"), [(clusters.lj13, 1, -44.326801), (clusters.lj55, 2, -279.248470)]
)
def test_lennard_jones_ground_states(build, shells, energy):
    """The known global minima without traps; a factor two in the pair sum would double them."""
    target = build(centre_trap=0.0, trap=0.0)
    start = icosahedral(shells)
    assert start.shape == target.space.shape
    assert np.isclose(relaxed_energy(target, start), energy, atol=1e-4)


def test_pair_energies_have_their_minima():
    """phi(r_m) = -eps for Lennard-Jones; b^2 / (4 c) below zero at both minima of the double well."""
    lennard_jones = clusters.LennardJonesCluster(2, depth=1.7, distance=1.3)
    assert np.isclose(lennard_jones.pair_energy(jnp.asarray(1.3**2)), -1.7)
    assert np.isclose(jax.grad(lennard_jones.pair_energy)(1.3**2), 0.0, atol=1e-12)
    double_well = clusters.dw4()
    for r in (4 - np.sqrt(4 / 1.8), 4 + np.sqrt(4 / 1.8)):
        assert np.isclose(double_well.pair_energy(jnp.asarray(r**2)), -16 / 3.6)


@pytest.mark.parametrize("build", [clusters.dw4, clusters.lj13])
def test_energies_are_invariant(build):
    """Under permutations and rotations always; under translations when the centre of mass is free."""
    target, free = build(), build(centre_trap=0.0)
    x = target.initial(jax.random.key(0))
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((x.shape[1],) * 2))
    energy = target.energy(x)
    assert np.isclose(target.energy(x[::-1]), energy)
    assert np.isclose(target.energy(x @ rotation), energy)
    assert np.isclose(free.energy(x + 3.0), free.energy(x))
    shifted = x - x.mean(0) + 0.5
    expected = 0.5 * x.shape[0] * x.shape[1] * 0.25
    assert np.isclose(target.energy(shifted) - free.energy(x), expected), "the centre term is (k/2) n |c|^2"


@pytest.mark.parametrize(
    "target",
    [clusters.LennardJonesCluster(2), clusters.DoubleWellCluster(2), clusters.LennardJonesCluster(2, 1, trap=3.0)],
)
def test_two_particles_against_a_plain_integral(target):
    """log Z from a radial trapezoid in the mean-free convention plus the centre of mass."""
    beta, dimension = 0.8, target.space.shape[1]
    r = np.linspace(1e-3, 40, 2_000_001)
    energy = np.asarray(target.pair_energy(jnp.asarray(r**2))) + 0.25 * target.trap * r**2
    sphere = {1: 2.0, 2: 2 * np.pi, 3: 4 * np.pi}[dimension]
    radial = np.sum(sphere * r ** (dimension - 1) * np.exp(-beta * energy)) * (r[1] - r[0])
    mean_free = np.log(radial) - 0.5 * dimension * np.log(2)
    expected = mean_free + 0.5 * dimension * np.log(2 * np.pi / (beta * target.centre_trap))
    assert target.knows("log_z")
    assert np.isclose(target.log_z(beta), expected, atol=1e-8)


def test_starts_do_not_overlap():
    """Random starts of a Lennard-Jones cluster would have energies of 1e10 and more."""
    for build in (clusters.dw4, clusters.lj13, clusters.lj55):
        target = build()
        starts = jax.jit(lambda keys, t=target: jax.vmap(t.initial)(keys))(jax.random.split(jax.random.key(0), 8))
        assert starts.shape == (8, *target.space.shape)
        energies = jax.jit(lambda xs, t=target: jax.vmap(t.energy)(xs))(starts)
        assert np.all(np.asarray(energies) < 20.0)
        assert not np.allclose(starts[0], starts[1])


def test_observables_of_a_known_shape():
    """A square of side a: pair distances, radius of gyration a / sqrt 2."""
    square = jnp.asarray([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    target = clusters.dw4()
    np.testing.assert_allclose(np.sort(target.pair_distances(square)), [2, 2, 2, 2, 8**0.5, 8**0.5])
    values = {name: float(observable.function(square)) for name, observable in target.observables().items()}
    assert np.isclose(values["radius of gyration"], 2**0.5)
    assert np.isclose(values["shortest distance"], 2.0)
    assert np.isclose(values["energy"], target.energy(square))


def test_what_is_not_known_or_impossible_is_said():
    """More than two particles have no closed form; two without any trap fly apart."""
    assert not clusters.lj13().knows("log_z")
    with pytest.raises(UnknownTruthError, match="two trapped particles"):
        clusters.lj13().log_z(1.0)
    with pytest.raises(UnknownTruthError, match="fly apart"):
        clusters.LennardJonesCluster(2, trap=0.0).log_z(1.0)
    with pytest.raises(InvalidArgumentError, match="two particles or more"):
        clusters.LennardJonesCluster(1)
    with pytest.raises(InvalidArgumentError, match="not be negative"):
        clusters.dw4(centre_trap=-1.0)
