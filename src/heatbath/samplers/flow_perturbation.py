"""Properly weighted draws of continuous flows: one at a time, and as a population over noise and directions.

With x = f(z) and log_det(x, n) an estimate of log|det Dg(x)| at directions n, the weight

    log w(z, n) = -u(x) - log q0(z) - log_det(x, n)

is proper for exp(-u) when E exp(-log_det) = 1/|det Dg|. Where its variance is too large for reweighting, sequential Monte
Carlo anneals the extended space of noise and directions, pi_b(z, n) proportional to q0(z) p(n) w(z, n)^b, from b = 0 (the raw
flow) to exactly b = 1, where the marginal of x is exp(-u)/Z. The moves leave q0(z) p(n) invariant and are reversible
(rotation of z with fresh noise, fresh directions for some of the steps), so that their acceptance is w'^b / w^b and nothing else.

Directions are kept as the seeds that they are drawn from. A configuration of the population carries its weight, so that
levels cost nothing and every move costs one run of the flow.
Sources: arXiv 2407.10666 (extended space), arXiv 2601.21177 (several steps); Cotter et al., Stat. Sci. 28, 424 (2013) (rotation).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from heatbath.ensemble import Ensemble
from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState, decide, point, point_under
from heatbath.kernels.positions import choose
from heatbath.models.base import Distribution
from heatbath.models.continuous_flow import ContinuousFlow
from heatbath.models.log_jacobian import LogJacobian, Seeds, seeds_where
from heatbath.random import named_key
from heatbath.samplers.base import Sampled
from heatbath.samplers.proposals import Proposal
from heatbath.samplers.smc import SMCCarry, SMCSampler, find_schedule, smc
from heatbath.samplers.starts import energies_of
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets.base import Target


class WeightedPath(NamedTuple):
    """A point of the extended space with what follows from it.

    noise: z ~ q0; seeds: the randomness of the directions; x = f(z); log_weight: log w(z, n), NaN where the flow could not be
    inverted to its tolerance.
    """

    noise: Array
    seeds: Seeds
    x: Array
    log_weight: Scalar


class FromContinuousFlow(Proposal):
    """A continuous flow with a choice of log-Jacobian as a proposal: log w = -u(x) - log q0(z) - log_det.

    Properly weighted when ``log_jacobian.unbiased_weight``; otherwise ``bias`` says in a sentence what is biased. A draw that the
    flow's sweeps did not bring to 100 times its tolerance has the weight NaN: it is not a draw of the model.
    """

    flow: ContinuousFlow
    log_jacobian: LogJacobian

    @property
    def bias(self) -> str | None:
        """None for proper weights."""
        return self.log_jacobian.bias

    def draw(self, key: Key[Array, ""], u: LogDensity) -> tuple[Array, Scalar]:
        key_noise, key_seeds = jax.random.split(key)
        noise = self.flow.base.sample(key_noise)
        path = self.path(noise, self.log_jacobian.seeds(key_seeds, self.flow), u)
        return path.x, path.log_weight

    def path(self, noise: Float[Array, "*shape"], seeds: Seeds, u: LogDensity) -> WeightedPath:
        """x = f(z) and its weight at given directions."""
        x, inversion = self.flow.from_base(noise)
        z, log_det = self.log_jacobian.evaluate(seeds, self.flow, x)
        log_weight = -u(x) - self.flow.base.log_prob(z) - log_det
        log_weight = jnp.where(self.flow.converged(inversion), log_weight, jnp.nan)
        return WeightedPath(noise, seeds, x, log_weight.astype(jnp.result_type(float)))


class PathPrior(Distribution):
    """q0(z) p(n), with the weight of every draw already computed. ``log_prob`` leaves out the constant density of the seeds."""

    proposal: FromContinuousFlow
    u: LogDensity

    def sample(self, key: Key[Array, ""]) -> WeightedPath:
        key_noise, key_seeds = jax.random.split(key)
        noise = self.proposal.flow.base.sample(key_noise)
        return self.proposal.path(noise, self.proposal.log_jacobian.seeds(key_seeds, self.proposal.flow), self.u)

    def log_prob(self, x: WeightedPath) -> Scalar:
        return self.proposal.flow.base.log_prob(x.noise)


class PathEnergy(LogDensity):
    """-log(q0(z) p(n) w(z, n)): the end of the annealing. Infinite where the weight is not a number."""

    prior: PathPrior

    def __call__(self, x: WeightedPath) -> Scalar:
        energy = -self.prior.log_prob(x) - x.log_weight
        return jnp.where(jnp.isnan(energy), jnp.inf, energy)

    @property
    def beta(self) -> Array | float:
        return self.prior.u.beta


class PathMove(Kernel):
    """z' = sqrt(1 - s^2) z + s xi with xi ~ q0, and fresh directions for some of the blocks; s = r ``step_size`` (at most 1).

    r is uniform in [0, 1] and new for every move, and each block gets fresh directions with probability r ``refresh``: points of
    unusually large weight, which large moves would never leave, leave by small ones. The proposal is reversible with respect
    to q0(z) p(n), so that the ratio of the annealed density to that prior decides alone: accept with min(1, w'^b / w^b). A step
    runs the flow once, which is counted as one evaluation.
    """

    step_size: Float[Array, ""] | float = eqx.field()
    prior: PathPrior
    refresh: float = 0.3

    @property
    def target_acceptance(self) -> float:
        return 0.4

    def init(self, key: Key[Array, ""], x: WeightedPath, u: LogDensity) -> PointState:
        return point(x, u)

    def restart(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> PointState:
        return point_under(state, u)

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_move, key_accept = jax.random.split(key)
        proposed = point(self.proposed(key_move, state.position), u)
        finite = jnp.isfinite(proposed.reduced_energy)
        log_ratio = self.log_relative_density(proposed) - self.log_relative_density(state)
        accepted, probability = decide(key_accept, log_ratio, finite, state.reduced_energy)
        chosen = choose(accepted, proposed, state)
        return chosen, KernelInfo(probability, accepted, finite, jnp.asarray(1, jnp.int32))

    def proposed(self, key: Key[Array, ""], old: WeightedPath) -> WeightedPath:
        """A move that leaves q0(z) p(n) invariant, with its weight."""
        key_noise, key_seeds, key_choice, key_reach = jax.random.split(key, 4)
        proposal = self.prior.proposal
        base = proposal.flow.base
        reach = jax.random.uniform(key_reach, (), old.noise.dtype)
        size = reach * jnp.clip(jnp.asarray(self.step_size, old.noise.dtype), 0.0, 1.0)
        noise = base.rotated(old.noise, base.sample(key_noise), jnp.arcsin(size))
        fresh = proposal.log_jacobian.seeds(key_seeds, proposal.flow)
        blocks = jax.random.uniform(key_choice, fresh.shape[:1]) < reach * self.refresh
        return proposal.path(noise, seeds_where(blocks, fresh, old.seeds), self.prior.u)

    def log_relative_density(self, state: PointState) -> Scalar:
        """log of exp(-u) over the prior that the proposal keeps, up to a constant: b log w on an annealed path."""
        return -state.reduced_energy - self.prior.log_prob(state.position)


def flow_smc(
    key: Key[Array, ""],
    proposal: FromContinuousFlow,
    u: LogDensity,
    particles: int,
    *,
    step_size: float = 0.7,
    refresh: float = 0.7,
    schedule: Any = None,
    steps: int = 1,
    resample_below: float = 0.5,
    share: float = 0.9,
    max_levels: int = 500,
    chunk: int | None = None,
) -> Ensemble:
    """Sequential Monte Carlo over noise and directions: an ensemble of x with absolute weights, families and log Z.

    step_size:  sine of the largest angle by which z turns, in (0, 1]; adapted on the way when ``schedule`` is None
    refresh:    largest share of the steps whose directions are drawn afresh in a move
    The other arguments are those of ``samplers.smc``; ``chunk`` particles at once bound the memory. A biased log-Jacobian
    gives a biased ensemble, which says so.
    Raises ``InvalidArgumentError`` for a step size or share outside (0, 1], and ``ConvergenceError`` when the flow cannot be
    inverted to its tolerance: such points would drop out of the population unseen.
    """
    for name, value in (("step_size", step_size), ("refresh", refresh)):
        if not 0 < float(value) <= 1:
            raise InvalidArgumentError(f"{name} must be above 0 and at most 1; found {value}")
    require_invertible(named_key(key, "inversion"), proposal.flow)
    prior = PathPrior(proposal, u)
    options = {
        "steps": steps,
        "resample_below": resample_below,
        "share": share,
        "max_levels": max_levels,
        "chunk": chunk,
    }
    kernel = PathMove(jnp.asarray(step_size, dtype=float), prior, refresh)
    found = smc(key, prior, PathEnergy(prior), particles, kernel=kernel, schedule=schedule, **options)
    return forget_directions(found, proposal, u)


class PathSampler(SMCSampler):
    """Independent populations over noise and directions along the schedule of a pilot run, one population per chunk.

    As ``SMCSampler``, with ``start`` a ``PathPrior`` of u = beta U + bias and ``kernel`` a ``PathMove`` (see ``path_sampler``);
    production arrays hold x alone. The pilot run has ``pilot`` particles at most, and keeps ``share`` of them effective from
    level to level.
    """

    pilot: int = eqx.field(static=True, default=500)
    share: float = eqx.field(static=True, default=0.9)

    def begin(self, key: Key[Array, ""]) -> SMCCarry:
        schedule = find_schedule(
            named_key(key, "pilot"),
            self.start,
            self.density(),
            kernel=self.kernel,
            particles=min(self.pilot, self.particles),
            steps=self.steps,
            share=self.share,
            chunk=self.particles_at_once,
        )
        zero = jnp.zeros((), jnp.int32)
        return SMCCarry(jax.random.key_data(named_key(key, "smc")), zero, schedule, zero, zero)

    def density(self) -> LogDensity:
        assert isinstance(self.start, PathPrior)
        return PathEnergy(self.start)

    def configurations(self, positions: WeightedPath) -> Array:
        return positions.x

    def collect(self, arrays: Mapping[str, np.ndarray], carry: Any) -> Sampled:
        sampled = super().collect(arrays, carry)
        assert isinstance(self.start, PathPrior)
        ensemble = dataclasses.replace(sampled.ensemble, bias=self.start.proposal.bias)
        return Sampled(ensemble, {**sampled.diagnostics, "method": "flow perturbation and SMC"})


def path_sampler(
    target: Target,
    state: ThermoState,
    proposal: FromContinuousFlow,
    *,
    draws: int,
    particles: int = 1000,
    steps: int = 1,
    step_size: float = 0.7,
    refresh: float = 0.7,
    resample_below: float = 0.5,
    share: float = 0.9,
    pilot: int = 500,
    at_once: int | None = None,
) -> PathSampler:
    """The sampler of ``draws`` particles in populations of ``particles``, on a schedule found by ``pilot`` particles.

    The other arguments are those of ``flow_smc``.
    """
    prior = PathPrior(proposal, ReducedEnergy(target, state))
    kernel = PathMove(jnp.asarray(step_size, dtype=float), prior, refresh)
    return PathSampler(
        target, state, prior, kernel, draws, particles, steps, resample_below, at_once, pilot=pilot, share=share
    )


def require_invertible(key: Key[Array, ""], flow: ContinuousFlow, draws: int = 64) -> None:
    """Raises ``ConvergenceError`` when any of a few draws of ``flow`` misses 100 times its tolerance."""

    @eqx.filter_jit
    def residuals(flow, keys):
        return jax.vmap(lambda key: flow.from_base(flow.base.sample(key))[1])(keys)

    found = residuals(flow, jax.random.split(key, draws))
    good = np.asarray(jax.vmap(flow.converged)(found))
    if not good.all():
        raise ConvergenceError(
            f"{draws - int(good.sum())} of {draws} draws of the flow could not be inverted to its tolerance {flow.tolerance:g}. "
            "Give the flow more steps, or shorter ones where its field is steep (TimeGrid.towards_data)"
        )


def forget_directions(ensemble: Ensemble, proposal: FromContinuousFlow, u: LogDensity) -> Ensemble:
    """The draws x of an ensemble over ``WeightedPath``: exact, because x is a function of the extended point."""
    x = ensemble.samples.x
    energies = np.asarray(energies_of(u.target, x)) if isinstance(u, ReducedEnergy) else None
    state = u.state if isinstance(u, ReducedEnergy) else ThermoState(jnp.asarray(u.beta, dtype=float))
    biases = [sentence for sentence in (proposal.bias, ensemble.bias) if sentence]
    return dataclasses.replace(
        ensemble, samples=x, energies=energies, state=state, bias="; ".join(biases) if biases else None
    )
