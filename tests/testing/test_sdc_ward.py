"""Made-up SDC monitors against the device's own consumers: numerics of a ward's beds, and an ECG sample by sample."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rim_recorder import PATIENCE_S, RimRecorder
from slow_clock import SlowClock

from edgeward.bedside.source.base import Block, SourceInfo
from edgeward.bedside.source.sdc import SdcSource
from edgeward.bedside.source.sdc_link import sdc_address
from edgeward.bedside.source.sdc_waves import SdcWaves
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind
from edgeward.testing.gateway import SimulatedBed
from edgeward.testing.patients import Course, Patient, Plan
from edgeward.testing.sdc_ward import SdcEcg, SdcWard

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

CLOCK = SystemClock()
RATE_HZ = 250.0
BLOCK = 5
INFO = SourceInfo(("II", "V1"), RATE_HZ, "recorded", simulated=True)


def test_each_bed_is_a_monitor_of_its_own() -> None:
    """A device that follows all addresses gets every bed's numerics under its place, marked as simulated."""
    beds = [SimulatedBed(f"ICU^^{n}", Patient(Plan(n, Course.STABLE)), f"SIM{n}") for n in (1, 2)]
    rim = RimRecorder()
    with SdcWard(beds, CLOCK, host="127.0.0.1", port=0, period_s=0.1, speed=10.0) as ward:
        source = SdcSource([sdc_address(url) for url in ward.urls], rim, CLOCK, host="127.0.0.1")
        rim.run(source.start())
        playing = threading.Thread(target=ward.run)
        playing.start()
        try:
            rim.wait(lambda: {r.place for r in rim.readings if r.numerics} == {"ICU^^1", "ICU^^2"})
        finally:
            ward.close()
            playing.join()
            rim.run(source.close())
            rim.close()
    assert all(reading.simulated for reading in rim.readings if reading.numerics)
    assert {Kind.HR, Kind.SPO2, Kind.RR} <= {n.kind for reading in rim.readings for n in reading.numerics}


@dataclass
class Recorded:
    """A source of known blocks, as fast as a monitor would give them."""

    blocks_: list[Block]
    info: SourceInfo = INFO

    def blocks(self) -> Iterator[Block]:
        for block in self.blocks_:
            time.sleep(BLOCK / RATE_HZ / 4)
            yield block

    def close(self) -> None:
        self.blocks_.clear()


def _blocks(ecg: npt.NDArray[np.float32]) -> list[Block]:
    return [Block(ecg[:, at : at + BLOCK], at, 0) for at in range(0, ecg.shape[1], BLOCK)]


def test_an_ecg_arrives_as_it_was_and_a_lost_lead_as_missing() -> None:
    """In reports of a tenth of a second; a lead with a hole is missing for that report only."""
    n = 500
    ecg = np.round(np.random.default_rng(1).normal(0, 0.5, (2, n)), 3).astype(np.float32)
    ecg[1, 260:270] = np.nan
    source = Recorded(_blocks(ecg))
    taken: list[Block] = []
    with SdcEcg(source, host="127.0.0.1", port=0) as monitor:
        device = SdcWaves(sdc_address(monitor.url), SlowClock(), host="127.0.0.1")
        device.open()
        assert (device.info.leads, device.info.rate_hz, device.info.simulated) == (("II", "V1"), RATE_HZ, True)
        taking = threading.Thread(target=lambda: taken.extend(device.blocks()))
        taking.start()
        monitor.run()
        until = time.monotonic() + PATIENCE_S
        while sum(int(np.isfinite(b.samples[0]).sum()) for b in list(taken)) < n and time.monotonic() < until:
            time.sleep(0.02)
        device.close()
        taking.join()
    first = next(b.start for b in taken if np.isfinite(b.samples).any())
    placed = np.full((2, n), np.nan, dtype=np.float32)
    for block in taken:
        at = block.start - first
        if 0 <= at < n:
            placed[:, at : at + block.samples.shape[1]] = block.samples[:, : n - at]
    np.testing.assert_array_equal(placed[0], ecg[0])
    missing = np.isnan(placed[1])
    assert missing[260:270].all()
    assert missing.sum() <= 50
    np.testing.assert_array_equal(placed[1][~missing], ecg[1][~missing])


def test_what_cannot_be_played_is_refused() -> None:
    """Leads that have no code, and a port that is no port or is taken."""
    odd = Recorded([], SourceInfo(("II", "MLIII"), RATE_HZ, "odd"))
    with pytest.raises(ConfigError) as caught:
        SdcEcg(odd, host="127.0.0.1", port=0)
    assert caught.value.code == "leads-unknown"
    for port in (-1, 70_000):
        with pytest.raises(ConfigError) as caught:
            SdcWard([SimulatedBed("I", Patient(Plan(1, Course.STABLE)), "S")], CLOCK, host="127.0.0.1", port=port,
                    period_s=1, speed=1)  # fmt: skip
        assert caught.value.code == "port"
