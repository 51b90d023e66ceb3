"""One OBX: value, unit, status, flags and time, or the reason why it is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.kernel.units import Linear
from edgeward.signal.numeric import Kind
from edgeward.wire.codes import CodeTable, site_codes
from edgeward.wire.hl7v2 import STANDARD, Message, Separators, parse
from edgeward.wire.hl7v2_observation import Observation, Outcome, Reader, Refused, Unused
from edgeward.wire.hl7v2_value import SENTINELS, read_value

READER = Reader(CodeTable())
HR, SPO2, TEMP = "147842^MDC_ECG_HEART_RATE^MDC", "150456^MDC_PULS_OXIM_SAT_O2^MDC", "150344^MDC_TEMP^MDC"
CVP, BPM, MMHG = "150087^MDC_PRESS_BLD_VEN_CENT_MEAN^MDC", "264864^MDC_DIM_BEAT_PER_MIN^MDC", "266016^MDC_DIM_MMHG^MDC"
LACTATE = "2524-7^Lactate [Moles/volume] in Serum or Plasma^LN"


def _obx(
    code: str = HR,
    value: str = "72",
    unit: str = BPM,
    *,
    kind: str = "NM",
    flags: str = "",
    status: str = "F",
    time: str = "20260304101500",
    observed: str = "",
    simulated: bool = False,
    reader: Reader = READER,
    end: str = "\r",
) -> Outcome:
    row = f"OBX|1|{kind}|{code}|1|{value}|{unit}||{flags}|||{status}|||{time}{end}"
    message = parse(f"MSH|^~\\&|A\r{row}".encode())
    return reader.read(message, 1, observed, simulated=simulated)


def _value(*args: str, **named: str) -> float | None:
    outcome = _obx(*args, **named)  # type: ignore[arg-type]
    assert isinstance(outcome, Observation), outcome
    return outcome.value


def test_a_plain_observation() -> None:
    """Kind, value and time, each from its field."""
    outcome = _obx()
    assert isinstance(outcome, Observation)
    assert (outcome.kind, outcome.value, outcome.field, outcome.row) == (Kind.HR, 72.0, "OBX-14", 1)
    assert outcome.stamp is not None
    assert outcome.stamp.offset_s is None


@pytest.mark.parametrize(
    ("code", "value", "unit", "expected"),
    [
        (TEMP, "98.6", "[degF]", 37.0),
        (TEMP, "98.6", "268160^MDC_DIM_FAHR^MDC", 37.0),  # a unit code that nobody knows, a name that all know
        (TEMP, "36.6", "°C", 36.6),
        (CVP, "0.8", "kPa^kPa^UCUM", 6.0005),
        (CVP, "8", "^mmHg", 8.0),
        (HR, "72", "bpm", 72.0),
        (HR, "72", "/min^per minute^UCUM", 72.0),
        (HR, "72", "0004-0aa0^bpm^MDIL", 72.0),
        (SPO2, "0.97", "1^^UCUM", 97.0),
        (LACTATE, "18", "mg/dL", 2.0209),
        ("147842^MDC_ECG_HEART_RATE^MDC", "+072.50", BPM, 72.5),
        ("147842^MDC_ECG_HEART_RATE^MDC", " 72 ", BPM, 72.0),
    ],
)
def test_values_become_canonical_once(code: str, value: str, unit: str, expected: float) -> None:
    """MDC, UCUM and plain spellings of units."""
    assert _value(code, value, unit) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "value", "unit", "why", "field"),
    [
        (HR, "72", "", "unit-missing", "OBX-6"),
        (HR, "72", "furlongs", "unit-unknown", "OBX-6"),
        (HR, "72", "mmHg", "unit-mismatch", "OBX-6"),
        (TEMP, "37", "Cel^°F^UCUM", "unit-contradiction", "OBX-6"),
        (TEMP, "37", "268192^MDC_DIM_FAHR^MDC", "unit-contradiction", "OBX-6"),
        (TEMP, "98.6", "Cel", "out-of-range", "OBX-5"),
        (HR, "999", BPM, "out-of-range", "OBX-5"),
        (HR, "-5", BPM, "out-of-range", "OBX-5"),
        (HR, "72,5", BPM, "value-not-number", "OBX-5"),
        (HR, "7e1", BPM, "value-not-number", "OBX-5"),
        (HR, "nan", BPM, "value-not-number", "OBX-5"),
        (HR, "inf", BPM, "value-not-number", "OBX-5"),
        (HR, "0x48", BPM, "value-not-number", "OBX-5"),
        (HR, "७२", BPM, "value-not-number", "OBX-5"),
        (HR, "7" * 400, BPM, "value-not-number", "OBX-5"),
        (HR, "72~74", BPM, "value-not-single", "OBX-5"),
        (HR, "1966^36.4^", BPM, "value-not-number", "OBX-5"),
        (HR, "", BPM, "value-missing", "OBX-5"),
        ("150456^CO2^MDC", "98", "%", "code-name-mismatch", "OBX-3"),
        ("352^MAKER_RATE^99MNDRY", "0", BPM, "code-unknown", "OBX-3"),
        ("", "0", BPM, "code-missing", "OBX-3"),
        ("147842^MDC_ECG_HEART_RATE^MDC^8310-5^Body temperature^LN", "72", BPM, "code-contradiction", "OBX-3"),
    ],
)
def test_what_cannot_be_trusted_is_refused(code: str, value: str, unit: str, why: str, field: str) -> None:
    """Each with its reason and the field that is at fault."""
    assert _obx(code, value, unit) == Refused(1, why, field)


@pytest.mark.parametrize("sentinel", ["-999", "-999.0", "-99.9", "-1", "-100", "-100.00"])
def test_sentinels_say_that_nothing_was_measured(sentinel: str) -> None:
    """In whatever unit, and without one too."""
    for code, unit in ((HR, BPM), (SPO2, "%"), (TEMP, "[degF]"), ("150301^MDC_PRESS_CUFF_SYS^MDC", MMHG), (HR, "")):
        assert _value(code, sentinel, unit) is None


def test_a_sentinel_that_a_patient_can_show_is_a_value() -> None:
    """A central venous pressure of −1 mmHg and a base excess of −1 are measurements."""
    assert _value(CVP, "-1", MMHG) == -1.0
    assert _value("1925-7^^LN", "-1", "mmol/L") == -1.0
    assert _value(CVP, "-100", MMHG) is None


@pytest.mark.parametrize("text", ["-?-", "---", "***", '""', "N/A"])
def test_texts_for_nothing_measured(text: str) -> None:
    """What a monitor shows instead of a number, and HL7's null."""
    assert _value(value=text, kind="ST") is None
    assert _value(value=text) is None


@pytest.mark.parametrize("status", ["X", "D", "W"])
def test_status_without_a_value(status: str) -> None:
    """Not obtainable, deleted, posted in error: unmeasured, whatever stands in OBX-5 (8388607 is 11073's NaN)."""
    for value in ("", "8388607", "72"):
        assert _value(value=value, unit="", status=status) is None


@pytest.mark.parametrize("status", ["F", "P", "R", "C", "U", "V", "S", ""])
def test_status_with_a_value(status: str) -> None:
    """Preliminary, unverified, corrected or unstated: a value all the same."""
    assert _value(status=status) == 72.0


def test_other_status() -> None:
    """What has no result yet is left aside; what the table does not know is refused."""
    assert [_obx(status=status) for status in "INO"] == [Unused(1, "no-result")] * 3
    assert _obx(status="Q") == Refused(1, "status-unknown", "OBX-11")


@pytest.mark.parametrize("flag", ["INV", "NAV", "CAL", "H~INV", "inv"])
def test_flags_without_a_value(flag: str) -> None:
    """Invalid, not available, calibrating (OBX-8)."""
    assert _value(flags=flag) is None


def test_other_flags() -> None:
    """Questionable and abnormal values are values; demonstrations are a simulated patient's; < and > are bounds."""
    for flag in ("QUES", "H", "LL", "N", "EARLY"):
        assert _value(flags=flag) == 72.0
    for flag in ("TEST", "DEMO"):
        assert _obx(flags=flag) == Refused(1, "test-data", "OBX-8")
        assert isinstance(_obx(flags=flag, simulated=True), Observation)
    for flag in ("<", ">"):
        assert _obx(flags=flag) == Refused(1, "value-bounded", "OBX-8")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("^3.4", 3.4), ("=^3.4", 3.4), ("=^-999", None)],
)
def test_structured_numerics(raw: str, expected: float | None) -> None:
    """SN holds a value only where it is an equality."""
    assert _value(LACTATE, raw, "mmol/L", kind="SN") == expected


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("<^3.4", "value-bounded"),
        (">=^3", "value-bounded"),
        ("^1^:^128", "value-not-single"),
        ("^1^-^2", "value-not-single"),
        ("^", "value-not-number"),
    ],
)
def test_bounds_ratios_and_ranges_are_no_values(raw: str, why: str) -> None:
    """A bound is not a measurement and is not turned into one."""
    assert _obx(LACTATE, raw, "mmol/L", kind="SN") == Refused(1, why, "OBX-5")


def test_value_types() -> None:
    """NM, ST, TX and FT hold numbers; a coded entry does not; NA is a wave."""
    for kind in ("NM", "ST", "TX", "FT"):
        assert _value(kind=kind) == 72.0
    assert _obx(kind="CE", value="72^x") == Refused(1, "value-type", "OBX-2")
    assert _obx(kind="", value="72") == Refused(1, "value-type", "OBX-2")
    assert _obx(kind="NA", value="1^2^3") == Unused(1, "wave")


@pytest.mark.parametrize(
    ("kind", "value", "level"),
    [
        ("CWE", "LA9341-4^Voice^LN", 2.0),
        ("CWE", "X^Alert^L", 0.0),
        ("ST", "A", 0.0),
        ("ST", "c", 1.0),
        ("ST", "Unresponsive", 4.0),
    ],
)
def test_consciousness_is_a_letter_or_a_word(kind: str, value: str, level: float) -> None:
    """ACVPU becomes 0 to 4."""
    assert _value("67775-7^Level of responsiveness^LN", value, "", kind=kind) == level
    assert _obx("67775-7^^LN", "sleepy", "", kind="ST") == Refused(1, "value-not-level", "OBX-5")
    assert _obx("67775-7^^LN", "2", "", kind="NM") == Refused(1, "value-type", "OBX-2")


def test_times_fall_back_from_the_observation_to_the_request() -> None:
    """OBX-14, else OBR-7; a day is no instant; zeros are nothing; a malformed stamp is refused."""
    for own, observed, field in (
        ("20260304101500", "20260304", "OBX-14"),
        ("", "20260304101400", "OBR-7"),
        ("20260304", "20260304101400", "OBR-7"),
        ("00000000000000", "20260304101400", "OBR-7"),
        ("", "", ""),
        ("2026030410", "", ""),
    ):
        outcome = _obx(time=own, observed=observed)
        assert isinstance(outcome, Observation)
        assert outcome.field == field
    assert _obx(time="tea time") == Refused(1, "time-malformed", "OBX-14")
    assert _obx(time="", observed="tea time") == Refused(1, "time-malformed", "OBR-7")


def test_a_last_segment_that_may_be_cut_is_no_observation() -> None:
    """120 may have become 12; with its status, or with its line end, it is whole."""
    content = f"MSH|^~\\&|A\rOBX|1|NM|{HR}||12"
    assert READER.read(parse(content.encode()), 1, "") == Refused(1, "cut-short", "OBX-11")
    assert isinstance(READER.read(parse((content + f"|{BPM}\r").encode()), 1, ""), Observation)
    assert isinstance(READER.read(parse((content + f"|{BPM}|||||F").encode()), 1, ""), Observation)


def test_rows_of_the_device_are_left_aside() -> None:
    """Containment, attributes, and what is known to be of no use."""
    for code in (
        "69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC",
        "68162^MDC_ATTR_FILTER_LABEL_STRING^MDC",
        "150388^MDC_TEMP_SKIN^MDC",
    ):
        assert _obx(code, "x", "", kind="ST") == Unused(1, "known")
    assert _obx("77^own^99X", "", "", kind="", status="X") == Unused(1, "structure")


def test_several_codings_of_one_observation() -> None:
    """They must agree; a broad one gives way to one that says more; an unknown one beside a known one is no harm."""
    spo2, sao2 = "59408-5^^LN", "2708-6^^LN"
    for code in (f"{spo2}^{sao2}", f"{sao2}^{spo2}", f"7^x^99X^{spo2}", f"{spo2}^7^x^99X"):
        outcome = _obx(code, "97", "%")
        assert isinstance(outcome, Observation), code
        assert outcome.kind is Kind.SPO2
    assert _obx(f"8867-4^^LN^{SPO2}", "97", "%") == Refused(1, "code-contradiction", "OBX-3")
    assert _obx(f"8889-8^^LN^{spo2}", "97", "%") == Refused(1, "code-contradiction", "OBX-3")
    assert _obx(f"147842^CO2^MDC^{SPO2}", "97", "%") == Refused(1, "code-name-mismatch", "OBX-3")


def test_a_site_may_name_the_unit_that_its_monitors_leave_out() -> None:
    """What the source states still goes first."""
    reader = Reader(CodeTable(site_codes([{"code": "200", "name": "T1", "kind": "temp", "unit": "degF"}])))
    assert _value("200^T1", "98.6", "", reader=reader) == 37.0  # type: ignore[arg-type]
    assert _value("200^T1", "37.0", "Cel", reader=reader) == 37.0  # type: ignore[arg-type]


def test_memory_of_codes_and_units_is_bounded() -> None:
    """A peer that invents codes does not fill the device."""
    reader = Reader(CodeTable())
    for number in range(9000):
        _obx(f"{number}^x^99X", reader=reader)
        _obx(unit=f"u{number}", reader=reader)
    _obx(f"{'7' * 99_999}^x^99X", reader=reader)
    _obx(unit="u" * 99_999, reader=reader)
    assert max(len(code) for code in reader._codes) < 1000
    assert max(len(unit) for unit, *_ in reader._units) < 1000
    assert len(reader._codes) <= 4096
    assert len(reader._units) <= 4096


def test_unusual_separators_are_read_afresh() -> None:
    """What was remembered of another message's text is not used under other separators."""
    message = Message(
        Separators("|", "!", "~", "\\", "&"), [["MSH"], ["OBX", "1", "NM", "147842!MDC_ECG_HEART_RATE!MDC", "", "72"]]
    )
    message.rows[1] += ["264864!MDC_DIM_BEAT_PER_MIN!MDC", "", "", "", "", "F"]
    assert isinstance(READER.read(message, 1, ""), Observation)
    message.rows[1][3] = HR
    assert READER.read(message, 1, "") == Refused(1, "code-unknown", "OBX-3")


@given(st.text(max_size=20), st.sampled_from(["NM", "SN", "ST", "CWE", ""]), st.sampled_from(list(Kind)))
def test_any_text_is_a_plausible_value_or_refused(raw: str, value_type: str, kind: Kind) -> None:
    """A sentinel never comes out as a value of a kind that cannot show it."""
    message = Message(STANDARD, [["MSH"]])
    with contextlib.suppress(InputError):
        value = read_value(message, value_type, raw, kind, Linear())
        assert value is None or kind is Kind.ACVPU or value not in SENTINELS or kind in {Kind.CVP, Kind.BASE_EXCESS}
