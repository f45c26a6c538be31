"""Mobility of a sphere near a plane wall: the standard example of a diffusivity that depends on position.

Lengths in units of the sphere's radius a: ``distance`` is z / a, centre to wall, and must exceed 1.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from heatbath.errors import InvalidArgumentError


def perpendicular_mobility(distance: Float[np.ndarray, "..."] | float) -> np.ndarray:
    """D_perp / D_0 = 1 / lambda by Brenner's series, to about 1e-12:

        lambda = (4/3) sinh xi sum_n n(n+1)/((2n-1)(2n+3)) [(2 sinh (2n+1)xi + (2n+1) sinh 2xi)
                                                        / (4 sinh^2 (n+1/2)xi - (2n+1)^2 sinh^2 xi) - 1],   cosh xi = z/a.

    Source: Brenner, Chem. Eng. Sci. 16, 242 (1961). Raises ``InvalidArgumentError`` at and inside contact.
    """
    distance = _outside(distance)
    return np.asarray(1 / np.vectorize(_brenner, otypes=[float])(np.arccosh(distance)))


def perpendicular_mobility_fit(distance: Any) -> Any:
    """(6h^2 + 2h) / (6h^2 + 9h + 2) with h = z/a - 1 (Bevan & Prieve, J. Chem. Phys. 113, 1228 (2000)): within 0.7 % of Brenner.

    Smooth down to contact, where it vanishes as h; works on JAX arrays too.
    """
    h = distance - 1
    return (6 * h**2 + 2 * h) / (6 * h**2 + 9 * h + 2)


def parallel_mobility(distance: Float[np.ndarray, "..."] | float) -> np.ndarray:
    """D_par / D_0 = 1 - 9/16 q + q^3/8 - 45/256 q^4 - q^5/16, q = a/z (Faxen): good to a few per cent beyond z = 1.1 a.

    It does not vanish at contact, as the true mobility does (there only logarithmically).
    """
    q = 1 / _outside(distance)
    return np.asarray(1 - 9 / 16 * q + q**3 / 8 - 45 / 256 * q**4 - q**5 / 16)


def _outside(distance) -> np.ndarray:
    distance = np.asarray(distance, float)
    if not (distance > 1).all():
        raise InvalidArgumentError("the centre of the sphere must be farther from the wall than its radius (z / a > 1)")
    return distance


@functools.lru_cache(maxsize=4096)
def _brenner(xi: float) -> float:
    """lambda(xi); terms are scaled by exp(-(2n+1) xi), so that nothing overflows, and summed until they no longer count."""
    n = np.arange(1, int(60 / xi) + 20)
    k = 2 * n + 1
    decay = np.exp(-2 * k * xi)
    top = (1 - decay) + k * np.exp(-k * xi) * np.sinh(2 * xi)
    bottom = 1 - 2 * np.exp(-k * xi) + decay - k**2 * np.exp(-k * xi) * np.sinh(xi) ** 2
    # top/bottom - 1, written so that the ones cancel on paper and not in floating point
    excess = (top - bottom) / bottom
    return float(4 / 3 * np.sinh(xi) * np.sum(n * (n + 1) / ((2 * n - 1) * (2 * n + 3)) * excess))
