"""Surfaces, populations and differences on targets whose exact probabilities are known, and their error bars."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import free_energy_difference, free_energy_surface, populations
from heatbath.state import ThermoState
from heatbath.targets import quadrature, toy
from heatbath.targets.base import Observable

WELL = toy.DoubleWell(barrier=3.0, tilt=0.4)
BETA = 0.8


@pytest.fixture(scope="module")
def draws():
    """Exact draws of the double well, (4, 10000, 1)."""
    keys = jax.random.split(jax.random.key(0), 40000)
    return jax.jit(lambda ks: jax.vmap(lambda k: WELL.sample(k, BETA))(ks))(keys).reshape(4, 10000, 1)


def ensemble(samples, log_weights=None, axes=("chain", "draw"), **fields):
    shape = samples.shape[: len(axes)]
    log_weights = jnp.zeros(shape) if log_weights is None else jnp.asarray(log_weights)
    return Ensemble(jnp.asarray(samples), log_weights, ThermoState(BETA), axes=axes, **fields)


def exact_surface(edges):
    """-log of the exact mass of every bin, zero at the minimum."""
    fine = [np.linspace(a, b, 41) for a, b in itertools.pairwise(edges)]
    mass = []
    for x in fine:
        middle = 0.5 * (x[1:] + x[:-1])
        mass.append(np.mean(np.exp(-BETA * quadrature.evaluate(WELL.energy, middle[:, None]))))
    free_energy = -np.log(mass)
    return free_energy - free_energy.min()


@pytest.mark.parametrize("axes", [("chain", "draw"), ("draw",)])
def test_surface_of_the_double_well(draws, axes):
    """Every bin within 4.5 of its errors of the exact mass and the chi-square per bin near 1, with and without chains."""
    samples = draws if axes == ("chain", "draw") else draws.reshape(-1, 1)
    surface = free_energy_surface(ensemble(samples, axes=axes), WELL.observables()["x"], bins=40, ranges=[(-1.4, 1.4)])
    exact = exact_surface(surface.edges[0])
    # The zero of F is fixed by one noisy bin; compare shapes after removing the mean difference.
    difference = surface.free_energy - exact
    difference -= np.average(difference, weights=surface.probability)
    z = difference / surface.standard_error
    if axes == ("draw",):
        assert np.all(np.abs(z) < 4.5)
        assert 0.4 < np.mean(z**2) < 1.8
    else:
        # four chains: errors have 3 degrees of freedom, so that z is Student's
        assert np.mean(np.abs(z) < 3.18) > 0.85
    assert surface.converged
    assert surface.free_energy.min() == 0.0
    assert surface.labels == ("x",)
    assert surface.centres[0].shape == (40,)


def test_weights_move_the_surface(draws):
    """Draws at one temperature, weighted for another, give the surface there; dropping the weights does not."""
    hot = ThermoState(0.4)
    energies = np.asarray(jax.vmap(jax.vmap(WELL.energy))(draws))
    weighted = ensemble(draws, -(float(hot.beta) - BETA) * energies)
    edges = np.linspace(-1.4, 1.4, 31)
    surface = free_energy_surface(weighted, lambda x: x[0], bins=edges)
    fine = 0.5 * (edges[1:] + edges[:-1])
    exact = 0.4 * np.asarray(quadrature.evaluate(WELL.energy, fine[:, None]))
    exact -= exact.min()
    plain = free_energy_surface(ensemble(draws), lambda x: x[0], bins=edges)
    assert np.sqrt(np.mean((surface.free_energy - exact) ** 2)) < 0.12
    assert np.sqrt(np.mean((plain.free_energy - exact) ** 2)) > 0.3


def test_two_dimensions_and_energy_units():
    """The Mueller-Brown surface below 4 kT is the energy up to a constant, in kT and in the unit of the energy."""
    target, beta = toy.MuellerBrown(), 1 / 25
    keys = jax.random.split(jax.random.key(5), 60000)
    samples = jax.jit(lambda ks: jax.vmap(lambda k: target.sample(k, beta))(ks))(keys)
    flat = Ensemble(samples, jnp.zeros(60000), ThermoState(beta))
    surface = free_energy_surface(flat, target.observables(), bins=(40, 36))
    x, y = np.meshgrid(*surface.centres, indexing="ij")
    exact = beta * quadrature.evaluate(target.energy, np.stack([x.ravel(), y.ravel()], axis=1)).reshape(40, 36)
    low = (exact - exact.min()) < 4
    difference = (surface.free_energy - exact)[low]
    assert np.sqrt(np.mean((difference - np.median(difference)) ** 2)) < 0.25
    in_energy = free_energy_surface(flat, target.observables(), bins=(40, 36), energy_unit="1")
    finite = np.isfinite(surface.free_energy)
    np.testing.assert_allclose(in_energy.free_energy[finite], 25 * surface.free_energy[finite])
    assert np.isposinf(surface.free_energy[~finite]).all()
    assert np.isnan(surface.standard_error[~finite]).all()


def test_periodic_coordinates_go_around():
    """Angles outside the fundamental domain are brought back; the default edges span the circle."""
    angles = np.random.default_rng(0).uniform(-20, 20, size=(4, 5000, 1))
    torsion = Observable(lambda x: x[0], "phi", "rad", 2 * np.pi)
    surface = free_energy_surface(ensemble(angles), torsion, bins=18)
    assert np.isclose(surface.edges[0][0], -np.pi)
    assert np.isclose(surface.edges[0][-1], np.pi)
    assert np.isclose(surface.probability.sum(), 1.0)
    assert np.all(np.abs(surface.free_energy - surface.free_energy.mean()) < 0.3)
    shifted = free_energy_surface(ensemble(angles), torsion, bins=18, ranges=[(0.0, 2 * np.pi)])
    np.testing.assert_allclose(shifted.probability, np.roll(surface.probability, 9), atol=1e-12)


def test_weight_outside_the_edges_is_counted(draws):
    """A range that cuts the distribution must be seen in the result."""
    surface = free_energy_surface(ensemble(draws), lambda x: x[0], bins=10, ranges=[(-0.5, 0.5)])
    assert surface.outside > 0.5
    assert "outside the edges" in surface.notes[0]
    assert free_energy_surface(ensemble(draws), lambda x: x[0]).outside < 0.01


def test_surfaces_survive_json(draws):
    """Empty bins become null, everything else plain numbers."""
    surface = free_energy_surface(ensemble(draws), lambda x: x[0], bins=12, ranges=[(-5.0, 5.0)])
    text = json.dumps(surface.to_dict(), allow_nan=False)
    back = json.loads(text)
    assert back["free_energy"][0] is None
    assert len(back["edges"][0]) == 13


def test_populations_and_difference_of_the_double_well(draws):
    """Within 4.5 errors of quadrature, for chains and for exchangeable draws."""
    left = WELL.mean(lambda x: jnp.where(x[0] < 0, 1.0, 0.0), BETA)
    exact = -np.log((1 - left) / left)
    basins = WELL.basins()
    for samples, axes in ((draws, ("chain", "draw")), (draws.reshape(-1, 1), ("draw",))):
        found = populations(ensemble(samples, axes=axes), basins)
        delta = free_energy_difference(ensemble(samples, axes=axes), basins["left"], basins["right"])
        limit = 4.5 if axes == ("draw",) else 12.0  # Student's t with 3 degrees of freedom, same false-alarm rate
        assert abs(found["left"].value - left) < limit * found["left"].standard_error
        assert abs(delta.value - exact) < limit * delta.standard_error
        assert delta.unit == "kT"
        assert delta.converged
    assert np.isclose(delta.value, -np.log(found["right"].value / found["left"].value))


def two_state_chains(seed, chains=8, length=150, stay=0.95):
    """Markov chains that hop between two states with equal probability 1/2, and random weights per draw."""
    random = np.random.default_rng(seed)
    flips = random.uniform(size=(chains, length)) > stay
    state = (random.integers(0, 2, size=(chains, 1)) + np.cumsum(flips, axis=1)) % 2
    return state.astype(float)[..., None], 0.3 * random.standard_normal((chains, length))


def test_error_bars_from_chains_are_calibrated():
    """Coverage of one sigma over 200 experiments of correlated, weighted chains: 66 % for Student's t with 7 degrees of
    freedom, within 4 binomial errors; errors that ignore autocorrelation are three times too small and must fail."""
    hits = naive = 0
    for seed in range(200):
        samples, log_weights = two_state_chains(seed)
        values = samples[..., 0]
        made = ensemble(samples, log_weights)
        delta = free_energy_difference(made, values < 0.5, values > 0.5)
        hits += abs(delta.value) < delta.standard_error
        flat = ensemble(samples.reshape(-1, 1), log_weights.reshape(-1), axes=("draw",))
        independent = free_energy_difference(flat, values.reshape(-1) < 0.5, values.reshape(-1) > 0.5)
        naive += abs(independent.value) < independent.standard_error
    expected = 0.649  # P(|t_7| < 1)
    bound = 4 * np.sqrt(expected * (1 - expected) / 200)
    assert abs(hits / 200 - expected) < bound
    assert abs(naive / 200 - expected) > bound


def test_error_bars_of_independent_draws_are_calibrated():
    """Coverage of one sigma over 200 experiments with weights, for the difference and for one bin of a surface."""
    hits = bins = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        x = random.standard_normal((400, 1))
        made = ensemble(x, 0.5 * x[:, 0], axes=("draw",))  # weights move the mean to 1/2
        delta = free_energy_difference(made, x[:, 0] < 0.5, x[:, 0] >= 0.5)
        hits += abs(delta.value) < delta.standard_error
        surface = free_energy_surface(made, x[:, 0], bins=np.array([-20.0, 0.5, 20.0]))
        bins += abs(surface.probability[0] - 0.5) < surface.standard_error[0] * surface.probability[0]
    bound = 4 * np.sqrt(0.683 * 0.317 / 200)
    assert abs(hits / 200 - 0.683) < bound
    assert abs(bins / 200 - 0.683) < bound


def test_families_widen_errors(draws):
    """Copies of one ancestor are one draw, not many."""
    few = np.repeat(draws.reshape(-1, 1)[:400], 10, axis=0)
    families = np.repeat(np.arange(400), 10)
    copies = ensemble(few, axes=("draw",), ancestors=jnp.asarray(families))
    once = ensemble(draws.reshape(-1, 1)[:400], axes=("draw",))
    wrong = ensemble(few, axes=("draw",))
    basins = WELL.basins()
    errors = [free_energy_difference(e, basins["left"], basins["right"]).standard_error for e in (copies, once, wrong)]
    assert np.isclose(errors[0], errors[1], rtol=1e-9)
    assert errors[2] < 0.4 * errors[1]
    surfaces = [free_energy_surface(e, lambda x: x[0], bins=8, ranges=[(-2.0, 2.0)]) for e in (copies, once)]
    np.testing.assert_allclose(surfaces[0].standard_error, surfaces[1].standard_error, rtol=1e-9)


def test_what_cannot_be_known_is_said(draws):
    """A basin never visited, one visited by a single chain, and a single chain: not converged, with a sentence."""
    made = ensemble(draws)
    nowhere = free_energy_difference(made, lambda x: x[0] < 0, lambda x: x[0] > 50, names=("left", "far"))
    assert nowhere.value == np.inf
    assert not nowhere.converged
    assert "'far' was never visited" in nowhere.notes[0]
    assert not populations(made, {"far": lambda x: x[0] > 50})["far"].converged
    values = np.zeros((4, 100))
    values[2, 50:] = 1.0
    lonely = ensemble(values[..., None])
    delta = free_energy_difference(lonely, values < 0.5, values > 0.5)
    assert not delta.converged
    assert "one chain only" in delta.notes[0]
    assert np.isfinite(delta.standard_error)
    single = free_energy_surface(ensemble(draws[:1]), lambda x: x[0])
    assert not single.converged
    assert "at least four" in single.notes[0]


def test_bad_input_is_refused(draws):
    """Too many observables, values of another shape, NaN, edges that do not increase."""
    made = ensemble(draws)
    with pytest.raises(InvalidArgumentError, match="one or two observables"):
        free_energy_surface(made, [lambda x: x[0]] * 3)
    with pytest.raises(InvalidArgumentError, match="shape of the ensemble"):
        free_energy_surface(made, np.zeros((4, 3)))
    with pytest.raises(NonFiniteError, match="not finite"):
        free_energy_surface(made, np.full((4, 10000), np.nan))
    with pytest.raises(InvalidArgumentError, match="increasing"):
        free_energy_surface(made, lambda x: x[0], bins=np.array([1.0, 0.0]))
    with pytest.raises(InvalidArgumentError, match="one boolean per draw"):
        populations(made, {"a": np.zeros(3)})
