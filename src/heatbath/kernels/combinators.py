"""Kernels made of kernels: one after the other, one many times, one of several at random.

Parts that follow each other each ``init`` at the position they are given, because their states differ in kind; that costs
one evaluation per part and is counted.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState
from heatbath.state import LogDensity


class Repeat(Kernel):
    """``count`` steps of ``kernel`` as one step. The info is the mean acceptance, and totals of the rest."""

    kernel: Kernel
    count: int = eqx.field(static=True)

    def __check_init__(self):
        if self.count < 1:
            raise InvalidArgumentError(f"count must be at least 1; found {self.count}")

    @property
    def exact(self) -> bool:
        return self.kernel.exact

    @property
    def bias(self) -> str | None:
        return self.kernel.bias

    @property
    def proper(self) -> bool:
        return self.kernel.proper

    @property
    def step_size(self) -> Array | float | None:
        return self.kernel.step_size

    @property
    def evaluations(self) -> int:
        return self.count * self.kernel.evaluations

    @property
    def target_acceptance(self) -> float | None:
        return self.kernel.target_acceptance

    def with_step_size(self, step_size: Array | float) -> "Repeat":
        return Repeat(self.kernel.with_step_size(step_size), self.count)

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> PyTree:
        return self.kernel.init(key, x, u)

    def restart(self, key: Key[Array, ""], state: PyTree, u: LogDensity) -> PyTree:
        return self.kernel.restart(key, state, u)

    def step(self, key: Key[Array, ""], state: PyTree, u: LogDensity) -> tuple[PyTree, KernelInfo]:
        def once(state, key):
            return self.kernel.step(key, state, u)

        state, infos = jax.lax.scan(once, state, jax.random.split(key, self.count))
        return state, KernelInfo(
            infos.acceptance.mean(),
            infos.accepted.any(),
            infos.finite.all(),
            infos.evaluations.sum(dtype=jnp.int32),
            infos.log_weight.sum(),
        )


class Several(Kernel):
    """What kernels made of several ``kernels`` share: they carry a point, and are exact when every part is."""

    kernels: eqx.AbstractVar[tuple[Kernel, ...]]

    @property
    def exact(self) -> bool:
        return all(kernel.exact for kernel in self.kernels)

    @property
    def proper(self) -> bool:
        return all(kernel.proper for kernel in self.kernels)

    @property
    def bias(self) -> str | None:
        sentences = dict.fromkeys(kernel.bias for kernel in self.kernels if kernel.bias is not None)
        return "; ".join(sentences) or None

    @property
    def evaluations(self) -> int:
        return sum(kernel.evaluations + 1 for kernel in self.kernels)

    def init(self, key: Key[Array, ""], x: PyTree, u: LogDensity) -> PointState:
        return PointState(x, u(x))


class Compose(Several):
    """One step of each of ``kernels``, in order: invariant when each part is.

    ``adapted`` names the part whose step size warm-up adapts, and whose acceptance is reported; the others keep theirs. Without
    it nothing adapts and the acceptance is the mean.
    """

    kernels: tuple[Kernel, ...]
    adapted: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if not self.kernels:
            raise InvalidArgumentError("Compose needs at least one kernel; found none")
        if self.adapted is not None and not 0 <= self.adapted < len(self.kernels):
            raise InvalidArgumentError(f"adapted must be in 0..{len(self.kernels) - 1}; found {self.adapted}")

    @property
    def step_size(self) -> Array | float | None:
        return None if self.adapted is None else self.kernels[self.adapted].step_size

    @property
    def target_acceptance(self) -> float | None:
        return None if self.adapted is None else self.kernels[self.adapted].target_acceptance

    def with_step_size(self, step_size: Array | float) -> "Compose":
        if self.adapted is None:
            return self
        parts = list(self.kernels)
        parts[self.adapted] = parts[self.adapted].with_step_size(step_size)
        return Compose(tuple(parts), self.adapted)

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        infos = []
        for part, kernel in zip(jax.random.split(key, len(self.kernels)), self.kernels, strict=True):
            state, info = _init_and_step(kernel, part, state, u)
            infos.append(info)
        totals = jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)
        return state, KernelInfo(
            totals.acceptance.mean() if self.adapted is None else infos[self.adapted].acceptance,
            totals.accepted.any(),
            totals.finite.all(),
            totals.evaluations.sum(dtype=jnp.int32),
            totals.log_weight.sum(),
        )


class MixtureKernel(Several):
    """One step of one of ``kernels``, drawn with ``probabilities``: reversible when every part is.

    The choice does not depend on x, which is what keeps exp(-u) invariant. Chains that are batched together evaluate
    every part and keep one, so that the cost is that of all parts.
    """

    kernels: tuple[Kernel, ...]
    probabilities: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.kernels) != len(self.probabilities) or not self.kernels:
            raise InvalidArgumentError(
                f"expected one probability per kernel; found {len(self.kernels)} kernels and {len(self.probabilities)}"
            )
        if min(self.probabilities) < 0 or not np.isclose(sum(self.probabilities), 1.0):
            raise InvalidArgumentError(f"probabilities must be positive and sum to 1; found {self.probabilities}")

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_choice, key_step = jax.random.split(key)
        choice = jax.random.choice(key_choice, len(self.kernels), p=jnp.asarray(self.probabilities))
        branches = [lambda key, state, kernel=kernel: _init_and_step(kernel, key, state, u) for kernel in self.kernels]
        return jax.lax.switch(choice, branches, key_step, state)


def _init_and_step(kernel: Kernel, key, state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
    key_init, key_step = jax.random.split(key)
    inner, info = kernel.step(key_step, kernel.init(key_init, state.position, u), u)
    log_weight = jnp.asarray(info.log_weight, jnp.result_type(float))
    info = info._replace(evaluations=info.evaluations + 1, log_weight=log_weight)
    return PointState(inner.position, inner.reduced_energy), info
