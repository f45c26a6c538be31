"""Importance sampling: independent draws of a proposal with its weights, exact for any number of draws."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError
from heatbath.process import Chunk
from heatbath.random import named_key
from heatbath.samplers.base import Cost, Sampled, Sampler
from heatbath.samplers.proposals import Proposal
from heatbath.samplers.records import dimension, from_arrays, sample_axes, to_arrays
from heatbath.state import LogDensity, ReducedEnergy, ThermoState
from heatbath.targets.base import Target


def importance(key: Key[Array, ""], proposal: Proposal, u: LogDensity, n: int, *, chunk: int = 4096) -> Ensemble:
    """``n`` independent draws with absolute weights: E[w f(x)] is the integral of exp(-u) f.

    Draw i depends on the key and on i alone. ``chunk`` draws are made at once, by one compiled program for all chunks; lower it
    where a network's activations do not fit into memory. The ensemble's ``log_z`` is the log of the mean weight; ``energies`` are
    there when u is a ``ReducedEnergy``; ``bias`` is what the proposal declares.
    Raises ``InvalidArgumentError`` when n is not positive.
    """
    if n < 1:
        raise InvalidArgumentError(f"n must be at least 1; found {n}")
    # The first index is an array: as a Python number it would be a constant of the program, and each chunk compiled anew.
    parts = [_draws(proposal, u, key, jnp.asarray(start, jnp.int32), min(chunk, n)) for start in range(0, n, chunk)]
    samples, log_weights, energies = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)
    samples = jax.tree.map(jnp.asarray, samples)
    state = u.state if isinstance(u, ReducedEnergy) else ThermoState(jnp.asarray(u.beta, dtype=float))
    weights = log_weights.astype(np.float64)
    return Ensemble(samples, weights, state, energies, absolute=True, bias=proposal.bias)


@eqx.filter_jit
def _draws(proposal: Proposal, u: LogDensity, key: Array, start: Array, count: int):
    def one(index):
        x, log_weight = proposal.draw(jax.random.fold_in(key, index), u)
        energy = u.target.energy(x) if isinstance(u, ReducedEnergy) else None
        return x, log_weight, energy

    return jax.vmap(one)(start + jnp.arange(count))


class ImportanceCarry(NamedTuple):
    """Key data and the number of draws made."""

    key: Array
    drawn: Array


class ImportanceSampler(Sampler):
    """``importance`` in chunks. Production arrays: ``samples``, ``energies``, ``log_weights``, all with the axis (draw)."""

    target: Target
    state: ThermoState
    proposal: Proposal
    draws: int = eqx.field(static=True)
    draws_per_chunk: int = eqx.field(static=True, default=2000)

    def __check_init__(self):
        if self.draws < 1 or self.draws_per_chunk < 1:
            raise InvalidArgumentError(
                f"draws must be at least 1; found {self.draws} in chunks of {self.draws_per_chunk}"
            )

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        return {**sample_axes(self.target.space, ("draw",)), "energies": ("draw",), "log_weights": ("draw",)}

    def cost(self) -> Cost:
        recorded = -(-self.draws // self.draws_per_chunk) * self.draws_per_chunk
        disk = recorded * 8 * (dimension(self.target.space) + 2)
        return Cost(recorded, 3 * disk, disk)

    def begin(self, key: Key[Array, ""]) -> ImportanceCarry:
        return ImportanceCarry(jax.random.key_data(named_key(key, "importance")), jnp.zeros((), jnp.int32))

    def advance(self, carry: ImportanceCarry) -> tuple[ImportanceCarry, Chunk]:
        u = ReducedEnergy(self.target, self.state)
        key = jax.random.wrap_key_data(carry.key)
        samples, log_weights, energies = _draws(self.proposal, u, key, carry.drawn, self.draws_per_chunk)
        log_weights = np.asarray(log_weights, dtype=np.float64)
        arrays = {**to_arrays(samples), "energies": np.asarray(energies), "log_weights": log_weights}
        weights = np.exp(log_weights - log_weights.max()) if np.isfinite(log_weights.max()) else np.zeros(1)
        total = np.sum(weights**2)
        metrics = {
            "evaluations": float(self.draws_per_chunk),
            "efficiency": float(weights.sum() ** 2 / total / weights.size) if total > 0 else 0.0,
        }
        return ImportanceCarry(carry.key, carry.drawn + self.draws_per_chunk), Chunk("production", arrays, metrics)

    def finished(self, carry: ImportanceCarry) -> bool:
        return int(carry.drawn) >= self.draws

    def progress(self, carry: ImportanceCarry) -> float:
        return min(1.0, int(carry.drawn) / self.draws)

    def collect(self, arrays: Mapping[str, np.ndarray], carry: ImportanceCarry) -> Sampled:
        samples = jax.tree.map(jnp.asarray, from_arrays(arrays))
        weights = np.asarray(arrays["log_weights"], dtype=np.float64)
        energies = np.asarray(arrays["energies"])
        ensemble = Ensemble(samples, weights, self.state, energies, absolute=True, bias=self.proposal.bias)
        non_finite = int((~np.isfinite(arrays["energies"])).sum())
        diagnostics = {
            "method": "importance",
            "betas": np.array([float(self.state.beta)]),
            "temperatures": np.array([self.state.temperature(self.target.unit)]),
            "evaluations": int(carry.drawn),
            "non_finite": non_finite,
        }
        return Sampled(ensemble, diagnostics)
