"""Two ways to hold a distribution in a state; both are legal because the equation moves any function of f along with f.

``"amplitude"``: psi = f / ||f||. Linear, and the modes of the density are amplitudes. ``"probability"``: psi = sqrt(f / sum f).
|psi|^2 is the distribution itself, never negative, and measuring positions samples the density.
"""

import dataclasses

import numpy as np
from jaxtyping import Array

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.phase_grid import PhaseGrid

AMPLITUDE = "amplitude"
PROBABILITY = "probability"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A state ``psi`` of norm one and what is needed to read it.

    ``scale`` is ||f|| (amplitude) or sum f (probability); ``total`` is sum f. Both are conserved and known from the start.
    """

    psi: np.ndarray
    encoding: str
    scale: float
    total: float


def encode(values: np.ndarray, grid: PhaseGrid, encoding: str = AMPLITUDE) -> Encoded:
    """The state of a distribution. Raises ``InvalidArgumentError`` for negative or non-finite values and unknown encodings."""
    grid.qubits  # noqa: B018  refuses sizes that registers cannot hold
    values = np.asarray(values, dtype=float)
    if values.shape != grid.shape:
        raise InvalidArgumentError(f"values must have the shape {grid.shape} of the grid; found {values.shape}")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise InvalidArgumentError("a distribution has finite values, none negative and not all zero")
    total = float(values.sum())
    if encoding == AMPLITUDE:
        norm = float(np.linalg.norm(values))
        return Encoded((values / norm).astype(complex), encoding, norm, total)
    if encoding == PROBABILITY:
        return Encoded(np.sqrt(values / total).astype(complex), encoding, total, total)
    raise InvalidArgumentError(f"encoding must be {AMPLITUDE!r} or {PROBABILITY!r}; found {encoding!r}")


def decode(psi: Array | np.ndarray, encoded: Encoded) -> np.ndarray:
    """f from a state vector: a look that no quantum computer grants, for comparisons and labelled reports."""
    psi = np.asarray(psi)
    return np.real(psi) * encoded.scale if encoded.encoding == AMPLITUDE else np.abs(psi) ** 2 * encoded.scale
