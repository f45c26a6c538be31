"""Does every sampler of liquids find the exact <U>, c_V and log Z of three particles?

    python benchmarks/few_particles.py [--quick] [--seconds 300]

Local and swap Monte Carlo, dynamics, parallel tempering, population annealing and the chain of flows at T = 1 and 0.5 against
quadrature (Fourier sums). Pieces are kept in .cache; repeat the command until all are done.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import record

from heatbath.ensemble import Ensemble
from heatbath.models.torus_flow import RadialVelocity, TorusFlow
from heatbath.samplers.particle_chains import ParticleSampler
from heatbath.samplers.population_annealing import population_annealing
from heatbath.samplers.population_moves import ParticleSweeps
from heatbath.state import ThermoState
from heatbath.targets.liquids import few_particles
from heatbath.training.work_rate import warm_start

LIQUID, BETAS, LADDERS = few_particles(3), (2.0, 1.0), 32
OPTIONS = {
    "local Monte Carlo": {},
    "swap Monte Carlo": {"exchange_share": 0.2},
    "molecular dynamics": {"moves": "dynamics", "time_step": 0.02, "sweeps": 20},
    "parallel tempering": {"exchange": True},
}


def moments(energies: np.ndarray, betas: tuple) -> dict:
    """<U> and c_V by temperature from (draw, ladder, rung), about the exact mean, with errors over ladders."""
    exact = [LIQUID.exact(beta) for beta in betas]
    means = energies.mean(0)
    truth = np.array([e.mean_energy for e in exact])
    squares = ((energies - truth) ** 2).mean(0) * np.array(betas) ** 2 / 3
    return {
        f"{beta:g}": [*summed(means[:, k], exact[k].mean_energy), *summed(squares[:, k], exact[k].heat_capacity)]
        for k, beta in enumerate(betas)
    }


def summed(values: np.ndarray, truth: float) -> list[float]:
    """Mean, standard error over independent units, exact value."""
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), float(truth)]


def chains(options: dict, draws: int) -> dict:
    """One of the methods of chains."""
    sampler = ParticleSampler(LIQUID, BETAS, ladders=LADDERS, draws=1000, warmup=100, **{"sweeps": 10, **options})
    carry, found = sampler.begin(jax.random.key(1)), []
    engine = sampler.engine()
    while int(carry.round) < sampler.warmup:
        carry, _ = sampler.advance(carry)
    if not options.get("exchange"):
        # Without exchanges all records may be made in one call of the loops.
        state, betas = sampler._chains(carry), np.broadcast_to(sampler.betas, sampler.shape).reshape(-1)
        steps = np.asarray(carry.steps).reshape(-1)
        for _ in range(max(1, draws // 20_000)):
            state, moved = engine.run(state, betas, steps, sweeps=sampler.sweeps, records=min(draws, 20_000))
            found.append(np.moveaxis(moved.energies.reshape(*sampler.shape, -1), 2, 0))
    else:
        for _ in range(draws):
            carry, energies = sampler._round(carry)
            found.append(energies[None])
    energies = np.concatenate(found)
    made = moments(energies, BETAS)
    if options.get("exchange"):
        log_z = sampler.log_z(energies)
        made["log_z"] = [float(log_z.value[0]), float(log_z.standard_error[0]), log_z_truth()]
    return made


def log_z_truth() -> float:
    """ln Z(2) / Z(1)."""
    return float(LIQUID.log_z(BETAS[0]) - LIQUID.log_z(BETAS[1]))


def populations(members: int, *, flow: bool) -> dict:
    """Independent populations from exact draws at beta = 1 to 2 in two steps."""
    draw = jax.jit(lambda keys: jax.vmap(lambda key: LIQUID.sample(key, 1.0))(keys))
    steps, maps = (1.4, 2.0), None
    if flow:
        keys = jax.random.split(jax.random.key(99), 3)
        at = jax.jit(lambda keys, beta: jax.vmap(lambda key: LIQUID.sample(key, beta))(keys))
        pilots = [at(jax.random.split(key, 4000), beta) for key, beta in zip(keys, (1.0, *steps), strict=True)]
        empty = TorusFlow(RadialVelocity(3, 3.0, radial=12, time=2), LIQUID.counts, LIQUID.length, 3)
        ends = ((1.0, 1.4), (1.4, 2.0))
        maps = [warm_start(LIQUID, empty, (pilots[k], pilots[k + 1]), ends[k]) for k in range(2)]
    moves, ratios, means, squares = ParticleSweeps(LIQUID, 10, step_size=1.0, exchange_share=0.1), [], [], []
    exact = LIQUID.exact(2.0)
    for seed in range(LADDERS):
        start = Ensemble(draw(jax.random.split(jax.random.key(seed), members)), np.zeros(members), ThermoState(1.0))
        run = population_annealing(jax.random.key(seed + 500), LIQUID, start, steps, moves=moves, maps=maps)
        level = run.levels[-1]
        ratios.append(np.exp(run.log_z_ratio))
        means.append(level.mean_energy)
        squares.append(
            4 * (level.variance * (members - 1) / members + (level.mean_energy - exact.mean_energy) ** 2) / 3
        )
    ratio = summed(np.array(ratios), np.exp(log_z_truth()))
    return {
        "2": [*summed(np.array(means), exact.mean_energy), *summed(np.array(squares), exact.heat_capacity)],
        "log_z": [float(np.log(ratio[0])), ratio[1] / ratio[0], log_z_truth()],
    }


def rows_of(name: str, found: dict) -> list[list[str]]:
    """Lines of the table."""
    rows = []
    for key, numbers in found.items():
        parts = [("ln Z(2) / Z(1)", numbers)] if key == "log_z" else [("<U>", numbers[:3]), ("c_V", numbers[3:])]
        for quantity, (value, error, truth) in parts:
            at = "" if key == "log_z" else f"{1 / float(key):g}"
            z = f"{(value - truth) / error:+.1f}"
            rows.append([name, at, quantity, f"{value:.5f} ± {error:.5f}", f"{truth:.5f}", z])
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no new piece after this time")
    parser.add_argument("--work", type=Path, default=Path(".cache/few_particles"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    began, rows, data, missing = time.monotonic(), [], {}, []
    small = arguments.quick
    members = 200 if small else 20_000
    pieces: dict[str, Callable[[], dict]] = {
        name: partial(chains, options, _length(name, quick=small)) for name, options in OPTIONS.items()
    }
    pieces["population annealing"] = partial(populations, members, flow=False)
    pieces["chain of flows"] = partial(populations, members, flow=True)
    for name, compute in pieces.items():
        path = arguments.work / f"{name}{'-quick' if small else ''}.json"
        if not path.exists():
            if time.monotonic() - began > arguments.seconds:
                missing.append(name)
                continue
            path.write_text(json.dumps(compute()))
        data[name] = json.loads(path.read_text())
        rows += rows_of(name, data[name])
        for row in rows_of(name, data[name]):
            print(*row, sep="  ", flush=True)
    if missing:
        print(f"to do: {', '.join(missing)}; run the same command again")
    elif not small:
        record(
            "few_particles",
            title="Three particles of the liquid by every sampler, against quadrature",
            columns=["method", "T", "quantity", "found", "exact", "deviation"],
            rows=rows,
            notes=[
                "Errors are standard errors over 32 independent chains, ladders or populations; deviations in standard errors.",
                "Molecular dynamics has a time step of 0.02 and is biased by it; all other methods are exact.",
            ],
            data=data,
        )


def _length(name: str, *, quick: bool) -> int:
    return 200 if quick else 4000 if name == "parallel tempering" else 100_000


if __name__ == "__main__":
    main()
