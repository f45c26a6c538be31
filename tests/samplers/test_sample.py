"""One call from target to ensemble: its defaults, and the sentence for everything that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heatbath
from heatbath.errors import InvalidArgumentError, NonFiniteError, ResourceError, TemperatureError, UsageError
from heatbath.kernels import HMC, Gibbs
from heatbath.models.gaussian import Normal
from heatbath.samplers import ChainsSampler, ImportanceSampler, ReplicaExchangeSampler, SMCSampler, make_sampler, sample
from heatbath.samplers.masses import repartitioned
from heatbath.samplers.memory import require_memory
from heatbath.samplers.plan import rung_count
from heatbath.samplers.records import centred, representative
from heatbath.spaces import Euclidean, Product, Torus
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets import lattice, toy
from heatbath.targets.base import Target

TARGET = toy.DoubleWell(dimension=2)
STATE = ThermoState(1.0)


def test_the_shortest_call():
    """A target, a state and a seed are enough, and the same seed gives the same draws."""
    ensemble = sample(TARGET, STATE, 3, samples=64, warmup=100, thin=1)
    assert ensemble.axes == ("chain", "draw")
    assert ensemble.size >= 64
    again = heatbath.sample(TARGET, STATE, jax.random.key(3), samples=64, warmup=100, thin=1)
    np.testing.assert_array_equal(ensemble.samples, again.samples)


@pytest.mark.parametrize("method", ["hmc", "mala", "langevin", "random-walk"])
def test_methods_by_name(method):
    """Every method that is listed makes a sampler of independent chains with the asked sizes."""
    sampler = make_sampler(TARGET, STATE, method=method, samples=100, chains=5)
    assert isinstance(sampler, ChainsSampler)
    assert (sampler.chains, sampler.draws) == (5, 20)
    assert (sampler.kernel.bias is None) == (method != "langevin")


def test_discrete_targets_get_heat_baths():
    """Replica exchange and plain chains of a lattice move spins, and agree with enumeration."""
    target = lattice.ising((2, 3), coupling=0.6, field=0.2)
    assert isinstance(make_sampler(target, STATE).kernel, Gibbs)
    exact = target.mean(target.energy, 1.0)
    for method in ("gibbs", "replica-exchange"):
        ensemble = sample(target, STATE, 1, method=method, samples=6400, chains=32, thin=2, warmup=0)
        energy = ensemble.expect(np.asarray(ensemble.energies))
        assert abs(energy.value - exact) < 4.5 * energy.standard_error
        assert jnp.issubdtype(ensemble.samples.dtype, jnp.integer)


def test_methods_that_need_a_proposal():
    """Importance sampling and SMC start from a distribution, and say so when there is none."""
    start = Normal(jnp.zeros(2), 1.5)
    assert isinstance(make_sampler(TARGET, STATE, method="importance", proposal=start), ImportanceSampler)
    assert isinstance(make_sampler(TARGET, STATE, method="smc", proposal=start), SMCSampler)
    for method in ("importance", "smc"):
        with pytest.raises(UsageError, match="proposal="):
            make_sampler(TARGET, STATE, method=method)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "hcm"}, UsageError, "Did you mean 'hmc'"),
        ({"method": "gibbs"}, UsageError, "discrete"),
        ({"kernel": Gibbs(2)}, UsageError, "discrete"),
        ({"samples": 0}, InvalidArgumentError, "samples must be at least 1"),
        ({"ladders": 0}, InvalidArgumentError, "ladders must be at least 1"),
        ({"thin": 0}, InvalidArgumentError, "thin must be at least 1"),
        ({"warmup": -1}, InvalidArgumentError, "warmup must be at least 0"),
        ({"rungs": 0}, InvalidArgumentError, "rungs must be at least 1"),
        ({"hottest": 0.5}, TemperatureError, "hottest"),
        ({"hottest": "400 K"}, TemperatureError, "reduced units"),
        ({"hottest": 1.0, "rungs": 4}, TemperatureError, "above the asked one"),
        ({"betas": [1.0, 1.2]}, InvalidArgumentError, "must not rise"),
        ({"betas": [0.9, 0.5]}, InvalidArgumentError, "first of betas"),
        ({"samples": 10**13}, ResourceError, "GiB"),
    ],
)
def test_what_cannot_be(options, error, words):
    """Each impossible request has one sentence with the cure, before anything is compiled."""
    with pytest.raises(error, match=words):
        make_sampler(TARGET, STATE, **options)


def test_real_methods_on_discrete_targets():
    """HMC on spins has no meaning."""
    with pytest.raises(UsageError, match="discrete"):
        make_sampler(lattice.ising((2, 3)), STATE, method="hmc")


def test_infinite_temperature_has_no_ladder():
    """Nothing is hotter than beta = 0."""
    with pytest.raises(TemperatureError, match="beta > 0"):
        make_sampler(TARGET, ThermoState(0.0))


def test_bad_starts_are_refused():
    """A start of the wrong shape or without a finite energy is an error, not a chain that never moves."""
    sampler = make_sampler(TARGET, STATE, method="hmc", initial=jnp.array([jnp.nan, 0.0]))
    with pytest.raises(NonFiniteError, match="start"):
        sampler.begin(jax.random.key(0))
    sampler = make_sampler(TARGET, STATE, initial=jnp.zeros(3))
    with pytest.raises(InvalidArgumentError, match="initial must have the shape"):
        sampler.begin(jax.random.key(0))


def test_memory_is_checked_against_what_is_free():
    """The message has both numbers and the settings to lower."""
    sampler = make_sampler(TARGET, STATE, samples=100_000)
    require_memory(sampler, available=10**9)
    with pytest.raises(ResourceError, match="Lower `samples`"):
        require_memory(sampler, available=10**6)


def test_time_limit_returns_what_is_there():
    """A limit that passes during production keeps the draws; one that leaves none is an error."""
    ensemble = sample(TARGET, STATE, 1, method="hmc", samples=10**7, warmup=0, thin=1, max_time="0.5 s")
    assert 0 < ensemble.size < 10**7
    with pytest.raises(ResourceError, match="warm-up"):
        sample(TARGET, STATE, 1, method="hmc", samples=100, max_time=0.0)


def test_rungs_grow_with_size_and_range():
    """More coordinates or a hotter end need more rungs; a ladder of one temperature needs one."""
    small, big = toy.HarmonicOscillators((1.0,) * 10), toy.HarmonicOscillators((1.0,) * 200)
    assert rung_count(small, 1.0) == 1
    assert rung_count(big, 3.0) > rung_count(small, 3.0)
    assert rung_count(big, 9.0) > rung_count(big, 3.0)


def test_particles_in_free_space_are_centred_only_when_that_changes_nothing():
    """Centring a cluster is free; centring particles in an external field would change their law."""

    class Particles(Target):
        pull: float
        space: Euclidean = Euclidean((4, 3))

        def energy(self, x):
            apart = x[:, None] - x[None, :]
            return 0.5 * jnp.sum(apart**2) + 0.5 * self.pull * jnp.sum(x**2)

    free = Particles(0.0)
    x = free.initial(jax.random.key(0))
    shifted = representative(ReducedEnergy(free, STATE), x)(x + 3.0)
    np.testing.assert_allclose(shifted.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(free.energy(shifted), free.energy(x), rtol=1e-9)
    held = Particles(1.0)
    y = jnp.ones((4, 3))
    np.testing.assert_array_equal(representative(ReducedEnergy(held, STATE), y)(y), y)
    np.testing.assert_allclose(centred(y), 0.0)


def test_product_spaces_are_recorded_by_name():
    """Configurations of several parts travel as several arrays and come back as one mapping."""

    class Angle(Target):
        space: Product = Product({"angle": Torus((1,)), "place": Euclidean((2,))})

        def energy(self, x):
            return -jnp.cos(x["angle"][0] - 1.0) + 0.5 * jnp.sum(x["place"] ** 2)

    sampler = make_sampler(Angle(), STATE, method="replica-exchange", samples=3200, chains=16, warmup=0, rungs=2)
    assert {"samples.angle", "samples.place"} <= set(sampler.axes)
    ensemble = sampler.run(jax.random.key(0))
    assert (np.abs(ensemble.samples["angle"]) <= np.pi).all()
    cosine = ensemble.expect(lambda x: jnp.cos(x["angle"][0] - 1.0))
    # I_1(1) / I_0(1), the mean resultant length of the von Mises law.
    assert abs(cosine.value - 0.4463899658965345) < 4.5 * cosine.standard_error


def test_hydrogen_masses_are_moved_not_made():
    """Methane-like and water-like groups: hydrogens heavy, total kept where the heavy atom can give, order kept."""
    masses = [12.011, 1.008, 1.008, 14.007, 1.008]
    neighbours = ((1, 2, 3), (0,), (0,), (0, 4), (3,))
    new = repartitioned(masses, ("C", "H", "H", "N", "H"), neighbours)
    assert new.shape == (5, 1)
    np.testing.assert_allclose(new[[1, 2, 4], 0], 4.0)
    np.testing.assert_allclose(new.sum(), sum(masses))
    with pytest.raises(InvalidArgumentError, match="one mass per atom"):
        repartitioned([1.0], ("C", "H"), neighbours)


def test_compiled_programs_are_shared_between_temperatures():
    """Temperatures, ladders and step sizes are arrays: a scan over temperatures must not compile anew each time."""
    from heatbath.samplers import replica_exchange

    def structure(beta):
        sampler = make_sampler(TARGET, ThermoState(beta), samples=64, kernel=HMC(jnp.asarray(0.1 * beta)))
        assert isinstance(sampler, ReplicaExchangeSampler)
        return jax.tree.structure(sampler), replica_exchange

    assert structure(1.0)[0] == structure(1.7)[0]
