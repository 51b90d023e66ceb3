"""HL7 v2.6 messages that Edgeward writes: observations (ORU^R01) and word of who lies where (ADT). Pure.

Observations follow IHE PCD-01 (Device Enterprise Communication; IHE PCD TF-2 3.1): MDC codes, UCUM units, OBX-4 by
containment, OBX-11 "R", OBX-14 the instant of observation with its offset. What has no MDC code (a score) has a code of
the system 99EDW. Characters are UTF-8 (MSH-18 "UNICODE UTF-8"), separators the usual ones, whatever is text is escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

LOCAL = "99EDW"
"""Our own codes, as HL7 table 0396 wants local systems named."""
_ESCAPES = {"|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "\\": "\\E\\", "&": "\\T\\"}
_ESCAPES |= {chr(number): f"\\X{number:02X}\\" for number in (*range(0x20), 0x7F)}
_WRITTEN = re.compile(r"\\[FSTRE]\\|\\X(?:[0-9A-Fa-f]{2})+\\|.", re.DOTALL)
_STRUCTURE = frozenset("^&")
PCD_01 = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
"""MSH-21 of a message that keeps IHE PCD-01."""

CODES: Mapping[Kind, tuple[int, str, str]] = MappingProxyType(
    {  # context-free MDC code, reference id, containment in the message (OBX-4: VMD.channel.metric)
        Kind.HR: (147842, "MDC_ECG_HEART_RATE", "1.1.1.1"),
        Kind.VPC_RATE: (148066, "MDC_ECG_V_P_C_RATE", "1.1.1.2"),
        Kind.SPO2: (150456, "MDC_PULS_OXIM_SAT_O2", "1.2.1.1"),
        Kind.PULSE: (149530, "MDC_PULS_OXIM_PULS_RATE", "1.2.1.2"),
        Kind.PERFUSION: (150488, "MDC_BLD_PERF_INDEX", "1.2.1.3"),
        Kind.RR: (151578, "MDC_TTHOR_RESP_RATE", "1.3.1.1"),
        Kind.ABP_SYS: (150033, "MDC_PRESS_BLD_ART_SYS", "1.4.1.1"),
        Kind.ABP_DIA: (150034, "MDC_PRESS_BLD_ART_DIA", "1.4.1.2"),
        Kind.ABP_MEAN: (150035, "MDC_PRESS_BLD_ART_MEAN", "1.4.1.3"),
        Kind.CVP: (150087, "MDC_PRESS_BLD_VEN_CENT_MEAN", "1.4.2.1"),
        Kind.NIBP_SYS: (150021, "MDC_PRESS_BLD_NONINV_SYS", "1.5.1.1"),
        Kind.NIBP_DIA: (150022, "MDC_PRESS_BLD_NONINV_DIA", "1.5.1.2"),
        Kind.NIBP_MEAN: (150023, "MDC_PRESS_BLD_NONINV_MEAN", "1.5.1.3"),
        Kind.TEMP: (150344, "MDC_TEMP", "1.6.1.1"),
        Kind.ETCO2: (151708, "MDC_CONC_AWAY_CO2_ET", "1.7.1.1"),
    }
)
"""How vitals are coded in what we write (IEEE 11073-10101)."""
LOINC: Mapping[Kind, tuple[str, str]] = MappingProxyType(
    {
        Kind.FIO2: ("3150-6", "Inhaled oxygen concentration"),
        Kind.O2_FLOW: ("3151-8", "Inhaled oxygen flow rate"),
        Kind.GCS: ("9269-2", "Glasgow coma score total"),
        Kind.BASE_EXCESS: ("1925-7", "Base excess in Arterial blood by calculation"),
        Kind.HCO3: ("1959-6", "Bicarbonate [Moles/volume] in Blood"),
        Kind.PH: ("2744-1", "pH of Arterial blood"),
        Kind.PACO2: ("2019-8", "Carbon dioxide [Partial pressure] in Arterial blood"),
        Kind.PAO2: ("2703-7", "Oxygen [Partial pressure] in Arterial blood"),
        Kind.BILIRUBIN: ("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma"),
        Kind.BUN: ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma"),
        Kind.CREATININE: ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
        Kind.GLUCOSE: ("2345-7", "Glucose [Mass/volume] in Serum or Plasma"),
        Kind.HCT: ("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count"),
        Kind.HGB: ("718-7", "Hemoglobin [Mass/volume] in Blood"),
        Kind.LACTATE: ("2524-7", "Lactate [Moles/volume] in Serum or Plasma"),
        Kind.PLATELETS: ("777-3", "Platelets [#/volume] in Blood by Automated count"),
        Kind.POTASSIUM: ("2823-3", "Potassium [Moles/volume] in Serum or Plasma"),
        Kind.SODIUM: ("2951-2", "Sodium [Moles/volume] in Serum or Plasma"),
        Kind.WBC: ("6690-2", "Leukocytes [#/volume] in Blood by Automated count"),
    }
)
"""How context and laboratory values are coded in what we write."""


class Coded(NamedTuple):
    """A code of a system with its text (HL7 CWE)."""

    code: str
    text: str
    system: str = LOCAL


MONITORING = Coded("182777000", "monitoring of patient", "SCT")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes to whom: MSH-3 to MSH-6, and MSH-11: "P" for patients, "T" for what is simulated."""

    application: str = "EDGEWARD"
    facility: str = ""
    processing: str = "P"
    receiver: str = ""
    receiver_facility: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """PID: identifiers as CX ("id^^^authority^type", already separated); no name, for what is written needs none."""

    identifiers: tuple[str, ...] = field(default=(), repr=False)
    born: str = field(default="", repr=False)
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What a message's observations belong to (OBR): its id (OBR-3), what it is (OBR-4), from when to when, its status.

    ``id`` "": the message's control id; ``begun`` None: the message's own time.
    """

    id: str = ""
    what: Coded = MONITORING
    begun: datetime | None = None
    ended: datetime | None = None
    status: str = ""


@dataclass(frozen=True, slots=True)
class Obx:
    """One observation: coded (code, name, system), typed ("NM", "ST", "CWE"), with its unit (UCUM) and status.

    ``place``: OBX-4, the containment in a device, or which of several it is.
    """

    code: str
    name: str
    system: str
    value_type: str
    value: str | Coded
    unit: str = ""
    place: str = ""
    status: str = "R"
    at: datetime | None = None


def escape(text: str) -> str:
    """``text`` with HL7's separators and all control characters escaped (HL7 v2.6 section 2.7)."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def contained(text: str) -> str:
    """A field that is written already, with its components and escapes: as it is, but nothing breaks out of it."""
    tokens = (found[0] for found in _WRITTEN.finditer(text))
    return "".join(token if len(token) > 1 or token in _STRUCTURE else _ESCAPES.get(token, token) for token in tokens)


def stamp(at: datetime) -> str:
    """A time with milliseconds and offset: ``20260912120000.250+0530``. ``ValueError`` for a time without zone."""
    if at.tzinfo is None:
        raise ValueError("a time that leaves the device states its zone")
    return f"{at:%Y%m%d%H%M%S}.{at.microsecond // 1000:03d}{at:%z}"


def observation(kind: Kind, value: float | None, at: datetime | None = None) -> Obx:
    """A numeric as an observation; None: the source cannot measure it now (status "X", HL7 table 0085).

    ``ValueError`` for a kind that has no code here.
    """
    if kind is Kind.ACVPU:
        level = "" if value is None else ACVPU_LEVELS[round(value)]
        return Obx("acvpu", "Consciousness (ACVPU)", LOCAL, "ST", level, status="X" if value is None else "R", at=at)
    info = KINDS[kind]
    if kind in CODES:
        number, name, place = CODES[kind]
        code, system = str(number), "MDC"
    elif kind in LOINC:
        (code, name), system, place = LOINC[kind], "LN", ""
    else:
        raise ValueError(f"no code is written for {kind.value}")
    unit = "" if info.unit == "1" else info.unit
    if value is None:
        return Obx(code, name, system, "NM", "", unit, place, "X", at)
    return Obx(code, name, system, "NM", f"{value:.{info.decimals}f}", unit, place, "R", at)


def oru_r01(
    sender: Sender,
    control: str,
    at: datetime,
    place: str,
    rows: Iterable[Obx],
    *,
    person: Person | None = None,
    order: Order | None = None,
    profile: str = PCD_01,
) -> bytes:
    """An unsolicited observation message. ``place``: PV1-3 as components ("ICU^^5"); ``profile``: MSH-21."""
    lines = [
        _msh(sender, control, at, "ORU^R01^ORU_R01", profile),
        *_who(place, person),
        _obr(order or Order(), sender, control, at),
    ]
    lines += [_obx(index, row) for index, row in enumerate(rows, 1)]
    return _joined(lines)


def adt(
    sender: Sender,
    control: str,
    at: datetime,
    trigger: str,
    place: str,
    person: Person,
    *,
    previous_place: str = "",
) -> bytes:
    """Word of who lies where. ``trigger``: "A01" admit, "A02" transfer, "A03" discharge and their like."""
    structure = {"A02": "ADT_A02", "A03": "ADT_A03"}.get(trigger, "ADT_A01")
    lines = [
        _msh(sender, control, at, f"ADT^{trigger}^{structure}", ""),
        f"EVN|{trigger}|{stamp(at)}",
        *_who(place, person, previous_place),
    ]
    return _joined(lines)


def _msh(sender: Sender, control: str, at: datetime, kind: str, profile: str) -> str:
    names = (sender.application, sender.facility, sender.receiver, sender.receiver_facility)
    head = rf"MSH|^~\&|{'|'.join(map(escape, names))}|{stamp(at)}||{kind}|{escape(control)}"
    return f"{head}|{sender.processing}|2.6|||NE|AL||UNICODE UTF-8|||{profile}".rstrip("|")


def _who(place: str, person: Person | None, previous_place: str = "") -> Sequence[str]:
    known = person or Person()
    pid = f"PID|||{'~'.join(map(contained, known.identifiers))}||||{known.born}|{known.sex}"
    visit = f"PV1||I|{contained(place)}|||{contained(previous_place)}"
    return pid.rstrip("|"), visit.rstrip("|")


def _obr(order: Order, sender: Sender, control: str, at: datetime) -> str:
    filler = f"{escape(order.id or control)}^{escape(sender.application)}"
    ended = "" if order.ended is None else stamp(order.ended)
    times = f"{stamp(order.begun or at)}|{ended}"  # OBR-7, -8
    return f"OBR|1||{filler}|{_coded(order.what)}|||{times}{'|' * 17}{order.status}".rstrip("|")


def _obx(index: int, row: Obx) -> str:
    unit = "" if not row.unit else f"{escape(row.unit)}^{escape(row.unit)}^UCUM"
    code = _coded(Coded(row.code, row.name, row.system))
    value = _coded(row.value) if isinstance(row.value, Coded) else escape(row.value)
    at = stamp(row.at) if row.at is not None else ""
    line = f"OBX|{index}|{row.value_type}|{code}|{escape(row.place)}|{value}|{unit}|||||{row.status}|||{at}"
    return line.rstrip("|")


def _coded(coded: Coded) -> str:
    return f"{escape(coded.code)}^{escape(coded.text)}^{escape(coded.system)}"


def _joined(lines: Iterable[str]) -> bytes:
    return ("\r".join(lines) + "\r").encode()
