"""The promises of a rollout hold for every order of what can happen, and whatever the network does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rollout_fleet import NEW, Device, Fleet

from edgeward.exchange.checkin import Deed
from edgeward.exchange.words import UpdateState
from edgeward.fleet.rollout.happening import Abort, Approve, Heard, Pause, Resume, Tick
from edgeward.fleet.rollout.plan import CatchUp, Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.words import CLOSED, Standing, Status
from edgeward.kernel.errors import RolloutError

if TYPE_CHECKING:
    from edgeward.exchange.checkin import CheckIn, Order
    from edgeward.fleet.rollout.state import Rollout

SIZE = 14
PEOPLE = ("ann", "ben")
_PICKS = st.lists(
    st.one_of(
        st.builds(Pick, count=st.integers(1, 6)),
        st.builds(Pick, share=st.integers(1, 900_000)),
        st.builds(Pick, group=st.sampled_from(["icu", "ward"]), count=st.integers(1, 6)),
    ),
    min_size=1,
    max_size=3,
)
_GATES = st.builds(
    Gate,
    success=st.integers(300_000, 1_000_000),
    errors=st.integers(0, 400_000),
    errors_max=st.none() | st.integers(0, 3),
)
_DEVICES = st.integers(0, SIZE - 1).map(lambda number: f"d-{number:016x}")


class Rollouts(RuleBasedStateMachine):
    """A fleet of any plan with failing, silent and lying devices, lost and repeated messages, and two people."""

    @initialize(
        picks=_PICKS,
        gates=st.lists(_GATES, min_size=4, max_size=4),
        gap_s=st.sampled_from([0, 300]),
        soon=st.booleans(),
    )
    def begin(self, picks: list[Pick], gates: list[Gate], gap_s: int, soon: bool) -> None:
        """Any plan that makes sense."""
        named = [Stage(f"stage {n}", pick, gate) for n, (pick, gate) in enumerate(zip(picks, gates, strict=False))]
        plan = Plan(
            (*named, Stage("rest", gate=gates[-1])), catch_up=CatchUp(at_once=2), silent_s=900, gap_s=gap_s,
            shadow_s=0, soak_s=0, stage_s=20_000,
        )  # fmt: skip
        try:
            plan.check()
        except RolloutError:
            plan = replace(plan, stages=(Stage("canary", Pick(count=2)), Stage("rest")))
        self.fleet = Fleet(SIZE)
        for number, device in enumerate(self.fleet.devices.values()):
            device.groups = frozenset({"icu"} if number % 3 == 0 else {"ward"})
        self.number = self.fleet.draft(plan)
        self.said: list[tuple[str, CheckIn]] = []
        self.approved = False
        self.ever_closed = False
        self.woken = 0
        self.back: set[str] = set()
        if soon:
            self.approve("ben")

    def _ask(self, deed: Approve | Pause | Resume | Abort) -> bool:
        try:
            self.fleet.happen(self.number, deed)
        except RolloutError:
            return False
        return True

    @rule(by=st.sampled_from(PEOPLE))
    def approve(self, by: str) -> None:
        """Somebody approves, the author too."""
        done = self._ask(Approve(by))
        assert not (done and by == "ann"), "the author approved"
        self.approved |= done

    @rule(by=st.sampled_from(PEOPLE), resume=st.booleans())
    def pause_or_resume(self, by: str, resume: bool) -> None:
        """Somebody holds it, or lets it go on."""
        self._ask(Resume(by) if resume else Pause(by))

    @rule(by=st.sampled_from(PEOPLE), sure=st.integers(0, 9))
    def abort(self, by: str, sure: int) -> None:
        """Now and then somebody ends it."""
        if sure == 0:
            self._ask(Abort(by))

    @rule(seconds=st.sampled_from([30, 300, 1_000]))
    def time_passes(self, seconds: int) -> None:
        """The clock ticks, and silences are seen."""
        self.fleet.now_s += seconds
        self._watch_stage(self.fleet.look)

    @rule()
    def server_is_killed_and_ticks_again(self) -> None:
        """Two ticks at the same moment: the second finds nothing to do but what the first left open."""
        self._watch_stage(lambda: self.fleet.happen(self.number, Tick()))
        self._watch_stage(lambda: self.fleet.happen(self.number, Tick()))

    @rule(name=_DEVICES, lost=st.sampled_from(["", "", "", "way", "answer"]))
    def check_in(self, name: str, lost: str) -> None:
        """A device says where it stands; the message or the answer may be lost."""
        device = self.fleet.devices[name]
        report = device.check_in()
        self.said.append((name, report))
        if lost != "way":
            order = self._hear(name, report)
            if lost != "answer":
                device.obey(order)

    @precondition(lambda self: getattr(self, "said", []))
    @rule(data=st.data())
    def old_message_again(self, data: st.DataObject) -> None:
        """A message comes twice, or late; if something newer was heard, nothing changes."""
        name, report = data.draw(st.sampled_from(self.said))
        known = self.fleet.members.get((self.number, name))
        before = self.fleet.rollouts[self.number]
        self._hear(name, report)
        if known is not None and known.standing is not Standing.OFFLINE and report.sequence <= known.sequence:
            assert self.fleet.members[(self.number, name)] == known
            assert self.fleet.rollouts[self.number] == before

    @rule(name=_DEVICES)
    def device_works(self, name: str) -> None:
        """It brings its update to the end that it will have."""
        self.fleet.devices[name].work()

    @rule(share=st.sampled_from([2, 3, 5, 14]), start=st.integers(0, 13), times=st.integers(1, 3))
    def many_work_and_check_in(self, share: int, start: int, times: int) -> None:
        """Most devices are well and get on."""
        for _ in range(times):
            for number in range(share):
                name = f"d-{(start + number) % SIZE:016x}"
                self.fleet.devices[name].work()
                self.check_in(name, "")
            self.time_passes(30)

    @rule(name=_DEVICES, will=st.sampled_from([UpdateState.COMMITTED, UpdateState.FAILED, UpdateState.ROLLED_BACK]))
    def fate(self, name: str, will: UpdateState) -> None:
        """How its next update ends."""
        self.fleet.devices[name].will = will

    @rule(name=_DEVICES, sure=st.integers(0, 4))
    def end(self, name: str, sure: int) -> None:
        """Now and then an operator revokes a device, or calls it lost; what was judged stays."""
        if sure == 0:
            known = self.fleet.members.get((self.number, name))
            self._watch_stage(lambda: self.fleet.end(name))
            if known is not None and known.standing not in {Standing.WORKING, Standing.WAITING}:
                assert self.fleet.members[(self.number, name)] == known

    @rule(name=_DEVICES, swapped=st.booleans())
    def take_in_again(self, name: str, swapped: bool) -> None:
        """A device that was ended is accepted as itself, the same or other hardware."""
        if name in self.fleet.ended:
            self.fleet.ended.discard(name)
            if swapped:
                self.fleet.devices[name].progress = None

    def _hear(self, name: str, report: CheckIn) -> Order | None:
        order: Order | None = None
        known = self.fleet.members.get((self.number, name))
        late = self.fleet.rollouts[self.number].caught_up
        was_ended = known is not None and known.standing is Standing.ENDED
        self.woken += known is not None and (known.stage, known.standing) == (late, Standing.SILENT)

        def hear() -> None:
            nonlocal order
            order = self.fleet.hear(report, name)

        self._watch_stage(hear)
        if known is not None and known.standing is Standing.WAITING:
            now = self.fleet.members[(self.number, name)]
            if now.standing is Standing.WORKING and now.state is None:
                self._watch_turns(self.fleet.rollouts[self.number])
        if was_ended and (now := self.fleet.members[(self.number, name)]).standing is not Standing.ENDED:
            self.back.add(name)
            assert now.stage == late or now.state is not None, "an order for a device that was ended, unasked"
        if order is not None and order.deed is Deed.INSTALL:
            rollout = self.fleet.rollouts[order.rollout]
            assert rollout.status in {Status.RUNNING, Status.COMPLETED}, "an order of a rollout that gives none"
            assert rollout.live
            assert rollout.approver, "an order nobody approved"
            assert (order.rollout, name) in self.fleet.members, "an order for a device that no stage took"
        return order

    def _watch_stage(self, act: object) -> None:
        """Judge every opening of a stage by what was counted when it was opened."""
        before = self.fleet.rollouts[self.number]
        act()  # type: ignore[operator]
        after = self.fleet.rollouts[self.number]
        if after.stage == before.stage:
            return
        assert after.stage > before.stage, "a stage never closes again"
        if after.counts[after.stage].working:
            self._watch_turns(after)
        part = self.fleet.tally(self.number)[before.stage]
        gate = before.plan.stages[before.stage].gate
        if part.counted:
            assert part.committed >= 1, "a stage opened on no success"
            assert part.committed * 1_000_000 >= gate.success * part.counted, "a stage opened on too little"
        else:
            assert before.stage > 0 or not self.fleet.devices, "the canary was passed over"
            assert part.ended == 0 or before.opening, "a stage passed because its devices were ended"

    def _watch_turns(self, rollout: Rollout) -> None:
        """After a turn has come, no more are on the way than have committed; two may always be."""
        assert rollout.total.working <= max(2, rollout.total.committed), "more on the way than have committed"

    @invariant()
    def every_device_is_in_exactly_one_count(self) -> None:
        """The counts are what counting anew gives."""
        if hasattr(self, "fleet"):
            for number, rollout in self.fleet.rollouts.items():
                assert rollout.counts == self.fleet.tally(number)

    @invariant()
    def no_more_devices_than_the_stages_allow(self) -> None:
        """Each stage took no more than its pick has room for, and a stage that never opened took none."""
        if not hasattr(self, "fleet"):
            return
        rollout = self.fleet.rollouts[self.number]
        taken = 0
        for number, stage in enumerate(rollout.plan.stages):
            part = rollout.counts[number]
            back = sum(
                (member := self.fleet.members.get((self.number, name))) is not None and member.stage == number
                for name in self.back
            )
            assert part.waiting == 0 or 0 < number < rollout.caught_up, "a canary waits for nobody"
            mine = part.total - part.already - part.offline - part.ended - back
            if number > rollout.stage or (number == rollout.stage and rollout.opening):
                assert mine <= 0, "a stage that is not open has taken devices"
            if stage.pick.count is not None:
                assert mine <= stage.pick.count
            taken += mine
            if stage.pick.share is not None:
                assert taken <= max(1, stage.pick.share * SIZE // 1_000_000) or mine == 0
        late = rollout.counts[rollout.caught_up]
        assert late.working <= rollout.plan.catch_up.at_once + self.woken
        assert late.total == 0 or rollout.status in {Status.COMPLETED, Status.HALTED} or not rollout.live

    @invariant()
    def what_is_closed_stays_closed_and_errors_within_limits_run_on(self) -> None:
        """A rollout that gives orders keeps every limit; one that is closed never opens again."""
        if not hasattr(self, "fleet"):
            return
        rollout = self.fleet.rollouts[self.number]
        assert not (self.ever_closed and rollout.status not in CLOSED)
        self.ever_closed |= rollout.status in CLOSED
        if rollout.status is Status.RUNNING:
            assert self.approved
            for stage, part in zip(rollout.plan.stages, rollout.counts, strict=False):
                among = min(part.stands, rollout.total.counted)  # who waits excuses no error
                assert part.errors * 1_000_000 <= stage.gate.errors * among or part.errors == 0
        if rollout.status is Status.HALTED and len(self.fleet.rollouts) > 1:
            assert self.fleet.rollouts[2].undoes == NEW


Rollouts.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRollouts = Rollouts.TestCase


@given(seed=st.randoms(use_true_random=False), bad=st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_order_of_check_ins_is_irrelevant(seed: object, bad: int) -> None:
    """Whatever order the devices of a stage are heard in, and however often, the stage ends in the same counts."""
    plan = Plan((Stage("all", gate=Gate(success=500_000, errors=400_000)),), shadow_s=0, soak_s=0)
    ends = []
    for shuffled in (False, True):
        fleet = Fleet(8)
        number = fleet.draft(plan)
        fleet.happen(number, Approve("ben"))
        fleet.happen(number, Tick())
        names = sorted(fleet.devices)
        for name in names[:bad]:
            fleet.devices[name].will = UpdateState.FAILED
        letters: list[tuple[str, CheckIn]] = []
        for name in names:
            device: Device = fleet.devices[name]
            fleet.visit(name)
            device.work()
            letters += [(name, device.check_in())] * 2 + [(name, device.check_in())]
        if shuffled:
            seed.shuffle(letters)  # type: ignore[attr-defined]
        for name, report in letters:
            fleet.happen(number, Heard(fleet.members[(number, name)], report))
        ends.append((fleet.rollouts[number].counts, fleet.rollouts[number].status))
    assert ends[0] == ends[1]


@given(fates=st.lists(st.booleans(), min_size=40, max_size=40))
@settings(max_examples=40, deadline=None)
def test_bad_model_reaches_no_more_than_its_canary_when_the_first_ten_show_it(fates: list[bool]) -> None:
    """Whatever devices fail: once a canary failed, nobody outside the canary ever has an order."""
    fleet = Fleet(40)
    number = fleet.draft(Plan(shadow_s=0, soak_s=0))
    for device, good in zip(fleet.devices.values(), fates, strict=True):
        device.will = UpdateState.COMMITTED if good else UpdateState.ROLLED_BACK
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    canary = {name for other, name in fleet.members if other == number}
    assert len(canary) == 4
    shown = any(fleet.devices[name].will is not UpdateState.COMMITTED for name in canary)
    for _ in range(12):
        fleet.round()
    touched = {name for name, device in fleet.devices.items() if device.progress is not None}
    if shown:
        assert touched <= canary
        assert fleet.rollouts[number].status is Status.HALTED
        assert NEW not in {device.held for device in fleet.devices.values()}
