"""The processes of the experiment energy-decomposition-gflownet: a table of energies, trainings, weighted draws."""

from collections.abc import Mapping
from typing import Any

import jax

from heatbath.experiments.energy_decomposition_gflownet import METHODS
from heatbath.experiments.gflownet_problems import Problem, environment_of, is_listed, problem_of
from heatbath.experiments.stages import Stage, total_cost
from heatbath.models.gflownets.network import GFlowNet
from heatbath.random import named_key
from heatbath.samplers.base import Cost
from heatbath.samplers.gflownet import FromGFlowNet
from heatbath.samplers.importance import ImportanceSampler
from heatbath.targets.rna_table import FitnessTable, first_number
from heatbath.training.gflownet_training import FlowTraining
from heatbath.training.objectives.gflownet import FlowBalance

#: Draws made at once.
_AT_ONCE = 1000


def has_table(config: Any) -> bool:
    """Whether energies are looked up in a table of this run."""
    return config.problem == "rna" and is_listed(config)


def training_names(config: Any) -> list[tuple[str, int, str]]:
    """Method, seed and stage of every training."""
    seeds = range(config.training.seeds)
    return [(method, seed, f"{method}-{seed}") for method in config.training.methods for seed in seeds]


def stages(prepared: Any) -> tuple[Stage, ...]:
    """Table, trainings, draws."""
    made = []
    if has_table(prepared.config):
        made.append(Stage("table", lambda done: table(prepared), share=4.0))
    for method, seed, name in training_names(prepared.config):
        share = 2.0 if method == "fl" else 1.0
        made.append(Stage(name, lambda done, m=method, s=seed: trainer(prepared, done, m, s), share=share))
    made.append(Stage("draws", lambda done: sampler(prepared, done), share=0.3, units={"energies": "1"}))
    return tuple(made)


def table(prepared: Any) -> FitnessTable:
    """Fitness of all words; of shorter ones too where a method looks ahead."""
    ahead = "fl" in prepared.config.training.methods
    return FitnessTable(prepared.target, 1 if ahead else prepared.config.rna.length)


def problem(prepared: Any, done: Mapping[str, Any]) -> Problem:
    """The problem, with its table where it has one."""
    return problem_of(prepared, done["table"].carry.fitness if has_table(prepared.config) else None)


def trainer(prepared: Any, done: Mapping[str, Any], method: str, seed: int) -> FlowTraining:
    """The training of one method from one start. The same seed means the same start for all methods."""
    found, settings = problem(prepared, done), prepared.config.training
    balance, decomposition = METHODS[method]
    objective = FlowBalance(
        found.u,
        draws=settings.draws,
        exploration=settings.exploration,
        balance=balance,  # pyright: ignore[reportArgumentType]
        decomposition=decomposition,  # pyright: ignore[reportArgumentType]
        partial_u=found.partial_u if decomposition == "forward-looking" else None,
        decay=settings.decay,
        dropout=settings.dropout,
    )
    return FlowTraining(
        network(prepared, seed),
        objective,
        rounds=settings.rounds,
        replay=settings.replay,
        remembered=settings.remembered,
        updates=settings.updates,
        potential_updates=settings.potential_updates,
        imagined=settings.imagined if decomposition == "learned" else 0,
        rate=settings.rate,
        potential_rate=1.5 * settings.rate,
        last=settings.last,
        rounds_per_chunk=min(settings.chunk, settings.rounds),
        watch=found.watch(balance),
    )


def network(prepared: Any, seed: int) -> GFlowNet:
    """The untrained network."""
    config = prepared.config
    key = jax.random.fold_in(named_key(prepared.key, "network"), seed)
    environment = environment_of(config, prepared.target)
    settings = config.network
    return GFlowNet.create(
        key, environment, width=settings.width, depth=settings.depth, memory_rows=settings.memory_rows
    )


def sampler(prepared: Any, done: Mapping[str, Any]) -> ImportanceSampler:
    """Weighted draws of the first method's network."""
    training = done[training_names(prepared.config)[0][2]]
    net = training.process.trained(training.carry)
    found, draws = problem(prepared, done), prepared.config.sampler.samples
    return ImportanceSampler(found.target, prepared.state, FromGFlowNet(net), draws, min(_AT_ONCE, draws))


def cost(prepared: Any) -> dict[str, int | None]:
    """Energy evaluations, memory and disk of all stages; that of paths is the longest of the environment."""
    config = prepared.config
    environment = environment_of(config, prepared.target)
    drawn = config.training.rounds * config.training.draws * config.training.seeds
    made = [Cost(config.sampler.samples, 2**20, 8 * config.sampler.samples * (environment.longest + 2))]
    for method in config.training.methods:
        per_path = environment.longest if method == "fl" else 1
        made.append(Cost(drawn * per_path, 2**28, 2**22))
    if has_table(config):
        made.append(Cost(first_number(config.rna.length + 1), 2**26, 2**24))
    return total_cost(made)
