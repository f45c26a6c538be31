"""Sections of results.json as runs with generators write them, from small random draws: for the page only, no physics."""

import numpy as np

PHI_PSI = {"labels": ["phi (Ala 2)", "psi (Ala 2)"], "units": ["rad", "rad"], "period": [2 * np.pi, 2 * np.pi]}


def value(number, error=None):
    return {"value": number, "standard_error": error}


def surface(rng, shift, draws=40_000):
    """Free energy of two wrapped Gaussian basins; unvisited cells are null."""
    centres = np.array([[-1.5, 2.6], [-1.3, -0.4], [1.0, 0.7]]) + shift
    chosen = rng.choice(3, p=[0.6, 0.37, 0.03], size=draws)
    angles = (centres[chosen] + 0.35 * rng.standard_normal((draws, 2)) + np.pi) % (2 * np.pi) - np.pi
    edges = np.linspace(-np.pi, np.pi, 49)
    counts = np.histogram2d(*angles.T, (edges, edges))[0]
    with np.errstate(divide="ignore"):
        energy = -np.log(counts / counts.max())
    rows = [[float(cell) if np.isfinite(cell) else None for cell in row] for row in energy]
    return {**PHI_PSI, "edges": [edges.tolist()] * 2, "free_energy": rows}


def generator():
    rng = np.random.default_rng(5)
    edges = np.linspace(-60, 20, 61)
    density = lambda centre, width: np.exp(-0.5 * ((edges[1:] - centre) / width) ** 2)  # noqa: E731
    heaviest = np.sort(rng.lognormal(0, 1.3, 10_000))[::-1]
    share, picks = np.cumsum(heaviest) / heaviest.sum(), np.unique(np.geomspace(1, 10_000, 80).astype(int))
    step, checks = np.arange(0, 20_000, 100), np.arange(0, 20_000, 1000)
    loss = -150 - 60 * (1 - np.exp(-step / 3000)) + rng.standard_normal(200)
    return {
        "model": {
            "kind": "transformer-flow",
            "parameters": 1_954_304,
            "training_steps": 20_000,
            "training_seconds": 2700.0,
            "seed": 3,
        },
        "metrics": [
            {
                "name": "energy W2",
                "unit": "kT",
                "unweighted": value(9.31, 0.21),
                "reweighted": value(0.41, 0.09),
                "smc": value(0.33, 0.05),
                "floor": value(0.19, 0.04),
            },
            {
                "name": "torus W2",
                "unit": "rad",
                "unweighted": value(0.52, 0.02),
                "reweighted": value(0.41, 0.03),
                "smc": None,
                "floor": value(0.35, 0.01),
            },
            {
                "name": "Jensen-Shannon divergence, phi and psi",
                "unit": "1",
                "unweighted": value(0.031, 0.002),
                "reweighted": value(0.012, 0.001),
                "smc": value(0.011, 0.001),
                "floor": value(0.008, None),
            },
        ],
        "ess": {
            "draws": 10_000,
            "raw": 1843.0,
            "fraction": 0.1843,
            "cut": 0.002,
            "fraction_after_cut": 0.243,
            "pareto_k": 0.52,
            "forward_fraction": 0.171,
        },
        "weights": {"draws": (picks / 10_000).tolist(), "share": share[picks - 1].tolist()},
        "training": {
            "step": step.tolist(),
            "loss": loss.tolist(),
            "validation_step": checks.tolist(),
            "validation_loss": (loss[::10] + 2).tolist(),
            "validation_forward_ess": (0.15 * (1 - np.exp(-checks / 6000))).tolist(),
            "validation_ess": (0.2 * (1 - np.exp(-checks / 6000))).tolist(),
        },
        "energies": {
            "edges": edges.tolist(),
            "reference": density(-30, 5).tolist(),
            "model": density(-18, 9).tolist(),
            "reweighted": density(-29.8, 5.2).tolist(),
            "unit": "kT",
        },
        "ramachandran": {
            "model": surface(rng, 0.1),
            "reweighted": surface(rng, 0.0, 6000),
            "reference": surface(rng, 0.0, 90_000),
        },
        "stereochemistry": {
            "frames": 10_000,
            "inverted_centres": 31,
            "flipped_peptide_bonds": 2,
            "weight_inverted": 0.0,
            "weight_flipped": 0.0001,
        },
        "literature": {
            "columns": ["method", "efficiency", "energy W2 (kT)", "torus W2 (rad)"],
            "rows": [["SBG", "0.030 ± 0.012", "0.873 ± 0.338", None], ["FALCON", "0.067", "0.225", "0.402"]],
            "note": "Other data, other force-field settings: not the same measurement.",
        },
    }


def flow_perturbation():
    names = [
        "exact Jacobian",
        "flow perturbation, 20 steps",
        "flow perturbation, 1 step",
        "Hutchinson, 1 probe",
        "Hutchinson, 10 probes",
    ]
    shares = [0.251, 0.248, 0.27, 0.13, 0.235]
    rows = [
        {
            "name": name,
            "unbiased_weight": i < 3,
            "log_z": value([0.001, 0.003, -0.1, 0.9, 0.12][i], 0.01 + 0.03 * (i == 2)),
            "mode_weight": value(shares[i], 0.004 + 0.01 * (i == 2)),
            "mean_energy": value(5.0 + 0.1 * i, 0.05),
            "ess": [0.8, 0.62, 0.02, 0.01, 0.4][i],
            "variance_log_w": [0.2, 0.5, 9.0, 4.1, 1.2][i],
            "cost": [10.2, 2.1, 1.4, 1.3, 4.4][i],
        }
        for i, name in enumerate(names)
    ]
    dimensions = [10, 30, 100, 300, 1000]
    ratios = {
        "exact Jacobian": [6, 14, 40, 120, None],
        "flow perturbation, 20 steps": [2.0, 2.1, 2.0, 2.2, 2.1],
        "Hutchinson, 1 probe": [1.9, 2.0, 1.9, 2.0, 2.0],
    }
    return {
        "dimension": 10,
        "log_jacobians": rows,
        "exact": {"log_z": 0.0, "mode_weight": 0.25, "mean_energy": 5.0},
        "cost_by_dimension": {"dimensions": dimensions, "ratios": ratios},
    }


def steerable():
    rows = [
        {
            "temperature": 300.0,
            "ess": 0.031,
            "delta_f": value(3.72, 0.11),
            "population": value(0.0235, 0.0026),
            "reference": value(3.81, 0.04),
        },
        {
            "temperature": 450.0,
            "ess": 0.22,
            "delta_f": value(3.0, 0.05),
            "population": value(0.047, 0.002),
            "reference": value(2.96, 0.03),
        },
        {
            "temperature": 600.0,
            "ess": 0.41,
            "delta_f": value(2.61, 0.03),
            "population": value(0.069, 0.002),
            "reference": value(2.6, 0.02),
        },
        {
            "temperature": 1000.0,
            "ess": 0.17,
            "delta_f": value(1.9, 0.04),
            "population": value(0.13, 0.004),
            "reference": None,
        },
    ]
    exchange = {"plain": value(41.0, 3.0), "flow": value(160.0, 12.0), "factor": value(3.9, 0.4)}
    return {"trained_at": 600.0, "unit": "K", "temperatures": rows, "identity_std": 3.1e-11, "exchange": exchange}


def all_sections():
    return {"generator": generator(), "flow_perturbation": flow_perturbation(), "steerable": steerable()}
