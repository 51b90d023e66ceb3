"""What a device tells a hospital's record, as HL7 v2.6 ORU^R01. Pure.

One message for each entry. OBR-4 says what it is; OBX-3 has our own codes (99EDW), NEWS2 that of SNOMED CT. Codes begin
with the task ("sepsis-risk.probability"), so that an OBX is understood without its OBR.

* a score: probability (%), level, outcome, rung, version, the shares of its inputs that are missing and stale (%), and
  for each driver the feature, its value and its effect in log odds, told apart by OBX-4. A driver's value stands under
  a code of ours, never under that of the vital sign: it is no measurement. A score that was withheld, or that an engine
  failed to give, has "X" (cannot be obtained) at probability and level, and says why;
* NEWS2: the total ("P" while items are missing, "X" while nothing is known), risk, scale and items, a missing one "X";
* an advisory: what it is, whether it is active, its priority, beginning and end. It is final when it is raised, and a
  correction ("C") under the same filler order number (OBR-3) when it is taken back.

MSH-10 follows from the item's id: what is sent again is the same message. PID-3 and PV1-3 are as the sources wrote
them, but that a social security number leaves only where the hospital has given no other. Times are in the site's zone
with its offset, because some receivers read the digits and not the offset.

Source: HL7 v2.6 chapters 2 (control) and 7 (ORU; tables 0085, 0123, 0125); IHE PCD TF-2 for MSH.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from edgeward.wire.entries import PREFER, SNOMED_NEWS2, News2, Notice, Score, numbers, outcome_of
from edgeward.wire.hl7v2_encode import LOCAL, Coded, Obx, Order, Person, Sender, oru_r01, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.wire.entries import Driver, Entry, Whose

FINAL, PRELIMINARY, CORRECTED, NOT_OBTAINED = "F", "P", "C", "X"
"""OBX-11 and OBR-25 (HL7 tables 0085, 0123)."""
_CONTROL_BYTES = 12
_SOCIAL_SECURITY = "SS"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWS2 = Coded(*SNOMED_NEWS2, "SCT")


@dataclass(frozen=True, slots=True)
class Letterhead:
    """Who writes, to whom, and how: ``device``: this device's name at the site; ``zone``: of the times.

    ``prefer``: types of patients' identifiers, the best first.
    """

    device: str
    sender: Sender = field(default_factory=Sender)
    zone: tzinfo = UTC
    prefer: tuple[str, ...] = PREFER


def control(name: str) -> str:
    """MSH-10 for an item's id: 20 characters, which is as long as HL7 before 2.7 allows, the same each time."""
    return base64.b32encode(hashlib.blake2b(name.encode(), digest_size=_CONTROL_BYTES).digest()).decode().rstrip("=")


def control_of(content: bytes) -> str:
    """MSH-10 of a message that ``message`` made, of this version of it or of one before."""
    return content.split(b"|", 10)[9].decode()


def message(entry: Entry, whose: Whose, head: Letterhead, name: str, wall_ns: int) -> bytes:
    """The message that enters ``entry``; ``name``: the item's id; ``wall_ns``: now. ``ValueError`` without a number."""
    known = numbers(whose.identifiers, head.prefer)
    if not known:
        raise ValueError("nobody is entered in a record without a number")
    # What a receiver does not need to find the patient does not leave.
    kept = [one for one in known if not one.endswith(f"^{_SOCIAL_SECURITY}")] or known
    match entry:
        case Score():
            order, rows = _score(entry, head)
        case News2():
            order, rows = _news2(entry, head)
        case Notice():
            order, rows = _notice(entry, head, wall_ns)
    return oru_r01(
        replace(head.sender, processing="T" if entry.simulated else head.sender.processing),
        control(name),
        _at(wall_ns, head),
        whose.place,
        rows,
        person=Person(tuple(kept)),
        order=replace(order, id=f"{head.device}.{order.id}"),
        profile="",
    )


def _score(one: Score, head: Letterhead) -> tuple[Order, list[Obx]]:
    task, label = one.task, outcome_of(one.task).label
    at = _at(one.at_ns, head)
    status = FINAL if one.accepted else NOT_OBTAINED
    percent = _percent(one.probability) if one.accepted else ""
    level = Coded(one.level, one.level) if one.accepted else ""
    rows = [
        Obx(f"{task}.probability", f"Probability of {label.lower()}", LOCAL, "NM", percent, "%", status=status, at=at),
        Obx(f"{task}.level", "Level", LOCAL, "CWE", level, status=status, at=at),
        _said(f"{task}.outcome", "What became of the score", Coded(one.outcome, one.outcome), at),
    ]
    if not one.accepted and one.why:
        rows.append(_said(f"{task}.why", "Why there is no score", Coded(one.why, one.why), at))
    rows += [
        _said(f"{task}.rung", "Rung that gave it", Coded(one.rung, one.rung), at),
        Obx(f"{task}.version", "Version of the bundle", LOCAL, "ST", one.version, status=FINAL, at=at),
    ]
    for code, words, share in (
        ("missing", "Share of the inputs that is missing", one.missing_share),
        ("stale", "Share of the inputs that is stale", one.stale_share),
    ):
        if share is not None:
            rows.append(Obx(f"{task}.{code}", words, LOCAL, "NM", _percent(share), "%", status=FINAL, at=at))
    for number, driver in enumerate(one.drivers, 1):
        rows += _driver(task, driver, str(number), at)
    order = Order(f"score.{one.key}", Coded(task, f"Risk of {label.lower()}"), at, status=status)
    return order, rows


def _driver(task: str, one: Driver, number: str, at: datetime) -> Iterator[Obx]:
    yield _said(f"{task}.driver", "Moves the score", Coded(one.feature, one.label), at, number)
    value, status = ("", NOT_OBTAINED) if one.value is None else (f"{one.value:.6g}", FINAL)
    yield Obx(f"{task}.driver-value", "Its value", LOCAL, "NM", value, one.unit, number, status, at)
    effect = f"{one.effect:.4f}"
    yield Obx(f"{task}.driver-effect", "Its effect in log odds", LOCAL, "NM", effect, "", number, FINAL, at)


def _news2(one: News2, head: Letterhead) -> tuple[Order, list[Obx]]:
    at = _at(one.at_ns, head)
    status = NOT_OBTAINED if one.total is None else FINAL if one.complete else PRELIMINARY
    total = "" if one.total is None else str(one.total)
    rows = [Obx(*_NEWS2, "NM", total, status=status, at=at)]
    if one.risk:
        rows.append(_said("news2.risk", "Clinical risk", Coded(one.risk, one.risk), at, status=status))
    rows.append(Obx("news2.scale", "SpO2 scale", LOCAL, "NM", str(one.scale), status=FINAL, at=at))
    points = [(item, str(number), FINAL) for item, number in sorted(one.items.items())]
    points += [(item, "", NOT_OBTAINED) for item in one.missing]
    for item, number, known in points:
        rows.append(Obx(f"news2.{item}", f"Points for {item}", LOCAL, "NM", number, status=known, at=at))
    return Order(f"news2.{one.key}", _NEWS2, at, status=status), rows


def _notice(one: Notice, head: Letterhead, wall_ns: int) -> tuple[Order, list[Obx]]:
    begun, ended = _at(one.begun_ns, head), None
    status, state, at = FINAL, "active", _at(wall_ns, head)
    if one.ended_ns is not None:
        ended = at = _at(max(one.begun_ns, one.ended_ns), head)
        status, state = CORRECTED, "ended"
    rows = [
        _said("advisory", "Advisory", Coded(one.code, one.text), at, status=status),
        _said("advisory.state", "State", Coded(state, state), at, status=status),
        _said("advisory.priority", "Priority", Coded(one.priority, one.priority), at, status=status),
        Obx("advisory.begin", "Begin", LOCAL, "DTM", stamp(begun), status=status, at=at),
    ]
    if ended is not None:
        rows.append(Obx("advisory.end", "End", LOCAL, "DTM", stamp(ended), status=status, at=at))
    order = Order(f"advisory.{one.key}", Coded("advisory", "Advisory"), begun, ended, status)
    return order, rows


def _said(code: str, name: str, value: Coded, at: datetime, place: str = "", *, status: str = FINAL) -> Obx:
    return Obx(code, name, LOCAL, "CWE", value, place=place, status=status, at=at)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _at(wall_ns: int, head: Letterhead) -> datetime:
    return (_EPOCH + timedelta(microseconds=wall_ns // 1_000)).astimezone(head.zone)
