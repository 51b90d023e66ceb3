"""A word for the operator."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """A word for the operator, on standard error."""
    if sys.stderr is None:  # closed before the start
        return
    with contextlib.suppress(OSError):  # a log that nobody reads any more must not end the stream
        sys.stderr.write(f"edgeward: {text}\n")
        sys.stderr.flush()
