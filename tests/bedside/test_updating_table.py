"""The update's table: what holds whatever happens, in whatever sequence."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeward.bedside.updating.happening import (
    Activates,
    Arrived,
    Booted,
    Cleared,
    Committed,
    Compared,
    Duty,
    Fails,
    Held,
    InUse,
    Limits,
    Ordered,
    Passed,
    Record,
    Serves,
    Todo,
    Waits,
)
from edgeward.bedside.updating.table import BLAMES, TABLE, IllegalStepError, step, todo
from edgeward.exchange.checkin import Deed, Evidence, Order
from edgeward.exchange.words import UPDATE_ENDS, UpdateState, Why
from edgeward.testing.updates import EVIDENCE

S = UpdateState
SHAS = ("a" * 64, "b" * 64, "c" * 64)
HAPPENINGS = [
    Waits(Why.BED_IN_USE),
    Cleared(),
    Arrived(),
    Passed(EVIDENCE),
    Compared(EVIDENCE),
    Activates(),
    Serves(),
    Held(EVIDENCE),
    Committed(),
    InUse(EVIDENCE),
    Fails(Why.OTHER),
]


def order(rollout: int = 1, sha: str = SHAS[0], deed: Deed = Deed.INSTALL, attempts: int = 3) -> Order:
    return Order(rollout, "ecg-beat", deed, "1.1.0", sha, attempts=attempts)


def walked(*happenings: object) -> Record:
    record, _ = step(Record(), Ordered(order()), 0)
    for happening in happenings:
        record, _ = step(record, happening, 0)
    return record


TO_STAGED = (Cleared(), Arrived(), Passed(EVIDENCE))
TO_SOAKING = (*TO_STAGED, Compared(EVIDENCE), Activates(), Serves())
AT = {
    S.IDLE: Record(),
    S.OFFERED: walked(),
    S.DOWNLOADING: walked(Cleared()),
    S.VERIFIED: walked(Cleared(), Arrived()),
    S.STAGED: walked(*TO_STAGED),
    S.ACTIVATED: walked(*TO_SOAKING[:-1]),
    S.SOAKING: walked(*TO_SOAKING),
    S.COMMITTED: walked(*TO_SOAKING, Held(EVIDENCE), Committed()),
    S.ROLLED_BACK: walked(*TO_SOAKING, Fails(Why.SOAK_FAILED)),
    S.FAILED: walked(Fails(Why.TRUST)),
}


@pytest.mark.parametrize(("state", "happening"), list(product(UpdateState, HAPPENINGS)), ids=str)
def test_what_is_not_in_the_table_cannot_happen(state: UpdateState, happening: object) -> None:
    """Every pair of state and happening is in the table, or raises and changes nothing."""
    record = AT[state]
    assert record.state is state
    if (state, type(happening)) not in TABLE:
        with pytest.raises(IllegalStepError):
            step(record, happening, 0)


def test_no_end_is_left_but_by_an_order() -> None:
    """COMMITTED, ROLLED_BACK and FAILED lead nowhere."""
    assert not {state for state, _ in TABLE} & UPDATE_ENDS
    assert todo(AT[S.COMMITTED]) is Todo.NOTHING


@pytest.mark.parametrize(
    ("before", "happening"),
    [
        (AT[S.VERIFIED], Passed(Evidence())),
        (AT[S.OFFERED], InUse(Evidence())),
        (AT[S.STAGED], Activates()),
        (AT[S.SOAKING], Committed()),
        (AT[S.SOAKING], Held(Evidence())),
    ],
)
def test_nothing_goes_on_without_what_must_have_been_measured(before: Record, happening: object) -> None:
    """No trial without golden vectors, no swap before the shadow held, no commit before the soak held."""
    with pytest.raises(IllegalStepError):
        step(before, happening, 0)


def test_beds_come_before_the_record_and_the_record_before_the_slots() -> None:
    """The old model serves again before anything is written; the verdict is written before the slots change."""
    _, duties = step(AT[S.SOAKING], Fails(Why.SOAK_FAILED), 0)
    assert duties == (Duty.GO_BACK, Duty.RECORD, Duty.REFUSE, Duty.CLEAR)
    _, duties = step(AT[S.STAGED], Fails(Why.NO_SAFE_MOMENT), 0)
    assert duties == (Duty.END_SHADOW, Duty.RECORD, Duty.ABANDON, Duty.CLEAR)
    _, duties = step(replace(AT[S.STAGED], compared=True), Activates(), 0)
    assert duties == (Duty.RECORD, Duty.ACTIVATE)


def test_a_bundle_is_refused_only_where_it_is_to_blame() -> None:
    """A full disk, a bed in use, a withdrawal, a network: nothing of that bars a bundle from a device."""
    for why in Why:
        _, duties = step(AT[S.SOAKING], Fails(why), 0)
        assert (Duty.REFUSE in duties) == (why in BLAMES)
        assert (Duty.ABANDON in duties) == (why not in BLAMES)


@pytest.mark.parametrize("state", [S.ACTIVATED, S.SOAKING])
def test_what_was_in_charge_is_never_just_tried_again(state: UpdateState) -> None:
    """Whatever fails once beds were served, mendable or not, ends it: going on is the fleet's decision."""
    after, duties = step(AT[state], Fails(Why.DISK_FULL, mendable=True), 0)
    assert (after.state, duties[0]) == (S.ROLLED_BACK, Duty.GO_BACK)


def test_verdict_that_the_slots_were_not_told_is_told_at_the_next_boot() -> None:
    """A cut between record and slots: a trial that an ended record left is refused or abandoned, as it says."""
    blamed, spared = AT[S.ROLLED_BACK], replace(AT[S.FAILED], why=Why.NO_SAFE_MOMENT)
    assert step(blamed, Booted("0" * 64, SHAS[0]), 0)[1] == (Duty.REFUSE,)
    assert step(blamed, Booted("0" * 64, SHAS[1]), 0)[1] == (Duty.ABANDON,)
    assert step(spared, Booted("0" * 64, SHAS[0]), 0)[1] == (Duty.ABANDON,)
    assert step(Record(), Booted("0" * 64, SHAS[0]), 0)[1] == (Duty.ABANDON,)


def test_what_an_update_waited_for_is_not_why_it_was_refused() -> None:
    """A wait stands in the record; at the next boot the slots say that another trial had the bundle refused."""
    waits, _ = step(AT[S.STAGED], Waits(Why.BED_IN_USE), 0)
    after, _ = step(waits, Booted("0" * 64, "", refused="golden-failed"), 0)
    assert (after.state, after.why, after.code) == (S.FAILED, Why.REFUSED_BEFORE, "golden-failed")


@pytest.mark.parametrize("state", [S.STAGED, S.ACTIVATED, S.SOAKING])
def test_trial_that_the_slots_do_not_know_begins_anew_and_not_for_ever(state: UpdateState) -> None:
    """Lost slots cost an attempt; with none left it ends."""
    record = AT[state]
    for attempt in (2, 3):
        record = replace(record, state=state)
        record, _ = step(record, Booted("0" * 64, ""), 0)
        assert (record.state, record.attempt) == (S.OFFERED, attempt)
    record, _ = step(replace(record, state=state), Booted("0" * 64, ""), 0)
    assert (record.ended, record.why) == (True, Why.INTERRUPTED)


@pytest.mark.parametrize("sequence", list(permutations([1, 2, 2, 3])))
def test_orders_that_come_twice_and_in_any_sequence_end_in_the_newest(sequence: tuple[int, ...]) -> None:
    """The greatest rollout wins; the withdrawal of 2 does not touch 3."""
    record = Record()
    for rollout in sequence:
        for deed in (Deed.INSTALL, Deed.WITHDRAW) if rollout == 2 else (Deed.INSTALL,):
            record, _ = step(record, Ordered(order(rollout, SHAS[rollout - 1], deed)), 0)
    assert record.order == order(3, SHAS[2])
    assert record.state is S.OFFERED


class Life(RuleBasedStateMachine):
    """A device under orders, failures, waits and reboots, with slots that do what the duties say."""

    def __init__(self) -> None:
        super().__init__()
        self.record, self.now_s = Record(), 0
        self.active, self.trial, self.serves = "0" * 64, "", "0" * 64
        self.refused: set[str] = set()
        self.verified: set[str] = {self.active}
        self.interruptions = 0
        self.limits = Limits(defer_s=50, retry_s=1)

    def take(self, happening: object) -> None:
        before = self.record
        self.record, duties = step(before, happening, self.now_s * 10**9, self.limits)
        sha = self.record.order.sha256 if self.record.order else ""
        for duty in duties:
            if duty is Duty.GO_BACK:
                self.serves = self.active
            elif duty is Duty.ACTIVATE:
                self.serves = self.trial
            elif duty is Duty.REFUSE:
                self.refused.add(sha)
                self.trial = "" if self.trial == sha else self.trial
            elif duty is Duty.ABANDON:
                self.trial = ""
        assert self.record.attempt <= max(self.record.order.attempts if self.record.order else 0, 1)
        if self.record.state is S.COMMITTED and before.state is not S.COMMITTED:
            assert self.record.evidence.golden_vectors

    @initialize()
    def begin(self) -> None:
        self.take(Booted(self.active))

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(
        rollout=st.integers(1, 6),
        sha=st.sampled_from(SHAS),
        deed=st.sampled_from([*[Deed.INSTALL] * 4, Deed.WITHDRAW]),
        is_local=st.booleans(),
        attempts=st.integers(1, 4),
    )
    def order_comes(self, rollout: int, sha: str, deed: Deed, is_local: bool, attempts: int) -> None:
        before = self.record
        self.take(Ordered(order(rollout, sha, deed, attempts), is_local))
        is_same = before.order is not None and before.order.rollout == rollout and before.is_local == is_local
        if deed is Deed.WITHDRAW and is_same and before.state is not S.COMMITTED:
            assert self.record.ended

    @precondition(lambda self: not self.record.ended)
    @rule(why=st.sampled_from(list(Why)), mendable=st.booleans())
    def something_fails(self, why: Why, mendable: bool) -> None:
        self.take(Fails(why, mendable))

    @precondition(lambda self: self.record.state in {S.OFFERED, S.DOWNLOADING, S.VERIFIED, S.STAGED})
    @rule(why=st.sampled_from([Why.BED_IN_USE, Why.NO_INPUT, Why.WINDOW_CLOSED]))
    def it_waits(self, why: Why) -> None:
        self.take(Waits(why))

    @precondition(lambda self: not self.record.ended)
    @rule(repeats=st.integers(1, 4))
    def it_goes_on(self, repeats: int) -> None:
        for _ in range(repeats):
            self.go_on()

    def go_on(self) -> None:
        match todo(self.record):
            case Todo.ASK:
                self.take(InUse(EVIDENCE) if self.active == self.record.order.sha256 else Cleared())
            case Todo.DOWNLOAD:
                self.verified.add(self.record.order.sha256)
                self.take(Arrived())
            case Todo.TRY:
                self.trial = self.record.order.sha256
                self.take(Passed(EVIDENCE))
            case Todo.COMPARE:
                self.take(Compared(EVIDENCE))
            case Todo.ACTIVATE:
                self.take(Activates())
            case Todo.SEE_IT_SERVE:
                self.take(Serves())
            case Todo.WATCH:
                self.take(Held(EVIDENCE))
            case Todo.COMMIT:
                self.active, self.trial, self.interruptions = self.trial, "", 0
                self.take(Committed())

    @rule()
    def power_goes(self) -> None:
        self.now_s, self.serves = 0, self.active
        order_now = self.record.order
        if self.trial and order_now is not None and self.trial == order_now.sha256 and not self.record.ended:
            self.interruptions += 1
            if self.interruptions >= 3:
                self.refused.add(self.trial)
                self.trial = ""
        self.record = replace(self.record, since_ns=99, next_ns=99, waited_ns=99, seen_ns=99)
        sha = order_now.sha256 if order_now else ""
        refused = "trial-interrupted" if sha in self.refused and not self.record.ended else ""
        self.take(Booted(self.active, self.trial, refused))

    @invariant()
    def what_serves_was_verified(self) -> None:
        assert self.serves in self.verified

    @invariant()
    def what_serves_is_active_or_the_candidate_in_charge(self) -> None:
        if self.serves != self.active:
            assert self.record.state in {S.ACTIVATED, S.SOAKING}
            assert self.serves == self.trial == self.record.order.sha256

    @invariant()
    def a_trial_belongs_to_an_order_under_way(self) -> None:
        if self.trial:
            assert self.record.state in {S.VERIFIED, S.STAGED, S.ACTIVATED, S.SOAKING}
            assert self.trial == self.record.order.sha256

    def teardown(self) -> None:
        """Every path ends: with nothing in its way, the update comes to an end within a bounded number of steps."""
        for _ in range(20):
            if self.record.ended:
                break
            self.go_on()
        assert self.record.ended


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_waiting_ends_when_beds_never_let_it() -> None:
    """BED_IN_USE and NO_INPUT count towards the deferral, a closed maintenance window does not."""
    record = AT[S.STAGED]
    limits = Limits(defer_s=100)
    for second in range(0, 100_000, 10):
        record, duties = step(record, Waits(Why.WINDOW_CLOSED), second * 10**9, limits)
        assert (record.state, duties) == (S.STAGED, () if second else (Duty.RECORD,))  # recorded when it begins
    for second in range(100_000, 100_101, 10):
        assert record.state is S.STAGED
        record, _ = step(record, Waits(Why.BED_IN_USE), second * 10**9, limits)
    assert (record.state, record.why) == (S.FAILED, Why.NO_SAFE_MOMENT)
