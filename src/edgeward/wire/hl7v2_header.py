"""The MSH segment of an HL7 v2 message, and what in it makes a message unacceptable.

Source: HL7 v2.8.2 sections 2.9.2 (which fields are judged before the content), 2.14.9 (MSH); tables 0008, 0103, 0155.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.errors import InputError
from edgeward.wire.hl7v2 import Hl7Error
from edgeward.wire.hl7v2_time import Stamp, parse_stamp

if TYPE_CHECKING:
    from edgeward.wire.hl7v2 import Message

CONTROL_CHARS_MAX = 199
"""HL7 v2.7 on: MSH-10 has at most 199 characters."""

SENDER_CHARS_MAX = 227

VERSION = re.compile(r"2(?:\.\d){0,3}", re.ASCII)
_PROCESSING = frozenset({"P", "T", "D"})
_CONDITIONS = frozenset({"AL", "NE", "ER", "SU"})


class Header(NamedTuple):
    """What MSH says, escapes undone.

    ``sender``: MSH-3 and MSH-4 as sent, which tell one system behind a connection from another; ``stamp``: MSH-7, None
    where it has no usable one; ``accept`` and ``application``: MSH-15 and MSH-16, "" where empty or no condition.
    """

    sender: str
    stamp: Stamp | None
    kind: str
    trigger: str
    control: str
    processing: str
    version: str
    accept: str
    application: str

    @property
    def enhanced(self) -> bool:
        """Whether the sender asks for enhanced acknowledgement (HL7 2.9.3): MSH-15 or MSH-16 is valued."""
        return bool(self.accept or self.application)

    @property
    def simulated(self) -> bool:
        """Whether no patient made this: processing is "T"raining or "D"ebugging."""
        return self.processing != "P"


def read_header(message: Message) -> Header:
    """The header of ``message``, whatever it says; ``check_header`` judges it. Never raises."""
    row = message.rows[0]
    kind, trigger = message.text(row, 9, 1), message.text(row, 9, 2)
    if not trigger and message.text(row, 9, 3)[3:4] == "_":
        trigger = message.text(row, 9, 3)[4:]
    if not trigger:
        trigger = _trigger(message, kind)
    return Header(
        sender=f"{message.raw(row, 3)[:SENDER_CHARS_MAX]}|{message.raw(row, 4)[:SENDER_CHARS_MAX]}",
        stamp=_stamp(message),
        kind=kind,
        trigger=trigger,
        control=message.raw(row, 10).strip(" \t")[:CONTROL_CHARS_MAX],
        processing=message.text(row, 11) or "P",
        version=message.text(row, 12),
        accept=_condition(message.text(row, 15)),
        application=_condition(message.text(row, 16)),
    )


def check_header(header: Header) -> None:
    """Raise ``Hl7Error`` for what HL7 2.9.2 judges first: MSH-9, MSH-11, MSH-12.

    Codes: ``message-type-missing``, ``processing-unknown``, ``version-unknown``. A missing MSH-11 or MSH-12 is taken
    for production and for a version that does not matter: many monitors leave them out.
    """
    if not header.kind:
        raise Hl7Error("message-type-missing", "a message does not say what it is (MSH-9); correct the sender", "MSH-9")
    if header.processing not in _PROCESSING:
        raise Hl7Error("processing-unknown", "MSH-11 is none of P, T, D; correct the sender", "MSH-11")
    if header.version and VERSION.fullmatch(header.version) is None:
        raise Hl7Error("version-unknown", "a message is not of an HL7 version 2 (MSH-12); correct the sender", "MSH-12")


def _trigger(message: Message, kind: str) -> str:
    """What older senders leave out of MSH-9: of ADT it stands in EVN-1, of ORU it can only be R01."""
    if kind == "ORU":
        return "R01"
    for row in message.rows[1:3]:
        if row[0] == "EVN":
            return message.text(row, 1)
    return ""


def _stamp(message: Message) -> Stamp | None:
    try:
        stamp = parse_stamp(message.text(message.rows[0], 7))
    except InputError:
        return None  # without a usable MSH-7 the time of reception stands for it
    return stamp if stamp is not None and stamp.instant else None


def _condition(text: str) -> str:
    return text if text in _CONDITIONS else ""
