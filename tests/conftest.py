"""Settings of every test: 64-bit arithmetic, annotations executed, one shared compilation cache."""

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA logs a harmless page-long line per cached executable.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most of the suite's time is compiling: machine code is left unoptimised, here and in the commands that tests start.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("heatbath", "beartype.beartype")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


#: A worker that holds more than this after a file forgets its compiled programs; the cache on disk has them.
MEMORY_LIMIT = 2.5e9


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Compiled programs are kept for good, and those of the whole suite would not fit into memory."""
    yield
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    resident = sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    if resident > MEMORY_LIMIT:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key():
    """A fixed key; fold in a name to make it yours."""
    return jax.random.key(20240)


def pytest_addoption(parser):
    parser.addoption("--record", default=None, help="write the outcomes of this session to results/NAME.json")


class Recorder:
    """Collects outcomes, durations and recorded figures of a session (``make validate``); tests that did not run keep theirs."""

    def __init__(self, name):
        self.name, self.found = name, {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            figures = "; ".join(f"{key} {value}" for key, value in report.user_properties)
            outcome = {"outcome": report.outcome, "seconds": round(report.duration, 1), "figures": figures}
            self.found[report.nodeid.removeprefix("tests/")] = outcome

    def pytest_sessionfinish(self):
        import sys

        sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
        from record import earlier, record, stamp

        new = {test: outcome | stamp() for test, outcome in self.found.items()}
        every = {test: row for test, row in earlier(self.name)[0].items() if exists(test)} | new
        columns = ("outcome", "seconds", "figures", "date", "commit")
        record(
            self.name,
            title="Long checks (`make validate`)",
            columns=["check", *columns],
            rows=[[test, *(every[test][column] for column in columns)] for test in sorted(every)],
            notes=["Each line is a test marked `slow`; its docstring says what would be wrong if it failed."],
            data={test: every[test] for test in sorted(every)},
        )


def exists(test):
    """Whether the file of a test still holds a function of its name."""
    file, _, name = test.partition("::")
    path = Path(__file__).parent / file
    return path.exists() and f"def {name.partition('[')[0]}(" in path.read_text()


def pytest_configure(config):
    if config.getoption("--record"):
        config.pluginmanager.register(Recorder(config.getoption("--record")))
