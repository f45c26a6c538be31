"""Population samplers, cut into chunks so that whoever drives them can report, checkpoint and stop between two chunks."""

import abc
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.ensemble import Ensemble
from heatbath.errors import ResourceError
from heatbath.process import Process


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


class Sampler(Process):
    """A process that ends in an ensemble.

    Its carry holds walkers, adapted step sizes, ladder, counters and key. ``collect(arrays, carry)`` turns the concatenated
    production arrays into the result; it may be called before the end and uses what is there. ``axes`` names the axes of each
    array in ``arrays``.
    """

    @abc.abstractmethod
    def collect(self, arrays: Mapping[str, np.ndarray], carry: PyTree) -> Sampled: ...

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
