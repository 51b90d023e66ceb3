"""MLLP: whole HL7 messages out of a byte stream that arrives in any pieces.

A message stands between a start block (0x0B) and an end block (0x1C, then 0x0D). Real gateways split and join them at
will, put NULs and line ends between them, leave out the final 0x0D, and some leave out the start block. All of that is
taken. What cannot be a whole message is named once, as ``Broken``, and the next start block begins afresh:

* ``mllp-no-end``: a start block while a message was still open;
* ``mllp-oversize``: more than the limit without an end block; the rest is skipped;
* ``mllp-noise``: bytes outside a block that are no message.

A stray 0x1C inside a message ends it there: what follows is noise, and the reader of the message refuses a last segment
that may have been cut. Source: HL7 v2.8 appendix C, "Minimal Lower Layer Protocol", release 1.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from edgeward.kernel.limits import HL7_MESSAGE_BYTES_MAX

START = b"\x0b"
END = b"\x1c"
HEAD_BYTES = 4096
"""How much of a broken message is kept, so that it can be answered: its MSH segment lies within."""

_BETWEEN = re.compile(rb"[\x00\x09\x0a\x0d\x1c\x20]*")
_PADDING = b"\x00\t\n\r "


class Broken(NamedTuple):
    """Bytes that are no whole message: why, and how they begin (may hold PHI)."""

    code: str
    head: bytes


class _Mode(Enum):
    BETWEEN = 0
    MESSAGE = 1
    FOREIGN = 2
    SKIPPED = 3


class Decoder:
    """Turns chunks of one connection into messages; holds at most ``limit`` bytes and one chunk."""

    def __init__(self, limit: int = HL7_MESSAGE_BYTES_MAX) -> None:
        self._limit = limit
        self._mode = _Mode.BETWEEN
        self._held = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a message has begun that has not ended."""
        return self._mode is not _Mode.BETWEEN

    @property
    def held(self) -> bytes:
        """How the message that has not ended begins, for an answer to it (may hold PHI)."""
        return bytes(self._held[:HEAD_BYTES])

    def feed(self, data: bytes) -> list[bytes | Broken]:
        """Everything that ``data`` completes or breaks, in order; never raises."""
        found: list[bytes | Broken] = []
        at = 0
        while at < len(data):
            at = self._enter(data, at) if self._mode is _Mode.BETWEEN else self._advance(data, at, found)
        return found

    def _enter(self, data: bytes, at: int) -> int:
        match = _BETWEEN.match(data, at)
        at = match.end() if match else at
        if at < len(data):
            starts = data.startswith(START, at)
            self._mode = _Mode.MESSAGE if starts else _Mode.FOREIGN
            at += starts
        return at

    def _advance(self, data: bytes, at: int, found: list[bytes | Broken]) -> int:
        end = data.find(END, at)
        start = data.find(START, at, end if end >= 0 else len(data))
        stop = start if start >= 0 else end if end >= 0 else len(data)
        if self._mode is not _Mode.SKIPPED:
            self._keep(data, at, stop, found)
        if start >= 0:
            if self._mode is not _Mode.SKIPPED:
                found.append(Broken("mllp-noise" if self._mode is _Mode.FOREIGN else "mllp-no-end", self.held))
            self._begin(_Mode.MESSAGE)
            return start + 1
        if end >= 0:
            if self._mode is not _Mode.SKIPPED:
                self._finish(found)
            self._begin(_Mode.BETWEEN)
            return end + 1
        return stop

    def _keep(self, data: bytes, at: int, stop: int, found: list[bytes | Broken]) -> None:
        room = self._limit - len(self._held)
        self._held += data[at : min(stop, at + room)]
        if stop - at > room:
            found.append(Broken("mllp-oversize", self.held))
            self._begin(_Mode.SKIPPED)

    def _finish(self, found: list[bytes | Broken]) -> None:
        content = bytes(self._held)
        if self._mode is _Mode.FOREIGN and not content.startswith(b"MSH"):
            found.append(Broken("mllp-noise", content[:HEAD_BYTES]))
        elif content.strip(_PADDING):
            found.append(content)

    def _begin(self, mode: _Mode) -> None:
        self._mode = mode
        self._held.clear()


def encode(content: bytes) -> bytes:
    """A message between its blocks. Raises ``ValueError`` for content that holds a block character."""
    if START in content or END in content:
        raise ValueError("an HL7 message holds neither 0x0B nor 0x1C")
    return START + content + END + b"\r"
