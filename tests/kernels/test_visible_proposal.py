"""Offered states whose weight is not finite are never taken, and are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.kernels.visible_proposal import PooledProposal, VisibleProposal
from heatbath.models.base import Distribution
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.boltzmann_machines import boltzmann_machine

U = ReducedEnergy(boltzmann_machine((2, 2, 1), scale=1.0, seed=1), ThermoState(0.8))


class Coins(Distribution):
    """Fair coins, whose density is said to be NaN where both show ones."""

    broken: bool

    def sample(self, key):
        return jax.random.bernoulli(key, 0.5, (2,)).astype(jnp.int32)

    def log_prob(self, x):
        return jnp.where(self.broken & jnp.all(x == 1), jnp.nan, 2 * jnp.log(0.5))


def infos(kernel, count=400):
    state = kernel.init(jax.random.key(0), jnp.array([0, 1, 0, 1, 0]), U)
    step = jax.jit(jax.vmap(lambda key: kernel.step(key, state, U)))
    return jax.tree.map(np.asarray, step(jax.random.split(jax.random.key(1), count)))


@pytest.mark.parametrize("kernel", [VisibleProposal, lambda coins: PooledProposal(coins, 2)], ids=["alone", "pool"])
def test_an_offer_without_a_finite_weight_is_refused_and_counted(kernel):
    states, found = infos(kernel(Coins(broken=True)))
    assert not np.any(np.all(states.position[:, :2] == 1, axis=1))
    share = 1 - found.finite.mean()
    offers = 1 if kernel is VisibleProposal else 2
    expected = 1 - 0.75**offers
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(found.finite))
    assert found.accepted[~found.finite].any() == (offers == 2), "a pool goes on with its other states"


@pytest.mark.parametrize("kernel", [VisibleProposal, lambda coins: PooledProposal(coins, 2)], ids=["alone", "pool"])
def test_finite_weights_are_not_counted(kernel):
    states, found = infos(kernel(Coins(broken=False)))
    assert found.finite.all()
    assert np.any(np.all(states.position[:, :2] == 1, axis=1))
