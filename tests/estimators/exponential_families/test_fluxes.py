"""Master equations: fluxes, affinities, entropy production, and tests for detailed balance that are calibrated."""

import math

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families import (
    MasterEquation,
    cycle_test,
    driven_spins,
    pair_symmetry_test,
    pooled_affinities,
    squares,
    stationarity_test,
)

ENERGIES = (0.0, 0.5, 1.0)


def driven_ring(force):
    """Three states with energies (0, 1/2, 1) and rates exp(-+ dE/2 +- F/6)."""
    rates = np.zeros((3, 3))
    for k in range(3):
        to = (k + 1) % 3
        change = ENERGIES[to] - ENERGIES[k]
        rates[to, k], rates[k, to] = math.exp(-change / 2 + force / 6), math.exp(change / 2 - force / 6)
    return MasterEquation(rates)


def reversible(size, seed):
    """A random connected chain in detailed balance with random energies."""
    rng = np.random.default_rng(seed)
    conductance = np.triu(rng.exponential(size=(size, size)) * (rng.random((size, size)) < 0.4), 1)
    conductance += np.diag(rng.exponential(size=size - 1), 1)
    p = rng.dirichlet(np.ones(size))
    return MasterEquation((conductance + conductance.T) / p[None, :]), p


@pytest.mark.parametrize(
    ("force", "law", "flux", "production"),
    [
        (1.0, (0.493382, 0.324701, 0.181916), 0.101014, 0.101014),
        (3.0, None, 0.317843, 0.953529),
        (0.0, np.exp(-np.array(ENERGIES)) / np.exp(-np.array(ENERGIES)).sum(), 0.0, 0.0),
    ],
)
def test_the_driven_ring(force, law, flux, production):
    """Numbers that were computed independently; the affinity of the ring is the force."""
    ring = driven_ring(force)
    if law is not None:
        assert (np.abs(ring.stationary - law) < 6e-7).all()
    assert (np.abs(np.abs(ring.fluxes()) - flux) < 6e-7).all()
    assert abs(ring.entropy_production() - production) < 6e-7
    assert abs(abs(ring.affinities()[0]) - force) < 1e-14
    means = ring.flux_matrix().means(ring.stationary)
    np.testing.assert_allclose(means[1:], ring.fluxes()[ring.tree], atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_a_reversible_chain_has_no_flux(seed):
    """All fluxes below 1e-14, all Kolmogorov products one, and the stationary law is the one that was put in."""
    chain, p = reversible(12, seed)
    assert len(chain.cycles) > 10
    assert (np.abs(chain.stationary - p) < 1e-14).all()
    assert (np.abs(chain.fluxes()) < 1e-14).all()
    assert (np.abs(chain.affinities()) < 1e-12).all()
    assert (np.abs(chain.flux_matrix().means(p)[1:]) < 1e-14).all()


@pytest.mark.parametrize("seed", range(3))
def test_two_formulas_of_the_entropy_production(seed):
    """Edges and cycles must agree for a chain that is driven everywhere; driving one edge shows in its chord alone."""
    chain = MasterEquation(np.random.default_rng(seed).random((9, 9)) + 0.05)
    assert chain.entropy_production() > 0
    assert abs(chain.entropy_production() - chain.entropy_production_of_cycles()) < 1e-12
    balanced, _ = reversible(9, seed)
    chord = balanced.edges[~balanced.tree][0]
    rates = balanced.rates.copy()
    rates[chord[1], chord[0]] *= math.e
    forces = MasterEquation(rates).affinities()
    np.testing.assert_allclose(forces, np.eye(len(forces))[0], atol=1e-12)


def test_any_steady_state_is_stationary_but_not_balanced():
    """The rate matrix as observables cannot see driving; the flux matrix can."""
    ring = driven_ring(2.0)
    assert (np.abs(ring.stationarity_matrix().means(ring.stationary)[1:]) < 1e-15).all()
    assert (np.abs(ring.flux_matrix().means(ring.stationary)[1:]) > 0.1).all()


def test_what_is_no_master_equation_is_refused():
    """Negative rates, transitions without a way back, graphs in parts."""
    for rates, word in (
        ([[0.0, -1.0], [1.0, 0.0]], "negative"),
        ([[0.0, 0.0], [1.0, 0.0]], "no reverse"),
        (np.kron(np.eye(2), np.ones((2, 2))), "2 parts"),
        (np.ones((2, 3)), "square"),
    ):
        with pytest.raises(InvalidArgumentError, match=word):
            MasterEquation(rates)


# From trajectories ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("force", "power"), [(0.0, None), (0.2, 0.6), (1.0, 1.0)])
def test_the_cycle_test_is_calibrated(force, power):
    """400 trajectories of 6000 jumps. Balance: 5 % +- 4 sigma (4.4 %) of |z| > 1.96, and mean z^2 within 0.3 of 1.
    Driving: found at least so often.
    """
    counts, _ = driven_ring(force).jump_counts(np.random.default_rng(3), 6000, 400)
    tests = [cycle_test(one) for one in counts]
    z = np.array([test.z[0] for test in tests])
    rejected = np.mean([test.p_value < 0.05 for test in tests])
    if power is None:
        assert abs(rejected - 0.05) < 0.044
        assert abs(np.mean(z**2) - 1) < 0.3
    else:
        assert rejected > power - 0.1
        assert abs(np.mean([test.affinities[0] for test in tests]) - force) < 0.012


@pytest.mark.slow
def test_the_cycle_test_at_full_length():
    """1e5 jumps, 2000 trajectories: 5 % +- 4 sigma (2 %) false positives; every driven one (F = 1) is found."""
    rng = np.random.default_rng(4)
    counts, _ = driven_ring(0.0).jump_counts(rng, 100_000, 2000)
    assert abs(np.mean([cycle_test(one).p_value < 0.05 for one in counts]) - 0.05) < 0.02
    counts, _ = driven_ring(1.0).jump_counts(rng, 100_000, 200)
    assert np.mean([cycle_test(one).p_value < 0.05 for one in counts]) > 0.95


def test_counting_net_jumps_would_not_be_calibrated():
    """Negative control: (n_kl - n_lk) / sqrt(n_kl + n_lk) of one trajectory is far too small on a line, which has no cycle."""
    line, _ = reversible(2, 0)
    counts, _ = line.jump_counts(np.random.default_rng(0), 10_000, 50)
    naive = (counts[:, 0, 1] - counts[:, 1, 0]) / np.sqrt(counts[:, 0, 1] + counts[:, 1, 0])
    assert np.abs(naive).max() < 0.02


def test_many_cycles_at_once():
    """A reversible chain with cycles that share states and edges: chi-squared over 60 trajectories, 4.5 sigma."""
    chain, _ = reversible(8, 1)
    counts, _ = chain.jump_counts(np.random.default_rng(5), 40_000, 60)
    tests = [cycle_test(one) for one in counts]
    degrees = np.mean([test.degrees for test in tests])
    assert degrees > 5
    assert abs(np.mean([t.statistic - t.degrees for t in tests])) < 4.5 * np.sqrt(2 * degrees / 60)


def test_trajectories_continue_and_have_the_right_statistics():
    """Visits follow the jump chain's law, time the rates: fluxes per time within 4.5 standard errors over 100 trajectories."""
    ring, rng = driven_ring(1.0), np.random.default_rng(6)
    first, state = ring.jump_counts(rng, 3000, 100)
    second, _ = ring.jump_counts(rng, 3000, 100, start=state)
    counts = first + second
    assert (counts.sum(axis=(1, 2)) == 6000).all()
    fluxes = np.array([(c[0, 1] - c[1, 0]) / ring.dwell_time(rng, c) for c in counts])
    assert abs(fluxes.mean() - 0.101014) < 4.5 * fluxes.std() / 10
    assert (np.abs(counts.sum(axis=1) - counts.sum(axis=2)) <= 1).all()  # what goes in comes out, but for both ends


def test_rare_and_one_way_edges_are_told():
    """An edge with few jumps is left out, one without a jump back is counted as such."""
    counts = np.array([[0, 500, 490], [480, 0, 510], [520, 495, 0]])
    counts = np.pad(counts, (0, 1))
    counts[0, 3] = counts[3, 0] = 4
    assert cycle_test(counts).left_out == 1
    counts[2, 0] = 0
    found = cycle_test(counts)
    assert found.one_way == 1
    assert found.p_value < 1e-5
    with pytest.raises(InvalidArgumentError, match="longer"):
        cycle_test(np.ones((3, 3)))


def test_what_breaks_detailed_balance_is_named():
    """One coupling of a driven spin model is not mutual: its pair has the affinity 4 (J_ji - J_ij), all others none."""
    rng = np.random.default_rng(9)
    couplings = rng.normal(size=(4, 4)) * 0.3
    couplings = (couplings + couplings.T) / 2
    couplings[0, 2] += 0.25
    model = driven_spins(couplings, rng.normal(size=4) * 0.2)
    pairs = squares(4)
    for (i, j), cycles in pairs.items():
        np.testing.assert_allclose(model.affinities(cycles), 4 * (couplings[j, i] - couplings[i, j]), atol=1e-13)
    counts, _ = model.jump_counts(rng, 4000, 40)
    found = pooled_affinities(counts.sum(axis=0), {f"{i} {j}": cycles for (i, j), cycles in pairs.items()})
    assert found["0 2"]["z"] < -20
    assert abs(found["0 2"]["value"] + 1.0) < 4 * found["0 2"]["standard_error"]
    assert all(abs(row["z"]) < 4 for name, row in found.items() if name != "0 2")
    assert all(row["spread_p_value"] > 1e-4 for row in found.values())


# Kernels --------------------------------------------------------------------------------------------------------------
def pairs_of(transition, p, draws, rng):
    return rng.multinomial(draws, (p[:, None] * transition).reshape(-1)).reshape(len(p), len(p))


def test_symmetry_and_stationarity_of_pairs():
    """Metropolis passes both tests, rotation of the same law passes only stationarity, a wrong law passes neither.
    False positives over 400 repetitions: 5 % +- 4.4 %.
    """
    rng = np.random.default_rng(10)
    p = rng.dirichlet(np.full(5, 4.0))
    metropolis = np.minimum(1, p[None, :] / p[:, None]) / 5
    np.fill_diagonal(metropolis, 0)
    np.fill_diagonal(metropolis, 1 - metropolis.sum(axis=1))
    found = [pairs_of(metropolis, p, 4000, rng) for _ in range(400)]
    for test in (pair_symmetry_test, stationarity_test):
        assert abs(np.mean([test(one).p_value < 0.05 for one in found]) - 0.05) < 0.044
    ring = driven_ring(2.0)
    step = np.eye(3) + 0.2 * ring.generator.T
    rotating = pairs_of(step, ring.stationary, 20_000, rng)
    assert pair_symmetry_test(rotating).p_value < 1e-8
    assert stationarity_test(rotating).p_value > 1e-3
    wrong = pairs_of(metropolis, np.full(5, 0.2), 20_000, rng)
    assert pair_symmetry_test(wrong).p_value < 1e-8
    assert stationarity_test(wrong).p_value < 1e-8
    with pytest.raises(InvalidArgumentError, match="nothing moved"):
        stationarity_test(np.eye(3) * 100)
    with pytest.raises(InvalidArgumentError, match="pair"):
        pair_symmetry_test(np.eye(3) * 100)
