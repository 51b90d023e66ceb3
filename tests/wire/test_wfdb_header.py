"""WFDB headers: what header(5) allows, what real writers do, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.wfdb_header import Header, SignalSpec, ecg_channels, encode_header, parse_header


def _one(signal: str, record: str = "r 1 360 1000") -> SignalSpec:
    return parse_header(f"{record}\n{signal}\n").signals[0]


def test_a_mit_bih_header_is_read() -> None:
    """Every field of an MIT-BIH header lands where header(5) puts it."""
    text = (
        "101 2 360 650000\n101.dat 212 200 11 1024 955 29832 0 MLII\n101.dat 212 200 11 1024 992 19589 0 V1\n# 75 F\n"
    )
    header = parse_header(text)
    assert (header.name, header.rate_hz, header.samples, header.comments) == ("101", 360.0, 650_000, ("75 F",))
    assert header.signals[1] == SignalSpec(
        "101.dat",
        212,
        gain=200.0,
        baseline=1024,
        adc_bits=11,
        adc_zero=1024,
        initial=992,
        checksum=19589,
        description="V1",
    )


@pytest.mark.parametrize(
    ("field", "rate_hz", "counter_hz", "counter_base"),
    [
        ("360", 360.0, None, 0.0),
        ("360/250", 360.0, 250.0, 0.0),
        ("128/60(10.5)", 128.0, 60.0, 10.5),
        ("5e2", 500.0, None, 0),
    ],
)
def test_rates_and_counters(field: str, rate_hz: float, counter_hz: float | None, counter_base: float) -> None:
    """The rate field may carry a counter rate and its base."""
    header = parse_header(f"r 0 {field} 10\n")
    assert (header.rate_hz, header.counter_hz, header.counter_base) == (rate_hz, counter_hz, counter_base)


@pytest.mark.parametrize(
    ("field", "gain", "baseline", "units"),
    [
        ("200", 200.0, 5, "mV"),
        ("200(0)/mV", 200.0, 0, "mV"),
        ("1000.0(-12)/uV", 1000.0, -12, "uV"),
        ("0", 200.0, 5, "mV"),
        ("0(3)/mV", 200.0, 3, "mV"),
        ("10.mV/4096", 409.6, 5, "mV"),
        ("1/mmHg", 1.0, 5, "mmHg"),
        ("-200/mV", -200.0, 5, "mV"),
    ],
)
def test_gains(field: str, gain: float, baseline: int, units: str) -> None:
    """Gain, baseline and unit in every written form; zero is the standard's 200, and no baseline is the ADC's zero."""
    spec = _one(f"r.dat 16 {field} 12 5 0 0 0 II")
    assert (spec.gain, spec.baseline, spec.units) == (gain, baseline, units)


def test_what_the_standard_lets_a_writer_leave_out() -> None:
    """Rate, length, gain and everything after have the defaults of header(5)."""
    header = parse_header("r 1\nr.dat 16\n")
    assert (header.rate_hz, header.samples) == (250.0, None)
    assert header.signals[0] == SignalSpec("r.dat", 16)
    assert parse_header("r 1 250 0\nr.dat 16\n").samples is None


def test_format_modifiers() -> None:
    """Samples per frame, skew and byte offset stand behind the format."""
    spec = _one("r.dat 212x4:3+512 200")
    assert (spec.fmt, spec.samples_per_frame, spec.skew, spec.byte_offset) == (212, 4, 3, 512)


@pytest.mark.parametrize("date", ["12:30:00 01/02/2020", "05-Feb-2020 11:39:16", "nonsense", "11:39"])
def test_base_times_never_matter(date: str) -> None:
    """A date in whatever form is not looked at."""
    assert parse_header(f"r 1 360 1000 {date}\nr.dat 16\n").samples == 1000
    assert parse_header(f"r 1 360 {date}\nr.dat 16\n").rate_hz == 360.0


def test_descriptions_keep_their_spaces_and_may_not_be_ascii() -> None:
    """A description is the rest of the line."""
    assert _one("r.dat 16 200 12 0 0 0 0 ECG lead  II é").description == "ECG lead  II é"


def test_only_ecg_is_chosen() -> None:
    """Pressures, respiration and what is in no unit of potential are left aside."""
    lines = ["II", "ABP", "RESP", "V5", "EEG", "PLETH"]
    units = ["mV", "mmHg", "mV", "uV", "mV", "NU"]
    text = "r 6 250 10\n" + "".join(
        f"r.dat 16 200/{u} 12 0 0 0 0 {name}\n" for name, u in zip(lines, units, strict=True)
    )
    assert ecg_channels(parse_header(text)) == (0, 3)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "wfdb-header"),
        ("# only a comment\n", "wfdb-header"),
        ("\x89PNG\r\n\x1a\n\x00\x00", "wfdb-header"),
        ("r two 360 10\n", "wfdb-header"),
        ("r 2 360 10\nr.dat 16\n", "wfdb-header"),
        ("r -1 360 10\n", "wfdb-header"),
        ("r 100000 360 10\n", "wfdb-header"),
        ("r 1 0 10\nr.dat 16\n", "wfdb-header"),
        ("r 1 -360 10\nr.dat 16\n", "wfdb-header"),
        ("r 1 1e999 10\nr.dat 16\n", "wfdb-header"),
        ("r 1 360 -5\nr.dat 16\n", "wfdb-header"),
        ("r 1 360 10\nr.dat sixteen\n", "wfdb-header"),
        ("r 1 360 10\nr.dat 16 two_hundred\n", "wfdb-header"),
        ("r 1 360 10\nr.dat 16 200 12 zero\n", "wfdb-header"),
        ("r 1 360 10\nr.dat 16 1e-310\n", "wfdb-header"),
        ("r 1 360 10\nr.dat 16 1e300\n", "wfdb-header"),
        ("r 1 360 10\nr.dat 16x99999999 200\n", "wfdb-header"),
        ("r 1 360 10\nr.dat\n", "wfdb-header"),
        ("r/3 1 360 10\nr_1 5\n", "wfdb-multi-segment"),
        ("r 1 360 10\n../r.dat 16\n", "wfdb-file-name"),
        ("r 1 360 10\n/etc/passwd 16\n", "wfdb-file-name"),
        ("r 1 360 10\n..\\r.dat 16\n", "wfdb-file-name"),
        ("r 1 360 10\n.. 16\n", "wfdb-file-name"),
        ("r 1 360 10\n- 16\n", "wfdb-file-name"),
    ],
)
def test_foreign_and_damaged_headers_are_refused(text: str, code: str) -> None:
    """Each gets an InputError of its kind."""
    with pytest.raises(InputError) as caught:
        parse_header(text)
    assert caught.value.code == code


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but an InputError comes out of the parser."""
    with contextlib.suppress(InputError):
        parse_header(text)


@given(st.data())
def test_a_mutated_header_is_read_or_refused(data: st.DataObject) -> None:
    """A good header with some characters replaced or cut does nothing worse."""
    text = (
        "101 2 360/250(3) 650000 12:00:00\n101.dat 212x2:1+4 200.5(3)/mV 11 1024 955 9 0 II\na.dat 16 1 1 1 1 1 1 V\n"
    )
    chars = list(text)
    for _ in range(data.draw(st.integers(1, 4))):
        chars[data.draw(st.integers(0, len(chars) - 1))] = data.draw(st.characters())
    with contextlib.suppress(InputError):
        parse_header("".join(chars)[: data.draw(st.integers(0, len(chars)))])


_INT = st.integers(-(2**31), 2**31)
_SPEC = st.builds(
    SignalSpec,
    file=st.from_regex(r"[a-z0-9_]{1,8}\.dat", fullmatch=True),
    fmt=st.sampled_from([8, 16, 24, 32, 61, 80, 160, 212, 310, 311]),
    samples_per_frame=st.integers(1, 8),
    skew=st.integers(0, 50),
    byte_offset=st.integers(0, 5000),
    gain=st.floats(0.5, 1e5).map(lambda x: float(f"{x:.6g}")),
    baseline=_INT,
    units=st.sampled_from(["mV", "uV", "mmHg", "V"]),
    adc_bits=st.integers(0, 32),
    adc_zero=_INT,
    initial=_INT,
    checksum=st.integers(-32768, 65535),
    block_size=st.integers(0, 100),
    description=st.from_regex(r"([A-Za-z0-9]{1,6}( [A-Za-z0-9]{1,4})?)?", fullmatch=True),
)
_HEADER = st.builds(
    Header,
    name=st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True),
    rate_hz=st.floats(0.1, 1e5).map(lambda x: float(f"{x:.6g}")),
    samples=st.one_of(st.none(), st.integers(1, 10**9)),
    signals=st.lists(_SPEC, max_size=5).map(tuple),
    counter_hz=st.one_of(st.none(), st.just(250.0)),
    counter_base=st.just(0.0),
    comments=st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), max_size=3).map(tuple),
)


@given(_HEADER)
def test_a_written_header_reads_back(header: Header) -> None:
    """encode, then parse, gives the same header."""
    assert parse_header(encode_header(header)) == header
