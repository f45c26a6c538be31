"""The run directory: everything about one run in one folder that can be copied, read while it grows, and continued.

::

    config.toml  resolved.toml  provenance.json    as given; every default; versions, devices, seed, command line
    state/000123/                                  checkpoints (``io.checkpoint``)
    ensemble/                                      draws (``io.arrays``)
    metrics.jsonl  results.json  STATUS  CITATIONS.bib  report/  structures/
    stages.json  stages/1-reference/               of runs made of stages: each has state/, ensemble/, metrics.jsonl

``STATUS`` is one word and, below it, one sentence. A process that drives the run holds a lock on ``.lock``, so that two
never do and a run that says "running" without a lock is known to have died.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heatbath.errors import RunDirectoryError
from heatbath.io import checkpoint
from heatbath.io.storage import explained, sync_directory, write_atomically

try:
    import fcntl
except ImportError:  # Windows: nothing guards against two drivers of one run there
    fcntl = None

STATUSES = ("running", "stopped", "done", "failed")


@dataclasses.dataclass(frozen=True)
class Status:
    """The word of STATUS, ``crashed`` when a run says "running" but nobody drives it; and the sentence below it."""

    word: str
    message: str = ""


class RunDirectory:
    """One run on disk. Make it with ``create`` or ``open``."""

    def __init__(self, path: Path):
        self.path = Path(path)

    # Making and opening -----------------------------------------------------------------------------------------------
    @classmethod
    def create(cls, path: Path, files: Mapping[str, str | bytes], *, overwrite: bool = False) -> "RunDirectory":
        """A new run directory that holds ``files`` (name, with folders, -> content) and the status "running".

        It is filled aside and renamed, so it is complete or absent. Raises ``RunDirectoryError`` when ``path`` exists
        (with ``overwrite`` a previous run or an empty folder there is replaced, anything else never) or cannot be written.
        """
        path = Path(path)
        check_free(path, overwrite=overwrite)
        aside = path.parent / f".{path.name}.{os.getpid()}.new"
        with explained(path, "Nothing was started."):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                for name, content in {**files, "STATUS": "running\n"}.items():
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(aside / name, content)
                _move_into_place(aside, path)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run directory. Raises ``RunDirectoryError`` when there is none at ``path``."""
        path = Path(path)
        if not path.is_dir():
            raise RunDirectoryError(
                f"expected a run directory, but '{path}' does not exist. `heatbath list runs` shows runs."
            )
        if not _is_run(path):
            raise RunDirectoryError(
                f"'{path}' is not a run directory: it holds no resolved.toml. `heatbath list runs` shows runs."
            )
        return cls(path)

    # Places -----------------------------------------------------------------------------------------------------------
    @property
    def state(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "state"

    @property
    def ensemble(self) -> Path:
        """Folder of the draws."""
        return self.path / "ensemble"

    @property
    def structures(self) -> Path:
        """Folder of representative structures."""
        return self.path / "structures"

    @property
    def metrics(self) -> Path:
        """One JSON object per line and chunk."""
        return self.path / "metrics.jsonl"

    # Small files ------------------------------------------------------------------------------------------------------
    def write(self, name: str, text: str) -> None:
        """Put a text file into the directory in one step."""
        with explained(self.path, "The run's earlier files are unchanged."):
            write_atomically(self.path / name, text)

    def read(self, name: str) -> str:
        """A text file of the directory. Raises ``RunDirectoryError`` when it is absent."""
        with explained(self.path / name):
            return (self.path / name).read_text()

    def write_json(self, name: str, value: Any) -> None:
        """Put a JSON file into the directory in one step. NaN and infinities become null: JSON has no word for them."""
        self.write(name, json.dumps(json_ready(value), indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """A JSON file of the directory; ``RunDirectoryError`` when it is absent or damaged."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise RunDirectoryError(f"'{self.path / name}' is not valid JSON: {error}") from error

    def has(self, name: str) -> bool:
        """Whether the directory holds a file called ``name``."""
        return (self.path / name).is_file()

    # Status -----------------------------------------------------------------------------------------------------------
    def set_status(self, word: str, message: str = "") -> None:
        """Write STATUS."""
        if word not in STATUSES:
            raise RunDirectoryError(f"a status is one of {', '.join(STATUSES)}; found {word!r}")
        self.write("STATUS", f"{word}\n{message}".rstrip() + "\n")

    def status(self) -> Status:
        """The run's status as it is now: "running" without a driver is reported as "crashed"."""
        try:
            word, _, message = (self.path / "STATUS").read_text().partition("\n")
        except OSError:
            return Status("crashed", "STATUS is missing")
        if word == "running" and not self.is_driven():
            return Status("crashed", f"the process that drove it is gone; `heatbath resume {self.path}` continues it")
        return Status(word.strip(), message.strip())

    @contextlib.contextmanager
    def driven(self) -> Iterator[None]:
        """Hold the run's lock. Raises ``RunDirectoryError`` when another process drives it or it cannot be written."""
        with explained(self.path):
            stream = (self.path / ".lock").open("w")
        with stream:
            if not _try_lock(stream):
                raise RunDirectoryError(f"another process is driving '{self.path}'; wait for it or stop it first.")
            yield

    def is_driven(self) -> bool:
        """Whether some process holds the run's lock."""
        try:
            with (self.path / ".lock").open() as stream:
                return not _try_lock(stream)
        except OSError:
            return False

    # Metrics ----------------------------------------------------------------------------------------------------------
    def append_metrics(self, rows: list[dict]) -> None:
        """Add one line per row to metrics.jsonl."""
        text = "".join(json.dumps(json_ready(row), allow_nan=False) + "\n" for row in rows)
        with explained(self.metrics), self.metrics.open("ab") as stream:
            stream.write(text.encode())

    def metrics_length(self) -> int:
        """Bytes of metrics.jsonl."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def truncate_metrics(self, length: int) -> None:
        """Forget the metrics beyond ``length`` bytes: they belong to chunks that will be run again."""
        if self.metrics_length() > length:
            with explained(self.metrics), self.metrics.open("r+b") as stream:
                stream.truncate(length)

    def last_metrics(self) -> dict:
        """The newest complete line of metrics.jsonl, or an empty dict."""
        if not self.metrics.exists():
            return {}
        with self.metrics.open("rb") as stream:
            stream.seek(max(0, self.metrics_length() - 65536))
            lines = stream.read().splitlines()
        for line in reversed(lines):
            with contextlib.suppress(ValueError):
                return json.loads(line)
        return {}

    # Progress ---------------------------------------------------------------------------------------------------------
    def record(self) -> dict | None:
        """What the newest checkpoint says about the run, or None when there is none yet.

        Of a run made of stages: sums over the stages, ``draws`` of the last one that draws, the ``progress`` of the whole, and
        the name of the ``stage`` it is in.
        """
        if not self.has("stages.json"):
            return checkpoint.latest_record(self.state)
        stages = self.read_json("stages.json")
        records = [checkpoint.latest_record(folder / "state") for folder in self.stage_folders()]
        begun = [record for record in records if record is not None]
        if not begun:
            return None
        shares = [
            stage["share"] * (record or {}).get("progress", 0.0) for stage, record in zip(stages, records, strict=True)
        ]
        current = next(
            (
                stage["name"]
                for stage, record in zip(stages, records, strict=True)
                if not (record or {}).get("finished")
            ),
            "",
        )
        return {
            **{name: sum(record[name] for record in begun) for name in ("step", "elapsed", "evaluations")},
            "draws": next((record["draws"] for record in reversed(begun) if record["draws"]), 0),
            "progress": sum(shares) / sum(stage["share"] for stage in stages),
            "finished": not current,
            "stage": current,
        }

    def stage_folders(self) -> list[Path]:
        """Folders of the stages that stages.json names, in order, begun or not; empty for a run without stages."""
        if not self.has("stages.json"):
            return []
        names = [stage["name"] for stage in self.read_json("stages.json")]
        return [self.path / "stages" / f"{number}-{name}" for number, name in enumerate(names, start=1)]


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a place that is taken, before any work is done. See ``RunDirectory.create``."""
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not (path.is_dir() and _is_run(path)):
        raise RunDirectoryError(
            f"'{path}' exists and is not a run directory, so it is left alone. Choose another place with --out."
        )
    if not overwrite:
        raise RunDirectoryError(
            f"'{path}' already holds a run. Continue it with `heatbath resume {path}`, choose another place with --out, "
            "or replace it with --overwrite."
        )
    if RunDirectory(path).is_driven():
        raise RunDirectoryError(f"another process is driving '{path}'; wait for it or stop it before replacing it.")


def find_runs(folder: Path) -> list[RunDirectory]:
    """The run directories directly below ``folder``, by name."""
    if not folder.is_dir():
        return []
    return [
        RunDirectory(p) for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".") and _is_run(p)
    ]


def json_ready(value: Any) -> Any:
    """Plain JSON types: arrays become lists, numbers Python numbers, non-finite numbers None."""
    if isinstance(value, Mapping):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(v) for v in value]
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Path):
        return str(value)
    return value


def _is_run(path: Path) -> bool:
    return (path / "resolved.toml").is_file()


def _move_into_place(aside: Path, path: Path) -> None:
    """Rename ``aside`` to ``path``; what was there goes only after the new one stands."""
    old = path.parent / f".{path.name}.{os.getpid()}.old"
    if path.exists():
        path.rename(old)
    try:
        aside.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _try_lock(stream) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nothing can be said, so nothing is refused
        return True
    return True
