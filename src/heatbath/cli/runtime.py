"""What the command line switches on before JAX is used: 64-bit arithmetic and the persistent compilation cache."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

from heatbath.io.provenance import cpu_name


def prepare_jax() -> None:
    """Configure JAX for a command; call it before anything is computed. What the user configured already stays."""
    import jax

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003 - JAX takes it by position
    if jax.config.jax_compilation_cache_dir is None and (folder := compilation_cache()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache() -> Path | None:
    """Folder of compiled programs, one per kind of processor (machine code of one may not run on another); None if unwritable."""
    with contextlib.suppress(OSError, RuntimeError):
        folder = user_cache() / "jax" / f"{platform.machine()}-{_cpu_key()}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return None


def user_cache() -> Path:
    """Where this user's caches live; ``HEATBATH_CACHE_DIR`` overrides."""
    if chosen := os.environ.get("HEATBATH_CACHE_DIR"):
        return Path(chosen)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "heatbath"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heatbath"


def _cpu_key() -> str:
    flags = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                flags = line
                break
    return hashlib.sha256(f"{cpu_name()} {flags}".encode()).hexdigest()[:10]
