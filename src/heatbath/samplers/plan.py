"""The choices that ``sample`` makes when nobody else does: kernels, ladders, lengths. One place, easy to change."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heatbath.kernels import HMC, MALA, Compose, Gibbs, Kernel, Langevin, RandomWalk, Repeat
from heatbath.kernels.pivot import pivots_of
from heatbath.samplers.masses import sampling_masses
from heatbath.samplers.records import dimension
from heatbath.samplers.starts import starts
from heatbath.spaces import Discrete
from heatbath.state import ThermoState
from heatbath.targets.base import Target
from heatbath.targets.molecules.stereochemistry import peptide_bonds
from heatbath.targets.molecules.topology import MoleculeTopology

#: Kernel evaluations that one chunk should hold, so that it takes about a second.
CHUNK_EVALUATIONS = 500_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """Defaults for one kind of target.

    hottest:      temperature of the hottest rung, as a multiple of the asked one.
    num_steps:    leapfrog steps of an HMC trajectory.
    pivots:       torsion moves before each trajectory of a molecule.
    chains:       independent chains or ladders.
    thin:         kernel steps (rounds) between two recorded times, by method.
    warmup:       rounds (kernel steps) of warm-up, by method.
    """

    hottest: float
    num_steps: int
    pivots: int
    chains: int
    thin: dict[str, int]
    warmup: dict[str, int]
    dtype: str


MOLECULE = Plan(
    hottest=2.0,
    num_steps=24,
    pivots=6,
    chains=16,
    thin={"replica-exchange": 10, "hmc": 20, "mala": 500, "langevin": 500, "random-walk": 500},
    warmup={"replica-exchange": 3000, "hmc": 1000, "mala": 20_000, "langevin": 20_000, "random-walk": 20_000},
    dtype="float32",
)
TOY = Plan(
    hottest=5.0,
    num_steps=10,
    pivots=0,
    chains=16,
    thin={"replica-exchange": 4, "hmc": 2, "mala": 10, "langevin": 20, "random-walk": 20, "gibbs": 2},
    warmup={
        "replica-exchange": 1000,
        "hmc": 1000,
        "mala": 4000,
        "langevin": 4000,
        "random-walk": 4000,
        "gibbs": 500,
    },
    dtype="default",
)


def is_molecule(target: Target) -> bool:
    """Whether the target has atoms with bonds: a force field in physical units."""
    return hasattr(target, "topology")


def plan_for(target: Target) -> Plan:
    """The defaults for this kind of target, with the floating type of walkers named."""
    plan = MOLECULE if is_molecule(target) else TOY
    dtype = str(jnp.result_type(float)) if plan.dtype == "default" else plan.dtype
    return dataclasses.replace(plan, dtype=dtype)


def rung_count(target: Target, ratio: float) -> int:
    """Rungs for a ladder whose ends differ by ``ratio`` in temperature, with exchange rates of about 0.35.

    With a configurational heat capacity C (in k_B; d/2 for d nearly harmonic coordinates) two Gaussian energy laws at
    neighbouring temperatures exchange with probability erfc(sqrt(C) |log(T'/T)| / 2), which is 0.35 at sqrt(C) log(T'/T) = 1.3.
    """
    coordinates = dimension(target.space)
    if is_molecule(target):
        coordinates -= 6
    steps = math.log(ratio) * math.sqrt(max(coordinates, 1) / 2) / 1.3
    return max(4, 1 + math.ceil(steps)) if ratio > 1 else 1


def default_kernel(method: str, target: Target, state: ThermoState, plan: Plan, step_size: float | None) -> Kernel:
    """The kernel of a method (that of the rungs for replica exchange), with a step size to start the adaptation from."""
    space, molecule = target.space, is_molecule(target)
    if isinstance(space, Discrete):
        return Gibbs(space.k, scan="random")
    # Step sizes are arrays, so that one compiled program serves all of them.
    step = None if step_size is None else jnp.asarray(step_size, dtype=float)
    if method == "random-walk":
        width = 0.002 if molecule else 1.0 / math.sqrt(dimension(space))
        return RandomWalk(chosen(step, jnp.asarray(width, dtype=float)))
    if step is None and molecule:
        step = jnp.asarray(0.001 if method == "langevin" else 0.002)
    elif step is None:
        step = (0.1 if method == "langevin" else 0.5) * jnp.asarray(fastest_time(target, plan))
    if method == "langevin":
        # Physical dynamics: true masses, and a step well below the fastest period.
        return Langevin(step, friction=1.0 if molecule else 0.1 / step, masses=target.masses)
    if method == "mala":
        return MALA(step, masses=sampling_masses(target))
    return with_pivots(target, HMC(step, num_steps=plan.num_steps, masses=sampling_masses(target)), plan.pivots)


def with_pivots(target: Target, kernel: Kernel, count: int) -> Kernel:
    """``kernel`` preceded by ``count`` pivot moves, for molecules that have bonds to turn.

    Peptide bonds stay (their isomers are kept apart on purpose), and so do rotors that move hydrogens only (dynamics
    turns those fast enough).
    """
    if not is_molecule(target) or count == 0:
        return kernel
    topology: MoleculeTopology = target.topology  # pyright: ignore
    frozen = {frozenset(bond.torsion.atoms[1:3]) for bond in peptide_bonds(topology)}
    for atom, members in enumerate(topology.neighbours):
        heavy = [other for other in members if topology.elements[other] != "H"]
        if len(heavy) == 1:
            frozen.add(frozenset((atom, heavy[0])))
    pivots = pivots_of(topology.neighbours, frozenset(frozen))
    return kernel if pivots is None else Compose((Repeat(pivots, count), kernel), adapted=1)


def fastest_time(target: Target, plan: Plan) -> float:
    """1/omega of the stiffest direction at a few starts, by power iteration on the mass-weighted Hessian.

    1 when the curvature vanishes or is not finite there. No start has to be representative: warm-up adapts the step where the
    kernel allows it.
    """
    positions = starts(target, jax.random.key(0), None, (8,), plan.dtype)
    masses = target.masses

    def stiffness(x):
        root = jax.tree.map(lambda leaf: jnp.sqrt(jnp.asarray(masses, leaf.dtype)), x)

        def product(vector):
            scaled = jax.tree.map(jnp.divide, vector, root)
            return jax.tree.map(jnp.divide, jax.jvp(jax.grad(target.energy), (x,), (scaled,))[1], root)

        def norm(vector):
            return jnp.sqrt(jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), vector)))

        def iterate(vector, _):
            image = product(vector)
            size = norm(image)
            return jax.tree.map(lambda leaf: leaf / jnp.maximum(size, 1e-30), image), size

        start = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), x)
        return jax.lax.scan(iterate, start, None, length=20)[1][-1]

    found = np.asarray(jax.jit(jax.vmap(stiffness))(positions), dtype=np.float64)
    found = found[np.isfinite(found) & (found > 0)]
    return float(1 / np.sqrt(found.max())) if found.size else 1.0


def draws_per_chunk(evaluations_per_draw: int, draws: int) -> int:
    """Recorded times per chunk, so that a chunk holds about ``CHUNK_EVALUATIONS``."""
    wanted = max(1, round(CHUNK_EVALUATIONS / max(evaluations_per_draw, 1)))
    chunks = max(1, math.ceil(draws / wanted))
    return math.ceil(draws / chunks)


def chosen(value: Any, default: Any) -> Any:
    """``value`` unless it is None."""
    return default if value is None else value
