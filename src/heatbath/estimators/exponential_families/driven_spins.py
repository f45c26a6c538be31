"""Spins whose couplings need not be mutual: a jump process in which every broken symmetry J_ij != J_ji drives cycles of its own.

Spin i flips at the heat-bath rate exp(-s_i f_i) / (2 cosh f_i), f_i = h_i + sum_j J_ij s_j, in units of an attempt rate. With
J_ij = J_ji this is Glauber's dynamics and in detailed balance. Around the square (flip i, flip j, flip i, flip j) that starts
at s_i = s_j = +1 the affinity is 4 (J_ji - J_ij), whatever the other spins are: our derivation, from the ratio of flip rates
exp(-2 s_i f_i).
"""

from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families.master_equation import MasterEquation
from heatbath.estimators.exponential_families.spins import Hadamard

#: Largest number of spins whose 2^n states are tabulated.
MOST_SPINS = 10


def driven_spins(couplings: Any, fields: Any) -> MasterEquation:
    """The master equation of n spins: ``couplings[i, j]`` is the pull of spin j on spin i (n, n), ``fields`` (n,), both in kT.

    States are numbered as in ``spins``. Raises ``InvalidArgumentError`` for other shapes or more than ``MOST_SPINS`` spins.
    """
    j, h = np.array(couplings, dtype=np.float64), np.asarray(fields, dtype=np.float64)
    n = len(h)
    if h.ndim != 1 or j.shape != (n, n) or not 2 <= n <= MOST_SPINS:
        raise InvalidArgumentError(
            f"couplings are (n, n), fields (n,), 2 <= n <= {MOST_SPINS}; found {j.shape}, {h.shape}"
        )
    np.fill_diagonal(j, 0.0)
    spins = Hadamard(n).configurations.astype(np.float64)
    local = h + spins @ j.T
    rates = np.zeros((2**n, 2**n))
    states = np.arange(2**n)
    for site in range(n):
        flipped = states ^ (1 << (n - 1 - site))
        rates[flipped, states] = 1.0 / (1.0 + np.exp(2.0 * spins[:, site] * local[:, site]))
    return MasterEquation(rates)


def squares(spins: int) -> dict[tuple[int, int], list[list[int]]]:
    """For every pair i < j, its 2^(n-2) squares: both spins up, flip i, flip j, flip i back, (flip j back)."""
    found = {}
    states = np.arange(2**spins)
    for i in range(spins):
        for j in range(i + 1, spins):
            bit_i, bit_j = 1 << (spins - 1 - i), 1 << (spins - 1 - j)
            both_up = states[(states & bit_i > 0) & (states & bit_j > 0)]
            found[i, j] = [[int(s), int(s ^ bit_i), int(s ^ bit_i ^ bit_j), int(s ^ bit_j)] for s in both_up]
    return found
