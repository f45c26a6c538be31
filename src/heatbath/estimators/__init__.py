"""From draws to numbers with errors: free energies, surfaces, autocorrelation and the quality of weights.

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
}

__all__ = [
    "MBARResult",
    "Surface",
    "autocorrelation_time",
    "bar",
    "effective_sample_size",
    "energy_overlap",
    "exponential_averaging",
    "free_energy_difference",
    "free_energy_surface",
    "kish_ess",
    "mbar",
    "pareto_k",
    "pareto_smoothed_log_weights",
    "populations",
    "split_rhat",
    "thermodynamic_integration",
]

if TYPE_CHECKING:
    from heatbath.estimators.autocorrelation import autocorrelation_time, effective_sample_size, split_rhat
    from heatbath.estimators.free_energy import MBARResult, mbar
    from heatbath.estimators.overlap import energy_overlap
    from heatbath.estimators.surfaces import Surface, free_energy_difference, free_energy_surface, populations
    from heatbath.estimators.two_states import bar, exponential_averaging, thermodynamic_integration
    from heatbath.estimators.weights import kish_ess, pareto_k, pareto_smoothed_log_weights


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'heatbath.estimators' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"heatbath.estimators.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
