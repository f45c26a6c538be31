"""Molecular dynamics of particles: forces against autodiff, means against quadrature, bias of long steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError, NonFiniteError
from heatbath.targets import liquids

pytest.importorskip("numba", reason="needs the extra 'liquids'")

from heatbath.kernels.particle_dynamics import ParticleDynamics

LIQUID = liquids.few_particles(3)


def starts(liquid, chains):
    return np.asarray(jax.jit(jax.vmap(liquid.initial))(jax.random.split(jax.random.key(0), chains)))


@pytest.mark.parametrize("build", [liquids.ternary_liquid, lambda: liquids.kob_andersen(150)])
def test_forces_are_gradients(build):
    """A wrong sign, image or table moves particles elsewhere; two and three dimensions."""
    liquid = build()
    x = starts(liquid, 1)[0]
    energy, force = ParticleDynamics(liquid).forces(np.ascontiguousarray(x.T))
    expected, gradient = jax.jit(jax.value_and_grad(liquid.energy))(jnp.asarray(x))
    assert energy == pytest.approx(float(expected), rel=1e-10)
    np.testing.assert_allclose(force.T, -gradient, rtol=1e-8, atol=1e-8 * float(jnp.abs(gradient).max()))


def deviation(step, chains=64):
    """z of <U> and of <U^2> of three particles against quadrature, over independent chains."""
    engine, exact = ParticleDynamics(LIQUID, friction=2.0), LIQUID.exact(1.0)
    begin, _ = engine.run(engine.begin(starts(LIQUID, chains), 5), 1.0, 0.02, sweeps=3000)
    _, moved = engine.run(begin, 1.0, step, sweeps=int(1 / step), records=400)
    square = exact.heat_capacity * 3 + exact.mean_energy**2
    pairs = ((moved.energies.mean(1), exact.mean_energy), ((moved.energies**2).mean(1), square))
    return [abs(v.mean() - truth) / (v.std(ddof=1) / np.sqrt(chains)) for v, truth in pairs]


def test_dynamics_meet_quadrature():
    """Both within 4.5 standard errors (false alarm 7e-6 each) at a short step; a wrong temperature would be far off."""
    assert max(deviation(0.02)) < 4.5


def test_runs_are_refused_or_fail_loudly():
    """Steps of 10 blow up and say so; friction must be positive."""
    engine = ParticleDynamics(liquids.ternary_liquid())
    begin = engine.begin(starts(engine.liquid, 1), 1)
    assert len(engine.tune(begin, 1.0)[1]) == 1
    with pytest.raises(NonFiniteError, match="smaller"):
        engine.run(begin, 1.0, 1e200, sweeps=10)
    with pytest.raises(InvalidArgumentError, match="friction"):
        ParticleDynamics(LIQUID, friction=0.0)
    with pytest.raises(InvalidArgumentError, match="sweeps"):
        engine.run(begin, 1.0, 0.01, sweeps=0)


def test_evaluations_are_counted():
    """One per step and one at the beginning of every chain."""
    engine = ParticleDynamics(LIQUID)
    _, moved = engine.run(engine.begin(starts(LIQUID, 2), 1), 1.0, 0.01, sweeps=5, records=3)
    assert moved.evaluations == 2 * 16
