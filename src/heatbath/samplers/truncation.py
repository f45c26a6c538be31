"""Cutting the largest weights: lower variance for a bias, on purpose and in writing."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError


def truncate(ensemble: Ensemble, fraction: float = 0.002, how: Literal["drop", "clip"] = "drop") -> Ensemble:
    """The ensemble without its largest ``fraction`` of weights (rounded up), which its ``bias`` then says.

    ``drop`` removes those draws, as papers on Boltzmann generators do (0.2 %); ``clip`` lowers their weights to the largest one
    below the cut (Ionides 2008). Either way averages are biased by an amount that no estimate knows, and the mean weight is no
    longer Z: the weights become relative. Dropping flattens ``axes`` to draws, because chains lose different numbers.
    Raises ``InvalidArgumentError`` for a fraction outside [0, 1) or one that leaves no draw.
    """
    if not 0 <= fraction < 1:
        raise InvalidArgumentError(f"fraction must be in [0, 1); found {fraction}")
    if how not in ("drop", "clip"):
        raise InvalidArgumentError(f"how must be 'drop' or 'clip'; found {how!r}")
    count = math.ceil(fraction * ensemble.size)
    if count == 0:
        return ensemble
    if count >= ensemble.size:
        raise InvalidArgumentError(f"cutting {count} of {ensemble.size} draws leaves none; lower fraction")
    share = float(np.sort(ensemble.weights().reshape(-1))[-count:].sum())
    verb = "dropped" if how == "drop" else "clipped"
    sentence = (
        f"the largest {count} of {ensemble.size} weights ({100 * fraction:g} %), {100 * share:.2g} % of their sum, were "
        f"{verb}: averages are biased towards the generator"
    )
    bias = sentence if ensemble.bias is None else f"{ensemble.bias}; {sentence}"
    return dataclasses.replace(_dropped(ensemble, count) if how == "drop" else _clipped(ensemble, count), bias=bias)


def _dropped(ensemble: Ensemble, count: int) -> Ensemble:
    flat = ensemble.flat()
    log_weights = np.asarray(flat.log_weights, dtype=np.float64)
    # Draws that stay keep their order.
    kept = np.sort(np.argsort(log_weights, kind="stable")[: flat.size - count])
    samples, energies, ancestors = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[kept], (flat.samples, flat.energies, flat.ancestors)
    )
    return Ensemble(samples, log_weights[kept], flat.state, energies, ancestors)


def _clipped(ensemble: Ensemble, count: int) -> Ensemble:
    log_weights = np.asarray(ensemble.log_weights, dtype=np.float64)
    limit = np.sort(log_weights.reshape(-1))[-count - 1]
    return dataclasses.replace(ensemble, log_weights=np.minimum(log_weights, limit), absolute=False)
