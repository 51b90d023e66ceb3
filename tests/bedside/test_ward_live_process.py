"""A rim, its assessment process with real engines, and an update: shadow, takeover, return, and the process's death."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from heard import Heard

from edgeward.bedside.assign import Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.fallback import Mode
from edgeward.bedside.lives import Lives
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import Slot, SlotStore
from edgeward.bedside.source.reading import PatientRef, Reading
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.side import LocalSide
from edgeward.testing.toy import TASK, install_toy, toy_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

PERIOD_S = 0.2
CALM_HR, ACT_HR = 80.0, 130.0


class SystemClock:
    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall(self) -> datetime:
        return datetime.now(UTC)


class Rim:
    """A ward over two beds of whose processes the assessment is a real one."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        clock = SystemClock()
        self.slots = stack.enter_context(SlotStore(folder / "state" / "slots" / TASK))
        self.lives = Lives(clock, dwell_s=0.2)
        self.lives.add(TASK, self.slots.active(), None)
        self.live = self.lives.of(TASK)
        self.assess = SideProcess(ASSESS, "edgeward.bedside.assess.process", self.lives.settings(), clock)
        stack.enter_context(self.assess)
        self.path = folder / "audit.jsonl"
        self.audit = Audit(self.path, clock)
        self.heard = Heard()
        self.rates = {"A": CALM_HR, "B": CALM_HR}
        thresholds = LocalSide(THRESHOLDS, lambda: ThresholdCore(ThresholdSettings()), clock)
        sides = {THRESHOLDS: thresholds, ASSESS: self.assess}
        self.ward = Ward(
            Beds(), sides, [self.heard], self.audit, clock, tasks=[TASK], hello=self._hello, updates=self.lives
        )

    def _hello(self, plans: Any, pages: Any) -> dict[str, Any]:
        charge = self.live.charge
        return {"tasks": [charge.version if charge else "-"]}

    def until(self, what: Callable[[], Any], seconds: float = 30.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, f"it did not come about: {self.heard.messages[-8:]}"
            self.turn()
            time.sleep(0.02)
        return found

    def turn(self) -> None:
        now = time.monotonic_ns()
        for place, rate in self.rates.items():
            numerics = (Numeric(Kind.HR, rate, now),)
            self.ward.take(Reading("hl7", place, "gw", now, PatientRef(frozenset({place})), numerics, None))
        self.ward.tick()

    def staged(self, folder: Path, **how: Any) -> Slot:
        file = folder / "candidate.ewb"
        file.write_bytes(toy_bundle("2.0.0", **how))
        return self.slots.stage(file)

    def served(self, version: str, since: int = 0) -> bool:
        """Whether the beds have scores of that version."""
        scores = [one for one in self.heard.of("score", since) if one["outcome"] == "accepted"]
        return {one["bed"] for one in scores if one["version"] == version} == set(self.rates)

    def audited(self, what: str) -> list[dict[str, Any]]:
        self.audit.close()
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [row for row in rows if row["what"] == what]


@pytest.fixture
def rim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rim]:
    monkeypatch.setenv("PYTHONPATH", install_toy(tmp_path / "state", tmp_path, PERIOD_S))
    with ExitStack() as stack:
        made = Rim(tmp_path, stack)
        made.until(lambda: made.served("1.0.0"))
        yield made


def shadowed(rim: Rim, candidate: Slot, windows: int = 6) -> None:
    rim.live.begin_shadow(candidate)
    rim.until(lambda: rim.live.shadow().windows >= windows)


def taken_over(rim: Rim, candidate: Slot) -> None:
    shadowed(rim, candidate, windows=1)
    rim.live.activate(candidate)
    rim.until(lambda: rim.live.serving().sha256 == candidate.sha256)


def test_a_candidate_that_agrees_takes_over_and_no_bed_notices(rim: Rim, tmp_path: Path) -> None:
    """Every bed stays LOCAL throughout, scores go on, the next one is the new version's; the swap is audited."""
    candidate = rim.staged(tmp_path, centre=100.5)
    since = len(rim.heard.messages)
    shadowed(rim, candidate)
    shadow = rim.live.shadow()
    assert (shadow.running, shadow.disagreed, shadow.failed) == (True, 0, 0)
    assert shadow.memory_kib > 10_000
    assert not [one for one in rim.heard.of("score", since) if one["version"] != "1.0.0"]
    rim.until(rim.live.safe)
    rim.live.activate(candidate)
    rim.until(lambda: rim.live.serving().sha256 == candidate.sha256)
    after = len(rim.heard.messages)
    rim.until(lambda: rim.served("2.0.0", after))
    assert {mode["mode"] for mode in rim.heard.of("mode", since)} <= {Mode.LOCAL.value}
    assert {score["outcome"] for score in rim.heard.of("score", since)} == {"accepted"}
    assert rim.heard.of("hello")[-1]["tasks"] == ["2.0.0"]
    rim.until(lambda: rim.live.serving().scores > 0)
    (swap,) = rim.audited("swap")
    assert (swap["reason"], swap["from"], swap["version"], swap["sha256"]) == (
        "update",
        "1.0.0",
        "2.0.0",
        candidate.sha256,
    )


def test_a_candidate_of_another_opinion_is_seen_and_shown_to_nobody(rim: Rim, tmp_path: Path) -> None:
    """Its windows disagree; its end is the end of its engine."""
    candidate = rim.staged(tmp_path, centre=60.0)
    shadowed(rim, candidate)
    shadow = rim.live.shadow()
    assert shadow.disagreed == shadow.windows
    rim.live.end_shadow()
    since = len(rim.heard.messages)
    rim.until(lambda: any(one["shadow"] is None for one in rim.heard.of("serving", since)))
    assert not rim.live.shadow().running
    assert {score["version"] for score in rim.heard.of("score")} <= {"1.0.0", "-"}


def test_one_that_fails_in_soak_goes_and_the_one_before_serves_again(rim: Rim, tmp_path: Path) -> None:
    """Its first NaN drops the beds to their limits; after the return the old engine, warm all the time, earns them."""
    candidate = rim.staged(tmp_path, corrupt_from=95.0)
    taken_over(rim, candidate)
    rim.rates["A"] = 98.0
    rim.until(lambda: rim.live.serving().failures > 0)
    rim.live.go_back()
    before = rim.slots.active()
    assert before is not None
    rim.until(lambda: rim.live.serving().sha256 == before.sha256)
    since = len(rim.heard.messages)
    rim.until(lambda: rim.served("1.0.0", since))
    assert [swap["reason"] for swap in rim.audited("swap")] == ["update", "returned"]


def test_a_bed_with_a_standing_advisory_is_never_swapped_under(rim: Rim, tmp_path: Path) -> None:
    """The takeover waits for the advisory's end, and does not come when it is called off meanwhile."""
    candidate = rim.staged(tmp_path)
    shadowed(rim, candidate, windows=1)
    rim.rates["A"] = ACT_HR
    rim.until(lambda: [one for one in rim.heard.of("advisory") if one["active"]])
    rim.until(lambda: not rim.live.safe())
    rim.live.activate(candidate)
    since = len(rim.heard.messages)
    rim.until(lambda: len(rim.heard.of("score", since)) > 8)
    assert rim.live.serving().sha256 != candidate.sha256
    rim.live.end_shadow()
    rim.rates["A"] = CALM_HR
    rim.until(lambda: [one for one in rim.heard.of("advisory", since) if not one["active"]])
    since = len(rim.heard.messages)
    rim.until(lambda: len(rim.heard.of("score", since)) > 8)
    assert {score["version"] for score in rim.heard.of("score")} <= {"1.0.0", "-"}


def test_a_process_that_dies_in_soak_starts_with_what_is_in_charge(rim: Rim, tmp_path: Path) -> None:
    """The new bundle again, not the one that the process was first started with; and the return still works."""
    candidate = rim.staged(tmp_path)
    taken_over(rim, candidate)
    pid = rim.assess.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    rim.until(lambda: rim.live.serving().down)
    assert rim.live.serving().failures == 1
    since = len(rim.heard.messages)
    rim.until(lambda: rim.served("2.0.0", since))
    rim.live.go_back()
    since = len(rim.heard.messages)
    rim.until(lambda: rim.served("1.0.0", since))
    assert [swap["reason"] for swap in rim.audited("swap")] == ["update", "returned"]


def test_a_process_that_dies_ends_the_shadow(rim: Rim, tmp_path: Path) -> None:
    """It starts again without: what may have cost the beds their scores once does not a second time."""
    candidate = rim.staged(tmp_path)
    shadowed(rim, candidate, windows=1)
    pid = rim.assess.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    rim.until(lambda: not rim.live.shadow().running)
    since = len(rim.heard.messages)
    rim.until(lambda: rim.served("1.0.0", since))
    assert not any(one["shadow"] for one in rim.heard.of("serving", since))
