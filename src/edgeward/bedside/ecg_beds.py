"""What a ward knows of its beds' ECG streams: which mode each is in, and where its page is. Pure.

A stream says its mode when that changes. A bed's patient may come later, or a page; so the ward keeps what was said
last and says it again. A stream that crashed or hangs cannot say that it judges nothing any more: this does so for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.fallback import Mode
from edgeward.bedside.verdict import Reason
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TASK = "ecg-beat"


@dataclass(frozen=True, slots=True)
class _Said:
    """A mode, since when, and the how-manieth change it is."""

    mode: str
    reason: str
    since_ns: int
    changes: int


class EcgBeds:
    """The streams of ``beds``; before its first word a stream has no samples to judge."""

    def __init__(self, beds: Iterable[str], now_ns: int) -> None:
        self._shown = {bed: _Said(Mode.NO_AI.value, Reason.GAP.value, now_ns, 0) for bed in beds}
        self._own: dict[str, _Said] = {}
        self.pages: dict[str, str] = {}
        """Address of each bed's ECG page, as its stream told it."""

    def mode(self, bed: str, now_ns: int) -> dict[str, Any] | None:
        """The mode of ``bed`` now, as a message has it; None for a bed without an ECG."""
        said = self._shown.get(bed)
        if said is None:
            return None
        since_ms = max(0, now_ns - said.since_ns) // NS_PER_MS
        told = {"mode": said.mode, "reason": said.reason, "since_ms": since_ms, "changes": said.changes}
        return {"task": TASK, **told}

    def said(self, bed: str, data: Mapping[str, Any], now_ns: int) -> None:
        """The stream of ``bed`` said its mode."""
        since_ns = now_ns - int(data["since_ms"]) * NS_PER_MS
        self._own[bed] = _Said(str(data["mode"]), str(data["reason"]), since_ns, 0)
        self._show(bed, self._own[bed])

    def lost(self, bed: str, mode: Mode, reason: Reason, now_ns: int) -> None:
        """The stream of ``bed`` cannot say its mode; it is this one."""
        self._show(bed, _Said(mode.value, reason.value, now_ns, 0))

    def gone(self, bed: str) -> None:
        """The process is no more: the next one will say its own mode, and what this one said is void."""
        self._own.pop(bed, None)

    def back(self, bed: str) -> None:
        """The stream of ``bed`` speaks again: where it is the same one, its last word holds again."""
        if bed in self._own:
            self._show(bed, self._own[bed])

    def _show(self, bed: str, said: _Said) -> None:
        shown = self._shown.get(bed)
        changes = 0 if shown is None else shown.changes + 1
        self._shown[bed] = _Said(said.mode, said.reason, said.since_ns, changes)
