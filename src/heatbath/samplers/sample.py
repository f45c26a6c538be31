"""One call from a target and a state to an ensemble: ``sample``, and ``make_sampler`` for whoever drives the chunks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, TemperatureError, UsageError, nearest
from heatbath.kernels import Gibbs, Kernel
from heatbath.models.base import Distribution
from heatbath.samplers.base import Sampler, run_to_end
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.importance import ImportanceSampler
from heatbath.samplers.memory import require_memory
from heatbath.samplers.plan import chosen, default_kernel, draws_per_chunk, is_molecule, plan_for, rung_count
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.samplers.records import centred, representative
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.samplers.smc import SMCSampler
from heatbath.samplers.starts import starts
from heatbath.samplers.warmup import geometric_ladder
from heatbath.spaces import Discrete
from heatbath.state import ReducedEnergy, ThermoState
from heatbath.targets.base import Target
from heatbath.units import beta_from_temperature, parse_quantity

#: Methods by name. "smc" and "importance" need a proposal, the others do not.
METHODS = ("replica-exchange", "hmc", "mala", "langevin", "random-walk", "gibbs", "importance", "smc")


def sample(
    target: Target,
    state: ThermoState,
    key: Any,
    *,
    method: str | None = None,
    samples: int = 10_000,
    max_time: str | int | float | None = None,
    **options: Any,
) -> Ensemble:
    """Equilibrium samples of ``target`` at ``state``.

    key:       a random key or an integer seed.
    method:    one of ``METHODS``; None for replica exchange (with Gibbs moves for discrete targets).
    samples:   draws at the asked temperature, over all chains (replica exchange also returns the draws of its other
               rungs, with the weights they deserve). Slightly more may come, because chunks are whole.
    max_time:  stop after this long ("2 min", or seconds) and return what is there.
    options:   see ``make_sampler``.

    Raises ``UsageError`` for an unknown method, ``InvalidArgumentError`` for impossible numbers, ``ResourceError`` when the
    draws would not fit into memory or no draw was made in ``max_time``.
    """
    sampler = make_sampler(target, state, method=method, samples=samples, **options)
    key = jax.random.key(key) if isinstance(key, int) else key
    seconds = None if max_time is None else parse_quantity(max_time, "duration")
    return run_to_end(sampler, key, seconds).ensemble


def make_sampler(
    target: Target,
    state: ThermoState,
    *,
    method: str | None = None,
    samples: int = 10_000,
    ladders: int | None = None,
    chains: int | None = None,
    rungs: int | None = None,
    hottest: str | int | float | None = None,
    betas: Any = None,
    warmup: int | None = None,
    thin: int | None = None,
    kernel: Kernel | None = None,
    step_size: float | None = None,
    initial: PyTree = None,
    proposal: Proposal | Distribution | None = None,
    dtype: str | None = None,
    mesh: Mesh | None = None,
) -> Sampler:
    """The sampler that ``sample`` would run, to be driven in chunks.

    ladders, chains:  independent chains (two words for one number; errors come from their spread, so have at least four).
    rungs, hottest:   temperatures of a ladder and the hottest one (as ``at_temperature`` takes it); warm-up spaces the inner
                      ones. ``betas`` gives all of them instead, and then nothing moves them.
    warmup:           rounds (replica exchange) or kernel steps that are thrown away; 0 takes step sizes as they are.
    thin:             rounds or kernel steps between two recorded draws of a chain.
    kernel:           any kernel instead of the method's own; ``step_size`` where its adaptation starts.
    initial:          a start configuration, or one per chain (per ladder and rung).
    proposal:         for "importance" and "smc": where draws come from.
    dtype:            "float32" or "float64" walkers.
    mesh:             devices over which replica exchange spreads its ladders (``placement.ladder_mesh``).
    """
    method = _checked_method(method, target, kernel)
    if samples < 1:
        raise InvalidArgumentError(f"samples must be at least 1; found {samples}")
    if method in ("importance", "smc"):
        sampler = _exchangeable(method, target, state, samples, proposal, kernel)
    else:
        plan = plan_for(target)
        count = chosen(ladders, chosen(chains, plan.chains))
        for name, value, least in (
            ("ladders", count, 1),
            ("thin", thin, 1),
            ("warmup", warmup, 0),
            ("rungs", rungs, 1),
        ):
            if value is not None and value < least:
                raise InvalidArgumentError(f"{name} must be at least {least}; found {value}")
        common = {
            "draws": math.ceil(samples / count),
            "thin": chosen(thin, plan.thin.get(method, 10)),
            "initial": initial,
            "dtype": chosen(dtype, plan.dtype),
            "canonical": _canonical(target, state, initial, chosen(dtype, plan.dtype)),
        }
        length = chosen(warmup, plan.warmup.get(method, 1000))
        moves = chosen(kernel, default_kernel(method, target, state, plan, step_size))
        if method == "replica-exchange":
            ladder = _ladder(target, state, rungs, hottest, betas)
            sampler = _replica_exchange(target, state, moves, ladder, count, length, betas is None, mesh, common)
        else:
            sampler = _chains(target, state, moves, count, length, method, common)
    require_memory(sampler)
    return sampler


def _checked_method(method: str | None, target: Target, kernel: Kernel | None) -> str:
    discrete = isinstance(target.space, Discrete)
    method = method or "replica-exchange"
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}. {nearest(method, METHODS)}")
    if discrete and method in ("hmc", "mala", "langevin", "random-walk") and kernel is None:
        raise UsageError(f"method {method!r} moves real coordinates and this target is discrete: use 'gibbs'")
    if not discrete and method == "gibbs":
        raise UsageError("method 'gibbs' needs a discrete target: use 'hmc' or 'replica-exchange'")
    if not discrete and isinstance(kernel, Gibbs):
        raise UsageError("the Gibbs kernel needs a discrete target; use HMC")
    return method


def _canonical(target: Target, state: ThermoState, initial: PyTree, dtype: str) -> Callable[[PyTree], PyTree]:
    if is_molecule(target) and state.bias is None:
        return centred
    if not hasattr(target.space, "shape") or len(target.space.shape) != 2:
        return target.space.wrap
    x = starts(target, jax.random.key(0), None, (1,), dtype) if initial is None else initial
    x = np.reshape(np.asarray(x), (-1, *target.space.shape))[0]
    return representative(ReducedEnergy(target, state), jax.numpy.asarray(x, dtype))


def _ladder(target: Target, state: ThermoState, rungs: int | None, hottest: Any, betas: Any) -> tuple[float, ...]:
    beta = float(state.beta)
    if betas is not None:
        return tuple(float(value) for value in betas)
    if beta == 0:
        raise TemperatureError("replica exchange needs beta > 0: at infinite temperature there is nothing hotter")
    hot = beta / plan_for(target).hottest if hottest is None else beta_from_temperature(hottest, target.unit)
    if hot > beta:
        raise TemperatureError(f"the hottest temperature must not be below the asked one; found {hottest!r}")
    count = chosen(rungs, rung_count(target, beta / hot))
    if count > 1 and hot == beta:
        raise TemperatureError(f"{count} rungs need a hottest temperature above the asked one; found {hottest!r}")
    return tuple(geometric_ladder(beta, hot, count))


def _replica_exchange(target, state, kernel, betas, ladders, warmup, adapt, mesh, common) -> ReplicaExchangeSampler:
    per_draw = ladders * len(betas) * common["thin"] * (1 + kernel.evaluations)
    return ReplicaExchangeSampler(
        target,
        state,
        kernel,
        betas,
        ladders=ladders,
        warmup_rounds=warmup,
        adapt_ladder=adapt,
        draws_per_chunk=draws_per_chunk(per_draw, common["draws"]),
        mesh=mesh,
        **common,
    )


def _chains(target, state, kernel, chains, warmup, method, common) -> ChainsSampler:
    per_draw = chains * (common["thin"] * kernel.evaluations + 1)
    return ChainsSampler(
        target,
        state,
        kernel,
        chains,
        warmup_steps=warmup,
        draws_per_chunk=draws_per_chunk(per_draw, common["draws"]),
        method=method,
        **common,
    )


def _exchangeable(method: str, target, state, samples: int, proposal, kernel) -> Sampler:
    if proposal is None:
        raise UsageError(
            f"method {method!r} needs proposal=: a Distribution (such as models.gaussian.Normal) or a Proposal to draw from"
        )
    if method == "importance":
        lifted = FromDistribution(proposal) if isinstance(proposal, Distribution) else proposal
        return ImportanceSampler(target, state, lifted, samples)
    if not isinstance(proposal, Distribution):
        raise UsageError("method 'smc' anneals from a Distribution, whose density is known; found a Proposal")
    moves = chosen(kernel, default_kernel("hmc", target, state, plan_for(target), None))
    return SMCSampler(target, state, proposal, moves, samples)
