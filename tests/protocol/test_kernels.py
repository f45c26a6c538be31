"""The protocol of kernels: exp(-u) is invariant, randomness comes from the key alone, bad energies are rejected and counted.

A new kernel is tested by one more line in ``CASES``. Chains start from exact draws and move a few steps; were the kernel right,
the difference of any function between end and start has mean zero. Each such difference is a z-test; |z| < 4.5 has a
false-alarm rate of 7e-6, and about 1500 are made, with fixed seeds.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.kernels import (
    HMC,
    MALA,
    BouncyParticle,
    Compose,
    FlowProposal,
    Gibbs,
    Kernel,
    Langevin,
    MixtureKernel,
    ParticleMoves,
    PositionDependentLangevin,
    RandomWalk,
    Repeat,
    UnadjustedLangevin,
    ZigZag,
)
from heatbath.kernels.base import KernelInfo
from heatbath.kernels.block_gibbs import BlockGibbs, UniformMetropolis
from heatbath.kernels.hmc import evaluate
from heatbath.kernels.visible_proposal import PooledProposal, VisibleProposal
from heatbath.models.gaussian import Normal
from heatbath.models.nade import BernoulliMixture
from heatbath.models.volume_preserving import steerable_flow
from heatbath.spaces import Discrete, Euclidean
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets import lattice, liquids, mixtures, toy
from heatbath.targets.base import Target
from heatbath.targets.boltzmann_machines import boltzmann_machine

SIGMAS = 4.5
BETAS = (0.5, 1.0, 2.0)


@functools.cache
def target_called(name: str) -> Target:
    return {
        "double-well": lambda: toy.DoubleWell(barrier=2.0, tilt=0.6, dimension=2),
        "mixture": lambda: mixtures.unequal_mixture(2, seed=1),
        "potts": lambda: lattice.potts((2, 3), states=3, coupling=0.8, field=-0.3),
        "ising": lambda: lattice.ising((2, 4), coupling=0.7, field=0.2),
        "three-particles": liquids.few_particles,
        "boltzmann-machine": lambda: boltzmann_machine((2, 2, 2), scale=1.0, seed=3),
        "restricted-machine": lambda: boltzmann_machine((3, 2), scale=1.0, seed=3),
    }[name]()


class NoConditionals(Target):
    """A lattice that hides its conditional energies, so that Gibbs has to evaluate u."""

    inner: Target

    @property
    def space(self):
        return self.inner.space

    def energy(self, x):
        return self.inner.energy(x)

    def sample(self, key, beta):
        return self.inner.sample(key, beta)


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel, the targets it is tried on, whether it claims detailed balance, and how many steps it takes."""

    kernel: Kernel
    targets: tuple[str, ...] = ("double-well",)
    reversible: bool = True
    steps: int = 4


WIDTHS = jnp.array([0.7, 1.5])
COINS = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[1.0, -0.5, 0.3], [-1.0, 0.2, 0.8]]))
PAIR = BernoulliMixture(log_weights=jnp.zeros(2), logits=jnp.array([[1.0, -0.5], [-1.0, 0.2]]))
WIDE = Normal(jnp.array([0.2, -0.1]), jnp.array([1.6, 1.0]))


def wavy_diffusivity(x):
    """A scalar D(x) that changes by a factor of three."""
    return 1 + 0.5 * jnp.sin(2 * x[0]) * jnp.cos(x[1])


def tilted_diffusivity(x):
    """A matrix D(x) whose axes turn with the position."""
    direction = jnp.stack([jnp.cos(x[0]), jnp.sin(x[0])])
    return 0.5 * jnp.eye(2, dtype=x.dtype) + jnp.outer(direction, direction)


#: Bounds of the mixture's second derivatives: from above (one over its smallest variance), and of their absolute value.
STEEPEST = float(np.linalg.norm(target_called("mixture").whitening, 2, axis=(1, 2)).max() ** 2)
SHARPEST = 950.0

CASES = {
    "hmc": Case(HMC(0.25, num_steps=5, masses=WIDTHS), ("double-well", "mixture")),
    "hmc-random-length": Case(HMC(0.3, num_steps=6, fewest_steps=2, jitter=0.0)),
    "mala": Case(MALA(0.4, masses=WIDTHS)),
    "random-walk": Case(RandomWalk(0.8, scale=WIDTHS)),
    "langevin": Case(Langevin(0.02, friction=2.0, masses=WIDTHS), reversible=False, steps=20),
    "unadjusted-langevin": Case(UnadjustedLangevin(0.02, masses=WIDTHS), reversible=False, steps=20),
    "flow-proposal": Case(FlowProposal(WIDE), ("double-well", "mixture")),
    "flow-proposal-momenta": Case(FlowProposal(steerable_flow(jax.random.key(0), 2, layers=1, width=4, gain=0.2))),
    "position-dependent": Case(PositionDependentLangevin(0.08, wavy_diffusivity)),
    "position-dependent-matrix": Case(PositionDependentLangevin(0.08, tilted_diffusivity)),
    "bouncy-particle": Case(BouncyParticle(STEEPEST, duration=0.7), ("mixture",), reversible=False),
    "zig-zag": Case(ZigZag(SHARPEST, duration=0.7), ("mixture",), reversible=False),
    "particle-moves": Case(ParticleMoves(0.6, (1, 1, 1), 0.3), ("three-particles",), reversible=False),
    "repeat": Case(Repeat(MALA(0.4), 3)),
    "compose": Case(Compose((MALA(0.4), RandomWalk(0.8))), reversible=False),
    "mixture-kernel": Case(MixtureKernel((HMC(0.25, num_steps=3), RandomWalk(0.8)), (0.3, 0.7))),
    "gibbs-random": Case(Gibbs(3), ("potts",), steps=1),
    "gibbs-sequential": Case(Gibbs(2, scan="sequential"), ("ising",), reversible=False, steps=1),
    "block-gibbs": Case(BlockGibbs(), ("boltzmann-machine",), steps=1),
    "block-gibbs-sequential": Case(BlockGibbs("sequential"), ("boltzmann-machine",), reversible=False, steps=1),
    "visible-proposal": Case(VisibleProposal(COINS), ("restricted-machine",), steps=1),
    "deep-visible-proposal": Case(VisibleProposal(PAIR), ("boltzmann-machine",), steps=1),
    "pooled-proposal": Case(PooledProposal(PAIR, 3), ("boltzmann-machine",), steps=1),
    "uniform-metropolis": Case(UniformMetropolis(), ("boltzmann-machine",), steps=1),
}
RUNS = [(name, target) for name, case in CASES.items() for target in case.targets]


# The suite ------------------------------------------------------------------------------------------------------------


def features(target: Target, x) -> jax.Array:
    """Functions whose means are compared: moments, correlations, energies, a mode indicator."""
    flat = target.space.wrap(x).reshape(-1).astype(float)
    energy = target.energy(x)
    return jnp.concatenate([flat, flat**2, flat[:1] * flat[1:], jnp.array([energy, energy**2, flat[0] > 0.3])])


@functools.cache
def exact_draws(name: str, beta: float, count: int = 6000):
    """Where chains start: exact draws and their features."""
    return _exact_program(name)(jax.random.split(jax.random.key(0), count), jnp.asarray(beta))


@functools.cache
def _exact_program(name: str):
    target = target_called(name)

    def draw(key, beta):
        x = target.sample(key, beta)
        return x, features(target, x)

    return jax.jit(jax.vmap(draw, in_axes=(0, None)))


class Program:
    """Chains of a kernel from exact draws, compiled once for every temperature."""

    def __init__(self, kernel: Kernel, target: str, steps: int = 4, chains: int = 6000):
        self.kernel, self.target, self.chains = kernel, target, chains
        energy = target_called(target)

        @jax.jit
        def run(key, starts, beta):
            u = ReducedEnergy(energy, ThermoState(beta))

            def chain(key, start):
                keys = jax.random.split(key, steps + 1)
                state, infos = jax.lax.scan(
                    lambda state, k: kernel.step(k, state, u), kernel.init(keys[0], start, u), keys[1:]
                )
                return features(energy, state.position), infos

            return jax.vmap(chain)(jax.random.split(key, chains), starts)

        self.run = run

    def __call__(self, beta: float, seed: int = 1):
        starts, first = exact_draws(self.target, beta, self.chains)
        last, infos = self.run(jax.random.key(seed), starts, jnp.asarray(beta))
        return np.asarray(first), np.asarray(last), jax.tree.map(np.asarray, infos)


def z_scores(differences: np.ndarray) -> np.ndarray:
    """Mean over standard error of every column; 0 where nothing ever changes."""
    error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    return np.where(error > 0, differences.mean(axis=0) / np.where(error > 0, error, 1), 0.0)


def check_invariance(program: Program, beta: float):
    """After the steps every mean is what it was."""
    first, last, infos = program(beta)
    assert np.isfinite(last).all()
    assert infos.accepted.any(), "the kernel never moved, so the check says nothing"
    z = z_scores(last - first)
    assert (np.abs(z) < SIGMAS).all(), f"means drift by {z.round(1)} standard errors at beta = {beta}"


def check_reversibility(program: Program, beta: float):
    """Detailed balance: (start, end) and (end, start) have one joint law, so f(x) g(y) - g(x) f(y) has mean zero."""
    first, last, _ = program(beta, seed=2)
    size = first.shape[1]
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    products = np.stack([first[:, i] * last[:, j] - first[:, j] * last[:, i] for i, j in pairs], axis=1)
    z = z_scores(products)
    assert (np.abs(z) < SIGMAS).all(), f"detailed balance broken by {np.abs(z).max():.1f} standard errors"


@functools.cache
def program_of(name: str, target: str) -> Program:
    return Program(CASES[name].kernel, target, CASES[name].steps)


@pytest.mark.parametrize(("name", "target"), RUNS)
def test_invariance_at_three_temperatures(name, target):
    """A wrong acceptance ratio, a forgotten temperature or a lost Jacobian would move the means."""
    for beta in BETAS:
        check_invariance(program_of(name, target), beta)


WEIGHTED = {
    "unadjusted-langevin": UnadjustedLangevin(0.2, masses=WIDTHS),
    "repeat": Repeat(UnadjustedLangevin(0.2), 2),
    "compose": Compose((UnadjustedLangevin(0.2), RandomWalk(0.8))),
    "mixture-kernel": MixtureKernel((UnadjustedLangevin(0.2), MALA(0.4)), (0.6, 0.4)),
}


def check_weighted_invariance(program: Program, beta: float):
    """E[w f(x')] = E[f(x)] for x from exp(-u), for f = 1 and every feature."""
    first, last, infos = program(beta)
    weights = np.exp(infos.log_weight.sum(axis=1, keepdims=True))
    ones = np.ones_like(weights)
    z = z_scores(np.hstack([weights, weights * last]) - np.hstack([ones, first]))
    assert (np.abs(z) < SIGMAS).all(), f"weighted means drift by {z.round(1)} standard errors at beta = {beta}"


@pytest.mark.parametrize("name", WEIGHTED)
def test_moves_that_weigh_are_proper(name):
    """Unadjusted steps bias every mean; their weights must take all of it back, alone and inside combinators.

    The step is one at which the weights have a finite variance in the double well's quartic tails, and the controls fail.
    """
    kernel = WEIGHTED[name]
    assert kernel.proper
    assert not kernel.exact
    assert kernel.bias is not None
    program = Program(kernel, "double-well")
    for beta in BETAS:
        check_weighted_invariance(program, beta)


@pytest.mark.parametrize(("name", "target"), [run for run in RUNS if CASES[run[0]].reversible])
def test_detailed_balance_where_claimed(name, target):
    """A kernel can be invariant without being reversible; those that claim it must be."""
    check_reversibility(program_of(name, target), 1.0)


@pytest.mark.parametrize("name", CASES)
def test_contract(name):
    """Scalars of the right kind, types that follow x, randomness from the key alone, and nothing else."""
    kernel, target = CASES[name].kernel, target_called(CASES[name].targets[0])
    u = ReducedEnergy(target, ThermoState(1.0))
    x = target.initial(jax.random.key(3))
    discrete = isinstance(target.space, Discrete)
    shapes = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    for dtype in (x.dtype,) if discrete else (jnp.float32, jnp.float64):
        before = jax.eval_shape(lambda x: kernel.init(jax.random.key(0), x, u), x.astype(dtype))
        after, info = jax.eval_shape(lambda state: kernel.step(jax.random.key(0), state, u), before)
        assert after.position.dtype == dtype
        assert shapes(after) == shapes(before), "a step must return what init returns, or it cannot be scanned"
        assert info.accepted.dtype == info.finite.dtype == bool
    state = kernel.init(jax.random.key(0), x, u)
    step = jax.jit(lambda key, state: kernel.step(key, state, u))
    new, info = step(jax.random.key(1), state)
    np.testing.assert_allclose(new.reduced_energy, u(new.position), rtol=1e-9)
    assert isinstance(info, KernelInfo)
    assert all(np.shape(value) == () for value in info)
    assert 0 <= info.acceptance <= 1
    assert info.evaluations >= 1
    again, _ = step(jax.random.key(1), state)
    others = [step(jax.random.key(seed), state)[0].position for seed in range(2, 8)]
    np.testing.assert_array_equal(again.position, new.position)
    assert any((np.asarray(other) != np.asarray(new.position)).any() for other in others)


@pytest.mark.parametrize("name", CASES)
def test_bias_is_declared(name):
    """A kernel either claims to be exact or says in a sentence what it biases."""
    kernel = CASES[name].kernel
    assert (kernel.bias is None) == kernel.exact


class Cliff(LogDensity):
    """A harmonic well whose energy is not a number (or infinite) for x_0 > 0.5."""

    bad: jax.Array

    def __call__(self, x):
        return jnp.where(x[0] > 0.5, self.bad.astype(x.dtype), 0.5 * jnp.sum(x**2))

    @property
    def beta(self):
        return 1.0


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.targets[0] == "double-well"])
def test_energies_that_are_not_finite_are_rejected_and_counted(name):
    """One NaN accepted would stay in the chain for ever; one rejected in silence would hide a broken target."""
    kernel = CASES[name].kernel

    @jax.jit
    def run(keys, bad):
        u = Cliff(bad)

        def chain(key):
            state = kernel.init(key, jnp.array([0.3, 0.0]), u)
            return jax.lax.scan(lambda s, k: kernel.step(k, s, u), state, jax.random.split(key, 150))

        return jax.vmap(chain)(keys)

    for bad in (jnp.nan, jnp.inf):
        state, infos = run(jax.random.split(jax.random.key(4), 20), jnp.asarray(bad))
        assert np.isfinite(state.position).all()
        assert np.isfinite(state.reduced_energy).all()
        assert (np.asarray(state.position)[:, 0] <= 0.5).all()
        assert not np.asarray(infos.finite).all()
        if not isinstance(kernel, Compose | MixtureKernel | Repeat):
            assert not np.asarray(infos.accepted)[~np.asarray(infos.finite)].any()


@pytest.mark.parametrize("name", ["hmc", "mala", "random-walk"])
def test_a_chain_can_leave_a_start_that_is_not_finite(name):
    """A start in the forbidden region accepts the first finite proposal instead of standing still for ever."""
    kernel, u = RandomWalk(1.0) if name == "random-walk" else CASES[name].kernel, Cliff(jnp.asarray(jnp.inf))
    state = kernel.init(jax.random.key(0), jnp.array([0.55, 0.0]), u)
    final, _ = jax.lax.scan(lambda s, k: kernel.step(k, s, u), state, jax.random.split(jax.random.key(1), 200))
    assert np.isfinite(final.reduced_energy)


def test_gibbs_without_conditional_energies_agrees():
    """The generic heat bath and the local one must draw the same numbers."""
    target = target_called("potts")
    x = target.initial(jax.random.key(0))
    steps = [
        Gibbs(3).step(jax.random.key(1), Gibbs(3).init(jax.random.key(0), x, u), u)
        for u in (ReducedEnergy(t, ThermoState(0.7)) for t in (target, NoConditionals(target)))
    ]
    np.testing.assert_array_equal(steps[0][0].position, steps[1][0].position)
    assert steps[1][1].evaluations > steps[0][1].evaluations


# Negative controls: the suite must reject each of these ---------------------------------------------------------------


class SilentlyUnadjusted(Kernel):
    """Overdamped Langevin with a big step, that calls itself exact."""

    width: float = 0.45

    def init(self, key, x, u):
        return evaluate(x, u)

    def step(self, key, state, u):
        noise = jax.random.normal(key, state.position.shape)
        x = state.position - 0.5 * self.width**2 * state.gradient + self.width * noise
        yes = jnp.ones((), bool)
        return evaluate(x, u), KernelInfo(jnp.ones(()), yes, yes, jnp.ones((), jnp.int32))


class ForgottenWeight(UnadjustedLangevin):
    """Unadjusted Langevin that keeps its path weight to itself."""

    def step(self, key, state, u):
        state, info = super().step(key, state, u)
        return state, info._replace(log_weight=jnp.zeros(()))


class HalfAWeight(UnadjustedLangevin):
    """A path weight of energies alone: log K(x|x') - log K(x'|x) is forgotten."""

    def step(self, key, state, u):
        new, info = super().step(key, state, u)
        return new, info._replace(log_weight=state.reduced_energy - new.reduced_energy)


@pytest.mark.parametrize("kernel", [ForgottenWeight(0.2), HalfAWeight(0.2)])
def test_the_suite_rejects_wrong_path_weights(kernel):
    """A weight that is missing, or is only the change of energy, is what uncorrected annealing has."""
    with pytest.raises(AssertionError, match="weighted means"):
        check_weighted_invariance(Program(kernel, "double-well"), 2.0)


class WrongTemperature(LogDensity):
    """beta U with the sign of log beta wrong: U / beta."""

    u: ReducedEnergy

    def __call__(self, x):
        return self.u.target.energy(x) / self.u.state.beta

    @property
    def beta(self):
        return self.u.beta


class AtWrongTemperature(Kernel):
    """HMC at the inverse of the temperature that it was asked for."""

    inner: HMC = HMC(0.25, num_steps=5)

    def init(self, key, x, u):
        return self.inner.init(key, x, WrongTemperature(u))

    def step(self, key, state, u):
        return self.inner.step(key, state, WrongTemperature(u))


class ForgottenProposalDensity(MALA):
    """MALA whose acceptance forgets q(x|x') / q(x'|x): what is left is a random walk with a drift."""

    def step(self, key, state, u):
        key_noise, key_accept = jax.random.split(key)
        width = self.step_size
        noise = jax.random.normal(key_noise, state.position.shape)
        new = evaluate(state.position - 0.5 * width**2 * state.gradient + width * noise, u)
        ratio = jnp.exp(jnp.minimum(state.reduced_energy - new.reduced_energy, 0.0))
        accepted = jax.random.uniform(key_accept) < ratio
        new = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, state)
        return new, KernelInfo(ratio, accepted, jnp.ones((), bool), jnp.ones((), jnp.int32))


@pytest.mark.parametrize("kernel", [SilentlyUnadjusted(), AtWrongTemperature(), ForgottenProposalDensity(0.6)])
def test_the_suite_rejects_biased_kernels(kernel):
    """Were one of these to pass, passing would mean nothing."""
    assert kernel.exact
    program = Program(kernel, "double-well")
    with pytest.raises(AssertionError, match="standard errors"):
        check_invariance(program, 2.0)


def test_the_suite_rejects_broken_detailed_balance():
    """A sweep in fixed order is invariant but not reversible (later sites see earlier ones), and the check must see it."""
    with pytest.raises(AssertionError, match="detailed balance"):
        check_reversibility(program_of("gibbs-sequential", "ising"), 0.5)


def test_real_coordinates_are_required():
    """Integers have no gradient; silence here would give a chain that never moves."""
    u = ReducedEnergy(target_called("ising"), ThermoState(1.0))
    x = target_called("ising").initial(jax.random.key(0))
    for kernel in (HMC(0.1), MALA(0.1), RandomWalk(0.1), Langevin(0.1)):
        with pytest.raises(ValueError, match="Gibbs"):
            kernel.init(jax.random.key(0), x, u)
    with pytest.raises(ValueError, match="integers"):
        Gibbs(2).init(jax.random.key(0), jnp.zeros(3), u)
    assert Euclidean((2,)).event_shape == (2,)
