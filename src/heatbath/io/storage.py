"""Writing files so that a reader, a full disk or a killed process never sees half of one."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from heatbath.errors import RunDirectoryError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def explained(path: Path, consequence: str = "") -> Iterator[None]:
    """Turn an ``OSError`` of the enclosed block into a ``RunDirectoryError`` that says which path, why and what to do.

    ``consequence`` is a sentence about what is still good; it ends the message.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(" ".join(filter(None, [_sentence(path, error), consequence]))) from error


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return f"no space left on the disk of '{path}'. Free some space."
    if error.errno in _FORBIDDEN:
        return f"'{path}' cannot be written ({os.strerror(error.errno)}). Choose a writable place with --out."
    reason = error.strerror or type(error).__name__
    return f"'{path}' could not be used: {reason}."


def write_atomically(path: Path, data: str | bytes) -> None:
    """Put ``data`` at ``path`` in one step: a temporary file beside it, flushed to the disk, then renamed over it."""
    if isinstance(data, str):
        data = data.encode()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Flush one file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, where the system can do that (a rename is durable only then)."""
    with contextlib.suppress(OSError):
        sync_file(path)
