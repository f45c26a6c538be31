"""The loss for all orders: its mean over masks is the mean over all D! orders, and training lowers it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.models.nade import deep_nade
from heatbath.training import AdamW, Constant, fit
from heatbath.training.objectives.missing_dimensions import MissingDimensions, missing_dimension_loss, random_masks


def stirred_model():
    model = deep_nade(jax.random.key(0), 4, (6, 5), dtype=jnp.float64)
    return jax.tree.map(
        lambda a: a + 0.6 * jnp.cos(7.0 * jnp.arange(a.size).reshape(a.shape)) if a.dtype == float else a, model
    )


def masks_with_probability(dimension):
    """Every mask but the full one, with the probability that a uniform order and a uniform start show just these."""
    for mask in itertools.product((0, 1), repeat=dimension):
        if sum(mask) < dimension:
            yield mask, 1 / (dimension * math.comb(dimension, sum(mask)))


def test_mean_over_masks_is_the_mean_over_all_orders():
    """Off by one in D/(D - d), or the empty mask forgotten, and the loss is that of no distribution."""
    model, x = stirred_model(), jnp.array([1, 0, 0, 1])
    orders = jnp.asarray(list(itertools.permutations(range(4))))
    by_order = np.asarray(jax.vmap(lambda o: model.__class__(model.network, model.head, o).log_prob(x))(orders))
    assert by_order.std() > 0.1
    masks, chances = zip(*masks_with_probability(4), strict=True)
    losses = np.asarray(jax.vmap(lambda m: missing_dimension_loss(model, x, m))(jnp.asarray(masks, float)))
    chances = np.array(chances)
    np.testing.assert_allclose(chances.sum(), 1)
    np.testing.assert_allclose(chances @ losses, -by_order.mean(), rtol=1e-9)
    # Negative control: the factor of a d that counts from one.
    seen = np.array(masks).sum(axis=1)
    wrong = losses * (4 - seen) / (4 - seen + 1)
    assert abs(chances @ wrong + by_order.mean()) > 0.1


def test_drawn_masks_have_these_probabilities():
    """The sampled loss is unbiased only if masks come with their probabilities: z-tests at 4.5 standard errors."""
    draws = np.asarray(jax.vmap(lambda k: random_masks(k, 5, 4))(jax.random.split(jax.random.key(1), 8000)))
    numbers = (draws.reshape(-1, 4) @ np.array([8, 4, 2, 1])).astype(int)
    counts = np.bincount(numbers, minlength=16) / len(numbers)
    assert counts[15] == 0
    for mask, chance in masks_with_probability(4):
        found = counts[int(np.dot(mask, [8, 4, 2, 1]))]
        assert abs(found - chance) < 4.5 * math.sqrt(chance * (1 - chance) / len(numbers)), mask


def test_training_brings_every_order_to_the_data():
    """One network trained over all orders must give the data's law in any of them."""
    rng = np.random.default_rng(0)
    first = rng.random(2000) < 0.3
    data = np.column_stack([first, first ^ (rng.random(2000) < 0.1), rng.random(2000) < 0.6]).astype(np.int32)
    model = deep_nade(jax.random.key(0), 3, (16,))
    found = fit(
        jax.random.key(1),
        model,
        MissingDimensions(),
        data,
        steps=400,
        batch_size=200,
        optimiser=AdamW(Constant(0.02)),
        ema=0.9,
    )
    states = jnp.asarray(list(itertools.product((0, 1), repeat=3)))
    exact = np.bincount(data @ [4, 2, 1], minlength=8) / 2000
    for order in ((0, 1, 2), (2, 1, 0)):
        log_q = np.asarray(found.model.in_order(order).log_probs(states))
        assert np.sum(exact * (np.log(exact) - log_q)) < 0.01
