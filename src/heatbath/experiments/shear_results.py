"""What the experiment rayleigh-boltzmann-shear found, beside the laws of ``kinetics.shear_theory``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from heatbath.experiments.convergence import Check
from heatbath.experiments.shear_stages import Views, starting
from heatbath.io.run_directory import json_ready
from heatbath.kinetics.shear import absorbed
from heatbath.kinetics.shear_theory import (
    MaxwellMoments,
    collision_shift,
    frozen_hazard,
    log_uniform_cdf,
    log_uniform_quantile,
    lyapunov,
    memory,
    tail_exponent,
)
from heatbath.random import named_key

#: Deviations in standard errors that a check lets pass; with some ten comparisons a false alarm once in 10 000 runs.
SIGMAS = 4.5
#: Smallest probability of a Kolmogorov-Smirnov statistic.
ODDS = 1e-4
#: Memory of the start (beyond its noise) below which the log-uniform law is expected, and width of its edges over log t.
UNIVERSAL_MEMORY, EDGE = 0.03, 2.0
#: log time from which collisions at related times are compared; with many particles later, since what is left out falls as its
#: inverse square.
ASYMPTOTIC = 40.0


def results(prepared: Any, done: Mapping[str, Any]) -> dict[str, Any] | None:
    """Section ``shear`` and a verdict; None before the first view."""
    seen = {name: (int(here.carry.step), here.carry) for name, here in done.items()}
    if seen.get("flow", (0, None))[0] == 0:
        return None
    config = prepared.config
    count, carry = seen["flow"]
    views, times = _cut(carry.views, count), np.array(config.particles.log_times[:count])
    at_rest = absorbed(carry.particles)
    moving = Views(*(array[:, ~at_rest] for array in views))
    regime = regime_of(config.collisions.gamma)
    found: dict[str, Any] = {
        "regime": regime,
        "gamma": config.collisions.gamma,
        "shear_rate": None if config.flow.gradient else config.flow.shear_rate,
        "log_times": times,
        "particles": config.particles.count,
        "collisions": views.jumps.mean(axis=1),
        "arrived": views.arrived.mean(axis=1),
        "absorbed": float(at_rest.mean()),
        "violations": int(np.asarray(carry.particles.violations).sum()),
    }
    checks = [_arrived(found), _bounded(found)]
    if config.flow.shear_rate > 0 and not config.flow.gradient:
        describe = {"growing": growing, "frozen": frozen, "moments": moments, "stationary": stationary}.get(regime)
        if describe is not None:
            made, more = describe(prepared, views if regime == "frozen" else moving, times)
            found[regime], checks = made, [*checks, *more]
    if seen.get("interval", (0, None))[0]:
        steps, other = seen["interval"]
        rest = absorbed(other.particles)
        others = Views(*(array[:, ~rest] for array in _cut(other.views, steps)))
        made, more = interval(moving, others, min(steps, count) - 1)
        found["interval"], checks = (
            made | {"factors": [config.particles.interval, config.particles.other_interval]},
            [*checks, more],
        )
    if seen.get("equilibrium", (0, None))[0]:
        made, more = equilibrium(_cut(seen["equilibrium"][1].views, 1))
        found["equilibrium"], checks = made, [*checks, more]
    failed = [check for check in checks if not check.passed]
    return json_ready(
        {
            "target": {"name": "sheared Rayleigh-Boltzmann equation", "unit": "1"},
            "method": f"{config.particles.count} particles, γ = {config.collisions.gamma:g}".replace("-", "−"),
            "estimates": {},
            "shear": found,
            "verdict": {
                "converged": not failed,
                "reasons": [check.sentence for check in failed or checks],
                "checks": [dataclasses.asdict(check) for check in checks],
                "cautions": cautions(found),
            },
        }
    )


def regime_of(gamma: float) -> str:
    """The word for what shear does at this homogeneity."""
    if gamma < -1:
        return "frozen"
    if gamma < 0:
        return "growing" if gamma > -1 else "borderline"
    return "moments" if gamma == 0 else "stationary"


def cautions(found: Mapping[str, Any]) -> list[str]:
    """What a reader must know."""
    said = []
    if found.get("absorbed"):
        said.append(
            f"{100 * found['absorbed']:.3g} % of the particles were too slow for the shear and came to rest among partners at "
            "rest; they are left out of the laws. Raise particles.speed."
        )
    if found.get("growing"):
        said.append(
            "The law is log-uniform, which is no self-similar profile: mass is spread over all scales up to t^(1/a). The flux "
            "of collisions keeps a memory of the initial law for ever; for a above 0.5 or a point-like start it is visible."
        )
    if found.get("moments"):
        said.append(
            "Beyond the critical shear rate second moments grow and the law itself still becomes stationary, with a fat tail; "
            "standard errors of second moments mean nothing there."
        )
    return said


# Checks that every run has ---------------------------------------------------------------------------------------------
def _cut(views: Views, count: int) -> Views:
    return Views(*(np.asarray(array)[:count] for array in views))


def _arrived(found: Mapping[str, Any]) -> Check:
    share = float(found["arrived"][-1])
    sentence = f"{100 * share:.4g} % of the particles arrived at the last time."
    if share < 1:
        sentence += " The others still collide at thermal speeds: escape takes very long for weak shear or small |gamma|. Raise "
        sentence += "flow.shear_rate or particles.attempts; a law that looks stationary here is no evidence."
    return Check("arrival", share == 1, sentence, share, 1.0)


def _bounded(found: Mapping[str, Any]) -> Check:
    broken = found["violations"]
    return Check("majorant", broken == 0, f"The majorant of the collision rate was exceeded {broken} times.", broken, 0)


# Regimes ---------------------------------------------------------------------------------------------------------------
def growing(prepared: Any, views: Views, times: np.ndarray) -> tuple[dict[str, Any], list[Check]]:
    """-1 < gamma < 0: log|w2| / log t against the log-uniform law, and collisions in related windows of time."""
    gamma, rate = prepared.config.collisions.gamma, prepared.config.flow.shear_rate
    late = times > 1
    rows, curves = [], []
    ends = log_uniform_quantile(np.array([0.0, 1.0]), gamma)
    for logs, signs, tau in zip(views.logs[late], views.signs[late], times[late], strict=True):
        y = logs[:, 1] / tau
        levels = np.sort(log_uniform_cdf(y, gamma))
        distance = float(stats.kstest(levels, "uniform").statistic)
        inside = y[y > 0]
        follows = (signs[:, 0] == -signs[:, 1]) & (np.abs(logs[:, 0] - logs[:, 1] - np.log(rate) - tau) < 0.5)
        rows.append(
            {
                "log_time": tau,
                "distance": distance,
                "memory": abs(memory(inside, gamma)) if inside.size else None,
                "on_line": float(follows.mean()),
            }
        )
        density, edges = np.histogram(y, np.linspace(0.8 * ends[0], 1.1 * ends[1], 61), density=True)
        curves.append({"log_time": tau, "density": density, "edges": edges})
    made = {"rows": rows, "curves": curves, "ends": ends, "constant": -1 / np.log1p(gamma)}
    if not rows:
        return made, []
    size, last = views.logs.shape[1], rows[-1]
    limit = 1.95 / np.sqrt(size) + EDGE / last["log_time"]
    checks = []
    if (last["memory"] or 0) < UNIVERSAL_MEMORY + 2 / np.sqrt(size):
        where = f"At log t = {last['log_time']:g} the law is {last['distance']:.4f} from the log-uniform one"
        sentence = f"{where} (limit {limit:.4f})."
        checks.append(Check("log-uniform law", bool(last["distance"] < limit), sentence, last["distance"], limit))
    shift = collision_shift(gamma, rate, prepared.config.collisions.angular)
    windows = related_windows(views, times, gamma, shift, last["memory"] or 0.0)
    made["windows"] = windows
    if windows:
        worst = max(abs(window["sigmas"]) for window in windows)
        sentence = f"Collisions in related windows of time agree within {worst:.1f} standard errors."
        checks.append(Check("collisions at related times", worst < SIGMAS, sentence, worst, SIGMAS))
    return made, checks


def related_windows(
    views: Views, times: np.ndarray, gamma: float, shift: float = 0.0, kept: float = 0.0
) -> list[dict[str, Any]]:
    """Pairs of windows (t1, t2) and ((1-a) t1, (1-a) t2) of log time that the views allow, with their mean collisions.

    A collision at tau is followed by one at tau / (1-a) + ``shift`` in the mean, so that each end lets (1-a) shift J through,
    J being c / tau up to the memory ``kept`` of the start. That difference is expected; what memory makes of it joins the error.
    """

    def at(tau):
        match = np.flatnonzero(np.isclose(times, tau, rtol=1e-6))
        return int(match[0]) if match.size else None

    found = []
    first_time = max(ASYMPTOTIC, 1.8 * views.jumps.shape[1] ** (1 / 3))
    for first in range(len(times) - 1):
        begin, end = (at((1 + gamma) * tau) for tau in times[first : first + 2])
        if begin is None or end is None or times[begin] < first_time:
            continue
        here = views.jumps[first + 1] - views.jumps[first]
        before = views.jumps[end] - views.jumps[begin]
        difference = (here - before).astype(float)
        slip = (1 + gamma) * shift / -np.log1p(gamma) * (1 / times[begin] - 1 / times[end])
        noise = difference.std(ddof=1) / np.sqrt(difference.size)
        error = np.hypot(noise, 2 * kept * abs(slip))
        if error > 0:
            row = {"window": times[first : first + 2], "collisions": here.mean(), "related": before.mean()}
            found.append(row | {"expected_difference": slip, "sigmas": float((difference.mean() - slip) / error)})
    return found


def frozen(prepared: Any, views: Views, times: np.ndarray) -> tuple[dict[str, Any], list[Check]]:
    """gamma < -1: collisions end, w2 freezes and w1 grows as -K w2 t."""
    config = prepared.config
    rate, gamma = config.flow.shear_rate, config.collisions.gamma
    still = (views.jumps == views.jumps[-1]).mean(axis=1)
    follows = np.abs(views.logs[-1, :, 0] - views.logs[-1, :, 1] - np.log(rate) - times[-1])
    made: dict[str, Any] = {"frozen_share": still, "deviation": float(np.nanmedian(follows))}
    if config.collisions.background != "rest":
        return made, []
    w = config.particles.speed * starting(config.particles.start, _start_key(prepared), config.particles.count)
    made["never_share"] = float((views.jumps[-1] == 0).mean())
    survival = np.exp(-_remaining(w, rate, gamma, config.collisions.strength))
    difference = (views.jumps[-1] == 0) - survival
    sigmas = float(difference.mean() / (difference.std(ddof=1) / np.sqrt(difference.size)))
    made |= {"expected_never": float(survival.mean()), "sigmas": sigmas}
    sentence = (
        f"The share that never collides is {made['never_share']:.4f}; the closed form says {survival.mean():.4f} "
    )
    sentence += f"({abs(sigmas):.1f} σ)."
    return made, [Check("particles that never collide", abs(sigmas) < SIGMAS, sentence, sigmas, SIGMAS)]


def _start_key(prepared: Any) -> Any:
    import jax

    return jax.random.fold_in(named_key(prepared.key, "stage flow"), 0)


def _remaining(w: np.ndarray, rate: float, gamma: float, strength: float) -> np.ndarray:
    """The hazard left from any start: the closed form from w1 = 0, and the part of the parabola before it, by quadrature."""
    half = frozen_hazard(w[:, 1], w[:, 2], rate, gamma, strength)
    across = np.hypot(w[:, 1], w[:, 2])
    angle = np.arctan2(w[:, 0] * np.sign(w[:, 1]), across)  # > 0: the slowest point is still ahead
    nodes, weights = np.polynomial.legendre.leggauss(48)
    theta = 0.5 * angle[:, None] * (nodes + 1)
    part = 0.5 * angle * (weights * np.cos(theta) ** (-gamma - 2)).sum(axis=1)
    return half + strength * part * across ** (1 + gamma) / (rate * np.abs(w[:, 1]))


def moments(prepared: Any, views: Views, times: np.ndarray) -> tuple[dict[str, Any], list[Check]]:
    """gamma = 0: second moments against their closed equation, thresholds and exponents."""
    config = prepared.config
    rate, strength, angular = config.flow.shear_rate, config.collisions.strength, config.collisions.angular
    law = MaxwellMoments.of(angular, strength)
    gradient = np.zeros((3, 3))
    gradient[0, 1] = rate
    rows = []
    pairs = {"11": (0, 0), "12": (0, 1), "22": (1, 1), "33": (2, 2)}
    begin = config.particles.speed * starting(config.particles.start, _start_key(prepared), config.particles.count)
    initial = begin.T @ begin / len(begin)
    for logs, signs, tau in zip(views.logs, views.signs, times, strict=True):
        w = signs * np.exp(logs)
        exact = law.at(float(np.exp(tau)), gradient, initial)
        for name, (i, j) in pairs.items():
            values = w[:, i] * w[:, j]
            error = values.std(ddof=1) / np.sqrt(values.size)
            rows.append(
                {"log_time": tau, "moment": name, "value": values.mean(), "standard_error": error, "exact": exact[i, j]}
            )
    chi = lyapunov(rate, angular, strength)
    made: dict[str, Any] = {
        "rows": rows,
        "critical_rate": law.critical_rate,
        "growth": law.growth(rate),
        "lyapunov": chi,
    }
    if chi < 0 and rate > 0.3 * law.critical_rate:
        made["tail_exponent"] = tail_exponent(rate, angular, strength, degree=16)
    if rate >= 0.7 * law.critical_rate:
        return made, []
    worst = max(abs(row["value"] - row["exact"]) / row["standard_error"] for row in rows)
    sentence = f"Second moments follow their closed equation within {worst:.1f} standard errors."
    return made, [Check("second moments", worst < SIGMAS, sentence, worst, SIGMAS)]


def stationary(prepared: Any, views: Views, times: np.ndarray) -> tuple[dict[str, Any], list[Check]]:
    """gamma > 0: the law stops changing; two halves of the particles at the last two views are compared."""
    half = views.logs.shape[1] // 2
    speeds = 0.5 * np.log(np.sum(np.exp(2 * (views.logs - views.logs.max(axis=2, keepdims=True))), axis=2))
    speeds = speeds + views.logs.max(axis=2)
    odds = float(stats.ks_2samp(speeds[-2, :half], speeds[-1, half:]).pvalue)
    w = views.signs * np.exp(views.logs)
    made = {
        "odds": odds,
        "covariance": w[-1].T @ w[-1] / w.shape[1],
        "energies": 0.5 * (w**2).sum(axis=2).mean(axis=1),
    }
    sentence = f"The speeds at the last two times follow one law (odds {odds:.2g})."
    return made, [Check("stationary state", odds > ODDS, sentence, odds, ODDS)]


# Controls --------------------------------------------------------------------------------------------------------------
def interval(views: Views, other: Views, index: int) -> tuple[dict[str, Any], Check]:
    """The same law with another interval of the thinning: every component, and the number of collisions."""
    odds = [float(stats.ks_2samp(views.logs[index, :, i], other.logs[index, :, i]).pvalue) for i in range(3)]
    counts = [v.jumps[index].astype(float) for v in (views, other)]
    error = np.sqrt(sum(c.var(ddof=1) / c.size for c in counts))
    sigmas = float((counts[0].mean() - counts[1].mean()) / error) if error > 0 else 0.0
    passed = min(odds) > ODDS and abs(sigmas) < SIGMAS
    sentence = f"Another interval of the thinning gives the same law (odds {min(odds):.2g}) "
    sentence += f"and as many collisions ({abs(sigmas):.1f} σ)."
    return {"odds": odds, "sigmas": sigmas}, Check("interval of the thinning", passed, sentence, min(odds), ODDS)


def equilibrium(views: Views) -> tuple[dict[str, Any], Check]:
    """Without flow: mean 0, covariance 1, E|w|^4 = 15."""
    w = views.signs[0] * np.exp(views.logs[0])
    values = np.column_stack([w, w[:, [0, 1, 2, 0, 0, 1]] * w[:, [0, 1, 2, 1, 2, 2]], ((w**2).sum(axis=1)) ** 2])
    expected = np.array([0.0] * 3 + [1.0] * 3 + [0.0] * 3 + [15.0])
    z = (values.mean(axis=0) - expected) / (values.std(axis=0, ddof=1) / np.sqrt(len(w)))
    worst = float(np.abs(z).max())
    sentence = f"Without flow the moments of the Maxwellian are found within {worst:.1f} standard errors."
    return {"sigmas": z}, Check("equilibrium without flow", worst < SIGMAS, sentence, worst, SIGMAS)
