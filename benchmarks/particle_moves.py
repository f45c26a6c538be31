"""How many particle moves per second do the compiled loops make on one core, beside a plain loop in C?

    python benchmarks/particle_moves.py [--quick]

The C program below is written for this comparison: one particle at a time, nearest images by comparison, random numbers by
xorshift, ``cc -O3 -march=native -ffast-math``. N = 43 at T = 0.5, the same configuration and step size, alternating in one run.
"""

import argparse
import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from record import record

from heatbath.kernels.particle_engine import ParticleEngine
from heatbath.targets.liquids import ternary_liquid

BETA, STEP, ROUNDS = 2.0, 0.1, 9
SOURCE = r"""
#include <math.h>
#include <stdint.h>
static uint64_t state = 88172645463325252ULL;
static double uniform(void) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (state >> 11) * (1.0 / 9007199254740992.0);
}
static double energy(const double *x, const double *y, int n, int i, double px, double py, double length,
                     const double *strength, const double *inverse, double c0, double c2, double c4) {
    double half = 0.5 * length, total = 0.0;
    for (int k = 0; k < n; k++) {
        if (k == i) continue;
        double dx = x[k] - px, dy = y[k] - py;
        if (dx > half) dx -= length; else if (dx < -half) dx += length;
        if (dy > half) dy -= length; else if (dy < -half) dy += length;
        double q = (dx * dx + dy * dy) * inverse[k];
        if (q < 6.25) { double s = 1.0 / (q * q * q); total += strength[k] * (s * (s - 1.0) + c0 + q * (c2 + c4 * q)); }
    }
    return total;
}
long run(double *x, double *y, int n, const int *species, const double *strength, const double *inverse, double length,
         double beta, double step, double c0, double c2, double c4, long moves) {
    long accepted = 0;
    for (long m = 0; m < moves; m++) {
        int i = (int)(uniform() * n);
        double px = x[i] + step * (2.0 * uniform() - 1.0), py = y[i] + step * (2.0 * uniform() - 1.0);
        px -= length * floor(px / length); py -= length * floor(py / length);
        const double *e = strength + species[i] * n, *s = inverse + species[i] * n;
        double change = energy(x, y, n, i, px, py, length, e, s, c0, c2, c4)
                      - energy(x, y, n, i, x[i], y[i], length, e, s, c0, c2, c4);
        if (change <= 0.0 || uniform() < exp(-beta * change)) { x[i] = px; y[i] = py; accepted++; }
    }
    return accepted;
}
"""


def plain_loop(folder: Path):
    """The C function, compiled."""
    (folder / "moves.c").write_text(SOURCE)
    command = ["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", "moves.so", "moves.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "moves.so"))
    library.run.restype = ctypes.c_long
    return library.run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="short runs; prints, records nothing")
    arguments = parser.parse_args()
    liquid, sweeps = ternary_liquid(), 500 if arguments.quick else 10_000
    engine = ParticleEngine(liquid, threads=1)
    begin = engine.begin(np.asarray(liquid.initial(jax.random.key(0)), float)[None], 1)
    begin, _ = engine.run(begin, BETA, STEP, sweeps=2000)
    moves, pair = sweeps * liquid.particles, liquid.pair
    strength = np.ascontiguousarray(4 * pair.epsilon[:, liquid.species])
    inverse = np.ascontiguousarray(1 / pair.sigma[:, liquid.species] ** 2)
    species = liquid.species.astype(np.int32)
    rates, accepted = {"compiled loops": [], "plain C": []}, {}
    with tempfile.TemporaryDirectory() as folder:
        run = plain_loop(Path(folder))
        for _ in range(3 if arguments.quick else ROUNDS):
            started = time.process_time()
            _, moved = engine.run(begin, BETA, STEP, sweeps=sweeps)
            rates["compiled loops"].append(moves / (time.process_time() - started))
            accepted["compiled loops"] = moved.acceptance
            x, y = (begin.positions[0, axis].copy() for axis in range(2))
            c_double, pointers = ctypes.c_double, [part.ctypes.data_as(ctypes.c_void_p) for part in (x, y)]
            tables = [part.ctypes.data_as(ctypes.c_void_p) for part in (species, strength, inverse)]
            numbers = [c_double(value) for value in (liquid.length, BETA, STEP, *pair.coefficients)]
            started = time.process_time()
            count = run(*pointers, liquid.particles, *tables, *numbers, ctypes.c_long(moves))
            rates["plain C"].append(moves / (time.process_time() - started))
            accepted["plain C"] = count / moves
    ratios = np.array(rates["compiled loops"]) / np.array(rates["plain C"])
    rows = [[name, f"{np.median(found):.3g}", f"{accepted[name]:.3f}"] for name, found in rates.items()]
    rows.append(["ratio", f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})", ""])
    for row in rows:
        print(*row, sep="  ", flush=True)
    if not arguments.quick:
        record(
            "particle_moves",
            title="One-particle moves per second on one core, N = 43",
            columns=["code", "moves per second", "share accepted"],
            rows=rows,
            notes=[
                "Medians over alternating rounds on one core, per second of processor time; ratios are those of each round (median, range).",
                "The C loop is written for this comparison and compiled with -O3 -march=native -ffast-math; compile times apart.",
            ],
            data={"rates": rates, "acceptance": accepted, "ratios": ratios.tolist()},
        )


if __name__ == "__main__":
    main()
