"""How a process of ours is started: what of the host's environment it gets, its pipes, and its last words.

Engines (``inference/child.py``) and the processes behind the rim (``bedside/side.py``) are started the same way.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from pathlib import Path

STDERR_BYTES = mmap.PAGESIZE
"""What is kept of a process's standard error; the rest is lost, for a process that prints must not wait."""
_QUOTED_CHARACTERS = 200


def child_pipe(passed: contextlib.ExitStack, kept: contextlib.ExitStack, *, keep_read: bool) -> tuple[int, int]:
    """A pipe as (the child's end, our end); each is closed by the stack of its side."""
    read, write = os.pipe2(os.O_CLOEXEC)
    ours, theirs = (read, write) if keep_read else (write, read)
    kept.callback(os.close, ours)
    passed.callback(os.close, theirs)
    return theirs, ours


def stderr_pipe(passed: contextlib.ExitStack, kept: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe for standard error, as (the child's end, our end), that neither side ever waits for."""
    theirs, ours = child_pipe(passed, kept, keep_read=True)
    for fd in (theirs, ours):
        os.set_blocking(fd, False)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, STDERR_BYTES)
    return theirs, ours


def last_words(stderr_fd: int) -> str:
    """The end of what a process wrote to standard error, on one line; not to be quoted if it saw a patient's data."""
    with contextlib.suppress(OSError):
        said = " ".join(os.read(stderr_fd, STDERR_BYTES).decode("utf-8", "replace").split())
        return said[-_QUOTED_CHARACTERS:]
    return ""


def ending(returncode: int) -> str:
    """How a process ended: "signal-9", "exit-1"."""
    return f"signal-{-returncode}" if returncode < 0 else f"exit-{returncode}"


def environment(threads: int = 1) -> dict[str, str]:
    """Only what a child needs: nothing of the host's environment reaches it but where its libraries lie."""
    found = {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):  # relative entries would be looked up in the child's folder, "/"
        folders = [str(Path(folder).absolute()) for folder in os.environ.get(name, "").split(os.pathsep) if folder]
        if folders:
            found[name] = os.pathsep.join(folders)
    return found
