"""Numerics, patients and places of an SDC device as readings: right kind, unit and time, never the wrong patient."""

from __future__ import annotations

import pytest
import sdc_text as text

from edgeward.bedside.source.reading import Change, Reading
from edgeward.bedside.source.sdc_mdib import Need
from edgeward.bedside.source.sdc_numerics import SdcNumerics
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.signal.numeric import Kind
from edgeward.wire.codes import CodeTable, SiteCode
from edgeward.wire.sdc import decode

BOOT_MS = 1_767_225_600_000  # 2026-01-01, at monotonic 0
HR = text.metric("hr", "147842", "264864")


class _Device:
    """A device and what was read of it; one second passes with each message."""

    def __init__(
        self, metrics: str, states: str = "", *, codes: CodeTable | None = None, description: str = ""
    ) -> None:
        self.numerics = SdcNumerics("dev", codes or CodeTable())
        self.description = description or text.mds(metrics)
        self.now_s = 1000.0
        self.number = 1
        self.first = self.load(states)

    @property
    def now_ms(self) -> int:
        """The device's own time."""
        return BOOT_MS + round(self.now_s * 1000)

    def _tick(self) -> tuple[int, int]:
        self.now_s += 1.0
        self.number += 1
        return round(self.now_s * NS_PER_S), self.now_ms * NS_PER_MS

    def load(self, states: str = "") -> list[Reading]:
        self.numerics.asked()
        now = self._tick()
        return self.numerics.load([decode(text.mdib(self.description, states, self.number))], *now)

    def report(self, *states: str, name: str = "EpisodicMetricReport") -> list[Reading]:
        now = self._tick()
        return self.numerics.report(decode(text.report(name, "".join(states), self.number)), *now)

    def context(self, *states: str) -> list[Reading]:
        return self.report(*states, name="EpisodicContextReport")


def _values(readings: list[Reading]) -> list[tuple[Kind, float | None]]:
    return [(numeric.kind, numeric.value) for reading in readings for numeric in reading.numerics]


def _codes(readings: list[Reading]) -> list[str]:
    return [refusal.code for reading in readings for refusal in reading.refusals]


def _changes(readings: list[Reading]) -> list[tuple[Change | None, set[str], str]]:
    return [
        (reading.change, set(reading.patient.identifiers) if reading.patient else set(), reading.place)
        for reading in readings
    ]


def test_units_become_canonical() -> None:
    """MDC codes of metric and unit; a translation of either serves as well."""
    translated = text.metric("own", "1", "2").replace(
        '<pm:Type Code="1"/><pm:Unit Code="2"/>',
        '<pm:Type Code="1" CodingSystem="urn:own"><pm:Translation Code="8867-4" CodingSystem="http://loinc.org"/>'
        '</pm:Type><pm:Unit Code="2" CodingSystem="urn:own"><pm:Translation Code="264864"/></pm:Unit>',
    )
    device = _Device(translated + text.metric("co2", "151708", "265987") + text.metric("t", "150344", "266560"))
    at = device.now_ms
    readings = device.report(
        text.numeric("own", "70", at_ms=at), text.numeric("co2", "5", at_ms=at), text.numeric("t", "100.4", at_ms=at)
    )
    assert dict(_values(readings)) == {Kind.HR: 70.0, Kind.ETCO2: pytest.approx(37.503, abs=1e-3), Kind.TEMP: 38.0}
    assert _codes(readings) == []


def test_what_is_not_known_is_told_once_and_left_aside() -> None:
    """An unknown code, a name that contradicts its code, a wrong unit: one word each with the MDIB, and no numbers."""
    pleth = text.metric("d", "147842", "264864").replace(
        'Code="147842"/>', 'Code="147842"><pm:Translation Code="149530"/></pm:Type>'
    )
    device = _Device(
        text.metric("a", "999999", "264864")
        + text.metric("b", "150456", "262688", name="MDC_AWAY_CO2_ET")
        + text.metric("c", "147842", "266016")
        + pleth
    )
    assert sorted(_codes(device.first)) == [
        "code-contradiction", "code-name-mismatch", "code-unknown", "unit-mismatch",
    ]  # fmt: skip
    assert {refusal.where for reading in device.first for refusal in reading.refusals} == {"999999", "150456", "147842"}
    readings = device.report(*(text.numeric(handle, "70", at_ms=device.now_ms) for handle in "abcd"))
    assert _values(readings) == []


def test_a_site_extends_the_table() -> None:
    """A local code of a vendor's own system."""
    own = text.metric("x", "77", "264864").replace('Code="77"', 'Code="77" CodingSystem="urn:own"')
    device = _Device(own, codes=CodeTable((SiteCode("urn:own", "77", "", Kind.HR, ""),)))
    assert _values(device.report(text.numeric("x", "70", at_ms=device.now_ms))) == [(Kind.HR, 70.0)]


@pytest.mark.parametrize(
    ("validity", "value", "measured"),
    [
        ("Vld", "70", 70.0), ("Vldated", "70", 70.0), ("Qst", "70", 70.0), ("Inv", "70", None), ("Calib", "70", None),
        ("Ong", "", None), ("NA", "", None), ("Oflw", "", None), ("Uflw", "1", None), ("Vld", "", None),
    ],
)  # fmt: skip
def test_validity_says_whether_a_value_was_measured(validity: str, value: str, measured: float | None) -> None:
    """A value that was not measured is told as such; it is news, and no zero."""
    device = _Device(HR)
    readings = device.report(text.numeric("hr", value, validity=validity, at_ms=device.now_ms))
    assert _values(readings) == [(Kind.HR, measured)]
    assert _codes(readings) == (["overflow"] if validity in {"Oflw", "Uflw"} else [])


def test_a_metric_that_is_switched_off_is_unmeasured() -> None:
    """Whatever value still stands in its state."""
    device = _Device(HR)
    assert _values(device.report(text.numeric("hr", "70", active="Off", at_ms=device.now_ms))) == [(Kind.HR, None)]


def test_an_implausible_value_is_refused() -> None:
    """Outside what a living patient can show: no numeric, and not "unmeasured" either."""
    device = _Device(HR)
    readings = device.report(text.numeric("hr", "900", at_ms=device.now_ms))
    assert (_values(readings), _codes(readings)) == ([], ["out-of-range"])


def test_a_numeric_carries_the_time_of_its_determination() -> None:
    """Not that of its report; of a fresh MDIB a value of ten minutes ago is taken, one of the day before is not."""
    device = _Device(HR + text.metric("nibp", "150021", "266016"))
    at = device.now_ms
    (reading,) = device.report(text.numeric("hr", "70", at_ms=at), text.numeric("nibp", "120", at_ms=at - 60_000))
    pulse, cuff = reading.numerics
    assert (pulse.at_ns, cuff.at_ns) == (reading.received_ns, reading.received_ns - 60 * NS_PER_S)
    late = _Device(
        HR + text.metric("nibp", "150021", "266016"),
        text.numeric("hr", "70", tag="pm:State", at_ms=BOOT_MS + 401_000)
        + text.numeric("nibp", "120", tag="pm:State", at_ms=BOOT_MS - 90_000_000),
    )
    ((old,),) = [reading.numerics for reading in late.first if reading.numerics]
    assert (old.kind, old.at_ns) == (Kind.HR, 401 * NS_PER_S)
    assert _codes(late.first) == ["time-old"]


def test_a_determination_is_told_once() -> None:
    """By reports, by periodic repetition and by a reloaded MDIB; without timestamps every report is a new one."""
    device = _Device(HR)
    state = text.numeric("hr", "70", version=1, at_ms=device.now_ms)
    assert len(_values(device.report(state))) == 1
    assert _values(device.report(state, name="PeriodicMetricReport")) == []
    assert _values(device.load(state.replace("msg:MetricState", "pm:State"))) == []
    for version in (2, 3):
        assert len(_values(device.report(text.numeric("hr", "70", version=version, at_ms=None)))) == 1


def test_one_probe_speaks_for_a_kind() -> None:
    """Of two temperatures the preferred one that measures is given, so that no trend jumps between them."""
    device = _Device(text.metric("t1", "150344", "268192") + text.metric("t2", "150344", "268192"))
    at = device.now_ms

    def report(handle: str, value: str, version: int, validity: str = "Vld") -> list[tuple[Kind, float | None]]:
        state = text.numeric(handle, value, version=version, validity=validity, at_ms=at + version)
        return _values(device.report(state))

    assert report("t2", "36.0", 1) == [(Kind.TEMP, 36.0)]
    assert report("t1", "37.0", 1) == [(Kind.TEMP, 37.0)]
    assert report("t2", "36.1", 2) == []
    assert report("t1", "", 2, "NA") == [(Kind.TEMP, None)]
    assert report("t2", "36.2", 3) == [(Kind.TEMP, 36.2)]
    assert report("t2", "", 4, "NA") == [(Kind.TEMP, None)]


def test_test_and_demo_data_are_marked() -> None:
    """By the quality of a value, or by the mode of the whole system."""
    device = _Device(HR)
    (reading,) = device.report(text.numeric("hr", "70", mode="Test", at_ms=device.now_ms))
    assert reading.simulated
    device.report(
        '<msg:ComponentState xsi:type="pm:MdsState" DescriptorHandle="mds" StateVersion="1" OperatingMode="Dmo"/>',
        name="EpisodicComponentReport",
    )
    (reading,) = device.report(text.numeric("hr", "71", version=2, at_ms=device.now_ms))
    assert reading.simulated


# --- whose, and where


def test_numbers_go_under_the_name_and_place_of_the_device() -> None:
    """Identifiers, age and sex of the patient; the place as HL7v2 writes it."""
    core = "<pm:Sex>F</pm:Sex><pm:DateOfBirth>1950-01-01</pm:DateOfBirth>"
    device = _Device(HR, text.patient("p", tag="pm:State", core=core) + text.location("l", "5", tag="pm:State"))
    assert _changes(device.first) == [(Change.ADMIT, {"P1^^^urn:oid:1.2.3^"}, "ICU^^5")]
    (reading,) = device.report(text.numeric("hr", "70", at_ms=device.now_ms))
    assert reading.patient is not None
    assert (reading.place, reading.peer, reading.patient.sex) == ("ICU^^5", "dev", "f")
    assert reading.patient.age_y == pytest.approx(76.0, abs=0.02)


@pytest.mark.parametrize(
    ("core", "age"),
    [("<pm:PatientType>Neo</pm:PatientType>", 0.04), ("<pm:PatientType>Ped</pm:PatientType>", 7.0),
     ("<pm:PatientType>Ad</pm:PatientType>", None), ("", None),
     ("<pm:PatientType>Neo</pm:PatientType><pm:DateOfBirth>1950</pm:DateOfBirth>", 75.5)],
)  # fmt: skip
def test_a_child_is_known_for_one(core: str, age: float | None) -> None:
    """By its category where its date of birth is not known: adult limits must not be taken for a newborn's."""
    (reading,) = _Device(HR, text.patient("p", tag="pm:State", core=core)).first
    assert reading.patient is not None
    assert reading.patient.age_y == (None if age is None else pytest.approx(age, abs=0.01))


def test_a_number_that_stands_for_nobody_is_no_identifier() -> None:
    """What a device writes when nobody has entered one does not make one patient of many (11073-10207, R5009)."""
    for placeholder in ("Unknown", "0000", "999999"):
        ((_, who, _),) = _changes(_Device(HR, text.patient("a", tag="pm:State", extension=placeholder)).first)
        assert who == {"a^^^dev^ASSOC"}
    ((_, who, _),) = _changes(_Device(HR, text.patient("a", tag="pm:State", root="", extension="12")).first)
    assert who == {"12^^^dev^"}


def test_another_patient_ends_the_one_before() -> None:
    """The old one is discharged before the new one is admitted, and numbers follow at once."""
    device = _Device(HR, text.patient("a", tag="pm:State", extension="A"))
    changed = device.context(text.patient("a", "Dis", version=1, extension="A"), text.patient("b", extension="B"))
    assert [(change, ids) for change, ids, _ in _changes(changed)] == [
        (Change.DISCHARGE, {"A^^^urn:oid:1.2.3^"}),
        (Change.ADMIT, {"B^^^urn:oid:1.2.3^"}),
    ]
    (reading,) = device.report(text.numeric("hr", "70", at_ms=device.now_ms))
    assert reading.patient is not None
    assert reading.patient.identifiers == {"B^^^urn:oid:1.2.3^"}


def test_an_identification_changed_in_place_is_another_patient() -> None:
    """A device that re-uses the state of an association does not get two patients mixed."""
    device = _Device(HR, text.patient("a", tag="pm:State", extension="A"))
    changed = device.context(text.patient("a", version=1, extension="B"))
    assert [change for change, _, _ in _changes(changed)] == [Change.DISCHARGE, Change.ADMIT]


def test_a_nameless_patient_who_gets_a_name_stays_the_same() -> None:
    """An emergency patient is known by the association, and by both once identified."""
    device = _Device(HR, text.patient("a", tag="pm:State", extension=""))
    ((change, nameless, _),) = _changes(device.first)
    assert change is Change.ADMIT
    ((change, both, _),) = _changes(device.context(text.patient("a", version=1, extension="A")))
    assert (change, both) == (Change.UPDATE, nameless | {"A^^^urn:oid:1.2.3^"})
    other = _Device(HR, text.patient("b", tag="pm:State", extension=""))
    assert _changes(other.first)[0][1].isdisjoint(nameless)


def test_nobody_is_nobody() -> None:
    """When no patient is associated any more, the numbers that follow are nobody's."""
    device = _Device(HR, text.patient("a", tag="pm:State"))
    assert [change for change, _, _ in _changes(device.context(text.patient("a", "Dis", version=1)))] == [
        Change.DISCHARGE
    ]
    (reading,) = device.report(text.numeric("hr", "70", at_ms=device.now_ms))
    assert reading.patient is None


def test_two_patients_at_once_are_none() -> None:
    """The standard allows one: while there are more, no number is given, and it is said why."""
    device = _Device(HR, text.patient("a", tag="pm:State", extension="A"))
    assert [change for change, _, _ in _changes(device.context(text.patient("b", extension="B")))] == [Change.DISCHARGE]
    readings = device.report(text.numeric("hr", "70", at_ms=device.now_ms))
    assert (_values(readings), _codes(readings)) == ([], ["patient-ambiguous"])
    settled = device.context(text.patient("a", "No", version=2, extension="A"))
    assert [change for change, _, _ in _changes(settled)] == [Change.ADMIT]


def test_a_patient_who_moves_with_the_monitor_is_transferred() -> None:
    """From the place before to the place now."""
    device = _Device(HR, text.patient("a", tag="pm:State") + text.location("l", "5", tag="pm:State"))
    (reading,) = device.context(text.location("l", "5", "Dis", version=1), text.location("m", "6"))
    assert (reading.change, reading.previous_place, reading.place) == (Change.TRANSFER, "ICU^^5", "ICU^^6")


def test_a_device_that_comes_back_without_its_patient_discharges() -> None:
    """Whoever lies there after a restart is not known to be the one from before."""
    device = _Device(HR, text.patient("a", tag="pm:State"))
    device.numerics.lost()
    assert [change for change, _, _ in _changes(device.load())] == [Change.DISCHARGE]


def test_a_device_that_comes_back_with_its_patient_goes_on() -> None:
    """The same patient after a lost connection is no change."""
    states = text.patient("a", tag="pm:State")
    device = _Device(HR, states)
    device.numerics.lost()
    assert _changes(device.load(states)) == []


def test_two_beds_behind_one_provider_are_two() -> None:
    """Each system has its own patient, and its own name as a peer."""
    both = text.mds(HR) + text.mds(text.metric("hr2", "147842", "264864"), "mds2", "2")
    states = text.patient("a", tag="pm:State", extension="A")
    device = _Device("", states + text.patient("b", tag="pm:State", extension="B", descriptor="pc2"), description=both)
    at = device.now_ms
    first, second = device.report(text.numeric("hr", "70", at_ms=at), text.numeric("hr2", "90", at_ms=at))
    assert first.patient is not None
    assert second.patient is not None
    assert (first.peer, *first.patient.identifiers) == ("dev/mds", "A^^^urn:oid:1.2.3^")
    assert (second.peer, *second.patient.identifiers) == ("dev/mds2", "B^^^urn:oid:1.2.3^")


def test_a_system_that_is_gone_discharges() -> None:
    """A gateway takes a bed out of its description: its patient lies there no more, and the other bed goes on."""
    both = text.mds(HR) + text.mds(text.metric("hr2", "147842", "264864"), "mds2", "2")
    states = text.patient("a", tag="pm:State", extension="A")
    device = _Device("", states + text.patient("b", tag="pm:State", extension="B", descriptor="pc2"), description=both)
    device.description = text.mds(HR)
    assert [(change, who) for change, who, _ in _changes(device.load(states))] == [
        (Change.DISCHARGE, {"B^^^urn:oid:1.2.3^"})
    ]


def test_what_the_link_must_do_is_said() -> None:
    """A changed description is asked for again; another run needs another connection."""
    device = _Device(HR)
    device.report(name="DescriptionModificationReport")
    assert device.numerics.need is Need.RELOAD
    device.report(text.numeric("hr", "70", at_ms=device.now_ms))
    assert device.numerics.need is Need.NOTHING
    assert "hr" in device.numerics.of_interest
