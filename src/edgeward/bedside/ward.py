"""The rim of a ward: readings in, messages out, and nothing in between that could wait.

It knows who lies where (``assign``), hands numerics to the processes behind it, passes on what they say, and says
itself what only it can know: which beds there are, their vitals, which process is down. It runs no model and computes
no feature. One thread owns it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.assess.core import score_data
from edgeward.bedside.charge.charge import REFUSED
from edgeward.bedside.ecg_beds import TASK, EcgBeds
from edgeward.bedside.fallback import Mode
from edgeward.bedside.feed import Acknowledged, Admitted, Discharged, Feed, Measured, Moved, Suspended, TaskSettings
from edgeward.bedside.health import StageLatency
from edgeward.bedside.held import HeldStay, empty_bed
from edgeward.bedside.side import CHECK_MS, What
from edgeward.bedside.source.reading import Reading, Receipt
from edgeward.bedside.stream import ENDED, PAGE
from edgeward.bedside.thresholds.down import DownNotice
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.verdict import Outcome, Reason
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
LATENCY_EVERY_NS = NS_PER_S
"""A page takes a device that says nothing for 2.5 s for silent, however quiet its beds are."""
STAGES = ("take", "tick")
"""What the rim does: a reading on its way to the processes behind it, and what happens ten times a second."""
ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a message of another process may raise; it must not end the rim."""
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

    def settle(self, settings: Mapping[str, Any]) -> None:
        """The settings of the next process, should this one have to be replaced."""
        ...

    def distrust(self) -> None:
        """It said what it cannot have meant: have the next ``check`` replace it."""
        ...


class Updates(Protocol):
    """What an update of the assessment's bundles tells the process and hears of it (``lives.Lives``)."""

    def due(self) -> list[TaskSettings]:
        """What the process has to be told, once."""
        ...

    def settings(self) -> dict[str, Any]:
        """What the next process is started with."""
        ...

    def heard(self, kind: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take what the process said; what is to be audited: a bundle took over."""
        ...

    def lost(self, *, failed: bool) -> None:
        """The process is gone: it ``failed``, or it is replaced on purpose."""
        ...


class Ward:
    """The rim.

    ``sides``: THRESHOLDS first, then ASSESS; ``tasks``: those that the assessment runs; ``ecg``: beds with an ECG
    stream; ``hello``: what the ward says of itself with these beds, and with the ECG pages that are known by bed;
    ``updates``: where the assessment's bundles may change while beds are watched.
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
        ecg: Iterable[str] = (),
        thresholds: ThresholdSettings | None = None,
        hello: Callable[[Sequence[BedPlan], Mapping[str, str]], dict[str, Any]] | None = None,
        updates: Updates | None = None,
    ) -> None:
        self._beds = beds
        self._sides = sides
        self._outputs = outputs
        self._audit = audit
        self._clock = clock
        self._tasks = tuple(tasks)
        self._thresholds = thresholds or ThresholdSettings()
        self._hello = hello
        self._updates = updates
        self.refused: Callable[[str, str, str], None] | None = None
        """Called with task, SHA-256 and code when the assessment or an ECG stream refuses a bundle."""
        self._known = len(beds.plans)
        self._stays: dict[int, HeldStay] = {}
        self._empty_since: dict[str, int] = {}
        self._ecg = EcgBeds(ecg, clock.monotonic_ns())
        self._refused: Counter[tuple[str, str]] = Counter()
        self._next_bed_ns = 0
        self._next_source_ns = 0
        self._next_latency_ns = 0
        self._latency = StageLatency(clock, STAGES)
        self._notice = DownNotice(clock.monotonic_ns())
        self._unwatched: dict[str, Any] | None = None
        self._unassessed: Reason | None = None
        self.dropped = 0
        """Messages about a stay that is over, or of a bed whose stay has changed."""
        self.odd = 0
        """Messages whose fields are not what they should be."""

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
        mark = self._latency.start()
        for feed in taken.feeds:
            self._hand_on(feed, reading.source)
        self._latency.lap("take", mark)
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
            try:
                if name == ASSESS:
                    self._of_bundles(kind, data)
                self.said(kind, data)
            except ODD:  # a message, and not one of ours: whoever says such things is replaced
                self.odd += 1
                self._sides[name].distrust()
        return heard

    def arrange(self) -> None:
        """Tell the assessment which bundles it shall have, where that has changed. Never waits."""
        side = self._sides.get(ASSESS)
        if self._updates is None or side is None:
            return
        if side.pid is None:  # the next process starts with what is in charge; what else there is it is told then
            side.settle(self._updates.settings())
            return
        for told in self._updates.due():
            side.settle(self._updates.settings())
            side.feed(told)

    def streamed(self, bed: str, kind: str, data: dict[str, Any]) -> None:
        """Take what the ECG stream of ``bed`` said: it is about whoever lies there now."""
        now = self._clock.monotonic_ns()
        try:
            if kind == PAGE:
                if self._ecg.pages.get(bed) != data["url"]:
                    self._ecg.pages[bed] = str(data["url"])
                    self._greet()
            elif kind == ENDED:
                self._ecg.lost(bed, Mode.NO_AI, Reason.GAP, now)
                self._say_ecg(bed)
            elif kind == "mode":
                self._ecg.said(bed, data, now)
                self._say_ecg(bed)
            elif (stay := self._beds.stay_in(bed)) is not None:
                self.said(kind, {"bed": bed, "stay": stay, **data, "task": TASK})
        except ODD:
            self.odd += 1

    def stream_happened(self, bed: str, happening: Happening, pid: int | None) -> None:
        """The ECG stream of ``bed`` came or went: it cannot say so itself."""
        if happening.what is What.BACK:
            self._ecg.back(bed)
        elif happening.what is What.HUNG:
            self._ecg.lost(bed, Mode.THRESHOLD_ONLY, Reason.ENGINE_HUNG, self._clock.monotonic_ns())
        else:
            self._ecg.gone(bed)
            self._ecg.lost(bed, Mode.THRESHOLD_ONLY, Reason.ENGINE_CRASHED, self._clock.monotonic_ns())
        self._say_process(happening, pid)
        self._say_ecg(bed)

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
        self.arrange()
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
        self._latency.lap("tick", now)
        if now >= self._next_latency_ns:
            self._next_latency_ns = now + LATENCY_EVERY_NS
            self._tell("latency", self._latency.message(CHECK_MS))

    def swapped(self, facts: dict[str, Any]) -> None:
        """Another bundle is in charge: audit it, and greet anew with it."""
        self._audit.record("swap", facts)
        self._greet()

    # --- inside

    def _of_bundles(self, kind: str, data: Mapping[str, Any]) -> None:
        """Audit that a bundle took over, and greet anew with it; hand on that one is refused."""
        if kind == REFUSED and self.refused is not None:
            self.refused(str(data["task"]), str(data["sha256"]), str(data["code"]))
        if self._updates is None:
            return
        for swap in self._updates.heard(kind, data):
            self._sides[ASSESS].settle(self._updates.settings())
            self.swapped(swap)

    def _greet(self) -> None:
        """Beds or pages are new: whoever shows the ward must know a bed before anything is said of it."""
        self._known = len(self._beds.plans)
        if self._hello is not None:
            self._tell("hello", self._hello(self._beds.plans, self._ecg.pages))

    def _hand_on(self, feed: Feed, source: str) -> None:
        """Thresholds first: ``sides`` is in that order."""
        self._feed_sides(feed)
        now = self._clock.monotonic_ns()
        match feed:
            case Admitted(stay, bed):
                held = self._stays[stay] = HeldStay(feed, bed, self._limits(feed, bed))
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
                self._tell_bed(stay, held, now)  # first: whoever hears of an empty bed must know that the stay goes on
                self._tell_empty(now)
            case Discharged(stay):
                held = self._stays.pop(stay)
                self._empty_since[held.bed] = now
                self._tell_empty(now)
            case Measured(stay, numerics):
                held = self._stays[stay]
                held.vitals.take(numerics)
                held.heard_from(source)
            case _:
                pass

    def _limits(self, admitted: Admitted, bed: str) -> dict[str, list[float | None]]:
        limits = self._thresholds.limits(bed, admitted.population, admitted.age_y)
        return {kind.value: list(pair) for kind, pair in limits.by_kind().items()}

    def _feed_sides(self, feed: Feed) -> None:
        for side in self._sides.values():
            side.feed(feed)

    def _tell_bed(self, stay: int, held: HeldStay, now: int) -> None:
        held.told_ns = now
        self._tell("bed", held.message(stay, now))
        ecg = self._ecg.mode(held.bed, now)
        if ecg is not None:  # a stream says its mode when it changes; a page that came later has it too
            self.said("mode", {"bed": held.bed, "stay": stay, **ecg})

    def _tell_empty(self, now: int) -> None:
        occupied = {held.bed for held in self._stays.values()}
        for plan in self._beds.plans:
            if plan.name in occupied:
                continue
            self._tell("bed", empty_bed(plan, self._empty_since.setdefault(plan.name, now), now))

    def _tell_refused(self) -> None:
        for (source, code), count in self._refused.items():
            self._tell("source", {"source": source, "refused": code, "count": count})
        self._refused.clear()

    def _mode(self, held: HeldStay, data: Mapping[str, Any]) -> None:
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
        self._say_process(happening, self._sides[name].pid)
        if name != ASSESS:
            return
        if happening.what is What.BACK:
            self._unassessed = None
            return
        if self._updates is not None:
            self._updates.lost(failed=True)
        self._unassessed = Reason.ENGINE_HUNG if happening.what is What.HUNG else Reason.ENGINE_CRASHED
        for stay, held in self._stays.items():
            self._say_unassessed(stay, held, self._unassessed)

    def _say_process(self, happening: Happening, pid: int | None) -> None:
        facts = {"name": happening.name, "what": happening.what.value, "how": happening.how}
        self._tell("process", {**facts, "pid": pid})
        self._audit.record("process", facts)

    def _say_ecg(self, bed: str) -> None:
        """Say the mode of a bed's ECG to whoever lies there."""
        stay, mode = self._beds.stay_in(bed), self._ecg.mode(bed, self._clock.monotonic_ns())
        if stay is not None and mode is not None:
            self.said("mode", {"bed": bed, "stay": stay, **mode})

    def _say_unassessed(self, stay: int, held: HeldStay, why: Reason) -> None:
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

    def _say_unwatched(self, stay: int, held: HeldStay, data: Mapping[str, Any]) -> None:
        self._tell("alert", {"bed": held.bed, "stay": stay, **data, "id": f"{data['id']}-{stay}"})

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        for output in self._outputs:
            output.write(kind, data)
