"""What every published datum must have before a page shows it, and the notes (alerts, advisories) of a place. Pure."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PRIORITIES = ("high", "medium", "low")
"""In the order in which they claim attention (IEC 60601-1-8)."""
NOTES_KEPT_MAX = 32
"""Advisories (and, apart, alerts) kept of one place; the oldest ended one goes first."""
ENDED_KEPT_MS = 600_000
"""An ended advisory or alert is shown as recent for ten minutes."""
TEXT_MAX = 160
"""Characters of a published text that are shown."""

_ABSENT = object()


def require(kind: str, data: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> None:
    """InputError ``page-datum`` where a field is missing or of another type, or a priority is none; without content."""
    for name, types in fields.items():
        if not isinstance(data.get(name, _ABSENT), types):
            raise InputError("page-datum", f"a {kind} for the page lacks {name}, or it has another type; not shown")
    if "priority" in fields and data["priority"] not in PRIORITIES:
        raise InputError("page-datum", f"the priority of an {kind} is not one of {', '.join(PRIORITIES)}; not shown")


def real(value: Any) -> float:
    """A published number; InputError where it is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError("page-datum", "a number for the page is none; not shown")
    return float(value)


def real_or_none(value: Any) -> float | None:
    """The same, or None."""
    return None if value is None else real(value)


def age_ms(value: Any) -> float:
    """A published age in ms; what would come from the future is new."""
    return max(0.0, real(value))


def words(value: Any) -> str:
    """A published text, as long as is shown; empty where there is none."""
    return "" if value is None else str(value)[:TEXT_MAX]


class Notes:
    """Alerts or advisories of one place by their id: bounded, ended ones kept for a while, ages never made younger."""

    def __init__(self) -> None:
        self._held: dict[str | int, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The notes in no order that matters."""
        return iter(self._held.values())

    def find(self, name: Any) -> dict[str, Any] | None:
        """The note of an id, as it stands in a message or in a form."""
        return next((note for note in self._held.values() if str(note["id"]) == str(name)), None)

    def take(self, note: dict[str, Any]) -> None:
        """Keep ``note``, which carries ``t_ms``; adds ``raised_ms_ago`` at that time and, once it is over, its end."""
        notes = self._held
        before = notes.pop(note["id"], None)
        held_ms = 0 if before is None else before["raised_ms_ago"] + note["t_ms"] - before["t_ms"]
        note["raised_ms_ago"] = max(note.get("raised_ms_ago", 0), held_ms)  # a repeat or an end does not make it young
        if not claims(note):
            still_ended = before is not None and not claims(before)
            note["ended_t_ms"] = before["ended_t_ms"] if before is not None and still_ended else note["t_ms"]
        notes[note["id"]] = note
        if len(notes) > NOTES_KEPT_MAX:
            ended = [key for key, held in notes.items() if not claims(held)]
            quiet_first = sorted(notes, key=lambda key: -PRIORITIES.index(notes[key]["priority"]))
            del notes[(ended or quiet_first)[0]]

    def forget_ended(self, now_ms: float) -> None:
        """Let go what ended ENDED_KEPT_MS ago."""
        gone = [key for key, note in self._held.items() if now_ms - note.get("ended_t_ms", now_ms) > ENDED_KEPT_MS]
        for key in gone:
            del self._held[key]

    def ranked(self) -> list[dict[str, Any]]:
        """What claims attention before what has ended, then by priority, then the newest first."""
        return sorted(self._held.values(), key=_rank)


def claims(note: Mapping[str, Any]) -> bool:
    """Whether a note still asks for somebody: its condition holds, or held and nobody has seen it (latched)."""
    return bool(note["active"] or note.get("latched"))


def _rank(note: Mapping[str, Any]) -> tuple[bool, int, float]:
    return (not claims(note), PRIORITIES.index(note["priority"]), note["raised_ms_ago"] - note["t_ms"])
