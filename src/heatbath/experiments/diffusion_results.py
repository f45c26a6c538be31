"""What the experiment state-dependent-diffusion found: laws of every convention, exact moves, estimates from paths, grids."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from heatbath.estimators.stationarity import stationarity
from heatbath.experiments.convergence import Check
from heatbath.experiments.diffusion_stages import Model
from heatbath.io.run_directory import json_ready
from heatbath.kinetics.fokker_planck import fokker_planck, mean_first_passage
from heatbath.kinetics.kramers_moyal import kramers_moyal
from heatbath.kinetics.position_dependent import DiffusionModel

#: Deviations that a check lets pass, and those at which a wrong law counts as found out.
ACCEPTED, REJECTED = 4.5, 10.0
#: Cells of the figures, and cells of the finite-volume solver.
HISTOGRAM, CELLS = 60, 4000
#: Relative accuracy of relaxation rates on the grid, extrapolated from two grids.
RATE_TOLERANCE = 1e-4
#: Root mean square deviation, in standard errors, of coefficients estimated in bins.
BINS, ROOT_MEAN_SQUARE = 12, 2.0


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``diffusion`` and a verdict; None before a first stage is complete."""
    finished = {name: here.carry for name, here in done.items() if here.finished}
    if "with-drift" not in finished:
        return None
    model, config = prepared.model, prepared.config
    found: dict[str, Any] = {"model": model.label, "name": config.model.name, "coefficient": profile(model)}
    checks: list[Check] = []
    for name in ("with-drift", "without-drift"):
        if name in finished:
            made, more = laws(model, prepared.runs[name], finished[name], with_drift=name == "with-drift")
            found[name.replace("-", "_")], checks = made, [*checks, *more]
    if "adjusted" in finished:
        found["adjusted"], more = adjusted(
            model, prepared.runs["adjusted"], finished["adjusted"], config.dynamics.coarse
        )
        checks = [*checks, *more]
    if "paths" in finished:
        found["paths"], more = paths(model, prepared.runs["paths"], finished["paths"])
        checks = [*checks, *more]
    if model.exact is not None:
        found["rates"], more = rates(model)
        checks = [*checks, more]
    if config.model.name == "wavy":
        found["passage"] = mean_first_passage(model.energies, model.coefficients, model.low, -1.0, 1.0)
    failed = [check for check in checks if not check.passed]
    return json_ready(
        {
            "target": {"name": model.label, "dimension": 1, "unit": "1"},
            "method": f"{config.dynamics.particles} particles, {len(config.dynamics.alphas)} conventions",
            "estimates": {},
            "diffusion": found,
            "verdict": {
                "converged": not failed,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": [
                    "Runs called 'without drift' are wrong on purpose: they show the law that is sampled when the drift of "
                    "its convention is left out."
                ],
            },
        }
    )


def profile(model: Model) -> dict[str, Any]:
    """D(x) and the Boltzmann density where most of it is."""
    low, high = middle(model)
    x = np.linspace(low, high, 200)
    return {"x": x, "diffusivity": model.coefficients(x), "density": slope(model.cdf(), x)}


def middle(model: Model) -> tuple[float, float]:
    """The range that holds 99.6 % of the Boltzmann distribution."""
    grid = np.linspace(model.low, model.high, 200_001)
    levels = np.asarray(model.cdf()(grid))
    low, high = (float(grid[np.searchsorted(levels, p)]) for p in (0.002, 0.998))
    return low, high


def slope(cdf: Any, x: np.ndarray) -> np.ndarray:
    """The density, from differences of the distribution function."""
    step = 1e-4 * (x[-1] - x[0])
    return (np.asarray(cdf(x + step)) - np.asarray(cdf(x - step))) / (2 * step)


# Parts ----------------------------------------------------------------------------------------------------------------
def laws(model: Model, run: Any, carry: Any, *, with_drift: bool) -> tuple[list[dict[str, Any]], list[Check]]:
    """The final law of every convention against Boltzmann's, and without the drift against what it should be instead."""
    rows, checks = [], []
    low, high = middle(model)
    edges = np.linspace(low, high, HISTOGRAM + 1)
    for variant, positions in zip(run.variants, np.asarray(carry.positions), strict=True):
        draws = positions[:, -1]
        boltzmann = stationarity(draws, model.cdf())
        row = {
            "alpha": variant.alpha,
            "from_boltzmann": boltzmann.sigmas,
            "distance": boltzmann.distance,
            "edges": edges,
            "density": np.histogram(draws, edges)[0] / (draws.size * np.diff(edges)),
        }
        if with_drift:
            sentence = f"α = {variant.alpha:g} with its drift: χ² {signed(boltzmann.sigmas)} σ from Boltzmann's law."
            passed = boltzmann.sigmas < ACCEPTED
            checks.append(Check(f"Boltzmann at alpha {variant.alpha:g}", passed, sentence, boltzmann.sigmas, ACCEPTED))
        elif variant.alpha < 1 and normalisable(model, variant.alpha):
            wrong = model.cdf(variant.alpha)
            expected = stationarity(draws, wrong)
            centres = 0.5 * (edges[1:] + edges[:-1])
            row |= {"from_expected": expected.sigmas, "expected": slope(wrong, centres)}
        rows.append(row)
    worst = [row["from_boltzmann"] for row in rows if row["alpha"] <= 0.5]
    if not with_drift and worst and model.exact is None:
        sentence = f"Without the drift, conventions up to 1/2 are at least {min(worst):.0f} σ from Boltzmann's law."
        checks.append(Check("wrong law found out", min(worst) > REJECTED, sentence, min(worst), REJECTED))
    return rows, checks


def signed(sigmas: float) -> str:
    """A χ² as a normal deviate: below 0 the draws are closer than they are on average."""
    return f"{sigmas:+.1f}".replace("-", "−")


def normalisable(model: Model, alpha: float) -> bool:
    """Whether D^-(1 - alpha) exp(-u) has a finite integral: a D that vanishes at a wall can make it diverge."""
    near = model.coefficients(np.array([model.low + 1e-6 * (model.high - model.low)]))[0]
    return bool(near > 1e-4 or model.exact is None)


def adjusted(model: Model, run: Any, carry: Any, coarse: float) -> tuple[dict[str, Any], list[Check]]:
    """Metropolis-adjusted moves at a large step, and Euler's at the same step."""
    draws = {
        variant.integrator: positions[:, -1]
        for variant, positions in zip(run.variants, np.asarray(carry.positions), strict=True)
    }
    exact = stationarity(draws["adjusted"], model.cdf())
    usable = np.isfinite(draws["euler"])
    euler = stationarity(draws["euler"][usable], model.cdf()) if usable.mean() > 0.9 else None
    made = {
        "step": run.variants[0].time_step,
        "factor": coarse,
        "acceptance": float(np.asarray(carry.acceptance)[0]),
        "sigmas": exact.sigmas,
        "euler_sigmas": None if euler is None else euler.sigmas,
    }
    sentence = f"Adjusted moves at {coarse:g} times the step: χ² {signed(exact.sigmas)} σ from Boltzmann's law."
    return made, [Check("no bias of the step", exact.sigmas < ACCEPTED, sentence, exact.sigmas, ACCEPTED)]


def paths(model: Model, run: Any, carry: Any) -> tuple[dict[str, Any], list[Check]]:
    """D(x) and drifts estimated from trajectories, with the model's beside them."""
    low, high = middle(model)
    width = high - low
    edges = np.linspace(low + 0.1 * width, high - 0.1 * width, BINS + 1)
    made: dict[str, Any] = {}
    checks = []
    for variant, positions in zip(run.variants, np.asarray(carry.positions), strict=True):
        found = kramers_moyal(positions, variant.time_step * run.every, edges)
        exact = coefficients(model, found.centres, consistent=variant.consistent)
        z = (found.diffusivity - exact[0]) / found.diffusivity_error, (found.drift - exact[1]) / found.drift_error
        name = "consistent" if variant.consistent else "naive"
        made[name] = dataclasses.asdict(found) | {"exact_diffusivity": exact[0], "exact_drift": exact[1]}
        if variant.consistent:
            deviation = [float(np.sqrt(np.nanmean(part**2))) for part in z]
            for word, value in zip(("D(x)", "the drift"), deviation, strict=True):
                sentence = f"{word[0].upper()}{word[1:]} estimated from trajectories is {value:.1f} standard errors "
                sentence += "(root mean square) from the model."
                checks.append(Check(f"{word} from data", value < ROOT_MEAN_SQUARE, sentence, value, ROOT_MEAN_SQUARE))
        else:
            right = coefficients(model, found.centres, consistent=True)[1]
            made["naive_from_consistent"] = float(np.sqrt(np.nanmean(((found.drift - right) / found.drift_error) ** 2)))
    return made, checks


def coefficients(model: Model, x: np.ndarray, *, consistent: bool) -> tuple[np.ndarray, np.ndarray]:
    """D and the Ito drift of convention 0 at ``x``."""
    import jax
    import jax.numpy as jnp

    diffusion = DiffusionModel(model.u, model.diffusivity, 0.0, consistent=consistent)
    drift = jax.vmap(lambda y: diffusion.ito_drift(y[None])[0])(jnp.asarray(x))
    return model.coefficients(x), np.asarray(drift)


def rates(model: Model) -> tuple[dict[str, Any], Check]:
    """Relaxation rates on a grid beside the exact ones."""
    found = []
    for cells in (CELLS // 2, CELLS):
        found.append(fokker_planck(model.energies, model.coefficients, grid_of(model, cells)).eigenvalues(3))
    values = (4 * found[1] - found[0]) / 3
    exact = model.exact.rates(3)  # pyright: ignore[reportOptionalMemberAccess]
    error = float(np.abs(values[1:] / exact[1:] - 1).max())
    sentence = f"Relaxation rates of the Fokker-Planck operator agree with the exact ones to {error:.1g}."
    return {"values": values, "exact": exact}, Check(
        "relaxation rates", error < RATE_TOLERANCE, sentence, error, RATE_TOLERANCE
    )


def grid_of(model: Model, cells: int) -> np.ndarray:
    """Edges that are fine where D or the density changes fast."""
    s = np.linspace(-1, 1, cells + 1)
    if np.isfinite(model.exact.domain[0]):  # pyright: ignore[reportOptionalMemberAccess]
        if np.isfinite(model.exact.domain[1]):  # pyright: ignore[reportOptionalMemberAccess]
            return np.sin(0.5 * np.pi * s)
        return model.high * (0.5 * (s + 1)) ** 2
    return np.sinh(8 * s)
