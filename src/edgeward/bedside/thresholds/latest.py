"""What was measured of one stay: the newest numeric of each kind, and whether it still says anything.

A numeric counts until it is replaced, declared unmeasured, or too old. How old is too old follows the source's own
habit: a kind that comes regularly is missed after three of its intervals, at least 10 s; one that comes now and then (a
cuff, a value typed in) holds for a time that fits its kind. What is older than the newest of its kind, or comes twice,
changes nothing; a stamp in the future counts as now, so that one wrong clock cannot shut out what follows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.numeric import Kind, plausible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.signal.numeric import Numeric

REGULAR_MAX_NS = 100 * NS_PER_S
"""A kind comes regularly when its last intervals were all within this."""
MISSED_AFTER_INTERVALS = 3
MISSED_NS_MAX = MISSED_AFTER_INTERVALS * REGULAR_MAX_NS
"""Even the slowest regular kind is missed after this."""
_INTERVALS = 4
_MISSED_NS_MIN_HEART = 10 * NS_PER_S
_MISSED_NS_MIN_ELSE = 30 * NS_PER_S
"""ISO 80601-2-61 clause 201.12.4 lets SpO2 be 30 s old before that must be shown; IEC 60601-2-27 gives the heart 10."""
_HOLD_NS: Mapping[Kind, int] = MappingProxyType(
    dict.fromkeys((Kind.NIBP_SYS, Kind.NIBP_DIA, Kind.NIBP_MEAN), 4_200 * NS_PER_S) | {Kind.TEMP: 21_600 * NS_PER_S}
)
_HOLD_NS_ELSE = 600 * NS_PER_S

_HEART = frozenset({Kind.HR, Kind.BEAT_SILENCE})
EPISODIC = frozenset(_HOLD_NS)
"""Kinds whose silence is never missed: a cuff measures when it is told to, a thermometer is often held by hand."""


@dataclass(slots=True)
class Seen:
    """The newest numeric of a kind. ``value`` None: declared unmeasured at ``at_ns``.

    ``measured_ns``: when there was a value last, -1 never; ``heard_ns``: when it arrived here; ``lost_ns``: since when
    it is declared unmeasured without a break; ``intervals_ns``: the last ones between instants of observation;
    ``missed_ns``: from when on it is missed, None for a kind that is not; ``counts_ns``: until when the value counts.
    """

    value: float | None
    at_ns: int
    heard_ns: int
    measured_ns: int
    lost_ns: int | None
    intervals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_INTERVALS))
    missed_ns: int | None = None
    counts_ns: int = 0

    def expect(self, kind: Kind) -> None:
        """Say from the source's habit until when its newest numeric counts."""
        regular_ns = None if kind in EPISODIC else self.regular_ns
        if regular_ns is None:
            self.missed_ns = None
            self.counts_ns = self.heard_ns + _HOLD_NS.get(kind, _HOLD_NS_ELSE)
        else:
            least_ns = _MISSED_NS_MIN_HEART if kind in _HEART else _MISSED_NS_MIN_ELSE
            self.missed_ns = self.counts_ns = self.heard_ns + _wait_ns(least_ns, regular_ns)

    @property
    def regular_ns(self) -> int | None:
        """The longest of the last intervals of a kind that comes regularly; None for one that does not."""
        if len(self.intervals_ns) < _INTERVALS - 1:
            return None
        longest = max(self.intervals_ns)
        return longest if longest <= REGULAR_MAX_NS else None


class Latest:
    """The newest numerics of one stay, of the kinds in ``kinds``; memory is bounded by their number."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self._kinds = kinds
        self._seen: dict[Kind, Seen] = {}
        self.heard_ns: int | None = None
        """When any numeric last arrived; None before the first."""

    def take(self, numeric: Numeric, now_ns: int) -> bool:
        """Take one numeric; False when it changes nothing.

        So it is with one of other kinds, a duplicate, one older than what is known, and a value that no living patient
        shows, which a source should have refused: if nothing better follows, its kind is missed.
        """
        if numeric.kind not in self._kinds or not (numeric.value is None or plausible(numeric.kind, numeric.value)):
            return False
        at_ns = min(numeric.at_ns, now_ns)
        seen = self._seen.get(numeric.kind)
        if seen is not None and (at_ns < seen.at_ns or (at_ns == seen.at_ns and numeric.at_ns <= now_ns)):
            return False
        self.heard_ns = now_ns
        if seen is None:
            seen = self._seen[numeric.kind] = Seen(numeric.value, at_ns, now_ns, -1, None)
        elif at_ns > seen.at_ns:
            seen.intervals_ns.append(at_ns - seen.at_ns)
        seen.value, seen.at_ns, seen.heard_ns = numeric.value, at_ns, now_ns
        if numeric.value is None:
            seen.lost_ns = at_ns if seen.lost_ns is None else seen.lost_ns
        else:
            seen.measured_ns, seen.lost_ns = at_ns, None
        seen.expect(numeric.kind)
        return True

    def value(self, kind: Kind, now_ns: int) -> float | None:
        """The value of ``kind`` while it counts; None where it is unmeasured, too old or never came."""
        seen = self._seen.get(kind)
        if seen is None or seen.value is None or now_ns > seen.counts_ns:
            return None
        return seen.value

    def value_within(self, kind: Kind, seconds: float, now_ns: int) -> float | None:
        """The value of ``kind`` if it was observed within ``seconds``; None otherwise."""
        seen = self._seen.get(kind)
        if seen is None or seen.value is None or now_ns - seen.at_ns > seconds * NS_PER_S:
            return None
        return seen.value

    def first(self, kinds: tuple[Kind, ...], now_ns: int) -> tuple[Kind, float, int] | None:
        """The kind, value and instant that count of ``kinds``, the preferred first; None when none does.

        A less preferred kind counts only if it is not older than the last value of every preferred one: a cuff's old
        reading must not end an alert that the arterial line gave before it was taken out.
        """
        newest_ns = -1
        for kind in kinds:
            seen = self._seen.get(kind)
            if seen is None:
                continue
            if seen.value is not None and seen.at_ns >= newest_ns and now_ns <= seen.counts_ns:
                return kind, seen.value, seen.at_ns
            newest_ns = max(newest_ns, seen.measured_ns)
        return None

    def lost_since(self, kinds: tuple[Kind, ...], now_ns: int) -> int | None:
        """Since when nothing of ``kinds`` is measured although it was once sent; None while something is, or never was.

        Declared unmeasured: since then. Silent: since it last came, once it is missed; only kinds that came regularly
        are missed.
        """
        since: list[int] = []
        for kind in kinds:
            seen = self._seen.get(kind)
            if seen is None:
                continue
            if seen.lost_ns is not None:
                since.append(seen.lost_ns)
                continue
            if seen.missed_ns is None or now_ns <= seen.missed_ns:
                return None
            since.append(seen.heard_ns)
        return max(since, default=None)

    def silent(self, now_ns: int) -> bool:
        """Whether everything that came regularly has stopped coming: the monitor, its line or its gateway is gone."""
        if self.heard_ns is None:
            return False
        regular = [seen.regular_ns for kind, seen in self._seen.items() if kind not in EPISODIC]
        slowest_ns = max((interval for interval in regular if interval is not None), default=None)
        return slowest_ns is not None and now_ns - self.heard_ns > _wait_ns(_MISSED_NS_MIN_HEART, slowest_ns)

    def to_memory(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "heard": self.heard_ns,
            "seen": {
                kind.value: [s.value, s.at_ns, s.heard_ns, s.measured_ns, s.lost_ns, list(s.intervals_ns)]
                for kind, s in self._seen.items()
            },
        }

    def from_memory(self, memory: Mapping[str, Any]) -> None:
        """Take up what ``to_memory`` gave. ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
        heard = memory["heard"]
        taken: dict[Kind, Seen] = {}
        for name, (value, at_ns, heard_ns, measured_ns, lost_ns, intervals) in dict(memory["seen"]).items():
            kind = Kind(name)
            if kind in self._kinds:
                taken[kind] = Seen(
                    None if value is None else float(value),
                    int(at_ns),
                    int(heard_ns),
                    int(measured_ns),
                    None if lost_ns is None else int(lost_ns),
                    deque((int(interval) for interval in intervals), maxlen=_INTERVALS),
                )
                taken[kind].expect(kind)
        self.heard_ns = None if heard is None else int(heard)
        self._seen = taken


def _wait_ns(least_ns: int, regular_ns: int) -> int:
    """How long after its last arrival something regular is missed."""
    return min(MISSED_NS_MAX, max(least_ns, MISSED_AFTER_INTERVALS * regular_ns))
