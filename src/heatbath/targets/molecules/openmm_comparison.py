"""Our energies and forces beside those of OpenMM's Reference platform, per kind of force and in total.

Use it on a System of your own before you trust it: ``compare_with_openmm(system, frames)``.
"""

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from heatbath.errors import NonFiniteError
from heatbath.targets.molecules.energy import Backend, components_function, energy_function
from heatbath.targets.molecules.openmm_system import import_openmm, terms_from_system
from heatbath.targets.molecules.terms import ForceFieldTerms

#: Our name for the energy of each class of OpenMM forces.
KINDS = {
    "HarmonicBondForce": "bonds",
    "HarmonicAngleForce": "angles",
    "PeriodicTorsionForce": "torsions",
    "CMAPTorsionForce": "cmap",
    "NonbondedForce": "nonbonded",
    "GBSAOBCForce": "solvent",
    "CustomGBForce": "solvent",
}

#: Energies below this (kJ/mol) are compared absolutely, in units of it: a term may cross zero.
SMALLEST_ENERGY = 1e-2

Forces = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Worst |dE| (kJ/mol), worst |dE|/|E| over the frames, and worst (RMS force error)/(RMS force) over the frames."""

    energy: float
    relative_energy: float
    relative_force: float


def reference_energies(system: Any, frames: Float[np.ndarray, "frames atoms 3"]) -> Forces:
    """Energies (frames,) and forces (frames, atoms, 3) by kind, and under ``"total"``, from OpenMM in float64."""
    openmm = import_openmm()
    system = copy.deepcopy(system)
    kinds = []
    for force in system.getForces():
        kind = next((KINDS[base.__name__] for base in type(force).__mro__ if base.__name__ in KINDS), None)
        if kind is not None and kind not in kinds:
            kinds.append(kind)
        force.setForceGroup(31 if kind is None else kinds.index(kind))
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    groups = {"total": -1} | {kind: 1 << number for number, kind in enumerate(kinds)}
    energies: dict[str, list] = {name: [] for name in groups}
    forces: dict[str, list] = {name: [] for name in groups}
    for frame in frames:
        context.setPositions(frame)
        for name, mask in groups.items():
            state = context.getState(getEnergy=True, getForces=True, groups=mask)
            energies[name].append(state.getPotentialEnergy()._value)
            forces[name].append(np.asarray(state.getForces(asNumpy=True)._value))
    return {name: (np.array(energies[name]), np.array(forces[name])) for name in groups}


def own_energies(terms: ForceFieldTerms, frames: Float[np.ndarray, "frames atoms 3"], dtype: Any) -> Forces:
    """The same from the plain formulas, computed in ``dtype`` (float64 needs 64-bit JAX)."""
    components = components_function(terms)

    def evaluate(xs):
        last = jnp.moveaxis(xs, 0, -1)
        found = {}
        for name in jax.eval_shape(components, last):  # one backward pass each, which XLA prunes to what it needs
            value, pull = jax.vjp(lambda x, name=name: components(x)[name], last)
            found[name] = (value, -jnp.moveaxis(pull(jnp.ones_like(value))[0], -1, 0))
        return found

    # evaluated once: optimising the code would take longer than running it
    quickly = jax.jit(evaluate, compiler_options={"xla_backend_optimization_level": 0})
    found = quickly(jnp.asarray(frames, dtype))
    parts = {name: (np.asarray(e, np.float64), np.asarray(f, np.float64)) for name, (e, f) in found.items()}
    total = (np.sum([e for e, _ in parts.values()], axis=0), np.sum([f for _, f in parts.values()], axis=0))
    return {"total": total, **parts}


def evaluated_energies(
    terms: ForceFieldTerms, frames: Float[np.ndarray, "frames atoms 3"], dtype: Any, backend: Backend
) -> Forces:
    """The total as samplers get it: a batch through ``energy_function`` and its gradient."""
    function = jax.jit(jax.vmap(jax.value_and_grad(energy_function(terms, backend))))
    energies, gradients = function(jnp.asarray(frames, dtype))
    return {"total": (np.asarray(energies, np.float64), -np.asarray(gradients, np.float64))}


def differences(own: Forces, reference: Forces) -> dict[str, Difference]:
    """How far ``own`` is from ``reference``, per kind. Raises ``NonFiniteError`` when either has NaN or infinity."""
    found = {}
    for name, (energies, forces) in own.items():
        expected, expected_forces = reference[name]
        for array in (energies, forces, expected, expected_forces):
            if not np.isfinite(array).all():
                raise NonFiniteError(
                    f"the {name} energy or force of a frame is not finite; the frames cannot be compared"
                )
        error = np.abs(energies - expected)
        rms = np.sqrt((expected_forces**2).mean(axis=(1, 2)))
        force_error = np.sqrt(((forces - expected_forces) ** 2).mean(axis=(1, 2)))
        found[name] = Difference(
            energy=float(error.max()),
            relative_energy=float((error / np.maximum(np.abs(expected), SMALLEST_ENERGY)).max()),
            relative_force=float((force_error / np.maximum(rms, 1e-8)).max()),
        )
    return found


def compare_with_openmm(system: Any, frames: Float[np.ndarray, "frames atoms 3"]) -> dict[str, Difference]:
    """Differences per kind of force and in total, in the default precision of JAX.

    ``frames`` are positions in nm. Raises ``UnsupportedForceError`` like ``terms_from_system``.
    """
    frames = np.asarray(frames, dtype=np.float64)
    return differences(own_energies(terms_from_system(system), frames, float), reference_energies(system, frames))


def with_gbsa_obc_force(system: Any) -> Any:
    """A copy of ``system`` whose solvent is a ``GBSAOBCForce`` (OBC2, 78.5) with the radii and charges that it had."""
    openmm = import_openmm()
    terms = terms_from_system(system)
    system = copy.deepcopy(system)
    for index in reversed(range(system.getNumForces())):
        if isinstance(system.getForce(index), (openmm.CustomGBForce, openmm.GBSAOBCForce)):
            system.removeForce(index)
    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(terms.gb_solvent_dielectric)
    for charge, radius, offset, scaled in zip(
        terms.gb_charges, terms.gb_radius, terms.gb_offset_radius, terms.gb_scaled_radius, strict=True
    ):
        force.addParticle(charge, radius, scaled / offset)
    if terms.gb_cutoff is not None:
        force.setNonbondedMethod(openmm.GBSAOBCForce.CutoffNonPeriodic)
        force.setCutoffDistance(terms.gb_cutoff)
    system.addForce(force)
    return system


def dynamics_frames(
    system: Any, start: Float[np.ndarray, "atoms 3"], count: int, *, seed: int, steps: int = 100
) -> Any:
    """Frames (count, atoms, 3) of Langevin dynamics at 400 K, 1 fs, on the Reference platform, after relaxing ``start``."""
    openmm = import_openmm()
    integrator = openmm.LangevinMiddleIntegrator(400.0, 5.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 200)
    context.setVelocitiesToTemperature(400.0, seed)
    frames = []
    for _ in range(count):
        integrator.step(steps)
        frames.append(np.asarray(context.getState(getPositions=True).getPositions(asNumpy=True)._value))
    return np.array(frames)


def clashed_frames(
    start: Float[np.ndarray, "atoms 3"], count: int, *, seed: int
) -> Float[np.ndarray, "frames atoms 3"]:
    """Badly broken copies of ``start``: noise of 0.02 to 0.1 nm on every atom, and two atoms 0.01 nm apart."""
    rng = np.random.default_rng(seed)
    frames = []
    for scale in np.linspace(0.02, 0.1, count):
        frame = start + scale * rng.normal(size=start.shape)
        first, second = rng.choice(len(start), size=2, replace=False)
        direction = rng.normal(size=3)
        frame[second] = frame[first] + 0.01 * direction / np.linalg.norm(direction)
        frames.append(frame)
    return np.array(frames)
