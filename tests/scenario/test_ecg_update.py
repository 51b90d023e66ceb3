"""The ECG beds of a ward take a new bundle while they are watched, each stream a process of its own.

The streams are real ``edgeward bedside run`` with simulated hearts and real engines.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hospitals import Hospital

from edgeward.bedside.assign import BedPlan, Beds
from edgeward.bedside.model import FAMILY
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.ward import THRESHOLDS, Ward
from edgeward.bedside.ward_bundles import WardBundles, trial_of
from edgeward.bedside.ward_run import WardLoop
from edgeward.cli.ward_parts import streams
from edgeward.cli.ward_settings import WardSettings
from edgeward.exchange.checkin import Deed, Order
from edgeward.exchange.words import UpdateState, Why
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.testing.bundles import ecg_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.workshop  # the bundles are made by onnx

DWELL_S = 0.5
BEDS = ("ICU 1", "ICU 2", "ICU 3")
SPEC = BeatWindowSpec()
OTHER = BeatWindowSpec(before_s=0.6, after_s=0.5, lookahead_beats=1, max_wait_s=1.2)
NORMAL, VENTRICULAR = [9.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0, 0.0]
"""Offsets by which every beat is called so, whatever the model of a test says."""


def bundle(version: str, spec: BeatWindowSpec = SPEC, offsets: Sequence[float] = NORMAL) -> bytes:
    return ecg_bundle(version, spec=spec, log_offsets=offsets)


class EcgHospital(Hospital):
    """Three ECG beds."""

    family = FAMILY

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.said: list[str] = []

    def set_up(self) -> None:
        plans = tuple(BedPlan(name) for name in BEDS)
        sources = {name: f"sim:normal?seed={number}" for number, name in enumerate(BEDS)}
        settings = WardSettings(state_dir=self.state, page=False, dwell_s=DWELL_S, beds=plans, ecg=sources, tasks=())
        bundles = self.stack.enter_context(WardBundles(self.state, (), self.said.append, self.clock, ecg=BEDS))
        sides = {THRESHOLDS: SideProcess(THRESHOLDS, MODULE, ThresholdSettings().to_json(), self.clock)}
        ward = Ward(Beds(plans), sides, [self], self.audit, self.clock, ecg=BEDS)
        lives = bundles.lives
        self.streams = streams(settings, self.clock, lives)
        self.run(WardLoop(ward, sides, self.streams, [], self.clock, refused=bundles.refused, lives=lives))
        self.update(bundles, trial_of(FAMILY, 1), DWELL_S)

    def begun(self) -> bool:
        return self.judging("1.0.0")

    def order(self, raw: bytes, *, shadow_s: int = 5, soak_s: int = 3) -> None:
        self.publish_and_order(raw, shadow_s=shadow_s, soak_s=soak_s)

    def judging(self, version: str) -> bool:
        """Whether every bed's stream has a bundle of that version in charge, and has judged with it."""
        each = [self.bundles.lives.stream(bed) for bed in BEDS]
        charge = [live.charge for live in each]
        counts = [live.serving() for live in each]
        return all(
            slot is not None and slot.version == version and one.sha256 == slot.sha256 and one.scores > 0
            for slot, one in zip(charge, counts, strict=True)
        )

    def swapped(self) -> list[tuple[str, str]]:
        """Why and which bed took over."""
        return sorted((row["reason"], row["bed"]) for row in self.swaps())


@pytest.fixture
def hospital(tmp_path: Path) -> EcgHospital:
    """A ward as version 0.1.0 left it: each ECG bed had slots of its own."""
    file = tmp_path / "first.ewb"
    file.write_bytes(bundle("1.0.0"))
    with SlotStore(tmp_path / "state" / "ecg" / "0" / "slots") as slots:
        slots.commit(slots.stage(file))
    return EcgHospital(tmp_path)


LONG = pytest.mark.skipif(not os.environ.get("EDGEWARD_SOAK"), reason="LONG: two minutes, part of `make soak`")


@pytest.mark.parametrize(
    "spec", [pytest.param(SPEC, id="same windows"), pytest.param(OTHER, id="other windows", marks=LONG)]
)
def test_a_better_bundle_is_committed_on_every_bed(hospital: EcgHospital, spec: BeatWindowSpec) -> None:
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
        assert hospital.swapped() == [("update", bed) for bed in BEDS]
        # The next start of a stream begins with it.
        assert hospital.streams[0].pid is not None
        os.kill(hospital.streams[0].pid, signal.SIGKILL)
        hospital.until(lambda: hospital.streams[0].restarts == 1 and hospital.judging("2.0.0"))


def test_a_bundle_of_another_opinion_never_judges_a_beat(hospital: EcgHospital) -> None:
    """The shadow finds out; it is refused on this device for good."""
    with hospital:
        hospital.order(bundle("2.0.0", offsets=VENTRICULAR))
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.FAILED, Why.SHADOW_DISAGREES)
        assert hospital.judging("1.0.0")
        assert hospital.swapped() == []
        assert not hospital.of("advisory")


def test_a_bundle_that_is_withdrawn_in_its_soak_is_gone_back_from_at_every_bed(hospital: EcgHospital) -> None:
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
        assert hospital.swapped() == [(why, bed) for why in ("returned", "update") for bed in BEDS]


def test_a_bundle_whose_engine_dies_in_charge_is_taken_back(hospital: EcgHospital) -> None:
    """One bed is enough: the family goes back, at every bed."""
    with hospital:
        hospital.order(bundle("2.0.0"), shadow_s=1, soak_s=600)
        hospital.until(lambda: hospital.updater.record.state is UpdateState.SOAKING and hospital.judging("2.0.0"))
        children = _children(hospital.streams[1].pid)
        for _ in range(5 * 60):
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
