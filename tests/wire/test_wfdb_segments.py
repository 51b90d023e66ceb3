"""Multi-segment WFDB records: joined by the names of their leads, alone and against the wfdb package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.wfdb import Record, encode_record, parse_layout, read_record
from edgeward.wire.wfdb_header import parse_header

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(3)
WAVES = {name: RNG.normal(0, 0.5, 100).astype(np.float32) for name in ("II", "V1", "V5")}


def _segment(name: str, leads: tuple[str, ...], start: int, stop: int, rate_hz: float = 250.0) -> dict[str, bytes]:
    samples = np.stack([WAVES[lead][start:stop] for lead in leads])
    return encode_record(Record(name, leads, rate_hz, samples, ((-32.0, 32.0),) * len(leads)))


def _files(layout: str, *segments: dict[str, bytes]) -> dict[str, bytes]:
    files = {"r.hea": layout.encode()}
    for segment in segments:
        files |= segment
    return files


def test_segments_are_joined_and_gaps_are_missing() -> None:
    """A lead that a segment lacks, and a stretch without a recording, are missing samples, never zeros."""
    files = _files(
        "r/4 2 250 100\n# a comment\ns1 40\n~ 10\ns2 30\ns3 20\n",
        _segment("s1", ("II", "V1"), 0, 40),
        _segment("s2", ("V5", "II"), 50, 80),
        _segment("s3", ("V1", "II"), 80, 100),
    )
    got = read_record("r", files.__getitem__)
    assert (got.name, got.leads, got.rate_hz, got.missing_samples) == ("r", ("II", "V1", "V5"), 250.0, 0)
    expected = np.full((3, 100), np.nan)
    expected[0] = WAVES["II"]
    expected[1, :40], expected[1, 80:] = WAVES["V1"][:40], WAVES["V1"][80:]
    expected[2, 50:80] = WAVES["V5"][50:80]
    expected[:, 40:50] = np.nan
    np.testing.assert_allclose(got.samples, expected, atol=1e-3)


def test_a_layout_segment_and_one_without_ecg_hold_no_samples() -> None:
    """The empty segment that lists a variable layout's signals is no recording; a pressure alone is a gap."""
    layout = "r_layout 2 250 0\n~ 0 200/mV 0 0 0 0 0 II\n~ 0 1/mmHg 0 0 0 0 0 ABP\n"
    pressure = {"p.hea": b"p 1 250 20\np.dat 16 1/mmHg 12 0 0 0 0 ABP\n", "p.dat": bytes(40)}
    files = _files("r/3 2 250 60\nr_layout 0\ns1 40\np 20\n", {"r_layout.hea": layout.encode()}, pressure)
    files |= _segment("s1", ("II",), 0, 40)
    got = read_record("r", files.__getitem__)
    assert got.leads == ("II",)
    assert np.isnan(got.samples[:, 40:]).all()
    assert not np.isnan(got.samples[:, :40]).any()


def test_a_cut_segment_is_refused_or_missing_where_it_was_cut() -> None:
    """By choice the others keep their place, and what is not there is missing there, not at the record's end."""
    files = _files("r/2 1 250 100\ns1 40\ns2 60\n", _segment("s1", ("II",), 0, 40), _segment("s2", ("II",), 40, 100))
    files["s1.dat"] = files["s1.dat"][:60]
    with pytest.raises(InputError) as caught:
        read_record("r", files.__getitem__)
    assert caught.value.code == "wfdb-truncated"
    got = read_record("r", files.__getitem__, allow_truncated=True)
    assert got.missing_samples == 0
    assert np.isnan(got.samples[0, 30:40]).all()
    np.testing.assert_allclose(got.samples[0, 40:], WAVES["II"][40:], atol=1e-3)


@pytest.mark.parametrize(
    ("layout", "code"),
    [
        ("r/0 1 250 40\n", "wfdb-header"),
        ("r/9999999 1 250 40\ns1 40\n", "wfdb-header"),
        ("r/2 1 250 80\ns1 40\n", "wfdb-header"),
        ("r/1 1 250 40\ns1\n", "wfdb-header"),
        ("r/1 1 250 40\ns1 -40\n", "wfdb-header"),
        ("r/1 1 250 40\n../s1 40\n", "wfdb-header"),
        ("r/1 1 250 30\ns1 30\n", "wfdb-header"),  # the segment says 40
        ("r/1 1 250 40\nr 40\n", "wfdb-multi-segment"),  # a record inside itself
        ("r/2 1 250 80\ns1 40\nfast 40\n", "rate-unusable"),
        ("r/1 1 250 40\n~ 40\n", "no-ecg"),
        ("r/2 1 250 9\ns1 40\n~ 999999999999\n", "record-too-long"),
    ],
)
def test_what_cannot_be_joined_is_refused(layout: str, code: str) -> None:
    """Each by its own code, and a claimed length costs no memory."""
    fast = _segment("fast", ("II",), 0, 40, rate_hz=500.0)
    files = _files(layout, _segment("s1", ("II",), 0, 40), fast)
    with pytest.raises(InputError) as caught:
        read_record("r", files.__getitem__)
    assert caught.value.code == code


def test_signals_of_a_joined_record_have_no_numbers() -> None:
    """An index would mean another signal in each segment."""
    files = _files("r/1 1 250 40\ns1 40\n", _segment("s1", ("II",), 0, 40))
    with pytest.raises(InputError, match="no numbers"):
        read_record("r", files.__getitem__, channels=[0])


@settings(max_examples=200)
@given(st.text(alphabet="r/123 ~s\n-.#é", max_size=60))
def test_any_text_is_a_layout_or_a_header_or_refused(text: str) -> None:
    """Nothing else ever comes of a header's text."""
    for parse in (parse_layout, parse_header):
        try:
            parse(text)
        except InputError:
            continue


@pytest.mark.filterwarnings("ignore")
def test_the_package_joins_them_alike(tmp_path: Path) -> None:
    """The wfdb package gives the same samples for a record whose segments have the same signals."""
    wfdb = pytest.importorskip("wfdb")
    files = _files(
        "r/2 2 250 100\ns1 40\ns2 60\n", _segment("s1", ("II", "V1"), 0, 40), _segment("s2", ("II", "V1"), 40, 100)
    )
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    theirs = wfdb.rdrecord(str(tmp_path / "r"))
    ours = read_record("r", lambda name: (tmp_path / name).read_bytes())
    np.testing.assert_allclose(ours.samples, theirs.p_signal.T, atol=1e-6)
