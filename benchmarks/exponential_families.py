"""How long, and how exactly, couplings of spins are inferred from samples: this package beside SciPy and scikit-learn.

    python benchmarks/exponential_families.py [--quick]

Two models (an Ising ring of 10, a random one of 12 spins), 1e5 exact independent draws, five seeds, all methods in turn on the same
draws: maximum likelihood (``infer``), the same likelihood given to ``scipy.optimize.minimize`` (BFGS with its gradient, over the table of
states), pseudo-likelihood (``pseudo_likelihood``), and one ``LogisticRegression`` of scikit-learn per spin, its two estimates of every
coupling averaged. Errors and rates of false positives are those of the estimates; times are medians over seeds.
"""

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from record import record
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from heatbath.estimators.exponential_families import Hadamard, infer, pseudo_likelihood, select, walsh_hadamard


def ring(matrix):
    numbers = matrix.up_to(2)
    wanted = {matrix.number(i): 0.21 for i in range(10)} | {matrix.number(i, (i + 1) % 10): 0.37 for i in range(10)}
    return np.array([wanted.get(int(number), 0.0) for number in numbers])


def glass(matrix):
    rng, numbers = np.random.default_rng(0), matrix.up_to(2)
    return rng.normal(size=len(numbers)) * 0.3 * (rng.random(len(numbers)) < 0.5)


def by_scipy(columns, states):
    means = np.bincount(states, minlength=len(columns)) / len(states) @ columns

    def dual(theta):
        exponents = columns @ theta
        top = exponents.max()
        weights = np.exp(exponents - top)
        total = weights.sum()
        return top + np.log(total) - theta @ means, weights @ columns / total - means

    return minimize(dual, np.zeros(columns.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-8}).x


def by_scikit(matrix, states):
    spins = matrix.configurations[states].astype(float)
    n = spins.shape[1]
    fields, couplings = np.zeros(n), np.zeros((n, n))
    for site in range(n):
        others = np.delete(np.arange(n), site)
        model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=500).fit(spins[:, others], spins[:, site] > 0)
        fields[site], couplings[site, others] = model.intercept_[0] / 2, model.coef_[0] / 2
    return in_order(matrix, fields, (couplings + couplings.T) / 2)


def in_order(matrix, fields, couplings):
    sites = [matrix.sites(int(number)) for number in matrix.up_to(2)]
    return np.array([fields[s[0]] if len(s) == 1 else couplings[s] for s in sites])


def timed(function, *arguments):
    start = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - start


def measure(name, matrix, theta, draws, seeds):
    columns = matrix.columns(matrix.up_to(2))
    weights = np.exp(columns @ theta)
    p = weights / weights.sum()
    seconds, errors = {}, {}
    covered, false, zeros, kept_zeros, largest = [], 0, 0, 0, []
    for seed in range(seeds):
        states = np.random.default_rng([1, seed]).choice(matrix.size, draws, p=p)
        fit, took = timed(infer, columns, states)
        found = {"infer": (-fit.coordinates, took)}
        found["scipy"] = timed(by_scipy, columns, states)
        other, took = timed(lambda s=states: pseudo_likelihood(matrix.configurations[s]))
        found["pseudo_likelihood"] = (in_order(matrix, other.fields, other.couplings), took)
        found["scikit-learn"] = timed(by_scikit, matrix, states)
        for method, (value, took) in found.items():
            seconds.setdefault(method, []).append(took)
            errors.setdefault(method, []).append(float(np.sqrt(np.mean((value - theta) ** 2))))
        z = (found["infer"][0] - theta) / fit.standard_errors
        covered.append(float(np.mean(np.abs(z) < 3)))
        largest.append(float(np.abs(z).max()))
        zero = theta == 0
        false += int((fit.p_values[zero] < 0.05).sum())
        kept_zeros += int(select(fit)[zero].sum())
        zeros += int(zero.sum())
    rows = [
        [
            name,
            method,
            len(theta),
            float(np.mean(errors[method])),
            float(np.median(seconds[method])),
            float(np.median(np.array(seconds[method]) / np.array(seconds["infer"]))),
        ]
        for method in seconds
    ]
    data = {
        "seconds": seconds,
        "errors": errors,
        "within_three_errors": covered,
        "largest_z": largest,
        "zeros": zeros,
        "zeros_rejected_at_five_percent": false,
        "zeros_kept_by_holm": kept_zeros,
    }
    return rows, data


def transform():
    values, times = np.random.default_rng(0).normal(size=2**20), []
    for _ in range(7):
        times.append(timed(walsh_hadamard, values)[1])
    return float(np.median(times))


def main():
    quick = "--quick" in sys.argv
    draws, seeds = (10_000, 2) if quick else (100_000, 5)
    rows, data = [], {}
    for name, spins, make in (("Ising ring", 10, ring), ("random", 12, glass)):
        matrix = Hadamard(spins)
        new, data[name] = measure(name, matrix, make(matrix), draws, seeds)
        rows += new
        print(*new, sep="\n", flush=True)
    data["walsh_hadamard_2^20_seconds"] = transform()
    total = sum(data[name]["zeros"] for name in ("Ising ring", "random"))
    false = sum(data[name]["zeros_rejected_at_five_percent"] for name in ("Ising ring", "random"))
    kept = sum(data[name]["zeros_kept_by_holm"] for name in ("Ising ring", "random"))
    within = np.mean([share for name in ("Ising ring", "random") for share in data[name]["within_three_errors"]])
    largest = max(z for name in ("Ising ring", "random") for z in data[name]["largest_z"])
    record(
        "exponential_families",
        title="Couplings of spins from samples",
        columns=["model", "method", "parameters", "root mean square error", "seconds", "time in `infer`s"],
        rows=rows,
        notes=[
            f"{draws} exact independent draws, {seeds} seeds, methods in turn on the same draws, one thread.",
            f"`infer`: {100 * within:.1f} % of all parameters within 3 of its standard errors (largest {largest:.2f}).",
            f"Of {total} parameters that are zero, {false} ({100 * false / total:.1f} %) have |z| > 1.96; "
            f"the selection at 5 % keeps {kept}.",
            "`infer` and `pseudo_likelihood` return errors; SciPy and scikit-learn return the estimates alone.",
            f"Walsh-Hadamard transform of 2^20 values: {data['walsh_hadamard_2^20_seconds']:.3f} s.",
        ],
        data=data,
    )


if __name__ == "__main__":
    main()
