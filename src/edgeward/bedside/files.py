"""The files port: the few operations that keeping bundles needs, each durable when it returns or named otherwise.

The slots speak to this port only, so that a test can cut the power at every single operation
(``edgeward.testing.files``). ``RealFiles`` is the adapter for a POSIX disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class LockHeldError(Exception):
    """Another process holds the lock; ``pid`` is its number, or 0 when it did not say."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid


class FilePort(Protocol):
    """What a device does to its disk. Every method raises ``OSError`` as the system would."""

    def read(self, path: Path) -> bytes:
        """The whole file."""
        ...

    def write_new(self, path: Path, data: bytes) -> None:
        """Write a file, replacing what is there; its content is durable on return, its name only after ``fsync_dir``.

        Not atomic: write beside the real name, then ``rename``. What a failure leaves must be removed by the caller.
        """
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Rename within one folder, replacing what stood there: atomic, durable after ``fsync_dir``."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file; one that is not there is no error. Durable after ``fsync_dir``."""
        ...

    def fsync_dir(self, folder: Path) -> None:
        """Make the names in ``folder`` durable."""
        ...

    def mkdir(self, folder: Path) -> None:
        """Make a folder and its parents; one that is there is no error."""
        ...

    def list(self, folder: Path) -> list[str]:
        """The names in ``folder``, sorted."""
        ...

    def size(self, path: Path) -> int:
        """Bytes of a file; 0 when it is not there."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Bytes that may still be written below ``folder``."""
        ...

    def lock(self, path: Path) -> Callable[[], None]:
        """Take ``path`` as an exclusive lock until the returned function is called; ``LockHeldError`` when taken."""
        ...


class RealFiles:
    """The port on a POSIX disk; ``mode``: who may read what it writes (0o600 for keys)."""

    def __init__(self, mode: int = 0o644) -> None:
        self._mode = mode

    def read(self, path: Path) -> bytes:
        """The whole file."""
        return path.read_bytes()

    def write_new(self, path: Path, data: bytes) -> None:
        """Write, then fsync."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view[: 1 << 20]) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Let the system rename."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Let the system unlink, a missing file forgiven."""
        path.unlink(missing_ok=True)

    def fsync_dir(self, folder: Path) -> None:
        """By fsync(2) on the folder."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def mkdir(self, folder: Path) -> None:
        """As ``mkdir -p`` does."""
        folder.mkdir(parents=True, exist_ok=True)

    def list(self, folder: Path) -> list[str]:
        """The names in ``folder``, sorted."""
        return sorted(os.listdir(folder))  # noqa: PTH208  (names, not paths)

    def size(self, path: Path) -> int:
        """Bytes of a file; 0 when it is not there."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self, folder: Path) -> int:
        """What statvfs(3) says is free for an ordinary user."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize

    def lock(self, path: Path) -> Callable[[], None]:
        """By flock(2): the system lets go of it when the process ends, however it ends."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(handle, 20, 0).strip()
            os.close(handle)
            raise LockHeldError(int(text) if text.isdigit() else 0) from None
        except BaseException:
            os.close(handle)
            raise
        with contextlib.suppress(OSError):  # a full disk must not keep a device from starting; the number only explains
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        return lambda: os.close(handle)


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes the name ``path``."""
    return path.with_name(f"{path.name}.new")


def replace_file(files: FilePort, path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, the old file or the new one at every instant, durable on return.

    Raises ``OSError``; then ``path`` is what it was and no draft is left, but after a failed fsync of the folder.
    """
    draft = draft_of(path)
    try:
        files.write_new(draft, data)
        files.rename(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(draft)
        raise
    files.fsync_dir(path.parent)
