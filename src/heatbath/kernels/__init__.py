"""Markov moves that leave exp(-u) invariant, or say what they bias. ``init`` starts a chain, ``step`` moves it once."""

from heatbath.kernels.base import Kernel, KernelInfo
from heatbath.kernels.combinators import Compose, MixtureKernel, Repeat
from heatbath.kernels.flow_proposal import FlowProposal
from heatbath.kernels.gibbs import Gibbs
from heatbath.kernels.hmc import HMC, MALA
from heatbath.kernels.langevin import Langevin
from heatbath.kernels.metropolis import RandomWalk
from heatbath.kernels.particle_moves import ParticleMoves
from heatbath.kernels.piecewise_deterministic import BouncyParticle, ZigZag
from heatbath.kernels.pivot import Pivot
from heatbath.kernels.position_dependent import PositionDependentLangevin
from heatbath.kernels.unadjusted_langevin import UnadjustedLangevin

__all__ = [
    "HMC",
    "MALA",
    "BouncyParticle",
    "Compose",
    "FlowProposal",
    "Gibbs",
    "Kernel",
    "KernelInfo",
    "Langevin",
    "MixtureKernel",
    "ParticleMoves",
    "Pivot",
    "PositionDependentLangevin",
    "RandomWalk",
    "Repeat",
    "UnadjustedLangevin",
    "ZigZag",
]
