"""Whole runs of the quantum algorithm against classical solvers and linear theory."""

import dataclasses

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.jeans import Maxwellian, density_mode, eigenmode, fitted_rate, perturbed
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import PhaseRegisters, QuantumVlasov, Shots, apply, decode, encode, transport
from heatbath.kinetics.vlasov import Gravity, SpectralSolver


def algorithm(ratio=0.3, size=64, amplitude=0.1, *, encoding="amplitude", start=perturbed, width=6.0, **options):
    gas = Maxwellian.with_ratio(ratio)
    grid = PhaseGrid(size, size, 1.0, width * gas.sigma)
    encoded = encode(start(grid, gas, amplitude), grid, encoding)
    return QuantumVlasov(
        grid, encoded, Gravity(1.0, options.pop("modes", 8)), options.pop("time_step", 0.05), **options
    )


def run(quantum, steps, seed=0):
    """Times of the middles of the steps, first modes read there, the last state."""
    random, state, modes = np.random.default_rng(seed), quantum.begin(), []
    for _ in range(steps):
        state, reading = quantum.step(state, random)
        modes.append(density_mode(1 + reading.contrast))
    return quantum.time_step * (np.arange(steps) + 0.5), np.array(modes), state


@pytest.mark.parametrize("encoding", ["amplitude", "probability"])
def test_a_run_is_the_classical_solver(encoding):
    """100 steps into a collapse, 64 x 64: states equal those of NumPy's spectral solver to 1e-9 of the largest value."""
    quantum = algorithm(encoding=encoding)
    _, _, state = run(quantum, 100)
    solver = SpectralSolver(quantum.grid, quantum.gravity, probability=encoding == "probability")
    scale = quantum.encoded.scale if encoding == "amplitude" else np.sqrt(quantum.encoded.scale)
    values = np.asarray(quantum.encoded.psi) * scale
    for _ in range(100):
        values = solver.step(values, quantum.time_step)
    assert np.abs(np.asarray(state.psi) * scale - values).max() < 1e-9 * np.abs(values).max()
    f = decode(state.psi, quantum.encoded)
    assert f.sum() == pytest.approx(quantum.encoded.total, rel=1e-9)
    assert (f.min() >= 0) == (encoding == "probability")  # an amplitude may dip below zero, a probability cannot


def test_a_step_of_gates_is_the_step_of_blocks():
    """13 qubits: the whole Strang circuit with the gravity of the state, gate by gate, 1e-10."""
    quantum = algorithm(size=64, amplitude=0.3)
    state, reading = quantum.step(quantum.begin(), np.random.default_rng(0))
    circuit = transport.strang(PhaseRegisters(quantum.grid), quantum.force(reading.contrast), quantum.time_step)
    assert circuit.qubits == 13
    start = np.concatenate([quantum.encoded.psi.reshape(-1), np.zeros(4096)])
    gates = np.asarray(apply(circuit, start))
    assert np.abs(gates[:4096] - np.asarray(state.psi).reshape(-1)).max() < 1e-10


@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.2])
def test_growth_and_damping(ratio):
    """A = 1e-3 on 64 x 64 with the fractional kick: within 2 % of the dispersion relation, and fading above k_J."""
    growing = ratio < 1
    quantum = algorithm(ratio, amplitude=1e-3, start=eigenmode if growing else perturbed)
    window = (0.2, 2.5) if growing else (2.0, 4.0)
    times, modes, _ = run(quantum, int(window[1] / quantum.time_step))
    expected = Maxwellian.with_ratio(ratio).growth_rate(2 * np.pi)
    assert fitted_rate(times, modes, window) == pytest.approx(expected, rel=0.02)
    assert (np.abs(modes[-1]) > np.abs(modes[0])) == growing


def test_the_dead_zone_of_the_integer_kick():
    """At A = 0.01 gravity never gathers half a cell and the wave only mixes away; at A = 0.3 it works.
    Drift by cells is harmless."""
    expected = Maxwellian.with_ratio(0.5).growth_rate(2 * np.pi)
    window = (1.0, 3.0)
    base = {"ratio": 0.5, "time_step": 0.04, "amplitude": 0.01}
    times, modes, _ = run(algorithm(**base, drift="integer"), 75)
    assert fitted_rate(times, modes, window) == pytest.approx(expected, rel=0.15)
    times, modes, state = run(algorithm(**base, kick="integer"), 75)
    assert fitted_rate(times, modes, window) < 0
    assert np.abs(state.kick_counter).max() < 0.5
    _, modes, _ = run(algorithm(**{**base, "amplitude": 0.3}, kick="integer"), 75)
    assert np.abs(modes[-1]) > 2 * np.abs(modes[0])


def test_integer_transport_keeps_a_distribution_positive():
    """Permutations move values and make no new ones: the sorted values at the end are those at the start, bit for bit."""
    quantum = algorithm(drift="integer", kick="integer", time_step=0.1, size=32)
    _, _, state = run(quantum, 20)
    np.testing.assert_array_equal(np.sort(np.real(state.psi).ravel()), np.sort(np.real(quantum.encoded.psi).ravel()))


def test_gravity_from_shots_follows_the_collapse():
    """Noise of 1e5 shots per step, fed back into gravity, moves the mode by less than 0.03; 30 shots are another world."""
    quantum = algorithm(size=32, modes=2, encoding="probability")
    _, exact, _ = run(quantum, 40)
    _, noisy, _ = run(dataclasses.replace(quantum, readout=Shots(100_000)), 40)
    assert np.abs(noisy - exact).max() < 0.03
    _, few, _ = run(dataclasses.replace(quantum, readout=Shots(30)), 40)
    assert np.abs(few - exact).max() > 0.1


@pytest.mark.parametrize(("modes", "low", "high"), [(1, 0.05, 0.5), (4, 0.001, 0.06)])
def test_fewer_modes_of_gravity_cost_accuracy(modes, low, high):
    """Collapse at k / k_J = 0.3 with one mode is off by tens of percent, with four by a few: truncation acts, and converges."""
    _, full, _ = run(algorithm(modes=16, width=8.0), 100)
    _, cut, _ = run(algorithm(modes=modes, width=8.0), 100)
    assert low < np.abs(np.abs(cut) - np.abs(full)).max() / np.abs(full).max() < high


def test_what_makes_no_sense_is_refused():
    """Time that stands still, more modes than the grid has, integer transport in two dimensions."""
    for options in ({"time_step": 0.0}, {"modes": 32}):
        with pytest.raises(InvalidArgumentError):
            algorithm(**options)
    gas = Maxwellian.with_ratio(0.5)
    grid = PhaseGrid(4, 4, 1.0, gas.sigma, dimension=2)
    with pytest.raises(InvalidArgumentError, match="one dimension"):
        QuantumVlasov(grid, encode(perturbed(grid, gas, 0.1), grid), Gravity(1.0, 1), 0.1, drift="integer")
