"""The memory that the host and one worker share: a header, a report, then the model's inputs and outputs.

Each worker has a memory of its own (an anonymous memfd, so there is no name to leak, sealed so that nobody can shrink
it under the other), and one request is under way at a time: a worker that answers too late is killed and writes into
memory that nobody reads any more. The sequence number and the checksum catch what remains: an answer to another
request, and one that was not written whole.

::

    0      request    sequence u64, operation u32
    64     answer     sequence u64, status u32, crc32 u32, run_ns u64, report length u32
    128    report     JSON, up to 3,968 bytes
    4096   inputs, then outputs, in the manifest's order, each at a multiple of 64 bytes
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.inference.backend import batch_one
from edgeward.inference.engine import Buffers, may_miss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bundle.manifest import Manifest, TensorSpec
    from edgeward.inference.backend import Array

BELL = struct.Struct("<Q")
"""What goes through the pipes: the sequence number. Sequence 0 is the worker's start report."""

_REQUEST = struct.Struct("<QI")
_ANSWER = struct.Struct("<QIIQI")
_ANSWER_AT = 64
_REPORT_AT = 128
_DATA_AT = 4096
_REPORT_MAX = _DATA_AT - _REPORT_AT
_ALIGN = 64


class Operation(IntEnum):
    """What the host asks."""

    INFER = 1
    GOLDEN = 2


class Status(IntEnum):
    """How it went."""

    OK = 0
    BAD_OUTPUT = 1
    RUN_FAILED = 2
    START_FAILED = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker wrote: ``whole`` is False when it answers another request or was not written to its end."""

    status: Status
    run_ns: int
    whole: bool


class SharedMemory:
    """One worker's memory, mapped by both sides. ``buffers`` are views into it."""

    def __init__(self, fd: int, manifest: Manifest) -> None:
        self._map = mmap.mmap(fd, size_bytes(manifest))
        offset = _DATA_AT
        inputs, offset = self._views(manifest.inputs, offset)
        outputs, offset = self._views(manifest.outputs, offset)
        self.buffers = Buffers(inputs, outputs, may_miss(manifest))
        self._scores = self.buffers.scores
        self._scores_bytes = self._scores.data.cast("B")

    def ask(self, sequence: int, operation: Operation) -> None:
        """Host: describe the request; ring the bell after it."""
        _REQUEST.pack_into(self._map, 0, sequence, operation)

    def asked(self) -> tuple[int, int]:
        """Worker: (sequence, operation) of the request."""
        return _REQUEST.unpack_from(self._map, 0)

    def answer(self, sequence: int, status: Status, run_ns: int = 0, report: dict[str, Any] | None = None) -> None:
        """Worker: seal what lies in the outputs as the answer; ring the bell after it."""
        text = json.dumps(report).encode()[:_REPORT_MAX] if report is not None else b""
        self._map[_REPORT_AT : _REPORT_AT + len(text)] = text
        crc = zlib.crc32(self._scores_bytes, sequence & 0xFFFFFFFF)
        _ANSWER.pack_into(self._map, _ANSWER_AT, sequence, status, crc, run_ns, len(text))

    def answered(self, sequence: int) -> tuple[Answer, Array]:
        """Host: the answer to ``sequence`` and its scores (classes,), copied before they are checked."""
        found, status, crc, run_ns, _ = _ANSWER.unpack_from(self._map, _ANSWER_AT)
        scores = self._scores[0].copy()
        known = status in Status.__members__.values()
        whole = known and found == sequence and zlib.crc32(scores, sequence & 0xFFFFFFFF) == crc
        return Answer(Status(status) if known else Status.RUN_FAILED, run_ns, whole), scores

    def report(self) -> dict[str, Any]:
        """Host: the JSON beside the answer; empty when there is none."""
        length = min(_ANSWER.unpack_from(self._map, _ANSWER_AT)[4], _REPORT_MAX)
        try:
            report = json.loads(self._map[_REPORT_AT : _REPORT_AT + length])
        except ValueError:
            return {}
        return report if isinstance(report, dict) else {}

    def _views(self, specs: Sequence[TensorSpec], offset: int) -> tuple[dict[str, Array], int]:
        views: dict[str, Array] = {}
        for spec in specs:
            shape = batch_one(spec)
            views[spec.name] = np.frombuffer(self._map, np.float32, math.prod(shape), offset).reshape(shape)
            offset += _aligned(4 * math.prod(shape))
        return views, offset


def create(manifest: Manifest) -> int:
    """A new memory for one worker of ``manifest``: the fd of a sealed memfd."""
    fd = os.memfd_create("edgeward-engine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes(manifest))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def size_bytes(manifest: Manifest) -> int:
    """How much memory a worker of ``manifest`` shares."""
    specs = (*manifest.inputs, *manifest.outputs)
    return _DATA_AT + sum(_aligned(4 * math.prod(batch_one(spec))) for spec in specs)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
