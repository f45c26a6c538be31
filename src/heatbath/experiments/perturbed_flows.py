"""The processes of the experiment flow-perturbation, and what its draws say beside exact values."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.ensemble import Ensemble
from heatbath.errors import ConvergenceError
from heatbath.experiments.generator_sampling import GeneratorSampler
from heatbath.io.run_directory import json_ready
from heatbath.models.continuous_flow import ContinuousFlow, continuous_flow
from heatbath.models.interpolants import Diffusion
from heatbath.models.log_jacobian import (
    ExactJacobian,
    FlowPerturbation,
    Hutchinson,
    LogJacobian,
    MultiStepFlowPerturbation,
)
from heatbath.models.nets.equivariant import EquivariantVelocity
from heatbath.models.nets.gated_linear import GatedLinearVelocity
from heatbath.models.nets.velocity import ResidualVelocity, Velocity
from heatbath.models.standardisation import Whitening
from heatbath.random import named_key
from heatbath.samplers.base import Sampled
from heatbath.samplers.centre import held_at_centre
from heatbath.samplers.flow_perturbation import FromContinuousFlow, path_sampler
from heatbath.samplers.importance import ImportanceSampler
from heatbath.state import ThermoState
from heatbath.targets.mixtures import GaussianMixture
from heatbath.training import AdamW, OneCycle, Trainer
from heatbath.training.cluster_moments import ClusterMoments, Moments
from heatbath.training.objectives.flow_matching import FlowMatching

#: Standard deviation of a molecule's centre, in nm.
CENTRE_SCALE = 0.1
#: Draws of one batch of the moments of clusters.
MOMENTS_AT_ONCE = 10_000
#: Draws from which the exact mean energy of a mixture is taken.
TRUTH_DRAWS = 100_000


class BalancedModes(eqx.Module):
    """``draw(key, n)``: equal numbers from both modes of a mixture, whatever their weights, in float32."""

    means: jax.Array
    cholesky: jax.Array

    @staticmethod
    def of(target: GaussianMixture) -> "BalancedModes":
        """The modes of ``target``."""
        return BalancedModes(target.means.astype(jnp.float32), target.cholesky.astype(jnp.float32))

    def __call__(self, key: jax.Array, count: int) -> jax.Array:
        modes, dimension = self.means.shape
        noise = jax.random.normal(key, (modes, -(-count // modes), dimension), jnp.float32)
        x = self.means[:, None] + jnp.einsum("kij,knj->kni", self.cholesky, noise)
        # modes take turns, so that any number of rows is as even as can be
        return jnp.swapaxes(x, 0, 1).reshape(-1, dimension)[:count]


# Processes ------------------------------------------------------------------------------------------------------------
def trainer(prepared: Any, done: Mapping[str, Any]) -> Trainer:
    """The training of the flow: on fresh balanced draws of the mixture, or on the reference of a molecule."""
    settings = prepared.config.training
    key = named_key(prepared.key, "flow")
    augment = None
    if not isinstance(prepared.target, GaussianMixture):
        frames, augment = _molecule_frames(prepared, done), turned
        flow, source = make_flow(key, prepared, frames), jnp.asarray(frames)
    else:
        source = BalancedModes.of(prepared.target)
        if "moments" in done:
            stage = done["moments"]
            flow = along_clusters(key, prepared, stage.process.moments(stage.carry))
        else:
            flow = make_flow(key, prepared, np.asarray(source(named_key(key, "frames"), settings.frames)))
    return Trainer(
        flow,
        FlowMatching(),
        source,
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimiser=AdamW(OneCycle(settings.rate, settings.steps)),
        augment=augment,
        steps_per_chunk=settings.chunk,
    )


def turned(key: jax.Array, x: jax.Array) -> jax.Array:
    """Particles (n, 3) after a random rotation about their mean."""
    from heatbath.models.rigid import random_rotation

    centre = jnp.mean(x, axis=0, keepdims=True)
    return (x - centre) @ random_rotation(key, x.dtype).T + centre


def _molecule_frames(prepared: Any, done: Mapping[str, Any]) -> np.ndarray:
    from heatbath.experiments.training_data import from_ensemble

    config = prepared.config
    ensemble = done["reference"].sampled().ensemble
    options = {"held_out": 0.0, "molecule": True, "seed": config.seed, "source": "reference"}
    return from_ensemble(ensemble, config.training.frames, **options).train


def moments(prepared: Any) -> ClusterMoments:
    """Means and covariances of the two clusters of balanced draws, for nets whose axes are fixed along them."""
    settings = prepared.config.training
    batch = min(settings.frames, MOMENTS_AT_ONCE)
    return ClusterMoments(BalancedModes.of(prepared.target), draws=settings.frames, batch_size=batch)


def make_flow(key: jax.Array, prepared: Any, frames: np.ndarray) -> ContinuousFlow:
    """The untrained flow of the configuration, standardised by ``frames``."""
    settings, shape = prepared.config.flow, frames.shape[1:]
    molecule = not isinstance(prepared.target, GaussianMixture)
    options: dict[str, Any] = {"centre_scale": CENTRE_SCALE} if molecule else {"whiten": settings.whiten}
    return continuous_flow(_velocity(key, settings, shape), shape, data=frames, **_discrete(settings), **options)


def along_clusters(key: jax.Array, prepared: Any, found: Moments) -> ContinuousFlow:
    """The untrained gated-linear flow, whitened by the covariance within clusters, with its axes along those they share."""
    settings, size = prepared.config.flow, found.means.shape[1]
    whitening = Whitening(found.mean, found.pooled)
    net = GatedLinearVelocity.create(key, size, gate_width=settings.width)
    net = net.along(*found.common_axes(np.asarray(whitening.inverse_root)))
    flow = continuous_flow(net, (size,), **_discrete(settings))
    return eqx.tree_at(lambda f: f.outer, flow, whitening)


def _discrete(settings: Any) -> dict[str, Any]:
    return {"steps": settings.steps, "integrator": settings.integrator, "interpolant": Diffusion()}


def _velocity(key: jax.Array, settings: Any, shape: tuple[int, ...]) -> Velocity:
    if settings.net == "equivariant":
        return EquivariantVelocity.create(key, np.arange(shape[0]), hidden=settings.width, layers=settings.depth)
    size = math.prod(shape)
    if settings.net == "gated-linear":
        return GatedLinearVelocity.create(key, size, gate_width=settings.width)
    return ResidualVelocity.create(key, size, width=settings.width, depth=settings.depth)


def trained(done: Mapping[str, Any]) -> ContinuousFlow:
    """The flow with the moving average of the last checkpoint of the training."""
    stage = done["training"]
    return stage.process.trained(stage.carry)


def log_jacobian(name: str, probes: int) -> LogJacobian:
    """The log Jacobian called ``name`` in configurations."""
    if name == "multi-step":
        return MultiStepFlowPerturbation(probes)
    if name == "single-shot":
        return FlowPerturbation()
    if name == "exact":
        return ExactJacobian()
    return Hutchinson(int(name.removeprefix("hutchinson-")))


def importance_sampler(prepared: Any, done: Mapping[str, Any], name: str) -> GeneratorSampler:
    """Importance sampling of the trained flow with one log Jacobian."""
    settings = prepared.config.weights
    draws = settings.exact_draws if name == "exact" else settings.draws
    proposal = FromContinuousFlow(trained(done), log_jacobian(name, settings.probes))
    # the exact Jacobian carries one tangent per dimension for every draw
    at_once = max(1, settings.at_once // 16) if name == "exact" else settings.at_once
    inner = ImportanceSampler(prepared.target, _held(prepared), proposal, draws, min(at_once, draws))
    return GeneratorSampler(prepared.target, inner, f"{name} importance")


def annealer(prepared: Any, done: Mapping[str, Any]) -> GeneratorSampler:
    """SMC over noise and directions with multi-step flow perturbation."""
    settings = prepared.config.weights
    inner = path_sampler(
        prepared.target,
        _held(prepared),
        FromContinuousFlow(trained(done), log_jacobian("multi-step", settings.probes)),
        draws=settings.annealed,
        particles=settings.particles,
        steps=settings.moves,
        step_size=settings.step_size,
        refresh=settings.refresh,
        share=settings.share,
        pilot=settings.pilot,
        at_once=settings.at_once,
    )
    return GeneratorSampler(prepared.target, inner, "flow perturbation and SMC")


def _held(prepared: Any) -> ThermoState:
    molecule = not isinstance(prepared.target, GaussianMixture)
    return held_at_centre(prepared.state, CENTRE_SCALE) if molecule else prepared.state


# Results --------------------------------------------------------------------------------------------------------------
def results(prepared: Any, done: Mapping[str, Any], run: Any) -> dict[str, Any] | None:
    """The analysis of the annealed ensemble (of the last comparison before there is one), and all weights side by side.

    A stage none of whose draws has any weight is left out and said in the verdict. Raises ``ConvergenceError`` when that is all
    of them.
    """
    from heatbath.experiments.analysis import analyse

    found, failures = _sampled(done, (*prepared.config.weights.compare, "annealing"))
    if not found:
        if failures:
            raise ConvergenceError(failures[-1])
        return None
    answer = found[list(found)[-1]]
    answer = Sampled(finite(answer.ensemble), answer.diagnostics)
    made = analyse(prepared.target, prepared.state, answer, seed=prepared.config.seed, structures_dir=run.structures)
    flow, probes = trained(done), prepared.config.weights.probes
    rows = [row(prepared.target, name, sampled, probes, flow) for name, sampled in found.items()]
    section = {"dimension": _dimension(prepared.target), "log_jacobians": rows, "exact": exact(prepared)}
    if failures:
        made["verdict"] |= {"converged": False, "reasons": failures}
    return {**made, "flow_perturbation": json_ready(section)}


def _sampled(done: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Sampled], list[str]]:
    """What stages have drawn, and sentences on those whose draws have no weight."""
    found, failures = {}, []
    for name in names:
        try:
            found[name] = done[name].sampled() if name in done else None
        except ConvergenceError as error:
            failures.append(f"Stage {name}: {error}")
    return {name: sampled for name, sampled in found.items() if sampled is not None}, failures


def finite(ensemble: Ensemble) -> Ensemble:
    """The ensemble with weights that are not numbers as zero, as the counts in the diagnostics say."""
    log_weights = np.asarray(ensemble.log_weights, dtype=np.float64)
    return dataclasses.replace(ensemble, log_weights=np.where(np.isnan(log_weights), -np.inf, log_weights))


def row(target: Any, name: str, sampled: Sampled, probes: int, flow: ContinuousFlow) -> dict[str, Any]:
    """One line of the comparison: estimates with errors, the share of effective draws, the spread of the weights, the cost."""
    annealed = name == "annealing"
    jacobian = log_jacobian("multi-step" if annealed else name, probes)
    ensemble = finite(sampled.ensemble)
    log_weights = np.asarray(ensemble.log_weights)
    usable = log_weights[np.isfinite(log_weights)]
    made = {
        "name": "multi-step, annealed" if annealed else name,
        "unbiased_weight": jacobian.unbiased_weight,
        "log_z": _fields(ensemble.log_z),
        "mean_energy": _fields(ensemble.expect(np.asarray(ensemble.energies, dtype=np.float64))),
        "ess": ensemble.ess() / ensemble.size,
        "variance_log_w": None if annealed else float(usable.var(ddof=1)),
        "products": jacobian.products(flow),
        "families": None
        if ensemble.ancestors is None
        else int(np.unique(ensemble.ancestors[np.isfinite(log_weights)]).size),
    }
    if isinstance(target, GaussianMixture):
        left = target.basins()["left"]
        made["mode_weight"] = _fields(ensemble.expect(lambda x: left(x).astype(float)))
    return made


def exact(prepared: Any) -> dict[str, Any]:
    """What is known without sampling error, or with a negligible one: mean energy from exact draws, with its error."""
    target = prepared.target
    if not isinstance(target, GaussianMixture):
        return {}
    beta = float(prepared.state.beta)
    keys = jax.random.split(named_key(prepared.key, "truth"), TRUTH_DRAWS)
    energies = np.asarray(_energies_of_exact_draws(target, keys, beta), dtype=np.float64)
    known = {
        "mean_energy": float(energies.mean()),
        "mean_energy_error": float(energies.std(ddof=1) / math.sqrt(energies.size)),
    }
    if beta == 1.0:
        known |= {"log_z": float(target.log_z(1.0)), "mode_weight": target.left_probability()}
    return known


@eqx.filter_jit
def _energies_of_exact_draws(target: GaussianMixture, keys: jax.Array, beta: float) -> jax.Array:
    return jax.lax.map(lambda key: target.energy(target.sample(key, beta)), keys, batch_size=500)


def _fields(estimate: Any) -> dict[str, float]:
    return {"value": float(estimate.value), "standard_error": float(estimate.standard_error)}


def _dimension(target: Any) -> int:
    return math.prod(target.space.event_shape)
