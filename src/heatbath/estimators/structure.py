"""Structure of liquids in a periodic box: the radial distribution function."""

from typing import Any

import numpy as np
from jaxtyping import Float

from heatbath.errors import InvalidArgumentError


def radial_distribution(
    positions: Any, lengths: Any, edges: Any, *, kinds: Any = None, pair: tuple[int, int] | None = None
) -> Float[np.ndarray, "draw bin"]:
    """g(r) of every configuration: pairs found at distances between ``edges`` over those of an ideal gas of equal density.

    positions (draw, particle, d) in a box with edges ``lengths`` (d,), d = 2 or 3; distances to the nearest image.
    kinds (particle,) and ``pair`` (a, b): only pairs of a particle of species a with one of species b.
    Raises ``InvalidArgumentError`` when ``edges`` reach beyond half the box or do not rise.
    """
    positions, lengths, edges = (np.asarray(part, dtype=np.float64) for part in (positions, lengths, edges))
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all() or edges[-1] > 0.5 * lengths.min() + 1e-9:
        raise InvalidArgumentError(
            f"edges must rise and end within half the box, {0.5 * lengths.min():.4g}; found {edges}"
        )
    count, dimension = positions.shape[1:]
    first, second = np.triu_indices(count, k=1)
    if pair is not None:
        kinds = np.asarray(kinds)
        ours = (kinds[first] == pair[0]) & (kinds[second] == pair[1])
        either = ours | ((kinds[first] == pair[1]) & (kinds[second] == pair[0]))
        first, second = first[either], second[either]
    ball = np.pi if dimension == 2 else 4 / 3 * np.pi
    ideal = len(first) * ball * np.diff(edges**dimension) / np.prod(lengths)
    found = []
    for x in positions:
        step = x[first] - x[second]
        step -= lengths * np.round(step / lengths)
        found.append(np.histogram(np.sqrt(np.sum(step**2, axis=1)), edges)[0] / ideal)
    return np.array(found)
