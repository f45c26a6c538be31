"""Liquids: the pair energy and its cutoff, the energy against a second implementation, energy differences, few particles."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.targets import liquids
from heatbath.targets.few_particles import FewParticles

#: Published, rounded constants of the smooth cutoff at 2.5.
PUBLISHED = (0.04049023795, -0.00970155098, 0.00062012616)
REFERENCE = json.loads((Path(__file__).parent / "ternary_liquid_43.json").read_text())


def plain_pair(r, epsilon, sigma):
    """V with the published constants, one pair, in plain Python."""
    s = r / sigma
    if s >= 2.5:
        return 0.0
    c0, c2, c4 = PUBLISHED
    return 4 * epsilon * (1 / s**12 - 1 / s**6 + c0 + c2 * s * s + c4 * s**4)


def plain_energy(x, kinds, length, epsilon, sigma):
    """The sum over all pairs and all 3^d neighbouring images: no nearest-image rule at all."""
    total = 0.0
    images = list(itertools.product((-length, 0.0, length), repeat=x.shape[1]))
    for i, j in itertools.combinations(range(len(x)), 2):
        e, s = epsilon[kinds[i]][kinds[j]], sigma[kinds[i]][kinds[j]]
        for image in images:
            total += plain_pair(float(np.linalg.norm(x[i] - x[j] + image)), e, s)
    return total


EPSILON = [[1, 1.5, 0.75], [1.5, 0.5, 1.5], [0.75, 1.5, 0.75]]
SIGMA = [[1, 0.8, 0.9], [0.8, 0.88, 0.8], [0.9, 0.8, 0.94]]


def test_energy_agrees_with_an_independent_sum():
    """A configuration at T = 0.5: every wrong parameter, image or constant would change the fifth digit or an earlier one."""
    liquid, x = liquids.ternary_liquid(), np.asarray(REFERENCE["positions"])
    kinds = [0] * 20 + [1] * 11 + [2] * 12
    other = plain_energy(x, kinds, 6.00596041722998, EPSILON, SIGMA)
    assert other / 43 == pytest.approx(REFERENCE["energy_per_particle"], abs=1e-9)
    assert float(liquid.energy(jnp.asarray(x))) / 43 == pytest.approx(other / 43, abs=1e-7)


def test_a_wrong_label_is_seen():
    """Negative control: with two unlike particles relabelled, the energies differ."""
    liquid, x = liquids.ternary_liquid(), jnp.asarray(REFERENCE["positions"])
    assert abs(float(liquid.energy(x.at[jnp.array([0, 25])].set(x[jnp.array([25, 0])])) - liquid.energy(x))) > 1e-2


def test_sum_by_rows_agrees_with_the_sum_by_pairs(monkeypatch):
    """Large systems take another way to the same number."""
    liquid, x = liquids.ternary_liquid(86), liquids.ternary_liquid(86).initial(jax.random.key(1))
    dense = float(liquid.energy(x))
    monkeypatch.setattr(liquids, "DENSE", 10)
    assert float(liquid.energy(x)) == pytest.approx(dense, rel=1e-12)


@pytest.mark.parametrize(("count", "counts", "length"), [(1290, (600, 330, 360), 32.8962), (44, (20, 12, 12), 6.0705)])
def test_sizes(count, counts, length):
    """The compositions and boxes of the literature."""
    liquid = liquids.ternary_liquid(count)
    assert liquid.counts == counts
    assert liquid.length == pytest.approx(length, abs=5e-4)


def test_smooth_cutoff():
    """V, V' and V'' vanish at the cutoff, and the constants are the published ones."""
    pair = liquids.TERNARY
    np.testing.assert_allclose(pair.coefficients, PUBLISHED, atol=1e-11)

    def value(r):
        return pair.energy(r**2, jnp.asarray(1.0), jnp.asarray(1.0))

    r = jnp.asarray(2.5 - 1e-10)
    for function in (value, jax.grad(value), jax.grad(jax.grad(value))):
        assert abs(float(function(r))) < 1e-8
        assert float(function(jnp.asarray(2.5 + 1e-9))) == 0.0


def test_cut_and_shifted():
    """The three-dimensional mixture: V vanishes at the cutoff, its slope does not; V(1) = 4 c_0."""
    pair = liquids.BINARY
    assert float(pair.energy(jnp.asarray(2.5**2 - 1e-9), jnp.asarray(1.0), jnp.asarray(1.0))) == pytest.approx(
        0, abs=1e-9
    )
    assert float(pair.energy(jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(1.0))) == pytest.approx(0.016316891136)


def test_symmetries():
    """Lattice shifts and translations to 1e-12, and permutations within a species."""
    liquid, x = liquids.ternary_liquid(), jnp.asarray(REFERENCE["positions"])
    energy = float(liquid.energy(x))
    shifts = liquid.length * np.random.default_rng(0).integers(-3, 4, x.shape)
    assert float(liquid.energy(x + shifts)) == pytest.approx(energy, rel=1e-12)
    assert float(liquid.energy(x + jnp.array([0.3, -7.1]))) == pytest.approx(energy, rel=1e-12)
    order = np.concatenate([np.arange(20)[::-1], np.arange(20, 43)])
    assert float(liquid.energy(x[order])) == pytest.approx(energy, rel=1e-12)


@pytest.mark.parametrize("build", [liquids.ternary_liquid, lambda: liquids.kob_andersen(150)])
def test_energy_differences(build):
    """Differences of one-particle moves equal differences of energies, in two and three dimensions."""
    liquid = build()
    x, last = liquid.initial(jax.random.key(2)), liquid.particles - 1
    i, j, place = jnp.asarray(3), jnp.asarray(last), x[3] + 0.07
    energy = jax.jit(lambda x: liquid.energy(x))
    change = float(energy(x.at[3].set(place)) - energy(x))
    assert float(liquid.displacement_change(x, i, place)) == pytest.approx(change, rel=1e-8)
    swapped = x.at[jnp.array([3, last])].set(x[jnp.array([last, 3])])
    assert float(liquid.exchange_change(x, i, j)) == pytest.approx(float(energy(swapped) - energy(x)), rel=1e-8)
    assert float(liquid.exchange_change(x, i, jnp.asarray(0))) == 0.0


def test_two_particles_by_another_quadrature():
    """log Z of two particles by adaptive integration of the plain pair energy over a quarter of the box."""
    liquid, half = liquids.few_particles(2), 0.5 * 6.00596041722998

    def factor(y, x):
        return np.exp(-2.0 * plain_pair(np.hypot(x, y), 1.5, 0.8))

    quarter = dblquad(factor, 1e-6, half, 1e-6, half, epsabs=1e-7)[0]
    exact = liquid.exact(2.0)
    assert exact.log_z == pytest.approx(np.log(4 * quarter * (2 * half) ** 2), abs=1e-5)


def test_moments_of_three_particles():
    """<U> and c_V are derivatives of log Z, and the Fourier sum is the plain fourfold sum on the same grid."""
    liquid, step = liquids.few_particles(3), 1e-3
    low, mid, high = (liquid._few().moments(2.0 + k * step, cells=96) for k in (-1, 0, 1))
    assert mid.mean_energy == pytest.approx(-(high.log_z - low.log_z) / (2 * step), abs=1e-5)
    curvature = (high.log_z - 2 * mid.log_z + low.log_z) / step**2
    assert mid.heat_capacity == pytest.approx(4 * curvature / 3, abs=1e-4)

    def soft(scale):
        return lambda r: jnp.sum(1 - jnp.cos(2 * jnp.pi * r / 3.0)) * scale

    few, cells = FewParticles((soft(0.3), soft(0.5), soft(0.8)), 3.0), 16
    v12, v13, v23 = few.tables(cells)
    k = np.arange(cells)
    # V_23 at r - r': row a - c of its table, which holds displacements (k + 1/2) h.
    a, b, c, d = np.meshgrid(k, k, k, k, indexing="ij", sparse=True)
    u = v12[a, b] + v13[c, d] + v23[(a - c) % cells, (b - d) % cells]
    weights = np.exp(-1.5 * u)
    found = few.moments(1.5, cells)
    assert found.log_z == pytest.approx(np.log(weights.sum() * (3.0 / cells) ** 4 * 9.0), rel=1e-12)
    mean = (weights * u).sum() / weights.sum()
    assert found.mean_energy == pytest.approx(mean, rel=1e-12)
    assert found.heat_capacity == pytest.approx(
        1.5**2 * ((weights * u**2).sum() / weights.sum() - mean**2) / 3, rel=1e-10
    )


def test_exact_draws_of_three_particles():
    """Mean energy of exact draws within 4.5 standard errors of quadrature (false alarm 7e-6 each)."""
    liquid = liquids.few_particles(3)
    draw = jax.jit(lambda keys, beta: jax.vmap(lambda key: liquid.sample(key, beta))(keys))
    for beta in (0.5, 2.0):
        energies = np.asarray(jax.vmap(liquid.energy)(draw(jax.random.split(jax.random.key(4), 4000), beta)))
        exact = liquid.exact(beta)
        assert abs(energies.mean() - exact.mean_energy) < 4.5 * energies.std() / np.sqrt(4000)


def test_impossible_liquids_are_refused():
    """A box in which a particle would meet two images of another, odd compositions, broken tables."""
    with pytest.raises(InvalidArgumentError, match="half the box"):
        liquids.kob_andersen(100)
    with pytest.raises(InvalidArgumentError, match="multiple of 43"):
        liquids.ternary_liquid(50)
    with pytest.raises(InvalidArgumentError, match="symmetric"):
        liquids.LennardJonesMixture([[1.0, 2.0], [1.0, 1.0]], np.ones((2, 2)))
    with pytest.raises(InvalidArgumentError, match="positive"):
        liquids.LennardJonesMixture([[0.0]], [[1.0]])
    with pytest.raises(InvalidArgumentError, match="one per species"):
        liquids.Liquid(liquids.BINARY, (3,), 10.0)
    with pytest.raises(UnknownTruthError, match="two or three"):
        liquids.ternary_liquid().exact(1.0)
