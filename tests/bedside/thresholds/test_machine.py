"""Whatever happens, in whatever order: a violation is alerted in time, an alert has its reason, quiet always ends.

The machine measures, waits, acknowledges, suspends, repeats and reorders numerics and restarts the process, and keeps a
second, much simpler account of what the patient's values are. After every step both are compared.
"""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from threshold_play import TICK, Play, S

from edgeward.bedside.feed import Measured
from edgeward.bedside.thresholds.checks import checks_of
from edgeward.bedside.thresholds.limits import ADULT
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.bedside.thresholds.stay import GAP_NS, UNSEEN_NS
from edgeward.signal.numeric import Kind, Numeric

CHECKS = {check.code: check for check in checks_of(ADULT)}
VALUES: dict[Kind, list[float | None]] = {
    Kind.HR: [None, 0, 38, 41, 49, 50, 52, 80, 118, 120, 121, 145],
    Kind.PULSE: [None, 45, 80, 130],
    Kind.BEAT_SILENCE: [None, 0.4, 1.9, 2.5, 3.9, 4.0, 9.0],
    Kind.SPO2: [None, 75, 79, 80, 85, 89, 90, 91, 98],
    Kind.RR: [None, 0, 4, 8, 14, 31, 40],
    Kind.ABP_MEAN: [None, 50, 60, 69, 71, 90, 112],
    Kind.NIBP_MEAN: [50, 60, 90, 115],
}
HEARD_WITHIN = 8 * S
"""The second account only judges what came within this: long enough for any habit of a source."""


class Watched(RuleBasedStateMachine):
    """One adult under watch."""

    @initialize(latch=st.sampled_from(Latch))
    def begin(self, latch: Latch) -> None:
        self.latch = latch
        self.play = Play(ThresholdSettings(latch=latch, reminder_s=60.0, suspend_s_max=30.0))
        self.newest: dict[Kind, tuple[float | None, int]] = {}
        self.measured: dict[Kind, int] = {}  # when a kind last had a value
        self.since: dict[str, int] = {}  # code: violated, seen all the time, since
        self.quiet_from: int | None = None
        self.read = 0
        self.ids: set[str] = set()

    # --- what may happen

    @rule(kind=st.sampled_from(list(VALUES)), data=st.data())
    def measure(self, kind: Kind, data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(VALUES[kind]))
        self.take(kind, value, self.play.now)

    @rule(kind=st.sampled_from(list(VALUES)), data=st.data(), seconds=st.sampled_from([2, 12, 25]))
    def monitor(self, kind: Kind, data: st.DataObject, seconds: int) -> None:
        """A monitor that says the same every second."""
        value = data.draw(st.sampled_from(VALUES[kind]))
        for _ in range(seconds):
            self.take(kind, value, self.play.now)
            self.pass_time(1.0)

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 9.5]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(kind=st.sampled_from(list(VALUES)), data=st.data(), age_s=st.sampled_from([0, 1, 30]))
    @precondition(lambda self: bool(self.newest))
    def repeat(self, kind: Kind, data: st.DataObject, age_s: int) -> None:
        """A duplicate or something that was overtaken: nothing may come of it."""
        if kind not in self.newest:
            return
        value = data.draw(st.sampled_from(VALUES[kind]))
        before = dict(self.play.shown)
        self.play.measure(at=self.newest[kind][1] - age_s * S, **{kind.value: value})
        assert self.play.shown == before

    @rule()
    def acknowledge_all(self) -> None:
        active = self.play.active
        self.play.acknowledge()
        assert self.play.active == active
        assert self.play.latched == set()
        assert all(alert["acknowledged"] for alert in self.play.shown.values())

    @rule(data=st.data())
    @precondition(lambda self: bool(self.play.shown))
    def acknowledge_one(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.play.shown)))
        others = {key: alert for key, alert in self.play.shown.items() if key != chosen}
        self.play.acknowledge(chosen)
        assert {key: alert for key, alert in self.play.shown.items() if key != chosen} == others

    @rule(seconds=st.sampled_from([-5.0, 10.0, 1e6]))
    def suspend(self, seconds: float) -> None:
        self.play.suspend(seconds)
        self.quiet_from = self.play.now if seconds > 0 else None
        if seconds <= 0:
            assert self.play.suspended_ms == 0

    @rule(lost_s=st.sampled_from([0.0, 0.5, 2.0]))
    def restart(self, lost_s: float) -> None:
        """No alert and no acknowledgement is lost; what was over stays over."""
        before = {key: _still(alert) for key, alert in self.play.shown.items()}
        self.play.shown.clear()
        self.play.restart(lost_s)
        after = {key: _still(alert) for key, alert in self.play.shown.items()}
        for key, alert in before.items():
            code = alert["code"]
            if key not in after:  # time went on while nobody watched: its condition may have run out of sight
                assert alert["active"], alert
                assert code not in CHECKS or not self.holds(code) or not self.fresh(code), alert
            elif after[key] != alert:
                again = code in CHECKS and self.holds(code)  # measured anew just before: its delay ran out meanwhile
                assert not after[key]["active"] or alert["acknowledged"] or again, (alert, after[key])
        self.account()

    # --- the second account

    def take(self, kind: Kind, value: float | None, at: int) -> None:
        if kind in self.newest and at <= self.newest[kind][1]:
            at = self.newest[kind][1] + 1
            self.play.now = max(self.play.now, at)
        self.play.feed(Measured(1, (Numeric(kind, value, at),)))
        self.newest[kind] = (value, at)
        if value is not None:
            self.measured[kind] = at
        self.account()

    def pass_time(self, seconds: float) -> None:
        end = self.play.now + round(seconds * S)
        while self.play.now < end:
            self.play.wait(min(TICK, end - self.play.now) / S)
            self.account()

    def seen(self, code: str) -> tuple[Kind, float] | None:
        """The kind and value that count for a check, by the plain rules: preferred first, none older than a better."""
        newest = -1
        for kind in CHECKS[code].kinds:
            if kind not in self.newest:
                continue
            value, at = self.newest[kind]
            if value is not None and at >= newest:
                return kind, value
            newest = max(newest, self.measured.get(kind, -1))
        return None

    def fresh(self, code: str) -> bool:
        """Whether every kind of a check came so lately that it counts by any habit."""
        kinds = [kind for kind in CHECKS[code].kinds if kind in self.newest]
        return all(self.play.now - self.newest[kind][1] <= HEARD_WITHIN for kind in kinds)

    def holds(self, code: str) -> bool:
        """Whether a raised alert has its reason: the value that counts is not yet back beyond the hysteresis."""
        counted = self.seen(code)
        return counted is not None and CHECKS[code].violated(counted[1], raised=True)

    def account(self) -> None:
        for code, check in CHECKS.items():
            counted = self.seen(code)
            if counted is None or not self.fresh(code) or not check.violated(counted[1], raised=False):
                self.since.pop(code, None)
            else:
                self.since.setdefault(code, self.play.now)

    # --- what must always hold

    @invariant()
    def a_violation_is_alerted_within_its_delay_and_a_tick(self) -> None:
        if not hasattr(self, "since"):
            return
        for code, since in self.since.items():
            check = CHECKS[code]
            counted = self.seen(code)
            assert counted is not None
            waited = self.play.now - since
            if waited >= check.delay_for(counted[0]) + TICK:
                assert self.play.active & {code, *check.worse}, (code, counted, waited / S)

    @invariant()
    def an_alert_has_a_reason(self) -> None:
        if not hasattr(self, "play"):
            return
        for alert in self.play.shown.values():
            code = alert["code"]
            if code not in CHECKS:
                assert alert["cause"] == "technical"
                assert not alert["latched"]
                continue
            if alert["active"]:
                assert self.holds(code) or self.seen(code) is None or not self.fresh(code), alert
            else:
                assert alert["latched"]
                assert self.latch is Latch.ALL or (self.latch is Latch.HIGH and alert["priority"] == "high")
                assert not alert["acknowledged"]

    @invariant()
    def one_alert_for_one_condition(self) -> None:
        if not hasattr(self, "play"):
            return
        codes = [alert["code"] for alert in self.play.shown.values()]
        assert len(codes) == len(set(codes)) <= len(CHECKS) + 9

    @invariant()
    def quiet_ends(self) -> None:
        if not hasattr(self, "play"):
            return
        assert self.play.suspended_ms <= 30_000
        if self.quiet_from is not None and self.play.now - self.quiet_from > 30 * S + TICK:
            assert self.play.suspended_ms == 0

    @invariant()
    def a_new_violation_is_never_born_acknowledged(self) -> None:
        if not hasattr(self, "play"):
            return
        for kind, alert in self.play.messages[self.read :]:
            if kind == "alert" and alert["id"] not in self.ids:
                self.ids.add(alert["id"])
                assert (alert["active"], alert["acknowledged"], alert["latched"]) == (True, False, False)
        self.read = len(self.play.messages)


def _still(alert: dict) -> dict:
    return {**alert, "raised_ms_ago": 0}


assert UNSEEN_NS > GAP_NS

Watched.TestCase.settings = settings(
    max_examples=int(os.environ.get("EDGEWARD_EXAMPLES", "30")), stateful_step_count=40, deadline=None
)
TestWatched = Watched.TestCase
