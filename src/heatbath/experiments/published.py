"""Published results of Boltzmann generators on peptides, to stand beside our own.

Only rows whose values were read in a third party's reproduction of the papers' tables are here; cells without such a source are
empty. Metrics are those of arXiv 2502.18462: efficiency (Kish) after dropping the largest 0.2 % of the weights, energy
Wasserstein-2 in kT on 10 000 draws, torus Wasserstein-2 in radians; mean and spread over three training seeds.
"""

from typing import Any

COLUMNS = ("method", "efficiency", "energy W2 (kT)", "torus W2 (rad)")
NOTE = (
    "Values of Tan et al., arXiv 2502.18462 (ECNF++, sequential Boltzmann generator) and of FALCON (ICLR 2026), read in "
    "third-party reproductions of their tables and not checked against the papers; empty cells have no such source. "
    "Efficiencies are after dropping the largest 0.2 % of the weights; models have 10 to 100 million parameters and were trained "
    "on GPUs; trajectories are the authors' own, in the force field and at the temperature of this system."
)

_ROWS: dict[str, tuple[tuple[str | None, ...], ...]] = {
    "alanine-dipeptide": (
        ("ECNF++", "0.275", "0.914 ± 0.122", "0.189 ± 0.019"),
        ("SBG, importance sampling", "0.030 ± 0.012", "0.873 ± 0.338", "0.439 ± 0.129"),
        ("FALCON", "0.067", "0.225", "0.402"),
        ("FALCON-A", "0.097", "0.512", "0.180"),
    ),
    "aaa": (
        ("ECNF++", "0.003", "2.206 ± 0.813", None),
        ("SBG, importance sampling", "0.052", "0.758", None),
        ("FALCON", "0.077", "0.544 ± 0.013", None),
    ),
    "ace-aaa-nme": (
        ("ECNF++", "0.006", "5.638 ± 0.483", None),
        ("SBG, importance sampling", "0.046", "1.068", None),
        ("FALCON", "0.055", "0.686 ± 0.047", None),
    ),
    "aaaaaa": (
        ("ECNF++", None, "10.668 ± 0.285", None),
        ("SBG, importance sampling", "0.034", "1.021", None),
        ("FALCON", "0.060", "0.892 ± 0.311", None),
    ),
}


def literature(system: str) -> dict[str, Any]:
    """``{"columns", "rows", "note"}`` for a reference system; empty where nothing is known."""
    if system not in _ROWS:
        return {}
    return {"columns": list(COLUMNS), "rows": [list(row) for row in _ROWS[system]], "note": NOTE}
