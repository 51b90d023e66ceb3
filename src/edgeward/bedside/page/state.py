"""What a browser that joins now must be told: the latest of each kind, pure and bounded.

Times are milliseconds of the server's monotonic clock, passed in. Every datum that leaves carries ``t_ms``, the time at
which it was published, so that a reader can tell its age however long it was held or under way.
"""

from __future__ import annotations

from collections import deque
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import Notes, claims, require
from edgeward.bedside.page.words import mode_title, reason_words
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import MODEL_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS = frozenset({"hello", "mode", "rate", "quality", "latency", "advisory", "alert", "wave", "beat", "qrs"})
"""Every kind that may be published."""
WAVE_KEPT_S = 8
"""Seconds of wave and beats that a joining browser gets at once."""
RATE_TTL_MS = 5_000
"""A heart rate older than this is not shown."""
WAVE_BLOCK_MAX = 1_024

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
        self._notes = {"alert": Notes(), "advisory": Notes()}
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
            self._notes[kind].take(sent)
        else:
            self._latest[kind] = sent
        return sent

    def joining(self, now_ms: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything that a browser joining now needs, in the order in which it should be applied."""
        for notes in self._notes.values():
            notes.forget_ended(now_ms)
        for kind in ("hello", *_LATEST):
            if kind in self._latest:
                yield kind, self._latest[kind]
        for kind, notes in self._notes.items():
            for note in notes:
                yield kind, note
        for wave in self._waves:
            yield "wave", wave
        for beat in self._beats:
            if self._waves and beat["i"] >= self._waves[0]["i"]:
                yield "beat", beat

    def as_json(self, now_ms: float) -> dict[str, Any]:
        """The state without the wave; ``age_ms`` of each datum counts up to now; a heart rate past its time is null."""
        state: dict[str, Any] = {"hello": _without_time(self._latest["hello"])}
        for kind in _LATEST:
            held = self._latest.get(kind)
            state[kind] = None if held is None else _aged(held, now_ms)
        if state["rate"] is not None and state["rate"]["age_ms"] > self.rate_ttl_ms:
            state["rate"]["hr_bpm"] = None
        if state["mode"] is not None:
            state["mode"]["since_ms"] = state["mode"].get("since_ms", 0) + state["mode"]["age_ms"]
        for kind, notes in self._notes.items():
            notes.forget_ended(now_ms)
            state[kind] = [_aged_note(note, now_ms) for note in notes.ranked()]
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


def _check(kind: str, data: Mapping[str, Any]) -> None:
    require(kind, data, _REQUIRED[kind])
    if kind == "wave" and not (data["v"] and 0 < _length(data) <= WAVE_BLOCK_MAX):
        raise InputError("page-datum", f"a wave for the page needs 1 to {WAVE_BLOCK_MAX} samples per lead; not shown")


def _length(wave: Mapping[str, Any]) -> int:
    return len(wave["v"][0])


def _without_time(held: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in held.items() if key != "t_ms"}


def _aged(held: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    age_ms = round(held.get("age_ms", 0) + now_ms - held["t_ms"])
    return {**_without_time(held), "age_ms": age_ms}


def _aged_note(note: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    aged = {key: value for key, value in note.items() if key not in ("t_ms", "ended_t_ms")}
    aged["raised_ms_ago"] = round(note["raised_ms_ago"] + now_ms - note["t_ms"])
    if not claims(note):
        aged["ended_ms_ago"] = round(now_ms - note["ended_t_ms"])
    return aged
