"""Whole WFDB records, alone and against the wfdb package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.wfdb import (
    Annotations,
    Header,
    Record,
    SignalSpec,
    encode_annotations,
    encode_header,
    encode_record,
    read_annotations,
    read_record,
)
from edgeward.wire.wfdb import converter_rails_mv as rails

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ORACLE_WARNINGS = pytest.mark.filterwarnings("ignore")


def _reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


def _record(samples: np.ndarray, leads: tuple[str, ...] = ("II", "V1"), rate_hz: float = 360.0) -> Record:
    return Record("r", leads, rate_hz, samples.astype(np.float32), ((-32.0, 32.0),) * len(leads))


def _files(header: str, data: bytes = b"") -> Callable[[str], bytes]:
    return {"r.hea": header.encode(), "r.dat": data}.__getitem__


@pytest.mark.parametrize("fmt", [16, 212])
def test_a_written_record_reads_back(fmt: int) -> None:
    """Leads, rate and samples survive, NaN included; values are exact to half a step."""
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 0.5, (2, 501))
    samples[1, 100:120] = np.nan
    record = _record(samples)
    got = read_record("r", encode_record(record, fmt=fmt, gain=500.0).__getitem__)
    assert (got.name, got.leads, got.rate_hz, got.missing_samples) == ("r", ("II", "V1"), 360.0, 0)
    np.testing.assert_allclose(got.samples, record.samples, atol=0.5 / 500.0 + 1e-6, equal_nan=True)


def test_lead_names_are_canonical_and_never_empty() -> None:
    """A lead is named as the rest of Edgeward names it; one without a name gets its number."""
    header = "r 3 250 1\nr.dat 16 200 12 0 0 0 0 ECG lead avf\nr.dat 16 200 12 0 0 0 0 MLII\nr.dat 16 200 12 0 0 0 0\n"
    assert read_record("r", _files(header, bytes(6))).leads == ("aVF", "MLII", "ECG3")


def test_leads_of_one_name_are_told_apart() -> None:
    """A record that names two leads alike is read like any other."""
    names = ("MLII", "MLII", "ECG", "ecg mlii", "MLII-2")
    header = "r 5 250 1\n" + "".join(f"r.dat 16 200 12 0 0 0 0 {name}\n" for name in names)
    assert read_record("r", _files(header, bytes(10))).leads == ("MLII", "MLII-2", "ECG3", "MLII-3", "MLII-2-2")


def test_of_more_leads_than_can_be_taken_the_known_ones_are() -> None:
    """A body-surface map of twenty leads is read: the leads that Edgeward knows, then others in their order."""
    names = [*(f"map{k}" for k in range(18)), "V1", "II"]
    header = "r 20 250 1\n" + "".join(f"r.dat 16 200 12 0 0 0 0 {name}\n" for name in names)
    reader = _files(header, np.arange(20, dtype="<i2").tobytes())
    got = read_record("r", reader)
    assert got.leads == (*names[:14], "V1", "II")
    np.testing.assert_allclose(got.samples[-2:, 0], [18 / 200, 19 / 200], rtol=1e-6)
    with pytest.raises(InputError) as caught:
        read_record("r", reader, channels=range(17))
    assert caught.value.code == "too-many-leads"


def test_other_signals_are_left_aside() -> None:
    """A pressure between two leads is skipped, not misread."""
    header = "r 3 250 2\nr.dat 16 1/mV 12 0 0 0 0 II\nr.dat 16 1/mmHg 12 0 0 0 0 ABP\nr.dat 16 1/mV 12 0 0 0 0 V1\n"
    data = np.array([1, 90, 2, 3, 91, 4], dtype="<i2").tobytes()
    got = read_record("r", _files(header, data))
    assert (got.leads, got.samples.tolist()) == (("II", "V1"), [[1, 3], [2, 4]])
    assert read_record("r", _files(header, data), channels=[2]).leads == ("V1",)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("r 1 250 2\nr.dat 16 1/mmHg 12 0 0 0 0 ABP\n", "no-ecg"),
        ("r 0 250 2\n", "no-ecg"),
        ("r 1 50 2\nr.dat 16 200 12 0 0 0 0 II\n", "rate-unusable"),
        ("r 1 20000 2\nr.dat 16 200 12 0 0 0 0 II\n", "rate-unusable"),
        ("r 1 250 2\nr.dat 16 1/V 12 0 0 0 0 II\n", "ecg-scale"),
    ],
)
def test_records_that_cannot_be_judged_are_refused(header: str, code: str) -> None:
    """No ECG, an impossible rate or a wrong unit: each by its own code."""
    with pytest.raises(InputError) as caught:
        read_record("r", _files(header, bytes([1, 0, 9, 0])))
    assert caught.value.code == code


@pytest.mark.parametrize("chosen", [[5], [-1], []])
def test_only_signals_that_are_there_can_be_chosen(chosen: list[int]) -> None:
    """A wrong index is an InputError."""
    with pytest.raises(InputError):
        read_record("r", _files("r 1 250 1\nr.dat 16 200 12 0 0 0 0 II\n", bytes(2)), channels=chosen)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SignalSpec("r.dat", 212, gain=200.0, baseline=1024, adc_bits=11, adc_zero=1024), (-5.12, 5.115)),
        (SignalSpec("r.dat", 16, gain=1000.0), (-32.767, 32.767)),
        (SignalSpec("r.dat", 16, gain=-1000.0), (-32.767, 32.767)),
        (SignalSpec("r.dat", 212, gain=200.0, adc_bits=16), (-2047 / 200, 2047 / 200)),
        (SignalSpec("r.dat", 80, gain=10.0, units="uV", adc_zero=9999, adc_bits=4), (-0.0127, 0.0127)),
    ],
)
def test_converter_rails(spec: SignalSpec, expected: tuple[float, float]) -> None:
    """The rails come from the converter's stated range, or else from the format's."""
    assert rails(spec) == pytest.approx(expected)


def test_a_cut_record_is_refused_or_goes_on_by_choice() -> None:
    """Truncation is an error that names both lengths, unless it is allowed."""
    files = encode_record(_record(np.zeros((2, 100))))
    files["r.dat"] = files["r.dat"][:-10]
    with pytest.raises(InputError, match="97 of 100"):
        read_record("r", files.__getitem__)
    got = read_record("r", files.__getitem__, allow_truncated=True)
    assert (got.samples.shape, got.missing_samples) == ((2, 97), 3)


@settings(max_examples=60)
@given(st.data())
def test_a_mutated_record_is_read_or_refused(data: st.DataObject) -> None:
    """Bytes changed or cut in any file: a record with finite or missing samples, or an InputError."""
    record = _record(np.random.default_rng(1).normal(0, 1, (2, 40)))
    files = encode_record(record, fmt=data.draw(st.sampled_from([16, 212])))
    name = data.draw(st.sampled_from(sorted(files)))
    damaged = bytearray(files[name])
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    files[name] = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        got = read_record("r", lambda asked: files.get(asked, b""), allow_truncated=data.draw(st.booleans()))
    except InputError:
        return
    assert not np.isinf(got.samples).any()


# --- against the wfdb package


@_ORACLE_WARNINGS
def test_the_arrhythmia_database_reads_as_wfdb_reads_it(mitdb: Path) -> None:
    """Samples to float32 precision and every field of every annotation, on all records that are there."""
    wfdb = pytest.importorskip("wfdb")
    names = sorted(path.stem for path in mitdb.glob("*.hea"))
    assert names
    for name in names:
        ours = read_record(name, _reader(mitdb))
        if name in names[:3]:  # decoding is checked by the checksum in all of them
            theirs = wfdb.rdrecord(str(mitdb / name))
            assert ours.samples.shape == theirs.p_signal.T.shape
            np.testing.assert_allclose(ours.samples, theirs.p_signal.T, atol=1e-5)
        a = read_annotations(name, "atr", _reader(mitdb), rate_hz=ours.rate_hz)
        b = wfdb.rdann(str(mitdb / name), "atr")
        assert (a.sample.tolist(), list(a.symbol)) == (b.sample.tolist(), b.symbol)
        assert (a.subtype.tolist(), a.chan.tolist(), a.num.tolist()) == (
            b.subtype.tolist(),
            b.chan.tolist(),
            b.num.tolist(),
        )
        assert list(a.aux) == [note.rstrip("\x00") for note in b.aux_note]


@_ORACLE_WARNINGS
def test_ptb_xl_reads_as_wfdb_reads_it(shared_data: Path) -> None:
    """Twelve leads in format 16, lead names in our spelling."""
    wfdb = pytest.importorskip("wfdb")
    folder = shared_data / "ptbxl" / "records500"
    names = sorted(path.stem for path in folder.glob("*.hea"))
    assert names
    for k, name in enumerate(names):
        ours = read_record(name, _reader(folder))
        assert ours.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
        if k % 40 == 0:
            np.testing.assert_allclose(ours.samples, wfdb.rdrecord(str(folder / name)).p_signal.T, atol=1e-5)


@_ORACLE_WARNINGS
@pytest.mark.parametrize("fmt", [16, 24, 32, 61, 80, 160, 212, 310, 311])
@pytest.mark.parametrize(("channels", "count"), [(1, 7), (2, 12), (3, 50)])
def test_every_format_reads_as_wfdb_reads_it(tmp_path: Path, fmt: int, channels: int, count: int) -> None:
    """Random bytes, random baselines and offset: the same samples here as there."""
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(1000 * fmt + channels)
    offset = int(rng.integers(0, 9))
    data = rng.integers(0, 256, offset + 4 * channels * (count + 2), dtype=np.uint8)
    if fmt == 311:
        data[offset + 3 :: 4] &= 0x3F  # two bits that are not used, and that the package lets in
    specs = tuple(
        SignalSpec(
            "r.dat",
            fmt,
            byte_offset=offset,
            gain=(1e9 if fmt == 32 else 1e5) * (c + 1),
            baseline=int(rng.integers(-9, 9)),
            checksum=0,
            description=f"L{c}",
        )
        for c in range(channels)
    )
    (tmp_path / "r.hea").write_text(encode_header(Header("r", 500.0, count, specs)))
    (tmp_path / "r.dat").write_bytes(data.tobytes())
    theirs = wfdb.rdrecord(str(tmp_path / "r"))
    ours = read_record("r", _reader(tmp_path))
    np.testing.assert_allclose(ours.samples, theirs.p_signal.T, rtol=1e-6, atol=1e-6, equal_nan=True)


@_ORACLE_WARNINGS
def test_wfdb_reads_what_we_write(tmp_path: Path) -> None:
    """Records and annotations written here are read by the package."""
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 0.5, (2, 333))
    samples[0, 10:20] = np.nan
    for fmt in (16, 212):
        for name, data in encode_record(_record(samples), fmt=fmt, gain=500.0).items():
            (tmp_path / name).write_bytes(data)
        theirs = wfdb.rdrecord(str(tmp_path / "r"))
        assert (theirs.fs, theirs.sig_name) == (360.0, ["II", "V1"])
        raw = wfdb.rdrecord(str(tmp_path / "r"), physical=False)
        assert [c % 65536 for c in raw.checksum] == list(raw.calc_checksum())
        np.testing.assert_allclose(theirs.p_signal.T, samples, atol=0.5 / 500.0 + 1e-6, equal_nan=True)
    (tmp_path / "r.edg").write_bytes(encode_annotations(Annotations.of([5, 2000, 90_000], "NVQ")))
    theirs = wfdb.rdann(str(tmp_path / "r"), "edg")
    assert (theirs.sample.tolist(), theirs.symbol) == ([5, 2000, 90_000], ["N", "V", "Q"])
