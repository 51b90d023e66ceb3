"""JSON lines as a way out of a bed or a ward: opened, closed, and what was lost of them told."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, TYPE_CHECKING

from edgeward.cli.say import say
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.output.base import Output
    from edgeward.bedside.output.jsonl import JsonLines
    from edgeward.kernel.clock import Clock


@contextlib.contextmanager
def lines_out(name: str, clock: Clock) -> Iterator[list[Output]]:
    """JSON lines to the file ``name``, "-" for standard output; nothing where it is empty.

    Raises ``ConfigError`` (``output-unwritable``).
    """
    from edgeward.bedside.output.jsonl import JsonLines

    with contextlib.ExitStack() as stack:
        outputs: list[Output] = []
        if name:
            stream = stack.enter_context(contextlib.closing(_opened(name)))
            lines = JsonLines(stream, clock)
            stack.callback(_say_lost, lines)
            stack.callback(lines.close)
            outputs.append(lines)
        yield outputs


def _opened(name: str) -> IO[str]:
    """The stream that JSON lines go to; "-" is standard output. ``ConfigError`` (``output-unwritable``)."""
    from edgeward.bedside.output.jsonl import unbuffered

    try:
        return unbuffered(_descriptor(name))
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {name}: {error.strerror}") from error


def _say_lost(lines: JsonLines) -> None:
    """Tell the operator of lines that could not be written."""
    if lines.dropped:
        say(f"{lines.dropped} JSON lines could not be written")


def _descriptor(name: str) -> int:
    if name == "-":
        if sys.stdout is None:
            raise ConfigError("output-unwritable", "standard output is closed; name a file for --json-lines")
        return os.dup(sys.stdout.fileno())
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
