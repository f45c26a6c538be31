"""What is sampled: energy functions on spaces, most of them with exact answers.

``toy`` (small continuous targets), ``lattice`` and ``spins``, ``clusters`` and ``liquids`` (particles), ``molecules``
(force fields), ``registry`` (their names).

Modules are loaded when they are first used, so that the names can be read without importing JAX.
"""

import importlib
from typing import TYPE_CHECKING

_MODULES = ("base", "clusters", "lattice", "liquids", "mixtures", "molecules", "quadrature", "registry", "spins", "toy")
_NAMES = {"Target": "base", "Observable": "base"}

__all__ = [
    "Observable",
    "Target",
    "base",
    "clusters",
    "lattice",
    "liquids",
    "mixtures",
    "molecules",
    "quadrature",
    "registry",
    "spins",
    "toy",
]

if TYPE_CHECKING:
    from heatbath.targets import base, clusters, lattice, liquids, mixtures, molecules, quadrature, registry, spins, toy
    from heatbath.targets.base import Observable, Target


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(f"heatbath.targets.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"heatbath.targets.{name}")
    else:
        raise AttributeError(f"module 'heatbath.targets' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
