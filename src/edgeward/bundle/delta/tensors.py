"""Where things lie in a bundle file: members, and the tensors of an ONNX model, by byte ranges and without a copy.

Only whoever makes a delta reads this; a device gets byte ranges. The ONNX schema (onnx.proto3, field numbers below) is
walked by hand, so that no file is ever held twice and nothing but standard library is needed. Whatever does not read
as expected is simply no tensor: its bytes are then compared as bytes.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bundle.delta.residual import BF16, FP16, FP32, INT8, INT32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_LOCAL_HEADER = 30
"""Bytes of a ZIP member's local header before its name (APPNOTE.TXT 4.3.7)."""
_KIND_OF_TYPE = {1: FP32, 2: INT8, 3: INT8, 6: INT32, 10: FP16, 16: BF16}
"""TensorProto.DataType → kind: FLOAT, UINT8, INT8, INT32, FLOAT16, BFLOAT16."""
_BYTES_MIN = 16
"""A shorter tensor costs more as a step than as bytes."""
_DEPTH_MAX = 8
"""Graphs within nodes within graphs."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """The raw data of one tensor: its place among ``KINDS``, and bytes ``start`` to ``stop`` of the file."""

    name: str
    kind: int
    start: int
    stop: int


def members(file: BinaryIO, size: int) -> list[tuple[str, int, int]]:
    """Name, first and past-last byte of every stored member, in the order of the file; none if it is no archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
        places = []
        for info in sorted(infos, key=lambda info: info.header_offset):
            file.seek(info.header_offset)
            local = file.read(_LOCAL_HEADER)
            lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            start = info.header_offset + _LOCAL_HEADER + lengths
            places.append((info.filename, start, start + info.file_size))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError):
        return []
    edges = [0, *(edge for _, start, stop in places for edge in (start, stop)), size]
    return places if edges == sorted(edges) else []


def tensors(model: memoryview, offset: int) -> list[Tensor]:
    """The tensors of the ONNX ``model``, which begins at byte ``offset`` of its file, in the order of the file."""
    found: list[Tensor] = []
    try:
        for number, start, stop in _fields(model, 0, len(model)):
            if number == 7:  # ModelProto.graph
                _graph(model, start, stop, 0, found)
    except (IndexError, ValueError):
        return []
    return [Tensor(each.name, each.kind, each.start + offset, each.stop + offset) for each in found]


def _graph(raw: memoryview, start: int, stop: int, depth: int, found: list[Tensor]) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError
    for number, begin, end in _fields(raw, start, stop):
        if number == 5:  # GraphProto.initializer
            _tensor(raw, begin, end, found)
        elif number == 1:  # GraphProto.node
            for inner, first, last in _fields(raw, begin, end):
                if inner == 5:  # NodeProto.attribute
                    _attribute(raw, first, last, depth, found)


def _attribute(raw: memoryview, start: int, stop: int, depth: int, found: list[Tensor]) -> None:
    for number, begin, end in _fields(raw, start, stop):
        if number == 5:  # AttributeProto.t
            _tensor(raw, begin, end, found)
        elif number == 6:  # AttributeProto.g
            _graph(raw, begin, end, depth + 1, found)


def _tensor(raw: memoryview, start: int, stop: int, found: list[Tensor]) -> None:
    name, kind, data = "", None, None
    for number, begin, end in _fields(raw, start, stop):
        if number == 2:  # TensorProto.data_type, a number: its value is what ``_fields`` gives as ``end``
            kind = _KIND_OF_TYPE.get(end)
        elif number == 8:  # TensorProto.name
            name = bytes(raw[begin:end]).decode("utf-8", "replace")
        elif number == 9:  # TensorProto.raw_data
            data = (begin, end)
    if kind is not None and data is not None and data[1] - data[0] >= _BYTES_MIN:
        found.append(Tensor(name, kind, *data))


def _fields(raw: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Field number, first and past-last byte of each field; for a number, its place and its value."""
    at = start
    while at < stop:
        key, at = _varint(raw, at)
        wire = key & 7
        if wire == 0:
            begin, (end, at) = at, _varint(raw, at)
        elif wire == 2:
            length, begin = _varint(raw, at)
            at = end = begin + length
        elif wire in {1, 5}:
            begin, at = at, at + (8 if wire == 1 else 4)
            end = at
        else:
            raise ValueError
        if at > stop:
            raise ValueError
        yield key >> 3, begin, end


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = raw[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError
