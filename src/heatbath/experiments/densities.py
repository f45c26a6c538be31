"""Models of tables by name, and their directories: what the experiment nade trains and ``heatbath sample --model`` draws from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from heatbath.errors import InvalidArgumentError, ModelError
from heatbath.experiments.cards import is_density
from heatbath.io.models import ModelCard, load_model
from heatbath.models.base import Distribution
from heatbath.models.nade import (
    Convolution,
    MixtureHead,
    convolutional_nade,
    deep_nade,
    made,
    nade,
    rnade,
)
from heatbath.samplers.machine_annealing import AnnealedMachine
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.targets.base import Target
from heatbath.targets.boltzmann_machines import boltzmann_machine
from heatbath.targets.learned import LearnedDensity

#: The kind of model that is an energy, not a density: its draws carry weights.
BOLTZMANN_MACHINE = "boltzmann-machine"


class InOwnUnits(Distribution):
    """y = means + scales x with x of ``model``: log p(y) = log p(x) - sum log scales."""

    frozen: ClassVar[bool] = True

    model: Distribution
    means: Float[Array, " d"]
    scales: Float[Array, " d"]

    def sample(self, key):
        return self.means + self.scales * self.model.sample(key)

    def log_prob(self, x):
        return self.model.log_prob((x - self.means) / self.scales) - jnp.sum(jnp.log(self.scales))


def build(
    key: Any, name: str, *, table: str, dimension: int, image: Any = None, marginals: Any = None, **sizes: Any
) -> Any:
    """An untrained model called ``name`` for a ``table`` "binary" or "real" of ``dimension`` columns.

    ``sizes``: ``hidden``, ``layers``, ``components``, ``law``, ``channels``. Coins start at ``marginals`` where they are given.
    A "boltzmann-machine" is told its ``hidden`` layers and, for draws, ``levels``. Raises ``InvalidArgumentError`` where a model
    does not fit the table.
    """
    if name == BOLTZMANN_MACHINE:
        half = np.full(dimension, 0.5)
        return boltzmann_machine((dimension, *sizes["hidden"]), visible_means=half, dtype=jnp.float32)
    hidden, layers = int(sizes["hidden"]), (int(sizes["hidden"]),) * int(sizes["layers"])
    real = table == "real"
    head = MixtureHead(int(sizes["components"]), sizes["law"]) if real else None
    if name == "nade" and real:
        return rnade(key, dimension, hidden, components=int(sizes["components"]), kind=sizes["law"])
    if name == "nade":
        return nade(key, dimension, hidden, marginals=marginals)
    if name == "made":
        return made(key, dimension, layers, head=head, marginals=None if real else marginals)
    if name == "deep-nade":
        return _spread_means(deep_nade(key, dimension, layers, head=head, marginals=marginals), head)
    if name == "conv-nade" and not real and image is not None:
        channels = convolutions(min(image), int(sizes["channels"]))
        return convolutional_nade(key, (int(image[0]), int(image[1])), channels, layers, marginals=marginals)
    raise InvalidArgumentError(f"the model {name!r} does not fit a {table} table without images")


def convolutions(side: int, channels: int) -> tuple[Convolution, ...]:
    """Layers for images whose smaller side is ``side``: shrinking ones, then growing ones, wider for larger images."""
    width = 5 if side >= 24 else 3
    down, up = Convolution(channels, width, "valid"), Convolution(channels, width, "full")
    return (down, down, up) if side < 12 else (down, down, down, up, up)


def _spread_means(model: Any, head: MixtureHead | None) -> Any:
    """Components of orderless mixtures start spread over (-1.5, 1.5), as those of one order do."""
    if head is None:
        return model
    n = head.components
    means = np.linspace(-1.5, 1.5, n) if n > 1 else np.zeros(1)
    one = jnp.asarray(np.concatenate([np.zeros(n), means, np.zeros(n)]), model.network.dtype)
    biases = jnp.broadcast_to(one, model.network.head_bias.shape)
    return eqx.tree_at(lambda m: m.network.head_bias, model, biases)


def facts(split: Any) -> dict[str, Any]:
    """What a card says about the table: ``configuration`` is empty, so that nobody takes it for a registered target."""
    found = {
        "name": f"density of {split.name}",
        "configuration": {},
        "table": split.kind,
        "shape": [split.dimension],
        "fingerprint": split.checksum[:16],
        "image": None if split.image is None else list(split.image),
    }
    if split.scales is not None:
        found |= {"means": split.means.tolist(), "scales": split.scales.tolist()}
    return {name: value for name, value in found.items() if value is not None}


def load_density(path: Path) -> tuple[Any, ModelCard]:
    """The model of a table in ``path``, and its card. Raises ``ModelError`` when it is damaged or of another sort."""

    def made_anew(card: ModelCard) -> Any:
        if not is_density(card):
            raise ModelError(f"'{path}' holds a model of kind {card.kind!r}, which is not one of a table")
        table: Mapping[str, Any] = card.target
        try:
            return build(
                jax.random.key(0),
                card.kind,
                table=table["table"],
                dimension=int(table["shape"][0]),
                image=table.get("image"),
                **card.sizes,
            )
        except (InvalidArgumentError, TypeError, KeyError) as error:
            raise ModelError(f"'{path}': {card.kind!r} cannot be built with {dict(card.sizes)}: {error}") from error

    return load_model(path, made_anew)


def target_and_proposal(model: Any, card: ModelCard) -> tuple[Target, Proposal]:
    """What a loaded model samples: its own density, exactly, or the law of a Boltzmann machine by annealing, with weights."""
    if card.kind == BOLTZMANN_MACHINE:
        return model, AnnealedMachine(levels=int(card.sizes["levels"]))
    target = learned_target(model, card.target)
    return target, FromDistribution(target.model)


def learned_target(model: Any, table: Mapping[str, Any]) -> LearnedDensity:
    """What a model draws: its own density, in the units of the table that it was trained on, whose ``facts`` are given."""
    if "scales" in table:
        means, scales = (jnp.asarray(table[name], float) for name in ("means", "scales"))
        model = InOwnUnits(model, means, scales)
    return LearnedDensity(model, discrete=table["table"] == "binary", name=str(table["name"]))
