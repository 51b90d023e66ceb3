"""Writing so that a power cut leaves the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError, EdgewardError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""``OSError.errno`` values that mean: no room for this file."""


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable: a rename is only safe after it (POSIX says nothing else)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``: write beside it → fsync → rename → fsync of the folder. Raises ``OSError``."""
    with replacing(path, mode=mode) as draft:
        view = memoryview(data)
        while view:
            view = view[draft.write(view) :]


class Draft:
    """What will replace a file: written from its beginning, beside it. Everything raises ``OSError``."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def write(self, data: bytes | memoryview) -> int:
        """Write some of ``data`` and say how many bytes."""
        return os.write(self._handle, data)

    def seek(self, offset: int) -> int:
        """Go to byte ``offset``."""
        return os.lseek(self._handle, offset, os.SEEK_SET)

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes of what was written."""
        return os.read(self._handle, count)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[Draft]:
    """Replace ``path`` by what the block writes to the draft; by nothing if it raises. Raises ``OSError``."""
    beside = path.with_name(f".{path.name}.new")
    handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(handle, mode)  # the umask may have narrowed or the draft of an earlier run widened it
            yield Draft(handle)
            os.fsync(handle)
        finally:
            os.close(handle)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    fsync_folder(path.parent)


def storage_error(error: OSError, what: str) -> EdgewardError:
    """``ConfigError`` for a disk that is full (``disk-full``) or refuses (``disk-error``) while doing ``what``."""
    if error.errno in FULL:
        return ConfigError(
            "disk-full", f"no room left while {what}; free some space and run it again, nothing was lost"
        )
    word = errno.errorcode.get(error.errno or 0, "unknown")
    return ConfigError("disk-error", f"the disk refused ({word}) while {what}; check its mount and permissions")


@contextmanager
def locked(path: Path, code: str, what: str) -> Iterator[None]:
    """Hold ``path`` as an exclusive lock file; ``ConfigError(code)`` naming the process that already holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(code, f"{what} is in use by process {holder}; stop it or choose another folder") from None
        with contextlib.suppress(OSError):  # the number only explains; a full disk must keep nobody from starting
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
