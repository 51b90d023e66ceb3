"""What a receiver answers to a message of ours: the other side of ``hl7v2_ack``. Pure.

Source: HL7 v2.8.2 sections 2.9 (rules), 2.14.5 (ERR), 2.14.8 (MSA); tables 0008, 0357.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from edgeward.wire.hl7v2 import Hl7Error, parse

if TYPE_CHECKING:
    from edgeward.wire.hl7v2 import Message, Row

TAKEN = frozenset({"AA", "CA"})
FAULTS = frozenset({"AE", "AR", "CE", "CR"})
_CONDITION = re.compile(r"[1-9]\d{2}", re.ASCII)


class Answer(NamedTuple):
    """``code``: MSA-1; ``control``: MSA-2, of the message that is answered; ``condition``: of table 0357, or empty."""

    code: str
    control: str
    condition: str = ""


def read_answer(content: bytes) -> Answer | None:
    """The answer in an MLLP block; None where it is none, or its MSA-1 is none of table 0008. Never raises."""
    try:
        answer = parse(content)
    except Hl7Error:
        return None
    found = next((row for row in answer.rows if row[0] == "MSA"), None)
    code = "" if found is None else answer.text(found, 1)
    if found is None or code not in TAKEN | FAULTS:
        return None
    return Answer(code, answer.text(found, 2), "" if code in TAKEN else _condition(answer, found))


def _condition(answer: Message, msa: Row) -> str:
    """The first code of table 0357 where some version has it: ERR-3, ERR-1.4 before 2.5, MSA-6 before 2.4."""
    for row in answer.rows:
        if row[0] == "ERR":
            for field, component in ((3, 1), (1, 4)):
                found = answer.text(row, field, component)
                if _CONDITION.fullmatch(found):
                    return found
    found = answer.text(msa, 6, 1)
    return found if _CONDITION.fullmatch(found) else ""
