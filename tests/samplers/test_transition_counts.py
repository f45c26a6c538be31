"""Pairs of a kernel: counted as promised, bitwise the same after an interruption, and able to tell kernels apart."""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families import pair_symmetry_test, stationarity_test
from heatbath.kernels import Gibbs
from heatbath.samplers.transition_counts import TransitionCounts
from heatbath.state import ThermoState
from heatbath.targets.clusters import dw4
from heatbath.targets.spins import spin_glass


def process(scan, pairs=20_000):
    cell = lambda x: x @ jnp.array([4, 2, 1])  # noqa: E731
    return TransitionCounts(spin_glass(3, 0.6, 1.0, 5), ThermoState(1.0), Gibbs(2, scan), cell, 8, pairs, 10_000)


def counted(made, key):
    carry = made.begin(key)
    while not made.finished(carry):
        carry, chunk = made.advance(carry)
        assert chunk.metrics["evaluations"] > 0
    return np.asarray(carry.counts)


def test_sequential_sweeps_are_stationary_without_detailed_balance(key):
    """The test must tell a sequential sweep from a random one (each p-value below 1e-3 by accident with these odds)."""
    random, sequential = counted(process("random"), key), counted(process("sequential"), key)
    assert random.sum() == 20_000
    assert pair_symmetry_test(random).p_value > 1e-3
    assert stationarity_test(random).p_value > 1e-3
    assert pair_symmetry_test(sequential).p_value < 1e-9
    assert stationarity_test(sequential).p_value > 1e-3


def test_impossible_requests(key):
    """No exact draws, no pairs."""
    with pytest.raises(InvalidArgumentError, match="exact draws"):
        TransitionCounts(dw4(), ThermoState(1.0), Gibbs(2), jnp.sum, 8, 100)
    with pytest.raises(InvalidArgumentError, match="pairs"):
        process("random", pairs=0)
