"""What the protocol does not see: published numbers, closed forms, edge cases of the small continuous targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.targets import mixtures, quadrature, toy


def test_mueller_brown_has_the_published_stationary_points():
    """One wrong digit among 20 parameters moves a minimum or a saddle."""
    target = toy.MuellerBrown()
    gradient = jax.jit(jax.grad(lambda x: target.energy(x)))
    published = [
        (-0.558, 1.442, -146.700),
        (0.623, 0.028, -108.167),
        (-0.050, 0.467, -80.768),
        (-0.822, 0.624, -40.665),
        (0.212, 0.293, -72.249),
    ]
    for x, y, energy in published:
        found = root(lambda p: np.asarray(gradient(jnp.asarray(p))), [x, y]).x
        np.testing.assert_allclose(found, [x, y], atol=6e-4)
        assert np.isclose(target.energy(jnp.asarray(found)), energy, atol=6e-4)


def test_mueller_brown_basins_hold_their_minima_and_cover_the_plane():
    """Populations of the three basins add up to one at any temperature."""
    target = toy.MuellerBrown()
    basins = target.basins()
    for name, minimum in (("upper", (-0.558, 1.442)), ("middle", (-0.05, 0.467)), ("lower", (0.623, 0.028))):
        assert [key for key, inside in basins.items() if inside(jnp.asarray(minimum))] == [name]
    total = sum(target.mean(lambda x, b=b: jnp.where(b(x), 1.0, 0.0), 1 / 15) for b in basins.values())
    assert np.isclose(total, 1.0)


def test_scale_and_temperature_are_one_knob():
    """beta U with U scaled by s is s beta U: log Z must agree, or the integration box is wrong."""
    assert np.isclose(toy.MuellerBrown(scale=0.05).log_z(1.0), toy.MuellerBrown().log_z(0.05), rtol=1e-10)


@pytest.mark.parametrize("beta", [0.01, 0.3, 20.0])
def test_double_well_against_direct_quadrature(beta):
    """The box of the quadrature is wide enough at high temperature and fine enough at low temperature."""
    well = toy.DoubleWell(barrier=2.5, tilt=-0.7, half_distance=1.3)
    x = np.linspace(-30, 30, 2_000_001)
    energy = 2.5 * ((x / 1.3) ** 2 - 1) ** 2 - 0.7 * x
    weight = np.exp(-beta * (energy - energy.min()))
    log_z = np.log(weight.sum() * (x[1] - x[0])) - beta * energy.min()
    assert np.isclose(well.log_z(beta), log_z, atol=1e-9)
    assert np.isclose(well.mean(lambda y: y[0] ** 2, beta), np.sum(weight * x**2) / weight.sum(), rtol=1e-8)


def test_double_well_starts_on_both_sides():
    """Chains that all start in one well hide the other."""
    starts = jax.vmap(toy.DoubleWell(dimension=3).initial)(jax.random.split(jax.random.key(0), 64))
    left = int((starts[:, 0] < 0).sum())
    assert 12 < left < 52
    assert np.all(np.abs(np.abs(starts[:, 0]) - 1) < 0.6)


def test_many_well_is_a_product_of_double_wells():
    """log Z, moments and energies factorise; the default is x^4 - 6 x^2 - x/2 + 9 per well in 32 dimensions."""
    many, one = toy.ManyWell(wells=3, gaussians=2), toy.DoubleWell(9.0, -0.5, half_distance=3**0.5)
    assert np.isclose(many.log_z(0.7), 3 * one.log_z(0.7) + np.log(2 * np.pi / 0.7))
    assert np.isclose(many.marginal_mean(lambda x: x, 0.7), one.mean(lambda x: x[0], 0.7))
    default = toy.ManyWell()
    x = jax.random.normal(jax.random.key(1), (32,))
    wells = x[:16] ** 4 - 6 * x[:16] ** 2 - 0.5 * x[:16] + 9
    assert np.isclose(default.energy(x), wells.sum() + 0.5 * (x[16:] ** 2).sum())


def test_mean_energy_of_closed_forms():
    """<U> = d / (2 beta) for oscillators; the difference formula is good to 1e-8."""
    assert np.isclose(toy.mean_energy(toy.HarmonicOscillators((1.0, 3.0, 9.0)), 2.5), 3 / 5, rtol=1e-8)
    funnel = toy.Funnel(6)
    assert np.isclose(toy.mean_energy(funnel, 1.0), 3.0, rtol=1e-8), "<U> = d/2 at beta = 1 for the funnel"


def test_oscillators_carry_their_masses():
    """Dynamics reads the masses from the target."""
    target = toy.HarmonicOscillators((1.0, 4.0), (2.0, 8.0))
    np.testing.assert_array_equal(target.masses, [2.0, 8.0])
    np.testing.assert_array_equal(toy.HarmonicOscillators((1.0, 4.0), 3.0).masses, [3.0, 3.0])


def test_mixture_truths_in_high_dimension():
    """P(x_1 < 0), the normalisation and the precision of the energy in 200 dimensions, against draws and NumPy."""
    target = mixtures.unequal_mixture(200, seed=3)
    keys = jax.random.split(jax.random.key(2), 4000)
    xs = jax.jit(lambda ks: jax.vmap(lambda k: target.sample(k, 1.0))(ks))(keys)
    left = float((xs[:, 0] < 0).mean())
    exact = target.left_probability()
    assert abs(left - exact) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert 0.24 < exact < 0.27
    covariances = np.asarray(target.cholesky @ jnp.swapaxes(target.cholesky, 1, 2))
    x = np.asarray(xs[0])
    logs = []
    for weight, mean, covariance in zip((0.25, 0.75), np.asarray(target.means), covariances, strict=True):
        _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
        logs.append(np.log(weight) - 0.5 * log_det - 0.5 * (x - mean) @ np.linalg.solve(covariance, x - mean))
    assert np.isclose(target.energy(xs[0]), -np.logaddexp(*logs), rtol=1e-9)
    assert target.log_z(1.0) == 0.0


def test_mixture_at_other_temperatures_is_a_power():
    """log Z(beta) against a plain grid, and draws at beta = 3 against quadrature: the bound of the rejection is right."""
    target = toy.GaussianMixture([0.3, 0.5, 0.2], [[-0.5], [0.4], [1.5]], [[[0.2]], [[0.5]], [[0.05]]])
    x = np.linspace(-15, 15, 400_001)
    energies = quadrature.evaluate(target.energy, x[:, None])
    for beta in (0.3, 3.0):
        weight = np.exp(-beta * energies)
        assert np.isclose(target.log_z(beta), np.log(weight.sum() * (x[1] - x[0])), atol=1e-9)
        keys = jax.random.split(jax.random.key(9), 20000)
        xs = np.asarray(jax.jit(lambda ks, b=beta: jax.vmap(lambda k: target.sample(k, b))(ks))(keys))[:, 0]
        cumulative = np.cumsum(weight) / weight.sum()
        uniform = np.sort(np.interp(xs, x, cumulative))
        distance = np.abs(uniform - (np.arange(20000) + 0.5) / 20000).max()
        assert distance < 2.3 / np.sqrt(20000), "Kolmogorov-Smirnov, false alarms 5e-5"


def test_what_is_not_known_is_said():
    """A truth that does not exist must raise, and ``knows`` must say so before."""
    mixture = mixtures.unequal_mixture(5)
    with pytest.raises(UnknownTruthError, match="beta = 1 only"):
        mixture.log_z(2.0)
    for target in (
        mixture,
        toy.ManyWell(),
        toy.DoubleWell(dimension=3),
        toy.Funnel(4),
        toy.Gaussian(np.zeros(3), np.ones(3)),
    ):
        assert not target.knows("mean")
        with pytest.raises(UnknownTruthError):
            target.mean(target.energy, 1.0)
        assert target.knows("sample")


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: toy.DoubleWell(barrier=-1.0), "barrier must be positive"),
        (lambda: toy.DoubleWell(dimension=0), "at least one dimension"),
        (lambda: toy.ManyWell(wells=0), "wells >= 1"),
        (lambda: toy.Funnel(1), "at least two dimensions"),
        (lambda: toy.Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: toy.Gaussian([0.0, 0.0], [1.0]), r"covariance \(d, d\)"),
        (lambda: toy.HarmonicOscillators((1.0, -1.0)), "positive stiffness"),
        (lambda: toy.GaussianMixture([1.0, 0.0], np.zeros((2, 1)), np.ones((2, 1, 1))), "must be positive"),
        (lambda: toy.GaussianMixture([1.0], np.zeros((2, 1)), np.ones((2, 1, 1))), "takes weights"),
        (lambda: mixtures.unequal_mixture(0), "at least one dimension"),
        (lambda: toy.MuellerBrown(scale=float("nan")), "positive and finite"),
    ],
)
def test_impossible_parameters_are_refused(build, match):
    """Each with the name of the parameter and what came."""
    with pytest.raises(InvalidArgumentError, match=match):
        build()
