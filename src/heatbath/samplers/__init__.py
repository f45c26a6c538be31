"""Samplers: from a target and a state to an ensemble of properly weighted draws. ``sample`` makes every open choice."""

from heatbath.process import Chunk
from heatbath.samplers.annealing import AnnealedImportance, GeometricPath, Schedule, linear_schedule
from heatbath.samplers.base import Cost, Sampled, Sampler, run_to_end
from heatbath.samplers.centre import HarmonicCentre, forget_centre, held_at_centre
from heatbath.samplers.chains import ChainsSampler
from heatbath.samplers.importance import ImportanceSampler, importance
from heatbath.samplers.placement import ladder_mesh
from heatbath.samplers.proposals import FromDistribution, Proposal
from heatbath.samplers.replica_exchange import ReplicaExchangeSampler
from heatbath.samplers.sample import make_sampler, sample
from heatbath.samplers.smc import SMCSampler, anneal, find_schedule, smc
from heatbath.samplers.truncation import truncate
from heatbath.samplers.warmup import geometric_ladder
from heatbath.samplers.weighting import rung_draws

__all__ = [
    "AnnealedImportance",
    "ChainsSampler",
    "Chunk",
    "Cost",
    "FromDistribution",
    "GeometricPath",
    "HarmonicCentre",
    "ImportanceSampler",
    "Proposal",
    "ReplicaExchangeSampler",
    "SMCSampler",
    "Sampled",
    "Sampler",
    "Schedule",
    "anneal",
    "find_schedule",
    "forget_centre",
    "geometric_ladder",
    "held_at_centre",
    "importance",
    "ladder_mesh",
    "linear_schedule",
    "make_sampler",
    "run_to_end",
    "rung_draws",
    "sample",
    "smc",
    "truncate",
]
