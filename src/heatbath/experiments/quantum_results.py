"""What the experiment quantum-collisionless-boltzmann found: rates, collapses, errors and costs of
reading, gate counts, checks.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.experiments.convergence import Check
from heatbath.experiments.quantum_stages import density_modes
from heatbath.io.run_directory import json_ready
from heatbath.kinetics.jeans import Maxwellian, fitted_rate, free_streaming
from heatbath.kinetics.phase_grid import PhaseGrid
from heatbath.kinetics.quantum import (
    AmplitudeEstimation,
    PhaseRegisters,
    QuantumVlasov,
    Shots,
    apply,
    decode,
    encode,
    transport,
)
from heatbath.kinetics.quantum.amplitude_estimation import Schedule
from heatbath.kinetics.quantum.encoding import AMPLITUDE
from heatbath.kinetics.quantum.resources import Repetition, drift_cx, flagged_shift_cx, kick_cx, strang_cx
from heatbath.kinetics.vlasov import Gravity, SemiLagrangianSolver, SpectralSolver, density

#: Growth rates have to be this close to the dispersion relation, relative to it.
RATE_TOLERANCE = 0.02
#: Share of the mass near the largest speed above which a collapse has outgrown its grid.
FAST = 1e-3
#: Where a rate is fitted, in time; waves above k_J shed transients first.
GROWING, FADING = (0.2, 2.5), (2.0, 4.0)


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``quantum`` and a verdict; None before any step."""
    carries = {name: here.carry for name, here in done.items() if int(here.carry.step) > 0}
    if not carries:
        return None
    found: dict[str, Any] = {
        "grid": dataclasses.asdict(prepared.config.grid),
        "qubits": 1 + prepared.config.grid.dimension * sum(_any(prepared).grid.qubits),
        "encoding": prepared.config.algorithm.encoding,
    }
    groups = {
        prefix: [name for name in carries if name.startswith(prefix)] for prefix in ("growth", "collapse", "dead-zone")
    }
    if "free-streaming" in carries:
        found["free_streaming"] = streaming(prepared, carries["free-streaming"])
    if groups["growth"]:
        found["growth"] = [growth(prepared, name, carries[name]) for name in groups["growth"]]
    if groups["collapse"]:
        found["collapse"] = collapse(prepared, {name: carries[name] for name in groups["collapse"]})
    if groups["dead-zone"]:
        found["dead_zone"] = dead_zone(prepared, {name: carries[name] for name in groups["dead-zone"]})
    if prepared.config.grid.dimension == 1:
        found["reading"] = reading(prepared)
        found["gates"] = gates(prepared)
    checks = [
        check for make in (_growth_checks, _streaming_checks, _collapse_checks, _zone_checks) for check in make(found)
    ]
    failed = [check for check in checks if not check.passed]
    made = {
        "target": {"name": "collisionless Boltzmann equation", "unit": "1"},
        "method": f"{found['qubits']} qubits",
        "estimates": {},
        "quantum": found,
        "verdict": {
            "converged": bool(checks) and not failed,
            "reasons": [check.sentence for check in failed or checks],
            "checks": [dataclasses.asdict(check) for check in checks],
            "cautions": [
                "Gravity in the runs called peek, growth and dead zone is taken from the state vector, which no quantum computer "
                "allows; the runs with shots and amplitude estimation show what reading it costs."
            ],
        },
    }
    return json_ready(made)


def _any(prepared: Any) -> QuantumVlasov:
    return next(iter(prepared.runs.values()))[0]


def _course(prepared: Any, name: str, carry: Any) -> tuple[QuantumVlasov, np.ndarray, np.ndarray]:
    """The algorithm, times of the middles of its steps, and the modes that were read there."""
    algorithm, steps = prepared.runs[name][0], int(carry.step)
    return algorithm, algorithm.time_step * (np.arange(steps) + 0.5), np.asarray(carry.read)[:steps]


# Parts ----------------------------------------------------------------------------------------------------------------
def streaming(prepared: Any, carry: Any) -> dict[str, Any]:
    """The wave without gravity beside its Gaussian, and the drift circuit against exact shifts."""
    algorithm, times, modes = _course(prepared, "free-streaming", carry)
    gas = Maxwellian.with_ratio(0.5)
    recurrence = algorithm.grid.length / algorithm.grid.dv
    start = prepared.config.collapse.amplitude / 2
    early = times < recurrence / 4
    expected = start * free_streaming(times, 2 * np.pi, gas.sigma)
    return {
        "times": times,
        "mode": np.abs(modes[:, 0]),
        "expected": expected,
        "recurrence": recurrence,
        "error": np.max(np.abs(np.abs(modes[:, 0]) - expected)[early]),
        "returned": np.abs(modes[:, 0]).max(where=times > 0.9 * recurrence, initial=0.0) / start,
        "circuit_error": exact_shift_error(prepared.config.grid.positions, prepared.config.grid.velocities),
    }


def exact_shift_error(positions: int, velocities: int) -> float:
    """Largest difference between the drift circuit and cyclic shifts of every row by its own velocity."""
    grid = PhaseGrid(positions, velocities, 1.0, velocities / 2)
    values = np.random.default_rng(0).normal(size=grid.shape)
    values = values / np.linalg.norm(values)
    circuit = transport.drift(PhaseRegisters(grid), grid.dx)
    whole = np.concatenate([values.reshape(-1), np.zeros(values.size)]).astype(complex)
    moved = np.asarray(apply(circuit, whole))[: values.size].reshape(grid.shape)
    exact = np.stack([np.roll(values[:, k], round(v)) for k, v in enumerate(grid.v)], axis=1)
    return float(np.abs(moved - exact).max())


def growth(prepared: Any, name: str, carry: Any) -> dict[str, Any]:
    """One small wave: its course, the fitted rate and that of the dispersion relation."""
    _, times, modes = _course(prepared, name, carry)
    ratio = float(name.removeprefix("growth-"))
    window = GROWING if ratio < 1 else FADING
    expected = Maxwellian.with_ratio(ratio).growth_rate(2 * np.pi)
    enough = np.sum((times >= window[0]) & (times <= window[1])) > 3
    return {
        "ratio": ratio,
        "times": times,
        "mode": np.abs(modes[:, 0]),
        "rate": fitted_rate(times, modes[:, 0], window) if enough else None,
        "expected": expected,
        "window": window,
    }


def collapse(prepared: Any, carries: Mapping[str, Any]) -> dict[str, Any]:
    """The collapse in every way of reading, the classical runs of the same, and the last distribution."""
    rows, made = [], {}
    for name, carry in carries.items():
        algorithm, times, modes = _course(prepared, name, carry)
        applications = np.asarray(carry.applications)[: len(times)]
        counts = strang_cx(*algorithm.grid.qubits) if algorithm.grid.dimension == 1 else 0
        each = int(applications.max())
        rows.append(
            {
                "readout": name.removeprefix("collapse-"),
                "times": times,
                "mode": np.abs(modes[:, 0]),
                "applications_per_step": each,
                "gates_once": Repetition(len(times), counts, each).once,
                "gates_in_all": Repetition(len(times), counts, each).total if each else None,
            }
        )
    name = next((name for name in carries if name.endswith("peek")), next(iter(carries)))
    algorithm, times, _ = _course(prepared, name, carries[name])
    made["runs"] = rows
    if name.endswith("peek"):
        made["classical"] = classical(algorithm, np.asarray(carries[name].psi), times)
    if algorithm.grid.dimension == 1:
        made["snapshot"] = {
            "f": decode(np.asarray(carries[name].psi), algorithm.encoded),
            "x": algorithm.grid.x,
            "v": algorithm.grid.v,
            "time": float(len(times) * algorithm.time_step),
        }
    made["fast"] = fast_share(decode(np.asarray(carries[name].psi), algorithm.encoded), algorithm.grid)
    return made


def fast_share(f: np.ndarray, grid: PhaseGrid) -> float:
    """Share of the mass at the outer tenth of the speeds, which is about to come back at the other end."""
    fast = np.abs(grid.v) > 0.9 * grid.speed_limit
    shares = [np.moveaxis(f, axis, 0)[fast].sum() / f.sum() for axis in grid.velocity_axes]
    return float(np.abs(shares).max())  # with its sign: ripples of either sign carry no mass


def classical(algorithm: QuantumVlasov, psi: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    """The same run by NumPy's spectral solver (state against state), and by characteristics and splines (modes)."""
    grid, gravity, encoded = algorithm.grid, Gravity(algorithm.gravity.strength, algorithm.modes), algorithm.encoded
    probability = encoded.encoding != AMPLITUDE
    scale = np.sqrt(encoded.scale) if probability else encoded.scale
    spectral = SpectralSolver(grid, gravity, probability=probability)
    values = np.asarray(encoded.psi) * scale
    for _ in times:
        values = spectral.step(values, algorithm.time_step)
    made: dict[str, Any] = {"difference": float(np.abs(psi * scale - values).max() / np.abs(values).max())}
    if grid.dimension == 1:
        splines, f, modes = SemiLagrangianSolver(grid, gravity), decode(np.asarray(encoded.psi), encoded), []
        for _ in times:
            modes.append(abs(density_modes(density(splines.drift(f, 0.5 * algorithm.time_step), grid))[0]))
            f = splines.step(f, algorithm.time_step)
        made |= {"times": times, "splines": modes}
    return made


def dead_zone(prepared: Any, carries: Mapping[str, Any]) -> dict[str, Any]:
    """The same small wave with both kicks."""
    rows = []
    for name, carry in carries.items():
        _, times, modes = _course(prepared, name, carry)
        rows.append({"kick": name.removeprefix("dead-zone-"), "times": times, "mode": np.abs(modes[:, 0])})
    rate = Maxwellian.with_ratio(0.5).growth_rate(2 * np.pi)
    return {"runs": rows, "expected": rate, "amplitude": prepared.config.dead_zone.amplitude}


def reading(prepared: Any) -> list[dict[str, Any]]:
    """Error of the first mode of the collapse's start against how often the preparation is applied, both encodings."""
    algorithm = _any(prepared)
    values = decode(np.asarray(algorithm.encoded.psi), algorithm.encoded)
    truth = values.sum(axis=1)
    truth = truth / truth.mean() - 1
    rows, random = [], np.random.default_rng([prepared.config.seed, 7])
    for encoding in ("amplitude", "probability"):
        encoded = encode(values, algorithm.grid, encoding)
        strategies = [("shots", Shots(count)) for count in (1000, 10_000, 100_000, 1_000_000)]
        strategies += [
            ("amplitude estimation", AmplitudeEstimation(Schedule.doubling(levels, 60))) for levels in (2, 4, 6, 8)
        ]
        for name, strategy in strategies:
            repeats = 100 if name == "shots" else 30
            reads = [strategy.read(encoded.psi, encoded, algorithm.grid, 1, random) for _ in range(repeats)]
            errors = [density_modes(1 + read.contrast)[0] - density_modes(1 + truth)[0] for read in reads]
            rows.append(
                {
                    "encoding": encoding,
                    "readout": name,
                    "applications": reads[0].applications,
                    "error": np.sqrt(np.mean(np.abs(errors) ** 2)),
                }
            )
    return rows


def gates(prepared: Any) -> list[dict[str, Any]]:
    """Controlled NOTs in closed form by the number of qubits; the integer way moves every velocity row once."""
    rows = []
    for bits in (4, 5, 6, 7, 8):
        rows.append(
            {
                "qubits": 2 * bits + 1,
                "drift": drift_cx(bits, bits),
                "kick": kick_cx(bits, bits),
                "strang": strang_cx(bits, bits),
                "integer_drift": (2**bits - 1) * flagged_shift_cx(bits, bits),
            }
        )
    return rows


# Checks ---------------------------------------------------------------------------------------------------------------
def _check(name: str, passed: Any, sentence: str, value: Any, limit: Any) -> Check:
    """A check in plain numbers."""
    return Check(name, bool(passed), sentence, float(value), float(limit))


def _growth_checks(found: Mapping[str, Any]) -> list[Check]:
    rows = [row for row in found.get("growth", ()) if row["rate"] is not None]
    if not rows:
        return []
    worst = max(abs(row["rate"] / row["expected"] - 1) for row in rows)
    words = f"Rates of {len(rows)} waves differ from the dispersion relation by at most {100 * worst:.2g} %."
    return [_check("growth rate", worst <= RATE_TOLERANCE, words, worst, RATE_TOLERANCE)]


def _streaming_checks(found: Mapping[str, Any]) -> list[Check]:
    part = found.get("free_streaming")
    if not part:
        return []
    exact = part["circuit_error"]
    words = f"The drift circuit differs from exact shifts by {exact:.1e}."
    made = [_check("drift circuit", exact < 1e-12, words, exact, 1e-12)]
    words = f"Without gravity the wave fades as it must to within {part['error']:.1e} of the mean density."
    return [*made, _check("free streaming", part["error"] < 1e-3, words, part["error"], 1e-3)]


def _collapse_checks(found: Mapping[str, Any]) -> list[Check]:
    collapse = found.get("collapse") or {}
    made = []
    if "fast" in collapse:
        words = f"{100 * collapse['fast']:.2g} % of the mass is within a tenth of the largest speed, where it leaves the grid."
        made.append(_check("largest speed", collapse["fast"] < FAST, words, collapse["fast"], FAST))
    part = collapse.get("classical")
    if not part:
        return made
    value = part["difference"]
    words = f"The state after the collapse differs from a classical spectral run by {value:.1e} of its largest value."
    return [*made, _check("classical solver", value < 1e-9, words, value, 1e-9)]


def _zone_checks(found: Mapping[str, Any]) -> list[Check]:
    part = found.get("dead_zone")
    if not part or len(part["runs"]) < 2:
        return []
    ends = {row["kick"]: row["mode"][-1] / row["mode"][0] for row in part["runs"]}
    words = (
        f"A wave of {part['amplitude']:g} grows {ends['fractional']:.1f}-fold with the fractional kick and "
        f"{ends['integer']:.1f}-fold "
        "with the integer kick, which acts on nothing weaker than half a cell."
    )
    return [_check("dead zone", ends["integer"] < ends["fractional"], words, ends["integer"], ends["fractional"])]
