"""What a browser that joins now must be told: the latest of each kind, pure and bounded.

Times are milliseconds of the server's monotonic clock, passed in. Every datum that leaves carries ``t_ms``, the time at
which it was published, so that a reader can tell its age however long it was held or under way.
"""

from __future__ import annotations

from collections import deque
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.words import mode_title, reason_words
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import MODEL_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS = frozenset({"hello", "mode", "rate", "quality", "latency", "advisory", "alert", "wave", "beat", "qrs"})
"""Every kind that may be published."""
WAVE_KEPT_S = 8
"""Seconds of wave and beats that a joining browser gets at once."""
NOTES_KEPT_MAX = 32
"""Advisories (and, apart, alerts) kept; the oldest ended one goes first."""
ENDED_KEPT_MS = 600_000
"""An ended advisory or alert is shown as recent for ten minutes."""
RATE_TTL_MS = 5_000
"""A heart rate older than this is not shown."""
WAVE_BLOCK_MAX = 1_024
PRIORITIES = ("high", "medium", "low")

_LATEST = ("mode", "rate", "quality", "latency")
_WAVES_MAX = 1_024
_BEATS_MAX = 64
_REQUIRED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "hello": {},
    "mode": {"mode": str},
    "rate": {"hr_bpm": (Real, type(None))},
    "quality": {"leads": dict},
    "latency": {"stages": list},
    "advisory": {"id": (str, Integral), "text": str, "priority": str, "active": bool},
    "alert": {"id": (str, Integral), "text": str, "priority": str, "active": bool},
    "wave": {"i": Integral, "v": (list, tuple)},
    "beat": {"i": Integral, "cls": str, "verdict": str},
    "qrs": {"i": Integral},
}


class PageState:
    """The current state of the page. Not thread-safe: one thread owns it."""

    def __init__(self, hello: Mapping[str, Any], now_ms: float) -> None:
        self._latest: dict[str, dict[str, Any]] = {}
        self._notes: dict[str, dict[str | int, dict[str, Any]]] = {"alert": {}, "advisory": {}}
        self._waves: deque[dict[str, Any]] = deque(maxlen=_WAVES_MAX)
        self._beats: deque[dict[str, Any]] = deque(maxlen=_BEATS_MAX)
        self.apply("hello", hello, now_ms)

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
        """Take one published datum; return what browsers are to be sent. InputError where a field is missing or odd."""
        _check(kind, data)
        sent: dict[str, Any] = {**data, "t_ms": round(now_ms, 1)}
        if kind == "mode":
            sent["title"] = mode_title(data["mode"])
            sent["why"] = reason_words(str(data.get("reason") or ""))
        if kind == "wave":
            self._take_wave(sent)
        elif kind == "beat":
            self._beats.append(sent)
        elif kind == "qrs":
            pass  # a detected beat, for the moment only: its class follows
        elif kind in self._notes:
            self._take_note(self._notes[kind], sent)
        else:
            self._latest[kind] = sent
        return sent

    def joining(self, now_ms: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything that a browser joining now needs, in the order in which it should be applied."""
        self._forget_ended(now_ms)
        for kind in ("hello", *_LATEST):
            if kind in self._latest:
                yield kind, self._latest[kind]
        for kind, notes in self._notes.items():
            for note in notes.values():
                yield kind, note
        for wave in self._waves:
            yield "wave", wave
        for beat in self._beats:
            if self._waves and beat["i"] >= self._waves[0]["i"]:
                yield "beat", beat

    def as_json(self, now_ms: float) -> dict[str, Any]:
        """The state without the wave; ``age_ms`` of each datum counts up to now; a heart rate past its time is null."""
        self._forget_ended(now_ms)
        state: dict[str, Any] = {"hello": _without_time(self._latest["hello"])}
        for kind in _LATEST:
            held = self._latest.get(kind)
            state[kind] = None if held is None else _aged(held, now_ms)
        if state["rate"] is not None and state["rate"]["age_ms"] > self.rate_ttl_ms:
            state["rate"]["hr_bpm"] = None
        if state["mode"] is not None:
            state["mode"]["since_ms"] = state["mode"].get("since_ms", 0) + state["mode"]["age_ms"]
        for kind, notes in self._notes.items():
            state[kind] = [_aged_note(note, now_ms) for note in sorted(notes.values(), key=_rank)]
        state["wave_end"] = self._waves[-1]["i"] + _length(self._waves[-1]) if self._waves else None
        return state

    @property
    def rate_ttl_ms(self) -> float:
        """How old a heart rate may be and still be shown; ``hello`` may name another figure."""
        return float(self._latest["hello"].get("rate_ttl_ms", RATE_TTL_MS))

    def _take_wave(self, wave: dict[str, Any]) -> None:
        end = wave["i"] + _length(wave)
        if self._waves and wave["i"] < self._waves[-1]["i"]:  # the stream began anew: older samples have other indices
            self._waves.clear()
            self._beats.clear()
        self._waves.append(wave)
        while self._waves[0]["i"] + _length(self._waves[0]) <= end - WAVE_KEPT_S * MODEL_RATE_HZ:
            self._waves.popleft()

    def _take_note(self, notes: dict[str | int, dict[str, Any]], note: dict[str, Any]) -> None:
        before = notes.pop(note["id"], None)
        held_ms = 0 if before is None else before["raised_ms_ago"] + note["t_ms"] - before["t_ms"]
        note["raised_ms_ago"] = max(note.get("raised_ms_ago", 0), held_ms)  # a repeat or an end does not make it young
        if not note["active"]:
            still_ended = before is not None and not before["active"]
            note["ended_t_ms"] = before["ended_t_ms"] if before is not None and still_ended else note["t_ms"]
        notes[note["id"]] = note
        if len(notes) > NOTES_KEPT_MAX:
            ended = [key for key, held in notes.items() if not held["active"]]
            quiet_first = sorted(notes, key=lambda key: -PRIORITIES.index(notes[key]["priority"]))
            del notes[(ended or quiet_first)[0]]

    def _forget_ended(self, now_ms: float) -> None:
        for notes in self._notes.values():
            for key in [key for key, note in notes.items() if now_ms - note.get("ended_t_ms", now_ms) > ENDED_KEPT_MS]:
                del notes[key]


def _check(kind: str, data: Mapping[str, Any]) -> None:
    for field, types in _REQUIRED[kind].items():
        if not isinstance(data.get(field, _ABSENT), types):
            raise InputError("page-datum", f"a {kind} for the page lacks {field}, or it has another type; not shown")
    if kind in ("advisory", "alert") and data["priority"] not in PRIORITIES:
        raise InputError("page-datum", f"the priority of an {kind} is not one of {', '.join(PRIORITIES)}; not shown")
    if kind == "wave" and not (data["v"] and 0 < _length(data) <= WAVE_BLOCK_MAX):
        raise InputError("page-datum", f"a wave for the page needs 1 to {WAVE_BLOCK_MAX} samples per lead; not shown")


_ABSENT = object()


def _length(wave: Mapping[str, Any]) -> int:
    return len(wave["v"][0])


def _rank(note: Mapping[str, Any]) -> tuple[bool, int, float]:
    return (not note["active"], PRIORITIES.index(note["priority"]), note["raised_ms_ago"] - note["t_ms"])


def _without_time(held: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in held.items() if key != "t_ms"}


def _aged(held: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    age_ms = round(held.get("age_ms", 0) + now_ms - held["t_ms"])
    return {**_without_time(held), "age_ms": age_ms}


def _aged_note(note: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    aged = {key: value for key, value in note.items() if key not in ("t_ms", "ended_t_ms")}
    aged["raised_ms_ago"] = round(note["raised_ms_ago"] + now_ms - note["t_ms"])
    if not note["active"]:
        aged["ended_ms_ago"] = round(now_ms - note["ended_t_ms"])
    return aged
