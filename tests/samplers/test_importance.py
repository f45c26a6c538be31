"""Importance sampling and the cutting of weights: one program for all chunks, and no bias without a sentence."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.errors import HeatbathError, InvalidArgumentError
from heatbath.models.gaussian import Normal
from heatbath.samplers.base import run_to_end
from heatbath.samplers.importance import ImportanceSampler, importance
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.samplers.truncation import truncate
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell

TARGET = DoubleWell(barrier=2.0, tilt=0.6, dimension=2)
STATE = ThermoState(1.0)
WIDE = Normal(jnp.array([-0.3, 0.0]), jnp.array([1.2, 1.6]))


class Approximate(Proposal):
    """A proposal that says it is biased."""

    @property
    def bias(self):
        return "the Jacobian is a guess"

    def draw(self, key, u):
        return FromDistribution(WIDE).draw(key, u)


def test_a_declared_bias_reaches_the_ensemble():
    """A biased proposal whose sentence gets lost would be reported as exact."""
    ensemble = importance(jax.random.key(0), Approximate(), ReducedEnergy(TARGET, STATE), 100)
    assert ensemble.bias == "the Jacobian is a guess"
    assert "the Jacobian is a guess" in ensemble.expect(lambda x: x[0]).notes
    sampled = run_to_end(ImportanceSampler(TARGET, STATE, Approximate(), 100, draws_per_chunk=100), jax.random.key(0))
    assert sampled.ensemble.bias == "the Jacobian is a guess"
    exact = importance(jax.random.key(0), FromDistribution(WIDE), ReducedEnergy(TARGET, STATE), 100)
    assert exact.bias is None


def test_chunks_share_one_program():
    """A program per chunk would cost a compilation of the model for every few thousand draws."""
    traces = []

    class Counting(DoubleWell):
        def energy(self, x):
            traces.append(1)
            return super().energy(x)

    importance(
        jax.random.key(0), FromDistribution(Normal(jnp.zeros(1), 1.0)), ReducedEnergy(Counting(), STATE), 50, chunk=50
    )
    once = len(traces)
    traces.clear()
    importance(
        jax.random.key(0), FromDistribution(Normal(jnp.zeros(1), 1.0)), ReducedEnergy(Counting(), STATE), 200, chunk=40
    )
    assert len(traces) == once


@pytest.fixture(scope="module")
def weighted() -> Ensemble:
    """A thousand draws with uneven weights."""
    return importance(jax.random.key(1), FromDistribution(WIDE), ReducedEnergy(TARGET, STATE), 1000)


def test_dropping_removes_the_largest_weights_and_says_so(weighted):
    """Effective sizes after a silent cut are the commonest exaggeration of the field."""
    cut = truncate(weighted, 0.002)
    assert cut.size == 998
    assert np.max(cut.log_weights) == np.sort(np.asarray(weighted.log_weights))[-3]
    assert cut.bias is not None
    assert "largest 2 of 1000 weights (0.2 %)" in cut.bias
    assert cut.ess() > weighted.ess()
    assert any("largest 2 of 1000" in note for note in cut.expect(lambda x: x[0]).notes)
    kept = np.isin(np.asarray(weighted.log_weights), cut.log_weights)
    np.testing.assert_array_equal(np.asarray(cut.samples), np.asarray(weighted.samples)[kept])
    np.testing.assert_array_equal(np.asarray(cut.energies), np.asarray(weighted.energies)[kept])


def test_clipping_keeps_draws_and_lowers_weights(weighted):
    """Clipped weights equal the largest one below the cut; nothing else may change."""
    cut = truncate(weighted, 0.0015, how="clip")
    order = np.argsort(weighted.log_weights)
    assert cut.size == 1000
    np.testing.assert_array_equal(np.asarray(cut.log_weights)[order[:-2]], np.asarray(weighted.log_weights)[order[:-2]])
    assert (np.asarray(cut.log_weights)[order[-2:]] == np.asarray(weighted.log_weights)[order[-3]]).all()
    assert cut.bias is not None
    assert "clipped" in cut.bias


def test_a_cut_mean_weight_is_no_longer_z(weighted):
    """log Z of cut weights would be too low without a trace."""
    for how in ("drop", "clip"):
        with pytest.raises(HeatbathError, match="constant"):
            _ = truncate(weighted, 0.01, how=how).log_z


def test_cutting_nothing_changes_nothing_and_sentences_add_up(weighted):
    """A fraction of zero is not a bias; a second bias must not hide the first."""
    assert truncate(weighted, 0.0) is weighted
    biased = dataclasses.replace(weighted, bias="first")
    assert truncate(biased, 0.01).bias.startswith("first; the largest 10")
    chains = Ensemble(jnp.zeros((2, 50, 1)), np.arange(100.0).reshape(2, 50), STATE, axes=("chain", "draw"))
    assert truncate(chains, 0.1).axes == ("draw",)
    assert truncate(chains, 0.1, how="clip").axes == ("chain", "draw")
    for fraction in (-0.1, 1.0, 0.9999):
        with pytest.raises(InvalidArgumentError, match="fraction"):
            truncate(weighted, fraction)
