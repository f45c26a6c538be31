import numpy as np
import pytest

from heatbath.targets.molecules.cmap import patch_coefficients, spline_slopes


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(3).normal(size=(2, 12, 12))


def evaluate(coefficients, m, i, j, u, v):
    powers = np.arange(4)
    return (coefficients[m, i, j] * np.multiply.outer(u**powers, v**powers)).sum()


def test_patches_pass_through_the_nodes(maps):
    """If it failed, the correction at a grid point would not be the tabulated one."""
    coefficients = patch_coefficients(maps)
    for m, i, j in [(0, 0, 0), (0, 11, 11), (1, 3, 7), (1, 11, 0)]:
        corners = [evaluate(coefficients, m, i, j, u, v) for u in (0, 1) for v in (0, 1)]
        expected = [maps[m, (i + u) % 12, (j + v) % 12] for u in (0, 1) for v in (0, 1)]
        np.testing.assert_allclose(corners, expected, atol=1e-12)


def test_slopes_of_a_smooth_function():
    """If it failed, the force of the correction would not be its derivative."""
    angle = 2 * np.pi * np.arange(24) / 24
    np.testing.assert_allclose(spline_slopes(np.sin(angle)), np.cos(angle) * 2 * np.pi / 24, rtol=1e-3, atol=1e-6)


def test_energy_and_slope_are_continuous_across_cells(maps):
    """If it failed, dynamics would cross a step (a wrong wrap of the grid shows here)."""
    coefficients = patch_coefficients(maps)
    step = 1e-6
    for i in (4, 11):
        left = [evaluate(coefficients, 0, i, 5, 1 - k * step, 0.3) for k in (0, 1)]
        right = [evaluate(coefficients, 0, (i + 1) % 12, 5, k * step, 0.3) for k in (0, 1)]
        assert left[0] == pytest.approx(right[0], abs=1e-10)
        assert left[0] - left[1] == pytest.approx(right[1] - right[0], abs=1e-9)
