"""Chains and replica exchange of particles by compiled moves: against quadrature, resumption, what is counted.

z-tests over independent ladders at 4.5 standard errors (false alarm 7e-6 each), with fixed seeds.
"""

import jax
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.io.trees import flatten, restore
from heatbath.samplers.base import run_to_end
from heatbath.targets import liquids

pytest.importorskip("numba", reason="needs the extra 'liquids'")

from heatbath.samplers import particle_chains
from heatbath.samplers.particle_chains import ParticleSampler

LIQUID, BETAS = liquids.few_particles(3), (2.0, 1.3, 0.8, 0.5)


def scores(energies):
    """z of <U> at every temperature, over ladders; energies (draw, ladder, rung)."""
    truth = np.array([LIQUID.exact(beta).mean_energy for beta in BETAS])
    means = energies.mean(0)
    return (means.mean(0) - truth) / (means.std(0, ddof=1) / np.sqrt(len(means)))


def sampler(**options):
    return ParticleSampler(LIQUID, BETAS, ladders=32, draws=300, sweeps=6, warmup=60, **options)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_replica_exchange_meets_quadrature(share):
    """Every temperature's mean energy, and log Z between the ends; a wrong sign of the exchange would move all of them."""
    made = sampler(exchange=True, exchange_share=share)
    found = run_to_end(made, jax.random.key(1))
    energies = found.diagnostics["energies"]
    assert np.all(np.abs(scores(energies)) < 4.5)
    assert np.all(found.diagnostics["swap_acceptance"] > 0.3)
    log_z = made.log_z(energies)
    truth = LIQUID.log_z(BETAS[0]) - LIQUID.log_z(BETAS[-1])
    assert abs(log_z.value[0] - truth) < 4.5 * log_z.standard_error[0] + 1e-3
    ensemble = found.ensemble
    own = np.asarray(jax.vmap(jax.vmap(LIQUID.energy))(np.asarray(ensemble.samples[:2, :3], float)))
    np.testing.assert_allclose(own, np.asarray(ensemble.energies)[:2, :3], rtol=1e-4, atol=1e-4)


def test_wrong_exchanges_are_caught(monkeypatch):
    """Negative control: exchanges that are accepted always mix the temperatures."""
    rule = particle_chains.exchange_log_ratios
    monkeypatch.setattr(particle_chains, "exchange_log_ratios", lambda *a: 0 * rule(*a))
    jax.clear_caches()
    energies = run_to_end(sampler(exchange=True), jax.random.key(1)).diagnostics["energies"]
    jax.clear_caches()
    assert np.abs(scores(energies)).max() > 10


def test_chains_without_exchange_and_dynamics():
    """Independent chains give the same means; the ensemble of dynamics says that it is biased."""
    assert np.all(np.abs(scores(run_to_end(sampler(), jax.random.key(2)).diagnostics["energies"])) < 4.5)
    made = ParticleSampler(LIQUID, (1.0,), ladders=2, draws=3, sweeps=5, warmup=2, moves="dynamics")
    found = run_to_end(made, jax.random.key(3))
    assert found.ensemble.bias is not None
    assert found.diagnostics["evaluations"] == 2 + 2 * 5 * 6


def test_energies_are_counted():
    """N displacements look at 4 energies of all pairs; a record at one more."""
    made = ParticleSampler(LIQUID, (1.0, 0.5), ladders=2, draws=4, sweeps=3, warmup=0, exchange=True)
    found = run_to_end(made, jax.random.key(1))
    assert found.diagnostics["evaluations"] == 4 + 4 * 4 * (3 * 4 + 1)
    assert made.cost().evaluations == 4 * 4 * 3 * 4


def test_a_stopped_run_continues_bitwise():
    """What a checkpoint keeps is everything: random numbers of the loops included."""
    made = ParticleSampler(LIQUID, (1.0, 0.5), ladders=2, draws=4, sweeps=3, warmup=1, exchange=True, draws_per_chunk=2)
    carry, _ = made.advance(made.begin(jax.random.key(4)))
    saved = restore(made.begin(jax.random.key(9)), flatten(carry))
    ends = [made.advance(made.advance(start)[0])[0] for start in (carry, saved)]
    for one, other in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_impossible_samplers_are_refused():
    """Rising betas, no draws, unknown moves."""
    with pytest.raises(InvalidArgumentError, match="fall from rung"):
        ParticleSampler(LIQUID, (0.5, 1.0), ladders=2, draws=4)
    with pytest.raises(InvalidArgumentError, match="draws"):
        ParticleSampler(LIQUID, (1.0,), ladders=2, draws=0)
    with pytest.raises(InvalidArgumentError, match="warmup"):
        ParticleSampler(LIQUID, (1.0,), ladders=2, draws=1, warmup=-1)
