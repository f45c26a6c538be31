"""Reference ensembles: equally weighted equilibrium draws of a molecule, what made them, and where they lie.

A small set of each ships with the package; larger ones are made by ``heatbath reference NAME`` in the folder of
``data_folder``. A reference is two files, ``NAME.npz`` and ``NAME.json``; the second holds the SHA-256 of the first, the
command that made it and what it found, and is read without loading an array. Nothing is downloaded and nothing is unpickled.
"""

import dataclasses
import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError
from heatbath.io.run_directory import json_ready
from heatbath.io.storage import explained, write_atomically

if TYPE_CHECKING:
    from heatbath.ensemble import Ensemble


@dataclasses.dataclass(frozen=True)
class Reference:
    """Equally weighted draws of one system at one temperature, in independent blocks.

    positions: (ladder, frame, atom, 3), nm, float32; frames in the order of time.
    energies:  (ladder, frame), kJ/mol.
    record:    what NAME.json says: ``name``, ``atoms`` (names), ``forcefield``, ``temperature`` (K), ``beta``, ``command``,
               ``seed``, ``versions``, ``estimates`` of the whole run, ``sha256``.
    """

    positions: np.ndarray
    energies: np.ndarray
    record: Mapping[str, Any]

    def __post_init__(self):
        if self.positions.ndim != 4 or self.positions.shape[:2] != self.energies.shape:
            raise InvalidArgumentError(
                "positions must have the axes (ladder, frame, atom, xyz) and energies (ladder, frame); found shapes "
                f"{self.positions.shape} and {self.energies.shape}"
            )

    @property
    def size(self) -> int:
        """Frames of all ladders together."""
        return int(self.energies.size)

    @property
    def ladders(self) -> int:
        """Independent blocks."""
        return int(self.energies.shape[0])

    def flat(self, count: int | None = None) -> np.ndarray:
        """Positions (frame, atom, 3), ``count`` of them evenly spread over ladders and time (all when None)."""
        by_time = np.swapaxes(self.positions, 0, 1).reshape((-1, *self.positions.shape[2:]))
        return by_time if count is None else by_time[_spread(len(by_time), count)]

    def flat_energies(self, count: int | None = None) -> np.ndarray:
        """Energies of the frames of ``flat(count)``."""
        by_time = self.energies.T.reshape(-1)
        return by_time if count is None else by_time[_spread(len(by_time), count)]

    def ensemble(self) -> "Ensemble":
        """The draws as an ensemble of equal weights with the axes (chain, draw): a chain is a ladder."""
        import jax.numpy as jnp  # records and arrays are read without JAX

        from heatbath.ensemble import Ensemble
        from heatbath.state import ThermoState

        state = ThermoState(float(self.record["beta"]))
        energies = np.asarray(self.energies, dtype=np.float64)
        return Ensemble(jnp.asarray(self.positions), np.zeros(energies.shape), state, energies, axes=("chain", "draw"))


# Places ---------------------------------------------------------------------------------------------------------------
def data_folder() -> Path:
    """Where large data sets are made and looked for: ``HEATBATH_DATA``, else a folder in the user's own cache."""
    if chosen := os.environ.get("HEATBATH_DATA"):
        return Path(chosen)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Application Support" / "heatbath"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "heatbath"


def packaged_folder() -> Path:
    """The folder of the small references that ship with heatbath."""
    return Path(str(resources.files("heatbath"))) / "data" / "references"


def records(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """What NAME.json of every reference says, by name; those of ``folder`` (default: ``data_folder``) before packaged ones."""
    found: dict[str, dict[str, Any]] = {}
    for place in (data_folder() / "references" if folder is None else Path(folder), packaged_folder()):
        for file in sorted(place.glob("*.json")) if place.is_dir() else ():
            if file.stem not in found and file.with_suffix(".npz").is_file():
                found[file.stem] = {**_record(file), "folder": str(place)}
    return found


# Reading and writing --------------------------------------------------------------------------------------------------
def load_reference(name: str, folder: Path | None = None, *, least: int = 0) -> Reference:
    """The reference called ``name`` with at least ``least`` frames, from ``folder`` (default: ``data_folder``) or the package.

    The folder comes first. Raises ``MissingDataError`` with the command that makes it when there is none or it is
    too small, and when a file does not have the checksum that its record states.
    """
    own = data_folder() / "references" if folder is None else Path(folder)
    places = [place for place in (own, packaged_folder()) if (place / f"{name}.json").is_file()]
    sizes = {place: int(_record(place / f"{name}.json")["frames"]) for place in places}
    fitting = [place for place in places if sizes[place] >= least]
    if not fitting:
        what = f"reference {name!r} with {least} frames" if least else f"reference {name!r}"
        here = f"the largest has {max(sizes.values())}" if sizes else "found none"
        raise MissingDataError(
            f"expected the {what} in '{own}' or in the package; {here}. Make it with: heatbath reference {name}"
            + (f" --frames {least}" if least else "")
        )
    return _read(fitting[0], name)


def write_reference(folder: Path, name: str, reference: Reference) -> Path:
    """Put ``reference`` into ``folder`` as NAME.npz and NAME.json; returns the path of the first."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        positions=np.asarray(reference.positions, dtype=np.float32),
        energies=np.asarray(reference.energies, dtype=np.float32),
    )
    data = buffer.getvalue()
    record = {
        **reference.record,
        "name": name,
        "frames": reference.size,
        "ladders": reference.ladders,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = Path(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.npz", data)
        text = json.dumps(json_ready(record), indent=1, allow_nan=False) + "\n"
        write_atomically(folder / f"{name}.json", text)
    return folder / f"{name}.npz"


def _record(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingDataError(
            f"'{file}' cannot be read ({error}). Make it again: heatbath reference {file.stem}"
        ) from error


def _read(place: Path, name: str) -> Reference:
    record, file = _record(place / f"{name}.json"), place / f"{name}.npz"
    again = f"Make it again with: heatbath reference {name} --overwrite"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MissingDataError(f"expected '{file}' beside its record; {error}. {again}") from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise MissingDataError(
            f"expected '{file}' to have the SHA-256 {record['sha256'][:12]}...; found {len(data)} bytes of other content. {again}"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return Reference(archive["positions"], archive["energies"], record)


def _spread(total: int, count: int) -> np.ndarray:
    """``count`` of ``total`` indices, evenly spread. Raises ``InvalidArgumentError`` when there are not so many."""
    if not 1 <= count <= total:
        raise InvalidArgumentError(f"expected 1 to {total} frames; found {count}")
    return (np.arange(count) * total) // count
