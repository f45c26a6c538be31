"""The report of a run: one self-contained HTML page, made from the run directory alone.

``build(run_dir)`` is loaded when it is first used: the command line lists and shows runs without importing matplotlib.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heatbath.report.writer import build

__all__ = ["build"]


def __getattr__(name: str):
    if name == "build":
        from heatbath.report.writer import build

        return build
    raise AttributeError(f"module 'heatbath.report' has no attribute {name!r}")
