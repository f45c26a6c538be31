"""The processes of the experiment unbiased-boltzmann-machine: trainings, likelihoods, coupled chains, bias, draws."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.experiments import nade_stages
from heatbath.experiments.nade_stages import RowByRow
from heatbath.experiments.stages import Stage, total_cost
from heatbath.experiments.unbiased_boltzmann_machine import BARS
from heatbath.io.tables import Split, split
from heatbath.kernels.block_gibbs import BlockGibbs, start_at_mode
from heatbath.kernels.combinators import Compose
from heatbath.kernels.coupled import CommonRandomNumbers, Coupling, MaximalBlockGibbs
from heatbath.kernels.visible_proposal import PooledProposal, VisibleProposal
from heatbath.models.nade import BernoulliMixture, fit_bernoulli_mixture
from heatbath.random import named_key
from heatbath.samplers.base import Cost
from heatbath.samplers.importance import ImportanceSampler
from heatbath.samplers.machine_annealing import AnnealedMachine, annealed_loss, clamped_log_z, log_partition
from heatbath.samplers.unbiased import unbiased_estimates
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.boltzmann_machines import BoltzmannMachine, boltzmann_machine
from heatbath.training import AdamW, Cosine, Trainer
from heatbath.training.objectives.contrastive_divergence import (
    ContrastiveDivergence,
    PersistentContrastiveDivergence,
    PersistentMachine,
    UnbiasedContrastiveDivergence,
    persistent_machine,
    persistent_optimiser,
)
from heatbath.training.trainable import trainable
from heatbath.training.validation import Validation

#: Machines whose smaller half has at most this many units are summed exactly, while they learn and at the end.
SUMMED_UNITS = 12
#: Rows that are offered one by one, where there are no more; odds of a changed bit.
FEW_ROWS, SOFTENED = 64, 0.02
#: Held-out rows whose likelihood is followed while a machine learns.
FOLLOWED_ROWS = 100
#: Sweeps k and m of clamped pairs at most: they meet within a few.
CLAMPED = (2, 6)
#: The tiny machine whose exact gradient shows bias: its layers, the spread of its weights, and its data.
TINY, TINY_SCALE = (4, 3, 3), 1.2
TINY_DATA = ((1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 1, 0), (1, 1, 1, 1))
#: Sweeps of contrastive divergence whose bias is measured.
BIASED_SWEEPS = (1, 5, 20)


def bars_and_stripes(side: int) -> np.ndarray:
    """Every image (side^2,) whose rows are constant, or whose columns are; the two uniform ones once."""
    found = set()
    for bits in itertools.product((0, 1), repeat=side):
        image = np.repeat(np.array(bits, np.uint8)[:, None], side, axis=1)
        found |= {tuple(image.reshape(-1)), tuple(image.T.reshape(-1))}
    return np.array(sorted(found), np.uint8)


def read_data(config: Any, base: Path | None = None) -> Split:
    """The table of a checked configuration."""
    if config.data.path or config.data.name != BARS:
        table = nade_stages.read_data(config, base)
        if table.kind != "binary":
            raise InvalidArgumentError("Boltzmann machines of this experiment are of zeros and ones")
        return table
    images, side = bars_and_stripes(config.machine.side), config.machine.side
    return split(BARS, "binary", images, images, images, source="every bar and stripe once", image=(side, side))


def stages(prepared: Any) -> tuple[Stage, ...]:
    """Trainings, likelihoods, coupled chains, bias, draws."""
    config, made = prepared.config, []
    for name in config.rules:
        share = 6.0 if name == "unbiased" else 1.0
        made.append(Stage(name, lambda done, n=name: trainer(prepared, n), share=share))
    for name in config.rules:
        made.append(Stage(f"rows-{name}", lambda done, n=name: likelihood(prepared, done, n), share=1.0))
    made.append(Stage("meetings", lambda done: meetings(prepared, done), share=0.5))
    if config.evaluation.bias_draws:
        made.append(Stage("bias", lambda done: bias(prepared), share=0.5))
    made.append(Stage("draws", lambda done: sampler(prepared, done), share=0.3, units={"energies": "1"}))
    return tuple(made)


def cost(prepared: Any) -> dict[str, int | None]:
    """Sweeps of trainings at least, as evaluations; chains may need more of them until they meet."""
    config, training = prepared.config, prepared.config.training
    sweeps = training.steps * training.batch_size * (2 * training.m * len(config.rules) + 2)
    annealing = 3 * config.evaluation.chains * config.evaluation.levels * len(config.rules)
    units = prepared.split.dimension + sum(config.machine.hidden)
    return total_cost([Cost(sweeps + annealing, 2**29, 2**24 + 8 * config.draws.samples * (units + 2))])


# Training -------------------------------------------------------------------------------------------------------------
def untrained(config: Any, table: Split) -> BoltzmannMachine:
    """The machine that every rule starts from: biases and centres of visible units at the frequencies of the data."""
    settings = config.machine
    means = (table.train.sum(axis=0) + 0.5) / (len(table.train) + 1)
    sizes = (table.dimension, *settings.hidden)
    return boltzmann_machine(sizes, scale=settings.scale, seed=config.seed, visible_means=means, dtype=jnp.float32)


def coupling_of(prepared: Any) -> Coupling:
    """How the chains of the unbiased rule are moved together."""
    kind = prepared.config.training.coupling
    if kind == "maximal":
        return MaximalBlockGibbs()
    if kind in ("proposal", "pool"):
        settings = prepared.config.training
        mixture = mixture_of(prepared.split, settings.offered, prepared.config.seed)
        offers = VisibleProposal(mixture) if kind == "proposal" else PooledProposal(mixture, settings.pool)
        return CommonRandomNumbers(Compose((offers, BlockGibbs("sequential"))))
    return CommonRandomNumbers(BlockGibbs("sequential"))


def mixture_of(table: Split, count: int, seed: int) -> BernoulliMixture:
    """What visible units are offered from: softened rows while they are few, else a mixture stopped by held-out rows."""
    if len(table.train) <= FEW_ROWS:
        logits = (2.0 * table.train - 1) * math.log((1 - SOFTENED) / SOFTENED)
        weights = jnp.zeros(len(table.train), jnp.float32)
        return BernoulliMixture(log_weights=weights, logits=jnp.asarray(logits, jnp.float32))
    found = fit_bernoulli_mixture(table.train, min(count, len(table.train)), seed=seed, held_out=table.valid).model
    return BernoulliMixture(log_weights=found.log_weights.astype(jnp.float32), logits=found.logits.astype(jnp.float32))


def is_summed(sizes: tuple[int, ...]) -> bool:
    """Whether sums over a machine of these layers, and over its hidden layers alone, are short."""
    return min(sum(sizes[::2]), sum(sizes[1::2])) <= SUMMED_UNITS


class ExactLoss(Validation):
    """``validation_loss``: - mean log p over rows (row, n_0), by sums over all states."""

    rows: Any

    @property
    def names(self):
        return ("validation_loss",)

    def __call__(self, key, model):
        return {"validation_loss": -jnp.mean(jax.vmap(plain(model).log_likelihood)(self.rows))}


class AnnealedLoss(Validation):
    """``validation_loss``: - mean log p over rows (row, n_0), by short annealing."""

    rows: Any

    @property
    def names(self):
        return ("validation_loss",)

    def __call__(self, key, model):
        return {"validation_loss": annealed_loss(key, plain(model), self.rows)}


def validation(prepared: Any) -> Validation | None:
    """Exact sums over test rows where these are short; else some held-out rows by annealing, where there are such rows."""
    table = prepared.split
    if is_summed(prepared.target.sizes) and len(table.test) <= 500:
        return ExactLoss(jnp.asarray(table.test, jnp.int32))
    rows = table.valid[:FOLLOWED_ROWS]
    return AnnealedLoss(jnp.asarray(rows, jnp.int32)) if len(rows) else None


def trainer(prepared: Any, name: str) -> Trainer:
    """The training of one rule. All rules have the same start, data, batches and rates."""
    settings = prepared.config.training
    machine, rows = prepared.target, jnp.asarray(prepared.split.train, jnp.int32)
    if len(rows) < settings.batch_size:  # bars and stripes are few: every batch holds all of them, equally often
        rows = jnp.tile(rows, (-(-settings.batch_size // len(rows)), 1))
    optimiser: Any = AdamW(
        Cosine(settings.rate, settings.steps, last=0.05), decay=settings.decay, clip=None, spared=("biases",)
    ).transformation()
    model: Any = machine
    if name == "unbiased":
        objective: Any = UnbiasedContrastiveDivergence(
            coupling_of(prepared),
            settings.k,
            settings.m,
            settings.cap,
            settings.start,
            pairs=settings.pairs or None,
            clamped_coupling=CommonRandomNumbers(BlockGibbs("sequential")),
            clamped_window=(min(settings.k, CLAMPED[0]), min(settings.m, CLAMPED[1])),
        )
    elif name == "persistent":
        model = persistent_machine(named_key(prepared.key, "particles"), machine, settings.batch_size)
        objective, optimiser = PersistentContrastiveDivergence(settings.sweeps), persistent_optimiser(optimiser)
    else:
        objective = ContrastiveDivergence(settings.sweeps)
    followed = validation(prepared)
    chunk = min(settings.chunk, settings.steps)
    return Trainer(
        model,
        objective,
        rows,
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimiser=optimiser,
        ema=settings.ema,
        validation=followed,
        validate_every=chunk if isinstance(followed, ExactLoss) else max(chunk, settings.steps // 10),
        steps_per_chunk=chunk,
    )


def plain(model: Any) -> BoltzmannMachine:
    """The machine without its particles."""
    return model.machine if isinstance(model, PersistentMachine) else model


def trained(done: Mapping[str, Any], name: str) -> BoltzmannMachine:
    """The averaged machine of a training's stage."""
    return plain(done[name].process.trained(done[name].carry))


# Likelihoods ----------------------------------------------------------------------------------------------------------
def test_rows(prepared: Any) -> np.ndarray:
    """The rows of the test part that are evaluated."""
    rows = prepared.config.evaluation.rows
    return prepared.split.test[:rows] if rows else prepared.split.test


def likelihood(prepared: Any, done: Mapping[str, Any], name: str) -> RowByRow:
    """Row 0: log Z from below, its error, from above, its error (the rest NaN). Row 1: the clamped sums of the test rows."""
    machine, rows = trained(done, name), test_rows(prepared)
    settings, width = prepared.config.evaluation, max(4, len(test_rows(prepared)))
    key = named_key(prepared.key, f"likelihood {name}")

    def compute(first: int, last: int) -> np.ndarray:
        made = np.full((1, width), np.nan)
        if first == 1:
            options = {"chains": settings.row_chains, "levels": settings.row_levels}
            made[0, : len(rows)] = clamped_log_z(key, machine, jnp.asarray(rows), **options)
        elif is_summed(machine.sizes):
            exact = float(machine.log_z(1.0))
            made[0, :4] = exact, 0.0, exact, 0.0
        else:
            found = log_partition(key, machine, chains=settings.chains, levels=settings.levels)
            sides = (found.lower, found.upper)
            made[0, :4] = [float(value) for side in sides for value in (side.value, side.standard_error)]
        return made

    return RowByRow(compute, 2, width)


def mixture(prepared: Any) -> np.ndarray | None:
    """log densities of the test rows under a mixture of Bernoullis stopped by held-out rows; None where none was asked for."""
    count = min(prepared.config.evaluation.mixture, len(prepared.split.train))
    if not count:
        return None
    fit = fit_bernoulli_mixture(prepared.split.train, count, seed=prepared.config.seed, held_out=prepared.split.valid)
    return nade_stages.log_probs(fit.model, test_rows(prepared))


# Coupled chains -------------------------------------------------------------------------------------------------------
def meetings(prepared: Any, done: Mapping[str, Any]) -> RowByRow:
    """Row 0: when pairs of chains of the first machine met, from local modes; row 1: whether they did before the longest time."""
    machine = trained(done, prepared.config.rules[0])
    settings = prepared.config.evaluation

    def compute(first: int, last: int) -> np.ndarray:
        found = unbiased_estimates(
            named_key(prepared.key, "meetings"),
            coupling_of(prepared),
            ReducedEnergy(machine, ThermoState(1.0)),
            lambda key: start_at_mode(key, machine),
            lambda x: jnp.mean(x.astype(jnp.float32)),
            pairs=settings.pairs,
            cap=settings.longest,
            chunk=min(500, settings.pairs),
        )
        return np.stack([found.meeting_times, found.met]).astype(float)

    return RowByRow(compute, 2, settings.pairs, at_once=2)


# Bias -----------------------------------------------------------------------------------------------------------------
def bias_rows() -> list[tuple[str, Any]]:
    """Estimators whose gradients are compared with the exact one: their names and objectives."""
    made: list[tuple[str, Any]] = [(f"CD-{k}", ContrastiveDivergence(k, 50)) for k in BIASED_SWEEPS]
    unbiased = UnbiasedContrastiveDivergence
    return [
        *made,
        ("unbiased, H_0", unbiased(CommonRandomNumbers(BlockGibbs()), 0, 0, 2000)),
        ("unbiased, H_2:6", unbiased(CommonRandomNumbers(BlockGibbs()), 2, 6, 2000)),
    ]


def bias(prepared: Any) -> RowByRow:
    """Per estimator: |mean - exact| / |exact|, the same expected of noise alone, largest |z|, and the relative variance."""
    machine = boltzmann_machine(TINY, scale=TINY_SCALE, seed=3)
    data, estimators = jnp.array(TINY_DATA), bias_rows()
    key, draws = named_key(prepared.key, "bias"), prepared.config.evaluation.bias_draws

    def compute(first: int, last: int) -> np.ndarray:
        exact = _flat(_exact_gradient(machine, data))
        found = np.asarray(_gradients(key, machine, estimators[first][1], data, draws))
        error = found.std(axis=0, ddof=1) / math.sqrt(draws)
        off, size = found.mean(axis=0) - exact, np.linalg.norm(exact)
        seen = error > 0  # a few draws may all agree in a component
        z = np.abs(off[seen] / error[seen]).max(initial=0.0)
        return np.array(
            [[np.linalg.norm(off) / size, np.linalg.norm(error) / size, z, found.var(axis=0).sum() / size**2]]
        )

    return RowByRow(compute, len(estimators), 4)


@eqx.filter_jit
def _exact_gradient(machine, data):
    params, rest = eqx.partition(machine, trainable(machine))
    return jax.grad(lambda p: -jnp.mean(jax.vmap(eqx.combine(p, rest).log_likelihood)(data)))(params)


@eqx.filter_jit
def _gradients(key, machine, objective, data, draws):
    params, rest = eqx.partition(machine, trainable(machine))

    def one(key):
        gradient = jax.grad(lambda p: objective(key, eqx.combine(p, rest), data)[0])(params)
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=min(250, draws))


def _flat(gradient: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(gradient)])


# Draws ----------------------------------------------------------------------------------------------------------------
def sampler(prepared: Any, done: Mapping[str, Any]) -> ImportanceSampler:
    """Weighted draws of the first machine by annealing."""
    settings, machine = prepared.config.draws, trained(done, prepared.config.rules[0])
    proposal = AnnealedMachine(levels=settings.levels)
    return ImportanceSampler(machine, ThermoState(1.0), proposal, settings.samples, min(250, settings.samples))
