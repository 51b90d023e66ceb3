"""WFDB annotation files in MIT format: bytes ⇄ ``Annotations``.

Source: annot(5) of the WFDB Applications Guide. The AHA format is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError

SymbolTuple = tuple[str, ...]
IntArray = npt.NDArray[np.int64]

ANNOTATION_BYTES_MAX = 64 << 20
TIME_MAX = 1 << 40
"""Sample index beyond which a file is damaged: years at any rate."""
_RESOLUTION_HZ = (1.0, 1e7)

# annot(5): code → mnemonic, 1 to 41; 42 to 49 are for users and are shown by number.
_SYMBOLS = dict(enumerate('NLRaVFJASEj/Q~ | sT*D"=pB^t+u?![]en@xf()r', start=1))
_SYMBOLS = {code: symbol for code, symbol in _SYMBOLS.items() if symbol != " "}
_SYMBOLS.update({code: f"[{code}]" for code in (15, 17, *range(42, 50))})
_CODES = {symbol: code for code, symbol in _SYMBOLS.items()}
_NOTE = 22
_LAST_PLAIN_CODE = 49
_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63
_AHA_CODES = frozenset(b"NVFERPQU[]O")
_TIME_RESOLUTION = re.compile(r"^## time resolution: (\d+\.?\d*)$")


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Annotations of one record in file order.

    ``sample`` (A,) int64 sample indices; ``symbol`` the one-character mnemonics of annot(5); ``subtype``, ``chan`` and
    ``num`` (A,) small integers; ``aux`` texts, "" where none. ``rate_hz`` is the file's own time resolution, None where
    it is the record's rate.
    """

    sample: IntArray
    symbol: SymbolTuple
    subtype: IntArray
    chan: IntArray
    num: IntArray
    aux: SymbolTuple
    rate_hz: float | None = None

    def __len__(self) -> int:
        return len(self.symbol)

    @classmethod
    def of(cls, sample: npt.ArrayLike, symbol: SymbolTuple | list[str] | str) -> Annotations:
        """Annotations with times and symbols only; raises ``ValueError`` where their counts differ."""
        at = np.asarray(sample, dtype=np.int64).reshape(-1)
        symbols = tuple(symbol)
        if at.shape[0] != len(symbols):
            raise ValueError(f"{at.shape[0]} times and {len(symbols)} symbols")
        zeros = np.zeros(at.shape[0], dtype=np.int64)
        return cls(at, symbols, zeros, zeros, zeros, ("",) * at.shape[0])

    def at_rate(self, rate_hz: float) -> Annotations:
        """The same annotations with times in samples of ``rate_hz`` (the record's rate)."""
        if self.rate_hz is None or self.rate_hz == rate_hz:
            return self
        sample = np.rint(self.sample * (rate_hz / self.rate_hz)).astype(np.int64)
        return Annotations(sample, self.symbol, self.subtype, self.chan, self.num, self.aux, None)


class _Builder:
    """What has been read so far; chan and num hold until changed, subtype and aux belong to one annotation."""

    def __init__(self) -> None:
        self.time = 0
        self.rows: list[list[int]] = []
        self.aux: list[str] = []

    def add(self, step: int, code: int) -> None:
        """A new annotation ``step`` samples later."""
        self.time += step
        chan, num = (self.rows[-1][3], self.rows[-1][4]) if self.rows else (0, 0)
        self.rows.append([self.time, code, 0, chan, num])
        self.aux.append("")

    def modify(self, code: int, value: int, aux: bytes) -> None:
        """A field of the latest annotation."""
        if not self.rows:
            raise _foreign("it starts with a modifier instead of an annotation")
        row = self.rows[-1]
        if code == _SUB:
            row[2] = _signed(value)
        elif code == _CHN:
            row[3] = value & 0xFF
        elif code == _NUM:
            row[4] = _signed(value)
        else:
            self.aux[-1] = aux.rstrip(b"\x00").decode("utf-8", errors="replace")


def decode_annotations(data: bytes) -> Annotations:
    """Read an annotation file in MIT format.

    Raises ``InputError``: ``annotations-truncated``, ``annotations-aha``, ``annotations-foreign``.
    """
    if len(data) > ANNOTATION_BYTES_MAX:
        raise _foreign(f"it is larger than {ANNOTATION_BYTES_MAX} bytes")
    if _is_aha(data):
        raise InputError(
            "annotations-aha",
            "this annotation file is in AHA format, which Edgeward does not read; convert it to MIT format "
            "(wrann after rdann of the WFDB software package)",
        )
    words = np.frombuffer(data, dtype="<u2", count=len(data) // 2).tolist()
    built = _Builder()
    at, end = 0, len(words)
    while True:
        if at >= end:
            raise InputError(
                "annotations-truncated",
                f"the annotation file ends after {len(built.rows)} annotations without its end mark (annot(5)); "
                "fetch it again",
            )
        word = words[at]
        at += 1
        if word == 0:
            break
        code, value = word >> 10, word & 0x3FF
        if code == _SKIP:
            if at + 2 > end:
                continue  # the loop's own check reports the missing end
            step = (words[at] << 16) | words[at + 1]
            built.time += step - (1 << 32) if step >= 1 << 31 else step
            at += 2
        elif code >= _NUM:
            used = (value + 1) // 2 if code == _AUX else 0
            if at + used > end:
                at = end
                continue
            built.modify(code, value, data[2 * at : 2 * at + value] if used else b"")
            at += used
        else:
            built.add(value, code)
    return _finish(built)


def encode_annotations(annotations: Annotations, *, rate_hz: float | None = None) -> bytes:
    """Bytes of an annotation file in MIT format, in time order, as ``rdann`` and ``bxb`` read it.

    ``rate_hz`` writes the file's time resolution as its first note. Raises ``ValueError`` for an unknown symbol, a
    negative time, or a field out of range.
    """
    rate_hz = rate_hz if rate_hz is not None else annotations.rate_hz
    out = bytearray()
    if rate_hz is not None:
        note = f"## time resolution: {rate_hz:.12g}".encode()
        out += _word(_NOTE, 0) + _aux(note)
    now = chan = num = 0
    for k in np.argsort(annotations.sample, kind="stable").tolist():
        step = int(annotations.sample[k]) - now
        code = _CODES.get(annotations.symbol[k])
        if code is None:
            raise ValueError(f"no annotation code for the symbol {annotations.symbol[k]!r}")
        if step < 0:
            raise ValueError("an annotation cannot stand before the record's start")
        now += step
        while step > 0x3FF:
            hop = min(step, 0x7FFFFFFF)
            out += _word(_SKIP, 0) + (hop >> 16).to_bytes(2, "little") + (hop & 0xFFFF).to_bytes(2, "little")
            step -= hop
        out += _word(code, step)
        if annotations.num[k] != num:
            num = int(annotations.num[k])
            out += _word(_NUM, _byte(num))
        if annotations.subtype[k] != 0:
            out += _word(_SUB, _byte(int(annotations.subtype[k])))
        if annotations.chan[k] != chan:
            chan = int(annotations.chan[k])
            if not 0 <= chan <= 0xFF:
                raise ValueError("chan lies outside 0 to 255")
            out += _word(_CHN, chan)
        if annotations.aux[k]:
            out += _aux(annotations.aux[k].encode())
    return bytes(out) + b"\x00\x00"


def _finish(built: _Builder) -> Annotations:
    """Take the definitions out of the notes at time 0 and turn the codes into symbols."""
    symbols = dict(_SYMBOLS)
    rate_hz: float | None = None
    keep: list[int] = []
    defining = False
    for k, (row, aux) in enumerate(zip(built.rows, built.aux, strict=True)):
        if row[0] != 0 or row[1] != _NOTE or not (defining or aux.startswith("## ")):
            keep.append(k)
        elif match := _TIME_RESOLUTION.match(aux):
            rate_hz = float(match.group(1))
            if not _RESOLUTION_HZ[0] <= rate_hz <= _RESOLUTION_HZ[1]:
                raise _foreign("it states an impossible time resolution")
        elif aux == "## annotation type definitions":
            defining = True
        elif aux == "## end of definitions":
            defining = False
        elif defining:
            parts = aux.split(" ", 2)
            if len(parts) >= 2 and parts[0].isdecimal() and 0 < int(parts[0]) < _SKIP and parts[1]:
                symbols[int(parts[0])] = parts[1]
        else:
            keep.append(k)
    # A step with code 0 is not an annotation; it only moved the time on.
    keep = [k for k in keep if built.rows[k][1] != 0]
    rows = np.array([built.rows[k] for k in keep], dtype=np.int64).reshape(-1, 5)
    if rows.size and not 0 <= int(rows[:, 0].min()) <= int(rows[:, 0].max()) <= TIME_MAX:
        raise _foreign("an annotation stands before the record's start or years after it")
    unknown = set(rows[:, 1].tolist()) - symbols.keys()
    if unknown:
        raise _foreign("it uses annotation codes that neither annot(5) nor the file itself defines")
    return Annotations(
        sample=rows[:, 0].copy(),
        symbol=tuple(symbols[code] for code in rows[:, 1].tolist()),
        subtype=rows[:, 2].copy(),
        chan=rows[:, 3].copy(),
        num=rows[:, 4].copy(),
        aux=tuple(built.aux[k] for k in keep),
        rate_hz=rate_hz,
    )


def _is_aha(data: bytes) -> bool:
    """AHA files are 16-byte records: a zero byte, then an annotation code as a letter."""
    if len(data) < 16 or len(data) % 16:
        return False
    return all(data[k] == 0 and data[k + 1] in _AHA_CODES for k in range(0, len(data), 16))


def _signed(value: int) -> int:
    byte = value & 0xFF
    return byte - 0x100 if byte >= 0x80 else byte


def _byte(value: int) -> int:
    if not -0x80 <= value <= 0x7F:
        raise ValueError("num and subtype are signed bytes")
    return value & 0xFF


def _word(code: int, value: int) -> bytes:
    return (code << 10 | value).to_bytes(2, "little")


def _aux(text: bytes) -> bytes:
    if len(text) > 0xFF:
        raise ValueError("an aux text holds 255 bytes at most")
    return _word(_AUX, len(text)) + text + b"\x00" * (len(text) % 2)


def _foreign(why: str) -> InputError:
    return InputError("annotations-foreign", f"{why}; this is no WFDB annotation file in MIT format, or it is damaged")
