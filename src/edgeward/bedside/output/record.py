"""What of a ward's messages is for a hospital's record, and when: the same for every form in which it leaves. Pure.

* A score is entered when its level or outcome changes and every ``every_ns``, for a record is no display; and not after
  its time to live. NEWS2 when its clinical risk changes and every so often, where it applies.
* An advisory is entered when it is raised or changes, however late, with its own times, and once more when it is taken
  back here or its stay is over. What stands in the record is noted, so that after a restart, when nobody knows any more
  who lies where, it is taken back too.
* Threshold alerts are not entered: the monitor that gave their numerics tells of them itself.

Only what has a patient whom the hospital knows by a number is entered (``Whose.known``); the rest is counted.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeward.kernel.clock import NS_PER_MS
from edgeward.wire.entries import Driver, News2, Notice, Score, Whose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward.wire.entries import Entry

STAYS_MAX = 1_024
"""Stays and tasks, and advisories that stand in the record, that are kept in mind."""


@dataclass(frozen=True, slots=True)
class Enter:
    """Enter ``entry`` for ``whose``. ``id``: the same for the same thing; ``lives_ns`` as an ``Item`` has it."""

    entry: Entry
    whose: Whose
    id: str
    lives_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Keep ``text`` under ``key`` beyond a restart, or forget it (None). It holds PHI."""

    key: str
    text: bytes | None = field(repr=False)


Effect = Enter | Note


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: monotonic, and the wall clock's ns since 1970."""

    now_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class _Told:
    """What was last entered of one stay and task."""

    what: tuple[Any, ...]
    at_ns: int


@dataclass(frozen=True, slots=True)
class _Raised:
    """An advisory that stands in the record, and for whom."""

    stay: int
    bed: str
    whose: Whose
    notice: Notice


class Record:
    """One destination's record. ``name``: of its notes; ``whose``: who lies in a stay now, None: nobody knows.

    ``unidentified``: what was not entered because nobody's number is known; ``failed``: messages that could not be
    read, which is our mistake.
    """

    def __init__(self, name: str, every_ns: int, whose: Callable[[int], Whose | None]) -> None:
        self._note = f"{name}.raised."
        self._every_ns = every_ns
        self._whose = whose
        self._told: OrderedDict[tuple[int, str], _Told] = OrderedDict()
        self._raised: OrderedDict[str, _Raised] = OrderedDict()
        self._simulated: dict[str, bool] = {}
        self._all_simulated = False
        self._stamp = 0
        self.unidentified = self.failed = 0

    def begin(self, notes: Mapping[str, bytes], at: Moment) -> list[Effect]:
        """Take back what was raised before a restart: its stay is over, for nobody knows any more who lies where."""
        effects: list[Effect] = []
        for key, text in notes.items():
            if not key.startswith(self._note):
                continue
            try:
                known = json.loads(text)
                whose = Whose(frozenset(map(str, known["identifiers"])), str(known["place"]))
                notice = replace(Notice(**known["notice"]), ended_ns=at.wall_ns)
                effects.append(self._advise(notice, whose, at))
            except (LookupError, TypeError, ValueError):
                self.failed += 1
            effects.append(Note(key, None))
        return effects

    def take(self, kind: str, data: Mapping[str, Any], at: Moment) -> list[Effect]:
        """What follows from one message of the ward; nothing from those that are not for the record."""
        takers = {"score": self._score, "news2": self._news2, "advisory": self._advisory, "bed": self._bed}
        try:
            if kind == "hello":
                self._all_simulated = bool(data.get("simulated"))
            elif kind in takers:
                return takers[kind](data, at)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            self.failed += 1
        return []

    def _bed(self, data: Mapping[str, Any], at: Moment) -> list[Effect]:
        """Learn whether a bed is simulated and who moved there; take back what was raised for a stay that is over."""
        bed = str(data["bed"])
        stay = int(data["stay"]) if data["state"] != "empty" else None
        self._simulated[bed] = bool(data.get("simulated"))
        effects: list[Effect] = []
        for key, raised in list(self._raised.items()):
            if raised.stay == stay:
                self._raised[key] = replace(raised, bed=bed)
            elif raised.bed == bed:
                effects += self._take_back(key, at)
        return effects

    def _score(self, data: Mapping[str, Any], at: Moment) -> list[Effect]:
        stay, task = int(data["stay"]), str(data["task"])
        age_ns = round(float(data["age_ms"]) * NS_PER_MS)
        lives_ns = round(float(data["ttl_ms"]) * NS_PER_MS) - age_ns
        what = (data["outcome"], data["level"], data["why"] if data["outcome"] != "accepted" else "")
        if lives_ns <= 0 or not self._is_news(stay, task, what, at.now_ns):
            return []
        at_ns = at.wall_ns - age_ns
        one = Score(
            f"{stay}.{task}.{self._stamp_ms(at_ns)}",
            task,
            str(data["version"]),
            str(data["rung"]),
            at_ns,
            str(data["outcome"]),
            str(data["why"] or ""),
            _number(data["probability"]),
            str(data["level"]),
            tuple(_driver(driver) for driver in data["drivers"]),
            _number(data["missing_share"]),
            _number(data["stale_share"]),
            self._is_simulated(data),
        )
        return self._enter(stay, one, f"score.{one.key}", lives_ns)

    def _news2(self, data: Mapping[str, Any], at: Moment) -> list[Effect]:
        stay = int(data["stay"])
        # Its risk calls for action, its points do not: a noisy pulse would fill a record with a point up and down.
        what = (data["risk"], data["complete"], data["scale"])
        if not data["applies"] or not self._is_news(stay, "news2", what, at.now_ns):
            return []
        one = News2(
            f"{stay}.{self._stamp_ms(at.wall_ns)}",
            at.wall_ns,
            None if data["score"] is None else int(data["score"]),
            bool(data["complete"]),
            tuple(map(str, data["missing"])),
            {str(item): int(points) for item, points in data["items"].items()},
            str(data["risk"] or ""),
            int(data["scale"]),
            self._is_simulated(data),
        )
        return self._enter(stay, one, f"news2.{one.key}", self._every_ns)

    def _advisory(self, data: Mapping[str, Any], at: Moment) -> list[Effect]:
        stay = int(data["stay"])
        key = f"{stay}.{data['id']}"
        if not data["active"]:
            return self._take_back(key, at)
        begun_ns = at.wall_ns - round(float(data["raised_ms_ago"]) * NS_PER_MS)
        held = self._raised.get(key)
        if held is not None:
            begun_ns = held.notice.begun_ns  # one beginning, however often it is told
        one = Notice(
            key,
            str(data["code"]),
            str(data["text"]),
            str(data["priority"]),
            begun_ns,
            simulated=self._is_simulated(data),
        )
        whose = self._known(stay)
        if whose is None or (held is not None and held.notice == one):
            return []
        self._raised[key] = _Raised(stay, str(data["bed"]), whose, one)
        if len(self._raised) > STAYS_MAX:
            self._raised.popitem(last=False)
        known = {"identifiers": sorted(whose.identifiers), "place": whose.place, "notice": asdict(one)}
        return [Note(self._note + key, json.dumps(known).encode()), self._advise(one, whose, at)]

    def _take_back(self, key: str, at: Moment) -> list[Effect]:
        """For the patient for whom it was raised: the stay may be over by now."""
        raised = self._raised.pop(key, None)
        if raised is None:
            return []
        notice = replace(raised.notice, ended_ns=at.wall_ns)
        return [self._advise(notice, raised.whose, at), Note(self._note + key, None)]

    def _advise(self, one: Notice, whose: Whose, at: Moment) -> Enter:
        state = "raised" if one.ended_ns is None else "ended"
        return Enter(one, whose, f"advisory.{one.key}.{state}.{self._stamp_ms(at.wall_ns)}")

    def _enter(self, stay: int, entry: Entry, name: str, lives_ns: int) -> list[Effect]:
        whose = self._known(stay)
        return [] if whose is None else [Enter(entry, whose, name, lives_ns)]

    def _known(self, stay: int) -> Whose | None:
        whose = self._whose(stay)
        if whose is None or not whose.known:
            self.unidentified += 1
            return None
        return whose

    def _is_news(self, stay: int, task: str, what: tuple[Any, ...], now_ns: int) -> bool:
        told = self._told.get((stay, task))
        if told is not None and told.what == what and now_ns - told.at_ns < self._every_ns:
            return False
        self._told[stay, task] = _Told(what, now_ns)
        self._told.move_to_end((stay, task))
        if len(self._told) > STAYS_MAX:
            self._told.popitem(last=False)
        return True

    def _is_simulated(self, data: Mapping[str, Any]) -> bool:
        return self._all_simulated or self._simulated.get(str(data.get("bed")), False)

    def _stamp_ms(self, wall_ns: int) -> int:
        """Milliseconds that no other entry of this run has: part of what tells entries apart."""
        self._stamp = max(wall_ns // NS_PER_MS, self._stamp + 1)
        return self._stamp


def _driver(told: Mapping[str, Any]) -> Driver:
    return Driver(
        str(told["feature"]),
        str(told["label"]),
        _number(told["value"]),
        str(told["unit"] or ""),
        float(told["effect"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
