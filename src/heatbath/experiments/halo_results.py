"""What the experiment halo-divergences found: bands of limits, extreme halos, certificates, checks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.estimators.divergence_bounds import bracket
from heatbath.experiments.convergence import Check
from heatbath.io.run_directory import json_ready
from heatbath.kinetics.streams import GalacticStreams, Streams

#: Certificates have to be this tight, over the range of the rates.
GAP = 1e-8
#: Streams of the Galactic frame, for modulation.
GALACTIC = 2000


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``halo`` and a verdict; None before the first mass."""
    detectors = [detector_rows(prepared, name, here) for name, here in done.items() if int(here.carry.done) > 0]
    if not detectors:
        return None
    found: dict[str, Any] = {
        "reference": "standard halo" if prepared.halo is not None else "streams of the user",
        "streams": len(prepared.streams),
        "divergences": list(prepared.config.bounds.divergences),
        "radii": list(prepared.config.bounds.radii),
        "detectors": detectors,
        "extremes": extremes(prepared, detectors[0]),
    }
    if prepared.halo is not None:
        found["completeness"] = completeness(prepared, detectors)
        found["modulation"] = modulation(prepared, detectors[0])
    checks = [check for make in (_gaps, _inside, _complete) for check in make(found)]
    failed = [check for check in checks if not check.passed]
    made = {
        "target": {"name": "dark-matter halos", "unit": "1"},
        "method": "exact duals of divergence balls",
        "estimates": {},
        "halo": found,
        "verdict": {
            "converged": not failed,
            "reasons": [check.sentence for check in failed or checks],
            "checks": [dataclasses.asdict(check) for check in checks],
            "cautions": [
                "Detectors are cited exposures, windows and counts with our own models for efficiencies and targets: "
                "compare bands, not "
                "absolute limits. No published likelihood is used."
            ],
        },
    }
    return json_ready(made)


def detector_rows(prepared: Any, name: str, here: Any) -> dict[str, Any]:
    """Limits in cm^2 by mass: reference, strongest and weakest of all single streams, and the band of every ball."""
    detector, carry = prepared.detectors[name], here.carry
    done = int(carry.done)
    reference, bounds = np.asarray(carry.reference)[:done], np.asarray(carry.bounds)[:done]
    seen = reference[:, 0] > 0  # below that mass no stream of the reference is seen
    limit = np.vectorize(detector.cross_section, otypes=[float])
    return {
        "name": name,
        "summary": detector.summary,
        "source": detector.source,
        "notes": list(detector.notes),
        "events": detector.limit,
        "masses": np.asarray(here.process.masses)[:done][seen],
        "reference": limit(reference[seen, 0]),
        "halo_independent": limit(reference[seen, 2]),
        "weakest": limit(bounds[seen][..., 0]),
        "strongest": limit(bounds[seen][..., 1]),
        "largest_gap": np.abs(np.asarray(carry.gaps)[:done][seen]).max(initial=0.0),
        "saturated": int(np.asarray(carry.saturated)[:done][seen].sum()),
        "unseen_masses": int((~seen).sum()),
    }


def _example(prepared: Any, rows: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    """A mass a little above the threshold of a detector, and the counts of every stream at it."""
    masses = np.asarray(rows["masses"])
    mass = float(masses[len(masses) // 5])
    return mass, prepared.detectors[rows["name"]].counts(prepared.streams, mass)


def extremes(prepared: Any, rows: Mapping[str, Any]) -> dict[str, Any]:
    """The halos that make most and fewest counts within the middle radius, as densities over speed, and
    all brackets at that mass.
    """
    mass, counts = _example(prepared, rows)
    streams, radii = prepared.streams, prepared.config.bounds.radii
    radius = radii[len(radii) // 2]
    width = np.gradient(streams.speeds)
    curves, table = [], []
    for name in prepared.config.bounds.divergences:
        low, high = bracket(counts, streams.weights, radius, name)
        table.append(
            {
                "divergence": name,
                "smallest": low.value / low.reference,
                "largest": high.value / high.reference,
                "slope": high.slope / high.reference,
                "gap": max(abs(low.gap), abs(high.gap)),
                "saturated": low.saturated or high.saturated,
            }
        )
        if name in ("kl", "hellinger", "total-variation") or len(prepared.config.bounds.divergences) < 4:
            curves.append({"divergence": name, "smallest": low.weights / width, "largest": high.weights / width})
    return {
        "detector": rows["name"],
        "mass": mass,
        "radius": radius,
        "speeds": streams.speeds,
        "reference": streams.weights / width,
        "rate": counts / counts.max(),
        "curves": curves,
        "table": table,
    }


def completeness(prepared: Any, detectors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sum over streams against the integral over the spectrum, by the number of streams."""
    rows = []
    for entry in detectors:
        detector = prepared.detectors[entry["name"]]
        mass = float(np.asarray(entry["masses"])[-1]) ** 0.5 * float(np.asarray(entry["masses"])[0]) ** 0.5
        exact = detector.exposure * detector.recoils.total(mass, prepared.halo.inverse_speed, prepared.halo.density)
        for count in (250, 1000):
            streams = Streams.of_halo(prepared.halo, count)
            error = abs(float(streams.weights @ detector.counts(streams, mass)) / exact - 1)
            rows.append({"detector": entry["name"], "mass": mass, "streams": count, "error": error})
    return rows


def modulation(prepared: Any, rows: Mapping[str, Any]) -> dict[str, Any]:
    """June minus December over the mean of the reference rate, and its bracket, from streams in the Galactic frame."""
    mass, _ = _example(prepared, rows)
    detector = prepared.detectors[rows["name"]]
    galactic = GalacticStreams.of_halo(prepared.halo, GALACTIC, seed=prepared.config.seed)

    def rate(speeds: np.ndarray) -> np.ndarray:
        return detector.exposure * detector.recoils.of_streams(speeds, mass, prepared.halo.density)

    change = galactic.modulation(rate, v0=prepared.halo.v0)
    mean = float(galactic.weights @ rate(galactic.speeds(59.0, prepared.halo.v0)))
    table = []
    for radius in prepared.config.bounds.radii:
        low, high = bracket(change, galactic.weights, radius, "kl")
        table.append({"radius": radius, "smallest": low.value / mean, "largest": high.value / mean})
    value = float(galactic.weights @ change) / mean
    return {"detector": rows["name"], "mass": mass, "value": value, "streams": GALACTIC, "table": table}


# Checks ---------------------------------------------------------------------------------------------------------------
def _gaps(found: Mapping[str, Any]) -> list[Check]:
    worst = max(row["largest_gap"] for row in found["detectors"])
    words = f"Every bound meets its dual within {worst:.1e} of the range of the rates."
    return [Check("dual gap", bool(worst < GAP), words, float(worst), GAP)]


def _inside(found: Mapping[str, Any]) -> list[Check]:
    good = all(
        (row["strongest"] <= row["reference"][:, None, None] * (1 + 1e-9)).all()
        and (row["weakest"] >= row["reference"][:, None, None] * (1 - 1e-9)).all()
        for row in found["detectors"]
    )
    words = "The reference halo lies inside every band." if good else "A band does not hold its reference halo."
    return [Check("bands", bool(good), words)]


def _complete(found: Mapping[str, Any]) -> list[Check]:
    rows = [row["error"] for row in found.get("completeness", ()) if row["streams"] == 1000]
    if not rows:
        return []
    words = f"A thousand streams reproduce the integrated rates to {max(rows):.1e}."
    return [Check("streams", bool(max(rows) < 1e-3), words, float(max(rows)), 1e-3)]
