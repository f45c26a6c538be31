"""Flow-assisted replica exchange: detailed balance against quadrature, and variants that must fail."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import RandomWalk
from heatbath.models.bijections import Affine, Bijection
from heatbath.models.steerable_flow import SteerableFlow, ThermalBase, Thermostat
from heatbath.samplers.exchange import PlainExchange, partners, swap
from heatbath.samplers.flow_exchange import FlowSwap, flow_exchange
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.state import ThermoState
from heatbath.targets.toy import DoubleWell, HarmonicOscillators

TARGET = DoubleWell(barrier=3.0, tilt=0.4)
BETAS = (1.5, 0.75, 0.375)
LADDERS, ROUNDS = 2000, 30
EDGES = np.array([-6, -1.3, -1.1, -0.95, -0.8, -0.6, -0.3, 0.0, 0.3, 0.6, 0.8, 0.95, 1.1, 1.3, 6])


class Swirl(Bijection):
    """Shears of (x, y) that follow the wells: nonlinear, of determinant one."""

    scale: float = 1.0

    def forward(self, z):
        x, y = z[0], z[1] + 0.8 * jnp.sin(1.5 * z[0])
        x = self.scale * (x + 0.7 * jnp.tanh(2 * y))
        return {"x": x[None], "y": y[None]}, jnp.log(self.scale)

    def inverse(self, x):
        y = x["y"][0]
        first = x["x"][0] / self.scale - 0.7 * jnp.tanh(2 * y)
        return jnp.stack([first, y - 0.8 * jnp.sin(1.5 * first)]), -jnp.log(self.scale)


def swirl() -> SteerableFlow:
    base = ThermalBase(thermostat=Thermostat(0.75), linear=2)
    return SteerableFlow(base=base, bijection=Swirl(1.1), momenta_count=1)  # pyright: ignore


@functools.cache
def energies() -> tuple[np.ndarray, np.ndarray]:
    """A fine grid of x and the energies there."""
    grid = np.linspace(-6, 6, 240_001)
    return grid, np.asarray(jax.jit(jax.vmap(TARGET.energy))(jnp.asarray(grid)[:, None]))


@functools.cache
def starts() -> np.ndarray:
    """Independent exact draws per rung: nothing has to converge, and what a wrong move does to them is its own doing."""
    grid, values = energies()
    uniform, rungs = np.random.default_rng(9).random((len(BETAS), LADDERS)), []
    for beta, row in zip(BETAS, uniform, strict=True):
        cumulative = np.cumsum(np.exp(-beta * values))
        rungs.append(np.interp(row, cumulative / cumulative[-1], grid))
    return np.stack(rungs, axis=1)[:, :, None]


def sampler(**options) -> ReplicaExchangeSampler:
    """Many short ladders whose local moves are too small to repair what the moves under test do."""
    settings = {"ladders": LADDERS, "draws": 1, "thin": ROUNDS, "draws_per_chunk": 1, "dtype": "float64"}
    flow = options.pop("flow", None) or swirl()
    kernel = RandomWalk(jnp.asarray(0.02))
    return flow_exchange(
        TARGET, ThermoState(BETAS[0]), flow, kernel, BETAS, initial=starts(), **{**settings, **options}
    )


def moved(made: ReplicaExchangeSampler):
    """The carry after all rounds."""
    return made.advance(made.begin(jax.random.key(3)))[0]


def p_values(carry) -> list[float]:
    """Per rung, the p value of chi^2 of the histogram over (independent) ladders against quadrature."""
    last, found = np.asarray(carry.ladders.positions)[:, :, 0], []
    grid, values = energies()
    for rung, beta in enumerate(BETAS):
        counts, _ = np.histogram(last[:, rung], EDGES)
        shares, _ = np.histogram(grid, EDGES, weights=np.exp(-beta * values))
        expected = shares / shares.sum() * counts.sum()
        assert counts.sum() == LADDERS
        assert (expected > 5).all()
        found.append(float(scipy.stats.chisquare(counts, expected, sum_check=False).pvalue))
    return found


@pytest.mark.parametrize(
    "moves",
    [
        pytest.param({"jumps": False}, marks=pytest.mark.slow),
        pytest.param({"swaps": False}, marks=pytest.mark.slow),
        {},
    ],
    ids=["swaps", "jumps", "both"],
)
def test_rungs_keep_their_laws(moves):
    """A lost Jacobian, wrong momenta or the wrong temperature on either side of a swap would shift the histograms."""
    carry = moved(sampler(**moves))
    assert min(p_values(carry)) > 0.01
    ladders = carry.ladders
    if moves.get("swaps", True):
        assert 0.05 < float(ladders.swap_acceptance.mean()) < 0.99, (
            "a check of moves that never or always happen says little"
        )
    if moves.get("jumps", True):
        assert float(ladders.evaluations.mean()) > ROUNDS


# Negative controls ----------------------------------------------------------------------------------------------------


class ForgottenMomenta(FlowSwap):
    """Accepts by the energies of x alone."""

    def _kinetic(self, value, betas):
        return 0.0


class Stretched(Swirl):
    """A bijection whose determinant varies, in a flow that claims otherwise."""

    def forward(self, z):
        x, log_det = super().forward(z)
        return {**x, "x": jnp.sinh(x["x"])}, log_det + jnp.log(jnp.cosh(x["x"][0]))

    def inverse(self, x):
        return super().inverse({**x, "x": jnp.arcsinh(x["x"])})


def test_forgetting_the_momenta_is_noticed():
    """Were this variant to pass, passing would mean nothing."""
    made = sampler(jumps=False)
    wrong = dataclasses.replace(made, exchange=ForgottenMomenta(made.exchange.flow))
    assert min(p_values(moved(wrong))) < 1e-6


def test_a_flow_that_breaks_the_law_carries_nothing():
    """Its Jacobians would not cancel, so carried swaps are refused with the reason."""
    honest = dataclasses.replace(swirl(), broken="its volume varies")
    with pytest.raises(InvalidArgumentError, match="its volume varies"):
        sampler(flow=honest)


@pytest.mark.slow
def test_forgetting_the_jacobian_is_noticed():
    """A flow of varying volume that calls itself exact: its swaps leave out a Jacobian that does not cancel."""
    base = ThermalBase(thermostat=Thermostat(0.75), linear=2)
    lying = SteerableFlow(base=base, bijection=Stretched(1.1), momenta_count=1)  # pyright: ignore
    assert min(p_values(moved(sampler(jumps=False, flow=lying, thin=4 * ROUNDS)))) < 1e-6


# What swaps do --------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def offered(exchange, *arguments):
    """Its offer, compiled."""
    return exchange.offer(*arguments)


def test_a_perfect_flow_always_swaps():
    """Harmonic target, harmonic flow: acceptance 1 between temperatures a hundred times apart, where plain swaps fail."""
    target = HarmonicOscillators((1.0,) * 10)
    base = ThermalBase(thermostat=Thermostat(1.0), linear=10)
    flow = SteerableFlow(base=base, bijection=Affine(jnp.zeros(10), jnp.ones(10)))  # pyright: ignore
    ladder = ThermoState(jnp.array([1.0, 0.01]))
    positions = jnp.stack([target.sample(jax.random.key(1), 1.0), target.sample(jax.random.key(2), 0.01)])
    energies = jax.vmap(target.energy)(positions)
    arguments = (jax.random.key(0), target, ladder, positions, energies, jnp.asarray(0))
    np.testing.assert_allclose(offered(FlowSwap(flow), *arguments).log_ratios, 0.0, atol=1e-9)
    assert float(PlainExchange().offer(*arguments).log_ratios[0]) < -10


def test_energies_that_are_not_finite_are_not_swapped():
    """A carried configuration with no energy must be refused and counted, not handed over."""
    flow = swirl()
    flow = dataclasses.replace(flow, bijection=Swirl(jnp.nan))
    ladder = ThermoState(jnp.asarray(BETAS))
    positions = jnp.ones((3, 1))
    energies = jax.vmap(TARGET.energy)(positions)
    offer = offered(FlowSwap(flow), jax.random.key(0), TARGET, ladder, positions, energies, jnp.asarray(0))
    assert int(offer.non_finite.sum()) == 3
    outcome = swap(jax.random.key(0), offer.log_ratios, jnp.asarray(0))
    np.testing.assert_array_equal(outcome.source, [0, 1, 2])


def test_partners():
    """Each rung trades with the one that trades with it; a rung at an end may be left over."""
    np.testing.assert_array_equal(partners(5, jnp.asarray(0)), [1, 0, 3, 2, 4])
    np.testing.assert_array_equal(partners(5, jnp.asarray(1)), [0, 2, 1, 4, 3])
    np.testing.assert_array_equal(partners(1, jnp.asarray(0)), [0])
