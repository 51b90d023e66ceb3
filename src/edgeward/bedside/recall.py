"""What a process behind the rim must be told after it was restarted: per stay who lies where, its own memory, the rest.

The process gives its ``memory`` of a stay now and then, with the number of lines it had taken by then; what was fed
after that line is kept beside it. Pure and bounded: the newest numeric of each kind is always kept, older ones only up
to ``NUMERICS_MAX``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import (
    Acknowledged,
    Admitted,
    Discharged,
    Feed,
    Measured,
    Moved,
    Resumed,
    Suspended,
    TaskSettings,
)

if TYPE_CHECKING:
    from edgeward.signal.numeric import Kind, Numeric

STAYS_MAX = 1024
NUMERICS_MAX = 2048
"""Numerics kept of one stay since its last memory; several minutes of a busy monitor."""
DEEDS_MAX = 64
"""Acknowledgements and suspensions kept of one stay since its last memory."""


class Care(IntEnum):
    """How much a restarted process is told. One that died of what it was told is told less the next time."""

    WHOLE = 0
    MEMORY = 1
    """Without what came since the memory: a numeric may have been its death."""
    BEDS = 2
    """Only who lies where: its memory may have been its death."""


@dataclass(slots=True)
class _Stay:
    admitted: Admitted
    memory: Any = None
    since: list[tuple[int, Feed]] = field(default_factory=list)  # (line, what was fed), oldest first
    numerics: int = 0


class Recall:
    """Keeps what every stay's process would have to be told again."""

    def __init__(self) -> None:
        self._stays: OrderedDict[int, _Stay] = OrderedDict()
        self._line = 0

    @property
    def stays(self) -> int:
        """How many stays are kept."""
        return len(self._stays)

    def fed(self, message: Feed) -> None:
        """``message`` is the next line for the process, whether or not there is one to read it now."""
        self._line += 1
        if isinstance(message, TaskSettings):
            return  # what a process is started with says it
        if isinstance(message, Admitted):
            self._admit(message)
            return
        stay = self._stays.get(message.stay)
        if stay is None:
            return
        match message:
            case Discharged():
                del self._stays[message.stay]
            case Moved(_, bed):
                stay.admitted = replace(stay.admitted, bed=bed)
            case Measured() | Acknowledged() | Suspended():
                self._stays.move_to_end(message.stay)
                stay.since.append((self._line, message))
                stay.numerics += len(message.numerics) if isinstance(message, Measured) else 0
                if stay.numerics > NUMERICS_MAX or len(stay.since) > NUMERICS_MAX:
                    _thin(stay)
            case Resumed(_, memory):
                stay.memory, stay.since, stay.numerics = memory, [], 0

    def remember(self, stay: int, memory: Any, taken: int) -> None:
        """The process gave ``memory`` of ``stay`` after it had taken ``taken`` lines: what those held is in it."""
        kept = self._stays.get(stay)
        if kept is None:
            return
        kept.memory = memory
        kept.since = [(line, message) for line, message in kept.since if line > taken]
        kept.numerics = sum(len(message.numerics) for _, message in kept.since if isinstance(message, Measured))

    def replay(self, care: Care = Care.WHOLE) -> list[Feed]:
        """All that a new process is told first, in order; its lines are counted from here on."""
        self._line = 0
        told: list[Feed] = []
        for number, stay in sorted(self._stays.items()):
            told.append(stay.admitted)
            if care >= Care.BEDS:
                stay.memory = None
            if care >= Care.MEMORY:
                stay.since, stay.numerics = [], 0
            if stay.memory is not None:
                told.append(Resumed(number, stay.memory))
            first = len(told) + 1
            told.extend(message for _, message in stay.since)
            stay.since = [(first + k, message) for k, (_, message) in enumerate(stay.since)]
        self._line = len(told)
        return told

    def _admit(self, admitted: Admitted) -> None:
        known = self._stays.get(admitted.stay)
        if known is not None:
            known.admitted = admitted
            return
        self._stays[admitted.stay] = _Stay(admitted)
        if len(self._stays) > STAYS_MAX:
            self._stays.popitem(last=False)


def _thin(stay: _Stay) -> None:
    """Drop the older half of what came since the memory, but the newest numeric of each kind and the latest deeds."""
    half = len(stay.since) // 2 or len(stay.since)
    old, young = stay.since[:half], stay.since[half:]
    later = {numeric.kind for _, message in young if isinstance(message, Measured) for numeric in message.numerics}
    newest: dict[Kind, Numeric] = {}
    deeds: list[tuple[int, Feed]] = []
    for line, message in old:
        if not isinstance(message, Measured):
            deeds.append((line, message))
            continue
        for numeric in message.numerics:
            known = newest.get(numeric.kind)
            if numeric.kind not in later and (known is None or numeric.at_ns >= known.at_ns):
                newest[numeric.kind] = numeric
    kept: list[tuple[int, Feed]] = []
    if newest:
        numerics = tuple(sorted(newest.values(), key=lambda numeric: numeric.at_ns))
        kept.append((old[-1][0], Measured(stay.admitted.stay, numerics)))
    stay.since = sorted([*deeds[-DEEDS_MAX:], *kept], key=lambda entry: entry[0]) + young
    stay.numerics = sum(len(message.numerics) for _, message in stay.since if isinstance(message, Measured))
