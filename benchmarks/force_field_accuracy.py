"""How far are our energies and forces from OpenMM's Reference platform?

Peptides, force fields and solvents of every kind that is claimed to be supported; frames of dynamics and badly clashed
ones; per kind of force and in total; float64 and float32, the XLA formulas and the compiled CPU kernel. Writes
``results/force_field_accuracy.json``; ``--quick`` does two molecules and writes nothing.

    python benchmarks/force_field_accuracy.py [--quick]
"""

import argparse
import random
import sys
import time

import jax
import numpy as np
import openmm
from record import record

from heatbath.targets.molecules.cpu_kernel import unsupported
from heatbath.targets.molecules.forcefields import create_system
from heatbath.targets.molecules.openmm_comparison import (
    Difference,
    clashed_frames,
    differences,
    dynamics_frames,
    evaluated_energies,
    own_energies,
    reference_energies,
    with_gbsa_obc_force,
)
from heatbath.targets.molecules.openmm_system import terms_from_system
from heatbath.targets.molecules.sequences import AMINO_ACIDS, build_sequence
from heatbath.targets.molecules.structures import add_hydrogens

SEED = 20

#: (label, force field, cutoff, solvent as GBSAOBCForce)
SETTINGS = [
    ("amber99sbildn OBC1 CustomGB", "amber99sbildn-obc1", None, False),
    ("amber99sbildn OBC2 CustomGB", "amber99sbildn-obc2", None, False),
    ("amber99sbildn OBC2 GBSAOBC", "amber99sbildn-obc2", None, True),
    ("amber14 OBC1 CustomGB", "amber14-obc1", None, False),
    ("amber14 OBC2 CustomGB", "amber14-obc2", None, False),
    ("amber14 OBC2 GBSAOBC", "amber14-obc2", None, True),
]
#: further settings, on a few molecules
MORE_SETTINGS = [
    ("amber14 OBC1 CustomGB, cutoff 0.6 nm", "amber14-obc1", "0.6 nm", False),
    ("amber14 OBC2 GBSAOBC, cutoff 0.6 nm", "amber14-obc2", "0.6 nm", True),
    ("amber14 vacuum, cutoff 0.6 nm, reaction field and switch", "amber14-vacuum", "0.6 nm", False),
    ("amber19 (CMAP) OBC2 CustomGB", "amber19-obc2", None, False),
]


def molecules(quick):
    chosen = [("alanine dipeptide", "A", True), ("AAA", "AAA", False)]
    if quick:
        return chosen
    rng = random.Random(SEED)
    letters = sorted(AMINO_ACIDS)
    tetrapeptides = ["".join(rng.choices(letters, k=4)) for _ in range(20)]
    chosen += [("AAAAAA", "AAAAAA", False), ("chignolin", "GYDPETGTWG", False)]
    return chosen + [(name, name, False) for name in tetrapeptides]


def prepared_system(forcefield, topology, cutoff, gbsa):
    system = create_system(forcefield, topology, cutoff)
    for force in system.getForces():
        if cutoff is not None and forcefield.endswith("vacuum") and isinstance(force, openmm.NonbondedForce):
            force.setUseSwitchingFunction(True)
            force.setSwitchingDistance(0.45)
    return with_gbsa_obc_force(system) if gbsa else system


def measure(system, frames, *, thorough):
    terms = terms_from_system(system)
    found = {}
    for kind, xs in frames.items():
        reference = reference_energies(system, xs)
        row = {"float64": differences(own_energies(terms, xs, np.float64), reference)}
        for backend in ("xla", "cpu-kernel"):
            # compiling XLA programs is nearly all of the time: the plain formulas cover every molecule, these a few
            if unsupported(terms) is not None if backend == "cpu-kernel" else not thorough:
                continue
            for dtype in (np.float64, np.float32):
                label = f"{backend} {np.dtype(dtype).name}"
                row[label] = differences(evaluated_energies(terms, xs, dtype, backend), reference)
        found[kind] = row
    return found


def worse(first: Difference | None, second: Difference) -> Difference:
    if first is None:
        return second
    return Difference(
        *(max(getattr(first, name), getattr(second, name)) for name in ("energy", "relative_energy", "relative_force"))
    )


def main():
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    worst: dict[tuple[str, str, str, str], Difference] = {}
    began, systems = time.time(), 0
    for number, (name, sequence, capped) in enumerate(molecules(quick)):
        topology, positions = add_hydrogens("amber99sbildn-obc2", *build_sequence(sequence, capped=capped))
        few = number < 2  # alanine dipeptide and AAA have further settings and every evaluator
        frames = None
        for label, forcefield, cutoff, gbsa in SETTINGS + (MORE_SETTINGS if few else []):
            system = prepared_system(forcefield, topology, cutoff, gbsa)
            if frames is None:  # one set of frames per molecule; Reference dynamics are fast with GBSAOBCForce
                moved = dynamics_frames(with_gbsa_obc_force(system), positions, 4, seed=SEED)
                frames = {"dynamics": moved, "clashed": clashed_frames(moved[0], 4, seed=SEED)}
            for kind, rows in measure(system, frames, thorough=few).items():
                for precision, parts in rows.items():
                    for part, difference in parts.items():
                        key = (label, kind, precision, part)
                        worst[key] = worse(worst.get(key), difference)
            systems += 1
            jax.clear_caches()
        print(f"{number + 1:3d} {name:20s} {len(positions):4d} atoms  {time.time() - began:6.0f} s", file=sys.stderr)
    report(worst, systems)
    if not quick:
        write(worst, systems, molecules(quick))


def report(worst, systems):
    print(f"worst over {systems} systems: |dE|/|E|, force RMS error / force RMS")
    overall: dict[tuple[str, str, str], Difference] = {}
    for (_, kind, precision, part), difference in worst.items():
        overall[kind, precision, part] = worse(overall.get((kind, precision, part)), difference)
    for (kind, precision, part), d in sorted(overall.items()):
        errors = f"dE {d.energy:9.2e} kJ/mol  rel {d.relative_energy:8.1e}  force {d.relative_force:8.1e}"
        print(f"{kind:9s} {precision:20s} {part:10s} {errors}")


def write(worst, systems, names):
    """results/force_field_accuracy.json: for people the worst over settings, in ``data`` every setting."""
    overall: dict[tuple[str, str, str], Difference] = {}
    for (_, kind, evaluation, part), difference in worst.items():
        overall[kind, evaluation, part] = worse(overall.get((kind, evaluation, part)), difference)
    record(
        "force_field_accuracy",
        title="Energies and forces against OpenMM's Reference platform",
        columns=["frames", "evaluation", "part", "largest relative energy error", "largest relative force error (RMS)"],
        rows=[[*key, d.relative_energy, d.relative_force] for key, d in sorted(overall.items())],
        notes=[
            f"Worst over {systems} systems: {len(names)} molecules ({', '.join(name for name, _, _ in names[:4])} and random "
            "tetrapeptides), amber99sbildn and amber14, OBC1 and OBC2, CustomGBForce and GBSAOBCForce, frames from dynamics and badly "
            "clashed ones; cutoff, reaction field, switching and CMAP for the first molecules.",
            "Rows with a part other than total are the plain formulas per kind of force; the others are batches through the named "
            "evaluator. float32 errors contain the rounding of the coordinates. Energies below 0.01 kJ/mol are compared in units "
            "of 0.01 kJ/mol.",
        ],
        data={
            "molecules": [name for name, _, _ in names],
            "systems": systems,
            "worst": [
                {
                    "setting": setting,
                    "frames": kind,
                    "evaluation": evaluation,
                    "part": part,
                    "energy_error_kJ_per_mol": d.energy,
                    "relative_energy_error": d.relative_energy,
                    "relative_force_rms_error": d.relative_force,
                }
                for (setting, kind, evaluation, part), d in sorted(worst.items())
            ],
        },
    )


if __name__ == "__main__":
    main()
