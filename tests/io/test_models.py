"""Model directories: what is read is what was written, and every way in which it can be wrong is told apart."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import ModelError
from heatbath.io.models import ModelCard, find_model, load_model, read_card, save_model


class Small(eqx.Module):
    weight: jax.Array
    order: jax.Array
    name: str = eqx.field(static=True, default="small")


def make(seed=0, width=3):
    weight = jax.random.normal(jax.random.key(seed), (width,), jnp.float32)
    return Small(weight, jax.random.permutation(jax.random.key(seed), width))


CARD = ModelCard(
    kind="small",
    sizes={"width": 3},
    target={"name": "toy", "configuration": {"name": "toy"}},
    temperature="300 K",
    centre_scale=0.1,
    training={"command": 'train "a b"', "steps": 10, "curve": {"loss": [1.0, float("nan")]}, "nothing": None},
)


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model", make(1), CARD)


def test_what_is_read_is_what_was_written(folder):
    """A parameter that comes back changed, or a card that forgets its temperature, would give wrong weights."""
    model, card = load_model(folder, lambda card: make(0, **card.sizes))
    assert np.asarray(model.weight).tobytes() == np.asarray(make(1).weight).tobytes()
    assert (model.order == make(1).order).all()
    assert card.temperature == "300 K"
    assert card.centre_scale == 0.1
    assert card.training["command"] == 'train "a b"'
    assert "nothing" not in card.training
    assert {file.name for file in folder.iterdir()} == {"model.toml", "arrays.npz"}


def test_a_run_directory_holds_its_model(folder):
    """People give the run; the model inside it must be found, and an empty folder refused with what to do."""
    assert find_model(folder.parent) == folder == find_model(folder)
    with pytest.raises(ModelError, match="heatbath train"):
        find_model(folder.parent / "elsewhere")


def test_writing_again_replaces_and_writes_the_same_bytes(folder):
    """The checksum of a shipped model must not depend on the clock."""
    before = (folder / "arrays.npz").read_bytes()
    save_model(folder, make(1), CARD)
    assert (folder / "arrays.npz").read_bytes() == before
    save_model(folder, make(2), CARD)
    assert (folder / "arrays.npz").read_bytes() != before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_precision_of_the_reader_decides(tmp_path):
    """A model written in 64-bit constants is read by a program that runs in 32 bit, and the other way round."""
    wide, narrow = eqx.tree_at(lambda m: m.weight, make(1), jnp.ones(3, jnp.float64)), make(0)
    assert load_model(save_model(tmp_path / "one", wide, CARD), lambda card: narrow)[0].weight.dtype == jnp.float32
    assert load_model(save_model(tmp_path / "two", narrow, CARD), lambda card: wide)[0].weight.dtype == jnp.float64


def damage(folder, how):
    arrays, card = folder / "arrays.npz", folder / "model.toml"
    if how == "truncated":
        arrays.write_bytes(arrays.read_bytes()[:100])
    elif how == "missing arrays":
        arrays.unlink()
    elif how == "broken card":
        card.write_text("kind = ")
    elif how == "another format":
        card.write_text(card.read_text().replace("format = 1", "format = 99"))
    elif how == "incomplete card":
        card.write_text("\n".join(line for line in card.read_text().splitlines() if not line.startswith("kind")))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "damaged.*Copy it again"),
        ("missing arrays", "beside model.toml"),
        ("broken card", "cannot be read"),
        ("another format", "format 99"),
        ("incomplete card", "lacks kind"),
    ],
)
def test_damage_is_named(folder, how, words):
    """A half-copied model must not be drawn from."""
    damage(folder, how)
    with pytest.raises(ModelError, match=words):
        load_model(folder, lambda card: make())


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (lambda card: make(0, width=4), "another architecture.*weight"),
        (lambda card: {"weight": jnp.zeros(3)}, "another architecture.*(missing|unknown)"),
        (lambda card: eqx.tree_at(lambda m: m.order, make(), jnp.zeros(3)), "another architecture.*order.*integers"),
    ],
)
def test_arrays_of_another_architecture_are_refused(folder, template, words):
    """Arrays forced into another model would give a density that belongs to nothing."""
    with pytest.raises(ModelError, match=words):
        load_model(folder, template)


def test_a_card_is_read_without_jax(folder):
    """`heatbath show` on a model must answer at once."""
    code = (
        "import sys; from pathlib import Path; from heatbath.io.models import read_card; "
        f"assert read_card(Path({str(folder)!r})).kind == 'small'; sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert read_card(folder).kind == "small"
