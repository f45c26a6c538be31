"""The kinds of models that can be trained, by name, with their sizes: readable without JAX.

``build`` makes an untrained model of a kind for a target, ``load_generator`` a trained one from its directory. A new kind is one
more ``ModelKind`` here and one builder in ``generator_builders.py``.
"""

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from heatbath.errors import HeatbathError, InvalidArgumentError, ModelError, UsageError, nearest
from heatbath.io.models import ModelCard, load_model, read_card
from heatbath.units import parse_quantity

_BUILDERS = "heatbath.experiments.generator_builders"
DEFAULT_SIZE = "small"


@dataclasses.dataclass(frozen=True)
class ModelKind:
    """One line of the table of model kinds.

    builder:   name of the function in ``generator_builders``: ``builder(key, target, data, **sizes) -> Distribution``
    molecules: whether it draws molecules (positions in nm) or vectors; None: both
    sizes:     name -> arguments of the builder; ``small`` is meant for two processor cores, the others for the paper's systems
    steerable: whether it knows other temperatures than that of its training
    objective: what trains it on data: "likelihood" or "flow-matching"
    training:  what goes well with it: steps, batch_size, rate, decay
    """

    name: str
    builder: str
    summary: str
    molecules: bool | None
    sizes: Mapping[str, Mapping[str, Any]]
    steerable: bool = False
    objective: str = "likelihood"
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_IN_SPACE = {"head_dim": 64, "triangular": False, "frame": False}
_PAPER_TRANSFORMER = {
    "alanine-dipeptide": {"tokens": "coordinates", "channels": 256, "blocks": 4, "layers": 4, **_IN_SPACE},
    "tripeptide": {"tokens": "atoms", "channels": 256, "blocks": 6, "layers": 6, **_IN_SPACE},
    "tetrapeptide": {"tokens": "atoms", "channels": 256, "blocks": 6, "layers": 6, **_IN_SPACE},
    "hexapeptide": {"tokens": "atoms", "channels": 384, "blocks": 6, "layers": 6, **_IN_SPACE},
    "chignolin": {"tokens": "atoms", "channels": 384, "blocks": 8, "layers": 8, **_IN_SPACE},
}
_IN_FRAME = {"triangular": True, "frame": True}
_TOY = {"layers": 2, "width": 8, "depth": 1, "bins": 4}

_INTERNAL = {"layers": 6, "width": 128, "depth": 1, "bins": 8, "context": 64, "centre_scale": 0.1}
_TOY_INTERNAL = {
    "layers": 2,
    "width": 16,
    "bins": 4,
    "context": 8,
    "torsion_layers": 2,
    "torsion_width": 8,
    "torsion_bins": 4,
}
_TORSIONS = {"torsion_layers": 8, "torsion_width": 64, "torsion_bins": 12}

_KINDS = (
    ModelKind(
        "internal-coordinate-flow",
        "internal_coordinate_flow",
        "splines over bonds, angles and torsions; small molecules, the most efficient weights on a CPU",
        molecules=True,
        sizes={
            "small": {**_INTERNAL, **_TORSIONS},
            "toy": {**_INTERNAL, **_TOY_INTERNAL},
        },
        training={"rate": 1e-3},
    ),
    ModelKind(
        "transformer-flow",
        "transformer_flow",
        "causal transformer blocks over Cartesian coordinates in the molecule's frame or in space (arXiv 2502.18462)",
        molecules=True,
        sizes={
            "small": {"tokens": "atoms", "channels": 96, "blocks": 6, "layers": 2, "head_dim": 32, **_IN_FRAME},
            "toy": {"tokens": "atoms", "channels": 16, "blocks": 2, "layers": 1, "head_dim": 8, **_IN_FRAME},
            **_PAPER_TRANSFORMER,
        },
        training={"rate": 1e-3, "decay": 4e-4},
    ),
    ModelKind(
        "binned-autoregressive",
        "binned_autoregressive",
        "causal transformer over coordinates cut into bins; any molecule, cheap to train (arXiv 2606.27361)",
        molecules=True,
        sizes={
            "small": {
                "channels": 128,
                "layers": 4,
                "head_dim": 64,
                "bins": 512,
                "reach": 4.0,
                "waves": 7,
                "frame": True,
            },
            "toy": {"channels": 16, "layers": 1, "head_dim": 8, "bins": 16, "reach": 4.0, "waves": 2, "frame": True},
            "paper": {
                "channels": 256,
                "layers": 8,
                "head_dim": 64,
                "bins": 4096,
                "reach": 4.0,
                "waves": 7,
                "frame": False,
            },
            "chignolin": {
                "channels": 256,
                "layers": 8,
                "head_dim": 64,
                "bins": 8192,
                "reach": 4.0,
                "waves": 7,
                "frame": False,
            },
        },
        training={"rate": 1e-3, "decay": 4e-4},
    ),
    ModelKind(
        "coupling-flow",
        "coupling_flow",
        "rational-quadratic spline couplings; for vectors such as the model systems",
        molecules=False,
        sizes={"small": {"layers": 8, "width": 64, "depth": 2, "bins": 8}, "toy": _TOY},
        training={"rate": 2e-3, "steps": 3000, "batch_size": 512},
    ),
    ModelKind(
        "steerable-flow",
        "steerable_flow",
        "volume-preserving couplings: trained at one temperature, draws at every other (arXiv 2108.01590)",
        molecules=None,
        sizes={
            "small": {"layers": 8, "width": 128, "depth": 1, "momenta": True},
            "toy": {"layers": 2, "width": 8, "depth": 1, "momenta": True},
        },
        steerable=True,
        training={"rate": 2e-3, "steps": 6000, "decay": 0.05},
    ),
    ModelKind(
        "continuous-flow",
        "continuous_flow",
        "a velocity field trained by flow matching; its exact density costs as many Jacobian products as it has dimensions",
        molecules=None,
        sizes={
            "small": {"width": 128, "depth": 3, "steps": 20},
            "toy": {"width": 8, "depth": 1, "steps": 4},
            "paper": {"width": 256, "depth": 5, "steps": 40},
        },
        objective="flow-matching",
        training={"rate": 5e-4, "decay": 1e-4},
    ),
)

#: name -> ModelKind, in the order of a list for readers
KINDS: Mapping[str, ModelKind] = MappingProxyType({kind.name: kind for kind in _KINDS})


# Without JAX ----------------------------------------------------------------------------------------------------------
def get(name: str) -> ModelKind:
    """The kind called ``name``. Raises ``UsageError`` with the nearest names when there is none."""
    if name not in KINDS:
        raise UsageError(f"there is no kind of model called {name!r}. {nearest(name, KINDS)}")
    return KINDS[name]


def default_kind(*, molecule: bool) -> str:
    """What is trained when nobody says which: the first kind that draws such targets."""
    return next(kind.name for kind in _KINDS if kind.molecules in (molecule, None))


def sizes_of(kind: str, size: str, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of a kind's builder: those of the named ``size`` with ``changed`` laid over. Raises ``UsageError``."""
    known = get(kind).sizes
    if size not in known:
        raise UsageError(f"model {kind!r} has no size {size!r}. {nearest(size, known)}")
    sizes = dict(known[size])
    for name, value in (changed or {}).items():
        if name not in sizes:
            raise UsageError(f"model {kind!r} has no setting {name!r}. {nearest(name, sizes)}")
        if not isinstance(value, type(sizes[name])) and not (isinstance(sizes[name], float) and isinstance(value, int)):
            raise UsageError(f"{name!r} of model {kind!r} is a value such as {sizes[name]!r}; found {value!r}")
        sizes[name] = value
    return sizes


def check_kind(kind: str, *, molecule: bool) -> None:
    """Refuse a kind that cannot draw such a target. Raises ``UsageError``."""
    if get(kind).molecules not in (molecule, None):
        fitting = ", ".join(other.name for other in _KINDS if other.molecules in (molecule, None))
        has = "molecules" if KINDS[kind].molecules else "vectors"
        raise UsageError(f"model {kind!r} draws {has}, and this target is of the other sort. Fitting kinds: {fitting}.")


def check_temperature(card: ModelCard, temperature: str, unit: str) -> None:
    """Refuse a temperature that a model does not know. Raises ``ModelError``; a steerable model knows every one."""
    trained = parse_quantity(card.temperature, "temperature")
    wanted = parse_quantity(temperature, "temperature")
    if not card.steerable and abs(wanted - trained) > 1e-6 * trained:
        suffix = "" if unit == "1" else " K"
        raise ModelError(
            f"this model was trained at {trained:g}{suffix} and knows no other; asked for {wanted:g}{suffix}. Sample at "
            f"{trained:g}{suffix} and reweight, train another model, or train a steerable one."
        )


# With JAX -------------------------------------------------------------------------------------------------------------
def build(kind: str, key: Any, target: Any, data: Any = None, *, beta: float | None = None, **sizes: Any) -> Any:
    """An untrained model of ``kind`` for ``target``.

    ``data`` are equally weighted draws (n, ...) that standardise it, and ``beta`` is their inverse temperature, which a steerable
    model has to know; without them the arrays have the same shapes, to be restored from a file. Raises ``UsageError`` for an
    unknown kind and what the builder raises.
    """
    builder = getattr(importlib.import_module(_BUILDERS), get(kind).builder)
    if get(kind).steerable:
        sizes = {**sizes, "reference_beta": 1.0 if beta is None else beta}
    return builder(key, target, data, **sizes)


def load_generator(path: Path, target: Any, temperature: str | None = None) -> tuple[Any, ModelCard]:
    """The trained model in ``path`` (a model directory or a run of `heatbath train`) for ``target``, and its card.

    Raises ``ModelError`` when it was trained for another molecule, force field or ``temperature``, or is damaged.
    """
    import jax

    card = read_card(path)
    check_target(card, target)
    if temperature is not None:
        check_temperature(card, temperature, target.unit)
    if card.kind not in KINDS:
        raise ModelError(f"'{path}' holds a model of the unknown kind {card.kind!r}. Use the heatbath that wrote it.")

    def made(card: ModelCard) -> Any:
        try:
            return build(card.kind, jax.random.key(0), target, None, **card.sizes)
        except (InvalidArgumentError, TypeError) as error:
            raise ModelError(f"'{path}': {card.kind!r} cannot be built with {dict(card.sizes)}: {error}") from error

    return load_model(path, made)


def check_target(card: ModelCard, target: Any) -> None:
    """Refuse a target that the model was not trained for. Raises ``ModelError`` with what differs."""
    ours, theirs = describe_target(target), card.target
    if ours["fingerprint"] == theirs.get("fingerprint"):
        return
    names = ("name", "shape", "forcefield", "sequence", "formula")
    differing = [
        f"{name} {theirs.get(name)} there, {ours.get(name)} here"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]
    raise ModelError(
        f"this model was trained for another target: {'; '.join(differing) or 'its atoms, bonds or parameters differ'}. "
        "Give the model of this target, or train one with: heatbath train TARGET"
    )


def describe_target(target: Any) -> dict[str, Any]:
    """What must agree for a model to fit: size, unit, force field, and a fingerprint of atoms and bonds or parameters."""
    from heatbath.experiments.analysis import target_name

    described: dict[str, Any] = {"name": target_name(target), "unit": target.unit, "shape": _shape(target)}
    if (topology := getattr(target, "topology", None)) is not None:
        described["forcefield"] = target.forcefield
        atoms = [[atom.name, atom.element, str(topology.residues[atom.residue].name)] for atom in topology.atoms]
        identity: Any = [atoms, [list(bond) for bond in topology.bonds], target.forcefield]
    else:
        identity = [type(target).__name__, described["shape"], _numbers(target)]
    text = json.dumps(identity, sort_keys=True)
    described["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return described


def _shape(target: Any) -> list[int]:
    shape = target.space.event_shape
    if not isinstance(shape, tuple):
        raise HeatbathError("generators draw arrays; targets on product spaces have none yet")
    return [int(size) for size in shape]


def _numbers(target: Any) -> dict[str, Any]:
    """Every number of a model system by tree path, rounded so that the precision does not matter."""
    import equinox as eqx
    import numpy as np

    from heatbath.io.trees import flatten

    arrays = flatten(eqx.filter(target, eqx.is_array_like))
    return {name: [float(f"{x:.6g}") for x in np.ravel(a).tolist()[:64]] for name, a in arrays.items()}
