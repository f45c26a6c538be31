"""What is built in the experiment energy-decomposition-gflownet: targets, environments, energies ahead, and what is watched."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.models.gflownets.enumeration import Enumeration, enumerate_states
from heatbath.models.gflownets.environment import Environment
from heatbath.models.gflownets.environments import Bag, Hypergrid, IndependentSet, Sequence
from heatbath.models.gflownets.listed import ListedGraph
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets import fragments
from heatbath.targets.fragments import MoleculeScores
from heatbath.targets.rna import LONGEST_TABLE, DuplexBinding
from heatbath.targets.rna_table import TabulatedBinding
from heatbath.targets.sets import BagReward, GridReward, SetSize, checked_log_rewards
from heatbath.training.gflownet_watch import Best, ExactLaw, Watch

#: Share of the objects, from the best, that count as modes where the target names none.
BEST_SHARE = 0.02
#: Random words among which the 95th percentile of the fitness is taken where words cannot be listed.
POOL = 4000


@dataclasses.dataclass(frozen=True)
class Problem:
    """An environment with the energy of its objects; ``partial_u`` of states on the way, 0 at the start and u at the end.

    ``watch(balance)`` makes what a training is watched by; ``listed`` are all states and the log rewards of the finished ones,
    where they can be listed.
    """

    environment: Environment
    target: Any
    state: ThermoState
    partial_u: Callable[[Any], Any]
    watch: Callable[[str], Watch]
    listed: tuple[Enumeration, np.ndarray] | None = None

    @property
    def u(self) -> ReducedEnergy:
        """The reduced energy of finished objects."""
        return ReducedEnergy(self.target, self.state)


def random_graph(vertices: int, density: float, seed: int) -> np.ndarray:
    """Adjacency of a random graph."""
    upper = np.triu(np.random.default_rng([seed, 7]).random((vertices, vertices)) < density, 1)
    return upper | upper.T


def target_of(config: Any) -> tuple[Any, float]:
    """The target of a configuration (RNA without its table), and its beta."""
    if config.problem == "bag":
        bag = config.bag
        return BagReward(bag.letters, bag.size, bag.needed, bag.share, config.seed), 1.0
    if config.problem == "hypergrid":
        return GridReward(config.grid.dimension, config.grid.side, config.grid.floor), 1.0
    if config.problem == "molecules":
        settings = config.molecules
        molecules = _assembled(settings.fragments, settings.blocks).molecules
        scores = np.asarray(_scores(settings.score, molecules), dtype=np.float64)
        if scores.shape != (len(molecules),):
            raise InvalidArgumentError(f"the score must give {len(molecules)} numbers; found shape {scores.shape}")
        return MoleculeScores(scores, settings.exponent, settings.floor), 1.0
    if config.problem == "rna":
        return DuplexBinding(config.rna.length, exponent=config.rna.exponent, floor=config.rna.floor), 1.0
    return SetSize(random_graph(config.graph.vertices, config.graph.density, config.seed)), config.graph.beta


@functools.lru_cache(maxsize=4)
def _assembled(pieces: tuple[str, ...], blocks: int) -> fragments.Assembly:
    return fragments.assemble(pieces or fragments.FRAGMENTS, blocks)


@functools.lru_cache(maxsize=4)
def _scores(name: str, molecules: tuple[str, ...]) -> Any:
    return fragments.score_function(name)(list(molecules))


def is_listed(config: Any) -> bool:
    """Whether all objects of the problem are listed."""
    return config.problem != "rna" or config.rna.length <= LONGEST_TABLE


def environment_of(config: Any, target: Any) -> Environment:
    """How the objects are built."""
    if config.problem == "bag":
        return Bag(config.bag.letters, config.bag.size)
    if config.problem == "hypergrid":
        return Hypergrid(config.grid.dimension, config.grid.side)
    if config.problem == "rna":
        return Sequence(4, config.rna.length)
    if config.problem == "molecules":
        made = _assembled(config.molecules.fragments, config.molecules.blocks)
        return ListedGraph(made.parent, made.child, made.seen)
    return IndependentSet(np.asarray(target.adjacency))


def problem_of(prepared: Any, fitness: Any = None) -> Problem:
    """The problem of a run; ``fitness`` is the table of RNA."""
    config, target = prepared.config, prepared.target
    if config.problem == "rna" and fitness is not None:
        target = TabulatedBinding(target, fitness)
    environment = environment_of(config, target)
    beta = float(prepared.state.beta)
    partial_u = _PARTIAL[config.problem](config, target, beta)
    if not is_listed(config):
        return Problem(environment, target, prepared.state, partial_u, _best(config, target))
    found = _listed(environment, _Same(config))
    log_rewards = _log_rewards(found, target, beta)
    modes = _modes(found, target, log_rewards)
    watch = functools.partial(ExactLaw, found, log_rewards, modes)
    return Problem(environment, target, prepared.state, partial_u, watch, (found, log_rewards))


class _Same:
    """Compares by the problem's own settings: the key of what is listed once in a process."""

    def __init__(self, config: Any):
        self.key = (
            config.problem,
            config.bag,
            config.grid,
            config.rna.length,
            config.graph,
            config.seed,
            config.molecules,
        )

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return isinstance(other, _Same) and self.key == other.key


_LISTS: dict[_Same, Enumeration] = {}


def _listed(environment: Environment, key: _Same) -> Enumeration:
    if key not in _LISTS:
        _LISTS.clear()
        _LISTS[key] = enumerate_states(environment)
    return _LISTS[key]


def _log_rewards(found: Enumeration, target: Any, beta: float) -> np.ndarray:
    """-beta U of every object in float64. Raises ``InvalidArgumentError`` for rewards that no law can have."""
    objects = jnp.asarray(found.configurations)
    energies = np.asarray(jax.jit(lambda x: jax.lax.map(target.energy, x, batch_size=2**14))(objects), dtype=np.float64)
    if np.isnan(energies).any():
        raise InvalidArgumentError(f"{int(np.isnan(energies).sum())} of {energies.size} energies are not numbers")
    checked_log_rewards(np.exp(-beta * (energies - energies.min())))
    return -beta * energies


def _modes(found: Enumeration, target: Any, log_rewards: np.ndarray) -> np.ndarray:
    """Which objects are modes: those that the target names or else the best share, ties included."""
    if isinstance(target, (BagReward, GridReward)):
        return log_rewards > log_rewards.max() - 1e-6
    return log_rewards >= np.quantile(log_rewards, 1 - BEST_SHARE)


def _best(config: Any, target: Any) -> Callable[[str], Watch]:
    """The best words met; those better than 95 % of random words count as modes."""

    @functools.cache
    def threshold() -> float:
        letters = np.random.default_rng(0).integers(0, 4, (POOL, config.rna.length))
        return float(np.quantile(np.asarray(target._energies(letters)), 0.05))

    return lambda balance: Best(config.rna.length, threshold(), config.rna.exponent)


# Energies of unfinished objects ---------------------------------------------------------------------------------------
def _of_bag(config: Any, target: Any, beta: float) -> Callable[[Any], Any]:
    return lambda state: beta * target.partial(state)


def _of_grid(config: Any, target: Any, beta: float) -> Callable[[Any], Any]:
    return lambda state: beta * target.energy(state[:-1])


def _of_set(config: Any, target: Any, beta: float) -> Callable[[Any], Any]:
    return lambda state: -beta * jnp.sum(state == 1).astype(jnp.result_type(float))


def _of_molecule(config: Any, target: Any, beta: float) -> Callable[[Any], Any]:
    """That of the same molecule when it is finished, by the number of the state."""
    made = _assembled(config.molecules.fragments, config.molecules.blocks)
    place = {text: number for number, text in enumerate(made.molecules)}
    objects = np.array([place.get(text, 0) for text in made.smiles])
    table = beta * target.energies[jnp.asarray(objects)]
    return lambda state: table[state[0]]


_PARTIAL = {
    "bag": _of_bag,
    "rna": _of_bag,
    "hypergrid": _of_grid,
    "independent-set": _of_set,
    "molecules": _of_molecule,
}
