"""Does sequential Monte Carlo hit exact values, and by how much do the published variants miss them?

A pair of 60-dimensional normals: from N(0, 1.3^2 I) to N(0, I), whose mean energy is 30 and whose log Z ratio is known. Compared are the
house's SMC (MALA, and unadjusted Langevin with its path weight), and the continuous-time form of arXiv 2502.18462 (instantaneous
work, unadjusted moves without path weight) reaching t = 1 and, as both public programs do, stopping at t = 1 - 1/K.

    python benchmarks/smc_checks.py [--quick]
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np

DIMENSION, WIDTH = 60, 1.3


def continuous_time(key, start, u, *, particles, levels, step, reach_one=True, resample_below=0.5):
    """Positions, log weights and final level of the continuous-time form; biased at every finite ``step``.

    At level t: log W -= (u(x) + log q(x)) dt, then x' = x - step grad u_t(x) + sqrt(2 step) xi. ``reach_one`` False runs over
    linspace(0, 1, K + 1)[:-1] as published: the first dt is 0 and the last level is 1 - 1/K.
    """
    from heatbath.samplers.annealing import GeometricPath
    from heatbath.samplers.smc import effective_size, systematic_resample

    grid = np.linspace(0.0, 1.0, levels + 1)
    times = grid[1:] if reach_one else grid[:-1]
    changes = np.full(levels, 1.0 / levels)
    if not reach_one:
        changes[0] = 0.0
    key_start, key_levels = jax.random.split(key)
    x = jax.vmap(start.sample)(jax.random.split(key_start, particles))

    def level(carry, inputs):
        x, log_weights = carry
        key, time, change = inputs
        key_resample, key_noise = jax.random.split(key)
        log_weights = log_weights - change * jax.vmap(lambda x: u(x) + start.log_prob(x))(x)
        gradient = jax.vmap(jax.grad(GeometricPath(start, u, time)))(x)
        x = x - step * gradient + jnp.sqrt(2 * step) * jax.random.normal(key_noise, x.shape)
        needed = effective_size(log_weights) < resample_below * particles
        index = systematic_resample(key_resample, jax.nn.softmax(log_weights), particles)
        mean = jax.nn.logsumexp(log_weights) - jnp.log(particles)
        x = jnp.where(needed, x[index], x)
        return (x, jnp.where(needed, mean, log_weights)), None

    inputs = (jax.random.split(key_levels, levels), jnp.asarray(times), jnp.asarray(changes))
    (x, log_weights), _ = jax.lax.scan(level, (x, jnp.zeros(particles)), inputs)
    return x, log_weights, float(times[-1])


def pair():
    """Start, target density, exact mean energy and log Z."""
    from heatbath.models.gaussian import Normal
    from heatbath.state import ReducedEnergy, ThermoState
    from heatbath.targets.toy import Gaussian

    target = Gaussian(np.zeros(DIMENSION), np.ones(DIMENSION))
    u = ReducedEnergy(target, ThermoState(1.0))
    return Normal(jnp.zeros(DIMENSION), WIDTH), u, DIMENSION / 2, DIMENSION / 2 * math.log(2 * math.pi)


def repeated(run, u, keys):
    """Mean energy with the standard error over runs, and log of the mean Z-hat with its error in standard errors of Z-hat."""

    def one(key):
        x, log_weights = run(key)
        weights = jax.nn.softmax(log_weights)
        return jnp.sum(weights * jax.vmap(u)(x)), jnp.exp(log_weights - DIMENSION / 2 * math.log(2 * math.pi)).mean()

    energies, ratios = (np.asarray(a) for a in jax.jit(lambda keys: jax.lax.map(one, keys))(keys))
    count = math.sqrt(len(keys))
    return energies.mean(), energies.std(ddof=1) / count, ratios.mean(), ratios.std(ddof=1) / count


def main():
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, nothing recorded")
    arguments = parser.parse_args()
    from record import record

    from heatbath.kernels import MALA, UnadjustedLangevin
    from heatbath.samplers.annealing import linear_schedule
    from heatbath.samplers.smc import anneal

    start, u, exact, _ = pair()
    particles, runs = 1000, 8 if arguments.quick else 80
    keys = jax.random.split(jax.random.key(0), runs)
    rows, data = [], []

    def add(name, levels, step, run):
        mean, error, ratio, ratio_error = repeated(run, u, keys)
        off, ratio_off = (mean - exact) / error, (ratio - 1) / ratio_error
        rows.append(
            [
                name,
                levels,
                f"{step:g}",
                f"{mean:.3f} ± {error:.3f}",
                f"{off:+.1f}",
                f"{ratio:.3f} ± {ratio_error:.3f}",
                f"{ratio_off:+.1f}",
            ]
        )
        data.append(
            {
                "method": name,
                "levels": levels,
                "step": step,
                "mean_energy": mean,
                "error": error,
                "z_ratio": ratio,
                "z_error": ratio_error,
            }
        )
        print(*rows[-1], sep=" | ", flush=True)

    for levels in (20, 100):
        for step in (0.01, 0.04):
            schedule = linear_schedule(levels)
            width = jnp.asarray(math.sqrt(2 * step))
            for name, kernel in (
                ("SMC, MALA", MALA(width)),
                ("SMC, unadjusted with path weight", UnadjustedLangevin(width)),
            ):

                def house(key, kernel=kernel, schedule=schedule):
                    population, _ = anneal(key, start, u, kernel, schedule, particles=particles)
                    return population.positions, population.log_weights

                add(name, levels, step, house)
            for reach_one in (True, False):

                def published(key, levels=levels, step=step, reach_one=reach_one):
                    return continuous_time(
                        key, start, u, particles=particles, levels=levels, step=step, reach_one=reach_one
                    )[:2]

                add(
                    "continuous time, unadjusted" + ("" if reach_one else ", stops at 1 - 1/K"), levels, step, published
                )
    if not arguments.quick:
        record(
            "smc_checks",
            title="Sequential Monte Carlo between two 60-dimensional normals (exact mean energy 30, Z ratio 1)",
            columns=["method", "levels K", "step h", "mean energy", "σ off", "Ẑ/Z", "σ off"],
            rows=rows,
            notes=[
                f"{runs} runs of {particles} particles; start N(0, {WIDTH}² I); errors are standard errors over runs."
            ],
            data={"rows": data, "runs": runs, "particles": particles, "exact": exact},
        )


if __name__ == "__main__":
    main()
