"""A ward under watch takes a new bundle: shadow, safe moment, takeover, soak, commit; and what keeps it from that.

The rim runs on its own loop, its processes are real, patients come over MLLP, and the updater turns in a thread of its
own, as in ``edgeward ward run``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest

from edgeward.bedside.assign import Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_settings import Hl7Settings
from edgeward.bedside.system import SystemClock
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.trial import run_trial
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.bedside.ward_bundles import WardBundles
from edgeward.bedside.ward_run import WardLoop
from edgeward.exchange.checkin import Deed, Order
from edgeward.exchange.words import UpdateState, Why
from edgeward.signal.numeric import Kind
from edgeward.testing.gateway import SimulatedBed
from edgeward.testing.repository import RepositoryLab
from edgeward.testing.toy import TASK, install_toy, toy_bundle
from edgeward.testing.ward_process import Monitors, Steady

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.updating.happening import Record

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

PERIOD_S = 0.2
BEDS = 4
CALM_HR, ACT_HR, BREAKING_HR = 80.0, 130.0, 98.0


class Heard:
    """Everything that the ward told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def write(self, kind: str, data: dict[str, Any]) -> None:
        self.messages.append((kind, data))

    def close(self) -> None:
        pass

    def scores(self, since: int = 0) -> list[dict[str, Any]]:
        return [data for kind, data in self.messages[since:] if kind == "score"]


class Hospital:
    """The ward, its monitors, its repository and its updater; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard = Heard()
        self.beds = [SimulatedBed(f"ICU^^{n + 1}", Steady(hr=CALM_HR), f"P{n}") for n in range(BEDS)]
        self.told: list[Record] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        clock, state = SystemClock(), self.folder / "state"
        self.lab = RepositoryLab(self.folder)
        bundles = WardBundles(state, [TASK], lambda _words: None, clock, dwell_s=0.2)
        self.bundles = self._stack.enter_context(bundles)
        self.audit = Audit(state / "audit.jsonl", clock)
        sides = {
            THRESHOLDS: SideProcess(THRESHOLDS, MODULE, ThresholdSettings().to_json(), clock),
            ASSESS: SideProcess(ASSESS, "edgeward.bedside.assess.process", bundles.settings(), clock),
        }
        updates = bundles.lives
        ward = Ward(Beds(), sides, [self.heard], self.audit, clock, tasks=[TASK], updates=updates)
        listener = Hl7Listener(ward, clock, Hl7Settings(port=0))
        self.loop = WardLoop(ward, sides, [], [listener], clock, lives=updates)
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        thread.start()
        self._stack.callback(thread.join, 20)
        self._stack.callback(lambda: self.running.call_soon_threadsafe(self.loop.stop))
        assert started.wait(30)
        self._stack.enter_context(Monitors(self.beds, listener.port, period_s=PERIOD_S))
        self.slots = bundles.slots(TASK)
        self.updater = Updater(
            TASK,
            self.lab.client(),
            self.slots,
            Journal(self.slots.root),
            bundles.live(TASK),
            clock,
            lambda path: run_trial(path, 1, lambda _bundle: 500.0),
            told=self.told.append,
        )
        self.updater.boot()
        updating = threading.Thread(target=self.updater.run)
        updating.start()
        self._stack.callback(updating.join, 20)
        self._stack.callback(self.updater.stop)
        self.until(lambda: self.served("1.0.0"))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    async def _serve(self, started: threading.Event) -> None:
        self.running = asyncio.get_running_loop()
        await self.loop.run(started.set)

    def order(self, version: str = "2.0.0", **how: float) -> None:
        """Publish a toy and have the device take it."""
        file, raw = self.folder / "published.ewb", toy_bundle(version, **how)
        file.write_bytes(raw)
        self.lab.publisher.add(file)
        sha256 = hashlib.sha256(raw).hexdigest()
        self.updater.order(Order(1, TASK, Deed.INSTALL, version, sha256, shadow_s=12, soak_s=3))

    def show(self, rate: float, bed: int = 0) -> None:
        """A bed's monitor shows another heart rate."""
        player = self.beds[bed].player
        assert isinstance(player, Steady)
        player.values[Kind.HR] = rate

    def served(self, version: str, since: int = 0) -> bool:
        """Whether every bed has a score of that version."""
        accepted = [one for one in self.heard.scores(since) if one["outcome"] == "accepted"]
        return len({one["bed"] for one in accepted if one["version"] == version}) == BEDS

    @staticmethod
    def until(what: Callable[[], Any], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.02)

    def ends(self) -> Record:
        """The update's last record."""
        self.until(lambda: self.updater.record.order is not None and self.updater.record.ended)
        return self.updater.record

    def swaps(self) -> list[str]:
        """Why bundles took over, as the audit has it."""
        self.audit.close()
        rows = [json.loads(line) for line in (self.folder / "state" / "audit.jsonl").read_text().splitlines()]
        return [row["reason"] for row in rows if row["what"] == "swap"]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setenv("PYTHONPATH", install_toy(tmp_path / "state", tmp_path, PERIOD_S))
    return Hospital(tmp_path)


def test_a_better_bundle_is_committed_and_no_bed_misses_a_score(hospital: Hospital) -> None:
    """Shadow, takeover and soak under four patients: every window is accepted, by the one version or the other."""
    with hospital:
        since = len(hospital.heard.messages)
        hospital.order(centre=100.5)
        record = hospital.ends()
        assert record.state is UpdateState.COMMITTED, record
        assert record.evidence.shadow_windows >= 50
        assert record.evidence.shadow_disagreed == 0
        active, previous = hospital.slots.active(), hospital.slots.previous()
        assert active is not None
        assert previous is not None
        assert (active.version, previous.version) == ("2.0.0", "1.0.0")
        scores = hospital.heard.scores(since)
        assert {one["outcome"] for one in scores} == {"accepted"}
        versions = [one["version"] for one in scores]
        assert versions == sorted(versions)
        assert hospital.served("2.0.0", since)
        assert {mode["mode"] for kind, mode in hospital.heard.messages[since:] if kind == "mode"} <= {"LOCAL"}
        assert hospital.bundles.shown()[0]["version"] == "2.0.0"
        assert hospital.swaps() == ["update"]
    with SlotStore(hospital.slots.root) as slots:
        active = slots.active()
        assert active is not None
        assert active.version == "2.0.0"


def test_a_bundle_of_another_opinion_never_serves(hospital: Hospital) -> None:
    """The shadow finds out on live windows; it is refused on this device for good."""
    with hospital:
        hospital.order(centre=60.0)
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.FAILED, Why.SHADOW_DISAGREES)
        assert record.evidence.shadow_disagreed == record.evidence.shadow_windows
        since = len(hospital.heard.messages)
        hospital.until(lambda: hospital.served("1.0.0", since))
        assert {one["version"] for one in hospital.heard.scores()} <= {"1.0.0", "-"}
        assert hospital.swaps() == []


def test_a_bundle_that_fails_in_soak_is_taken_back(hospital: Hospital) -> None:
    """A heart rate breaks it after the takeover: the one before serves again, and it is refused for good."""
    with hospital:
        hospital.order(corrupt_from=95.0)
        hospital.until(lambda: hospital.updater.record.state is UpdateState.SOAKING)
        hospital.show(BREAKING_HR)
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.ROLLED_BACK, Why.SOAK_FAILED)
        since = len(hospital.heard.messages)
        hospital.until(lambda: hospital.served("1.0.0", since))
        active = hospital.slots.active()
        assert active is not None
        assert active.version == "1.0.0"
        assert record.order is not None
        assert hospital.slots.refused(record.order.sha256)
        assert hospital.swaps() == ["update", "returned"]


def test_a_takeover_waits_for_the_end_of_an_advisory(hospital: Hospital) -> None:
    """Nothing is swapped under a patient whom somebody is to look at."""
    with hospital:
        hospital.show(ACT_HR)
        hospital.until(lambda: any(kind == "advisory" and data["active"] for kind, data in hospital.heard.messages))
        hospital.order(centre=100.5)
        hospital.until(lambda: hospital.updater.record.why is Why.BED_IN_USE)
        assert {one["version"] for one in hospital.heard.scores()} <= {"1.0.0", "-"}
        hospital.show(CALM_HR)
        record = hospital.ends()
        assert record.state is UpdateState.COMMITTED, record
