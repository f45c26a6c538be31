"""Draws of a whole ladder, weighted for one state by MBAR."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from heatbath.ensemble import Ensemble
from heatbath.estimators import mbar
from heatbath.samplers.base import Sampled
from heatbath.state import ThermoState


def bias_energies(state: ThermoState, samples: PyTree, *, chunk: int = 1024) -> np.ndarray | float:
    """Reduced bias energy of every sample (leading axis), 0 when the state has no bias."""
    if state.bias is None:
        return 0.0
    values = eqx.filter_jit(lambda bias, xs: jax.lax.map(bias, xs, batch_size=chunk))(state.bias, samples)
    return np.asarray(values, dtype=np.float64)


def unstacked(ladder: ThermoState) -> list[ThermoState]:
    """The rungs of a stacked state, one by one. Functions without arrays are the same on every rung."""

    def rung(index: int) -> ThermoState:
        return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, ladder)

    return [rung(index) for index in range(ladder.beta.shape[0])]


def ladder_ensemble(
    samples: PyTree, energies: np.ndarray, state: ThermoState, ladder: list[ThermoState], *, bias: str | None = None
) -> tuple[Ensemble, dict[str, Any]]:
    """All draws of all rungs, weighted for ``state``.

    ``samples`` and ``energies`` have the axes (draw, ladder, rung). The ensemble has the axes (chain, draw): a chain is a ladder,
    and its draws are ordered in time with the rungs of one time next to each other (``rung`` tells them apart).
    Every ladder is weighted by its own MBAR and all ladders count alike, so that they stay independent: with weights from
    the pooled draws, the error of the common free energies would be missing from the spread over ladders.
    ``bias`` is the sentence of an inexact kernel. Also returns what MBAR found in all ladders together.
    """
    draws, ladders, rungs = energies.shape
    energies = np.asarray(energies, dtype=np.float64)

    def by_chain(leaf):
        leaf = np.moveaxis(np.asarray(leaf), 1, 0)
        return leaf.reshape((ladders, draws * rungs, *leaf.shape[3:]))

    samples = jax.tree.map(by_chain, samples)
    flat = by_chain(energies).reshape(-1)
    in_a_row = jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), samples)
    u_kn = np.stack([float(rung.beta) * flat + bias_energies(rung, in_a_row) for rung in ladder])
    asked = float(state.beta) * flat + bias_energies(state, in_a_row)
    result = mbar(u_kn, np.full(rungs, draws * ladders))
    weights = np.stack(
        [
            mbar(u_own, np.full(rungs, draws), initial=result.f_k).log_weights(asked_own)
            for u_own, asked_own in zip(np.split(u_kn, ladders, axis=1), np.split(asked, ladders), strict=True)
        ]
    )
    ensemble = Ensemble(
        samples=jax.tree.map(jax.numpy.asarray, samples),
        log_weights=weights,
        state=state,
        energies=flat.reshape(ladders, draws * rungs),
        axes=("chain", "draw"),
        bias=bias,
    )
    diagnostics = {
        "free_energies": result.f_k,
        "free_energy_errors": result.standard_errors,
        "overlap": result.overlap,
        "mbar_converged": result.converged,
        "mbar_notes": result.notes,
        "rung": np.tile(np.arange(rungs), draws),
    }
    return ensemble, diagnostics


def rung_draws(sampled: Sampled, rung: int = 0) -> Ensemble:
    """The draws that were made at one rung, equally weighted for that rung's own temperature, axes (chain, draw).

    Convergence of chains is judged on these: a chain's draws at one temperature, in time order.
    """
    everything, diagnostics = sampled.ensemble, sampled.diagnostics
    keep = np.flatnonzero(diagnostics["rung"] == rung)
    samples = jax.tree.map(lambda leaf: leaf[:, keep], everything.samples)
    energies = None if everything.energies is None else np.asarray(everything.energies)[:, keep]
    state = ThermoState(float(diagnostics["betas"][rung]), everything.state.bias)
    weights = np.zeros((np.shape(everything.log_weights)[0], len(keep)))
    return Ensemble(samples, weights, state, energies, axes=("chain", "draw"), bias=everything.bias)
