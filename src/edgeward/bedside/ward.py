"""The rim of a ward: readings in, messages out, and nothing in between that could wait.

It knows who lies where (``assign``), hands numerics to the processes behind it, passes on what they say, and says
itself what only it can know: which beds there are, their vitals, which process is down. It runs no model and computes
no feature. One thread owns it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.assess.core import score_data
from edgeward.bedside.fallback import Mode
from edgeward.bedside.feed import Acknowledged, Admitted, Discharged, Feed, Measured, Moved, Population, Suspended
from edgeward.bedside.side import What
from edgeward.bedside.source.reading import Reading, Receipt
from edgeward.bedside.thresholds.down import DownNotice
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.verdict import Outcome, Reason
from edgeward.bedside.vitals import Vitals
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edgeward.bedside.assign import BedPlan, Beds
    from edgeward.bedside.audit import Audit
    from edgeward.bedside.messages import Message
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.side import Happening
    from edgeward.kernel.clock import Clock
    from edgeward.signal.numeric import Numeric

BED_EVERY_NS = 5 * NS_PER_S
SOURCE_EVERY_NS = 5 * NS_PER_S
_SOURCES_KEPT = 8


THRESHOLDS = "thresholds"
ASSESS = "assess"
SCORE_TTL_NS = 60 * NS_PER_S


class Side(Protocol):
    """A process behind the rim (``side.SideProcess``)."""

    @property
    def caught_up(self) -> bool:
        """Whether it runs and has taken all that it was fed."""
        ...

    @property
    def pid(self) -> int | None:
        """The process; None when there is none."""
        ...

    def feed(self, message: Feed) -> None:
        """Tell it; never waits."""
        ...

    def hear(self) -> list[Message]:
        """What it said."""
        ...

    def check(self, now_ns: int) -> list[Happening]:
        """What happened to it."""
        ...


@dataclass(slots=True)
class _Bed:
    """What the rim shows of one stay."""

    admitted: Admitted
    bed: str
    limits: dict[str, list[float | None]]
    vitals: Vitals = field(default_factory=Vitals)
    sources: dict[str, int] = field(default_factory=dict)
    suspended_until_ns: int = 0
    told_ns: int = 0
    changes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)


class Ward:
    """The rim.

    ``sides``: THRESHOLDS first, then ASSESS; ``tasks``: those that the assessment runs; ``hello``: what the ward says
    of itself with these beds.
    """

    def __init__(
        self,
        beds: Beds,
        sides: Mapping[str, Side],
        outputs: Sequence[Output],
        audit: Audit,
        clock: Clock,
        *,
        tasks: Iterable[str] = (),
        thresholds: ThresholdSettings | None = None,
        hello: Callable[[Sequence[BedPlan]], dict[str, Any]] | None = None,
    ) -> None:
        self._beds = beds
        self._sides = sides
        self._outputs = outputs
        self._audit = audit
        self._clock = clock
        self._tasks = tuple(tasks)
        self._thresholds = thresholds or ThresholdSettings()
        self._hello = hello
        self._known = len(beds.plans)
        self._stays: dict[int, _Bed] = {}
        self._empty_since: dict[str, int] = {}
        self._stream_modes: dict[str, dict[str, Any]] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._next_bed_ns = 0
        self._next_source_ns = 0
        self._notice = DownNotice(clock.monotonic_ns())
        self._unwatched: dict[str, Any] | None = None
        self._unassessed: Reason | None = None
        self.dropped = 0
        """Messages about a stay that is over, or of a bed whose stay has changed."""

    # --- readings

    def take(self, reading: Reading) -> Receipt:
        """Take one reading and hand on what follows. Never waits."""
        for refusal in reading.refusals:
            self._refused[reading.source, refusal.code] += refusal.count
        if not reading.numerics and reading.change is None and reading.patient is None:
            return Receipt.TAKEN
        taken = self._beds.take(reading)
        if taken.refused:
            self._refused[reading.source, taken.refused] += 1
            return Receipt.REFUSED
        if len(self._beds.plans) != self._known:
            self._greet()
        for feed in taken.feeds:
            self._hand_on(feed, reading.source)
        return Receipt.TAKEN

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """A connection came or went; the page shows it, the beds show their silence by themselves."""
        self._tell("peer", {"source": source, "peer": peer, "connected": connected})

    def measured(self, bed: str, numerics: Iterable[Numeric], source: str, *, simulated: bool = False) -> None:
        """Numerics of a bed's own stream (its ECG): they belong to whoever lies there."""
        now = self._clock.monotonic_ns()
        self.take(Reading(source, bed, "", now, numerics=tuple(numerics), simulated=simulated))

    # --- people

    def act(self, action: str, bed: str, stay: int, alert: str = "", minutes: float = 0.0) -> None:
        """Somebody at the page acknowledges an alert, suspends a bed's threshold alerts, or says that a bed is empty.

        Raises ``InputError`` (``stay-over``, ``action-unknown``, ``suspend-minutes``) in words for that person.
        """
        now = self._clock.monotonic_ns()
        held = self._stays.get(stay)
        if held is None or held.bed != bed:
            raise InputError("stay-over", "another patient lies there by now, or nobody; look at the bed again")
        match action:
            case "acknowledge":
                self._feed_sides(Acknowledged(stay, alert, now))
            case "suspend":
                most_s = self._thresholds.suspend_s_max
                if not 0 <= minutes * 60 <= most_s:
                    raise InputError("suspend-minutes", f"alerts can be suspended for {most_s / 60:g} minutes at most")
                self._feed_sides(Suspended(stay, now + round(minutes * 60 * NS_PER_S), now))
            case "empty":
                for feed in self._beds.end(bed, now):
                    self._hand_on(feed, "page")
            case _:
                raise InputError("action-unknown", "the page asked for something that this device cannot do; reload it")
        self._audit.record("act", {"action": action, "bed": bed, "stay": stay, "alert": alert, "minutes": minutes})

    # --- processes

    def hear(self, name: str) -> list[Message]:
        """Pass on what a process behind the rim said; returns it too."""
        heard = self._sides[name].hear()
        for kind, data in heard:
            self.said(kind, data)
        return heard

    def streamed(self, bed: str, kind: str, data: dict[str, Any]) -> None:
        """Pass on what the ECG stream of ``bed`` said: it is about whoever lies there now."""
        if kind == "mode":
            count = self._stream_modes[bed]["changes"] + 1 if bed in self._stream_modes else 0
            data = self._stream_modes[bed] = {**data, "changes": count}
        stay = self._beds.stay_in(bed)
        if stay is not None:
            self.said(kind, {"bed": bed, "stay": stay, **data})

    def said(self, kind: str, data: dict[str, Any]) -> None:
        """Pass on one message of a process, unless its stay is over: no score of one patient is shown on another."""
        stay = data.get("stay")
        if stay is not None:
            held = self._stays.get(stay)
            if held is None or held.bed != data.get("bed"):
                self.dropped += 1
                return
            if kind == "mode":
                self._mode(held, data)
            if kind == "suspended":  # granted, running or over: the thresholds process decides, the bed shows it
                now = self._clock.monotonic_ns()
                held.suspended_until_ns = now + int(data["ms_left"]) * NS_PER_MS
                self._tell_bed(stay, held, now)
                return
        self._tell(kind, data)

    def tick(self) -> None:
        """What must happen now and then: call it every 100 ms."""
        now = self._clock.monotonic_ns()
        for name, side in self._sides.items():
            self.hear(name)
            for happening in side.check(now):
                self._happened(name, happening)
        self._notice_thresholds(now)
        for feed in self._beds.passed(now):
            self._hand_on(feed, "silence")
        for stay, held in self._stays.items():
            values = held.vitals.tell(now)
            if values:
                self._tell("vitals", {"bed": held.bed, "stay": stay, "values": values})
            if now - held.told_ns >= BED_EVERY_NS:
                self._tell_bed(stay, held, now)
        if now >= self._next_bed_ns:
            self._next_bed_ns = now + BED_EVERY_NS
            self._tell_empty(now)
        if now >= self._next_source_ns and self._refused:
            self._next_source_ns = now + SOURCE_EVERY_NS
            self._tell_refused()

    # --- inside

    def _greet(self) -> None:
        """A bed announced itself: whoever shows the ward must know it before anything is said of it."""
        self._known = len(self._beds.plans)
        if self._hello is not None:
            self._tell("hello", self._hello(self._beds.plans))

    def _hand_on(self, feed: Feed, source: str) -> None:
        """Thresholds first: ``sides`` is in that order."""
        self._feed_sides(feed)
        now = self._clock.monotonic_ns()
        match feed:
            case Admitted(stay, bed):
                held = self._stays[stay] = _Bed(feed, bed, self._limits(feed, bed))
                self._empty_since.pop(bed, None)
                self._tell_bed(stay, held, now)
                if self._unassessed is not None:
                    self._say_unassessed(stay, held, self._unassessed)
                if self._unwatched is not None:
                    self._say_unwatched(stay, held, self._unwatched)
            case Moved(stay, bed):
                held = self._stays[stay]
                self._empty_since[held.bed] = now
                self._empty_since.pop(bed, None)
                held.bed, held.limits = bed, self._limits(held.admitted, bed)
                self._tell_empty(now)
                self._tell_bed(stay, held, now)
            case Discharged(stay):
                held = self._stays.pop(stay)
                self._empty_since[held.bed] = now
                self._tell_empty(now)
            case Measured(stay, numerics):
                held = self._stays[stay]
                held.vitals.take(numerics)
                if source in held.sources or len(held.sources) < _SOURCES_KEPT:
                    held.sources[source] = now
            case _:
                pass

    def _limits(self, admitted: Admitted, bed: str) -> dict[str, list[float | None]]:
        limits = self._thresholds.limits(bed, admitted.population, admitted.age_y)
        return {kind.value: list(pair) for kind, pair in limits.by_kind().items()}

    def _feed_sides(self, feed: Feed) -> None:
        for side in self._sides.values():
            side.feed(feed)

    def _tell_bed(self, stay: int, held: _Bed, now: int) -> None:
        held.told_ns = now
        newest = held.vitals.newest_ns
        data = {
            "bed": held.bed,
            "stay": stay,
            "state": "occupied",
            "population": held.admitted.population.value,
            "since_ms": (now - held.admitted.at_ns) // NS_PER_MS,
            "sources": sorted(held.sources),
            "silent_ms": None if newest is None else max(0, now - newest) // NS_PER_MS,
            "simulated": held.admitted.simulated,
            "suspended_ms_left": max(0, held.suspended_until_ns - now) // NS_PER_MS,
            "limits": held.limits,
        }
        self._tell("bed", data)
        if held.bed in self._stream_modes:  # a stream says its mode when it changes; a page that came later has it too
            self.said("mode", {"bed": held.bed, "stay": stay, **self._stream_modes[held.bed]})

    def _tell_empty(self, now: int) -> None:
        occupied = {held.bed for held in self._stays.values()}
        for plan in self._beds.plans:
            if plan.name in occupied:
                continue
            data: dict[str, Any] = {
                "bed": plan.name,
                "stay": None,
                "state": "empty",
                "population": (plan.population or Population.ADULT).value,
                "since_ms": (now - self._empty_since.setdefault(plan.name, now)) // NS_PER_MS,
                "sources": [],
                "silent_ms": None,
                "simulated": plan.simulated,
                "suspended_ms_left": 0,
            }
            self._tell("bed", data)

    def _tell_refused(self) -> None:
        for (source, code), count in self._refused.items():
            self._tell("source", {"source": source, "refused": code, "count": count})
        self._refused.clear()

    def _mode(self, held: _Bed, data: Mapping[str, Any]) -> None:
        """Audit a change of mode, told by the number of changes that the bed's banner counts; a gap is audited too."""
        task, changes = str(data["task"]), int(data.get("changes", 0))
        known = held.changes.get(task)
        if known == changes:
            return
        held.changes[task] = changes
        facts = {"bed": held.bed, "stay": data["stay"], "task": task, "mode": data["mode"], "reason": data["reason"]}
        unseen = changes - known - 1 if known is not None and changes > known else 0
        self._audit.record("mode", {**facts, "from": held.modes.get(task, ""), "unseen": unseen})
        held.modes[task] = str(data["mode"])

    def _happened(self, name: str, happening: Happening) -> None:
        """A process behind the rim came or went: it cannot say so itself."""
        facts = {"name": name, "what": happening.what.value, "how": happening.how}
        self._tell("process", {**facts, "pid": self._sides[name].pid})
        self._audit.record("process", facts)
        if name != ASSESS:
            return
        if happening.what is What.BACK:
            self._unassessed = None
            return
        self._unassessed = Reason.ENGINE_HUNG if happening.what is What.HUNG else Reason.ENGINE_CRASHED
        for stay, held in self._stays.items():
            self._say_unassessed(stay, held, self._unassessed)

    def _say_unassessed(self, stay: int, held: _Bed, why: Reason) -> None:
        for task in self._tasks:
            changes = held.changes.get(task, -1) + 1
            mode = {"task": task, "mode": Mode.THRESHOLD_ONLY.value, "reason": why.value, "since_ms": 0}
            score = score_data(task, Outcome.FALLBACK, why, Mode.THRESHOLD_ONLY, "-", SCORE_TTL_NS)
            self.said("mode", {"bed": held.bed, "stay": stay, **mode, "changes": changes})
            self.said("score", {"bed": held.bed, "stay": stay, **score})

    def _notice_thresholds(self, now: int) -> None:
        """While no thresholds process watches, every bed says so."""
        for _, data in self._notice.look(now, up=self._sides[THRESHOLDS].caught_up):
            self._unwatched = data if data["active"] else None
            for stay, held in self._stays.items():
                self._say_unwatched(stay, held, data)

    def _say_unwatched(self, stay: int, held: _Bed, data: Mapping[str, Any]) -> None:
        self._tell("alert", {"bed": held.bed, "stay": stay, **data, "id": f"{data['id']}-{stay}"})

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        for output in self._outputs:
            output.write(kind, data)
