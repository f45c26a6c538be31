"""Do the particles of a sheared gas follow their exact laws? (What they cost: ``shear_speed.py``.)

    python benchmarks/sheared_gas.py [--quick] [--work FILE]

Each case is kept in FILE as soon as it is done, so an interrupted run goes on where it stopped.
"""

import argparse
import functools
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import Pieces, record
from scipy import stats

from heatbath.kinetics.collisions import collision_law
from heatbath.kinetics.deformations import SimpleShear
from heatbath.kinetics.shear import TaggedParticle, absorbed, evolve, log_components, start
from heatbath.kinetics.shear_theory import frozen_hazard, log_uniform_cdf, memory

POINT = np.array([0.0, 1.0, 1.0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few particles; prints, records nothing")
    parser.add_argument("--work", default=".cache/sheared_gas.json", help="where finished cases are kept")
    arguments = parser.parse_args()
    count = 2000 if arguments.quick else 100_000
    pieces = Pieces(None if arguments.quick else Path(arguments.work))
    done = {name: pieces.get(name, functools.partial(case, count)) for name, case in CASES.items()}
    if arguments.quick:
        return
    rows = [[name, row["asked"], row["found"]] for name, row in done.items()]
    record(
        "sheared_gas",
        title="Particles in a sheared gas against exact laws",
        columns=["case", "expected", "found"],
        rows=rows,
        notes=[
            "100 000 particles each. KS: Kolmogorov-Smirnov distance to the log-uniform law; its noise is 0.0027 (median) for so many draws.",
            "Windows: the halves of one period of log log t that ends at log t = 1e6 (1 - a), and of the next. Memory: the first Fourier mode of log y.",
            "The expected laws are derived in kinetics.shear_theory.",
        ],
        data=done,
    )


def particles(count, law, seed=0):
    random = np.random.default_rng(seed)
    if law == "point":
        return np.tile(POINT, (count, 1))
    normal = random.normal(size=(count, 3))
    return np.exp(2 * normal) if law == "lognormal" else normal


def followed(gamma, rate, background, times, begin_with):
    """Particles at each of ``times``, all arrived and no bound broken; the seconds, without compiling; who kept moving."""
    process = TaggedParticle(SimpleShear(rate), collision_law(gamma, background=background))
    evolve(process, start(jax.random.key(9), begin_with[:8192]), 1.0)  # compiles
    began = time.perf_counter()
    state, seen = start(jax.random.key(0), begin_with), []
    for tau in times:
        state = evolve(process, state, tau)
        assert np.asarray(state.finished).all()
        assert not np.asarray(state.violations).any()
        seen.append(state)
    return process, seen, time.perf_counter() - began, ~absorbed(state)


def far(gamma, rate, background, limits):
    def case(count):
        process, seen, seconds, stay = followed(gamma, rate, background, list(limits), particles(count, "thermal"))
        rows = []
        for tau, state in zip(limits, seen, strict=True):
            logs, _ = log_components(process, state)
            assert np.isfinite(logs[stay]).all()
            y = logs[stay, 1] / tau
            distance = float(stats.kstest(log_uniform_cdf(y, gamma), "uniform").statistic)
            rows.append({"tau": tau, "distance": distance, "memory": abs(memory(y, gamma))})
        found = ", ".join(f"{row['distance']:.4f} at {row['tau']:g}" for row in rows)
        if not stay.all():
            found += f"; {100 * (1 - stay.mean()):.1f} % came to rest and are left out"
        asked = ", ".join(f"KS below {limit:g} at log t = {tau:g}" for tau, limit in limits.items())
        return {
            "asked": asked,
            "found": f"{found}; memory {rows[-1]['memory']:.3f}",
            "seconds": seconds,
            "moving": float(stay.mean()),
            "rows": rows,
        }

    return case


def windows(gamma, law):
    """Collisions in both halves of a period of log log t, and in their images one period later."""

    def case(count):
        taus = 1e6 * (1 + gamma) ** np.array([2.0, 1.5, 1.0, 0.5, 0.0])
        process, seen, _, stay = followed(gamma, 2.0, "rest", taus, 1e4 * particles(count, law))
        counts = np.diff([np.asarray(state.jumps)[stay] for state in seen], axis=0)
        found, ratios = [], []
        for early, late in ((counts[0], counts[2]), (counts[1], counts[3])):
            error = np.sqrt((np.var(late - early) + 1 / stay.sum()) / stay.sum()) / early.mean()
            ratios.append((float(late.mean() / early.mean()), float(error)))
            found.append(f"{early.mean():.4f}, ratio {ratios[-1][0]:.5f} ± {error:.5f}")
        kept = abs(memory(log_components(process, seen[-1])[0][stay, 1] / taus[-1], gamma))
        text = "; ".join(found)
        return {
            "asked": "ratio 1 in both halves",
            "found": f"collisions per half {text}; memory {kept:.3f}",
            "ratios": ratios,
            "memory": kept,
        }

    return case


def frozen(count):
    process = TaggedParticle(SimpleShear(2.0), collision_law(-1.5, background="rest"))
    begin = particles(count, "thermal") * [0.0, 1.0, 1.0]
    state = start(jax.random.key(0), begin)
    means = []
    for tau in (5.0, 20.0, 100.0, 900.0):
        state = evolve(process, state, tau)
        means.append(float(np.asarray(state.jumps).mean()))
    survival = np.exp(-frozen_hazard(begin[:, 1], begin[:, 2], 2.0, -1.5))
    never = np.asarray(state.jumps) == 0
    error = (never - survival).std() / np.sqrt(count)
    logs, _ = log_components(process, state)
    stay = ~absorbed(state)
    line = np.abs(logs[stay, 0] - logs[stay, 1] - np.log(2.0) - 900.0)
    found = f"{never.mean():.5f} ± {error:.5f}; collisions {', '.join(f'{m:.4f}' for m in means)}; w1/(-K w2 t) - 1 up to {line.max():.1g}; "
    found += f"{100 * (1 - stay.mean()):.1f} % came to rest"
    asked = f"share that never collides {survival.mean():.5f}; collisions converge; w1 = -K w2 t"
    return {"asked": asked, "found": found, "sigmas": float((never - survival).mean() / error), "means": means}


CASES = {
    "gamma = -1/2, K = 2, Maxwellian background": far(-0.5, 2.0, "maxwellian", {400.0: 0.01, 1600.0: 0.006}),
    "gamma = -1/2, K = 2, background at rest": far(-0.5, 2.0, "rest", {400.0: 0.01, 1600.0: 0.006}),
    "gamma = -0.3, K = 8, background at rest": far(-0.3, 8.0, "rest", {400.0: 0.01}),
    **{
        f"collisions in related windows, gamma = {gamma:g}, {law} start": windows(gamma, law)
        for gamma in (-0.5, -0.8)
        for law in ("thermal", "lognormal", "point")
    },
    "gamma = -3/2: frozen collisions": frozen,
}

if __name__ == "__main__":
    main()
