"""How wrong is diffusion without its drift, how good with it, and does the adjusted kernel have no bias of the step?

    python benchmarks/state_dependent_diffusion.py [--quick] [--work FILE]

u = x^2/2, D = 1 + 0.6 sin 2x. Each case is kept in FILE as soon as it is done, so an interrupted run goes on where it stopped.
"""

import argparse
import functools
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from record import Pieces, record

from heatbath.estimators.stationarity import boltzmann_cdf, stationarity
from heatbath.kernels import PositionDependentLangevin
from heatbath.kinetics.diffusion_integrators import simulate
from heatbath.kinetics.fokker_planck import mean_first_passage
from heatbath.kinetics.path_weights import log_transition
from heatbath.kinetics.position_dependent import DiffusionModel
from heatbath.state import LogDensity


def harmonic(x):
    return 0.5 * jnp.sum(x**2)


def wavy(x):
    return 1 + 0.6 * jnp.sin(2 * x[0])


def wavy_array(x):
    return 1 + 0.6 * np.sin(2 * x)


CDF = boltzmann_cdf(lambda x: 0.5 * x**2, -8.0, 8.0)


class Harmonic(LogDensity):
    """exp(-x^2/2)."""

    def __call__(self, x):
        return harmonic(x)

    @property
    def beta(self):
        return 1.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few particles; prints, records nothing")
    parser.add_argument("--work", default=".cache/state_dependent_diffusion.json", help="where finished cases are kept")
    arguments = parser.parse_args()
    count = 2000 if arguments.quick else 40_000
    pieces = Pieces(None if arguments.quick else Path(arguments.work))
    done = {name: pieces.get(name, functools.partial(case, count)) for name, case in CASES.items()}
    if arguments.quick:
        return
    record(
        "state_dependent_diffusion",
        title="Diffusion with D = 1 + 0.6 sin 2x in a harmonic well",
        columns=["case", "found"],
        rows=[[name, row["found"]] for name, row in done.items()],
        notes=[
            "40 000 independent particles from equilibrium, time 5; σ: χ² over 40 cells of equal probability as a normal deviate.",
            "Path integral: L1 distance of the Boltzmann density from itself after chained one-step weights, 1201 points, time 2.",
        ],
        data=done,
    )


def law(alpha, *, consistent):
    def case(count):
        start = np.random.default_rng(1).normal(size=(count, 1))
        model = DiffusionModel(harmonic, wavy, alpha, consistent=consistent)
        end = np.asarray(simulate(jax.random.key(2), model, start, 0.005, 1000, integrator="point", every=1000))[
            :, -1, 0
        ]
        found = stationarity(end, CDF)
        text = f"{found.sigmas:.1f} σ from Boltzmann"
        if not consistent:
            wrong = boltzmann_cdf(lambda x: 0.5 * x**2 + (1 - alpha) * np.log(wavy_array(x)), -8.0, 8.0)
            text += f", {stationarity(end, wrong).sigmas:.1f} σ from D^-(1-α) exp(-u)"
        return {"found": text, "sigmas": found.sigmas}

    return case


def adjusted(count):
    start = np.random.default_rng(1).normal(size=(count, 1))
    kernel = PositionDependentLangevin(0.3, wavy)

    @jax.jit
    def run(keys, start):
        def chain(key, x):
            state = kernel.init(key, x, Harmonic())
            state, info = jax.lax.scan(lambda s, k: kernel.step(k, s, Harmonic()), state, jax.random.split(key, 20))
            return state.position[0], info.acceptance.mean()

        return jax.vmap(chain)(keys, start)

    x, acceptance = run(jax.random.split(jax.random.key(3), count), jnp.asarray(start))
    exact = stationarity(np.asarray(x), CDF)
    euler = simulate(jax.random.key(4), DiffusionModel(harmonic, wavy, 0.0), start, 0.3, 20, every=20)
    rough = stationarity(np.asarray(euler)[:, -1, 0], CDF)
    text = f"{exact.sigmas:.1f} σ with {100 * float(acceptance.mean()):.0f} % accepted; Euler at this step {rough.sigmas:.0f} σ"
    return {"found": text, "sigmas": exact.sigmas, "euler": rough.sigmas}


def path_integral(alpha):
    def case(count):
        grid = jnp.linspace(-6, 6, 1201)
        boltzmann = np.exp(-0.5 * np.asarray(grid) ** 2)
        boltzmann /= boltzmann.sum()
        distances = []
        for dt in (0.01, 0.005):
            model = DiffusionModel(harmonic, wavy, alpha)
            kernel = jnp.exp(
                jax.lax.map(lambda x, m=model, h=dt: jax.vmap(lambda y: log_transition(m, x, y, h))(grid), grid)
            )
            matrix = np.asarray(kernel).T * 0.01
            p = boltzmann
            for _ in range(round(2 / dt)):
                p = matrix @ p
            distances.append(float(np.abs(p / p.sum() - boltzmann).sum()))
        return {"found": f"{distances[0]:.5f} at dt = 0.01, {distances[1]:.5f} at 0.005", "distances": distances}

    return case


def passage(count):
    exact = mean_first_passage(lambda x: 0.5 * x**2, wavy_array, -6.0, -1.0, 1.0)
    dt, blocks, found = 0.001, 200, []
    nearer = 1.0 - 0.5826 * np.sqrt(2 * wavy_array(1.0) * dt)
    for seed, alpha in enumerate((0.0, 1.0)):
        model = DiffusionModel(harmonic, wavy, alpha)
        block_of = jax.jit(lambda key, x, m=model: simulate(key, m, x, dt, 200, integrator="point"))
        number = min(count, 6000)
        x, first = np.full((number, 1), -1.0), np.full(number, np.nan)
        for block in range(blocks):
            key = jax.random.fold_in(jax.random.key(20 + seed), block)
            path = np.asarray(block_of(key, x))[:, :, 0]
            hit = (path >= nearer).any(axis=1) & np.isnan(first)
            first[hit] = (block * 200 + (path >= nearer).argmax(axis=1)[hit] + 1) * dt
            x = path[:, -1:]
        first = np.where(np.isnan(first), blocks * 200 * dt, first)
        found.append((first.mean(), first.std() / np.sqrt(number)))
    text = "; ".join(f"α = {alpha:g}: {m:.3f} ± {e:.3f}" for alpha, (m, e) in zip((0, 1), found, strict=True))
    return {"found": f"{text}; quadrature {exact:.3f}", "exact": exact, "values": found}


CASES = {
    **{f"with the drift, α = {alpha:g}": law(alpha, consistent=True) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)},
    **{f"without the drift, α = {alpha:g}": law(alpha, consistent=False) for alpha in (0.0, 0.25, 0.5, 0.75)},
    "adjusted moves at dt = 0.3": adjusted,
    **{f"path integral, α = {alpha:g}": path_integral(alpha) for alpha in (0.0, 0.5, 1.0)},
    "mean first passage from -1 to 1": passage,
}

if __name__ == "__main__":
    main()
