"""An ensemble as files that other programs read: PDB, DCD, XTC and npz.

MDAnalysis, MDTraj, VMD and PLUMED go on from here. Inside heatbath lengths are nm; PDB and DCD hold angstrom and XTC nm (to
0.001 nm), as their conventions want, and OpenMM writes them. None of these formats has a place for weights, and a program
that ignores weights averages over the wrong distribution. So an unequally weighted ensemble is written in one of two ways,
and the caller says which: ``weights="resample"`` (frames are drawn in proportion to their weights and are then equal)
or ``weights="beside"`` (every draw is a frame, and a one-column text file holds the log weights).
"""

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from heatbath.ensemble import Ensemble
from heatbath.errors import InvalidArgumentError, MissingExtraError, UsageError, nearest
from heatbath.io.storage import explained, write_atomically

FORMATS = ("pdb", "dcd", "xtc", "npz")

#: Angstrom that fit the eight columns of a PDB coordinate.
_PDB_RANGE = (-999.999, 9999.999)


def export(
    ensemble: Ensemble,
    target: Any,
    path: str | Path,
    *,
    file_format: str | None = None,
    weights: Literal["resample", "beside"] | None = None,
    frames: int | None = None,
    seed: int = 0,
    superposed: bool = False,
) -> tuple[Path, ...]:
    """Write the draws of ``ensemble`` to ``path``; return every file that was written, the trajectory first.

    ensemble:    draws of a molecule, positions (n_atoms, 3) in nm. For ``npz`` any ensemble will do.
    target:      the molecule, whose ``to_openmm_topology()`` names the atoms.
    file_format: ``"pdb"`` (one model per frame), ``"dcd"``, ``"xtc"`` or ``"npz"``; by default the ending of ``path``.
    weights:     what becomes of unequal weights, see the head of this module. ``npz`` holds the weights itself and needs
                 no choice.
    frames:      with ``"resample"``, how many frames are drawn; by default the effective size of the weights.
    seed:        of the resampling.
    superposed:  rotate and shift every frame onto the reference structure (its coordinates are then not those of the draw,
                 its shape and energy are).

    DCD and XTC name no atoms: a one-frame PDB file ``<name>.topology.pdb`` comes with them. Frames go chain by chain.
    With ``"beside"`` the file ``<name>.weights.txt`` has one row per frame: the log of the normalised weight, under a header
    that PLUMED's READ understands (``np.exp(np.loadtxt(file))`` sums to one).

    Raises ``UsageError`` for an unknown format, ``InvalidArgumentError`` when unequal weights come without a choice, when the
    target is not a molecule or coordinates do not fit the format, and ``RunDirectoryError`` when the disk refuses.
    """
    path = Path(path)
    file_format = (file_format or path.suffix.lstrip(".")).lower()
    if file_format not in FORMATS:
        raise UsageError(f"unknown trajectory format {file_format!r}. {nearest(file_format, FORMATS)}")
    ensemble, beside = _settle_weights(ensemble, weights, frames, seed, required=file_format != "npz")
    molecule = hasattr(target, "to_openmm_topology")
    if not molecule and file_format != "npz":
        raise InvalidArgumentError(f"{file_format} holds molecules only; write this ensemble as npz")
    flat = ensemble.flat()
    samples: Any = jax.tree.map(np.asarray, flat.samples)
    if superposed:
        if not molecule:
            raise InvalidArgumentError("superposed=True needs a molecule with reference positions")
        samples = superpose(samples, np.asarray(target.positions))
    with explained(path):
        if file_format == "npz":
            _write_npz(path, target if molecule else None, flat, samples)
            return (path,)
        written = [path]
        _write_frames(path, file_format, target, _checked(samples, file_format))
        if file_format != "pdb":
            written.append(path.with_suffix(".topology.pdb"))
            _write_frames(written[-1], "pdb", target, _checked(samples[:1], "pdb"))
        if beside:
            written.append(path.with_suffix(".weights.txt"))
            _write_weights(written[-1], ensemble.weights().reshape(-1))
    return tuple(written)


def write_structure(path: str | Path, target: Any, positions: Float[np.ndarray, "atom 3"]) -> Path:
    """Write one configuration (nm) of a molecule as a PDB file with CONECT records."""
    path = Path(path)
    with explained(path):
        _write_frames(path, "pdb", target, _checked(np.asarray(positions)[None], "pdb"))
    return path


def superpose(
    positions: Float[np.ndarray, "... atom 3"], reference: Float[np.ndarray, "atom 3"]
) -> Float[np.ndarray, "... atom 3"]:
    """Rigid motion of each frame that minimises its squared distance to ``reference``; mirror images are not rotations.

    With both sets centred, H = X^T Y = U S V^T gives the rotation V diag(1, 1, det(V U^T)) U^T (Kabsch, Acta Cryst. A 34,
    827 (1978)). Returns float64 in the units of the input.
    """
    moved = np.asarray(positions, dtype=np.float64)
    fixed = np.asarray(reference, dtype=np.float64)
    moved = moved - moved.mean(axis=-2, keepdims=True)
    centre = fixed.mean(axis=0)
    left, _, right = np.linalg.svd(np.einsum("...ai,aj->...ij", moved, fixed - centre))
    hand = np.linalg.det(left @ right)
    left = left.copy()
    left[..., :, 2] *= hand[..., None]
    return moved @ (left @ right) + centre


# Weights -------------------------------------------------------------------------------------------------------------


def _settle_weights(
    ensemble: Ensemble, choice: str | None, frames: int | None, seed: int, *, required: bool
) -> tuple[Ensemble, bool]:
    """The ensemble whose draws become frames, and whether its weights must be written beside them."""
    if choice not in (None, "resample", "beside"):
        raise InvalidArgumentError(f"weights must be 'resample' or 'beside'; found {choice!r}")
    if frames is not None and (choice != "resample" or frames < 1):
        raise InvalidArgumentError(f"frames is a positive number that goes with weights='resample'; found {frames!r}")
    if choice == "resample":
        size = max(1, int(ensemble.ess())) if frames is None else frames
        return ensemble.resample(jax.random.key(seed), size), False
    log_weights = np.asarray(ensemble.log_weights, dtype=np.float64)
    equal = bool(np.ptp(log_weights) < 1e-9)
    if choice is None and required and not equal:
        raise InvalidArgumentError(
            "the draws have unequal weights, and this format cannot hold them. Choose weights='resample' (equal frames) or "
            "weights='beside' (every draw, with its log weight in a text file)."
        )
    return ensemble, choice == "beside"


def _write_weights(path: Path, weights: np.ndarray) -> None:
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    text = "\n".join(f"{value:.10e}" for value in log_weights)
    write_atomically(path, f"#! FIELDS log_weight\n{text}\n")


# Formats -------------------------------------------------------------------------------------------------------------


def _checked(positions: np.ndarray, file_format: str) -> np.ndarray:
    """Frames in nm, or one sentence why the format cannot hold them."""
    if not np.isfinite(positions).all():
        bad = int((~np.isfinite(positions).all(axis=(1, 2))).sum())
        raise InvalidArgumentError(f"{bad} frames have coordinates that are not finite; leave those draws out")
    low, high = _PDB_RANGE
    if file_format == "pdb" and not ((positions * 10 > low).all() and (positions * 10 < high).all()):
        raise InvalidArgumentError(
            "a coordinate does not fit the columns of a PDB file; use superposed=True, or dcd or xtc"
        )
    return positions


def _write_frames(path: Path, file_format: str, target: Any, positions: np.ndarray) -> None:
    """Write frames aside, then rename: no reader sees half a trajectory, and a failure keeps the old file."""
    try:
        from openmm import app, unit
    except ImportError as error:
        raise MissingExtraError("openmm", "molecules", f"writing {file_format} files") from error
    topology = target.to_openmm_topology()
    # XTCFile refuses to write to a file that exists unless it is empty.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if file_format == "pdb":
            with Path(name).open("w", encoding="ascii") as stream:
                app.PDBFile.writeHeader(topology, stream)
                for index, frame in enumerate(positions, start=1):
                    number = index if len(positions) > 1 else None
                    app.PDBFile.writeModel(topology, frame * unit.nanometer, stream, number, keepIds=True)
                app.PDBFile.writeFooter(topology, stream)
        elif file_format == "dcd":
            with Path(name).open("w+b") as stream:
                trajectory = app.DCDFile(stream, topology, 1.0 * unit.picosecond)
                for frame in positions:
                    trajectory.writeModel(frame * unit.nanometer)
        else:
            trajectory = app.XTCFile(name, topology, 1.0 * unit.picosecond)
            for frame in positions:
                trajectory.writeModel(frame * unit.nanometer)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_npz(path: Path, molecule: Any | None, flat: Ensemble, samples: Any) -> None:
    """``positions`` (or ``samples``), ``log_weights``, ``weights``, ``energies``, ``beta`` and the names of the atoms."""
    arrays: dict[str, Any] = {
        "log_weights": np.asarray(flat.log_weights, dtype=np.float64),
        "weights": flat.weights(),
        "beta": np.asarray(flat.state.beta, dtype=np.float64),
    }
    if flat.energies is not None:
        arrays["energies"] = np.asarray(flat.energies, dtype=np.float64)
    if isinstance(samples, dict):
        arrays |= {f"samples.{name}": leaf for name, leaf in samples.items()}
    else:
        arrays["positions" if molecule is not None else "samples"] = samples
    if molecule is not None:
        atoms = list(molecule.to_openmm_topology().atoms())
        arrays["atom_names"] = np.array([atom.name for atom in atoms])
        arrays["elements"] = np.array([atom.element.symbol if atom.element else "" for atom in atoms])
        arrays["residue_names"] = np.array([atom.residue.name for atom in atoms])
        arrays["residue_indices"] = np.array([atom.residue.index for atom in atoms])
        arrays["length_unit"] = np.array("nm")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez_compressed(stream, **arrays)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
