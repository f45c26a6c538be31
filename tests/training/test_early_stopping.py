"""The best model is kept, held-out data end the training, and a carry that was saved goes on as if it had not been."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.models.nade import BernoulliMixture, deep_nade
from heatbath.training import AdamW, Constant, EarlyStopping, HeldOutLoss, Trainer
from heatbath.training.objectives import MaximumLikelihood
from heatbath.training.objectives.missing_dimensions import MissingDimensions

RNG = np.random.default_rng(0)
TRAIN = jnp.asarray(RNG.random((8, 6)) < 0.5, jnp.int32)
HELD = jnp.asarray(RNG.random((40, 6)) < 0.5, jnp.int32)


def mixture():
    """Enough components to learn eight rows by heart."""
    return BernoulliMixture(jnp.zeros(8), 0.1 * jax.random.normal(jax.random.key(1), (8, 6)))


def stopping(steps=400, patience=3, **options):
    trainer = Trainer(
        mixture(),
        MaximumLikelihood(),
        TRAIN,
        steps=steps,
        batch_size=8,
        optimiser=AdamW(Constant(0.05), clip=None),
        ema=0.0,
        validation=HeldOutLoss(MaximumLikelihood(), HELD, chunk=16),
        **{"validate_every": 10, "steps_per_chunk": 10, **options},
    )
    return EarlyStopping(trainer, patience=patience)


def run(process, carry):
    metrics = []
    while not process.finished(carry):
        carry, chunk = process.advance(carry)
        metrics.append(chunk.metrics)
    return carry, metrics


def test_the_best_model_is_kept_and_the_end_comes_early():
    """Rows that are learned by heart make held-out data worse: the last model must not be the result."""
    process = stopping()
    carry, metrics = run(process, process.begin(jax.random.key(0)))
    history = process.history(carry)
    losses = history["valid"]
    assert len(losses) < 40, "noise cannot be learned, so the training has to stop before its last step"
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    best = -float(jnp.mean(process.trained(carry).log_probs(HELD)))
    assert best == pytest.approx(losses.min(), abs=1e-6)
    last = -float(jnp.mean(process.trainer.trained(carry.training).log_probs(HELD)))
    assert last > best, "control: the model of the last step is worse"
    assert history["train"][-1] < history["train"][0]
    assert metrics[-1]["best_validation_loss"] == pytest.approx(best, abs=1e-6)
    assert process.progress(carry) == 1.0


def test_going_on_from_a_saved_carry_changes_nothing():
    """A run that was resumed would otherwise end with another model."""
    process = stopping(steps=60, patience=50)
    once, _ = run(process, process.begin(jax.random.key(0)))
    carry, _ = process.advance(process.begin(jax.random.key(0)))
    carry = jax.tree.map(jnp.asarray, jax.device_get(carry))
    again, _ = run(process, carry)
    for one, two in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
    assert int(once.training.step) == 60


def test_held_out_loss_is_the_same_every_time_and_the_mean_over_rows():
    """Other random numbers at every validation would make the lowest loss the luckiest one."""
    model = mixture()
    found = HeldOutLoss(MaximumLikelihood(), HELD, chunk=16)(jax.random.key(0), model)["validation_loss"]
    assert float(found) == pytest.approx(-float(jnp.mean(model.log_probs(HELD))), abs=1e-6)
    network = deep_nade(jax.random.key(0), 6, (4,), marginals=np.full(6, 0.3))
    loss = HeldOutLoss(MissingDimensions(), HELD, repeats=2, chunk=16)
    one, two = (float(loss(jax.random.key(seed), network)["validation_loss"]) for seed in (0, 1))
    assert one == two


def test_what_cannot_stop_is_refused():
    """Without a validation, or with chunks between validations, patience would count something else."""
    with pytest.raises(InvalidArgumentError, match="every chunk"):
        stopping(validate_every=20)
    with pytest.raises(InvalidArgumentError, match="patience"):
        stopping(patience=0)
    with pytest.raises(InvalidArgumentError, match="validation_loss"):
        EarlyStopping(Trainer(mixture(), MaximumLikelihood(), TRAIN, steps=1))


def test_decay_spares_what_it_is_told_to():
    """With a zero gradient, decay alone moves the arrays: those that are spared must stay."""
    params = {"loadings": jnp.ones(2), "nested": BernoulliMixture(jnp.ones(2), jnp.ones((2, 3)))}
    transformation = AdamW(Constant(0.1), decay=0.5, spared=("log_weights",)).transformation()
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(zero, transformation.init(params), params)
    assert float(jnp.abs(updates["nested"].log_weights).max()) == 0
    np.testing.assert_allclose(updates["nested"].logits, -0.05)
    np.testing.assert_allclose(updates["loadings"], -0.05)
