"""A small replica exchange, alone or spread over devices or processes; writes its draws. Run by test_sharding.py.

python sharded_program.py TARGET OUT [PROCESSES RANK PORT]
"""

import os
import sys

import numpy as np


def main(name: str, out: str, processes: int = 1, rank: int = 0, port: int = 0) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", os.environ["HEATBATH_TEST_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=processes, process_id=rank)
    from heatbath.samplers import ladder_mesh, run_to_end

    mesh = ladder_mesh() if len(jax.devices()) > 1 else None
    results = {"devices": len(jax.devices()), "processes": jax.process_count()}
    for label, sampler in samplers(name, mesh).items():
        sampled = run_to_end(sampler, jax.random.key(3))
        results[f"{label}_samples"] = np.asarray(sampled.ensemble.samples)
        results[f"{label}_log_weights"] = np.asarray(sampled.ensemble.log_weights)
        for number in ("betas", "swap_acceptance", "energies", "step_sizes"):
            results[f"{label}_{number}"] = np.asarray(sampled.diagnostics[number])
    if rank == 0:
        np.savez(out, **results)
    if processes > 1:
        jax.distributed.shutdown()


def samplers(name: str, mesh) -> dict:
    """Replica exchange of a named target: with a warm-up, and (short) without one."""
    import jax.numpy as jnp

    from heatbath.kernels import HMC
    from heatbath.samplers import make_sampler
    from heatbath.state import at_temperature
    from heatbath.targets import registry

    target = registry.make(name)
    state = at_temperature(target, registry.get(name).temperature)
    common = {"ladders": 8, "rungs": 3, "thin": 2, "mesh": mesh}
    found = {"warmed": make_sampler(target, state, samples=800, warmup=100, **common)}
    if name == "double-well":
        kernel = HMC(jnp.asarray(0.1), num_steps=2)
        found["fixed"] = make_sampler(target, state, samples=40, warmup=0, kernel=kernel, **common)
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
