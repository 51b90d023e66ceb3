"""What an HL7 v2 message is answered: by the original rules, or by the enhanced ones where MSH-15 or MSH-16 asks.

| what became of it                          | original, application | accept (enhanced) |
|--------------------------------------------|-----------------------|-------------------|
| safely taken                               | AA                    | CA                |
| content at fault: never again as it is     | AE                    | CR                |
| MSH-9, -11 or -12 not acceptable           | AR                    | CR                |
| cannot be taken now: may come again        | AR with 207           | CE with 207       |

The first column is HL7 2.9.2 to the letter. The second keeps one meaning to a code, so that a sender may retry on CE
alone: HL7 2.9.3.2 would let CE also stand for faulty content, which some senders would then send for ever (ADR 10).

An answer holds nothing of the message but what the standard has echoed: MSH-3 to MSH-6 and the control id. The texts of
ERR are ours. Source: HL7 v2.8.2 sections 2.9, 2.14.5 (ERR), 2.14.8 (MSA), tables 0008, 0155, 0357.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from edgeward.wire.hl7v2 import STANDARD, Hl7Error, Message, parse
from edgeward.wire.hl7v2_header import VERSION, Header, read_header

if TYPE_CHECKING:
    from datetime import datetime

SENDER = "EDGEWARD"
_ECHO_CHARS_MAX = 227
_FIELDS = 18
"""MSH-1 to MSH-18; the separator itself is the first."""
_TRIGGER = re.compile(r"[A-Z]\d\d", re.ASCII)
_ERR_IN_FIELDS = (2, 5)
"""From this version on ERR has fields of its own (2.5); before, one composite."""


class Fault(Enum):
    """Who must do what about a message that was not taken."""

    CONTENT = "content"
    """The sender's content is wrong; the same bytes will never be taken."""
    REJECT = "reject"
    """This kind of message is not for us."""
    BUSY = "busy"
    """It cannot be taken now; the same bytes may be sent again."""


class Condition(NamedTuple):
    """How a refusal is told: fault, code and text of HL7 table 0357."""

    fault: Fault
    number: str
    text: str


class Judgement(NamedTuple):
    """What became of a message: ``code`` "" where it was taken; ``where``: HL7 segment and field ("PID-3")."""

    code: str = ""
    where: str = ""

    @property
    def taken(self) -> bool:
        """Whether it was taken."""
        return not self.code


BUSY = "busy"
NOT_HERE = "not-here"
"""No patient of the message lies in a bed of this device."""

_SEQUENCE = Condition(Fault.CONTENT, "100", "Segment sequence error")
_REQUIRED = Condition(Fault.CONTENT, "101", "Required field missing")
_TYPE = Condition(Fault.CONTENT, "102", "Data type error")
_LONG = Condition(Fault.CONTENT, "104", "Value too long")
_MANY = Condition(Fault.CONTENT, "198", "Non-conformant cardinality")
_EVENT = Condition(Fault.REJECT, "201", "Unsupported event code")

CONDITIONS = {
    "message-empty": _SEQUENCE,
    "header-missing": _SEQUENCE,
    "mllp-no-end": _SEQUENCE,
    "mllp-timeout": _SEQUENCE,
    "segment-malformed": _SEQUENCE,
    "segment-order": _SEQUENCE,
    "segment-unknown": _SEQUENCE,
    "message-oversize": _LONG,
    "mllp-oversize": _LONG,
    "separators-invalid": _TYPE,
    "charset-unsupported": _TYPE,
    "segments-too-many": _MANY,
    "fields-too-many": _MANY,
    "patients-too-many": _MANY,
    "patient-missing": _REQUIRED,
    "place-missing": _REQUIRED,
    "prior-missing": _REQUIRED,
    "message-type-missing": Condition(Fault.REJECT, "101", "Required field missing"),
    "message-type-unsupported": Condition(Fault.REJECT, "200", "Unsupported message type"),
    "event-unsupported": _EVENT,
    "alerts-unsupported": _EVENT,
    "waves-unsupported": _EVENT,
    "processing-unknown": Condition(Fault.REJECT, "202", "Unsupported processing id"),
    "version-unknown": Condition(Fault.REJECT, "203", "Unsupported version id"),
    "internal": Condition(Fault.CONTENT, "207", "Application error"),
    NOT_HERE: Condition(Fault.CONTENT, "204", "Unknown key identifier"),
    "place-malformed": _TYPE,
    "identifier-malformed": _TYPE,
    BUSY: Condition(Fault.BUSY, "207", "Application error"),
}
"""Every code with which a whole message may be refused."""

_ORIGINAL = {Fault.CONTENT: "AE", Fault.REJECT: "AR", Fault.BUSY: "AR"}
_ACCEPT = {Fault.CONTENT: "CR", Fault.REJECT: "CR", Fault.BUSY: "CE"}


def replies(header: Header, judgement: Judgement) -> list[str]:
    """The acknowledgement codes (MSA-1) to send for a message, in order; none where the sender wants none."""
    fault = None if judgement.taken else CONDITIONS[judgement.code].fault
    application = _ORIGINAL[fault] if fault else "AA"
    if not header.enhanced:
        return [application]
    codes = []
    if _wanted(header.accept, taken=judgement.taken):
        codes.append(_ACCEPT[fault] if fault else "CA")
    if _wanted(header.application, taken=judgement.taken):
        codes.append(application)
    return codes


def salvage(head: bytes) -> tuple[Message, Header] | None:
    """The MSH row alone of something that is no message, so that it can be answered; None where there is none."""
    at = head.find(b"MSH")
    line = head[at:].split(b"\r", 1)[0].split(b"\n", 1)[0] if at >= 0 else b""
    # Fields behind those that an answer needs may be what is wrong with it.
    line = line[3:4].join(line.split(line[3:4], _FIELDS)[:_FIELDS]) if len(line) > 3 else line
    try:
        message = parse(line + b"\r")
    except Hl7Error:
        return None
    return message, read_header(message)


def encode_ack(
    heard: tuple[Message, Header] | None, judgement: Judgement, code: str, *, now: datetime, control: str
) -> bytes:
    """The bytes of one acknowledgement (without MLLP blocks).

    ``heard``: what is answered, None where not even its MSH could be read; ``code``: MSA-1, one of ``replies``;
    ``now``: wall time with its zone; ``control``: MSH-10 of the answer.
    """
    message, header = heard or (None, None)
    field, component = (message.separators if message is not None else STANDARD)[:2]
    # With separators that cannot build an acknowledgement (no component separator), only plain fields are sent.
    joint = component or ""
    version = _version(header)
    trigger = header.trigger if header is not None and _TRIGGER.fullmatch(header.trigger) else ""
    kind = joint.join(["ACK", trigger, "ACK"]) if trigger and joint else "ACK"
    wants = ["NE", "NE"] if code in {"AA", "AE", "AR"} and header is not None and header.enhanced else ["", ""]
    msh = [
        "MSH",
        _encoding(message),
        *(_echo(message, at) for at in (5, 6, 3, 4)),
        now.strftime("%Y%m%d%H%M%S") + f".{now.microsecond // 1000:03d}" + now.strftime("%z"),
        "",
        kind,
        control,
        header.processing if header is not None and header.processing in {"P", "T", "D"} else "P",
        version,
        "",
        "",
        *wants,
        "",
        _echo(message, 18),
    ]
    msh[2] = msh[2] or SENDER
    rows = [msh, ["MSA", code, header.control if header is not None else ""]]
    if not judgement.taken:
        rows.append(_err(judgement, version, joint))
    text = "".join(field.join(row).rstrip(field) + "\r" for row in rows)
    return text.encode(message.codec if message is not None else "ascii", "replace")


def _wanted(condition: str, *, taken: bool) -> bool:
    return condition == "AL" or condition == ("SU" if taken else "ER")


def _err(judgement: Judgement, version: str, joint: str) -> list[str]:
    condition = CONDITIONS[judgement.code]
    error = joint.join([condition.number, condition.text, "HL70357"]) if joint else condition.number
    segment, _, position = judgement.where.partition("-")
    if _numbers(version) < _ERR_IN_FIELDS:
        return ["ERR", joint.join([segment, "1" if segment else "", position, condition.number]) if joint else error]
    location = joint.join([segment, "1", position]).rstrip(joint) if segment and joint else segment
    return ["ERR", "", location, error, "E", judgement.code, "", "", _advice(condition.fault)]


def _advice(fault: Fault) -> str:
    return {
        Fault.CONTENT: "The message was not taken; sent again as it is, it will not be taken either",
        Fault.REJECT: "Messages of this kind are not read here",
        Fault.BUSY: "The message was not taken now; it may be sent again",
    }[fault]


def _version(header: Header | None) -> str:
    return header.version if header is not None and VERSION.fullmatch(header.version) else "2.6"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _encoding(message: Message | None) -> str:
    return "".join(message.separators[1:]) if message is not None else "".join(STANDARD[1:])


def _echo(message: Message | None, field: int) -> str:
    """A field of MSH as it was sent, so that escapes and separators stay right; "" where it is far too long."""
    raw = message.raw(message.rows[0], field).strip() if message is not None else ""
    return raw if len(raw) <= _ECHO_CHARS_MAX else ""
