"""Population annealing, and its generalisation to a chain of maps: a population cooled step by step from an equilibrium ensemble.

From beta_k to beta_{k+1} every member x is carried by a map f (none: the identity), weighted by exp(-Phi),

    Phi(x) = beta_{k+1} U(f(x)) - beta_k U(x) - log|det df/dx|,        ln Z_{k+1} / Z_k = ln mean exp(-Phi),

resampled, and moved by a kernel at beta_{k+1}. The work Phi has mean at least -ln Z_{k+1} / Z_k, with equality for a perfect map.
Families (members that descend from one of the beginning) tell how much is left of the population's diversity.
Sources: Hukushima & Iba, AIP Conf. Proc. 690, 200 (2003); Wang, Machta & Katzgraber, Phys. Rev. E 92, 063307 (2015) for
rho_t and the family entropy; Jarzynski, Phys. Rev. E 65, 046122 (2002) for maps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.ensemble import Ensemble, systematic_resample
from heatbath.errors import ConvergenceError, InvalidArgumentError
from heatbath.models.bijections import Bijection
from heatbath.samplers.population_moves import PopulationMoves
from heatbath.samplers.starts import energies_of
from heatbath.state import ThermoState
from heatbath.targets.base import Target


class Level(NamedTuple):
    """What happened on the way to one temperature.

    log_ratio:        ln Z(beta) / Z(beta before), from the weights.
    ess:              effective sample size of the weights over the size of the population, before resampling.
    rho:              R sum_i n_i^2 with n_i the share of family i after resampling: 1 at the beginning, R when one is left.
    family_entropy:   -sum_i n_i ln n_i; its exponential is an effective number of families.
    mean_energy:      mean of U after the moves, and where the moves record it on the way, over these records; variance that of U.
    acceptance:       of the kernel's moves.
    evaluations:      sums over all pairs (or energies) by map and moves, of the whole population; a map counts one for the
                      energy of its image and what its attribute ``evaluations`` says for itself.
    """

    beta: float
    log_ratio: float
    ess: float
    rho: float
    family_entropy: float
    mean_energy: float
    variance: float
    acceptance: float
    evaluations: float


class Annealed(NamedTuple):
    """The population at the last temperature, and the levels on the way."""

    ensemble: Ensemble
    levels: tuple[Level, ...]

    @property
    def log_z_ratio(self) -> float:
        """ln Z(last) / Z(first)."""
        return float(sum(level.log_ratio for level in self.levels))


def population_annealing(
    key: Key[Array, ""],
    target: Target,
    start: Ensemble,
    betas: Any,
    *,
    moves: PopulationMoves,
    maps: Sequence[Bijection | None] | None = None,
) -> Annealed:
    """Cool the equally weighted draws of ``start`` through ``betas``.

    start:   an ensemble of ``target`` at start.state, equally weighted (``Ensemble.resample`` makes one so).
    betas:   the temperatures to come, one after the other; they may be spaced as one likes.
    moves:   what every member does at each of them (``KernelMoves``, ``ParticleSweeps``, ``DynamicsSteps``); the bias of inexact
             ones is that of the ensemble.
    maps:    one bijection, or None, per temperature. Each must belong to the space of the target.

    Mean weights are unbiased for ratios of Z; averages have an error of order 1/R besides the statistical one, as in any
    resampled population. Raises ``InvalidArgumentError`` for unequal weights or a wrong number of maps, and
    ``ConvergenceError`` when every weight of a level is zero.
    """
    betas = [float(beta) for beta in np.asarray(betas, dtype=float).reshape(-1)]
    maps = [None] * len(betas) if maps is None else list(maps)
    _check(start, betas, maps)
    population, before = beginning(target, start), float(start.state.beta)
    total, levels = 0.0, []
    for key_level, beta, bijection in zip(jax.random.split(key, len(betas)), betas, maps, strict=True):
        population, level = advance_population(key_level, target, population, (before, beta), moves, bijection)
        levels.append(level)
        before, total = beta, total + level.log_ratio
    ensemble = Ensemble(
        population.positions,
        np.full(start.size, total),
        ThermoState(before),
        np.asarray(population.energies),
        np.asarray(population.families),
        bias=moves.bias,
    )
    return Annealed(ensemble, tuple(levels))


class Population(NamedTuple):
    """Members: where they are, U there, and the member of the beginning from which each descends."""

    positions: PyTree
    energies: Float[Array, " member"]
    families: Int[Array, " member"]


def beginning(target: Target, start: Ensemble) -> Population:
    """The population that ``start`` is: every member its own family."""
    positions = jax.tree.map(jnp.asarray, start.flat().samples)
    return Population(positions, energies_of(target, positions), jnp.arange(start.size, dtype=jnp.int32))


def advance_population(
    key: Key[Array, ""],
    target: Target,
    population: Population,
    betas: tuple[float, float],
    moves: PopulationMoves,
    bijection: Bijection | None = None,
) -> tuple[Population, Level]:
    """One level: map, weights, resampling and moves from ``betas[0]`` to ``betas[1]``.

    Raises ``ConvergenceError`` when every weight is zero.
    """
    key_resample, key_moves = jax.random.split(key)
    before, after = (jnp.asarray(beta, dtype=float) for beta in betas)
    chosen, families, found = _chosen(key_resample, population, before, after, target, bijection)
    if not np.isfinite(float(found["log_ratio"])):
        raise ConvergenceError(
            f"no member of the population has a finite weight at beta = {betas[1]:.4g}: take smaller steps or another map"
        )
    moved = moves(key_moves, target, chosen, betas[1])
    count = int(population.energies.shape[0])
    evaluations = moved.evaluations
    if bijection is not None:
        evaluations += count * (1 + getattr(bijection, "evaluations", 0))
    energies = jnp.asarray(moved.energies).astype(population.energies.dtype)
    new = Population(moved.positions, energies, families)
    recorded = np.asarray(new.energies if moved.recorded is None else moved.recorded, float)
    return new, _level(betas[1], found, families, recorded, moved.acceptance, evaluations)


def works(
    target: Target, bijection: Bijection | None, xs: PyTree, energies: Float[Array, " member"], before: Any, after: Any
) -> tuple[PyTree, Float[Array, " member"], Float[Array, " member"]]:
    """Carried members, U of them, and Phi; +inf where U or the determinant is not finite, so that the weight is zero."""
    if bijection is None:
        images, carried, log_dets = xs, energies, 0.0
    else:
        images, log_dets = jax.vmap(bijection.forward)(xs)
        images = jax.vmap(target.space.wrap)(images)
        carried = jax.vmap(target.energy)(images)
    wide = jnp.result_type(float)
    work = after * carried.astype(wide) - before * energies.astype(wide) - log_dets
    return images, carried, jnp.where(jnp.isfinite(work), work, jnp.inf)


@eqx.filter_jit
def _chosen(key, population: Population, before, after, target, bijection: Bijection | None):
    """Resampled images, their families, and what the weights tell."""
    images, _, work = works(target, bijection, population.positions, population.energies, before, after)
    count = population.energies.shape[0]
    index = systematic_resample(key, jax.nn.softmax(-work), count)
    found = {
        "log_ratio": jax.nn.logsumexp(-work) - jnp.log(count),
        "ess": jnp.exp(2 * jax.nn.logsumexp(-work) - jax.nn.logsumexp(-2 * work)) / count,
    }
    return jax.tree.map(lambda leaf: leaf[index], images), population.families[index], found


def _level(
    beta: float, found: dict, families: Any, energies: np.ndarray, acceptance: float, evaluations: float
) -> Level:
    families = np.asarray(families)
    shares = np.unique(families, return_counts=True)[1] / families.size
    return Level(
        beta,
        float(found["log_ratio"]),
        float(found["ess"]),
        float(families.size * np.sum(shares**2)),
        float(-np.sum(shares * np.log(shares))),
        float(energies.mean()),
        float(energies.var(ddof=1)),
        acceptance,
        evaluations,
    )


def _check(start: Ensemble, betas: list[float], maps: list) -> None:
    log_weights = np.asarray(start.log_weights, dtype=np.float64)
    if start.size < 2 or not np.allclose(log_weights, log_weights.reshape(-1)[0]):
        raise InvalidArgumentError("start must hold two or more equally weighted draws; use start.resample(key)")
    if start.state.bias is not None:
        raise InvalidArgumentError("start must be without a bias potential; reweight it first")
    if not betas or min(betas) <= 0:
        raise InvalidArgumentError(f"expected positive betas, one or more; found {betas}")
    if len(maps) != len(betas):
        raise InvalidArgumentError(f"expected one map per temperature, {len(betas)}; found {len(maps)}")
