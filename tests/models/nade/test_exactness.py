"""The NADE family against enumeration: normalised, drawn as said, one law whichever way it is computed."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade import (
    BernoulliMixture,
    Conditional,
    Convolution,
    convolutional_nade,
    deep_nade,
    ensemble_of_orders,
    made,
    nade,
    rnade,
)
from heatbath.models.nade.masked_networks import MaskedNetwork
from heatbath.models.nade.orderless import OrderlessNADE

WIDE = jnp.float64


def stirred(model, size=0.7, seed=3):
    """The model with all of its weights far from their start, where most conditionals are fair coins."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [leaf + size * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, moved), rest)


def every(dimension):
    """All 2^d binary vectors."""
    return jnp.asarray(list(itertools.product((0, 1), repeat=dimension)))


def conv(key):
    layers = (Convolution(3, 2, "valid"), Convolution(2, 2, "valid"), Convolution(2, 2, "full"))
    return convolutional_nade(key, (3, 4), layers, (5,), dtype=WIDE)


KEY = jax.random.key(8)
ORDER = (3, 0, 4, 1, 5, 2)
BINARY = {
    "nade": lambda: nade(KEY, 6, 5, order=ORDER, dtype=WIDE),
    "nade-12": lambda: nade(KEY, 12, 4, dtype=WIDE),
    "deep-one": lambda: deep_nade(KEY, 6, (7,), dtype=WIDE).in_order(ORDER),
    "deep-three": lambda: deep_nade(KEY, 6, (7, 6, 5), dtype=WIDE).in_order(ORDER),
    "eonade": lambda: ensemble_of_orders(KEY, stirred(deep_nade(KEY, 6, (7, 6), dtype=WIDE)), 5, chunk=2),
    "conv-3x4": lambda: conv(KEY),
    "made": lambda: made(KEY, 6, (9, 8), order=ORDER, dtype=WIDE),
    "mixture-of-coins": lambda: BernoulliMixture(jnp.array([0.1, -0.4, 0.3]), jax.random.normal(KEY, (3, 6))),
}


@functools.cache
def model_called(name):
    return stirred(BINARY[name](), 0.4 if name == "eonade" else 0.7)


@functools.cache
def table_of(name):
    """All vectors and their log probabilities."""
    model = model_called(name)
    xs = every(12 if name in ("conv-3x4", "nade-12") else 6)
    return xs, np.asarray(jax.jit(lambda m, xs: m.log_probs(xs))(model, xs))


@pytest.mark.parametrize("name", BINARY)
def test_probabilities_of_all_vectors_sum_to_one(name):
    """A conditional that sees its own coordinate, or a lost constant, would show here."""
    log_probs = table_of(name)[1]
    assert abs(np.exp(log_probs).sum() - 1) < 1e-10
    assert log_probs.std() > 0.3, "all vectors are equally likely, so the check says nothing"


@pytest.mark.parametrize("name", ["nade", "deep-three", "eonade", "made", "mixture-of-coins"])
def test_draws_have_the_stated_frequencies(name):
    """Draws of another law than the density's would bias every sample; chi-square, false alarm 1e-4 each."""
    model, (xs, log_probs) = model_called(name), table_of(name)
    draws, stated = jax.jit(jax.vmap(model.sample_and_log_prob))(jax.random.split(jax.random.key(1), 20_000))
    number = np.asarray(draws) @ (2 ** np.arange(5, -1, -1))
    np.testing.assert_allclose(stated, log_probs[number], rtol=1e-9)
    expected = 20_000 * np.exp(log_probs)
    rare = expected < 8  # pooled into one cell
    seen = np.bincount(number, minlength=len(xs))
    seen, expected = (np.append(counts[~rare], counts[rare].sum()) for counts in (seen, expected))
    keep = expected > 0
    assert scipy.stats.chisquare(seen[keep], expected[keep] * seen.sum() / expected.sum()).pvalue > 1e-4


def test_a_conditional_that_sees_itself_is_found_out():
    """Negative control: without the masks of MADE's layers, the probabilities do not sum to one."""
    model = model_called("made")
    open_mask = eqx.tree_at(lambda m: m.masks, model, tuple(jnp.ones_like(mask) for mask in model.masks))
    assert abs(np.exp(np.asarray(open_mask.log_probs(every(6)))).sum() - 1) > 0.01


def test_direct_connections_lead_to_later_coordinates():
    """Without hidden units' help MADE must still hold every autoregressive logistic regression, in its own order."""
    model = made(KEY, 6, (3,), order=ORDER, dtype=WIDE)
    model = eqx.tree_at(lambda m: m.weights, model, tuple(0 * weight for weight in model.weights))
    model = eqx.tree_at(lambda m: m.direct, model, jax.random.normal(KEY, model.direct.shape, WIDE))
    log_probs = np.asarray(jax.jit(lambda m, xs: m.log_probs(xs))(model, every(6)))
    assert abs(np.exp(log_probs).sum() - 1) < 1e-12
    assert log_probs.std() > 0.3, "direct connections do nothing"


@pytest.mark.parametrize("name", ["nade", "deep-three", "made"])
def test_later_coordinates_are_not_seen(name):
    """d log p(x_o_t | before)/d x_o_j must vanish exactly for j >= t, apart from the coordinate's own place in the head."""
    model, order = model_called(name), np.asarray(ORDER)

    def parameters(x):
        def look(memory, site):
            return model.reveal(memory, site, x[site]), model.parameters(memory, site)[0]

        return jax.lax.scan(look, model.begin(), model.order)[1]

    points = jax.random.normal(KEY, (20, 6))  # some where rectifiers are open
    jacobian = np.abs(np.asarray(jax.jit(jax.vmap(jax.jacobian(parameters)))(points)))[:, :, order].sum(axis=0)
    assert (np.triu(jacobian) == 0).all()
    assert (jacobian[-1, :-1] > 1e-3).all()


@pytest.mark.parametrize("name", ["nade", "made"])
def test_one_pass_equals_one_coordinate_at_a_time(name):
    """The fast way to all conditionals and the slow way that draws use must be one law."""
    model, (xs, log_probs) = model_called(name), table_of(name)

    def slow(x):
        return model.walk(KEY, x, jnp.ones(6, bool))[2]

    np.testing.assert_allclose(jax.jit(jax.vmap(slow))(xs), log_probs, rtol=1e-10)


@pytest.mark.parametrize("name", ["deep-three", "conv-3x4"])
def test_incremental_outputs_are_those_of_the_full_network(name):
    """Revealing one coordinate after the other must give what the network says of the mask."""
    network = model_called(name).network
    assert isinstance(network, MaskedNetwork)
    size = network.dimension
    x, sites = jax.random.bernoulli(KEY, 0.5, (size,)).astype(float), jnp.arange(size // 2) * 2
    memory, mask = network.begin(), jnp.zeros(size)
    for site in sites:
        memory, mask = network.reveal(memory, site, x[site]), mask.at[site].set(1)
    full = network(x, mask)
    for site in (0, 1, size - 1):
        np.testing.assert_allclose(network.outputs_at(memory, jnp.asarray(site)), full[site], rtol=1e-10)
    np.testing.assert_array_equal(network(jnp.where(mask > 0, x, 9.0), mask), full)


def test_an_ensemble_is_the_mean_of_probabilities():
    """Mean of log probabilities (a common mistake) is not normalised; the mixture is never below it."""
    model, (xs, log_probs) = model_called("eonade"), table_of("eonade")
    by_order = np.asarray(model.log_probs_by_order(xs))
    np.testing.assert_allclose(log_probs, np.log(np.mean(np.exp(by_order), axis=0)), rtol=1e-9)
    np.testing.assert_allclose(by_order[2], jax.vmap(model.member(2).log_prob)(xs), rtol=1e-9)
    assert (log_probs >= by_order.mean(axis=0)).all()
    assert np.exp(by_order.mean(axis=0)).sum() < 0.999
    assert np.abs(by_order[0] - by_order[1]).max() > 0.1, "all orders agree, so the check says nothing"


# Given coordinates ----------------------------------------------------------------------------------------------------
OBSERVED = np.array([False, True, False, False, True, True])
GIVEN = jnp.array([0, 1, 0, 0, 0, 1])


def agreeing(xs):
    return (np.asarray(xs)[:, OBSERVED] == np.asarray(GIVEN)[OBSERVED]).all(axis=1)


@pytest.mark.parametrize("name", ["nade", "eonade", "made"])
def test_draws_with_given_coordinates_are_properly_weighted(name):
    """Weighted means must be those of p(x_A | x_B), and the mean weight p(x_B): z-tests at 4.5 standard errors."""
    model, (xs, log_probs) = model_called(name), table_of(name)
    keys = jax.random.split(jax.random.key(2), 20_000)
    draws, log_weights = jax.jit(jax.vmap(lambda k: model.draw_given(k, GIVEN, jnp.asarray(OBSERVED))))(keys)
    draws, weights = np.asarray(draws), np.exp(np.asarray(log_weights))
    assert agreeing(draws).all()
    mass = np.where(agreeing(xs), np.exp(log_probs), 0.0)
    values = np.column_stack([np.ones(len(draws)), draws[:, ~OBSERVED], draws[:, 0] * draws[:, 3]])
    exact = mass @ np.column_stack([np.ones(len(xs)), np.asarray(xs)[:, ~OBSERVED], np.asarray(xs)[:, 0] * xs[:, 3]])
    products = weights[:, None] * values
    z = (products.mean(axis=0) - exact) / (products.std(axis=0) / np.sqrt(len(draws)))
    assert (np.abs(z) < 4.5).all(), z


def test_an_order_that_begins_with_what_is_given_makes_the_conditional_exact():
    """p(x_A | x_B) = p(x)/p(x_B) by enumeration in the same order; other vectors have probability zero."""
    model, xs = model_called("deep-three"), every(6)
    assert isinstance(model, OrderlessNADE)
    conditional = model.given(KEY, GIVEN, jnp.asarray(OBSERVED))
    assert isinstance(conditional, Conditional)
    assert set(np.asarray(conditional.model.order[:3])) == {1, 4, 5}
    joint = np.asarray(jax.vmap(conditional.model.log_prob)(xs))
    inside = agreeing(xs)
    exact = joint[inside] - np.log(np.exp(joint[inside]).sum())
    found = np.asarray(jax.vmap(conditional.log_prob)(xs))
    np.testing.assert_allclose(found[inside], exact, rtol=1e-9)
    assert np.isneginf(found[~inside]).all()
    x, log_prob = conditional.sample_and_log_prob(jax.random.key(5))
    np.testing.assert_allclose(log_prob, conditional.log_prob(x), rtol=1e-9)


# Real values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_real_valued_density_integrates_to_one(kind):
    """A component's scale left out of its density would show; the order is 1, 0, so that orders are tried too."""
    model = stirred(rnade(KEY, 2, 4, components=3, kind=kind, order=(1, 0), dtype=WIDE), 0.1)
    edges = np.linspace(-25, 25, 801)
    grid = jnp.asarray(np.stack(np.meshgrid(edges, edges, indexing="ij"), -1).reshape(-1, 2))
    density = np.exp(np.asarray(jax.jit(lambda m, g: m.log_probs(g))(model, grid))).reshape(801, 801)
    mass = scipy.integrate.trapezoid(scipy.integrate.trapezoid(density, edges), edges)
    # The trapezoidal rule is exact to rounding for normals; Laplace laws have kinks inside cells.
    assert abs(mass - 1) < (1e-6 if kind == "normal" else 1e-3)
    one = np.exp(np.asarray(jax.vmap(lambda v: model.head.log_prob(jnp.arange(9.0) / 9, v))(jnp.asarray(edges))))
    assert abs(scipy.integrate.trapezoid(one, edges) - 1) < 1e-3


def test_a_datum_of_an_impossible_order_is_refused():
    """An order that names a coordinate twice would leave another one out of the density."""
    with pytest.raises(InvalidArgumentError, match="once"):
        nade(KEY, 3, 2, order=(0, 1, 1))
    with pytest.raises(InvalidArgumentError, match="at least one order"):
        ensemble_of_orders(KEY, deep_nade(KEY, 3, (2,)), 0)
    with pytest.raises(InvalidArgumentError, match="shrink"):
        convolutional_nade(KEY, (3, 3), (Convolution(1, 4, "valid"),))
    with pytest.raises(InvalidArgumentError, match=r"\(0, 1\)"):
        nade(KEY, 2, 2, marginals=(0.5, 1.0))
