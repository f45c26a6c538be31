"""Kinds of models: each is built, trained a few steps, written, read back for its target, and refused for any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, ModelError, UsageError
from heatbath.experiments import generator_builders, generators, training_data
from heatbath.experiments.generator_training import curve, make_trainer, verdict
from heatbath.experiments.train import TrainingConfig
from heatbath.io.models import ModelCard, save_model
from heatbath.state import ReducedEnergy, at_temperature
from heatbath.targets import registry
from heatbath.training.trainer import Trainer

SETTINGS = TrainingConfig(steps=4, batch_size=8, rate=1e-3, decay=0.0, validate_every=4, validation_draws=8, chunk=2)
#: kind -> target that it draws
CASES = [
    (kind.name, "alanine-dipeptide" if kind.molecules is not False else "mueller-brown")
    for kind in generators.KINDS.values()
]
CASES += [(kind.name, "mueller-brown") for kind in generators.KINDS.values() if kind.molecules is None]
TEMPERATURES = {"alanine-dipeptide": "300 K", "mueller-brown": "15.0"}


@pytest.fixture(scope="module")
def targets():
    return {name: registry.make(name) for name in TEMPERATURES}


def configurations(target, count=24):
    """Something to standardise by: the reference structure with noise, or normal vectors."""
    noise = np.random.default_rng(0).normal(size=(count, *target.space.event_shape))
    if getattr(target, "positions", None) is None:
        return noise
    return (np.asarray(target.positions) + 0.005 * noise).astype(np.float32)


def card_of(kind, sizes, target, temperature, model):
    described = generators.describe_target(target)
    scale = generator_builders.centre_scale(model)
    return ModelCard(kind, sizes, described, temperature, generators.get(kind).steerable, scale)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: value)
def test_a_kind_from_data_to_a_file_and_back(kind, name, targets, tmp_path, key):
    """A kind whose model does not come back with the same density cannot be sampled from later."""
    target, temperature = targets[name], TEMPERATURES[name]
    data = configurations(target, 200)
    sizes = generators.sizes_of(kind, "toy")
    state = at_temperature(target, temperature)
    trainer = make_trainer(
        key, target, state, jnp.asarray(data), jnp.asarray(data[:8]), kind=kind, sizes=sizes, settings=SETTINGS
    )
    carry = trainer.begin(key)
    while not trainer.finished(carry):
        carry, chunk = trainer.advance(carry)
    assert chunk.metrics["skipped"] == 0
    assert np.isfinite(chunk.metrics["loss"])
    assert np.isfinite(chunk.metrics["validation_loss"])
    assert 0 <= chunk.metrics["validation_ess"] <= 1
    model = trainer.trained(carry)
    save_model(tmp_path / "model", model, card_of(kind, sizes, target, temperature, model))
    loaded, _ = generators.load_generator(tmp_path / "model", target, temperature)
    x, log_prob = jax.jit(lambda k: model.sample_and_log_prob(k))(jax.random.key(5))
    y, again = jax.jit(lambda k: loaded.sample_and_log_prob(k))(jax.random.key(5))
    np.testing.assert_allclose(again, log_prob, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_model_is_refused_for_another_target_or_temperature(targets, tmp_path, key):
    """Weights of a model of other atoms mean nothing; the error says what differs."""
    target = targets["mueller-brown"]
    sizes = generators.sizes_of("coupling-flow", "toy")
    model = generators.build("coupling-flow", key, target, configurations(target), **sizes)
    path = save_model(tmp_path / "model", model, card_of("coupling-flow", sizes, target, "15.0", model))
    with pytest.raises(ModelError, match=r"alanine-dipeptide here.*heatbath train"):
        generators.load_generator(path, targets["alanine-dipeptide"])
    with pytest.raises(ModelError, match="parameters differ"):
        generators.load_generator(path, registry.make("mueller-brown", scale=2.0))
    with pytest.raises(ModelError, match=r"trained at 15.*asked for 10"):
        generators.load_generator(path, target, "10")
    assert generators.load_generator(path, target, "15")[1].kind == "coupling-flow"
    other = card_of("coupling-flow", {**sizes, "layers": 3}, target, "15.0", model)
    with pytest.raises(ModelError, match="another architecture"):
        generators.load_generator(save_model(tmp_path / "other", model, other), target)
    unknown = card_of("coupling-flow", {"colour": 3}, target, "15.0", model)
    with pytest.raises(ModelError, match="cannot be built"):
        generators.load_generator(save_model(tmp_path / "unknown", model, unknown), target)


def test_a_force_field_is_part_of_a_target(targets):
    """The same atoms with other energies are another distribution."""
    other = registry.make("alanine-dipeptide", forcefield="amber14-obc1")
    card = ModelCard("transformer-flow", {}, generators.describe_target(targets["alanine-dipeptide"]), "300 K")
    generators.check_target(card, registry.make("alanine-dipeptide"))
    with pytest.raises(ModelError, match="forcefield amber99sbildn-obc2 there, amber14-obc1 here"):
        generators.check_target(card, other)


def test_a_steerable_model_knows_every_temperature():
    """It is what steerable models are for; others must refuse."""
    card = ModelCard("steerable-flow", {}, {}, "600 K", steerable=True)
    generators.check_temperature(card, "300 K", "kJ/mol")
    with pytest.raises(ModelError, match=r"600 K.*asked for 300 K"):
        generators.check_temperature(ModelCard("transformer-flow", {}, {}, "600 K"), "300 K", "kJ/mol")


def test_named_sizes_and_their_mistakes():
    """A setting that does not exist must not be ignored."""
    assert generators.sizes_of("coupling-flow", "toy", {"layers": 5})["layers"] == 5
    for words, call in (
        ("no kind of model", lambda: generators.get("transformer")),
        ("no size 'smal'.*small", lambda: generators.sizes_of("coupling-flow", "smal")),
        ("no setting 'layer'.*layers", lambda: generators.sizes_of("coupling-flow", "small", {"layer": 1})),
        ("such as 8", lambda: generators.sizes_of("coupling-flow", "small", {"layers": "many"})),
        ("draws molecules", lambda: generators.check_kind("transformer-flow", molecule=False)),
    ):
        with pytest.raises(UsageError, match=words):
            call()


def test_sizes_are_those_of_the_models_own_table():
    """The registry repeats the paper's sizes so that they can be read without JAX; both must say the same."""
    import dataclasses

    from heatbath.models import binned_autoregressive, transformer_flow

    for kind, module in (("transformer-flow", transformer_flow), ("binned-autoregressive", binned_autoregressive)):
        sizes = generators.get(kind).sizes
        for name, size in module.SIZES.items():
            assert size == dataclasses.replace(type(size)(), **sizes["small" if name == "two-cores" else name])


def test_a_mirror_image_has_no_weight(targets, key):
    """Its energy is that of the molecule, so only its hand tells that it is another one; the negative control is the plain u."""
    target = targets["alanine-dipeptide"]
    state = at_temperature(target, "300 K")
    model = generators.build("transformer-flow", key, target, **generators.sizes_of("transformer-flow", "toy"))
    u = generator_builders.extended_energy(model, target, state)
    plain = ReducedEnergy(target, generator_builders.extended_state(model, state))
    x = target.positions
    np.testing.assert_allclose(u(x), plain(x), rtol=1e-12)
    np.testing.assert_allclose(plain(-x), plain(x), rtol=1e-9)
    assert np.isposinf(u(-x))


# Data -----------------------------------------------------------------------------------------------------------------
def ensemble(samples, log_weights, axes):
    from heatbath.ensemble import Ensemble
    from heatbath.state import ThermoState

    return Ensemble(samples, log_weights, ThermoState(1.0), np.zeros(log_weights.shape), axes=axes)


def test_training_data_follow_the_weights_and_keep_chains_apart():
    """A held-out configuration of a chain that was learnt from would flatter the model."""
    samples = np.arange(40.0).reshape(4, 10, 1)
    log_weights = np.where(np.arange(10) % 2 == 0, 0.0, -np.inf) * np.ones((4, 1))
    found = training_data.from_ensemble(
        ensemble(samples, log_weights, ("chain", "draw")), 20, held_out=0.25, molecule=False, seed=0, source="here"
    )
    assert found.train.shape == (15, 1)
    assert found.held_out.shape == (5, 1)
    assert (found.train < 30).all()
    assert (found.held_out >= 30).all()
    assert (found.train % 2 == 0).all()
    single = training_data.from_ensemble(
        ensemble(samples[0], np.zeros(10), ("draw",)), 10, held_out=0.2, molecule=False, seed=0, source="here"
    )
    assert single.train.ravel().tolist() == list(range(8))
    assert single.held_out.ravel().tolist() == [8, 9]
    with pytest.raises(InvalidArgumentError, match="at least 8 frames"):
        training_data.from_ensemble(
            ensemble(samples, log_weights, ("chain", "draw")), 5, held_out=0.2, molecule=False, seed=0, source="here"
        )


def test_emphasis_is_on_what_is_learnt_only():
    """A rare basin is learnt from as often as a common one; held-out data that were bent too would give a wrong forward ESS."""
    samples = np.tile(np.arange(100.0), (4, 1))[..., None]
    drawn = ensemble(samples, np.zeros((4, 100)), ("chain", "draw"))

    class TwoBasins:
        def basins(self):
            return {"rare": lambda x: x[0] >= 90.0, "common": lambda x: x[0] < 90.0}

    factor = training_data.equal_basins(TwoBasins(), drawn)
    np.testing.assert_allclose(factor[0, [0, 95]], [1 / 0.9, 1 / 0.1])
    found = training_data.from_ensemble(
        drawn, 400, held_out=0.25, molecule=False, seed=0, source="here", emphasis=factor
    )
    assert found.train.shape == (300, 1)
    assert (found.train >= 90).mean() == pytest.approx(0.5, abs=0.01)
    assert (found.held_out >= 90).mean() == pytest.approx(0.1)
    with pytest.raises(UsageError, match="names its basins"):
        training_data.equal_basins(object(), drawn)


def test_molecules_are_centred():
    """Chains drift; a model with a law for the centre must not see where they went."""
    samples = np.random.default_rng(0).normal(size=(50, 5, 3)) + 7.0
    found = training_data.from_ensemble(
        ensemble(samples, np.zeros(50), ("draw",)), 50, held_out=0.2, molecule=True, seed=0, source="here"
    )
    assert found.train.dtype == np.float32
    assert (np.abs(found.train.mean(axis=1)) < 1e-6).all()


# Numbers --------------------------------------------------------------------------------------------------------------
def test_the_curve_has_each_validation_once():
    """A validation is repeated in every chunk's metrics until the next; a curve must not draw stairs."""
    rows = [
        {
            "optimiser_step": 10 * i,
            "loss": None if i == 3 else 1.0 / i,
            "validation_step": -1 if i < 2 else 20 * (i // 2),
            "validation_ess": None if i < 2 else 0.1 * (i // 2),
        }
        for i in range(1, 9)
    ]
    found = curve(rows)
    assert found["validation_step"] == [20, 40, 60, 80]
    np.testing.assert_allclose(found["validation_ess"], [0.1, 0.2, 0.3, 0.4])
    assert found["step"] == [10, 20, 40, 50, 60, 70, 80]
    assert "validation_loss" not in found


@pytest.mark.parametrize(
    ("effective", "forward", "finished", "good", "words"),
    [
        (0.3, 0.2, True, True, "worth 30 %"),
        (0.3, 0.2, False, False, "not come to its end"),
        (0.001, 0.2, True, False, "mean nothing"),
        (float("nan"), 0.2, True, False, "mean nothing"),
    ],
)
def test_the_verdict_can_say_no(effective, forward, finished, good, words):
    """A model whose weights mean nothing must not be called good."""
    found = verdict(effective, forward, finished=finished)
    assert found["converged"] is good
    assert words in " ".join(found["reasons"])


def test_the_verdict_warns_of_missing_modes():
    """High efficiency of own draws with low efficiency of the data is how a lost mode looks."""
    assert verdict(0.5, 0.01, finished=True)["cautions"]
    assert not verdict(0.5, 0.4, finished=True)["cautions"]


def test_make_trainer_gives_a_trainer(targets, key):
    """The fast counterpart of the slow round trip: one kind, one step."""
    target = targets["mueller-brown"]
    data = jnp.asarray(configurations(target, 32))
    settings = SETTINGS
    trainer = make_trainer(
        key,
        target,
        at_temperature(target, "15.0"),
        data,
        data[:8],
        kind="coupling-flow",
        sizes=generators.sizes_of("coupling-flow", "toy"),
        settings=settings,
    )
    assert isinstance(trainer, Trainer)
    _, chunk = trainer.advance(trainer.begin(key))
    assert chunk.metrics["optimiser_step"] == 2
    assert np.isfinite(chunk.metrics["loss"])
