"""From a target and named sizes to an untrained model: one builder per kind, and what models need of a target.

``builder(key, target, data, **sizes)``: ``data`` (n, ...) or None; both give the same tree of arrays of the same shapes.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from heatbath.errors import InvalidArgumentError
from heatbath.samplers.augmented import AugmentedEnergy
from heatbath.samplers.centre import held_at_centre
from heatbath.state import LogDensity, ReducedEnergy, ThermoState

#: Standard deviation of the centre of continuous flows over molecules, in nm.
CENTRE_SCALE = 0.1


def internal_coordinate_flow(key: Any, target: Any, data: Any = None, **sizes: Any) -> Any:
    """``models.internal_coordinate_flow`` with the molecule's bonds, masses and reference structure."""
    from heatbath.models.internal_flow import internal_coordinate_flow

    bonds, masses = np.array(target.topology.bonds), np.asarray(target.terms.masses)
    return internal_coordinate_flow(key, bonds=bonds, masses=masses, reference=_structure(target), data=data, **sizes)


def transformer_flow(key: Any, target: Any, data: Any = None, **sizes: Any) -> Any:
    """``models.transformer_flow`` for a molecule; without data its scale is that of the reference structure."""
    from heatbath.models.transformer_flow import TransformerFlowSize, transformer_flow

    size = TransformerFlowSize(**sizes)
    order = _order(target) if size.frame else None
    return transformer_flow(key, n_atoms=target.n_atoms, data=_data(data, target), size=size, order=order)


def binned_autoregressive(key: Any, target: Any, data: Any = None, **sizes: Any) -> Any:
    """``models.binned_autoregressive`` for a molecule; without data its scale is that of the reference structure."""
    from heatbath.models.binned_autoregressive import BinnedSize, binned_autoregressive

    size = BinnedSize(**sizes)
    order = _order(target) if size.frame else None
    return binned_autoregressive(key, n_atoms=target.n_atoms, data=_data(data, target), size=size, order=order)


def coupling_flow(key: Any, target: Any, data: Any = None, **sizes: Any) -> Any:
    """``models.coupling_flow`` on standardised vectors: mean and standard deviation per coordinate of the data."""
    from heatbath.models.bijections import Affine, Chain
    from heatbath.models.coupling import coupling_flow
    from heatbath.models.flow import Flow

    shape = (_dimension(target),)
    flow = coupling_flow(key, shape[0], **sizes)
    values = np.stack([np.zeros(shape), np.zeros(shape)]) if data is None else np.asarray(data, np.float64)
    shift = values.mean(axis=0)
    scale = np.ones(shape) if data is None else np.maximum(values.std(axis=0), 1e-6)
    standard = Affine(jnp.asarray(shift, dtype=float), jnp.asarray(scale, dtype=float))
    return Flow(flow.base, Chain((flow.bijection, standard)))


def steerable_flow(
    key: Any, target: Any, data: Any = None, *, reference_beta: float, momenta: bool = True, **sizes: Any
) -> Any:
    """``models.steerable_molecule`` for a molecule with a reference structure, ``models.volume_preserving`` for vectors.

    ``momenta``: one per coordinate that is no angle, or none.
    """
    sizes["auxiliaries"] = None if momenta else 0
    if (topology := getattr(target, "topology", None)) is None:
        from heatbath.models.volume_preserving import steerable_flow

        return steerable_flow(key, _dimension(target), data=data, reference_beta=reference_beta, **sizes)
    from heatbath.models.steerable_molecule import steerable_molecule

    return steerable_molecule(
        key,
        bonds=np.array(topology.bonds),
        masses=np.asarray(target.terms.masses),
        reference=_structure(target),
        reference_beta=reference_beta,
        data=data,
        **sizes,
    )


def continuous_flow(key: Any, target: Any, data: Any = None, *, width: int, depth: int, steps: int) -> Any:
    """``models.continuous_flow``: an equivariant net for a molecule, every atom of its own kind; a perceptron for vectors."""
    from heatbath.models.continuous_flow import continuous_flow
    from heatbath.models.nets.equivariant import EquivariantVelocity
    from heatbath.models.nets.velocity import ResidualVelocity

    if hasattr(target, "topology"):
        velocity = EquivariantVelocity.create(key, np.arange(target.n_atoms), hidden=width, layers=depth)
        return continuous_flow(velocity, (target.n_atoms, 3), data=data, steps=steps, centre_scale=CENTRE_SCALE)
    dimension = _dimension(target)
    return continuous_flow(
        ResidualVelocity.create(key, dimension, width=width, depth=depth), (dimension,), data=data, steps=steps
    )


def _dimension(target: Any) -> int:
    shape = tuple(target.space.event_shape)
    if len(shape) != 1:
        raise InvalidArgumentError(f"this kind of model draws vectors; this target's configurations have shape {shape}")
    return int(shape[0])


def _structure(target: Any) -> np.ndarray:
    if target.positions is None:
        raise InvalidArgumentError("internal coordinates need a reference structure, and this molecule has none")
    return np.asarray(target.positions)


def _data(data: Any, target: Any) -> Any:
    """Positions that standardise a model: the data, else the reference structure where there is one."""
    return data if data is not None else target.positions


def _order(target: Any) -> tuple[int, ...]:
    """Atoms branch by branch from the middle of the molecule; the first three span a frame."""
    from heatbath.models.molecular_frame import depth_first_order

    return depth_first_order(np.array(target.topology.bonds), np.asarray(target.terms.masses))


# What a model needs of a target ---------------------------------------------------------------------------------------
def centre_scale(model: Any) -> float | None:
    """sigma (nm) of the centre that a molecular model places; None for other models."""
    value = getattr(model, "centre_scale", None)
    if value is None:  # continuous flows keep it with their base
        value = getattr(getattr(model, "base", None), "centre_scale", None)
    return None if value is None else float(value)


def extended_state(model: Any, state: ThermoState) -> ThermoState:
    """``state`` with the harmonic term that holds the centre as the model places it, so that weights are proper."""
    sigma = centre_scale(model)
    return state if sigma is None else held_at_centre(state, sigma)


class RightHanded(LogDensity):
    """u where every stereocentre has the hand of the target's reference structure, infinity elsewhere.

    A mirror image has the energy of the molecule, so no energy forbids it; it is another molecule and outside the support.
    """

    u: LogDensity
    target: Any
    hands: Int[Array, " centre"]

    def __call__(self, x):
        return jnp.where(jnp.all(self.target.chirality(x) == self.hands), self.u(x), jnp.inf)

    @property
    def beta(self):
        return self.u.beta


def extended_energy(model: Any, target: Any, state: ThermoState) -> LogDensity:
    """The u whose weights log w = -u - log q are proper for the model's own draws.

    It holds the centre as the model places it, is infinite on mirror images, and has the model's momenta.
    """
    u: LogDensity = ReducedEnergy(target, extended_state(model, state))
    if getattr(target, "positions", None) is not None and len(target.stereocentres):
        u = RightHanded(u, target, target.chirality(target.positions))
    momenta = getattr(model, "momenta", None)
    return u if momenta is None else AugmentedEnergy(u, momenta)


def augmentation(model: Any) -> Any:
    """``augment(key, x)`` that training data need for this model (a rotation, momenta); None where they need none."""
    if hasattr(model, "augmentation"):
        return model.augmentation
    return model.augment if getattr(model, "auxiliaries", 0) else None


def described(model: Any) -> dict[str, Any]:
    """Facts of a model for its card and for reports."""
    from heatbath.training.trainable import parameter_count

    return {"parameters": parameter_count(model)}
