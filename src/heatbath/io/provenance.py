"""Where a result comes from: versions, source commit, devices, precision, command line, and each time it was driven."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import heatbath

PACKAGES = ("jax", "jaxlib", "equinox", "numpy", "scipy", "zarr", "openmm", "rdkit", "llvmlite")
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def gather(*, seed: int, argv: list[str]) -> dict[str, Any]:
    """The provenance of a run that starts now. Asks JAX for its devices, so JAX is imported here."""
    import jax

    return {
        "heatbath": heatbath.__version__,
        **source_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "packages": package_versions(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "x64": bool(jax.config.jax_enable_x64),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "seed": seed,
        "argv": argv,
        "started": now(),
        "segments": [],
    }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a number; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def source_commit() -> dict[str, Any]:
    """Commit of the source tree that heatbath runs from and whether it has changes; nulls for an installed package."""
    unknown = {"commit": None, "dirty": None}
    root = Path(heatbath.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return unknown
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {
            "commit": commit,
            "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", "src")),
        }
    except (OSError, subprocess.SubprocessError):
        return unknown


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def command_line() -> list[str]:
    """The command as the user typed it."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
