"""Observation matrices: coordinates of known models, transforms beside dense algebra, refusals instead of noise."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.exponential_families import (
    DenseMatrix,
    GeneralizedEnsemble,
    Hadamard,
    MasterEquation,
    ProductBasis,
    Vandermonde,
    walsh_hadamard,
)

RATES = np.random.default_rng(5).random((8, 8)) + 0.1
CASES = {
    "spins": Hadamard(7),
    "fourier": ProductBasis((2, 3, 4, 5)),
    "indicator": ProductBasis((3, 2, 4), "indicator"),
    "powers": Vandermonde((-2, Fraction(-1, 2), 0, 1, 3)),
    "fluxes": MasterEquation(RATES).flux_matrix(),
    "rates": MasterEquation(RATES).stationarity_matrix(),
    "own": DenseMatrix([[1.0, 2.0], [1.0, -1.0]]),
}


@pytest.mark.parametrize("matrix", CASES.values(), ids=CASES)
def test_the_contract(matrix):
    """Fast transforms that disagree with the matrix they stand for would give wrong coordinates without a sign of it."""
    rng = np.random.default_rng(1)
    dense = matrix.matrix()
    vector, p = rng.normal(size=matrix.size), rng.dirichlet(np.ones(matrix.size))
    assert (dense[:, 0] == 1).all()
    np.testing.assert_allclose(matrix.coordinates(vector), np.linalg.solve(dense, vector), atol=1e-10)
    np.testing.assert_allclose(matrix.values(vector), dense @ vector, atol=1e-11)
    np.testing.assert_allclose(matrix.means(p), dense.T @ p, atol=1e-12)
    np.testing.assert_array_equal(matrix.columns([1, matrix.size - 1]), dense[:, [1, matrix.size - 1]])
    assert len({matrix.name(k) for k in range(matrix.size)}) == matrix.size
    with pytest.raises(InvalidArgumentError, match="shape"):
        matrix.coordinates(vector[:-1])
    with pytest.raises(InvalidArgumentError, match="finite"):
        matrix.coordinates(np.full(matrix.size, np.nan))


def ring(coupling, field, spins=10):
    """exp(-u)/Z of a periodic Ising chain in the numbering of ``Hadamard``."""
    s = Hadamard(spins).configurations.astype(float)
    weights = np.exp(coupling * np.sum(s * np.roll(s, -1, axis=1), axis=1) + field * s.sum(axis=1))
    return weights / weights.sum()


def test_the_ising_ring_is_found_again():
    """ln Z, every coupling and field, and exactly 20 other coefficients than ln Z; transfer matrices give the same ln Z."""
    ensemble = GeneralizedEnsemble.from_probabilities(Hadamard(10), ring(0.37, 0.21))
    spins, lam = ensemble.observation, ensemble.coordinates
    assert abs(ensemble.log_z - 8.044042133631706) < 1e-14 * 8
    transfer = np.exp([[0.37 + 0.21, -0.37], [-0.37, 0.37 - 0.21]])
    assert abs(ensemble.log_z - math.log(np.trace(np.linalg.matrix_power(transfer, 10)))) < 1e-13
    wanted = {spins.number(i): -0.21 for i in range(10)} | {spins.number(i, (i + 1) % 10): -0.37 for i in range(10)}
    assert set(ensemble.sufficient_statistics(1e-12)) == set(wanted)
    assert all(abs(lam[k] - value) < 2e-15 for k, value in wanted.items())


@pytest.mark.parametrize("order", [2, 3, 4])
def test_interactions_of_any_order_are_found_again(order):
    """A glass with all interactions of one order (p-spin; 2 is Sherrington-Kirkpatrick): 16 spins, all 65 536 coefficients."""
    spins = Hadamard(16)
    lam = np.where(spins.orders == order, np.random.default_rng(order).normal(size=spins.size) / 16, 0.0)
    ensemble = GeneralizedEnsemble.from_coordinates(spins, lam)
    again = GeneralizedEnsemble.from_probabilities(spins, ensemble.probabilities)
    assert (np.abs(again.coordinates[1:] - lam[1:]) < 1e-10).all()
    assert (np.abs(again.coordinates[1:][spins.orders[1:] != order]) < 1e-10).all()


def test_the_transform_of_a_million_states_is_its_own_inverse():
    """Blocks of bits put together in the wrong order would show here and not at 64 states."""
    values = np.random.default_rng(0).normal(size=2**20)
    once = walsh_hadamard(values)
    assert (np.abs(walsh_hadamard(once) / 2**20 - values) < 1e-12).all()
    k = 0b1010_0000_0001_0000_0100
    signs = np.where(np.bitwise_count(np.arange(2**20) & k) % 2 == 0, 1.0, -1.0)
    assert abs(once[k] - signs @ values) < 1e-8
    with pytest.raises(InvalidArgumentError, match="2\\^n"):
        walsh_hadamard(np.ones(12))


def test_decimation_of_the_ring():
    """Summing out every second spin leaves a ring with tanh J' = tanh^2 J: J' = ln cosh(2J) / 2, and nothing else."""
    spins = Hadamard(10)
    kept = spins.configurations[:, ::2]
    half = Hadamard(5)
    p = np.bincount(half.state(kept), weights=ring(0.37, 0.0), minlength=32)
    ensemble = GeneralizedEnsemble.from_probabilities(half, p)
    coupling = -ensemble.coordinates[half.number(0, 1)]
    assert abs(coupling - 0.5 * math.log(math.cosh(0.74))) < 1e-14
    assert abs(coupling - 0.12597228179940795) < 1e-14
    assert len(ensemble.sufficient_statistics(1e-12)) == 5


def test_potts_in_the_fourier_basis():
    """A pair interaction of q-state variables has no coefficient that involves three variables, in either basis."""
    q, n = 4, 4
    states = np.array(list(itertools.product(range(q), repeat=n)))
    pair = np.random.default_rng(2).normal(size=(q, q))
    energy = sum(pair[states[:, i], states[:, (i + 1) % n]] for i in range(n))
    p = np.exp(-energy) / np.exp(-energy).sum()
    for basis in ("fourier", "indicator"):
        ensemble = GeneralizedEnsemble.from_probabilities(ProductBasis((q,) * n, basis), p)
        orders = ensemble.observation.orders
        assert (np.abs(ensemble.coordinates[orders > 2]) < 1e-12).all()
        assert np.abs(ensemble.coordinates[orders == 2]).max() > 0.1


# Powers ---------------------------------------------------------------------------------------------------------------
def walk(steps):
    return Vandermonde(tuple(range(-steps, steps + 1, 2))), [
        Fraction(math.comb(steps, k), 2**steps) for k in range(steps + 1)
    ]


def exact_coefficients(nodes, values):
    """Gauss elimination in rational arithmetic: an independent answer."""
    rows = [[Fraction(x) ** k for k in range(len(nodes))] + [v] for x, v in zip(nodes, values, strict=True)]
    for i in range(len(rows)):
        pivot = next(r for r in range(i, len(rows)) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        rows = [r if j == i else [a - r[i] * b for a, b in zip(r, rows[i], strict=True)] for j, r in enumerate(rows)]
    return [row[-1] for row in rows]


def test_the_random_walk_as_a_polynomial():
    """-ln p of the walk of 20 steps: lambda_2 and lambda_4 of exact arithmetic, odd terms zero, from exact and float input."""
    matrix, p = walk(20)
    assert matrix.condition > 1e26  # a plain solve has no correct digit
    for lam in (matrix.coordinates_of_probabilities(p), matrix.coordinates(-np.log([float(x) for x in p]))):
        assert abs(40 * lam[2] - 0.95166) < 5e-6
        assert abs(12 * 20**3 * lam[4] - 0.85996) < 5e-6
        assert (np.abs(lam[1::2]) < 1e-12).all()
    values = [Fraction(-math.log(x)) for x in p]
    exact = [float(x) for x in exact_coefficients(matrix.positions, values)]
    np.testing.assert_allclose(matrix.coordinates(np.array([float(v) for v in values])), exact, rtol=1e-12, atol=1e-40)
    np.testing.assert_allclose(matrix.values(np.array(exact)), [float(v) for v in values], rtol=1e-10)


def test_powers_that_the_input_does_not_determine_are_refused():
    """Sixty steps in float64 hold no information on high powers; the same walk in fractions does."""
    matrix, p = walk(60)
    with pytest.raises(InvalidArgumentError, match="fractions"):
        matrix.coordinates(-np.log([float(x) for x in p]))
    with pytest.raises(InvalidArgumentError, match="fractions"):
        matrix.coordinates_of_probabilities([float(x) * 0.7 for x in p])
    lam = matrix.coordinates_of_probabilities(p)
    assert abs(120 * lam[2] - 1) < 0.02  # tends to 1 for long walks
    assert abs(12 * 60**3 * lam[4] - 1) < 0.06
    with pytest.raises(InvalidArgumentError, match="different"):
        Vandermonde((1, 2, 1))
    with pytest.raises(InvalidArgumentError, match="positive"):
        matrix.coordinates_of_probabilities([0, *p[1:]])


def test_matrices_that_would_give_noise_are_refused():
    """The Vandermonde matrix of the walk as a plain matrix, dependent columns, a first column that is not constant."""
    matrix, _ = walk(20)
    with pytest.raises(InvalidArgumentError, match="condition number"):
        DenseMatrix(matrix.matrix())
    with pytest.raises(InvalidArgumentError, match="condition number"):
        DenseMatrix([[1.0, 2.0, 4.0], [1.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    with pytest.raises(InvalidArgumentError, match="all ones"):
        DenseMatrix([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InvalidArgumentError, match="square"):
        DenseMatrix(np.ones((2, 3)))
