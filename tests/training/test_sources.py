"""Batches hold what they should: every configuration once an epoch, weighted ones in proportion, fresh ones anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.training.sources import Fresh, Nothing, Shuffled, Weighted, source_of


def batches(source, key, steps, size):
    memory = source.remember(key, jnp.asarray(0), size)
    found = []
    for step in range(steps):
        memory, batch = source.batch(key, memory, jnp.asarray(step), size)
        found.append(np.asarray(batch))
    return found


def test_an_epoch_sees_everything_once_and_the_next_in_another_order(key):
    """A configuration that is left out or seen twice would weigh wrongly in the likelihood."""
    source = Shuffled(jnp.arange(12))
    first, second = np.concatenate(batches(source, key, 6, 4)).reshape(2, 12)
    assert sorted(first) == sorted(second) == list(range(12))
    assert (first != second).any()
    assert (first != np.arange(12)).any()


def test_what_does_not_fill_a_batch_waits_for_another_epoch(key):
    """13 configurations in batches of 4: three batches an epoch, and not always the same one left out."""
    found = batches(Shuffled(jnp.arange(13)), key, 30, 4)
    epochs = [np.concatenate(found[i : i + 3]) for i in range(0, 30, 3)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert len({frozenset(range(13)) - frozenset(epoch.tolist()) for epoch in epochs}) > 1


def test_a_batch_depends_on_key_and_step_alone(key):
    """A resumed training begins in the middle of an epoch and must see the same batches."""
    source = Shuffled(jnp.arange(12))
    whole = batches(source, key, 8, 4)
    memory = source.remember(key, jnp.asarray(4), 4)
    for step in range(4, 8):
        memory, batch = source.batch(key, memory, jnp.asarray(step), 4)
        assert (np.asarray(batch) == whole[step]).all()


def test_weights_are_frequencies(key):
    """Counts of 20 000 draws against the weights, chi-square with 3 degrees of freedom below 21.1 (false alarms: 1e-4)."""
    weights = np.array([0.1, 0.0, 0.4, 0.3, 0.2])
    with np.errstate(divide="ignore"):
        source = Weighted(jnp.arange(5), np.log(weights) + 7.0)
    counts = np.bincount(np.concatenate(batches(source, key, 20, 1000)), minlength=5)
    assert counts[1] == 0
    kept = weights > 0
    expected = 20_000 * weights[kept]
    assert ((counts[kept] - expected) ** 2 / expected).sum() < 21.1


def test_fresh_draws_differ_from_step_to_step(key):
    """The same draws at every step would be a data set of one batch."""
    first, second = batches(Fresh(lambda key, n: jax.random.normal(key, (n,))), key, 2, 8)
    assert first.shape == (8,)
    assert (first != second).all()


def test_what_is_no_data_is_refused():
    """Arrays of different lengths would be indexed out of step."""
    assert isinstance(source_of(None), Nothing)
    with pytest.raises(InvalidArgumentError, match="lengths"):
        source_of({"x": jnp.zeros((3, 2)), "y": jnp.zeros(4)})
    with pytest.raises(InvalidArgumentError, match="not empty"):
        source_of(jnp.zeros((0, 2)))
    with pytest.raises(InvalidArgumentError, match="one log weight"):
        Weighted(jnp.zeros((3, 2)), np.zeros(4))
    with pytest.raises(InvalidArgumentError, match="finite"):
        Weighted(jnp.zeros((3, 2)), np.full(3, -np.inf))
