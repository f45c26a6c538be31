"""Kernels made of kernels: counts, step sizes, and what they say about bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.errors import InvalidArgumentError
from heatbath.kernels import HMC, MALA, Compose, Gibbs, Langevin, MixtureKernel, RandomWalk, Repeat
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.toy import DoubleWell

U = ReducedEnergy(DoubleWell(dimension=2), ThermoState(1.0))
X = jnp.array([0.2, 0.1])


def one_step(kernel, seed=0):
    return kernel.step(jax.random.key(seed), kernel.init(jax.random.key(9), X, U), U)


def test_evaluations_are_counted_to_the_last():
    """Costs are compared between methods; an uncounted evaluation would flatter one of them."""
    assert one_step(Repeat(HMC(0.1, num_steps=3), 4))[1].evaluations == 12
    # Parts of a composition evaluate once more at their start.
    assert one_step(Compose((HMC(0.1, num_steps=3), RandomWalk(0.3))))[1].evaluations == 3 + 1 + 1 + 1
    assert one_step(MixtureKernel((MALA(0.1), MALA(0.2)), (0.5, 0.5)))[1].evaluations == 2
    for kernel in (HMC(0.1, num_steps=3), MALA(0.1), Repeat(MALA(0.1), 5), Compose((MALA(0.1), RandomWalk(0.1)))):
        assert one_step(kernel)[1].evaluations == kernel.evaluations


def test_step_sizes_pass_through():
    """Warm-up must reach the kernel inside, and leave compositions without a named part alone."""
    assert Repeat(MALA(0.1), 3).with_step_size(0.4).kernel.step_size == 0.4
    pair = Compose((RandomWalk(0.1), MALA(0.2)), adapted=1)
    assert pair.with_step_size(0.5).kernels[1].step_size == 0.5
    assert pair.with_step_size(0.5).kernels[0].step_size == 0.1
    assert pair.target_acceptance == MALA(0.2).target_acceptance
    plain = Compose((RandomWalk(0.1), MALA(0.2)))
    assert plain.step_size is None
    assert plain.with_step_size(0.5) is plain
    assert Gibbs(2).with_step_size(0.5) == Gibbs(2)


def test_one_inexact_part_makes_the_whole_inexact():
    """A composition must not launder the step-size error of its parts."""
    honest = Compose((MALA(0.1), RandomWalk(0.1)))
    assert honest.exact
    assert honest.bias is None
    for kernel in (
        Compose((MALA(0.1), Langevin(0.1))),
        MixtureKernel((MALA(0.1), Langevin(0.1)), (0.5, 0.5)),
        Repeat(Langevin(0.1), 2),
    ):
        assert not kernel.exact
        assert "Langevin" in kernel.bias


def test_mixtures_use_their_probabilities():
    """The share of moves of each part: a part that always moves against one that never does."""
    kernel = MixtureKernel((RandomWalk(1e-3), RandomWalk(0.0)), (0.3, 0.7))
    ends = jax.vmap(lambda key: kernel.step(key, kernel.init(key, X, U), U)[0].position)(
        jax.random.split(jax.random.key(1), 5000)
    )
    moved = float((np.asarray(ends) != np.asarray(X)).any(axis=1).mean())
    assert abs(moved - 0.3) < 4.5 * np.sqrt(0.21 / 5000) + 1e-3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Repeat(MALA(0.1), 0), "count"),
        (lambda: Compose(()), "at least one"),
        (lambda: MixtureKernel((MALA(0.1),), (0.5, 0.5)), "one probability per kernel"),
        (lambda: MixtureKernel((MALA(0.1), MALA(0.1)), (0.5, 0.6)), "sum to 1"),
        (lambda: Gibbs(1), "at least 2"),
        (lambda: Gibbs(2, scan="typewriter"), "scan"),
    ],
)
def test_impossible_combinations(make, words):
    """Each says what it expects."""
    with pytest.raises((InvalidArgumentError, TypeError), match=words):
        make()
