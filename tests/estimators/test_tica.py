"""TICA against processes whose slow coordinate is known, and against deeptime."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.estimators import fit_tica

KEEP = np.array([0.98, 0.8, 0.3])


@pytest.fixture(scope="module")
def process():
    """Four chains of three independent autoregressive coordinates, mixed into five dependent features."""
    rng = np.random.default_rng(0)
    x = np.zeros((4, 8000, 3))
    noise = rng.normal(size=x.shape) * np.sqrt(1 - KEEP**2)
    x[:, 0] = rng.normal(size=(4, 3))
    for t in range(1, x.shape[1]):
        x[:, t] = KEEP * x[:, t - 1] + noise[:, t]
    mixing = rng.normal(size=(3, 5))
    return x, x @ mixing + 3.0


def test_components_are_the_slow_coordinates(process):
    """Eigenvalues are the autocorrelations at the lag, and the first component is the slow coordinate itself."""
    hidden, features = process
    fitted = fit_tica(features, 5, dimensions=3, scaling="unit")
    np.testing.assert_allclose(fitted.eigenvalues, KEEP**5, atol=0.04)
    projected = fitted.project(features.reshape(-1, 5))
    np.testing.assert_allclose(projected.std(axis=0), 1.0, atol=0.01)
    for i in range(2):
        correlation = np.corrcoef(projected[:, i], hidden[..., i].reshape(-1))[0, 1]
        assert abs(correlation) > 0.99


def test_the_kinetic_map_scales_by_eigenvalues(process):
    """Slow directions must weigh more in distances, by exactly their eigenvalue."""
    _, features = process
    unit, kinetic = (fit_tica(features, 5, scaling=scaling) for scaling in ("unit", "kinetic-map"))
    np.testing.assert_allclose(kinetic.components, unit.components * unit.eigenvalues)


def test_against_deeptime(process):
    """The same estimator written by others: eigenvalues and planes must agree."""
    decomposition = pytest.importorskip("deeptime.decomposition")
    _, features = process
    whole = features[..., :3]
    theirs = decomposition.TICA(lagtime=7, dim=2, scaling="kinetic_map").fit_fetch(list(whole))
    ours = fit_tica(whole, 7)
    np.testing.assert_allclose(ours.eigenvalues, theirs.singular_values[:2], rtol=1e-6)
    points = whole[0, :500]
    expected = theirs.transform(points)
    found = ours.project(points)
    np.testing.assert_allclose(found, expected * np.sign(np.sum(found * expected, axis=0)), atol=1e-6)


def test_pairs_never_cross_chains():
    """A frame of one chain is not the future of another: chains of constants have no slow coordinate inside."""
    rng = np.random.default_rng(1)
    chains = [rng.normal(size=(400, 2)) for _ in range(5)]
    assert abs(fit_tica(chains, 1, scaling="unit").eigenvalues).max() < 0.1
    lengths = [chains[0], chains[1][:50], chains[2][:1]]
    assert fit_tica(lengths, 1).lag == 1


def test_what_cannot_be_fitted_is_refused():
    """A lag as long as the chains, constant features and NaN have no answer."""
    rng = np.random.default_rng(2)
    with pytest.raises(InvalidArgumentError, match="lag"):
        fit_tica(rng.normal(size=(2, 10, 3)), 10)
    with pytest.raises(InvalidArgumentError, match="independent"):
        fit_tica(np.repeat(rng.normal(size=(50, 1)), 3, axis=1), 1)
    with pytest.raises(NonFiniteError):
        fit_tica(np.full((20, 2), np.nan), 1)
    with pytest.raises(InvalidArgumentError, match="one d"):
        fit_tica([np.zeros((5, 2)), np.zeros((5, 3))], 1)
