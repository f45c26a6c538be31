"""The stage of a detector in the experiment halo-divergences: mass by mass, the bounds of every ball."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from heatbath.estimators.divergence_bounds import bracket
from heatbath.kinetics.detectors import Detector
from heatbath.kinetics.streams import Streams
from heatbath.process import Chunk, Process


class BandsCarry(NamedTuple):
    """Masses done; reference counts and their extremes over single streams (mass, 3); bounds, gaps and slopes
    (mass, divergence, radius, side), side 0 the smallest and 1 the largest expected count per cm^2.
    """

    done: Any
    reference: Any
    bounds: Any
    gaps: Any
    slopes: Any
    saturated: Any


class Bands(Process):
    """Brackets of the expected counts of ``detector`` at each of ``masses``."""

    detector: Detector = eqx.field(static=True)
    streams: Streams = eqx.field(static=True)
    masses: tuple[float, ...] = eqx.field(static=True)
    divergences: tuple[str, ...] = eqx.field(static=True)
    radii: tuple[float, ...] = eqx.field(static=True)

    def begin(self, key: Any) -> BandsCarry:
        shape = (len(self.masses), len(self.divergences), len(self.radii), 2)
        empty = np.zeros(shape)
        return BandsCarry(
            np.int32(0), np.zeros((len(self.masses), 3)), empty, empty.copy(), empty.copy(), np.zeros(shape, np.int8)
        )

    def advance(self, carry: BandsCarry) -> tuple[BandsCarry, Chunk]:
        place = int(carry.done)
        reference, *tables = (np.array(leaf) for leaf in carry[1:])
        counts = self.detector.counts(self.streams, float(self.masses[place]))
        reference[place] = self.streams.weights @ counts, counts.min(), counts.max()
        for row, name in enumerate(self.divergences):
            for column, radius in enumerate(self.radii):
                for side, bound in enumerate(bracket(counts, self.streams.weights, radius, name)):
                    values = (bound.value, bound.gap, bound.slope, bound.saturated)
                    for table, value in zip(tables, values, strict=True):
                        table[place, row, column, side] = value
        made = BandsCarry(np.int32(place + 1), reference, *tables)
        bounds = 2.0 * len(self.divergences) * len(self.radii)
        largest = float(np.abs(tables[1][place]).max())
        return made, Chunk("bounds", {}, {"evaluations": bounds, "largest gap": largest})

    def finished(self, carry: BandsCarry) -> bool:
        return int(carry.done) >= len(self.masses)

    def progress(self, carry: BandsCarry) -> float:
        return int(carry.done) / len(self.masses)


def bands(prepared: Any, name: str) -> Bands:
    """The process of the detector called ``name``."""
    bounds, detector = prepared.config.bounds, prepared.detectors[name]
    masses = tuple(float(mass) for mass in np.geomspace(detector.masses[0], detector.masses[1], bounds.masses))
    return Bands(detector, prepared.streams, masses, bounds.divergences, bounds.radii)
