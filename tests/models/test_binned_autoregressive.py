"""Binned autoregressive models: exact partition, normalised density, draws that carry it; the published fault is found out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.bijections import Affine
from heatbath.models.binned_autoregressive import (
    TAIL,
    BinnedSize,
    Partition,
    binned_autoregressive,
    binned_vector,
)
from heatbath.models.flow import Flow

SMALL = BinnedSize(channels=16, layers=2, head_dim=8, bins=12, reach=2.0, waves=3)


def disturbed(model, key, size=0.3):
    """The model with all matrices and logits off their start."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(key, len(leaves))
    leaves = [
        leaf + size * jax.random.normal(k, leaf.shape, leaf.dtype) if leaf.ndim else leaf
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, leaves), rest)


class GappedPartition(Partition):
    """The published fault: centres spaced by 2 reach/(bins - 1) from edge to edge, noise of width 2 reach/bins around them."""

    def cell(self, y):
        return jnp.clip(jnp.round((y + self.reach) / self._spacing) + 1, 0, self.bins + 1).astype(jnp.int32)

    def log_density(self, y):
        centre = (self.cell(y) - 1) * self._spacing - self.reach
        return jnp.where(jnp.abs(y - centre) <= self.width / 2, -np.log(self.width), -jnp.inf)

    @property
    def _spacing(self):
        return 2 * self.reach / (self.bins - 1)


def mass_of_cells(partition, points=400_001):
    """Integral over each cell of the density given that cell, by the midpoint rule on the whole line."""
    reach = partition.reach + 20 * TAIL
    y = (np.arange(points) + 0.5) * (2 * reach / points) - reach
    density = np.exp(np.asarray(partition.log_density(jnp.asarray(y)))) * (2 * reach / points)
    return np.bincount(np.asarray(partition.cell(jnp.asarray(y))), density, minlength=partition.bins + 2)


def test_every_cell_has_mass_one():
    """The line must be cut without gap or overlap, tails included: any logits then give a normalised density."""
    np.testing.assert_allclose(mass_of_cells(Partition(1.7, 9)), 1.0, atol=2e-4)


def test_gapped_bins_are_found_out():
    """Negative control: with centres over reach/(bins - 1) and noise over reach/bins, the mass of the line is not that of the
    logits (the bins at the edges reach beyond the interval, and hairline gaps between bins have no density)."""
    partition = GappedPartition(1.7, 9)
    inside = np.linspace(-1.7, 1.7, 100_001)
    density = np.exp(np.asarray(partition.log_density(jnp.asarray(inside))))
    covered = (density > 0).mean()
    assert covered < 0.95
    uniform_mass = density.mean() * 3.4 / 9  # nine equal probabilities of 1/9
    assert abs(uniform_mass - 1) > 0.05
    exact = np.exp(np.asarray(Partition(1.7, 9).log_density(jnp.asarray(inside[:-1]))))
    np.testing.assert_allclose(exact.mean() * 3.4 / 9, 1.0, atol=1e-12)


def test_draws_of_a_cell_stay_in_it(key):
    """A draw that leaves its cell has the density of another one."""
    partition = Partition(1.7, 9)
    keys = jax.random.split(key, 500)
    for cell in (0, 1, 5, 9, 10):
        y = jax.vmap(lambda k, cell=cell: partition.place(k, jnp.asarray(cell)))(keys)
        assert (np.asarray(partition.cell(y)) == cell).all()
    # y holds the right tail: an exponential law with decay length TAIL (5 standard errors)
    assert abs(float(jnp.mean(y)) - 1.7 - TAIL) < 5 * TAIL / np.sqrt(500)


@pytest.fixture(scope="module")
def model():
    """Three atoms in another order, float64 network."""
    key = jax.random.key(2)
    data = 0.2 * np.random.default_rng(0).normal(size=(50, 3, 3))
    return disturbed(
        binned_autoregressive(key, n_atoms=3, data=data, size=SMALL, order=[1, 2, 0], dtype=jnp.float64), key
    )


def test_draws_carry_their_density(model):
    """Cached draws against one pass, single against batch; density outside the bins must be finite (support is all of R^d)."""
    draw = eqx.filter_jit(lambda model, keys: jax.vmap(model.sample_and_log_prob)(keys))
    x, log_prob = draw(model, jax.random.split(jax.random.key(1), 200))
    np.testing.assert_allclose(model.log_probs(x), log_prob, atol=1e-9)
    np.testing.assert_allclose(model.log_prob(x[0]), log_prob[0], atol=1e-9)
    assert np.std(log_prob) > 0.1
    assert (np.abs(np.asarray(x)) > SMALL.reach * float(model.scale.scale)).any()
    assert np.isfinite(model.log_prob(x[0] + 10.0))


def test_conditional_densities_integrate_to_one():
    """The density of the last coordinate given the others, by quadrature over cells and tails: the integral over it must be
    the density of the others alone, which the model without its last coordinate gives."""
    key = jax.random.key(7)
    vector = disturbed(binned_vector(key, 3, size=SMALL, dtype=jnp.float64), key)
    shorter = eqx.tree_at(lambda v: v.network.positions, vector, vector.network.positions[:1])
    points = 40_000
    last = (np.arange(points) + 0.5) * (14 / points) - 7
    rows = jnp.asarray(np.column_stack([np.full(points, 0.3), np.full(points, -1.1), last]))
    density = np.exp(np.asarray(vector.log_probs(rows)))
    np.testing.assert_allclose(density.sum() * 14 / points, np.exp(shorter.log_prob(rows[0, :2])), rtol=2e-3)


def test_an_untrained_model_is_a_rounded_normal(key):
    """It starts at the cell probabilities of N(0, 1)."""
    vector = binned_vector(key, 4, size=BinnedSize(channels=8, layers=1, head_dim=4, bins=400, reach=4.0))
    y = jnp.asarray([0.3, -0.7, 1.1, 0.0])
    normal = -0.5 * np.sum(np.asarray(y) ** 2) - 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(vector.log_prob(y), normal, atol=0.05)


def test_other_coordinates_by_a_flow_on_top(key):
    """Laid under a bijection the vector model serves any coordinates."""
    vector = binned_vector(key, 3, size=SMALL)
    flow = Flow(vector, Affine(jnp.array([1.0, 2.0, 3.0]), jnp.array(0.5)))
    x, log_prob = flow.sample_and_log_prob(key)
    np.testing.assert_allclose(flow.log_prob(x), log_prob, atol=1e-5)


def test_impossible_arguments_are_refused(key):
    """No bins, no reach or one coordinate cannot be a model."""
    with pytest.raises(InvalidArgumentError, match="reach must be positive"):
        Partition(0.0, 4)
    with pytest.raises(InvalidArgumentError, match="at least one bin"):
        Partition(1.0, 0)
    with pytest.raises(InvalidArgumentError, match="two coordinates"):
        binned_vector(key, 1, size=SMALL)
