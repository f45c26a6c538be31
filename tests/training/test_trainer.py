"""The training loop: what it changes, what it skips, what it averages, and that it continues bitwise and compiles once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.io.trees import flatten, restore
from heatbath.models.gaussian import Normal
from heatbath.training import AdamW, Constant, OneCycle, Trainer, WeightsAndLikelihood, fit, parameter_count, trainable
from heatbath.training.objectives import MaximumLikelihood, Objective, WeightedSum


class Quadratic(Objective):
    """|mean - 1|^2 / 2 of a model: gradient descent on it is known in closed form."""

    def __call__(self, key, model, batch):
        return 0.5 * jnp.sum((model.mean - 1.0) ** 2), {}


class Poisoned(Objective):
    """Maximum likelihood whose gradient is NaN whenever the first configuration of a batch is positive."""

    def __call__(self, key, model, batch):
        loss = -jnp.mean(jax.vmap(model.log_prob)(batch))
        return loss + jnp.where(batch[0, 0] > 0, jnp.nan, 0.0) * jnp.sum(model.mean), {}


class Counting(Objective):
    """Counts how often it is traced."""

    traces: list = eqx.field(static=True)

    def __call__(self, key, model, batch):
        self.traces.append(1)
        return MaximumLikelihood()(key, model, batch)


@pytest.fixture
def data(key):
    return 3.0 + 2.0 * jax.random.normal(key, (600, 2))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def run(trainer, key, stop_after=None, carry=None):
    """Drive; optionally stop after some chunks, as a killed process would."""
    carry = trainer.begin(key) if carry is None else carry
    chunks = 0
    while not trainer.finished(carry) and chunks != stop_after:
        carry, _ = trainer.advance(carry)
        chunks += 1
    return carry


# What is trained ------------------------------------------------------------------------------------------------------
def test_frozen_classes_and_integers_are_left_alone(key, normal, data):
    """A base distribution or a standardisation that learns would no longer be the one that is written down."""
    model = normal()
    spec = trainable(model)
    assert spec.mean
    assert spec.log_scale
    assert spec.base is False
    assert parameter_count(model) == 4
    fitted = fit(key, model, MaximumLikelihood(), data, steps=20, batch_size=64)
    assert (fitted.model.mean != model.mean).all()
    assert eqx.tree_equal(fitted.model.base, model.base)
    with pytest.raises(InvalidArgumentError, match="nothing to train"):
        Trainer(Normal(jnp.zeros(2)), MaximumLikelihood(), data, steps=1)


def test_a_step_of_gradient_descent(key, normal):
    """With plain SGD on |m - 1|^2 / 2 the mean after n steps is 1 - (1 - rate)^n."""
    fitted = fit(key, normal(), Quadratic(), steps=7, optimiser=optax.sgd(0.1), steps_per_chunk=3, ema=0.0)
    np.testing.assert_allclose(fitted.latest.mean, 1 - 0.9**7, rtol=1e-12)
    assert eqx.tree_equal(fitted.model.mean, fitted.latest.mean)


def test_the_average_is_the_formula(key, normal):
    """a <- d a + (1 - d) x with d = min(ema, (1 + t)/(10 + t)), begun at the start."""
    ema = 0.8
    fitted = fit(key, normal(), Quadratic(), steps=60, optimiser=optax.sgd(0.1), ema=ema, steps_per_chunk=7)
    mean, averaged = 0.0, 0.0
    for step in range(60):
        mean = mean + 0.1 * (1 - mean)
        decay = min(ema, (1 + step) / (10 + step))
        averaged = decay * averaged + (1 - decay) * mean
    np.testing.assert_allclose(fitted.model.mean, averaged, rtol=1e-12)
    assert abs(averaged - mean) > 1e-4


def test_steps_with_gradients_that_are_not_finite_are_skipped_whole(key, normal, data):
    """One NaN must change neither the model nor Adam's moments, and must be counted."""
    centred = data - 3.0
    trainer = Trainer(normal(), Poisoned(), centred, steps=40, batch_size=10, optimiser=AdamW(Constant(1e-2)))
    carry = run(trainer, key)
    assert 5 < int(carry.skipped) < 35
    assert all(np.isfinite(leaf).all() for leaf in leaves((carry.params, carry.average, carry.optimiser)))
    poisoned = Trainer(normal(), Poisoned(), jnp.abs(data) + 1.0, steps=10, batch_size=10)
    begun = poisoned.begin(key)
    carry, chunk = poisoned.advance(begun)
    assert int(carry.skipped) == 10
    assert np.isnan(chunk.metrics["loss"])
    for before, after in zip(
        leaves((begun.params, begun.optimiser)), leaves((carry.params, carry.optimiser)), strict=True
    ):
        assert (before == after).all()


# Resuming -------------------------------------------------------------------------------------------------------------
def augment(key, x):
    return x + 0.01 * jax.random.normal(key, x.shape)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_killed_training_continues_bitwise(key, normal, data, stop_after):
    """A resumed training that differs in one bit is another training. 7 does not divide 50, nor do epochs end with chunks."""

    def make():
        return Trainer(
            normal(),
            MaximumLikelihood(),
            data,
            steps=50,
            batch_size=64,
            augment=augment,
            validation=WeightsAndLikelihood(held_out=data[:20]),
            validate_every=10,
            steps_per_chunk=7,
        )

    whole = run(make(), key)
    stopped = run(make(), key, stop_after=stop_after)
    saved = flatten(stopped)
    again = make()
    resumed = run(again, key, carry=restore(again.begin(key), saved))
    for one, two in zip(leaves(whole), leaves(resumed), strict=True):
        assert one.tobytes() == two.tobytes()


def test_chunks_do_not_matter_and_the_key_does(key, normal, data):
    """The same steps in other chunks give the same model; negative control: another key gives another one."""

    def params(chunk, key):
        trainer = Trainer(normal(), MaximumLikelihood(), data, steps=40, batch_size=64, steps_per_chunk=chunk)
        return leaves(run(trainer, key).params)

    one, two, other = params(40, key), params(9, key), params(9, jax.random.fold_in(key, 1))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


# Compiling ------------------------------------------------------------------------------------------------------------
def test_a_second_fit_of_equal_shapes_compiles_nothing(key, normal, data):
    """Other data, rates, seeds, starts and lengths must not cost minutes of compilation again; another size must."""
    traces: list = []
    objective = Counting(traces)

    def once(seed, steps, rate, batch_size=64):
        start = eqx.tree_at(lambda m: m.mean, normal(), jnp.full(2, float(seed)))
        optimiser = AdamW(OneCycle(rate, steps))
        fit(
            jax.random.key(seed), start, objective, data + seed, steps=steps, batch_size=batch_size, optimiser=optimiser
        )

    once(0, 130, 1e-3)
    first = len(traces)
    assert first > 0
    once(1, 250, 2e-3)
    assert len(traces) == first
    once(1, 130, 1e-3, batch_size=32)
    assert len(traces) > first


# Metrics and refusals -------------------------------------------------------------------------------------------------
def test_what_a_chunk_tells(key, normal, data):
    """The progress line and the report read these names."""
    trainer = Trainer(
        normal(),
        WeightedSum((MaximumLikelihood(), Quadratic()), (1.0, 0.5)),
        data,
        steps=30,
        batch_size=64,
        validation=WeightsAndLikelihood(held_out=data[:20]),
        validate_every=20,
        steps_per_chunk=10,
    )
    carry, first = trainer.advance(trainer.begin(key))
    assert first.phase == "training"
    assert not first.arrays
    metrics = first.metrics
    assert metrics["optimiser_step"] == 10
    assert metrics["validation_step"] == -1
    assert np.isnan(metrics["validation_loss"])
    np.testing.assert_allclose(metrics["loss"], metrics["loss_0"] + 0.5 * metrics["loss_1"], rtol=1e-12)
    carry, second = trainer.advance(carry)
    assert second.metrics["validation_step"] == 20
    by_hand = -np.mean(jax.vmap(trainer.trained(carry).log_prob)(data[:20]))
    np.testing.assert_allclose(second.metrics["validation_loss"], by_hand, rtol=1e-9)
    assert trainer.progress(carry) == pytest.approx(2 / 3)
    carry, third = trainer.advance(carry)
    assert third.metrics["validation_step"] == 30
    assert trainer.finished(carry)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 1, "batch_size": 0}, "batch_size"),
        ({"steps": 1, "ema": 1.0}, "ema"),
        ({"steps": 1, "steps_per_chunk": 0}, "steps_per_chunk"),
    ],
)
def test_impossible_settings_are_refused(normal, data, options, word):
    """A training of no steps, or with an average that never moves, would return the start."""
    with pytest.raises(InvalidArgumentError, match=word):
        Trainer(normal(), MaximumLikelihood(), data, **options)


def test_one_weight_per_objective():
    """A weight too few would drop an objective silently."""
    with pytest.raises(InvalidArgumentError, match="one weight per objective"):
        WeightedSum((Quadratic(),), (1.0, 2.0))
