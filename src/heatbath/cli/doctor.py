"""``heatbath doctor``: is this installation fit to be trusted?"""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from heatbath.cli.options import Json


def doctor(*, json: Json = False) -> int:
    """Check versions, devices, precision, known compiler errors, the CPU kernel, memory and disk.

    Leaves with code 1 when JAX computes something wrong that heatbath relies on.
    """
    from heatbath.cli.output import print_json, print_table
    from heatbath.cli.runtime import prepare_jax

    prepare_jax()
    from heatbath.cli.canary import sing

    facts, canaries = examine(), sing()
    sound = all(canary.right for canary in canaries if canary.fatal)
    if json:
        checks = [{"name": c.name, "right": c.right, "fatal": c.fatal, "sentence": c.sentence} for c in canaries]
        print_json({**facts, "canaries": checks, "sound": sound})
    else:
        print_table([[name, _shown(value)] for name, value in facts.items()])
        print("\ncomputations that some releases of JAX get wrong")
        print_table([[f"  {canary.name}", canary.sentence] for canary in canaries])
        print("\n" + ("fit for use" if sound else "NOT fit for use: see WRONG above"))
    return 0 if sound else 1


def examine() -> dict[str, Any]:
    """Versions, devices, precision, kernel, memory, disk and cache, as plain data."""
    import jax

    import heatbath
    from heatbath.cli.runtime import compilation_cache
    from heatbath.io import provenance

    return {
        "heatbath": heatbath.__version__,
        "python": platform.python_version(),
        "packages": provenance.package_versions(),
        "processor": provenance.cpu_name(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "64-bit": bool(jax.config.jax_enable_x64),
        "CPU kernel": _cpu_kernel(),
        "memory": _memory(),
        "disk here": shutil.disk_usage(Path.cwd()).free,
        "compilation cache": str(compilation_cache() or "not writable, so programs are compiled anew each time"),
    }


def _cpu_kernel() -> str:
    """Whether molecules run on compiled code, tried on a real one; otherwise what is used and why."""
    try:
        from heatbath.targets import molecules
        from heatbath.targets.molecules import cpu_kernel

        target = molecules.molecule("alanine-dipeptide")
        reason = cpu_kernel.unsupported(target.terms)
        if reason is None:
            import jax

            energy = float(jax.jit(lambda x: target.energy(x))(target.positions))
            return f"available (alanine dipeptide: {energy:.3f} kJ/mol)"
    except Exception as error:  # whatever is wrong with it belongs into the answer
        reason = f"{type(error).__name__}: {error}"
    return f"not used, XLA code instead: {reason}"


def _memory() -> int | None:
    """Bytes of memory that are free for new programs, where the system tells it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None


def _shown(value: Any) -> str:
    from heatbath.cli.output import size

    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value > 10_000:
        return f"{size(value)} free"
    return "unknown" if value is None else str(value)
