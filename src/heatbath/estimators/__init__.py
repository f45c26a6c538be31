"""From draws to numbers with errors: free energies, surfaces, distances, autocorrelation and the quality of weights.

Everything runs on the host in float64 NumPy. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

_NAMES = {
    "mbar": "free_energy",
    "MBARResult": "free_energy",
    "bar": "two_states",
    "exponential_averaging": "two_states",
    "thermodynamic_integration": "two_states",
    "free_energy_surface": "surfaces",
    "Surface": "surfaces",
    "populations": "surfaces",
    "free_energy_difference": "surfaces",
    "autocorrelation_time": "autocorrelation",
    "effective_sample_size": "autocorrelation",
    "split_rhat": "autocorrelation",
    "pareto_k": "weights",
    "kish_ess": "weights",
    "pareto_smoothed_log_weights": "weights",
    "energy_overlap": "overlap",
    "kish_ess_after_cut": "weights",
    "forward_ess": "forward",
    "energy_wasserstein": "wasserstein",
    "torus_wasserstein": "wasserstein",
    "euclidean_wasserstein": "wasserstein",
    "tica_wasserstein": "wasserstein",
    "Tica": "tica",
    "fit_tica": "tica",
    "ramachandran_jsd": "ramachandran",
    "metric_floor": "floors",
    "Divergence": "divergences",
    "divergence": "divergences",
    "DivergenceBound": "divergence_bounds",
    "divergence_bound": "divergence_bounds",
    "metric_with_error": "floors",
    "GeneralizedEnsemble": "exponential_families",
    "MasterEquation": "exponential_families",
    "minimum_kl": "exponential_families",
    "infer": "exponential_families",
    "cycle_test": "exponential_families",
    "pair_symmetry_test": "exponential_families",
}

__all__ = [
    "Divergence",
    "DivergenceBound",
    "GeneralizedEnsemble",
    "MBARResult",
    "MasterEquation",
    "Surface",
    "Tica",
    "autocorrelation_time",
    "bar",
    "cycle_test",
    "divergence",
    "divergence_bound",
    "effective_sample_size",
    "energy_overlap",
    "energy_wasserstein",
    "euclidean_wasserstein",
    "exponential_averaging",
    "fit_tica",
    "forward_ess",
    "free_energy_difference",
    "free_energy_surface",
    "infer",
    "kish_ess",
    "kish_ess_after_cut",
    "mbar",
    "metric_floor",
    "metric_with_error",
    "minimum_kl",
    "pair_symmetry_test",
    "pareto_k",
    "pareto_smoothed_log_weights",
    "populations",
    "ramachandran_jsd",
    "split_rhat",
    "thermodynamic_integration",
    "tica_wasserstein",
    "torus_wasserstein",
]

if TYPE_CHECKING:
    from heatbath.estimators.autocorrelation import autocorrelation_time, effective_sample_size, split_rhat
    from heatbath.estimators.divergence_bounds import DivergenceBound, divergence_bound
    from heatbath.estimators.divergences import Divergence, divergence
    from heatbath.estimators.exponential_families import (
        GeneralizedEnsemble,
        MasterEquation,
        cycle_test,
        infer,
        minimum_kl,
        pair_symmetry_test,
    )
    from heatbath.estimators.floors import metric_floor, metric_with_error
    from heatbath.estimators.forward import forward_ess
    from heatbath.estimators.free_energy import MBARResult, mbar
    from heatbath.estimators.overlap import energy_overlap
    from heatbath.estimators.ramachandran import ramachandran_jsd
    from heatbath.estimators.surfaces import Surface, free_energy_difference, free_energy_surface, populations
    from heatbath.estimators.tica import Tica, fit_tica
    from heatbath.estimators.two_states import bar, exponential_averaging, thermodynamic_integration
    from heatbath.estimators.wasserstein import (
        energy_wasserstein,
        euclidean_wasserstein,
        tica_wasserstein,
        torus_wasserstein,
    )
    from heatbath.estimators.weights import kish_ess, kish_ess_after_cut, pareto_k, pareto_smoothed_log_weights


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'heatbath.estimators' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"heatbath.estimators.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
