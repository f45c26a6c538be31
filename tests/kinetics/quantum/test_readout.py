"""What measurements return: unbiased, with the errors they should have, and the cost they are charged."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.jeans import Maxwellian, perturbed
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import AmplitudeEstimation, Peek, PhaseRegisters, Shots, apply, decode, encode
from heatbath.kinetics.quantum.amplitude_estimation import (
    Schedule,
    estimate_probability,
    good_probabilities,
    grover,
    sample_estimate,
)
from heatbath.kinetics.quantum.multiplexed import prepare
from heatbath.kinetics.quantum.readout import hadamard_probability, interference_probabilities
from heatbath.kinetics.quantum.readout_circuits import hadamard_test, interference
from heatbath.kinetics.quantum.resources import Repetition


@pytest.fixture(scope="module")
def setting():
    """A grid, and a distribution whose first two density modes are complex, so that a lost phase shows."""
    gas = Maxwellian.with_ratio(0.5)
    grid = PhaseGrid(8, 8, 1.0, 5 * gas.sigma)
    wave = 1 + 0.3 * np.cos(2 * np.pi * grid.x - 0.7) + 0.2 * np.sin(4 * np.pi * grid.x)
    return grid, wave[:, None] * gas.profile(grid.v)[None, :]


def contrast(grid, values):
    rho = values.sum(axis=1)
    return rho / rho.mean() - 1


@pytest.mark.parametrize("encoding", ["amplitude", "probability"])
def test_encodings_come_back(setting, encoding):
    """Decoding undoes encoding, states have norm one, and a peek sees the density."""
    grid, values = setting
    encoded = encode(values, grid, encoding)
    assert np.linalg.norm(encoded.psi) == pytest.approx(1.0)
    np.testing.assert_allclose(decode(encoded.psi, encoded), values, rtol=1e-12)
    seen = Peek().read(encoded.psi, encoded, grid, 2, np.random.default_rng(0))
    np.testing.assert_allclose(seen.contrast, contrast(grid, values), atol=1e-12)
    assert seen.peeked


@pytest.mark.parametrize("part", ["real", "imaginary"])
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_readout_circuits_have_the_probabilities_that_are_sampled(setting, mode, part):
    """The engine runs the measuring circuits; the simulation uses formulas. They must be one thing, phases included."""
    grid, values = setting
    registers, turn = PhaseRegisters(grid), 1.0 if part == "real" else 1j
    pad = np.zeros(values.size)
    psi = encode(values, grid, "amplitude").psi
    circuit, plus, minus = interference(registers, mode, part)
    chances = np.abs(apply(circuit, np.concatenate([psi.reshape(-1), pad]))) ** 2
    np.testing.assert_allclose(
        (chances[plus], chances[minus]), interference_probabilities(psi, grid, mode, turn), atol=1e-13
    )
    psi = encode(values, grid, "probability").psi
    chances = np.abs(apply(hadamard_test(registers, mode, part), np.concatenate([psi.reshape(-1), pad]))) ** 2
    assert chances[: values.size].sum() == pytest.approx(hadamard_probability(psi, grid, mode, turn), abs=1e-13)


@pytest.mark.parametrize("encoding", ["amplitude", "probability"])
def test_shots_are_unbiased_and_fall_as_the_square_root(setting, encoding):
    """400 readings at each of two sizes: mean within 4.5 standard errors of the truth (16 numbers, false alarms 1e-4), and the
    spread at 16 times the shots a quarter, within 15 % (ratios of two standard deviations of 400 have an error of 5 %)."""
    grid, values = setting
    encoded, truth = encode(values, grid, encoding), contrast(grid, values)
    spreads = []
    for count in (1000, 16_000):
        random = np.random.default_rng(count)
        reads = np.array([Shots(count).read(encoded.psi, encoded, grid, 2, random).contrast for _ in range(400)])
        error = reads.std(axis=0, ddof=1) / 20
        assert (np.abs(reads.mean(axis=0) - truth) < 4.5 * error).all()
        spreads.append(np.sqrt(np.mean(reads.var(axis=0, ddof=1))))
    assert spreads[0] / spreads[1] == pytest.approx(4.0, rel=0.15)


def test_measuring_only_magnitudes_would_lose_the_phase(setting):
    """Negative control: the density rebuilt from |rho_k| alone is another one, so interference is needed."""
    grid, values = setting
    waves = np.fft.fft(contrast(grid, values))
    wrong = np.real(np.fft.ifft(np.abs(waves)))
    assert np.abs(wrong - contrast(grid, values)).max() > 0.2


def test_grover_rotates_as_the_formula_says(setting):
    """The reflection about the state is the circuit A S_0 A^-1, and m iterates give sin^2((2m + 1) theta)."""
    grid, values = setting
    psi = encode(values, grid, "probability").psi.reshape(-1)
    good = np.arange(psi.size) % 3 == 0
    start = float(np.sum(np.abs(psi[good]) ** 2))
    chances = [np.sum(np.abs(grover(psi, good, power)[good]) ** 2) for power in (0, 1, 2, 5)]
    np.testing.assert_allclose(chances, good_probabilities(start, (0, 1, 2, 5)), atol=1e-12)
    circuit = prepare(6, range(6), np.real(psi))
    back = np.array(apply(circuit.inverse(), np.where(good, -psi, psi)))
    back[1:] *= -1  # S_0 = 2|0><0| - 1
    np.testing.assert_allclose(apply(circuit, back), grover(psi, good, 1), atol=1e-12)


def test_amplitude_estimation_falls_as_one_over_the_queries():
    """Four times the largest power: a quarter of the error, not half. 200 estimates each; threshold 30
    % (error of a ratio 7 %)."""
    truth, errors, queries = 0.3137, [], []
    for levels in (3, 5, 7):
        schedule, random = Schedule.doubling(levels, 60), np.random.default_rng(levels)
        found = np.array([sample_estimate(truth, schedule, random) for _ in range(200)])
        errors.append(np.sqrt(np.mean((found - truth) ** 2)))
        queries.append(schedule.applications)
    slope = np.polyfit(np.log(queries), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.25)
    shots = np.sqrt(truth * (1 - truth) / queries[-1])
    assert errors[-1] < 0.35 * shots
    assert estimate_probability([0] * 4, Schedule.doubling(3, 50)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("encoding", ["amplitude", "probability"])
def test_amplitude_estimation_reads_modes(setting, encoding):
    """Both encodings, complex modes: within 5 of the errors that 40 readings show; every question is charged."""
    grid, values = setting
    encoded, truth = encode(values, grid, encoding), contrast(grid, values)
    readout, random = AmplitudeEstimation(Schedule.doubling(4, 50)), np.random.default_rng(3)
    reads = [readout.read(encoded.psi, encoded, grid, 2, random) for _ in range(40)]
    found = np.array([read.contrast for read in reads])
    assert (np.abs(found.mean(axis=0) - truth) < 5 * found.std(axis=0, ddof=1) / np.sqrt(40) + 2e-3).all()
    questions = 8 if encoding == "amplitude" else 4
    assert reads[0].applications == questions * readout.schedule.applications
    assert not reads[0].peeked
    assert Repetition(10, 1, reads[0].applications).overhead > 1000


def test_what_makes_no_sense_is_refused(setting):
    """Negative values, unknown encodings, no shots and schedules without the power 0."""
    grid, values = setting
    for make in (
        lambda: encode(-values, grid),
        lambda: encode(values, grid, "phase"),
        lambda: encode(values[:4], grid),
        lambda: encode(np.ones((12, 8)), PhaseGrid(12, 8)),
        lambda: Shots(0),
        lambda: Schedule((1, 2)),
        lambda: interference(PhaseRegisters(grid), 4),
    ):
        with pytest.raises(InvalidArgumentError):
            make()


def test_a_perturbation_of_two_dimensions_is_read_by_positions():
    """In 2+2D positions are measured together; interference mode by mode is refused."""
    gas = Maxwellian.with_ratio(0.5)
    grid = PhaseGrid(4, 4, 1.0, 3 * gas.sigma, dimension=2)
    values = perturbed(grid, gas, 0.5)
    encoded = encode(values, grid, "probability")
    read = Shots(200_000).read(encoded.psi, encoded, grid, 1, np.random.default_rng(4))
    rho = values.sum(axis=(2, 3))
    np.testing.assert_allclose(read.contrast, rho / rho.mean() - 1, atol=0.05)
    with pytest.raises(InvalidArgumentError):
        Shots(10).read(encode(values, grid).psi, encode(values, grid), grid, 1, np.random.default_rng(5))
