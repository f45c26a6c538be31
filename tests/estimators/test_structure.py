"""The radial distribution function: an ideal gas, a lattice, pairs of species."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.estimators.structure import radial_distribution


@pytest.mark.parametrize("dimension", [2, 3])
def test_ideal_gas(dimension):
    """Uniform points have g = 1 at all distances, within 4.5 standard errors over draws; a wrong shell volume would show."""
    lengths, edges = np.array([4.0, 5.0, 6.0])[:dimension], np.linspace(0.2, 2.0, 7)
    x = np.random.default_rng(0).uniform(size=(400, 20, dimension)) * lengths
    found = radial_distribution(x, lengths, edges)
    z = (found.mean(0) - 1) / (found.std(0) / 20)
    assert np.abs(z).max() < 4.5


def test_two_particles_across_the_boundary():
    """One pair at a distance of 0.2 through the wall: all weight in its bin, and only for its species."""
    x, edges = np.array([[[0.1, 1.0], [3.9, 1.0]]]), np.array([0.0, 0.1, 0.3])
    found = radial_distribution(x, [4.0, 4.0], edges, kinds=[0, 1], pair=(1, 0))[0]
    assert found[0] == 0
    assert found[1] == pytest.approx(16 / (np.pi * 0.08))
    assert radial_distribution(x, [4.0, 4.0], edges, kinds=[0, 0], pair=(0, 0))[0, 1] == pytest.approx(found[1])


def test_bins_beyond_half_the_box_are_refused():
    """Shells there are not whole."""
    with pytest.raises(InvalidArgumentError, match="half the box"):
        radial_distribution(np.zeros((1, 2, 2)), [4.0, 4.0], [0.0, 3.0])
