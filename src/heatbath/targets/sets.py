"""Rewards of objects that are built step by step: grids, bags of letters, independent sets. U = -log R, sampled at beta = 1.

A reward must be positive somewhere, never negative and never NaN; objects of reward zero have infinite energy.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from heatbath.errors import InvalidArgumentError
from heatbath.spaces import Discrete
from heatbath.targets.base import Target


def checked_log_rewards(rewards: Any) -> np.ndarray:
    """log of an array of rewards. Raises ``InvalidArgumentError`` when one is negative or not finite, or all are zero."""
    values = np.asarray(rewards, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InvalidArgumentError(
            f"rewards must be finite; {int((~np.isfinite(values)).sum())} of {values.size} are not"
        )
    if (values < 0).any():
        raise InvalidArgumentError(
            f"rewards must not be negative; {int((values < 0).sum())} are (the smallest is {values.min():g})"
        )
    if not (values > 0).any():
        raise InvalidArgumentError("every reward is zero, so that there is nothing to sample")
    with np.errstate(divide="ignore"):
        return np.log(values)


class GridReward(Target):
    """R = floor + 0.5 [0.25 < |t - 0.5| on every axis] + 2 [0.3 < |t - 0.5| < 0.4 on every axis], t = x / (side - 1).

    2^dimension modes near the corners, separated by plains of reward ``floor``. Source: Bengio et al., arXiv 2106.04399.
    """

    space: Discrete
    floor: float

    def __init__(self, dimension: int = 2, side: int = 8, floor: float = 0.01):
        if dimension < 1 or side < 2 or not (np.isfinite(floor) and floor > 0):
            raise InvalidArgumentError(
                f"expected dimension >= 1, side >= 2 and floor > 0; found {dimension}, {side}, {floor}"
            )
        self.space, self.floor = Discrete((dimension,), side), float(floor)

    def energy(self, x):
        distance = jnp.abs(x / (self.space.k - 1) - 0.5)
        outer = jnp.all(distance > 0.25)
        ridge = jnp.all((distance > 0.3) & (distance < 0.4))
        return -jnp.log(self.floor + 0.5 * outer + 2.0 * ridge)

    def log_z(self, beta):
        return _log_sum(
            self,
            np.stack(np.meshgrid(*[np.arange(self.space.k)] * self.space.shape[0]), -1).reshape(-1, *self.space.shape),
            beta,
        )


class BagReward(Target):
    """Bags of ``size`` letters: reward 0.01; 10 when some letter is there at least ``needed`` times; 30 in a quarter of these,
    the modes.

    Modes are bags, not strings: every bag of reward 10 is one with probability ``share``, drawn with ``seed``.
    """

    space: Discrete
    letters: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    needed: int = eqx.field(static=True)
    is_mode: Array

    def __init__(self, letters: int = 7, size: int = 13, needed: int = 7, share: float = 0.25, seed: int = 0):
        if letters < 1 or not 1 <= needed <= size or not 0 <= share <= 1:
            raise InvalidArgumentError(
                f"expected letters >= 1, 1 <= needed <= size, share in [0, 1]; found {letters}, {needed}, {share}"
            )
        if (size + 1) ** letters > 2**31:
            raise InvalidArgumentError(f"(size + 1)^letters must stay below 2^31; found {size + 1}^{letters}")
        self.space = Discrete((letters,), size + 1)
        self.letters, self.size, self.needed = letters, size, needed
        good = np.array([self._number(bag) for bag in self.bags() if bag.max() >= needed], dtype=np.int64)
        chosen = np.random.default_rng(seed).random(len(good)) < share
        self.is_mode = jnp.asarray(np.sort(good[chosen]), jnp.int32)

    def _number(self, bag):
        return bag @ ((self.size + 1) ** np.arange(self.letters))

    def bags(self) -> np.ndarray:
        """Every bag, (n, letters) of counts."""
        rows = np.zeros((1, 0), dtype=np.int64)
        for _ in range(self.letters - 1):
            left = self.size - rows.sum(axis=1)
            rows = np.concatenate(
                [np.append(row, count)[None] for row, most in zip(rows, left, strict=True) for count in range(most + 1)]
            )
        return np.concatenate([rows, self.size - rows.sum(axis=1, keepdims=True)], axis=1)

    def mode(self, x) -> Bool[Array, ""]:
        """Whether a bag is one of the modes."""
        number = jnp.sum(x * jnp.asarray((self.size + 1) ** np.arange(self.letters), jnp.int32))
        place = jnp.minimum(jnp.searchsorted(self.is_mode, number), max(len(self.is_mode) - 1, 0))
        return (self.is_mode[place] == number) if len(self.is_mode) else jnp.asarray(False)  # noqa: FBT003

    def energy(self, x):
        good = jnp.max(x) >= self.needed
        reward = jnp.where(self.mode(x), 30.0, jnp.where(good, 10.0, 0.01))
        return jnp.where(jnp.sum(x) == self.size, -jnp.log(reward), jnp.inf)

    def partial(self, x):
        """Energy of a bag that is not full yet, by the same rule without modes."""
        unfinished = -jnp.log(jnp.where(jnp.max(x) >= self.needed, 10.0, 0.01))
        return jnp.where(jnp.sum(x) == self.size, self.energy(x), unfinished)

    def log_z(self, beta):
        return _log_sum(self, self.bags(), beta)

    def initial(self, key):
        return jnp.zeros(self.letters, jnp.int32).at[0].set(self.size)


class SetSize(Target):
    """Independent sets of a graph: U = -|S| for independent sets, infinite for others."""

    space: Discrete
    adjacency: Bool[Array, "n n"]

    def __init__(self, adjacency: Any):
        adjacency = np.asarray(adjacency, dtype=bool)
        if adjacency.ndim != 2 or not np.array_equal(adjacency, adjacency.T) or np.diag(adjacency).any():
            raise InvalidArgumentError(
                f"an adjacency matrix is square, symmetric and has no loops; found shape {adjacency.shape}"
            )
        self.space, self.adjacency = Discrete((len(adjacency),), 2), jnp.asarray(adjacency)

    def energy(self, x):
        chosen = x == 1
        broken = jnp.any(self.adjacency & chosen[:, None] & chosen[None, :])
        return jnp.where(broken, jnp.inf, -jnp.sum(chosen).astype(jnp.result_type(float)))

    def initial(self, key):
        return jnp.zeros(self.space.shape, jnp.int32)


def _log_sum(target: Target, configurations: np.ndarray, beta: float) -> float:
    with jax.enable_x64(True):  # noqa: FBT003
        energies = jax.lax.map(target.energy, jnp.asarray(configurations), batch_size=2**14)
        exponents = -float(beta) * np.asarray(energies, dtype=np.float64)
    top = exponents.max()
    return float(top + np.log(np.exp(exponents - top).sum()))
