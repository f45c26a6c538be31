"""The protocol of targets: gradients, dtypes, batching, spaces, and truths that agree with each other.

A new target is tested by one more line in ``CASES``. Draws are exact and independent, so that every statistical check is a
plain z-test: |z| < 4.5 has a false-alarm rate of 7e-6, and about 200 of them are made, with fixed seeds.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from heatbath.spaces import Discrete, Euclidean
from heatbath.targets import boltzmann_machines, clusters, lattice, liquids, mixtures, sets, spins, toy
from heatbath.targets.base import Target

SIGMAS = 4.5


@dataclasses.dataclass(frozen=True)
class Case:
    """A target, the temperatures at which its truths are checked, and how concentrated the probe of log Z is."""

    build: Callable[[], Target]
    betas: tuple[float, ...] = (0.4, 1.0, 1.8)
    shrink: float = 0.5
    draws: int = 4000


CASES = {
    "gaussian": Case(lambda: toy.Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])),
    "oscillators": Case(lambda: toy.HarmonicOscillators((1.0, 4.0, 25.0), (1.0, 2.0, 3.0))),
    "double-well": Case(lambda: toy.DoubleWell(barrier=3.0, tilt=0.6, dimension=2)),
    "many-well": Case(lambda: toy.ManyWell(wells=3, gaussians=2, barrier=4.0)),
    "mueller-brown": Case(toy.MuellerBrown, (1 / 30, 1 / 15, 1 / 10)),
    "mixture": Case(lambda: mixtures.unequal_mixture(2, seed=1)),
    "mixture-10d": Case(lambda: mixtures.unequal_mixture(10), (1.0,)),
    "funnel": Case(lambda: toy.Funnel(2), shrink=0.1),
    "funnel-5d": Case(lambda: toy.Funnel(5, scale=1.0), shrink=0.2),
    "dw4": Case(clusters.dw4),
    "two-particles": Case(lambda: clusters.LennardJonesCluster(2)),
    "lj13": Case(clusters.lj13),
    "ternary-liquid": Case(liquids.ternary_liquid),
    "ising": Case(lambda: lattice.ising((2, 4), coupling=0.7, field=0.2)),
    "potts": Case(lambda: lattice.potts((2, 3), states=3, coupling=0.8, field=-0.3)),
    "spin-glass": Case(lambda: spins.spin_glass(8, scale=0.6, seed=3)),
    "boltzmann-machine": Case(lambda: boltzmann_machines.boltzmann_machine((4, 3, 2), scale=0.8, seed=1)),
    "ising-chain": Case(lambda: lattice.ising_chain(30, field=0.1)),
    "grid-reward": Case(lambda: sets.GridReward(2, 6), (0.5, 1.0)),
    "bag-reward": Case(lambda: sets.BagReward(3, 5, 3), (1.0,)),
}


# The suite ------------------------------------------------------------------------------------------------------------


def points(target: Target, beta: float, count: int = 3):
    """Typical configurations: exact draws where there are any, else starting points."""
    keys = jax.random.split(jax.random.key(7), count)
    make = (lambda key: target.sample(key, beta)) if target.knows("sample") else target.initial
    return jax.vmap(make)(keys)


def check_configurations(target: Target, beta: float):
    """Configurations have the shape of the space, wrapping changes no energy, energies are finite scalars in one dtype."""
    start = target.initial(jax.random.key(3))
    for x in (start, *points(target, beta)):
        assert x.shape == target.space.event_shape
        energy = target.energy(x)
        assert energy.shape == ()
        assert np.isfinite(energy)
        np.testing.assert_allclose(target.energy(target.space.wrap(x)), energy, rtol=1e-12)
    for observable in target.observables().values():
        assert np.shape(observable.function(start)) == ()
    inside = [bool(basin(start)) for basin in target.basins().values()]
    assert sum(inside) <= 1, "basins must not overlap"


def check_batching(programs: "Programs", beta: float):
    """vmap and jit give what a loop gives."""
    target, xs = programs.target, points(programs.target, beta)
    loop = np.array([target.energy(x) for x in xs])
    np.testing.assert_allclose(programs.energies(xs), loop, rtol=1e-12)


def check_gradient(programs: "Programs", beta: float):
    """The gradient along random directions equals a fourth-order central difference."""
    step, target = 1e-4, programs.target
    for index, x in enumerate(points(target, beta)):
        direction = jax.random.normal(jax.random.key(index), x.shape)
        direction /= jnp.linalg.norm(direction.reshape(-1))
        gradient = programs.gradient(x)
        value = float(jnp.sum(gradient * direction))
        u = np.asarray(programs.energies(jnp.stack([x + k * step * direction for k in (-2, -1, 1, 2)])))
        difference = (u[0] - 8 * u[1] + 8 * u[2] - u[3]) / (12 * step)
        rounding = 1e-16 * np.abs(u).max() / step
        np.testing.assert_allclose(value, difference, rtol=1e-6, atol=1e-7 + 100 * rounding)
        np.testing.assert_allclose(target.force(x), -gradient, rtol=1e-9, atol=1e-9)


def check_dtype(programs: "Programs", beta: float):
    """Energies and gradients follow the precision of x, and single precision is close to double."""
    target, xs = programs.target, points(programs.target, beta)
    for x in xs:
        for dtype in (jnp.float32, jnp.float64):
            assert target.energy(x.astype(dtype)).dtype == dtype
            assert programs.gradient(x.astype(dtype)).dtype == dtype
        single = float(target.energy(x.astype(jnp.float32)))
        np.testing.assert_allclose(single, float(target.energy(x)), rtol=1e-4, atol=1e-4)


def check_means(target: Target, beta: float):
    """d log Z / d beta = -<U>, from log Z and from the declared mean."""
    if target.knows("mean") and target.knows("log_z"):
        np.testing.assert_allclose(
            target.mean(target.energy, beta), toy.mean_energy(target, beta), rtol=1e-6, atol=1e-7
        )


def check_draws(programs: "Programs", beta: float, count: int):
    """Exact draws have the declared mean energy and populations: a z-test of each."""
    target = programs.target
    xs = programs.draw(jax.random.split(jax.random.key(11), count), beta)
    if target.knows("log_z") and _log_z_known(target, beta * 1.001):
        assert_mean(np.asarray(programs.energies(xs)), toy.mean_energy(target, beta))
    if target.knows("mean"):
        for indicator in programs.indicators:
            assert_mean(np.asarray(jax.vmap(indicator)(xs)), target.mean(indicator, beta))
    return xs


class Programs:
    """What is compiled once per target and used at every temperature."""

    def __init__(self, target: Target):
        self.target = target
        self.draw = jax.jit(lambda keys, beta: jax.vmap(lambda key: target.sample(key, beta))(keys))
        self.energies = jax.jit(lambda xs: jax.vmap(target.energy)(xs))
        self.gradient = jax.jit(lambda x: jax.grad(target.energy)(x))
        self.indicators = [
            lambda x, basin=basin: jnp.asarray(basin(x), dtype=float) for basin in target.basins().values()
        ]


def check_log_z(programs: "Programs", beta: float, xs, shrink: float):
    """1/Z = E[q(x) exp(beta U(x))] for a narrow normal density q around a minimum: tests the constant of log Z."""
    target = programs.target
    if isinstance(target.space, Discrete):
        every = np.array(list(np.ndindex(*[target.space.k] * math.prod(target.space.shape))))
        energies = np.asarray(programs.energies(jnp.asarray(every.reshape(-1, *target.space.shape))))
        np.testing.assert_allclose(target.log_z(beta), np.log(np.sum(np.exp(-beta * energies))), rtol=1e-9)
        return
    centre, scale = _minimum(target, xs[0])
    scale = scale * np.sqrt(shrink / beta)
    z = np.linalg.solve(scale, (np.asarray(xs) - centre).T)
    log_q = -0.5 * np.sum(z**2, axis=0) - np.log(np.abs(np.linalg.det(scale))) - 0.5 * len(centre) * np.log(2 * np.pi)
    ratio = np.exp(log_q + beta * np.asarray(programs.energies(xs)) + target.log_z(beta))
    assert ratio.std() > 0, "no draw came near the minimum"
    assert_mean(ratio, 1.0)


def check_target(case: Case):
    """The whole suite on one target."""
    target = case.build()
    programs = Programs(target)
    beta = case.betas[len(case.betas) // 2]
    check_configurations(target, beta)
    check_batching(programs, beta)
    if not isinstance(target.space, Discrete):
        check_gradient(programs, beta)
        check_dtype(programs, beta)
    for beta in case.betas:
        check_means(target, beta)
        if target.knows("sample"):
            xs = check_draws(programs, beta, case.draws)
            if target.knows("log_z"):
                check_log_z(programs, beta, xs, case.shrink)
        elif isinstance(target.space, Discrete) and _states(target) <= 2**16 and target.knows("log_z"):
            check_log_z(programs, beta, None, case.shrink)


def assert_mean(values: np.ndarray, truth: float):
    """|mean - truth| within SIGMAS standard errors."""
    error = values.std(ddof=1) / np.sqrt(len(values)) + 1e-9
    z = (values.mean() - truth) / error
    assert abs(z) < SIGMAS, f"mean {values.mean():.6g} differs from {truth:.6g} by {z:.1f} standard errors"


def _states(target: Target) -> int:
    """Number of configurations of a discrete space."""
    return target.space.k ** math.prod(target.space.shape)


def _log_z_known(target: Target, beta: float) -> bool:
    try:
        target.log_z(beta)
    except Exception:
        return False
    return True


def _minimum(target: Target, start):
    """A local minimum and a matrix whose square is the inverse Hessian there."""
    value_and_grad = jax.jit(jax.value_and_grad(target.energy))
    found = minimize(lambda x: [np.asarray(part) for part in value_and_grad(x)], np.asarray(start), jac=True)
    hessian = np.asarray(jax.hessian(target.energy)(jnp.asarray(found.x)))
    values, vectors = np.linalg.eigh(hessian)
    assert (values > 0).all()
    return found.x, vectors / np.sqrt(values)


@pytest.mark.parametrize("name", CASES)
def test_target(name):
    """A target that fails here misleads every test of every sampler that uses it."""
    check_target(CASES[name])


# Negative controls ------------------------------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp)
def _square(x):
    return 0.5 * jnp.sum(x**2)


@_square.defjvp
def _wrong_derivative(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _square(x), 1.01 * jnp.sum(x * dx)


class Normal(Target):
    """A right target, to be spoiled."""

    space: Euclidean = Euclidean((2,))

    def energy(self, x):
        return 0.5 * jnp.sum(x**2)

    def log_z(self, beta):
        return float(np.log(2 * np.pi / beta))

    def sample(self, key, beta):
        return jax.random.normal(key, (2,)) / jnp.sqrt(beta)

    def mean(self, observable, beta):
        return toy.Gaussian([0.0, 0.0], [1.0, 1.0]).mean(observable, beta)

    def basins(self):
        return {"left": lambda x: x[0] < 0}


class WrongGradient(Normal):
    """The derivative is 1 % too large."""

    def energy(self, x):
        return _square(x)


class WrongConstant(Normal):
    """log Z is off by a constant, which no derivative shows."""

    def log_z(self, beta):
        return float(np.log(2 * np.pi / beta)) + 0.3


class WrongTemperature(Normal):
    """log Z depends on beta in the wrong direction."""

    def log_z(self, beta):
        return float(np.log(2 * np.pi * beta))


class WrongDraws(Normal):
    """Drawn with variance beta instead of 1 / beta."""

    def sample(self, key, beta):
        return jax.random.normal(key, (2,)) * jnp.sqrt(beta)


class WrongMean(Normal):
    """Declared means belong to another centre."""

    def mean(self, observable, beta):
        return toy.Gaussian([0.3, 0.0], [1.0, 1.0]).mean(observable, beta)


class WrongPrecision(Normal):
    """A double-precision constant lifts everything to float64."""

    def energy(self, x):
        return 0.5 * jnp.sum(x**2) * jnp.asarray(1.0, dtype=jnp.float64)


class WrongBatching(Normal):
    """Reduces over too much: right for one configuration, not for a batch given directly."""

    def initial(self, key):
        return jax.random.normal(key, (2, 2))


@pytest.mark.parametrize(
    "spoiled",
    [WrongGradient, WrongConstant, WrongTemperature, WrongDraws, WrongMean, WrongPrecision, WrongBatching],
)
def test_the_suite_rejects_a_wrong_target(spoiled):
    """A suite that lets one of these through tests nothing."""
    with pytest.raises(AssertionError):
        check_target(Case(spoiled))


def test_the_suite_accepts_the_target_before_it_was_spoiled():
    """Otherwise the negative controls would prove nothing."""
    check_target(Case(Normal))
