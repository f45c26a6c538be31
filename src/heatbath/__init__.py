"""heatbath: equilibrium samples from the Boltzmann distribution, with honest weights.

Names are loaded when they are first used: ``import heatbath`` costs nothing and imports no JAX.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_NAMES = {
    "Ensemble": "heatbath.ensemble",
    "Estimate": "heatbath.estimate",
    "ThermoState": "heatbath.state",
    "ReducedEnergy": "heatbath.state",
    "at_temperature": "heatbath.state",
    "molecule": "heatbath.targets.molecules",
    "peptide": "heatbath.targets.molecules",
    "sample": "heatbath.samplers.sample",
}
_PACKAGES = (
    "targets",
    "models",
    "kernels",
    "samplers",
    "training",
    "estimators",
    "spaces",
    "units",
    "errors",
    "io",
    "report",
)

__all__ = [*_NAMES, *_PACKAGES, "__version__"]

if TYPE_CHECKING:
    from heatbath import errors, estimators, io, kernels, models, report, samplers, spaces, targets, training, units
    from heatbath.ensemble import Ensemble
    from heatbath.estimate import Estimate
    from heatbath.samplers.sample import sample
    from heatbath.state import ReducedEnergy, ThermoState, at_temperature
    from heatbath.targets.molecules import molecule, peptide


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"heatbath.{name}")
    else:
        raise AttributeError(f"module 'heatbath' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
