"""One simulated device: the real link core, the real updater, slots and journal on a disk in memory.

What is simulated is around them: the link's bytes per second, the ward that serves, a trial's verdict, power cuts,
clocks, silence. Nothing here waits or sends: the fleet calls ``turn`` when ``due_ns`` has come, and sends what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.fleet_link import core
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.live import Serving, Shadow
from edgeward.bedside.updating.machine import Updater
from edgeward.exchange.checkin import CheckIn, Evidence, Facts, FamilyReport, Held
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import TrustError
from edgeward.testing.files import After, MemoryFiles
from edgeward.testing.fleet.faults import Stage
from edgeward.trust.download import DownloadReport, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from edgeward.bedside.slot import Slot
    from edgeward.bedside.updating.happening import Record
    from edgeward.exchange.checkin import Answer
    from edgeward.exchange.words import Why
    from edgeward.kernel.clock import Clock
    from edgeward.testing.fleet.faults import Faults, Lot
    from edgeward.trust.download import Pace
    from edgeward.trust.offer import Offer

SLOTS = Path("/device/slots")
WINDOWS_PER_S = 4
"""What a ward of six beds gives a model to score."""
SAFE_SHARE = 0.9
CLOCK_JUMPS_WITHIN_S = 60.0
_EVIDENCE = Evidence(golden_vectors=16, latency_us=900, deadline_us=4_000, memory_kib=40_000)
_POLL_S = 30.0


class Repository(Protocol):
    """What signed metadata name, proven by one client for every device of this process."""

    def latest(self, name: str) -> Offer:
        """The current bundle of ``name``; raises what the proof did."""
        ...

    def content(self, offer: Offer) -> bytes:
        """Its bytes, hashed once."""
        ...


@dataclass(slots=True)
class DeviceClock:
    """The fleet's clock with this device's error: ``off_s`` is added to its wall time."""

    fleet: Clock
    off_s: int = 0

    def monotonic_ns(self) -> int:
        """The fleet's."""
        return self.fleet.monotonic_ns()

    def wall(self) -> datetime:
        """The fleet's, wrong by ``off_s``."""
        return self.fleet.wall() + timedelta(seconds=self.off_s)


@dataclass(slots=True)
class Story:
    """What became of one version on one device: when each state was first reached (ns of the machine's clock)."""

    at_ns: dict[UpdateState, int] = field(default_factory=dict)
    why: Why | None = None
    attempts: int = 0

    @property
    def tried(self) -> bool:
        """Whether its trial was begun."""
        return UpdateState.VERIFIED in self.at_ns

    @property
    def served(self) -> bool:
        """Whether it was ever in charge of beds."""
        return UpdateState.ACTIVATED in self.at_ns


class SimulatedDevice:
    """Device ``number``, which has the bundle of ``template`` committed.

    ``clock`` is the fleet's, which may run faster than the machine's; ``real_ns`` is the machine's, for ``stories``;
    ``length``: bytes that a download is reckoned with, 0 for the bundle's own.
    """

    updater: Updater
    slots: SlotStore
    _link: core.State
    _began_ns: int
    _update_ns: int

    def __init__(
        self,
        number: int,
        family: str,
        template: Mapping[Path, bytes],
        repository: Repository,
        clock: Clock,
        faults: Faults,
        lot: Lot,
        *,
        policy: core.Policy,
        length: int = 0,
        real_ns: Callable[[], int],
    ) -> None:
        self.number, self.family, self.lot = number, family, lot
        self._faults, self._policy, self._real_ns = faults, policy, real_ns
        self.clock = DeviceClock(clock)
        self.files = MemoryFiles(after=After.TORN, seed=number)
        for path, content in template.items():
            self.files.put(path, content)
        self.certificate = ""
        self.boots = 0
        self.silent = False
        self.stories: dict[str, Story] = {}
        self.reboots = 0
        self.live = SimulatedLive(self)
        self._fetcher = _Fetcher(self, repository, length)
        self._jump_ns = self._within(CLOCK_JUMPS_WITHIN_S) if lot.clock_off_s else 0
        self._cut_ns = self._next_cut()
        self._boot()

    # --- time

    @property
    def due_ns(self) -> int:
        """When ``turn`` is to be called next, on the fleet's clock."""
        link_ns = self._link.due_ns if not (self.silent or self._link.asking) else self._update_ns
        due = min(link_ns, self._update_ns, self._cut_ns)
        return min(due, self._jump_ns) if self._jump_ns else due

    @property
    def knows_time(self) -> bool:
        """Whether certificates are valid by its clock."""
        return not self.clock.off_s

    def turn(self) -> CheckIn | None:
        """Do what is due; a check-in to send, if one is."""
        now = self.clock.monotonic_ns()
        if now >= self._cut_ns:
            self._cut_ns = self._next_cut()
            self.reboots += 1
            self._boot()
        if self._jump_ns and now >= self._jump_ns:
            self._jump_ns, self.clock.off_s = 0, self.lot.clock_off_s
        if now >= self._update_ns:
            self._turn_update()
        if self.silent or now < self._link.due_ns:
            return None
        for effect in self._step(core.Tick()):
            if isinstance(effect, core.SendCheckIn):
                return self._check_in(effect.sequence)
        return None

    # --- the link

    def answered(self, answer: Answer) -> None:
        """The answer to the check-in under way came."""
        for effect in self._step(core.Answered(answer)):
            if isinstance(effect, core.Obey):
                for order in effect.orders:
                    if order.family == self.family:
                        self.updater.order(order)
                        self._update_ns = self.clock.monotonic_ns()

    def failed(self, after_s: float = 0.0, *, shut_out: bool = False) -> None:
        """The check-in under way came to nothing."""
        self._step(core.Failed(after_s, shut_out))

    def _step(self, event: core.Event) -> tuple[core.Effect, ...]:
        now = self.clock.monotonic_ns()
        self._link, effects = core.step(self._policy, self._link, event, now, self.lot.dice.random())
        return effects

    def _check_in(self, sequence: int) -> CheckIn:
        now = self.clock.monotonic_ns()
        return CheckIn(
            boot=self.boots,
            sequence=sequence,
            uptime_s=(now - self._began_ns) // NS_PER_S,
            clock_s=max(int(self.clock.wall().timestamp()), 0),
            free_mib=self.files.free_bytes(SLOTS) >> 20,
            facts=FACTS,
            families=(self.report(),),
        )

    def report(self) -> FamilyReport:
        """Its one family."""
        serving = self.live.serving()
        return FamilyReport(
            self.family,
            _held(self.slots.active()),
            _held(self.slots.previous()),
            self.updater.progress,
            Rung.THRESHOLD_ONLY if serving.down else Rung.LOCAL,
            scores=serving.scores,
            fallbacks=serving.failures,
            latency_us=_EVIDENCE.latency_us,
        )

    # --- the update

    def is_bad(self, stage: Stage) -> bool:
        """Whether the candidate fails here at ``stage``; what shows earlier than at its gate shows there too."""
        order = self.updater.record.order
        bad_at = self.lot.bad_at
        if order is None or bad_at is None or order.version not in self._faults.bad_versions:
            return False
        stages = list(Stage)
        return stages.index(stage) >= stages.index(bad_at)

    def _turn_update(self) -> None:
        wait_s = self.updater.turn()
        now = self.clock.monotonic_ns()
        if self.updater.record.state is UpdateState.DOWNLOADING:
            wait_s = max((self._fetcher.ready_ns - now) / NS_PER_S, 0.0)
        self._update_ns = now + round(max(wait_s, 0.05) * NS_PER_S)

    def _told(self, record: Record) -> None:
        order = record.order
        if order is None:
            return
        story = self.stories.setdefault(order.version, Story())
        story.at_ns.setdefault(record.state, self._real_ns())
        story.why, story.attempts = record.why, record.attempt
        if record.state is UpdateState.DOWNLOADING and self.lot.silent:
            self.silent = True
        if record.ended:
            now_ns, dice = self.clock.monotonic_ns(), self.lot.dice.random()
            self._link = core.step(self._policy, self._link, core.Changed(), now_ns, dice)[0]

    # --- power

    def _boot(self) -> None:
        """Power comes: what was not durable is gone, and what was is reconciled by the real code."""
        self.files.reboot()
        self.boots += 1
        now = self._began_ns = self._update_ns = self.clock.monotonic_ns()
        self._link = core.begin(self._policy, member=True, now_ns=now, dice=self.lot.dice.random())
        self.slots = SlotStore(SLOTS, self.files)
        self.slots.open()
        self.live.start(self.slots.active())
        self._fetcher.ready_ns = 0
        self.updater = Updater(
            self.family,
            self._fetcher,
            self.slots,
            Journal(SLOTS, self.files),
            self.live,
            self.clock,
            self._try,
            told=self._told,
        )
        self.updater.boot()
        if self.updater.progress is None:  # nothing to do before the first order; an order wakes it
            self._update_ns = now + round(_POLL_S * NS_PER_S * 1_000)

    def _try(self, _path: Path) -> TrialResult:
        if self.is_bad(Stage.GOLDEN):
            return TrialResult(False, "golden-failed", "simulated", _EVIDENCE)
        if self.is_bad(Stage.SLOW):
            return TrialResult(False, "trial-too-slow", "simulated", _EVIDENCE)
        return TrialResult(True, evidence=_EVIDENCE)

    def _next_cut(self) -> int:
        if not self.lot.reboots:
            return 1 << 62
        return self.clock.monotonic_ns() + round(self.lot.dice.expovariate(self.lot.reboots / 3_600) * NS_PER_S)

    def _within(self, seconds: float) -> int:
        return self.clock.monotonic_ns() + round(self.lot.dice.uniform(0.001, seconds) * NS_PER_S)


class SimulatedLive:
    """A ward that scores ``WINDOWS_PER_S``, and on which a bad model disagrees or fails where its device drew so."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self._sha256 = self._before = ""
        self._since_ns = self._shadow_ns = 0

    def start(self, active: Slot | None) -> None:
        """The device started with this bundle."""
        self._sha256, self._before = active.sha256 if active else "", ""
        self._since_ns = self._device.clock.monotonic_ns()

    def begin_shadow(self, candidate: Slot) -> None:  # noqa: ARG002
        """It runs from now on."""
        self._shadow_ns = self._device.clock.monotonic_ns()

    def shadow(self) -> Shadow:
        """One window in two hundred differs by chance; half of them where the model is bad."""
        windows = self._windows(self._shadow_ns)
        disagreed = windows // 2 if self._device.is_bad(Stage.SHADOW) else windows // 200
        return Shadow(True, windows, disagreed, 0, _EVIDENCE.latency_us, _EVIDENCE.memory_kib)

    def end_shadow(self) -> None:
        """It stops."""

    def safe(self) -> bool:
        """Most of the time."""
        return self._device.lot.dice.random() < SAFE_SHARE

    def activate(self, candidate: Slot) -> None:
        """It takes charge at once."""
        self._before, self._sha256 = self._sha256, candidate.sha256
        self._since_ns = self._device.clock.monotonic_ns()

    def serving(self) -> Serving:
        """Scores since it took charge; one in five fails where the model is bad and still a candidate."""
        scores = self._windows(self._since_ns)
        order = self._device.updater.record.order
        bad = order is not None and order.sha256 == self._sha256 and self._device.is_bad(Stage.SOAK)
        return Serving(self._sha256, scores, scores // 5 if bad else 0)

    def go_back(self) -> None:
        """The one before serves."""
        self._sha256, self._since_ns = self._before, self._device.clock.monotonic_ns()

    def _windows(self, since_ns: int) -> int:
        return WINDOWS_PER_S * (self._device.clock.monotonic_ns() - since_ns) // NS_PER_S


class _Fetcher:
    """The device's link: so many KiB a second, of a bundle as long as the fleet pretends it to be."""

    def __init__(self, device: SimulatedDevice, repository: Repository, length: int) -> None:
        self._device, self._repository, self._length = device, repository, length
        self.ready_ns = 0
        """When the download under way will be whole."""

    def latest(self, name: str) -> Offer:
        """What the repository offers, unless certificates and metadata are not valid by this device's clock."""
        if not self._device.knows_time:
            code = "clock-behind" if self._device.clock.off_s < 0 else "repository-expired"
            raise TrustError(code, "simulated: the clock is ten years off")
        self.ready_ns = 0
        return self._repository.latest(name)

    def download(
        self,
        offer: Offer,
        dest: Path,
        *,
        progress: Callable[[int], None] | None = None,
        pace: Pace | None = None,  # noqa: ARG002  (the order's rate is reckoned with, nothing is waited for)
    ) -> DownloadReport:
        """Ask again at ``ready_ns``: until then it is stopped, as by a caller who has other things to do."""
        order = self._device.updater.record.order
        limit = order.rate_kib_s if order is not None else 0
        kib_s = min(self._device.lot.kib_s, limit) if limit else self._device.lot.kib_s
        length, now = self._length or offer.length, self._device.clock.monotonic_ns()
        needed_ns = NS_PER_S * length // (kib_s << 10)
        if not self.ready_ns:
            self.ready_ns = now + needed_ns
        if now < self.ready_ns:
            if progress is not None:
                progress(offer.length * max(0, needed_ns - (self.ready_ns - now)) // max(needed_ns, 1))
            raise StoppedError
        files, part = self._device.files, dest.with_name(f"{dest.name}.part")
        files.write_new(part, self._repository.content(offer))
        files.rename(part, dest)
        files.fsync_dir(dest.parent)
        return DownloadReport(0, offer.length, 0)

    def patch(
        self,
        offer: Offer,  # noqa: ARG002
        base: Path,  # noqa: ARG002
        base_sha256: str,  # noqa: ARG002
        dest: Path,  # noqa: ARG002
        *,
        progress: Callable[[int], None] | None = None,  # noqa: ARG002
        pace: Pace | None = None,  # noqa: ARG002
    ) -> bool:
        """Simulated devices fetch whole bundles."""
        return False


FACTS = Facts(Machine.AARCH64, Accelerator.NONE, 4, 8_192, 59_000, 6, "0.1.0")
"""Of every simulated device: a small board by six beds."""


def template_of(content: bytes) -> dict[Path, bytes]:
    """The disk of a device that has this bundle committed, made by the real slots."""
    files, inbox = MemoryFiles(), Path("/inbox/bundle.ewb")
    files.put(inbox, content)
    with SlotStore(SLOTS, files) as slots:
        slots.commit(slots.stage(inbox))
    files.unlink(inbox)
    files.fsync_dir(inbox.parent)
    return {path: files.read(path) for folder in (SLOTS, SLOTS / "a", SLOTS / "b") for path in _in(files, folder)}


def _in(files: MemoryFiles, folder: Path) -> list[Path]:
    return [folder / name for name in files.list(folder)]


def _held(slot: Slot | None) -> Held | None:
    return None if slot is None else Held(slot.version, slot.sha256)
