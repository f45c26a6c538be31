"""What do 100 000 particles in a sheared gas cost, followed to t = e^400?

    python benchmarks/shear_speed.py [--quick]

gamma = -1/2, K = 2, thermal start, from nothing to the last time in one go; repeated, since machines have moods.
"""

import argparse
import time

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import record

from heatbath.kinetics.collisions import collision_law
from heatbath.kinetics.deformations import SimpleShear
from heatbath.kinetics.shear import TaggedParticle, evolve, log_components, start

LOG_TIME, REPEATS = 400.0, 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few particles; prints, records nothing")
    arguments = parser.parse_args()
    count = 2000 if arguments.quick else 100_000
    rows, data = [], {}
    for background in ("maxwellian", "rest"):
        process = TaggedParticle(SimpleShear(2.0), collision_law(-0.5, background=background))
        normal = np.random.default_rng(0).normal(size=(count, 3))
        seconds = []
        for repeat in range(1 if arguments.quick else REPEATS):
            began = time.perf_counter()
            state = evolve(process, start(jax.random.key(repeat), normal), LOG_TIME)
            seconds.append(time.perf_counter() - began)
            assert np.asarray(state.finished).all()
            assert not np.asarray(state.violations).any()
            assert not np.isnan(log_components(process, state)[0]).any()
        attempts, jumps = float(np.asarray(state.attempts).mean()), float(np.asarray(state.jumps).mean())
        rest = seconds[1:] or seconds
        rows.append(
            [background, f"{seconds[0]:.1f}", ", ".join(f"{s:.1f}" for s in rest), f"{jumps:.1f}", f"{attempts:.0f}"]
        )
        data[background] = {"seconds": seconds, "jumps": jumps, "attempts": attempts}
        print(rows[-1], flush=True)
    if arguments.quick:
        return
    record(
        "shear_speed",
        title="100 000 particles in a sheared gas to t = e^400",
        columns=[
            "background",
            "seconds with compiling",
            "seconds after it",
            "collisions per particle",
            "attempts per particle",
        ],
        rows=rows,
        notes=[
            "gamma = -1/2, K = 2, thermal start; a process that does only this, on all cores of the machine named above."
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
