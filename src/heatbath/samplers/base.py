"""Population samplers, cut into chunks so that whoever drives them can report, checkpoint and stop between two chunks."""

import abc
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.ensemble import Ensemble
from heatbath.errors import ResourceError


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


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a whole run will need: energy evaluations, bytes of memory at the worst moment, bytes of draws on disk."""

    evaluations: int
    memory_bytes: int
    disk_bytes: int


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

    def cost(self) -> Cost | None:
        """What the whole run will need; None where the sampler cannot know beforehand."""
        return None

    def run(self, key: Key[Array, ""]) -> Ensemble:
        """The ensemble of a whole run, without files."""
        return run_to_end(self, key).ensemble


def run_to_end(sampler: Sampler, key: Key[Array, ""], max_seconds: float | None = None) -> Sampled:
    """Drive a sampler without files, until it is finished or ``max_seconds`` have passed.

    A run that is out of time stops after the chunk in hand. Raises ``ResourceError`` when it made no draws in that time.
    """
    carry, chunks, started = sampler.begin(key), [], time.monotonic()
    while not sampler.finished(carry):
        if max_seconds is not None and time.monotonic() - started >= max_seconds:
            break
        carry, chunk = sampler.advance(carry)
        if chunk.phase == "production":
            chunks.append(chunk.arrays)
    if not chunks:
        raise ResourceError(
            f"the warm-up was not over after {max_seconds:g} s, so there are no draws. Allow more time or shorten the warm-up."
        )
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return sampler.collect(arrays, carry)
