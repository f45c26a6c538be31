"""MBAR against pymbar, against closed forms, and its verdict."""

import json
import subprocess
import sys

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import mbar
from heatbath.estimators.free_energy import connected_components


def oscillators(counts, stiffness, centres, seed=0):
    """Draws of harmonic oscillators, their reduced energies in all states, and the exact f_k = log(k_k / k_0) / 2."""
    random = np.random.default_rng(seed)
    stiffness, centres = np.asarray(stiffness, float), np.asarray(centres, float)
    x = np.concatenate(
        [c + random.standard_normal(n) / np.sqrt(k) for n, k, c in zip(counts, stiffness, centres, strict=True)]
    )
    return 0.5 * stiffness[:, None] * (x - centres[:, None]) ** 2, 0.5 * np.log(stiffness / stiffness[0])


COUNTS = [1500, 800, 0, 900, 1200, 700]
U_KN, TRUTH = oscillators(COUNTS, np.linspace(1, 20, 6), np.linspace(0, 2.5, 6))

PYMBAR = """
import json, sys, warnings
warnings.simplefilter("ignore")
import logging; logging.disable(logging.CRITICAL)
import numpy as np
data = np.load(sys.argv[1])
import pymbar
solver = pymbar.MBAR(data["u_kn"], data["n_k"], relative_tolerance=1e-13, verbose=False)
found = solver.compute_free_energy_differences()
out = dict(f=found["Delta_f"][0].tolist(), error=found["dDelta_f"].tolist(),
           overlap=solver.compute_overlap()["matrix"].tolist(), weights=solver.weights()[:, 2].tolist())
result = pymbar.bar(data["forward"], data["reverse"], relative_tolerance=1e-13)
out["bar"] = [float(result["Delta_f"]), float(result["dDelta_f"])]
print("RESULT" + json.dumps(out))
"""


@pytest.fixture(scope="module")
def pymbar_answer(tmp_path_factory):
    """pymbar's numbers on the same data. It runs apart because importing it changes JAX's precision for everybody."""
    pytest.importorskip("pymbar")
    path = tmp_path_factory.mktemp("pymbar") / "data.npz"
    forward = U_KN[1, : COUNTS[0]] - U_KN[0, : COUNTS[0]]
    second = slice(COUNTS[0], COUNTS[0] + COUNTS[1])
    np.savez(path, u_kn=U_KN, n_k=COUNTS, forward=forward, reverse=U_KN[0, second] - U_KN[1, second])
    done = subprocess.run([sys.executable, "-c", PYMBAR, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.split("RESULT")[1])


def test_equals_pymbar(pymbar_answer):
    """A difference means one of the two solves other equations: values, errors, overlap and weights, with an empty state."""
    result = mbar(U_KN, COUNTS)
    np.testing.assert_allclose(result.f_k, pymbar_answer["f"], atol=1e-8)
    errors = [[result.difference(i, j).standard_error for j in range(6)] for i in range(6)]
    np.testing.assert_allclose(errors, pymbar_answer["error"], atol=1e-8)
    np.testing.assert_allclose(result.overlap, pymbar_answer["overlap"], atol=1e-8)
    np.testing.assert_allclose(np.exp(result.log_weights(U_KN[2])), pymbar_answer["weights"], atol=1e-10)
    assert result.converged
    assert result.notes == ()


def test_bar_equals_pymbar(pymbar_answer):
    """The two-state special case, value and error."""
    from heatbath.estimators import bar

    second = slice(COUNTS[0], COUNTS[0] + COUNTS[1])
    forward, reverse = (U_KN[1] - U_KN[0])[: COUNTS[0]], (U_KN[0] - U_KN[1])[second]
    estimate = bar(forward, reverse)
    np.testing.assert_allclose([estimate.value, estimate.standard_error], pymbar_answer["bar"], atol=1e-8)


def test_finds_the_closed_form():
    """Every free energy within 4 standard errors of log(k / k_0) / 2 (false alarms: 3e-4)."""
    result = mbar(U_KN, COUNTS)
    z = (result.f_k - TRUTH)[1:] / result.standard_errors[1:]
    assert np.all(np.abs(z) < 4)
    np.testing.assert_allclose(result.overlap.sum(axis=1), 1.0, atol=1e-10)


def test_error_bars_are_calibrated():
    """z-scores of 300 repetitions: their spread is 1 within 4 of its own standard errors; half the error bar would fail."""
    z = []
    for seed in range(300):
        u_kn, truth = oscillators([60, 80, 50], [1.0, 2.0, 5.0], [0.0, 0.3, 0.6], seed)
        result = mbar(u_kn, [60, 80, 50])
        z.append((result.f_k[2] - truth[2]) / result.standard_errors[2])
    assert abs(np.std(z) - 1) < 4 / np.sqrt(2 * 300)
    assert abs(np.mean(z)) < 4 / np.sqrt(300)
    assert abs(np.std(2 * np.array(z)) - 1) > 4 / np.sqrt(2 * 300), "the check must notice error bars half as large"


def test_solves_states_that_are_far_apart_in_free_energy():
    """Offsets of thousands must not overflow, underflow or stop the iteration, whatever the starting point."""
    offsets = np.array([0.0, 5e3, -3e3, 1e4, 20.0, -7e4])
    plain, shifted = mbar(U_KN, COUNTS), mbar(U_KN + offsets[:, None], COUNTS)
    np.testing.assert_allclose(shifted.f_k, plain.f_k + offsets, atol=1e-6)
    assert shifted.converged
    bad_start = mbar(U_KN, COUNTS, initial=[0, 300, -200, 100, -500, 50])
    np.testing.assert_allclose(bad_start.f_k, plain.f_k, atol=1e-9)


def test_a_gap_is_reported_with_its_two_states():
    """Free energies across a gap are noise; the verdict must say so and where."""
    u_kn, _ = oscillators([500] * 4, [1.0] * 4, [0.0, 1.0, 12.0, 13.0])
    result = mbar(u_kn, [500] * 4)
    assert not result.converged
    assert len(result.notes) == 1
    assert result.notes[0].startswith("states 1 and 2 do not overlap")
    assert "add a state between them" in result.notes[0]
    bridged, _ = oscillators([500] * 9, [1.0] * 9, [0.0, 1.0, 2.8, 4.6, 6.4, 8.2, 10.0, 12.0, 13.0])
    assert mbar(bridged, [500] * 9).converged, "with states in between there is nothing to report"


def test_three_pieces_give_two_sentences():
    """Every gap is named once."""
    u_kn, _ = oscillators([300] * 3, [1.0] * 3, [0.0, 15.0, 40.0])
    notes = mbar(u_kn, [300] * 3).notes
    assert [note.split(" do ")[0] for note in notes] == ["states 0 and 1", "states 1 and 2"]


def test_many_close_states_are_no_gap():
    """The usual overlap matrix is diluted by many states; the verdict must not be."""
    states = 80
    u_kn, _ = oscillators([50] * states, [1.0] * states, np.linspace(0, 2, states))
    result = mbar(u_kn, [50] * states)
    assert result.overlap[0, 1] < 0.03
    assert result.converged


def test_statistical_inefficiency_widens_errors():
    """One g for all multiplies variances; one per state reduces to it when they are equal; correlated draws need it."""
    plain = mbar(U_KN, COUNTS).standard_errors
    np.testing.assert_allclose(
        mbar(U_KN, COUNTS, statistical_inefficiency=4.0).standard_errors, 2 * plain, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        mbar(U_KN, COUNTS, statistical_inefficiency=np.full(6, 4.0)).standard_errors, 2 * plain, rtol=1e-6, atol=1e-9
    )
    repeated = mbar(np.repeat(U_KN, 3, axis=1), 3 * np.array(COUNTS), statistical_inefficiency=3.0)
    np.testing.assert_allclose(repeated.standard_errors, plain, rtol=1e-6, atol=1e-9)


def test_the_order_of_draws_and_their_precision_do_not_matter():
    """Samplers hand over draws as they come, often in single precision."""
    order = np.random.default_rng(1).permutation(U_KN.shape[1])
    plain = mbar(U_KN, COUNTS)
    np.testing.assert_allclose(mbar(U_KN[:, order], COUNTS).f_k, plain.f_k, atol=1e-10)
    np.testing.assert_allclose(mbar(U_KN.astype(np.float32), COUNTS).f_k, plain.f_k, atol=1e-5)


def test_infinite_energies_are_zero_weights():
    """A hard wall makes draws impossible in one state; half a Gaussian has half the integral."""
    random = np.random.default_rng(3)
    x = random.standard_normal(4000)
    half = np.abs(random.standard_normal(3000))
    both = np.concatenate([x, half])
    u_kn = np.stack([0.5 * both**2, np.where(both >= 0, 0.5 * both**2, np.inf)])
    result = mbar(u_kn, [4000, 3000])
    assert abs(result.f_k[1] - np.log(2)) < 4 * result.standard_errors[1]
    assert result.log_weights(u_kn[1])[x.argmin()] == -np.inf


def test_one_state_and_new_states():
    """With one state MBAR is exponential averaging; ``free_energy`` and ``log_weights`` agree with it."""
    u_kn, _ = oscillators([5000], [1.0], [0.0])
    result = mbar(u_kn, [5000])
    new = 1.5 * u_kn[0]
    expected = -np.log(np.mean(np.exp(u_kn[0] - new)))
    assert np.isclose(result.free_energy(new), expected)
    assert np.isclose(np.exp(result.log_weights(new)).sum(), 1.0)
    assert abs(result.free_energy(new) - 0.5 * np.log(1.5)) < 0.05


def test_bad_input_is_refused_by_name():
    """Silent acceptance of NaN or of counts that do not add up would give a number without meaning."""
    with pytest.raises(InvalidArgumentError, match="add up"):
        mbar(U_KN, [1, 2, 3, 4, 5, 6])
    with pytest.raises(InvalidArgumentError, match="shape"):
        mbar(U_KN[0], [5100])
    with pytest.raises(InvalidArgumentError, match="shape"):
        mbar(U_KN, COUNTS).log_weights(U_KN[0, :10])
    broken = U_KN.copy()
    broken[1, 5] = np.nan
    with pytest.raises(NonFiniteError, match="1 of"):
        mbar(broken, COUNTS)
    broken[1, 5] = 1.0
    broken[:, 7] = np.inf
    with pytest.raises(NonFiniteError, match="infinite energy in every sampled state"):
        mbar(broken, COUNTS)
    broken = U_KN.copy()
    broken[2] = np.inf
    with pytest.raises(NonFiniteError, match=r"states \[2\]"):
        mbar(broken, COUNTS)


def test_connected_components():
    """The graph search behind the verdict, on a chain, on islands and on a ring."""
    chain = np.eye(5, k=1, dtype=bool) | np.eye(5, k=-1, dtype=bool)
    assert [piece.tolist() for piece in connected_components(chain)] == [[0, 1, 2, 3, 4]]
    chain[1, 2] = chain[2, 1] = False
    assert [piece.tolist() for piece in connected_components(chain)] == [[0, 1], [2, 3, 4]]
