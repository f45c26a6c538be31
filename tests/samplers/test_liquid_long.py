"""Long checks of liquids: 1290 particles by three codes, and mean energies of 43 beside an independent code's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.samplers.base import run_to_end
from heatbath.targets.liquids import ternary_liquid

pytest.importorskip("numba", reason="needs the extra 'liquids'")

from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.samplers.particle_chains import ParticleSampler

EPSILON = np.array([[1, 1.5, 0.75], [1.5, 0.5, 1.5], [0.75, 1.5, 0.75]])
SIGMA = np.array([[1, 0.8, 0.9], [0.8, 0.88, 0.8], [0.9, 0.8, 0.94]])


def plain_energy(x, kinds, length):
    """All pairs in NumPy with published constants and nearest images by a search over nine boxes."""
    first, second = np.triu_indices(len(x), k=1)
    step = x[first] - x[second]
    images = np.stack([step + length * np.array([a, b]) for a in (-1, 0, 1) for b in (-1, 0, 1)])
    square = (images**2).sum(-1).min(0) / SIGMA[kinds[first], kinds[second]] ** 2
    smooth = 0.04049023795 - 0.00970155098 * square + 0.00062012616 * square**2
    value = 4 * EPSILON[kinds[first], kinds[second]] * (square**-6 - square**-3 + smooth)
    return value[square < 6.25].sum()


def test_1290_particles_by_three_codes():
    """A configuration of our own at T = 1: NumPy, JAX and the compiled loops agree on U/N to 1e-7."""
    liquid = ternary_liquid(1290)
    engine = ParticleEngine(liquid)
    begin = engine.begin(np.asarray(liquid.initial(jax.random.key(3)), float)[None], 1)
    chains, _ = engine.run(begin, 1.0, 0.1, sweeps=30)
    x = chains.configurations[0]
    assert liquid.length == pytest.approx(32.8962, abs=1e-3)
    exact = plain_energy(x, np.repeat([0, 1, 2], [600, 330, 360]), liquid.length) / 1290
    assert chains.energies[0] / 1290 == pytest.approx(exact, abs=1e-7)
    assert float(liquid.energy(jnp.asarray(x))) / 1290 == pytest.approx(exact, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "energy", "error"), [(1.0, -1.8820, 0.0013), (0.6, -2.2701, 0.0014)])
def test_swap_monte_carlo_meets_an_independent_code(temperature, energy, error):
    """U/N within 4 combined standard errors of a C program's (false alarm 1e-4 each, with the t-law of 16 chains)."""
    made = ParticleSampler(
        ternary_liquid(), (1 / temperature,), ladders=16, draws=1000, sweeps=20, warmup=200, exchange_share=0.2
    )
    means = run_to_end(made, jax.random.key(1)).diagnostics["energies"][:, :, 0].mean(0) / 43
    assert abs(means.mean() - energy) < 4 * np.hypot(error, means.std(ddof=1) / 4)
