"""The rim's end of an update: what was asked for is told once, what was heard is believed only in its turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgeward.bedside.feed import TaskSettings, decode, encode
from edgeward.bedside.lives import Lives
from edgeward.bedside.slot import Slot
from edgeward.bedside.updating.live import Live, Serving, Shadow
from edgeward.bedside.ward_live import BACK_NS_MAX, HEARD_NS_MAX, WardLive

S = 1_000_000_000


@dataclass
class FakeClock:
    now: int = 1000 * S

    def monotonic_ns(self) -> int:
        return self.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.now / S, UTC)


def slot(key: str, version: str) -> Slot:
    return Slot(key, "toy", version, key * 64, 10, Path(f"/slots/{key}/bundle.ewb"))


OLD, NEW = slot("a", "1.0.0"), slot("b", "2.0.0")


class Rim:
    """One task's live side, and a process that answers as it is told to."""

    def __init__(self, charge: Slot | None = OLD, before: Slot | None = None) -> None:
        self.clock = FakeClock()
        self.lives = Lives(self.clock)
        self.lives.add("toy", charge, before)
        self.woken = 0
        self.lives.wake = self._wake
        self.live = self.lives.of("toy")
        self.turn = 0

    def _wake(self) -> None:
        self.woken += 1

    def due(self) -> TaskSettings | None:
        """What the process is told now; it answers in that turn from here on."""
        told = self.lives.due()
        if told:
            self.turn = told[0].turn
        return told[0] if told else None

    def say(self, charge: Slot, shadow: Slot | None = None, **more: Any) -> list[dict[str, Any]]:
        counts: dict[str, Any] = {"windows": 7, "disagreed": 2, "failed": 1, "skipped": 0, "code": ""}
        counts |= {"latency_us": 900, "memory_kib": 50_000, "running": True, **more.pop("counts", {})}
        data = {"task": "toy", "turn": self.turn, "sha256": charge.sha256, "version": charge.version, "scores": 5}
        data |= {"failures": 0, "served": True, "down": False, "since_ms": None, "safe": True}
        return self.lives.heard("serving", {**data, "shadow": shadow and {"version": shadow.version, **counts}, **more})

    @property
    def started_with(self) -> dict[str, Any]:
        return dict(self.lives.settings()["tasks"][0])

    def taken_over(self) -> None:
        self.live.begin_shadow(NEW)
        self.due()
        self.say(OLD, NEW)
        self.live.activate(NEW)
        self.due()
        self.say(NEW)


def test_a_shadow_is_told_once_and_heard_of() -> None:
    """Whatever the process is restarted with knows nothing of it."""
    rim = Rim()
    assert rim.due() is None
    rim.live.begin_shadow(NEW)
    assert rim.woken == 1
    assert rim.live.shadow() == Shadow()
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.shadow, told.shadow_sha256) == (OLD.sha256, str(NEW.path), NEW.sha256)
    assert decode(encode(told)) == told
    assert rim.due() is None
    assert rim.started_with["shadow"] == ""
    rim.say(OLD, NEW)
    assert rim.live.shadow() == Shadow(True, 7, 2, 1, 900, 50_000)
    rim.say(OLD, NEW, counts={"running": False, "code": "golden-failed", "failed": 0})
    assert rim.live.shadow().failed == 1


def test_a_takeover_is_believed_when_it_is_heard_and_only_then() -> None:
    """Until then a dead process starts with the one that was in charge."""
    rim = Rim()
    rim.live.begin_shadow(NEW)
    rim.due()
    rim.say(OLD, NEW)
    rim.live.activate(NEW)
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.previous_sha256, told.at_once) == (NEW.sha256, "", False)
    assert rim.started_with["sha256"] == OLD.sha256
    assert not rim.say(OLD, NEW)
    assert rim.live.serving().sha256 == OLD.sha256
    (swap,) = rim.say(NEW, scores=0)
    assert (swap["from"], swap["version"], swap["reason"]) == ("1.0.0", "2.0.0", "update")
    assert rim.live.serving() == Serving(NEW.sha256)
    assert (rim.started_with["sha256"], rim.started_with["previous_sha256"]) == (NEW.sha256, OLD.sha256)
    assert rim.live.charge == NEW
    assert not rim.live.shadow().running


def test_the_way_back_needs_no_safe_moment() -> None:
    """It is what a new process is started with from the same instant, and audited when it is heard of."""
    rim = Rim()
    rim.taken_over()
    rim.say(NEW, safe=False)
    rim.live.go_back()
    assert rim.started_with["sha256"] == OLD.sha256
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.shadow_sha256, told.at_once) == (OLD.sha256, "", True)
    (swap,) = rim.say(OLD)
    assert (swap["from"], swap["version"], swap["reason"]) == ("2.0.0", "1.0.0", "returned")
    assert rim.live.serving().sha256 == OLD.sha256
    assert not rim.say(OLD)
    before = rim.woken
    rim.live.go_back()  # there is nothing further back
    assert (rim.woken, rim.due()) == (before, None)


@pytest.mark.parametrize("called_off", [False, True])
def test_what_is_asked_for_before_a_return_was_heard_waits_for_it(called_off: bool) -> None:
    """The bundle that is gone back from serves not a moment longer because another one shall follow."""
    rim, newer = Rim(), slot("c", "3.0.0")
    if called_off:
        rim.live.begin_shadow(NEW)
        rim.live.activate(NEW)
        rim.due()
        rim.live.end_shadow()  # it took over just before it hears that
    else:
        rim.taken_over()
        rim.live.go_back()
    rim.live.activate(newer)
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.at_once) == (OLD.sha256, True)
    rim.say(NEW)
    assert rim.due() is None
    rim.say(OLD)
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.at_once, told.previous_sha256) == (newer.sha256, False, "")
    rim.say(newer)
    assert (rim.live.charge, rim.live.serving().sha256) == (newer, newer.sha256)


def test_a_return_that_cannot_come_about_holds_nothing_back_for_ever() -> None:
    """The bundle before is damaged on the disk: another bundle is the way out."""
    rim, newer = Rim(), slot("c", "3.0.0")
    rim.taken_over()
    rim.live.go_back()
    rim.live.activate(newer)
    rim.due()
    rim.say(NEW)
    assert rim.due() is None
    rim.clock.now += BACK_NS_MAX + 1
    rim.say(NEW)
    told = rim.due()
    assert told is not None
    assert told.sha256 == newer.sha256


@pytest.mark.parametrize("call", ["end_shadow", "go_back"])
def test_a_takeover_that_did_not_come_is_called_off(call: str) -> None:
    """And a word of the process from before that is not believed any more."""
    rim = Rim()
    rim.live.begin_shadow(NEW)
    rim.due()
    rim.live.activate(NEW)
    rim.due()
    getattr(rim.live, call)()
    assert not rim.say(NEW)  # it took over just before it heard
    assert rim.live.serving().sha256 == OLD.sha256
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.shadow_sha256) == (OLD.sha256, "")
    assert not rim.say(OLD)
    assert rim.live.charge == OLD


def test_a_process_that_fails_ends_the_shadow_and_counts_against_what_is_in_charge() -> None:
    """Down until it serves again, though the new process has not yet had anything to lose; scores count on."""
    rim = Rim()
    rim.taken_over()
    rim.say(NEW, scores=40, failures=1)
    rim.live.begin_shadow(slot("c", "3.0.0"))
    rim.lives.lost(failed=True)
    assert rim.live.serving() == Serving(NEW.sha256, 40, 2, down=True)
    assert not rim.live.shadow().running
    rim.say(NEW, scores=0)
    assert rim.live.serving().scores == 40  # started before this was known: it has yet to be told
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.shadow_sha256) == (NEW.sha256, "")
    rim.say(NEW, scores=0, served=False)
    assert rim.live.serving().down
    rim.say(NEW, scores=9)
    assert rim.live.serving() == Serving(NEW.sha256, 49, 2)


def test_a_process_that_is_replaced_on_purpose_counts_against_nobody() -> None:
    """Its shadow is gone all the same."""
    rim = Rim()
    rim.live.begin_shadow(NEW)
    rim.due()
    rim.say(OLD, NEW)
    rim.lives.lost(failed=False)
    assert rim.live.serving() == Serving(OLD.sha256, 5)
    assert not rim.live.shadow().running


def test_a_moment_is_safe_only_as_long_as_somebody_says_so() -> None:
    """A process that is silent vouches for nothing."""
    rim = Rim()
    assert not rim.live.safe()
    rim.say(OLD)
    assert rim.live.safe()
    rim.clock.now += HEARD_NS_MAX + 1
    assert not rim.live.safe()
    rim.say(OLD, safe=False)
    assert not rim.live.safe()


def test_a_task_without_a_bundle_gets_its_first() -> None:
    """No restart is needed; the way back is to none."""
    rim = Rim(charge=None)
    assert rim.live.serving() == Serving(down=True)
    rim.live.activate(NEW)
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.previous) == (NEW.sha256, "")
    rim.say(NEW, served=False, scores=0)
    assert rim.live.serving() == Serving(NEW.sha256)
    rim.live.go_back()
    assert rim.live.charge is None, "there was none before: beds are watched without a model again"
    told = rim.due()
    assert told is not None
    assert (told.sha256, told.at_once) == ("", True)


def test_other_bundles_in_the_slots_are_what_the_next_process_starts_with() -> None:
    """What was under way is over."""
    rim = Rim(before=NEW)
    rim.live.begin_shadow(NEW)
    rim.live.placed(NEW, None)
    assert (rim.started_with["sha256"], rim.started_with["previous"]) == (NEW.sha256, "")
    assert rim.due() is None


def test_activating_what_is_in_charge_changes_nothing() -> None:
    """It need not be told."""
    rim = Rim()
    rim.live.activate(OLD)
    assert rim.due() is None


def test_an_odd_message_is_raised_for_the_rim_to_distrust() -> None:
    """And other kinds are not this one's."""
    rim = Rim()
    with pytest.raises((ValueError, TypeError, KeyError)):
        rim.say(OLD, scores="many")
    with pytest.raises((ValueError, TypeError, KeyError)):
        rim.lives.heard("serving", {"task": "toy"})
    assert rim.lives.heard("score", {"task": "toy"}) == []
    assert rim.lives.heard("serving", {"task": "another"}) == []


def test_it_is_the_port_that_updates_speak_to() -> None:
    """Structurally: mypy holds it to that."""
    live: Live = WardLive("toy", OLD, None, FakeClock(), lambda: None)
    assert live.serving().sha256 == OLD.sha256


def test_a_takeover_that_a_dead_process_forgot_is_not_gone_back_from() -> None:
    """What was in charge stays: the bundle before it is nobody's to return to."""
    older = slot("0", "0.9.0")
    rim = Rim(before=older)
    rim.live.activate(NEW)
    rim.due()
    rim.lives.lost(failed=True)
    rim.live.go_back()
    assert rim.live.charge == OLD
    assert rim.started_with["sha256"] == OLD.sha256
    rim.taken_over()
    rim.lives.lost(failed=True)
    rim.live.go_back()
    assert rim.live.charge == OLD
