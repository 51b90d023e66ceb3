"""WFDB annotation files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.wfdb_annotations import Annotations, decode_annotations, encode_annotations

if TYPE_CHECKING:
    from pathlib import Path

_SYMBOLS = 'NLRaVFJASEj/Q~|sT*D"=pB^t+u?![]en@xf()r'


def _word(code: int, value: int) -> bytes:
    return (code << 10 | value).to_bytes(2, "little")


def test_a_file_by_hand() -> None:
    """Times add up, SKIP is a PDP-11 long, CHN and NUM hold on, SUB and AUX do not."""
    data = (
        _word(28, 18)  # rhythm change at 18
        + _word(63, 2) + b"(N"
        + _word(1, 77)  # N at 95
        + _word(61, 3) + _word(62, 1) + _word(60, 5)
        + _word(59, 0) + b"\x01\x00\x00\x02"  # skip 0x00010200 = 66048
        + _word(5, 1)  # V at 66144
        + b"\x00\x00"
    )  # fmt: skip
    got = decode_annotations(data)
    assert got.sample.tolist() == [18, 95, 66144]
    assert got.symbol == ("+", "N", "V")
    assert got.aux == ("(N", "", "")
    assert (got.subtype.tolist(), got.chan.tolist(), got.num.tolist()) == ([0, 3, 0], [0, 1, 1], [0, 5, 5])
    assert encode_annotations(got)[-2:] == b"\x00\x00"


def test_a_negative_skip_goes_back() -> None:
    """annot(5) allows a skip backwards; a time before the record's start is foreign."""
    back = b"".join([_word(1, 100), _word(59, 0), b"\xff\xff\xf6\xff", _word(5, 0), b"\x00\x00"])
    assert decode_annotations(back).sample.tolist() == [100, 90]
    before = b"".join([_word(59, 0), b"\xff\xff\xf6\xff", _word(5, 0), b"\x00\x00"])
    with pytest.raises(InputError):
        decode_annotations(before)


def test_the_files_own_time_resolution_is_kept_apart() -> None:
    """The note at time zero becomes ``rate_hz``, and times follow the record's rate on demand."""
    written = encode_annotations(Annotations.of([0, 250], "NV"), rate_hz=250.0)
    got = decode_annotations(written)
    assert (got.rate_hz, got.symbol) == (250.0, ("N", "V"))
    assert got.at_rate(360.0).sample.tolist() == [0, 360]
    assert got.at_rate(250.0) is got


def test_definitions_in_the_file_name_their_own_symbols() -> None:
    """A code defined in the notes at time zero is read with its symbol."""
    notes = ["## annotation type definitions", "50 Z my own beat", "## end of definitions"]
    data = b"".join(_word(22, 0) + _word(63, len(n)) + n.encode() + b"\x00" * (len(n) % 2) for n in notes)
    assert decode_annotations(data + _word(50, 7) + b"\x00\x00").symbol == ("Z",)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "annotations-truncated"),
        (_word(1, 5), "annotations-truncated"),
        (_word(1, 5) + b"\x00", "annotations-truncated"),
        (_word(59, 0) + b"\x01", "annotations-truncated"),
        (_word(1, 5) + _word(63, 200) + b"abc", "annotations-truncated"),
        (_word(55, 5) + b"\x00\x00", "annotations-foreign"),
        ((_word(59, 0) + b"\xff\x7f\xff\xff") * 600 + _word(1, 5) + b"\x00\x00", "annotations-foreign"),
        (_word(22, 0) + _word(63, 22) + b"## time resolution: 0." + b"\x00\x00", "annotations-foreign"),
        (_word(61, 5) + _word(1, 5) + b"\x00\x00", "annotations-foreign"),
        ((b"\x00N" + bytes(14)) * 3, "annotations-aha"),
    ],
)
def test_foreign_and_cut_files_are_refused(data: bytes, code: str) -> None:
    """Each gets an InputError of its kind."""
    with pytest.raises(InputError) as caught:
        decode_annotations(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "broken",
    [
        Annotations.of([1], ["¿"]),
        Annotations.of([-1], "N"),
        Annotations(np.array([1]), ("N",), np.array([200]), np.array([0]), np.array([0]), ("",)),
        Annotations(np.array([1]), ("N",), np.array([0]), np.array([300]), np.array([0]), ("",)),
        Annotations(np.array([1]), ("N",), np.array([0]), np.array([0]), np.array([0]), ("x" * 256,)),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(broken: Annotations) -> None:
    """Nothing is cut or wrapped silently."""
    with pytest.raises(ValueError):
        encode_annotations(broken)


def test_counts_must_agree() -> None:
    """As many symbols as times."""
    with pytest.raises(ValueError, match="2 times and 1 symbols"):
        Annotations.of([1, 2], "N")


_ROW = st.tuples(
    st.one_of(st.integers(0, 3000), st.integers(0, 2**33)),
    st.sampled_from(_SYMBOLS),
    st.integers(-128, 127),
    st.integers(0, 255),
    st.integers(-128, 127),
    st.text(st.characters(codec="ascii", exclude_characters="\x00#"), max_size=20),
)


def _annotations(rows: list[tuple[int, str, int, int, int, str]]) -> Annotations:
    rows = sorted(rows, key=lambda row: row[0])
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    numbers = [np.array(columns[k], dtype=np.int64) for k in (0, 2, 3, 4)]
    return Annotations(numbers[0], tuple(columns[1]), numbers[1], numbers[2], numbers[3], tuple(columns[5]))


def _same(a: Annotations, b: Annotations) -> None:
    assert (a.symbol, a.aux, a.rate_hz) == (b.symbol, b.aux, b.rate_hz)
    for name in ("sample", "subtype", "chan", "num"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@given(st.lists(_ROW, max_size=12))
def test_written_annotations_read_back(rows: list[tuple[int, str, int, int, int, str]]) -> None:
    """encode, then decode, gives the same annotations."""
    annotations = _annotations(rows)
    _same(decode_annotations(encode_annotations(annotations)), annotations)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but an InputError comes out."""
    with contextlib.suppress(InputError):
        decode_annotations(data)


@given(st.lists(_ROW, min_size=1, max_size=6), st.data())
def test_a_mutated_file_is_read_or_refused(
    rows: list[tuple[int, str, int, int, int, str]], data: st.DataObject
) -> None:
    """A good file with a byte changed and its end cut does nothing worse."""
    good = bytearray(encode_annotations(_annotations(rows), rate_hz=360.0))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        decode_annotations(bytes(good[: data.draw(st.integers(0, len(good)))]))


@pytest.mark.filterwarnings("ignore")  # of the oracle, not of ours
@settings(max_examples=15, deadline=None)
@given(st.lists(_ROW, min_size=1, max_size=8))
def test_rdann_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, int, int, int, str]]
) -> None:
    """The wfdb package reads our files as we do."""
    wfdb = pytest.importorskip("wfdb")
    folder: Path = tmp_path_factory.mktemp("ann")
    # wfdb takes every note at sample 0 for a definition (of its rate, its symbols) and leaves it out.
    annotations = _annotations([(max(1, at), *rest) if rest[0] == '"' else (at, *rest) for at, *rest in rows])
    (folder / "r.tst").write_bytes(encode_annotations(annotations, rate_hz=360.0))
    theirs = wfdb.rdann(str(folder / "r"), "tst")
    assert theirs.fs == 360.0
    assert theirs.sample.tolist() == annotations.sample.tolist()
    assert theirs.symbol == list(annotations.symbol)
    assert theirs.subtype.tolist() == annotations.subtype.tolist()
    assert theirs.aux_note == list(annotations.aux)


@pytest.mark.filterwarnings("ignore")  # of the oracle, not of ours
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(_SYMBOLS)), min_size=1, max_size=8))
def test_what_wrann_writes_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]]) -> None:
    """We read the files of the wfdb package as it does."""
    wfdb = pytest.importorskip("wfdb")
    folder: Path = tmp_path_factory.mktemp("ann")
    rows = sorted(rows)
    at, symbols = np.array([r[0] for r in rows]), [r[1] for r in rows]
    wfdb.wrann("r", "tst", at, symbol=symbols, fs=250, write_dir=str(folder))
    ours = decode_annotations((folder / "r.tst").read_bytes())
    assert (ours.sample.tolist(), list(ours.symbol), ours.rate_hz) == (at.tolist(), symbols, 250.0)
