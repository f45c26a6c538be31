"""Population annealing: exact ratios of Z and means, maps between temperatures, families. z-tests at 4.5 sigma (7e-6 each)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.kernels import Langevin, RandomWalk
from heatbath.models.bijections import Bijection
from heatbath.samplers.population_annealing import population_annealing
from heatbath.samplers.population_moves import DynamicsSteps, KernelMoves, ParticleSweeps
from heatbath.state import ThermoState
from heatbath.targets import liquids, toy

TARGET = toy.HarmonicOscillators((1.0, 4.0))
BETAS, MEMBERS = (0.8, 1.3, 2.0), 400


class Scaled(Bijection):
    """x -> s x; ``honest`` says whether its determinant is told."""

    factor: float
    honest: bool = True

    def forward(self, z):
        return self.factor * z, z.size * jnp.log(self.factor) * self.honest

    def inverse(self, x):
        return x / self.factor, -x.size * jnp.log(self.factor) * self.honest


def start(seed):
    draws = jax.vmap(lambda key: TARGET.sample(key, 0.5))(jax.random.split(jax.random.key(seed), MEMBERS))
    return Ensemble(draws, np.zeros(MEMBERS), ThermoState(0.5))


def runs(maps=None, seeds=12):
    moves = KernelMoves(RandomWalk(0.8), 4)
    return [
        population_annealing(jax.random.key(seed), TARGET, start(seed + 100), BETAS, moves=moves, maps=maps)
        for seed in range(seeds)
    ]


def z_score(values, truth):
    return (np.mean(values) - truth) / (np.std(values, ddof=1) / np.sqrt(len(values)))


def perfect_maps(honest=True):
    before = (0.5, *BETAS[:-1])
    return [Scaled(float(np.sqrt(a / b)), honest) for a, b in zip(before, BETAS, strict=True)]


def test_ratios_and_means_are_exact():
    """The mean of Z-hat ratios is Z ratio itself, and the energy at the end is that of equipartition."""
    found = runs()
    truth = TARGET.log_z(2.0) - TARGET.log_z(0.5)
    assert abs(z_score([np.exp(run.log_z_ratio - truth) for run in found], 1.0)) < 4.5
    assert abs(z_score([run.levels[-1].mean_energy for run in found], 0.5)) < 4.5
    assert abs(z_score([run.levels[-1].variance for run in found], 0.25)) < 4.5
    level = found[0].levels[-1]
    assert 0 < level.ess < 1
    families = np.asarray(found[0].ensemble.ancestors)
    shares = np.bincount(families, minlength=MEMBERS) / MEMBERS
    assert level.rho == pytest.approx(MEMBERS * np.sum(shares**2))
    assert 0 < level.family_entropy < np.log(MEMBERS)
    assert level.evaluations == 6 * MEMBERS


def test_perfect_maps_leave_equal_weights():
    """With the map that scales one temperature into the next, every weight is the ratio of Z, and no family dies."""
    run = runs(perfect_maps(), seeds=1)[0]
    assert run.log_z_ratio == pytest.approx(TARGET.log_z(2.0) - TARGET.log_z(0.5), abs=1e-9)
    assert run.levels[-1].ess == pytest.approx(1.0)
    assert run.levels[-1].rho == pytest.approx(1.0)
    assert run.levels[-1].family_entropy == pytest.approx(np.log(MEMBERS))


def test_a_forgotten_determinant_is_caught():
    """Negative control: without its determinant the same map gives another ratio of Z."""
    run = runs(perfect_maps(honest=False), seeds=1)[0]
    assert abs(run.log_z_ratio - (TARGET.log_z(2.0) - TARGET.log_z(0.5))) > 0.5


def test_impossible_runs_are_refused():
    """Unequal weights, biased kernels and missing maps name themselves."""
    key, moves, begin = jax.random.key(0), KernelMoves(RandomWalk(0.8)), start(0)
    uneven = Ensemble(begin.samples, np.linspace(0, 1, MEMBERS), begin.state)
    with pytest.raises(InvalidArgumentError, match="equally weighted"):
        population_annealing(key, TARGET, uneven, BETAS, moves=moves)
    with pytest.raises(InvalidArgumentError, match="exact kernel"):
        KernelMoves(Langevin(0.1))
    with pytest.raises(InvalidArgumentError, match="steps"):
        KernelMoves(RandomWalk(0.8), 0)
    with pytest.raises(InvalidArgumentError, match="time_step"):
        DynamicsSteps(liquids.few_particles(3), time_step=0.0)
    with pytest.raises(InvalidArgumentError, match="one map per temperature"):
        population_annealing(key, TARGET, begin, BETAS, moves=moves, maps=[None])
    with pytest.raises(InvalidArgumentError, match="positive betas"):
        population_annealing(key, TARGET, begin, (), moves=moves)


MOVES = {
    "sweeps": lambda liquid: ParticleSweeps(liquid, 10, step_size=1.0, exchange_share=0.2),
    "dynamics": lambda liquid: DynamicsSteps(liquid, 400, time_step=0.01),
}


@pytest.mark.parametrize("kind", MOVES)
def test_compiled_moves_meet_quadrature(kind):
    """Three particles cooled by compiled moves: log Z ratio, <U>, counts and the declared bias, over independent populations."""
    pytest.importorskip("numba", reason="needs the extra 'liquids'")
    liquid, members = liquids.few_particles(3), 300
    draw = jax.jit(lambda keys: jax.vmap(lambda key: liquid.sample(key, 0.5))(keys))
    moves, found = MOVES[kind](liquid), []
    for seed in range(8):
        begin = Ensemble(draw(jax.random.split(jax.random.key(seed), members)), np.zeros(members), ThermoState(0.5))
        found.append(population_annealing(jax.random.key(seed + 50), liquid, begin, (1.0, 2.0), moves=moves))
    truth = liquid.log_z(2.0) - liquid.log_z(0.5)
    assert abs(z_score([np.exp(run.log_z_ratio - truth) for run in found], 1.0)) < 4.5
    energies = [run.levels[-1].mean_energy for run in found]
    assert abs(z_score(energies, liquid.exact(2.0).mean_energy)) < 4.5
    assert abs(z_score(energies, liquid.exact(1.5).mean_energy)) > 6, "another temperature would be noticed"
    each = {"sweeps": 10 * 4, "dynamics": 400}[kind]
    assert found[0].levels[0].evaluations == pytest.approx(members * (1 + each), rel=0.15)
    assert (found[0].ensemble.bias is None) == (kind == "sweeps")


def test_too_long_time_steps_are_refused():
    """Dynamics that leaves the finite numbers says so, and names the step."""
    pytest.importorskip("numba", reason="needs the extra 'liquids'")
    liquid = liquids.few_particles(3)
    draws = jax.vmap(lambda key: liquid.sample(key, 1.0))(jax.random.split(jax.random.key(0), 300))
    begin = Ensemble(draws, np.zeros(300), ThermoState(1.0))
    moves = DynamicsSteps(liquid, 600, time_step=0.06)
    with pytest.raises(NonFiniteError, match=r"0\.06"):
        population_annealing(jax.random.key(0), liquid, begin, (2.0,), moves=moves)
