"""Classical collisionless transport: shifts, dispersion relation, mixing, conservation, and two solvers against each other."""

import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kinetics.jeans import Maxwellian, density_mode, eigenmode, fitted_rate, free_streaming, perturbed
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.vlasov import (
    Gravity,
    SemiLagrangianSolver,
    SpectralSolver,
    acceleration,
    density,
    invariants,
)


def evolve(solver, values, time_step, steps):
    """Times and density modes, the start included, and the end."""
    modes = [density_mode(solver.rho(values))]
    for _ in range(steps):
        values = solver.step(values, time_step)
        modes.append(density_mode(solver.rho(values)))
    return time_step * np.arange(steps + 1), np.array(modes), values


def test_the_dispersion_relation_has_its_known_limits():
    """A wrong root would make every growth check below agree with the wrong number. Values at 0.5 and 0.8: erfcx, by hand."""
    for ratio, rate in ((0.5, 0.6872), (0.8, 0.3036)):
        assert Maxwellian.with_ratio(ratio).growth_rate(2 * np.pi) == pytest.approx(rate, abs=5e-5)
    assert Maxwellian.with_ratio(1e-3).growth_rate(2 * np.pi) == pytest.approx(1.0, abs=1e-5)  # cold: sqrt(4 pi G rho)
    assert Maxwellian.with_ratio(1.0).growth_rate(2 * np.pi) == pytest.approx(0.0, abs=1e-10)
    assert Maxwellian.with_ratio(1.2).growth_rate(2 * np.pi) < 0


@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.2])
def test_waves_grow_and_fade_as_the_dispersion_relation_says(ratio):
    """Gravity of the wrong sign, strength or phase changes the rate. Both solvers, 2 %; above k_J the wave must fade."""
    gas = Maxwellian.with_ratio(ratio)
    grid = PhaseGrid(64, 64, 1.0, 6 * gas.sigma)
    start = eigenmode(grid, gas, 1e-3) if ratio < 1 else perturbed(grid, gas, 1e-3)
    window = (0.2, 2.0) if ratio < 1 else (2.0, 4.0)
    for kind in (SpectralSolver, SemiLagrangianSolver):
        times, modes, _ = evolve(kind(grid, Gravity()), start, 0.05, int(window[1] / 0.05))
        expected = gas.growth_rate(2 * np.pi)
        assert fitted_rate(times, modes, window) == pytest.approx(expected, rel=0.02)


def test_two_methods_agree_in_a_nonlinear_collapse():
    """A mistake that both linear checks miss (the kick of a strong field) separates characteristics from Fourier shifts."""
    gas = Maxwellian.with_ratio(0.3)
    grid = PhaseGrid(64, 128, 1.0, 8 * gas.sigma)
    ends = [
        evolve(kind(grid, Gravity()), perturbed(grid, gas, 0.1), 0.05, 50)
        for kind in (SpectralSolver, SemiLagrangianSolver)
    ]
    assert abs(ends[0][1][-1]) > 0.2  # four times the start: far from linear
    np.testing.assert_allclose(ends[0][1], ends[1][1], atol=2e-3)


def test_free_streaming_mixes_and_recurs():
    """Without gravity the wave fades as a Gaussian, and the grid brings it back at 2 pi / (k dv): time is counted right."""
    gas = Maxwellian.with_ratio(0.5)
    grid = PhaseGrid(32, 32, 1.0, 6 * gas.sigma)
    solver, start = SpectralSolver(grid, Gravity(0.0)), perturbed(grid, gas, 0.1)
    recurrence = grid.length / grid.dv
    for time in (0.1 * recurrence, 0.2 * recurrence, recurrence):
        mode = density_mode(density(solver.drift(start, time), grid))
        expected = 0.05 * (1.0 if time == recurrence else free_streaming(time, 2 * np.pi, gas.sigma))
        assert abs(mode) == pytest.approx(expected, abs=1e-9)


def test_what_is_conserved():
    """Mass and norm to rounding; energy to second order in the step: a first-order splitting would halve, not quarter."""
    gas = Maxwellian.with_ratio(0.3)
    grid = PhaseGrid(64, 128, 1.0, 8 * gas.sigma)
    start, gravity = perturbed(grid, gas, 0.1), Gravity()
    before = invariants(start, grid, gravity)
    errors = []
    for steps in (20, 40):
        _, _, end = evolve(SpectralSolver(grid, gravity), start, 2.0 / steps, steps)
        after = invariants(end, grid, gravity)
        assert after.mass == pytest.approx(before.mass, rel=1e-12)
        assert after.norm == pytest.approx(before.norm, rel=1e-5)
        np.testing.assert_allclose(after.momentum, before.momentum, atol=1e-6)
        errors.append(abs(after.energy - before.energy))
    assert 3.0 < errors[0] / errors[1] < 5.0


def test_the_field_of_a_wave_and_the_modes_that_are_kept():
    """a = -grad phi of rho = cos(kx) is -(4 pi G / k) sin(kx): towards the crest. Truncation drops the second wave alone."""
    grid = PhaseGrid(32, 8)
    k = 2 * np.pi
    rho = np.cos(k * grid.x) + np.cos(2 * k * grid.x)
    first = -3.0 / k * np.sin(k * grid.x)
    np.testing.assert_allclose(acceleration(rho, grid, Gravity(3.0, 1))[0], first, atol=1e-14)
    second = first - 1.5 / k * np.sin(2 * k * grid.x)
    np.testing.assert_allclose(acceleration(rho, grid, Gravity(3.0))[0], second, atol=1e-14)


def test_two_dimensions_hold_a_one_dimensional_wave():
    """A plane wave along x in 2+2D evolves as in 1+1D: axes of positions and velocities are paired."""
    gas = Maxwellian.with_ratio(0.5)
    line, plane = PhaseGrid(16, 16, 1.0, 6 * gas.sigma), PhaseGrid(16, 16, 1.0, 6 * gas.sigma, dimension=2)
    one = perturbed(line, gas, 0.1)
    two = np.broadcast_to(one[:, None, :, None] * gas.profile(plane.v), plane.shape)
    for _ in range(3):
        one = SpectralSolver(line, Gravity()).step(one, 0.1)
        two = SpectralSolver(plane, Gravity()).step(two, 0.1)
    np.testing.assert_allclose(density(two, plane)[:, 3], density(one, line), rtol=1e-7)


def test_what_makes_no_sense_is_refused():
    """A grid that cannot be and a wave that does not grow must not become arrays of NaN."""
    for bad in ({"positions": 7}, {"velocities": 0}, {"length": 0.0}, {"speed_limit": -1.0}, {"dimension": 4}):
        with pytest.raises(InvalidArgumentError):
            PhaseGrid(**{"positions": 8, "velocities": 8, **bad})
    with pytest.raises(InvalidArgumentError, match="power of two"):
        PhaseGrid(12, 8).qubits  # noqa: B018
    with pytest.raises(InvalidArgumentError, match="k_J"):
        eigenmode(PhaseGrid(8, 8), Maxwellian.with_ratio(1.5), 0.1)
    with pytest.raises(InvalidArgumentError):
        Maxwellian.with_ratio(-1.0)
    with pytest.raises(InvalidArgumentError):
        Gravity(modes=0)
