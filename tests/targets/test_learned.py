"""A learned density as a target: energies are minus log densities, and what is known at beta 1 is not claimed elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, UnknownTruthError
from heatbath.models.gaussian import Normal
from heatbath.models.nade import BernoulliMixture
from heatbath.spaces import Discrete, Euclidean
from heatbath.targets.learned import LearnedDensity


def test_energy_log_z_and_draws_belong_together():
    """A sign or a constant would make every weight of its draws wrong."""
    model = BernoulliMixture(jnp.array([0.3, -0.2]), jnp.array([[1.0, -1.0, 0.5], [0.0, 2.0, -1.0]]))
    target = LearnedDensity(model, discrete=True)
    assert target.space == Discrete((3,), 2)
    every = ((np.arange(8)[:, None] >> np.arange(3)) & 1).astype(np.int32)
    energies = jax.vmap(target.energy)(jnp.asarray(every))
    assert float(jax.nn.logsumexp(-energies)) == pytest.approx(target.log_z(1.0), abs=1e-6)
    assert target.sample(jax.random.key(0), 1.0).shape == (3,)
    assert LearnedDensity(Normal(jnp.zeros(2)), discrete=False).space == Euclidean((2,))


def test_other_temperatures_and_shapes_are_refused():
    """p^beta has another normalisation and other draws."""
    target = LearnedDensity(Normal(jnp.zeros(2)), discrete=False)
    for ask in (lambda: target.log_z(0.5), lambda: target.sample(jax.random.key(0), 2.0)):
        with pytest.raises(UnknownTruthError, match="beta = 1"):
            ask()
    with pytest.raises(InvalidArgumentError, match="vectors"):
        LearnedDensity(Normal(jnp.zeros((2, 2))), discrete=False)
