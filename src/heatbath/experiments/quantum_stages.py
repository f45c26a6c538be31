"""The runs of the experiment quantum-collisionless-boltzmann as processes that can be stopped and continued."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from heatbath.kinetics.jeans import Maxwellian, eigenmode, perturbed
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import AmplitudeEstimation, Peek, QuantumVlasov, Readout, Shots, encode
from heatbath.kinetics.quantum.amplitude_estimation import Schedule
from heatbath.kinetics.quantum.readout import Reading, exact_density
from heatbath.kinetics.quantum.simulation import QuantumState
from heatbath.kinetics.vlasov import Gravity
from heatbath.process import Chunk, Process

#: Steps between two looks at the clock.
CHUNK = 10
#: Modes whose course is kept.
KEPT = 4


class EvolutionCarry(NamedTuple):
    """The state, the number of steps done, and what was seen at each: read modes, exact modes, measurements, applications."""

    psi: Any
    drift_counter: Any
    kick_counter: Any
    step: Any
    read: Any
    exact: Any
    runs: Any
    applications: Any


class Evolution(Process):
    """``steps`` steps of one run of the algorithm. Random numbers of a step follow from the seed and its number."""

    algorithm: QuantumVlasov = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)

    def begin(self, key: Any) -> EvolutionCarry:
        state = self.algorithm.begin()
        modes, counts = np.zeros((self.steps, KEPT), complex), np.zeros(self.steps, np.int64)
        return EvolutionCarry(
            np.asarray(state.psi),
            state.drift_counter,
            state.kick_counter,
            np.int32(0),
            modes,
            modes.copy(),
            counts,
            counts.copy(),
        )

    def advance(self, carry: EvolutionCarry) -> tuple[EvolutionCarry, Chunk]:
        state = QuantumState(carry.psi, np.array(carry.drift_counter), np.array(carry.kick_counter))
        read, exact = np.array(carry.read), np.array(carry.exact)
        runs, applications = np.array(carry.runs), np.array(carry.applications)
        first = int(carry.step)
        last = min(first + CHUNK, self.steps)
        for step in range(first, last):
            state, reading = self.algorithm.step(state, np.random.default_rng([self.seed, step]))
            read[step] = density_modes(1.0 + reading.contrast)
            exact[step] = self._exact(reading, state)
            runs[step], applications[step] = reading.runs, reading.applications
        made = EvolutionCarry(
            np.asarray(state.psi),
            state.drift_counter,
            state.kick_counter,
            np.int32(last),
            read,
            exact,
            runs,
            applications,
        )
        return made, Chunk(
            "evolution", {}, {"evaluations": float(last - first), "density mode": float(abs(exact[last - 1, 0]))}
        )

    def _exact(self, reading: Reading, state: QuantumState) -> np.ndarray:
        """Modes of the state itself: those of a peek in the middle of the step, else those at its end (labelled so)."""
        if reading.peeked:
            return density_modes(1.0 + reading.contrast)
        return density_modes(exact_density(np.asarray(state.psi), self.algorithm.encoded, self.algorithm.grid))

    def finished(self, carry: EvolutionCarry) -> bool:
        return int(carry.step) >= self.steps

    def progress(self, carry: EvolutionCarry) -> float:
        return int(carry.step) / self.steps


def density_modes(rho: np.ndarray) -> np.ndarray:
    """The first modes along x of a density, over its mean."""
    waves = np.fft.fft(rho.reshape(len(rho), -1).mean(axis=1))
    kept = min(KEPT, len(rho) // 2 - 1)
    return np.concatenate([waves[1 : 1 + kept], np.zeros(KEPT - kept)]) / waves[0].real


# The runs -------------------------------------------------------------------------------------------------------------
def runs(config: Any) -> dict[str, tuple[QuantumVlasov, int]]:
    """Name -> (algorithm, steps) of every run that the configuration asks for."""
    step = config.algorithm.time_step
    made: dict[str, tuple[QuantumVlasov, int]] = {}
    if config.grid.dimension == 1:
        made["free-streaming"] = _free_streaming(config)
    for ratio in config.growth.ratios:
        start = "eigenmode" if ratio < 1 else "product"
        algorithm = build(config, ratio, config.growth.amplitude, start=start)
        made[f"growth-{ratio:g}"] = (algorithm, _steps(config.growth.time, step))
    collapse = config.collapse
    for name in collapse.readouts:
        options = {
            "modes": collapse.read_modes if len(collapse.readouts) > 1 else None,
            "readout": readout(name, collapse),
            "width": collapse.width,
        }
        algorithm = build(config, collapse.ratio, collapse.amplitude, **options)
        made[f"collapse-{name}"] = (algorithm, _steps(collapse.time, step))
    if config.dead_zone.time > 0:
        for kind in ("fractional", "integer"):
            algorithm = build(config, 0.5, config.dead_zone.amplitude, kick=kind, start="eigenmode")
            made[f"dead-zone-{kind}"] = (algorithm, _steps(config.dead_zone.time, step))
    return made


def build(config: Any, ratio: float, amplitude: float, *, start: str = "product", **options: Any) -> QuantumVlasov:
    """One algorithm: a wave of ``amplitude`` in a Maxwellian with k / k_J = ``ratio``."""
    gas = Maxwellian.with_ratio(ratio)
    width = options.pop("width", config.grid.width)
    grid = PhaseGrid(config.grid.positions, config.grid.velocities, 1.0, width * gas.sigma, config.grid.dimension)
    values = eigenmode(grid, gas, amplitude) if start == "eigenmode" else perturbed(grid, gas, amplitude)
    modes = options.pop("modes", None) or config.algorithm.modes
    strength, time_step = options.pop("strength", 1.0), options.pop("time_step", config.algorithm.time_step)
    encoded = encode(values, grid, config.algorithm.encoding)
    return QuantumVlasov(grid, encoded, Gravity(strength, modes), time_step, **options)


def readout(name: str, collapse: Any) -> Readout:
    """The read-out called ``name`` in configurations."""
    if name == "shots":
        return Shots(collapse.shots)
    if name == "amplitude-estimation":
        return AmplitudeEstimation(Schedule.doubling(collapse.levels, collapse.shots_per_power))
    return Peek()


def _free_streaming(config: Any) -> tuple[QuantumVlasov, int]:
    """Without gravity until the wave has come back: time L / dv, in 128 steps and a few more."""
    algorithm = build(config, 0.5, config.collapse.amplitude, strength=0.0)
    recurrence = algorithm.grid.length / algorithm.grid.dv
    return build(config, 0.5, config.collapse.amplitude, strength=0.0, time_step=recurrence / 128), 136


def _steps(time: float, step: float) -> int:
    return max(1, round(time / step))
