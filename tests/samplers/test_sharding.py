"""Ladders spread over two devices, and over two processes, give the statistics of one device."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("sharded_program.py")
CACHE = Path(__file__).parents[2] / ".cache" / "jax"


def start(name: str, out: Path, *arguments: int, devices: int = 1) -> subprocess.Popen:
    environment = dict(os.environ, HEATBATH_TEST_CACHE=str(CACHE), JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="3")
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(PROGRAM), name, str(out), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_three_ways(name: str, folder: Path) -> tuple[dict, dict, dict]:
    """One device; two devices of one process; two processes with a device each."""
    port = free_port()
    programs = [
        start(name, folder / "one.npz"),
        start(name, folder / "two.npz", devices=2),
        start(name, folder / "processes.npz", 2, 0, port),
        start(name, folder / "unused.npz", 2, 1, port),
    ]
    try:
        for program in programs:
            output, _ = program.communicate(timeout=500)
            assert program.returncode == 0, output[-3000:]
    finally:
        for program in programs:
            program.kill()
    one, two, processes = (dict(np.load(folder / f"{label}.npz")) for label in ("one", "two", "processes"))
    assert (one["devices"], two["devices"], processes["devices"]) == (1, 2, 2)
    assert (one["processes"], two["processes"], processes["processes"]) == (1, 1, 2)
    return one, two, processes


def check_same_statistics(one: dict, other: dict):
    """Mean energies of every rung agree within 5 combined standard errors (spread over 8 ladders; false alarms 1e-3)."""
    np.testing.assert_allclose(other["warmed_betas"], one["warmed_betas"], rtol=0.1)
    np.testing.assert_allclose(other["warmed_step_sizes"], one["warmed_step_sizes"], rtol=0.2)
    np.testing.assert_allclose(other["warmed_swap_acceptance"], one["warmed_swap_acceptance"], atol=0.1)
    means = [run["warmed_energies"].astype(np.float64).mean(axis=0) for run in (one, other)]
    errors = [mean.std(axis=0, ddof=1) / np.sqrt(len(mean)) for mean in means]
    z = (means[0].mean(axis=0) - means[1].mean(axis=0)) / np.hypot(*errors)
    assert (np.abs(z) < 5).all(), f"mean energies differ by {z.round(1)} standard errors"


@pytest.fixture(scope="module")
def double_well(tmp_path_factory):
    return run_three_ways("double-well", tmp_path_factory.mktemp("sharding"))


def test_two_devices_and_two_processes_are_the_same_run(double_well):
    """Where ladders live must not matter: a difference would mean that they exchange something they should not."""
    _, two, processes = double_well
    for name in two:
        if name not in ("devices", "processes"):
            np.testing.assert_array_equal(two[name], processes[name], err_msg=name)


def test_spread_ladders_follow_the_single_device(double_well):
    """The first draws agree to rounding (later ones part, as chaotic trajectories do); the statistics agree in the end."""
    one, two, _ = double_well
    np.testing.assert_allclose(two["fixed_samples"][:, :9], one["fixed_samples"][:, :9], atol=1e-9)
    check_same_statistics(one, two)


def test_the_comparison_notices_another_temperature(double_well):
    """Negative control: energies of the neighbouring rung must not pass for those of this one."""
    one, two, _ = double_well
    shifted = dict(two, warmed_energies=np.roll(two["warmed_energies"], 1, axis=2))
    with pytest.raises(AssertionError, match="standard errors"):
        check_same_statistics(one, shifted)


@pytest.mark.slow
def test_alanine_dipeptide_spreads_too(tmp_path):
    """The main job's molecule, whose energy is a custom call that only a map over devices can split."""
    if importlib.util.find_spec("openmm") is None:
        pytest.skip("needs the extra 'molecules'")
    one, two, processes = run_three_ways("alanine-dipeptide", tmp_path)
    np.testing.assert_array_equal(two["warmed_energies"], processes["warmed_energies"])
    check_same_statistics(one, two)
