"""The processes of the experiment nade: trainings, log densities of test rows, baselines, draws."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.experiments import densities
from heatbath.experiments.nade import MODELS
from heatbath.experiments.stages import Stage, total_cost
from heatbath.io.density_data import published
from heatbath.io.tables import Split, read_split
from heatbath.models.factor_analysers import fit_factor_analysers
from heatbath.models.gaussian import CorrelatedNormal
from heatbath.models.nade import EoNADE, fit_bernoulli_mixture, random_orders
from heatbath.process import Chunk, Process
from heatbath.random import named_key
from heatbath.samplers.base import Cost
from heatbath.samplers.importance import ImportanceSampler
from heatbath.samplers.proposals import FromDistribution
from heatbath.state import ThermoState
from heatbath.training import AdamW, Constant, Cosine, EarlyStopping, HeldOutLoss, Trainer
from heatbath.training.objectives import MaximumLikelihood
from heatbath.training.objectives.missing_dimensions import MissingDimensions
from heatbath.training.validation import Validation

#: Orderless losses are noisier: validated as many times more rarely, over as many orders or masks, with a longer average.
RARER, MASKS = 4, 4
#: Columns up to which a network for every order is validated by an ensemble of orders; beyond, by the loss it is trained by.
ENSEMBLE_COLUMNS = 500
#: Arrays that weight decay leaves alone: what a law is where nothing is known, and sizes of activations.
SPARED = ("bias", "biases", "head_bias", "scales")
#: Numbers of components among which held-out rows choose a mixture of Bernoullis, and one of factor analysers.
MIXTURES, ANALYSERS = (16, 32, 64, 128), (10, 20, 40)
#: Most iterations of expectation maximisation for factor analysers: some tables need hundreds.
ITERATIONS = 400
#: Orders that go through a network together where the device is not a CPU.
ORDERS_AT_ONCE = 16
#: Rows that go through a model at once when densities are taken, and draws made at once.
ROWS, AT_ONCE = 1000, 250


def read_data(config: Any, base: Path | None = None) -> Split:
    """The table of a checked configuration."""
    data = config.data
    if data.path:
        image = (int(data.image[0]), int(data.image[1])) if data.image else None
        return read_split((base or Path()) / data.path, data.kind, image=image, rule=data.rule, seed=data.seed)
    return published(data.name, folder=Path(data.folder) if data.folder else None, fold=data.fold, seed=data.seed)


def stages(prepared: Any) -> tuple[Stage, ...]:
    """Trainings, evaluations, baselines, draws."""
    config, made = prepared.config, []
    for name in config.models:
        share = 3.0 if MODELS[name].orderless else 1.0
        made.append(Stage(name, lambda done, n=name: trainer(prepared.split, config, n, prepared.key), share=share))
    for name in config.models:
        made.append(Stage(f"rows-{name}", lambda done, n=name: evaluation(prepared, done, n), share=0.5))
    if config.baselines:
        made.append(Stage("baselines", lambda done: baselines(prepared), share=0.3))
    made.append(Stage("draws", lambda done: sampler(prepared, done), share=0.1, units={"energies": "1"}))
    return tuple(made)


def cost(prepared: Any) -> dict[str, int | None]:
    """Memory and disk; the models have no energy to ask for."""
    rows = len(test_rows(prepared)) * (max(prepared.config.evaluation.orders) + 2) * 8
    return total_cost([Cost(0, 2**30, 2**27 + rows)])


class HeldOutEnsemble(Validation):
    """``validation_loss``: negative log-likelihood of held-out rows (n, d) under an ensemble of ``orders`` (order, d).

    What several orders know together goes on improving when each alone has stopped.
    """

    held_out: Any
    orders: Any

    @property
    def names(self) -> tuple[str, ...]:
        return ("validation_loss",)

    def __call__(self, key, model):
        ensemble = EoNADE(
            network=model.network, head=model.head, orders=self.orders, chunk=orders_at_once(len(self.orders))
        )
        return {"validation_loss": -jnp.mean(ensemble.log_probs(self.held_out))}


# Training -------------------------------------------------------------------------------------------------------------
def sizes(config: Any) -> dict[str, Any]:
    """What the builder of a model is told."""
    network = config.network
    return {name: getattr(network, name) for name in ("hidden", "layers", "components", "law", "channels")}


def untrained(split: Split, config: Any, name: str, key: Any) -> Any:
    """The model called ``name`` before training; coins start at the frequencies of the training rows."""
    marginals = None
    if split.kind == "binary":
        marginals = (split.train.sum(axis=0) + 0.5) / (len(split.train) + 1)
    key = named_key(key, f"model {name}")
    dimension, image = split.dimension, split.image
    return densities.build(
        key, name, table=split.kind, dimension=dimension, image=image, marginals=marginals, **sizes(config)
    )


def trainer(split: Split, config: Any, name: str, key: Any) -> EarlyStopping:
    """The training of one model: maximum likelihood, or missing dimensions for models of every order."""
    settings, orderless = config.training, MODELS[name].orderless
    objective = MissingDimensions() if orderless else MaximumLikelihood()
    every = settings.validate_every * (RARER if orderless else 1)
    ema = 1 - (1 - settings.ema) / 10 if orderless else settings.ema
    held_out = as_array(split.valid)
    validation: Validation = HeldOutLoss(objective, held_out, MASKS if orderless else 1, ROWS)
    if name == "deep-nade" and split.dimension <= ENSEMBLE_COLUMNS:
        validation = HeldOutEnsemble(held_out, random_orders(named_key(key, "validation"), MASKS, split.dimension))
    rate = Constant(settings.rate) if settings.schedule == "constant" else Cosine(settings.rate, settings.steps)
    training = Trainer(
        untrained(split, config, name, key),
        objective,
        as_array(split.train),
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimiser=AdamW(rate, decay=settings.decay, clip=settings.clip, spared=SPARED),
        ema=ema if settings.ema else 0.0,
        validation=validation,
        validate_every=min(every, settings.steps),
        steps_per_chunk=min(every, settings.steps),
    )
    return EarlyStopping(training, patience=settings.patience)


def as_array(rows: np.ndarray) -> Any:
    """Rows of a table as the models take them: integers, or numbers in single precision."""
    return jnp.asarray(rows, jnp.int32 if rows.dtype == np.uint8 else jnp.float32)


def trained(done: Mapping[str, Any], name: str) -> Any:
    """The best model of a training's stage."""
    return done[name].process.trained(done[name].carry)


# Densities ------------------------------------------------------------------------------------------------------------
class Rows(NamedTuple):
    """Log densities (row of the table of rows, datum), NaN where they have not been computed, and how many rows have been."""

    values: Any
    done: Any


class RowByRow(Process):
    """``compute(first, last) -> (last - first, data)`` for ``count`` rows, ``at_once`` of them per chunk.

    A row holds the log densities of all test data under one model, or one order of a model.
    """

    compute: Callable[[int, int], np.ndarray] = eqx.field(static=True)
    count: int = eqx.field(static=True)
    data: int = eqx.field(static=True)
    at_once: int = eqx.field(static=True, default=1)

    def begin(self, key):
        return Rows(jnp.full((self.count, self.data), jnp.nan, jnp.float64), jnp.zeros((), jnp.int32))

    def advance(self, carry):
        first = int(carry.done)
        last = min(first + self.at_once, self.count)
        values = np.array(carry.values)
        values[first:last] = self.compute(first, last)
        return Rows(jnp.asarray(values), jnp.asarray(last, jnp.int32)), Chunk(
            "densities", {}, {"evaluations": 0.0, "rows": float(last)}
        )

    def finished(self, carry):
        return int(carry.done) >= self.count

    def progress(self, carry):
        return int(carry.done) / self.count


def test_rows(prepared: Any) -> np.ndarray:
    """The rows of the test part that are evaluated."""
    rows = prepared.config.evaluation.rows
    return prepared.split.test[:rows] if rows else prepared.split.test


def evaluation(prepared: Any, done: Mapping[str, Any], name: str) -> RowByRow:
    """Log densities of the test rows under a trained model: one row per order for orderless ones."""
    model, rows = trained(done, name), test_rows(prepared)
    if not MODELS[name].orderless:
        return RowByRow(lambda first, last: log_probs(model, rows)[None], 1, len(rows))
    orders = random_orders(named_key(prepared.key, "orders"), max(prepared.config.evaluation.orders), rows.shape[1])
    at_once = min(16, len(orders))
    return RowByRow(
        lambda first, last: log_probs_by_order(model, orders[first:last], rows), len(orders), len(rows), at_once
    )


def log_probs(model: Any, rows: np.ndarray) -> np.ndarray:
    """Log densities of a table, ``ROWS`` at a time."""
    parts = [_log_probs(model, as_array(rows[start : start + ROWS])) for start in range(0, len(rows), ROWS)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def orders_at_once(count: int) -> int:
    """Of ``count`` orders. On CPUs one after the other is fastest: the memory of one order stays in the cache."""
    return 1 if jax.default_backend() == "cpu" else min(ORDERS_AT_ONCE, count)


def log_probs_by_order(model: Any, orders: Any, rows: np.ndarray) -> np.ndarray:
    """Log densities (order, row) of a table under a model in several orders, ``ROWS`` at a time."""
    ensemble = EoNADE(network=model.network, head=model.head, orders=orders, chunk=orders_at_once(len(orders)))
    parts = [_by_order(ensemble, as_array(rows[start : start + ROWS])) for start in range(0, len(rows), ROWS)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)


@eqx.filter_jit
def _log_probs(model, rows):
    return model.log_probs(rows)


@eqx.filter_jit
def _by_order(ensemble, rows):
    return ensemble.log_probs_by_order(rows)


# Baselines ------------------------------------------------------------------------------------------------------------
def baselines(prepared: Any) -> RowByRow:
    """Log densities of the test rows under every baseline, one row each."""
    names, rows = prepared.config.baselines, test_rows(prepared)

    def compute(first: int, last: int) -> np.ndarray:
        found = (
            baseline(prepared.split, prepared.config.evaluation, name, prepared.config.seed)
            for name in names[first:last]
        )
        return np.stack([log_probs(model, rows) for model in found])

    return RowByRow(compute, len(names), len(rows))


def baseline(split: Split, settings: Any, name: str, seed: int) -> Any:
    """A fitted baseline; expectation maximisation stops by the held-out rows, which also choose the size of a mixture."""
    if name == "factor-analysers":
        factors = min(settings.factors, split.dimension)
        counts = (settings.analysers,) if settings.analysers else ANALYSERS
        counts = tuple(count for count in counts if count <= len(split.train)) or (1,)
        more = {"seed": seed, "iterations": ITERATIONS, "held_out": split.valid}
        fits = [fit_factor_analysers(split.train, count, factors, **more) for count in counts]
        return max(fits, key=lambda fit: fit.valid.max()).model
    if name == "gaussian":
        return CorrelatedNormal.from_covariance(split.train.mean(axis=0), np.cov(split.train.T))
    if name == "bernoulli-mixture":
        counts = (settings.mixture,) if settings.mixture else MIXTURES
        counts = tuple(count for count in counts if count <= len(split.train)) or (1,)
        fits = [fit_bernoulli_mixture(split.train, count, seed=seed, held_out=split.valid) for count in counts]
        return max(fits, key=lambda fit: fit.valid.max()).model
    if split.kind == "binary":
        return fit_bernoulli_mixture(split.train, 1, seed=seed, prior=0.5, iterations=3).model
    return CorrelatedNormal.from_covariance(split.train.mean(axis=0), np.diag(split.train.var(axis=0)))


# Draws ----------------------------------------------------------------------------------------------------------------
def sampler(prepared: Any, done: Mapping[str, Any]) -> ImportanceSampler:
    """Draws of the first model in the table's own units, with its own density as the energy."""
    draws = prepared.config.draws.samples
    target = densities.learned_target(trained(done, prepared.config.models[0]), densities.facts(prepared.split))
    return ImportanceSampler(target, ThermoState(1.0), FromDistribution(target.model), draws, min(AT_ONCE, draws))
