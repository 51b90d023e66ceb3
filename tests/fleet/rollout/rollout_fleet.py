"""A fleet for tests of rollouts: devices that do what they are told, a lossy network, and a store of dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward.exchange.checkin import CheckIn, Deed, Evidence, Facts, FamilyReport, Held, Order, Progress
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState, Why
from edgeward.fleet.rollout.choose import FOLLOWS
from edgeward.fleet.rollout.evidence import held_by
from edgeward.fleet.rollout.happening import (
    Approve,
    Came,
    Choose,
    Effect,
    Ended,
    Happening,
    Heard,
    Return,
    Scope,
    Supersede,
    Superseded,
    Tick,
    Unheard,
)
from edgeward.fleet.rollout.plan import Gate, Pick, Plan, Release, Stage
from edgeward.fleet.rollout.state import Candidate, Counts, Member, Rollout
from edgeward.fleet.rollout.step import step

if TYPE_CHECKING:
    from edgeward.fleet.rollout.words import Standing

OLD, NEW = "a" * 64, "b" * 64
RELEASE = Release("ecg-beat", "2.0.0", NEW, "1.0.0", OLD)
GOOD = Evidence(
    golden_vectors=8, latency_us=900, deadline_us=4_000, memory_kib=9_000, shadow_windows=50, soak_s=100_000
)
FACTS = Facts(Machine.X86_64, Accelerator.NONE, 4, 8_192, 16_384, 4, "0.1.0")


@dataclass
class Device:
    """One device: what it runs, what it was told, and how its next update will end."""

    name: str
    held: str = OLD
    progress: Progress | None = None
    will: UpdateState = UpdateState.COMMITTED
    evidence: Evidence = GOOD
    sequence: int = 0
    heard_s: int = 0
    groups: frozenset[str] = frozenset()

    def check_in(self) -> CheckIn:
        """What it says now."""
        self.sequence += 1
        version = "2.0.0" if self.held == NEW else "1.0.0"
        report = FamilyReport("ecg-beat", Held(version, self.held), None, self.progress, Rung.LOCAL)
        return CheckIn(1, self.sequence, 60, 1_700_000_000, 1_000, FACTS, (report,))

    def obey(self, order: Order | None) -> None:
        """Take the order of an answer."""
        if order is None:
            return
        known = self.progress
        same = known is not None and (known.rollout, known.sha256) == (order.rollout, order.sha256)
        if order.deed is Deed.WITHDRAW:
            if same and known is not None and known.state is UpdateState.DOWNLOADING:
                self.progress = replace(known, state=UpdateState.FAILED, why=Why.WITHDRAWN)
        elif not same:
            state = UpdateState.DOWNLOADING
            self.progress = Progress(order.rollout, order.sha256, state, 1, None, 10, Evidence())

    def work(self) -> None:
        """Bring a begun update to its end."""
        known = self.progress
        if known is None or known.state is not UpdateState.DOWNLOADING:
            return
        will = UpdateState.COMMITTED if known.sha256 == OLD else self.will
        why = None if will is UpdateState.COMMITTED else Why.GOLDEN_FAILED
        self.progress = replace(known, state=will, why=why, percent=100, evidence=self.evidence)
        if will is UpdateState.COMMITTED:
            self.held = known.sha256


class Fleet:
    """Devices and one store; everything that happens goes through ``step``."""

    def __init__(self, size: int, *, now_s: int = 1_000_000) -> None:
        self.now_s = now_s
        self.devices = {f"d-{number:016x}": Device(f"d-{number:016x}", heard_s=now_s) for number in range(size)}
        self.rollouts: dict[int, Rollout] = {}
        self.members: dict[tuple[int, str], Member] = {}
        self.effects: list[tuple[int, Effect]] = []
        self.ended: set[str] = set()

    def draft(self, plan: Plan, *, release: Release = RELEASE, author: str = "ann") -> int:
        """A new rollout's number."""
        number = len(self.rollouts) + 1
        self.rollouts[number] = Rollout.draft(number, release, plan, author)
        return number

    def happen(self, number: int, happening: Happening) -> Order | None:
        """One step, stored, with everything that follows from it."""
        done = step(self.rollouts[number], happening, self.now_s)
        self.rollouts[number] = done.rollout
        for member in done.members:
            self.members[(number, member.device)] = member
        for effect in done.effects:
            self.effects.append((number, effect))
            self._follow(number, effect)
        return done.order

    def _follow(self, number: int, effect: Effect) -> None:
        match effect:
            case Supersede():
                for other in list(self.rollouts):
                    if other < number:
                        self.happen(other, Superseded(number))
            case Choose():
                self.happen(number, Scope(self.scope(number)))
            case Return():
                back = len(self.rollouts) + 1
                self.rollouts[back] = self.rollouts[number].returned(back)
                self.happen(back, Tick())

    def candidate(self, number: int, device: Device) -> Candidate:
        """A device as the store knows it."""
        return Candidate(
            device.name, device.heard_s, device.held, (number, device.name) in self.members, groups=device.groups
        )

    def end(self, name: str) -> None:
        """An operator revokes the device, or calls it lost."""
        self.ended.add(name)
        for (number, device), member in list(self.members.items()):
            if device == name:
                self.happen(number, Ended(member))

    def scope(self, number: int) -> list[Candidate]:
        """Every device that a rollout concerns."""
        undoes = self.rollouts[number].undoes
        known = [one for one in self.devices.values() if one.name not in self.ended]
        wanted = [one for one in known if not undoes or one.held == undoes]
        return [self.candidate(number, one) for one in wanted]

    def hear(self, report: CheckIn, name: str) -> Order | None:
        """The fleet's side of a check-in: the order of its answer; None for a device that was ended."""
        if name in self.ended:
            return None
        device = self.devices[name]
        device.heard_s = self.now_s
        given: dict[Deed, Order] = {}
        for number, rollout in list(self.rollouts.items()):
            member = self.members.get((number, name))
            if member is None or member.standing in FOLLOWS:
                seen = replace(self.candidate(number, device), held=held_by(report, rollout.release.family))
                self.happen(number, Came(seen, member))
                member = self.members.get((number, name))
            if member is not None:
                order = self.happen(number, Heard(member, report))
                if order is not None:
                    given[order.deed] = order
        return given.get(Deed.INSTALL) or given.get(Deed.WITHDRAW)

    def visit(self, name: str) -> Order | None:
        """A check-in without faults, and the work it leads to."""
        device = self.devices[name]
        order = self.hear(device.check_in(), name)
        device.obey(order)
        return order

    def round(self, seconds: int = 60, *, away: frozenset[str] = frozenset()) -> None:
        """Time passes: everyone who is not away works and checks in, silences are seen, and the clock ticks."""
        self.now_s += seconds
        for name, device in self.devices.items():
            if name not in away:
                device.work()
                self.visit(name)
        self.look()

    def look(self) -> None:
        """What the fleet does by itself from time to time."""
        for number, name in list(self.members):
            self.happen(number, Unheard(self.members[(number, name)]))
        for number in list(self.rollouts):
            self.happen(number, Tick())

    def tally(self, number: int) -> tuple[Counts, ...]:
        """The counts, counted anew from the members."""
        rollout = self.rollouts[number]
        counts = [Counts() for _ in rollout.counts]
        for (other, _), member in self.members.items():
            if other == number:
                counts[member.stage] = counts[member.stage].added(member.standing)
        return tuple(counts)

    def standing(self, number: int, name: str) -> Standing | None:
        """Where a device stands."""
        member = self.members.get((number, name))
        return None if member is None else member.standing


TWO = Plan(stages=(Stage("canary", Pick(count=3), Gate(errors=0, success=1_000_000)), Stage("the rest")), gap_s=0)


def begun(plan: Plan = TWO, size: int = 12) -> tuple[Fleet, int]:
    """A fleet with one running rollout."""
    fleet = Fleet(size)
    number = fleet.draft(plan)
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    return fleet, number


def chosen(fleet: Fleet, number: int) -> list[str]:
    """The devices that its stages took, in that order."""
    return [name for other, name in fleet.members if other == number]
