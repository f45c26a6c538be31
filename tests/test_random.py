"""Keys depend on names and numbers only."""

import jax
import numpy as np

from heatbath.random import named_key, step_key, walker_keys


def test_names_and_steps_give_different_keys(key):
    """Two consumers with one stream would be correlated."""
    data = {
        tuple(np.asarray(jax.random.key_data(step_key(named_key(key, name), step))))
        for name in ("warm-up", "production", "swap")
        for step in range(5)
    }
    assert len(data) == 15


def test_a_walker_keeps_its_key_when_walkers_are_added(key):
    """Otherwise a run on more devices would be another run."""
    few, many = (np.asarray(jax.random.key_data(walker_keys(key, n))) for n in (3, 7))
    np.testing.assert_array_equal(few, many[:3])
