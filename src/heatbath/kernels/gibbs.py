"""Gibbs sampling of discrete configurations: the single-site heat bath."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from heatbath.errors import InvalidArgumentError
from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.metropolis import PointState
from heatbath.state import LogDensity, ReducedEnergy


class Gibbs(Kernel):
    """One sweep of the heat bath over integers 0..k-1: site s gets the value v with probability ∝ exp(-u(x with x_s = v)).

    k:     number of values of a site.
    scan:  ``"random"`` draws as many sites as there are, with replacement (each single update is reversible);
           ``"sequential"`` visits them in order (invariant, not reversible; usually faster).

    The conditional law comes from ``target.conditional_energies(x, site)`` (k energies up to a common constant) where the
    target offers it and u has no bias, else from k evaluations of u. ``step`` ends with one evaluation of u.
    Source: Glauber, J. Math. Phys. 4, 294 (1963); Geman & Geman, IEEE PAMI 6, 721 (1984).
    """

    k: int = eqx.field(static=True)
    scan: Literal["random", "sequential"] = eqx.field(static=True, default="random")

    def __check_init__(self):
        if self.k < 2:
            raise InvalidArgumentError(f"a discrete site needs at least 2 values; found k = {self.k}")
        if self.scan not in ("random", "sequential"):
            raise InvalidArgumentError(f"scan must be 'random' or 'sequential'; found {self.scan!r}")

    @property
    def evaluations(self) -> int:
        return 1 + self.k

    def init(self, key: Key[Array, ""], x: Array, u: LogDensity) -> PointState:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise InvalidArgumentError(f"Gibbs moves integers 0..{self.k - 1}; found a configuration of type {x.dtype}")
        return PointState(x, u(x))

    def step(self, key: Key[Array, ""], state: PointState, u: LogDensity) -> tuple[PointState, KernelInfo]:
        key_sites, key_values = jax.random.split(key)
        sites = state.position.size
        order = jnp.arange(sites) if self.scan == "sequential" else jax.random.randint(key_sites, (sites,), 0, sites)

        def update(x, site_and_key):
            site, key = site_and_key
            energies = conditional_energies(x, site, u, self.k)
            # A value whose energy is NaN or infinite has probability zero.
            logits = jnp.where(jnp.isfinite(energies), -energies, -jnp.inf)
            value = jax.random.categorical(key, logits).astype(x.dtype)
            return x.reshape(-1).at[site].set(value).reshape(x.shape), jnp.isfinite(energies).all()

        position, finite = jax.lax.scan(update, state.position, (order, jax.random.split(key_values, sites)))
        energy = u(position)
        # A sweep of conditionals costs about k full energies where they are local.
        evaluations = 1 + (self.k if _offers_conditionals(u) else self.k * sites)
        info = KernelInfo(
            jnp.ones((), energy.dtype), jnp.ones((), bool), finite.all(), jnp.asarray(evaluations, jnp.int32)
        )
        return PointState(position, energy), info


def _offers_conditionals(u: LogDensity) -> bool:
    return isinstance(u, ReducedEnergy) and u.state.bias is None and hasattr(u.target, "conditional_energies")


def conditional_energies(x: Int[Array, "..."], site: Int[Array, ""], u: LogDensity, k: int) -> Float[Array, " k"]:
    """u of ``x`` with flat site ``site`` set to 0..k-1, up to a common constant."""
    if _offers_conditionals(u):
        energies = u.target.conditional_energies(x, site)
        return u.state.beta.astype(energies.dtype) * energies

    def with_value(value: PyTree) -> Array:
        return u(x.reshape(-1).at[site].set(value).reshape(x.shape))

    return jax.vmap(with_value)(jnp.arange(k, dtype=x.dtype))
