"""What a host loop can drive: a computation cut into chunks, with everything its future depends on in one carry.

Samplers and trainers are processes. Whoever drives one (``experiments/drive.py`` with files, ``run_to_end`` and ``fit``
without) reports, checkpoints and stops between two chunks.
"""

import abc
import dataclasses
from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jaxtyping import Array, Key, PyTree


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one ``advance`` produced, on the host.

    phase:   ``"warm-up"`` or ``"training"`` (arrays empty), or ``"production"``.
    arrays:  named arrays whose FIRST axis is time (draw) and may be concatenated with those of other chunks.
             ``samples`` and ``energies`` are always there in production; the other names are the process's own.
    metrics: scalars for the progress line and metrics.jsonl; ``evaluations`` (energy evaluations of this chunk) is always there.
    """

    phase: str
    arrays: Mapping[str, np.ndarray]
    metrics: Mapping[str, float]


class Process(eqx.Module):
    """A computation that is driven in chunks.

    ``begin(key)`` gives the carry: a pytree of arrays that holds everything the future depends on, so that saving and
    restoring it continues bitwise. ``advance(carry)`` runs one compiled chunk. ``finished(carry)`` says when to stop.
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

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the axes of every production array, e.g. ``{"samples": ("draw", "ladder", "rung", "atom", "xyz")}``."""
        return {}
