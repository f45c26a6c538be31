"""Files: run directories, checkpoints, growing arrays, provenance, and trajectories for other programs.

``export`` is loaded when it is first used: the command line reads run directories without importing JAX.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heatbath.io.trajectories import export

__all__ = ["export"]


def __getattr__(name: str):
    if name == "export":
        from heatbath.io.trajectories import export

        return export
    raise AttributeError(f"module 'heatbath.io' has no attribute {name!r}")
