"""What ``temperature_steerable_flow`` computes: samplers of its stages, and its section of the results."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from heatbath.estimate import Estimate
from heatbath.experiments.analysis import analyse
from heatbath.experiments.generator_builders import centre_scale, extended_state
from heatbath.experiments.generator_results import generator_section
from heatbath.experiments.generator_sampling import generator_sampler
from heatbath.experiments.references import matching
from heatbath.models.steerable_flow import Steerable
from heatbath.samplers.base import Cost
from heatbath.samplers.exchange import PlainExchange
from heatbath.samplers.flow_exchange import flow_exchange
from heatbath.samplers.plan import default_kernel, plan_for, rung_count
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.samplers.warmup import geometric_ladder
from heatbath.state import ThermoState, at_temperature
from heatbath.units import parse_quantity

PLAIN, FLOW = "plain-exchange", "flow-exchange"
#: Draws on which the law of steerability is measured.
LAW_DRAWS = 200


def exchanges(prepared: Any) -> tuple[str, ...]:
    """Names of the stages of replica exchange."""
    return (PLAIN, FLOW) if prepared.config.inference.ladders else ()


def importance_sampler(prepared: Any, model: Steerable, temperature: str) -> Any:
    """Weighted draws of the model at one temperature."""
    inference = prepared.config.inference
    state = at_temperature(prepared.target, temperature)
    scale = centre_scale(model)
    return generator_sampler(
        prepared.target, state, model, centre_scale=scale, samples=inference.draws, draws_at_once=inference.at_once
    )


def exchange_sampler(prepared: Any, model: Steerable | None, name: str) -> ReplicaExchangeSampler:
    """The ladder from the coldest temperature to that of the training, with or without the help of the model."""
    target, inference = prepared.target, prepared.config.inference
    coldest = min(inference.temperatures, key=lambda text: parse_quantity(text, "temperature"))
    state = at_temperature(target, coldest)
    ratio = float(state.beta) / float(prepared.state.beta)
    rungs = (inference.plain_rungs if name == PLAIN else inference.flow_rungs) or rung_count(target, ratio)
    plan = plan_for(target)
    kernel = default_kernel("replica-exchange", target, state, plan, None)
    options: dict[str, Any] = {
        "ladders": inference.ladders,
        "draws": inference.rounds,
        "warmup_rounds": inference.warmup,
        "draws_per_chunk": max(1, inference.rounds // 10),
        "dtype": plan.dtype,
    }
    betas = geometric_ladder(float(state.beta), float(prepared.state.beta), rungs)
    if name == PLAIN or model is None:
        held = state if model is None else extended_state(model, state)
        return ReplicaExchangeSampler(target, held, kernel, betas, exchange=PlainExchange(), **options)
    return flow_exchange(target, extended_state(model, state), model, kernel, betas, **options)


def exchange_cost(prepared: Any, name: str) -> Cost:
    """Of one ladder; jumps and carried swaps cost an evaluation or two per rung and round."""
    sampler = exchange_sampler(prepared, None, name)
    cost = sampler.cost()
    extra = 0 if name == PLAIN else 4 * sampler.ladders * sampler.rungs * (sampler.draws + sampler.warmup_rounds)
    return Cost(cost.evaluations + extra, cost.memory_bytes, cost.disk_bytes)


# Results --------------------------------------------------------------------------------------------------------------
def results(
    prepared: Any, model: Steerable, found: Mapping[float, Any], done: Mapping[str, Any], run: Any, trained: Any
) -> dict[str, Any]:
    """The results of the coldest temperature, with the section on all of them."""
    target, config = prepared.target, prepared.config
    coldest = min(found)
    state = _state(target, coldest)
    generator = generator_section(
        target,
        found[coldest].ensemble,
        reference=matching(target, coldest) if target.unit != "1" else None,
        centre_scale=centre_scale(model),
        model=trained["generator"]["model"],
        training=trained["generator"]["training"],
        seed=config.seed,
    )
    whole = analyse(target, state, found[coldest], seed=config.seed, structures_dir=run.structures, generator=generator)
    own = done["reference"].sampled() if "reference" in done else None
    rows = [_row(target, temperature, found[temperature], prepared, own) for temperature in sorted(found)]
    section = {
        "trained_at": prepared.state.temperature(target.unit),
        "unit": "1" if target.unit == "1" else "K",
        "temperatures": rows,
        "identity_std": law(model, target, [float(_state(target, temperature).beta) for temperature in found]),
        "exchange": exchange_section({name: done[name] for name in exchanges(prepared) if name in done}),
    }
    return {**whole, "method": "flow", "training": trained["training"], "steerable": section}


def _state(target: Any, temperature: float) -> ThermoState:
    return at_temperature(target, temperature if target.unit == "1" else f"{temperature} K")


def _row(target: Any, temperature: float, sampled: Any, prepared: Any, own: Any) -> dict[str, Any]:
    ensemble = sampled.ensemble
    usable = np.isfinite(np.asarray(ensemble.log_weights)).any()
    share = second_basin(target, ensemble) if usable else None
    reference = _reference(target, temperature, prepared, own)
    return {
        "temperature": temperature,
        "ess": ensemble.ess() / ensemble.size if usable else 0.0,
        "population": None if share is None else _fields(share),
        "delta_f": None if share is None else _fields(free_energy_of_share(share)),
        "reference": None if reference is None else _fields(free_energy_of_share(reference)),
    }


def second_basin(target: Any, ensemble: Any) -> Estimate | None:
    """The population of the second of the target's basins; None when it has fewer than two."""
    functions = list(target.basins().values())
    return ensemble.expect(lambda x: functions[1](x).astype(float)) if len(functions) > 1 else None


def free_energy_of_share(share: Estimate) -> Estimate | None:
    """F(second) - F(rest) = -log(p / (1 - p)) in kT, with its error by the delta method; None for an empty or full basin."""
    p = float(share.value)
    if not 0 < p < 1:
        return None
    error = float(share.standard_error) / (p * (1 - p))
    return Estimate(float(-np.log(p / (1 - p))), error, share.n_eff, share.method, share.converged, share.notes, "kT")


def _reference(target: Any, temperature: float, prepared: Any, own: Any) -> Estimate | None:
    """The population of the second basin: exact, of reference draws, or of the first stage at its own temperature."""
    functions = list(target.basins().values())
    if len(functions) < 2:
        return None
    beta = float(_state(target, temperature).beta)
    if target.unit == "1":
        exact = float(target.mean(functions[1], beta)) if target.knows("mean") else None
        return None if exact is None else Estimate(exact, 0.0, float("inf"), "exact", converged=True)
    found = matching(target, temperature)
    if found is not None:
        return second_basin(target, found.ensemble())
    if own is not None and abs(temperature - prepared.state.temperature(target.unit)) < 0.05:
        return second_basin(target, own.ensemble)
    return None


def _fields(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    return {"value": float(estimate.value), "standard_error": float(estimate.standard_error)}


def law(model: Steerable, target: Any, betas: list[float]) -> float:
    """The largest standard deviation over draws of log p' - (beta' / beta) log p, with molecules centred at the origin."""
    values = jax.jit(jax.vmap(model.sample))(jax.random.split(jax.random.key(0), LAW_DRAWS))
    if centre_scale(model) is not None:
        positions = values["x"] if model.auxiliaries else values
        positions = positions - jnp.mean(positions, axis=1, keepdims=True)
        values = {**values, "x": positions} if model.auxiliaries else positions
    log_prob = eqx.filter_jit(jax.vmap(lambda value, beta: model.at(beta).log_prob(value), in_axes=(0, None)))
    own = np.asarray(log_prob(values, model.beta))
    spreads = []
    for beta in betas:
        difference = np.asarray(log_prob(values, jnp.asarray(beta))) - own * beta / float(model.beta)
        spreads.append(float(difference[np.isfinite(difference)].std()))
    return max(spreads)


def exchange_section(done: Mapping[str, Any]) -> dict[str, Any]:
    """Round trips per million energy evaluations of either ladder, and their ratio; errors are over independent ladders."""
    rates = {}
    for name, key in ((PLAIN, "plain"), (FLOW, "flow")):
        sampled = done[name].sampled() if name in done else None
        if sampled is None:
            continue
        trips = np.asarray(sampled.diagnostics["round_trips_per_ladder"], dtype=float)
        millions = evaluations_in_production(done[name].process, sampled.diagnostics["evaluations"]) / len(trips) / 1e6
        error = trips.std(ddof=1) / np.sqrt(len(trips)) if len(trips) > 1 else np.nan
        rates[key] = {"value": float(trips.mean() / millions), "standard_error": float(error / millions)}
    if len(rates) == 2 and rates["plain"]["value"] > 0 and rates["flow"]["value"] > 0:
        ratio = rates["flow"]["value"] / rates["plain"]["value"]
        relative = np.hypot(*(rate["standard_error"] / rate["value"] for rate in rates.values()))
        rates["factor"] = {"value": ratio, "standard_error": float(ratio * relative)}
    return rates


def evaluations_in_production(sampler: ReplicaExchangeSampler, evaluations: int) -> float:
    """The part of all evaluations that came after the warm-up, whose round trips are not counted; rounds cost the same."""
    warmup = -(-sampler.warmup_rounds // sampler.WARMUP_CHUNKS) * sampler.WARMUP_CHUNKS
    production = -(-sampler.draws // sampler.draws_per_chunk) * sampler.draws_per_chunk * sampler.thin
    return evaluations * production / (warmup + production)
