"""Detectors as cited parameters: files in data/detectors, or the user's own in the same form."""

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from heatbath.errors import InvalidArgumentError, MissingDataError, nearest
from heatbath.kinetics.counting import upper_limit
from heatbath.kinetics.electron_recoils import CrystalRecoils, ElectronGas, ElectronRecoils, pairs_window
from heatbath.kinetics.form_factors import tabulated_squared
from heatbath.kinetics.nuclear_recoils import Efficiency, Isotope, NuclearRecoils
from heatbath.kinetics.streams import Streams


@dataclasses.dataclass(frozen=True)
class Detector:
    """A counting experiment.

    exposure: kg day; ``recoils`` gives counts per kg, day and cm^2; ``limit`` is the largest allowed mean number of signal events
    source, notes: where the numbers come from, and what of them is a model
    """

    name: str
    summary: str
    exposure: float
    recoils: NuclearRecoils | ElectronRecoils
    limit: float
    source: str
    notes: tuple[str, ...]
    masses: tuple[float, float]

    def counts(self, streams: Streams, mass: float) -> np.ndarray:
        """Expected counts per cm^2 of cross-section of every stream."""
        return self.exposure * self.recoils.of_streams(streams.speeds, mass, streams.density)

    def cross_section(self, counts: float) -> float:
        """Upper limit in cm^2 for expected ``counts`` per cm^2; infinite when there are none."""
        return self.limit / counts if counts > 0 else float("inf")


def names() -> list[str]:
    """Detectors that come with the package."""
    folder = resources.files("heatbath") / "data" / "detectors"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str, base: Path | None = None) -> Detector:
    """The detector called ``name``, or that of a TOML file. Raises for unknown names and files that do not fit."""
    if name.endswith(".toml"):
        path = (base or Path()) / name
        if not path.is_file():
            raise MissingDataError(f"the detector '{path}' does not exist")
        return build(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
    if name not in names():
        raise InvalidArgumentError(f"unknown detector {name!r}. {nearest(name, names())} A file ends in .toml")
    place = resources.files("heatbath") / "data" / "detectors" / f"{name}.toml"
    return build(tomllib.loads(place.read_text(encoding="utf-8")), None)


def build(values: dict[str, Any], base: Path | None) -> Detector:
    """A detector from the tables of its file; tables of the user are found beside it (``base``)."""
    try:
        counting = values["counting"]
        limit = upper_limit(
            int(counting["observed"]),
            float(counting.get("background", 0.0)),
            float(counting.get("confidence", 0.9)),
            counting.get("method", "poisson"),
        )
        recoils = _nuclear(values["nuclear"], base) if "nuclear" in values else _crystal(values["crystal"])
        return Detector(
            values["name"],
            values["summary"],
            float(values["exposure_kg_day"]),
            recoils,
            limit,
            values["source"],
            tuple(values.get("notes", ())),
            (float(values["masses_gev"][0]), float(values["masses_gev"][1])),
        )
    except KeyError as error:
        raise InvalidArgumentError(f"the file of a detector lacks the key {error}") from error


def _nuclear(values: dict[str, Any], base: Path | None) -> NuclearRecoils:
    isotopes = [Isotope(**isotope) for isotope in values["isotopes"]]
    efficiency = values.get("efficiency", {})
    if "file" in efficiency:
        table = np.loadtxt((base or Path()) / efficiency["file"], delimiter=",", ndmin=2)
        made = Efficiency(table=(table[:, 0], table[:, 1]))
    else:
        made = Efficiency(
            efficiency.get("plateau", 1.0), efficiency.get("threshold_kev", 0.0), efficiency.get("width_kev", 0.0)
        )
    form = tabulated_squared((base or Path()) / values["form_factor"]) if "form_factor" in values else None
    low, high = values["window_kev"]
    return NuclearRecoils(isotopes, (float(low), float(high)), values["interaction"], made, form)


def _crystal(values: dict[str, Any]) -> CrystalRecoils:
    gas = ElectronGas(values["plasmon_ev"], values["density_g_cm3"], values.get("width_ev", 1.0))
    window = pairs_window(values["pairs"], values["gap_ev"], values["energy_per_pair_ev"])
    return CrystalRecoils(gas, window, values.get("mediator", "heavy"))
