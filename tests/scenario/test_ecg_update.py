"""The ECG beds of a ward take a new bundle while they are watched, each stream a process of its own.

The streams are real ``edgeward bedside run`` with simulated hearts and real engines; the rim runs on its own loop, and
the family's updater turns in a thread of its own, as in ``edgeward ward run``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from edgeward.bedside.assign import BedPlan, Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.model import FAMILY
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.ward import THRESHOLDS, Ward
from edgeward.bedside.ward_bundles import WardBundles, trial_of
from edgeward.bedside.ward_run import WardLoop
from edgeward.cli.ward_parts import streams
from edgeward.cli.ward_settings import WardSettings
from edgeward.exchange.checkin import Deed, Order
from edgeward.exchange.words import UpdateState, Why
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.testing.bundles import ecg_bundle
from edgeward.testing.repository import RepositoryLab

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.bedside.updating.happening import Record

pytestmark = pytest.mark.workshop  # the bundles are made by onnx

BEDS = ("ICU 1", "ICU 2", "ICU 3")
SPEC = BeatWindowSpec()
OTHER = BeatWindowSpec(before_s=0.6, after_s=0.5, lookahead_beats=1, max_wait_s=1.2)
NORMAL, VENTRICULAR = [9.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0, 0.0]
"""Offsets by which every beat is called so, whatever the model of a test says."""


def bundle(version: str, spec: BeatWindowSpec = SPEC, offsets: Sequence[float] = NORMAL) -> bytes:
    return ecg_bundle(version, spec=spec, log_offsets=offsets)


class Hospital:
    """The ward and its updater; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.said: list[str] = []
        self.rollout = 0
        self._stack = ExitStack()

    def write(self, kind: str, data: dict[str, Any]) -> None:
        self.messages.append((kind, data))

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        clock = SystemClock()
        plans = tuple(BedPlan(name) for name in BEDS)
        sources = {name: f"sim:normal?seed={number}" for number, name in enumerate(BEDS)}
        settings = WardSettings(state_dir=self.state, page=False, dwell_s=0.5, beds=plans, ecg=sources, tasks=())
        self.lab = RepositoryLab(self.folder)
        self.bundles = self._stack.enter_context(WardBundles(self.state, (), self.said.append, clock, ecg=BEDS))
        self.slots = self.bundles.slots(FAMILY)
        self.audit = Audit(self.state / "audit.jsonl", clock)
        sides = {THRESHOLDS: SideProcess(THRESHOLDS, MODULE, ThresholdSettings().to_json(), clock)}
        ward = Ward(Beds(plans), sides, [self], self.audit, clock, ecg=BEDS)
        self.streams = streams(settings, clock, self.bundles.lives)
        self.loop = WardLoop(
            ward, sides, self.streams, [], clock, refused=self.bundles.refused, lives=self.bundles.lives
        )
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        thread.start()
        self._stack.callback(thread.join, 30)
        self._stack.callback(lambda: self.running.call_soon_threadsafe(self.loop.stop))
        assert started.wait(30)
        self.updater = Updater(
            FAMILY,
            self.lab.client(),
            self.slots,
            Journal(self.slots.root),
            self.bundles.live(FAMILY),
            clock,
            trial_of(FAMILY, 1),
        )
        self.updater.boot()
        updating = threading.Thread(target=self.updater.run)
        updating.start()
        self._stack.callback(updating.join, 30)
        self._stack.callback(self.updater.stop)
        self.until(lambda: self.judging("1.0.0"))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    async def _serve(self, started: threading.Event) -> None:
        self.running = asyncio.get_running_loop()
        await self.loop.run(started.set)

    def order(self, raw: bytes, *, shadow_s: int = 5, soak_s: int = 3) -> None:
        """Publish a bundle and have the ward take it."""
        file = self.folder / "published.ewb"
        file.write_bytes(raw)
        self.lab.publisher.add(file)
        version = self.lab.client().latest(FAMILY).version
        self.rollout += 1
        sha256 = hashlib.sha256(raw).hexdigest()
        self.updater.order(Order(self.rollout, FAMILY, Deed.INSTALL, version, sha256, shadow_s=shadow_s, soak_s=soak_s))

    def judging(self, version: str) -> bool:
        """Whether every bed's stream has a bundle of that version in charge, and has judged with it."""
        each = [self.bundles.lives.stream(bed) for bed in BEDS]
        charge = [live.charge for live in each]
        counts = [live.serving() for live in each]
        return all(
            slot is not None and slot.version == version and one.sha256 == slot.sha256 and one.scores > 0
            for slot, one in zip(charge, counts, strict=True)
        )

    @staticmethod
    def until(what: Callable[[], Any], seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.05)

    def ends(self, seconds: float = 90.0) -> Record:
        """The update's last record."""
        self.until(lambda: self.updater.record.order is not None and self.updater.record.ended, seconds)
        return self.updater.record

    def of(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        return [data for name, data in self.messages[since:] if name == kind]

    def swaps(self) -> list[tuple[str, str]]:
        """Which bed took over, and why, as the audit has it."""
        self.audit.close()
        rows = [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines()]
        return sorted((row["reason"], row["bed"]) for row in rows if row["what"] == "swap")


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """A ward as version 0.1.0 left it: each ECG bed had slots of its own."""
    file = tmp_path / "first.ewb"
    file.write_bytes(bundle("1.0.0"))
    with SlotStore(tmp_path / "state" / "ecg" / "0" / "slots") as slots:
        slots.commit(slots.stage(file))
    return Hospital(tmp_path)


LONG = pytest.mark.skipif(not os.environ.get("EDGEWARD_SOAK"), reason="LONG: two minutes, part of `make soak`")


@pytest.mark.parametrize(
    "spec", [pytest.param(SPEC, id="same windows"), pytest.param(OTHER, id="other windows", marks=LONG)]
)
def test_a_better_bundle_is_committed_on_every_bed(hospital: Hospital, spec: BeatWindowSpec) -> None:
    """Shadow, takeover and soak at three beds: no stream is restarted, no bed leaves LOCAL, the audit has each."""
    with hospital:
        assert any("1.0.0" in words and "taken over" in words for words in hospital.said)
        pids, since = [stream.pid for stream in hospital.streams], len(hospital.messages)
        hospital.order(bundle("2.0.0", spec), shadow_s=5 if spec is SPEC else 70)
        record = hospital.ends(200.0)
        assert record.state is UpdateState.COMMITTED, record
        assert record.evidence.shadow_windows >= 50
        assert record.evidence.shadow_disagreed == 0
        assert hospital.judging("2.0.0")
        assert [stream.pid for stream in hospital.streams] == pids
        assert {mode["mode"] for mode in hospital.of("mode", since)} <= {"LOCAL"}
        assert {one["version"] for one in hospital.of("serving")[-3:]} == {"2.0.0"}
        assert hospital.swaps() == [("update", bed) for bed in BEDS]
        # The next start of a stream begins with it.
        assert hospital.streams[0].pid is not None
        os.kill(hospital.streams[0].pid, signal.SIGKILL)
        hospital.until(lambda: hospital.streams[0].restarts == 1 and hospital.judging("2.0.0"))


def test_a_bundle_of_another_opinion_never_judges_a_beat(hospital: Hospital) -> None:
    """The shadow finds out; it is refused on this device for good."""
    with hospital:
        hospital.order(bundle("2.0.0", offsets=VENTRICULAR))
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.FAILED, Why.SHADOW_DISAGREES)
        assert hospital.judging("1.0.0")
        assert hospital.swaps() == []
        assert not hospital.of("advisory")


def test_a_bundle_that_is_withdrawn_in_its_soak_is_gone_back_from_at_every_bed(hospital: Hospital) -> None:
    """The one before is warm and judges the next beat."""
    with hospital:
        hospital.order(bundle("2.0.0"), shadow_s=1, soak_s=600)
        hospital.until(lambda: hospital.updater.record.state is UpdateState.SOAKING)
        order = hospital.updater.record.order
        assert order is not None
        hospital.updater.order(Order(order.rollout, FAMILY, Deed.WITHDRAW, order.version, order.sha256))
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.ROLLED_BACK, Why.WITHDRAWN)
        hospital.until(lambda: hospital.judging("1.0.0"))
        assert hospital.swaps() == [(why, bed) for why in ("returned", "update") for bed in BEDS]


def test_a_bundle_whose_engine_dies_in_charge_is_taken_back(hospital: Hospital) -> None:
    """One bed is enough: the family goes back, at every bed."""
    with hospital:
        hospital.order(bundle("2.0.0"), shadow_s=1, soak_s=600)
        hospital.until(lambda: hospital.updater.record.state is UpdateState.SOAKING and hospital.judging("2.0.0"))
        children = _children(hospital.streams[1].pid)
        for _ in range(60):
            for pid in _children(hospital.streams[1].pid) & _engines(children):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
            children |= _children(hospital.streams[1].pid)
            if hospital.updater.record.ended:
                break
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.ROLLED_BACK, Why.SOAK_FAILED)
        hospital.until(lambda: hospital.judging("1.0.0"))
        active = hospital.slots.active()
        assert active is not None
        assert active.version == "1.0.0"
        assert hospital.slots.refused(record.order.sha256 if record.order else "")


def _children(pid: int | None) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()}


def _engines(pids: set[int]) -> set[int]:
    """Those of ``pids`` that run a model."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if b"inference.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found
