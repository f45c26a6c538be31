"""The protocol of distributions: normalised, and the density is that of the draws.

A new distribution is tested by one more line in ``CASES``. Normalisation and moments are integrals over a grid in one or two
dimensions; draws are compared with them by z-tests at 4.5 standard errors (false-alarm rate 7e-6 each, about 60 are made).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.base import Distribution
from heatbath.models.binned_autoregressive import BinnedAutoregressive, BinnedSize, binned_vector
from heatbath.models.continuous_flow import continuous_flow
from heatbath.models.coupling import coupling_flow
from heatbath.models.factor_analysers import FactorAnalysers
from heatbath.models.gaussian import CorrelatedNormal, Mixture, Normal, Uniform
from heatbath.models.nade import MixtureHead, deep_nade, ensemble_of_orders, made, rnade
from heatbath.models.nets.velocity import Velocity
from heatbath.models.steerable_flow import Thermostat
from heatbath.models.tempered_spline import TemperedSpline
from heatbath.models.transformer_flow import TransformerFlowSize, vector_flow
from heatbath.models.volume_preserving import steerable_flow

SIGMAS = 4.5
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])

#: name -> (distribution, box of the quadrature)
CASES = {
    "normal-1d": (Normal(jnp.array([0.7]), 1.3), 10.0),
    "normal": (Normal(jnp.array([0.7, -0.4]), jnp.array([0.5, 1.3])), 9.0),
    "correlated": (CorrelatedNormal.from_covariance([0.5, -0.2], COVARIANCE), 9.0),
    "uniform": (Uniform(jnp.array([-1.0, 0.5]), jnp.array([2.0, 3.0])), 4.0),
    "torus": (Uniform.on_torus(2), 4.0),
    "mixture": (
        Mixture.stacked([1.0, 3.0], [Normal(jnp.array([-1.5, 0.0]), 0.4), Normal(jnp.array([1.0, 1.0]), 0.8)]),
        9.0,
    ),
    "mixture-of-correlated": (
        Mixture.stacked(
            [0.6, 0.4],
            [
                CorrelatedNormal.from_covariance([0.0, 1.0], COVARIANCE),
                CorrelatedNormal.from_covariance([2.0, 0], np.eye(2)),
            ],
        ),
        10.0,
    ),
}


class Bent(Velocity):
    """A fixed nonlinear field in the plane, for continuous flows."""

    def __call__(self, x, t):
        return jnp.stack([0.4 * x[0] + jnp.sin(x[1] + t), 0.3 * jnp.tanh(x[0]) + 0.2 * x[1]])


#: Models whose log densities are sums over many terms, kept in the default floating type whatever the type of x.
WIDE = {"continuous-flow", "transformer-flow", "binned-autoregressive", "steerable-flow", "tempered-spline"}
CASES["continuous-flow"] = (continuous_flow(Bent(), (2,), steps=4, dtype="float64", tolerance=1e-12), 12.0)


def off_start(model, size: float):
    """A model whose matrices have left their start, where most flows are normals."""
    key = jax.random.key(11)
    return jax.tree.map(
        lambda leaf: leaf + size * jax.random.normal(key, leaf.shape, leaf.dtype)
        if eqx.is_inexact_array(leaf) and leaf.ndim > 1
        else leaf,
        model,
    )


_KEY = jax.random.key(5)
_FLOW = TransformerFlowSize(channels=8, blocks=3, layers=1, head_dim=4)
_BINS = BinnedSize(channels=8, layers=1, head_dim=4, bins=10, reach=2.5, waves=2)
CASES["transformer-flow"] = (
    off_start(vector_flow(_KEY, tokens=2, channels=1, size=_FLOW, dtype=jnp.float64), 0.15),
    12.0,
)
CASES["binned-autoregressive"] = (off_start(binned_vector(_KEY, 2, size=_BINS, dtype=jnp.float64), 0.3), 6.0)
_STEERABLE = steerable_flow(_KEY, 2, auxiliaries=0, layers=2, width=8, depth=1, gain=0.5, dtype=jnp.float64)
CASES["steerable-flow"] = (_STEERABLE.at(0.6), 14.0)
_LOGITS = 0.5 * jax.random.normal(_KEY, (4, 2))
CASES["tempered-spline"] = (TemperedSpline(Thermostat(1.0), _LOGITS, -_LOGITS, 0.3 * _LOGITS).at(0.7), float(jnp.pi))
_LAW = MixtureHead(2)
_ORDERLESS = off_start(deep_nade(_KEY, 2, (6,), head=_LAW, dtype=jnp.float64), 0.15)
CASES["rnade"] = (off_start(rnade(_KEY, 2, 6, components=2, dtype=jnp.float64), 0.15), 12.0)
CASES["orderless-nade"] = (_ORDERLESS.in_order([1, 0]), 12.0)
CASES["ensemble-of-orders"] = (ensemble_of_orders(jax.random.key(2), _ORDERLESS, 3), 12.0)
CASES["made"] = (off_start(made(_KEY, 2, (6,), head=_LAW, dtype=jnp.float64), 0.15), 12.0)
_LOADINGS = jnp.asarray([[[1.0], [0.5]], [[-0.3], [0.8]]])
CASES["factor-analysers"] = (
    FactorAnalysers(jnp.array([0.2, -0.3]), jnp.array([[-1.0, 0.5], [1.5, 0.0]]), _LOADINGS, jnp.full((2, 2), -0.5)),
    10.0,
)
WIDE |= {"rnade", "orderless-nade", "ensemble-of-orders", "made", "factor-analysers"}
#: Densities with steps or kinks: they cost the grid a fraction of a cell at each.
SHARP = (Uniform, BinnedAutoregressive, TemperedSpline)


def coupled(gain: float, **arguments):
    """A coupling flow off its start, in float64. Strongly bent ones are integrated on finer grids by its own tests."""
    flow = coupling_flow(_KEY, 2, layers=3, width=16, gain=gain, **arguments)
    return jax.tree.map(lambda leaf: leaf.astype(float), flow)


CASES["affine-coupling-flow"] = (coupled(0.3, bins=0), 20.0)
CASES["spline-coupling-flow"] = (coupled(0.2, bins=5), 9.0)
CASES["circular-coupling-flow"] = (coupled(0.4, bins=5, circular=True), float(jnp.pi))
WIDE |= {"affine-coupling-flow", "spline-coupling-flow", "circular-coupling-flow"}


def features(x):
    """Moments, correlation and an indicator."""
    return jnp.concatenate([x, x**2, jnp.array([jnp.prod(x), jnp.sum(x) > 0.5])])


def check_distribution(distribution: Distribution, reach: float, points: int = 601):
    """The density integrates to one, and integrals of functions against it are their means over draws."""
    x, log_prob = jax.jit(jax.vmap(distribution.sample_and_log_prob))(jax.random.split(jax.random.key(1), 40_000))
    dimension = x.shape[1]
    axis = (np.arange(points) + 0.5) * (2 * reach / points) - reach
    grid = jnp.asarray(np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), -1).reshape(-1, dimension))
    density = np.exp(np.asarray(jax.jit(jax.vmap(distribution.log_prob))(grid))) * (2 * reach / points) ** dimension
    tolerance = 0.02 if isinstance(distribution, SHARP) else 1e-6
    assert abs(density.sum() - 1) < tolerance, f"the density integrates to {density.sum()}"
    exact = density @ np.asarray(jax.vmap(features)(grid))
    values = np.asarray(jax.vmap(features)(x))
    error = values.std(axis=0) / np.sqrt(len(values)) + tolerance
    z = (values.mean(axis=0) - exact) / error
    assert (np.abs(z) < SIGMAS).all(), f"draws and density disagree: {z.round(1)}"
    np.testing.assert_allclose(jax.vmap(distribution.log_prob)(x), log_prob, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_density_and_draws_agree(name):
    """A wrong normalisation or a draw from another law would bias every weight made with this distribution."""
    check_distribution(*CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_log_prob_follows_the_type_of_x(name):
    """float32 walkers must not be promoted to float64 by a start distribution."""
    distribution = CASES[name][0]
    x = distribution.sample(jax.random.key(0)).astype(jnp.float32)
    expected = jnp.result_type(float) if name in WIDE else jnp.float32
    assert distribution.log_prob(x).dtype == expected


class ForgottenNormalisation(Normal):
    """A normal that leaves out log scale."""

    def log_prob(self, x):
        return super().log_prob(x) + jnp.sum(jnp.log(self.scale))


class WrongWidth(Normal):
    """A normal that draws with another width than it says."""

    def sample(self, key):
        return self.mean + 1.1 * self.scale * jax.random.normal(key, self.mean.shape)


@pytest.mark.parametrize("kind", [ForgottenNormalisation, WrongWidth])
def test_the_suite_rejects_wrong_distributions(kind):
    """Negative controls: a lost constant and a draw of the wrong width."""
    with pytest.raises(AssertionError):
        check_distribution(kind(jnp.array([0.7, -0.4]), jnp.array([0.5, 1.3])), 9.0)


def test_impossible_parameters_are_refused():
    """A zero scale or an inverted box would give NaN much later."""
    with pytest.raises(InvalidArgumentError, match="positive"):
        Normal(jnp.zeros(2), 0.0)
    with pytest.raises(InvalidArgumentError, match="above its low"):
        Uniform(jnp.ones(2), jnp.zeros(2))
    with pytest.raises(InvalidArgumentError, match="one shape"):
        Uniform(jnp.ones(2), jnp.ones(3))
    with pytest.raises(InvalidArgumentError, match="positive definite"):
        CorrelatedNormal.from_covariance([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InvalidArgumentError, match="one per component"):
        Mixture.stacked([1.0], [Normal(jnp.zeros(1)), Normal(jnp.ones(1))])
