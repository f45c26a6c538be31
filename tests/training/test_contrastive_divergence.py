"""Learning rules of Boltzmann machines: the unbiased one has the exact gradient, CD-1 has not, and the persistent chains move."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.block_gibbs import BlockGibbs
from heatbath.kernels.combinators import Compose
from heatbath.kernels.coupled import CommonRandomNumbers
from heatbath.kernels.visible_proposal import PooledProposal, VisibleProposal
from heatbath.models.nade import BernoulliMixture
from heatbath.targets.boltzmann_machines import boltzmann_machine
from heatbath.training import fit
from heatbath.training.objectives.contrastive_divergence import (
    ContrastiveDivergence,
    PersistentContrastiveDivergence,
    UnbiasedContrastiveDivergence,
    persistent_machine,
    persistent_optimiser,
)

DATA = jnp.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]])


MACHINE = boltzmann_machine((3, 2, 2), scale=1.2, seed=3)


RESTRICTED = boltzmann_machine((3, 3), scale=1.2, seed=4)


def exact(machine):
    """The gradient of -mean log p(v) by enumeration."""
    gradient = jax.jit(jax.grad(lambda m: -jnp.mean(jax.vmap(m.log_likelihood)(DATA))))(machine)
    return flat(gradient)


def flat(gradient):
    return jnp.concatenate([leaf.reshape(-1) for leaf in (*gradient.weights, *gradient.biases)])


def z_of(objective, count=1500, machine=MACHINE):
    """Largest distance of the mean gradient from the exact one, in standard errors."""

    @jax.jit
    def one(key):
        return flat(jax.grad(lambda m: objective(key, m, DATA)[0])(machine))

    found = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(0), count), batch_size=500))
    spread = found.std(axis=0, ddof=1) / np.sqrt(count)
    return np.abs((found.mean(axis=0) - exact(machine)) / spread).max()


@pytest.mark.parametrize("start", ["mode", "data"])
def test_unbiased_gradient_is_the_exact_one(start):
    """Both phases must be unbiased in a machine with two hidden layers, from any start: |z| < 4.5 for each of 17 components."""
    assert z_of(UnbiasedContrastiveDivergence(cap=1000, start=start)) < 4.5


def test_restricted_machines_are_unbiased_when_both_chains_are_offered_visible_units():
    """Exact clamped means, hidden units summed over, and pairs that meet through offers: |z| < 4.5 for each of 15 components."""
    offered = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[1.0, -0.5, 0.3], [-1.0, 0.2, 0.8]]))
    coupling = CommonRandomNumbers(Compose((VisibleProposal(offered), BlockGibbs())))
    assert z_of(UnbiasedContrastiveDivergence(coupling, cap=1000, start="data"), machine=RESTRICTED) < 4.5


@pytest.mark.parametrize("kind", ["alone", "pool"])
def test_deep_machines_are_unbiased_when_their_chains_are_offered_states(kind):
    """Offers of visible and of deep units, with few free pairs that may share a pool: |z| < 4.5 for each of 17 components."""
    offered = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[1.0, -0.5, 0.3], [-1.0, 0.2, 0.8]]))
    offer = VisibleProposal(offered) if kind == "alone" else PooledProposal(offered, 4)
    rule = UnbiasedContrastiveDivergence(
        CommonRandomNumbers(Compose((offer, BlockGibbs("sequential")))),
        k=1,
        m=2,
        cap=1000,
        pairs=7,
        clamped_coupling=CommonRandomNumbers(BlockGibbs("sequential")),
        clamped_window=(0, 1),
    )
    assert z_of(rule) < 4.5


def test_impossible_rules_are_refused():
    """A cap before m would cut every pair off in silence."""
    with pytest.raises(InvalidArgumentError, match="cap"):
        UnbiasedContrastiveDivergence(k=3, m=100)
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        ContrastiveDivergence(0)


def test_contrastive_divergence_is_biased():
    """Negative control: the same test must see the bias of CD-1."""
    assert z_of(ContrastiveDivergence(1)) > 10


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "unbiased"])
def test_learning_lowers_the_exact_divergence(persistent):
    """A sign error, particles that stand still or an objective that the one loop cannot run would show."""
    before = MACHINE
    loss = jax.jit(lambda m: -jnp.mean(jax.vmap(m.log_likelihood)(DATA)))
    inner = optax.adam(0.03)
    if persistent:
        model, objective = persistent_machine(jax.random.key(1), before, 50), PersistentContrastiveDivergence()
        optimiser = persistent_optimiser(inner)
    else:
        model, objective, optimiser = before, UnbiasedContrastiveDivergence(), inner
    found = fit(
        jax.random.key(2),
        model,
        objective,
        jnp.tile(DATA, (10, 1)),
        steps=150,
        batch_size=40,
        optimiser=optimiser,
        ema=0.0,
    )
    learned = found.latest.machine if persistent else found.latest
    assert loss(learned) < loss(before) - 0.2
    np.testing.assert_array_equal(learned.offsets.layers[0], before.offsets.layers[0])
    if persistent:
        particles = np.asarray(found.latest.particles)
        assert set(np.unique(particles)) <= {0.0, 1.0}
        assert (particles != np.asarray(model.particles)).any()
    else:
        assert (found.history["truncated"] <= 0.05).all()
        assert eqx.tree_equal(jax.tree.structure(learned), jax.tree.structure(before))
