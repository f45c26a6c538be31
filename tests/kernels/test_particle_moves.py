"""One-particle Monte Carlo: the compiled loops and the kernel against exact numbers of three particles, and against each other.

Chains start far from equilibrium and are independent, so that every check is a z-test over chains: |z| < 4.5 has a
false-alarm rate of 7e-6, and about 20 are made, with fixed seeds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import ParticleMoves
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets import liquids

numba = pytest.importorskip("numba", reason="needs the extra 'liquids'")

from heatbath.kernels.particle_engine import ParticleEngine  # noqa: E402

SIGMAS = 4.5


def starts(liquid, chains, seed=0):
    return np.asarray(jax.jit(jax.vmap(liquid.initial))(jax.random.split(jax.random.key(seed), chains)))


def z_score(per_chain, truth):
    return (per_chain.mean() - truth) / (per_chain.std(ddof=1) / np.sqrt(len(per_chain)))


def mean_scores(liquid, engine, beta, chains=48, records=300):
    """z of <U> and <U^2> of three particles against quadrature."""
    exact = liquid.exact(beta)
    state, _ = engine.run(engine.begin(starts(liquid, chains), 3), beta, 1.0, sweeps=400)
    _, moved = engine.run(state, beta, 1.0, sweeps=12, records=records)
    square = exact.heat_capacity * 3 / beta**2 + exact.mean_energy**2
    assert moved.acceptance > 0.1
    return [z_score(moved.energies.mean(1), exact.mean_energy), z_score((moved.energies**2).mean(1), square)]


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.5])
def test_loops_meet_quadrature(beta, share):
    """A wrong acceptance, table or image shifts <U> or <U^2> of three unlike particles."""
    liquid = liquids.few_particles(3)
    assert np.all(np.abs(mean_scores(liquid, ParticleEngine(liquid, exchange_share=share), beta)) < SIGMAS)


def test_loops_with_a_wrong_table_are_caught():
    """Negative control: chains of particles 12 % smaller than those integrated."""
    liquid = liquids.few_particles(3)
    smaller = liquids.Liquid(
        liquids.LennardJonesMixture(liquids.TERNARY.epsilon, 0.88 * liquids.TERNARY.sigma), liquid.counts, liquid.length
    )
    engine = ParticleEngine(smaller)
    engine.liquid = liquid
    assert np.any(np.abs(mean_scores(liquid, engine, 2.5)) > SIGMAS)


@pytest.mark.slow
def test_loops_meet_quadrature_to_four_digits():
    """<U>, c_V of three particles within 1e-4 of the exact numbers (twice the standard error reached) at two temperatures."""
    liquid = liquids.few_particles(3)
    engine = ParticleEngine(liquid, exchange_share=0.1)
    for beta in (0.5, 1.0):
        exact = liquid.exact(beta)
        state, _ = engine.run(engine.begin(starts(liquid, 64), 3), beta, 3.0, sweeps=400)
        blocks = []
        for _ in range(4):
            state, moved = engine.run(state, beta, 3.0, sweeps=2, records=400_000)
            blocks.append([moved.energies.mean(1), (moved.energies**2).mean(1)])
        means, squares = np.mean(blocks, axis=0)
        capacities = beta**2 * (squares - 2 * means * exact.mean_energy + exact.mean_energy**2) / 3
        for values, truth in ((means, exact.mean_energy), (capacities, exact.heat_capacity)):
            assert values.std(ddof=1) / 8 < 1e-4
            assert abs(z_score(values, truth)) < SIGMAS


class TestLiquid:
    """Forty-three particles."""

    liquid = liquids.ternary_liquid()

    def test_energies_of_the_loops_are_those_of_the_target(self):
        """The loops sum every pair with tables of their own; also in three dimensions."""
        for liquid in (self.liquid, liquids.kob_andersen()):
            xs = starts(liquid, 2)
            engine = ParticleEngine(liquid, exchange_share=0.2)
            state, moved = engine.run(engine.begin(xs, 1), 1.0, 0.1, sweeps=2)
            energies = [float(liquid.energy(jnp.asarray(x))) for x in state.configurations]
            np.testing.assert_allclose(moved.energies[:, -1], energies, rtol=1e-10)
            np.testing.assert_allclose(state.energies, energies, rtol=1e-10)

    def test_loops_and_kernel_agree(self):
        """Mean energies at T = 1 of two independent codes within 4.5 standard errors, both with exchanges."""
        engine = ParticleEngine(self.liquid, exchange_share=0.2)
        begin, _ = engine.run(engine.begin(starts(self.liquid, 24), 1), 1.0, 0.1, sweeps=1500)
        _, moved = engine.run(begin, 1.0, 0.1, sweeps=20, records=60)
        kernel = ParticleMoves(0.1, self.liquid.counts, 0.2)
        u = ReducedEnergy(self.liquid, ThermoState(1.0))

        @jax.jit
        def run(keys, xs):
            def chain(key, x):
                return jax.lax.scan(
                    lambda state, key: (lambda out: (out[0], (out[0].reduced_energy, out[1])))(
                        kernel.step(key, state, u)
                    ),
                    kernel.init(key, x, u),
                    jax.random.split(key, 400),
                )[1]

            return jax.vmap(chain)(keys, xs)

        energies, infos = run(jax.random.split(jax.random.key(2), 24), jnp.asarray(begin.configurations))
        here, there = np.asarray(energies)[:, 100:].mean(1), moved.energies.mean(1)
        error = np.sqrt(here.var(ddof=1) / 24 + there.var(ddof=1) / 24)
        assert abs(here.mean() - there.mean()) < SIGMAS * error
        assert float(infos.acceptance.mean()) == pytest.approx(moved.acceptance, abs=0.02)

    def test_random_numbers_come_from_the_seed_alone(self):
        """The number of threads and the cutting of a run change nothing; another seed changes everything."""
        xs = starts(self.liquid, 3)
        one, two = (ParticleEngine(self.liquid, exchange_share=0.2, threads=count) for count in (1, 3))
        whole, _ = one.run(one.begin(xs, 1), 1.0, 0.1, sweeps=6)
        half, _ = two.run(two.begin(xs, 1), 1.0, 0.1, sweeps=2, records=2)
        rest, _ = two.run(half, 1.0, 0.1, sweeps=2)
        np.testing.assert_array_equal(whole.positions, rest.positions)
        np.testing.assert_array_equal(whole.random, rest.random)
        other, _ = one.run(one.begin(xs, 2), 1.0, 0.1, sweeps=6)
        assert not np.array_equal(other.positions, whole.positions)

    def test_tuning_reaches_the_asked_acceptance(self):
        """Step sizes follow the temperature."""
        engine = ParticleEngine(self.liquid)
        begin, _ = engine.run(engine.begin(starts(self.liquid, 2), 1), 1.0, 0.1, sweeps=200)
        begin, steps = engine.tune(begin, np.array([0.5, 2.0]), start=0.4)
        _, moved = engine.run(begin, np.array([0.5, 2.0]), steps, sweeps=100)
        np.testing.assert_allclose(moved.displaced / moved.displacements, 0.4, atol=0.08)
        assert steps[0] > steps[1]


def test_exchanges_of_labels_with_equal_parameters_are_all_accepted():
    """Two names for one kind of particle: every exchange changes nothing, in both codes."""
    pair = liquids.LennardJonesMixture(np.ones((2, 2)), np.ones((2, 2)))
    liquid = liquids.Liquid(pair, (5, 6), 6.0)
    engine = ParticleEngine(liquid, exchange_share=0.5)
    _, moved = engine.run(engine.begin(starts(liquid, 2), 1), 2.0, 0.2, sweeps=50)
    assert moved.exchanges.sum() > 400
    assert moved.exchange_acceptance == 1.0
    kernel = ParticleMoves(0.2, liquid.counts, 0.5)
    pairs = [kernel.unlike_pair(key) for key in jax.random.split(jax.random.key(0), 40)]
    assert all((int(i) < 5) != (int(j) < 5) for i, j in pairs)
    x = jnp.asarray(starts(liquid, 1)[0])
    assert all(float(liquid.exchange_change(x, i, j)) == 0.0 for i, j in pairs[:4])


class Trapped(LogDensity):
    """A density that offers no energy differences."""

    inner: ReducedEnergy

    def __call__(self, x):
        return self.inner(x)

    @property
    def beta(self):
        return 1.0


def test_any_density_will_do():
    """Without energy differences the kernel evaluates u, and makes the same moves."""
    liquid = liquids.few_particles(3)
    u, x, kernel = (
        ReducedEnergy(liquid, ThermoState(1.0)),
        liquid.initial(jax.random.key(0)),
        ParticleMoves(0.3, (1, 1, 1), 0.3),
    )
    outcomes = [kernel.step(jax.random.key(1), kernel.init(jax.random.key(0), x, v), v) for v in (u, Trapped(u))]
    np.testing.assert_allclose(outcomes[0][0].position, outcomes[1][0].position, rtol=1e-12)


def test_a_start_with_overlapping_particles_is_left():
    """Two particles on one point have no energy; the chain must not stand still there."""
    liquid = liquids.few_particles(3)
    u, kernel = ReducedEnergy(liquid, ThermoState(1.0)), ParticleMoves(0.5)
    x = jnp.zeros((3, 2)).at[2].set(2.0)
    state, _ = jax.lax.scan(
        lambda s, k: kernel.step(k, s, u), kernel.init(jax.random.key(0), x, u), jax.random.split(jax.random.key(1), 20)
    )
    assert np.isfinite(state.reduced_energy)
    engine = ParticleEngine(liquid)
    assert np.isfinite(engine.run(engine.begin(x[None], 0), 1.0, 0.5, sweeps=20)[1].energies).all()


def test_impossible_settings_are_refused():
    """Wrong shares, counts and shapes name themselves."""
    liquid = liquids.few_particles(3)
    for share in (-0.1, 1.0):
        with pytest.raises(InvalidArgumentError, match="exchange_share"):
            ParticleMoves(0.1, (1, 1, 1), share)
        with pytest.raises(InvalidArgumentError, match="exchange_share"):
            ParticleEngine(liquid, exchange_share=share)
    with pytest.raises(InvalidArgumentError, match="counts"):
        ParticleMoves(0.1, (3,), 0.2)
    u = ReducedEnergy(liquid, ThermoState(1.0))
    with pytest.raises(InvalidArgumentError, match="found shape"):
        ParticleMoves(0.1, (2, 2)).init(jax.random.key(0), jnp.zeros((3, 2)), u)
    engine = ParticleEngine(liquid)
    with pytest.raises(InvalidArgumentError, match="expected positions"):
        engine.begin(np.zeros((2, 4, 2)), 0)
    with pytest.raises(InvalidArgumentError, match="sweeps"):
        engine.run(engine.begin(np.zeros((2, 3, 2)), 0), 1.0, 0.1, sweeps=0)
