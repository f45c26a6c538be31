"""Population samplers, cut into chunks so that whoever drives them can report, checkpoint and stop between two chunks."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.ensemble import Ensemble


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one ``advance`` produced, on the host.

    phase:   ``"warm-up"`` (arrays empty, everything is thrown away) or ``"production"``.
    arrays:  named arrays whose FIRST axis is time (draw) and may be concatenated with those of other chunks.
             ``samples`` and ``energies`` are always there in production; the other names are the sampler's own.
    metrics: scalars for the progress line and metrics.jsonl; ``evaluations`` (energy evaluations of this chunk) is always there.
    """

    phase: str
    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Everything a finished sampler knows: the ensemble at the asked state, and diagnostics as plain arrays and estimates."""

    ensemble: Ensemble
    diagnostics: Mapping[str, Any]


class Sampler(eqx.Module):
    """A sampler that is driven in chunks.

    ``begin(key)`` gives the carry: a pytree of arrays that holds everything the future depends on (walkers, adapted step
    sizes, ladder, counters, key), so that saving and restoring it continues bitwise. ``advance(carry)`` runs one compiled
    chunk. ``finished(carry)`` says when to stop. ``collect(arrays, carry)`` turns the concatenated production arrays into
    the result; it may be called before the end and uses what is there. ``axes`` names the axes of each array in ``arrays``.
    """

    @abc.abstractmethod
    def begin(self, key: Key[Array, ""]) -> PyTree: ...

    @abc.abstractmethod
    def advance(self, carry: PyTree) -> tuple[PyTree, Chunk]: ...

    @abc.abstractmethod
    def finished(self, carry: PyTree) -> bool: ...

    @abc.abstractmethod
    def progress(self, carry: PyTree) -> float:
        """Fraction done, in [0, 1]."""

    @abc.abstractmethod
    def collect(self, arrays: Mapping[str, np.ndarray], carry: PyTree) -> Sampled: ...

    @property
    @abc.abstractmethod
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the axes of every production array, e.g. ``{"samples": ("draw", "ladder", "rung", "atom", "xyz")}``."""


def run_to_end(sampler: Sampler, key: Key[Array, ""]) -> Sampled:
    """Drive a sampler without files."""
    carry, chunks = sampler.begin(key), []
    while not sampler.finished(carry):
        carry, chunk = sampler.advance(carry)
        if chunk.phase == "production":
            chunks.append(chunk.arrays)
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return sampler.collect(arrays, carry)
