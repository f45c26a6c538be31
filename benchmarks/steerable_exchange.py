"""What does a steerable flow add to replica exchange? Round trips and independent basins per energy evaluation, against plain.

For each system a flow is trained at the hottest temperature only, on exact draws there (of a molecule: ``--model``, a trained
one). Then ladders of four kinds run from equal starts, each with the same HMC moves: plain swaps; jumps of the flow at every
rung; swaps carried by the flow; both. The plain ladder has the usual number of rungs for its heat capacity; all methods also
run on two rungs, which a good flow can bridge. Every energy evaluation counts, those of HMC trajectories and of carried swaps
included.

    round trips       cold -> hot -> cold, per million energy evaluations of all rungs
    basin draws       independent basins at the cold rung per million evaluations: p (1 - p) / variance of the means of ladders

Factors are ratios to plain exchange with its own ladder; errors are those of the mean over seeds.

    python benchmarks/steerable_exchange.py                 # double well and many wells: about ten minutes
    python benchmarks/steerable_exchange.py --quick
    python benchmarks/steerable_exchange.py --model DIR     # alanine dipeptide as well
    python benchmarks/steerable_exchange.py --work DIR      # go on where an interrupted call stopped
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from record import record

from heatbath.io.trees import flatten, restore
from heatbath.kernels import HMC, Kernel
from heatbath.models.volume_preserving import steerable_flow
from heatbath.samplers import geometric_ladder
from heatbath.samplers.flow_exchange import flow_exchange
from heatbath.samplers.plan import rung_count
from heatbath.state import ThermoState
from heatbath.targets.toy import DoubleWell, ManyWell
from heatbath.training.fit import fit
from heatbath.training.objectives import MaximumLikelihood
from heatbath.training.optimiser import AdamW
from heatbath.training.schedules import Cosine

METHODS = {
    "plain": {"jumps": False, "swaps": False},
    "jumps": {"jumps": True, "swaps": False},
    "carried swaps": {"jumps": False, "swaps": True},
    "both": {"jumps": True, "swaps": True},
}


@dataclasses.dataclass(frozen=True)
class System:
    """A target between two temperatures; ``basin(x)`` is the indicator whose changes are counted."""

    name: str
    target: Any
    state: ThermoState
    cold: float
    hot: float
    rungs: int
    kernel: Kernel
    basin: Callable
    rounds: int
    dtype: str = "float64"


def toys(quick: bool) -> list[System]:
    rounds = 500 if quick else 4000
    double = DoubleWell(barrier=10.0, tilt=0.5, dimension=4)
    few, many = ManyWell(wells=4, gaussians=4, barrier=8.0), ManyWell(wells=8, gaussians=24, barrier=8.0)
    hmc = HMC(jnp.asarray(0.1), num_steps=8)
    names = {
        "double well, 4-D, barrier 10 kT": double,
        "4 wells of 8 kT and 4 harmonic, 8-D": few,
        "8 wells of 8 kT and 24 harmonic, 32-D": many,
    }
    state = ThermoState(1.0)
    return [
        System(name, target, state, 1.0, 0.2, rung_count(target, 5.0), hmc, _first, rounds)
        for name, target in names.items()
    ]


def _first(x):
    return x[..., 0] > 0


def trained(system: System, quick: bool, place: Path | None):
    """A flow for the hottest temperature, and the seconds its training took; read from ``place`` where it is finished."""
    started = time.monotonic()
    draw = jax.jit(jax.vmap(lambda key: system.target.sample(key, system.hot)))
    data = draw(jax.random.split(jax.random.key(0), 50_000))
    model = steerable_flow(
        jax.random.key(1), data.shape[1], data=data, reference_beta=system.hot, layers=8, width=64, depth=1
    )
    if place is not None and place.exists():
        with np.load(place) as stored:
            arrays = {name: stored[name] for name in stored.files}
        seconds = float(arrays.pop("seconds"))
        changing, rest = eqx.partition(model, eqx.is_array)
        return eqx.combine(restore(changing, arrays), rest), seconds
    steps = 1000 if quick else 2000
    fitted = fit(
        jax.random.key(2), model, MaximumLikelihood(), data, steps=steps, batch_size=512,
        optimiser=AdamW(Cosine(3e-3, steps)), ema=0.995, augment=model.augment, steps_per_chunk=500,
    )  # fmt: skip
    seconds = time.monotonic() - started
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, seconds=seconds, **flatten(eqx.filter(fitted.model, eqx.is_array)))
    return fitted.model, seconds


def run(system: System, flow, method: str, rungs: int, seed: int, ladders: int) -> dict[str, float]:
    """One run: evaluations, round trips and the basin's statistics after warm-up."""
    betas = geometric_ladder(system.cold, system.hot, rungs)
    sampler = flow_exchange(
        system.target, system.state, flow, system.kernel, betas, **METHODS[method],
        ladders=ladders, draws=system.rounds, warmup_rounds=400, draws_per_chunk=system.rounds // 4, dtype=system.dtype,
    )  # fmt: skip
    carry, basins, before, started = sampler.begin(jax.random.key(seed)), [], None, time.monotonic()
    while not sampler.finished(carry):
        previous = carry
        carry, chunk = sampler.advance(carry)
        if chunk.phase == "production":
            before = previous if before is None else before
            basins.append(np.asarray(system.basin(chunk.arrays["samples"][:, :, 0])))
    millions = (int(carry.ladders.evaluations.sum()) - int(before.ladders.evaluations.sum())) / 1e6
    basin = np.concatenate(basins).astype(float)
    share, variance = basin.mean(), basin.mean(axis=0).var(ddof=1)
    return {
        "round trips": float(carry.ladders.trips.completed.sum()) / millions,
        "basin draws": ladders * share * (1 - share) / variance / millions,
        "share": share,
        "share error": float(np.sqrt(variance / ladders)),
        "swap acceptance": float(carry.ladders.swap_acceptance.mean()),
        "seconds per million": (time.monotonic() - started) / millions,
    }


def compare(system: System, flow, options, kept: "Kept") -> tuple[list[list], dict]:
    """Rows of the table and the numbers behind them."""
    arrangements = [("plain", system.rungs), *((name, 2) for name in METHODS), ("both", system.rungs)]
    rows, data, baseline = [], {}, None
    for method, rungs in arrangements:
        found = []
        for seed in range(options.seeds):
            name = f"{system.name}; {method}; {rungs} rungs; seed {seed}; {options.ladders} ladders; {system.rounds} rounds"
            found.append(kept(name, lambda seed=seed: run(system, flow(), method, rungs, seed, options.ladders)))  # noqa: B023
        values = {name: np.array([row[name] for row in found]) for name in found[0]}
        baseline = values if baseline is None else baseline
        cells = [system.name, method, rungs]
        for name in ("round trips", "basin draws"):
            cells += [mean_and_error(values[name]), factor(values[name], baseline[name])]
        rows.append([*cells, f"{values['swap acceptance'].mean():.2f}", mean_and_error(values["share"], 4)])
        data[f"{method}, {rungs} rungs"] = {name: array.tolist() for name, array in values.items()}
        print(*rows[-1], sep=" | ", flush=True)
    return rows, data


class Kept:
    """Numbers of finished runs in a file, so that an interrupted call goes on; without a file it remembers nothing."""

    def __init__(self, place: Path | None):
        self.place = place
        self.rows = json.loads(place.read_text()) if place is not None and place.exists() else {}

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.rows:
            self.rows[name] = make()
            if self.place is not None:
                self.place.parent.mkdir(parents=True, exist_ok=True)
                self.place.write_text(json.dumps(self.rows))
        return self.rows[name]


def mean_and_error(values: np.ndarray, digits: int = 1) -> str:
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"


def factor(values: np.ndarray, baseline: np.ndarray) -> str:
    """Ratio of the means with its error over seeds; a rate of zero in the baseline has no ratio."""
    if baseline.mean() == 0:
        return "plain: none"
    ratio = values.mean() / baseline.mean()
    relative = [array.std(ddof=1) / np.sqrt(len(array)) / max(array.mean(), 1e-30) for array in (values, baseline)]
    return f"{ratio:.2f} ± {ratio * np.hypot(*relative):.2f}"


def molecule(options) -> tuple[System, Any]:
    """Alanine dipeptide between 300 K and 600 K, with the trained model in ``--model``."""
    import heatbath
    from heatbath.experiments.generators import load_generator
    from heatbath.samplers.centre import held_at_centre
    from heatbath.samplers.masses import sampling_masses
    from heatbath.units import beta_from_temperature

    target = heatbath.molecule("alanine-dipeptide")
    model, _ = load_generator(options.model, target)
    cold, hot = (beta_from_temperature(temperature, "kJ/mol") for temperature in ("300 K", "600 K"))
    state = held_at_centre(ThermoState(cold), model.centre_scale)
    kernel = HMC(jnp.asarray(0.002), num_steps=24, masses=sampling_masses(target))
    phi = target.basins()["phi > 0"]
    basin = jax.jit(lambda x: jax.lax.map(phi, x.reshape((-1, *x.shape[-2:])), batch_size=4096).reshape(x.shape[:-2]))
    rounds = 200 if options.quick else 1000
    name = "alanine dipeptide, 300 K to 600 K"
    system = System(name, target, state, cold, hot, rung_count(target, 2.0), kernel, basin, rounds, "float32")
    return system, model


def finished(system: System, make: Callable[[], tuple[Any, str]], options, kept: Kept) -> tuple[list[list], dict, str]:
    """One system from its flow to its rows; ``make() -> (flow, note)`` is called when a run that is not kept needs it."""
    made: list = []

    def flow():
        made[:] = made or [make()]
        return made[0][0]

    note = kept(f"{system.name}; flow", lambda: (flow(), made[0][1])[1])
    return (*compare(system, flow, options, kept), f"{system.name}: {note}")


def systems(options) -> list[tuple[System, Callable[[], tuple[Any, str]]]]:
    """Every system with the maker of its flow."""

    def learnt(number, system):
        place = None if options.work is None else options.work / f"flow-{number}.npz"
        flow, seconds = trained(system, options.quick, place)
        return flow, f"trained at T = {1 / system.hot:g} for {seconds:.0f} s on 50 000 exact draws."

    found: list = [
        (system, lambda number=number, system=system: learnt(number, system))
        for number, system in enumerate(toys(options.quick))
    ]
    if options.model:
        system, flow = molecule(options)
        found.append((system, lambda: (flow, "the model in --model, trained at 600 K.")))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller everything; nothing is recorded")
    parser.add_argument("--model", type=Path, help="directory of a steerable model of alanine dipeptide")
    parser.add_argument("--work", type=Path, help="folder of finished runs, so that an interrupted call goes on")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--ladders", type=int, default=32)
    options = parser.parse_args()
    options.seeds = options.seeds or (2 if options.quick else 5)
    rows, data, notes = [], {}, []
    kept = Kept(None if options.work is None else options.work / "runs.json")
    for system, make in systems(options):
        lines, numbers, note = finished(system, make, options, kept)
        rows += lines
        data[system.name] = numbers
        notes.append(note)
    if options.quick:
        return
    record(
        "steerable_exchange",
        title="Replica exchange with moves of a temperature-steerable flow",
        columns=["system", "exchange", "rungs", "round trips", "factor", "basin draws", "factor", "swaps", "share of the basin"],
        rows=rows,
        notes=["Rates are per million energy evaluations of all rungs; factors are relative to the first line of the system.",
               "Evaluations of training data are not in the rates.", *notes],
        data=data,
    )  # fmt: skip


if __name__ == "__main__":
    main()
