"""Whether a device keeps up with a monitor's waveforms over SDC, and how long a sample is on its way.

A real provider (``sdc11073``) in a process of its own sends 12 leads at 250 Hz in blocks, and numerics once a second,
over loopback. This process runs the two sources that a device runs: waves into a ``Source``, numerics to a ``Rim``; or,
for comparison on the same measurement, the library's own consumer with its MDIB (``--library``). Both processes share
the monotonic clock: a delay runs from the moment before the provider is told to send until the block is in the
consumer's hands, or the numeric in the rim's. Sustained means that every sample arrived and the provider kept its
schedule. Run it on a machine with nothing else to do; ``late ms`` says how far the provider itself fell behind.

    python bench/sdc.py [--seconds 60] [--block-ms 100 40 20] [--provider-core 0] [--device-core 1] [--library]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.source.reading import Reading, Receipt
from edgeward.bedside.source.sdc import SdcSource
from edgeward.bedside.source.sdc_link import sdc_address
from edgeward.bedside.source.sdc_waves import SdcWaves
from edgeward.bedside.system import SystemClock
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE_HZ = 250
WARM_S = 3.0


def provide(seconds: float, block_ms: float, core: int) -> None:
    """The monitor: says where it is, waits for a line, then sends on schedule and says when it did."""
    from edgeward.testing.sdc_provider import SdcMonitor

    os.sched_setaffinity(0, {core})
    count = round(RATE_HZ * block_ms / 1000)
    ecg = (np.random.default_rng(1).integers(-2000, 2000, (12, RATE_HZ * 60)) / 1000).astype(np.float32)
    waves, numerics = [], []
    with SdcMonitor() as monitor:
        print(monitor.url, flush=True)
        sys.stdin.readline()
        began, late = time.time(), 0.0
        for number in range(round((seconds + WARM_S) * 1000 / block_ms)):
            due = began + (number + 1) * block_ms / 1000
            pause = due - time.time()
            if pause > 0:
                time.sleep(pause)
            late = max(late, -pause)
            column = number * count % (RATE_HZ * 60 - count)
            waves.append(time.monotonic_ns())
            monitor.send_waves(ecg[:, column : column + count], at_s=due - block_ms / 1000)
            if number % round(1000 / block_ms) == 0:
                numerics.append(time.monotonic_ns())
                monitor.set_numerics({Kind.HR: 60 + number % 50, Kind.SPO2: 97, Kind.RR: 14, Kind.ABP_MEAN: 80})
        print(json.dumps({"late_ms": late * 1000, "waves": waves, "numerics": numerics}), flush=True)
        sys.stdin.readline()


class _Rim:
    """Notes when numerics came."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def take(self, reading: Reading) -> Receipt:
        """One reading."""
        if reading.numerics:
            self.came.append(time.monotonic_ns())
        return Receipt.TAKEN

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """Nobody asks."""


class _Ours:
    """The device's own sources: (moment, samples) of every block, and the moments of numerics."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._rim = _Rim()
        self._numerics = SdcSource([sdc_address(url)], self._rim, SystemClock(), host="127.0.0.1")
        asyncio.run_coroutine_threadsafe(self._numerics.start(), self._loop).result()
        self._waves = SdcWaves(sdc_address(url), SystemClock(), host="127.0.0.1")
        self._waves.open()
        time.sleep(1.0)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Blocks; one of 0 samples says that nothing came."""
        for block in self._waves.blocks():
            yield time.monotonic_ns(), int((~np.isnan(block.samples).all(axis=0)).sum())

    def close(self) -> list[int]:
        """End; gives the moments of numerics."""
        asyncio.run_coroutine_threadsafe(self._numerics.close(), self._loop).result()
        self._waves.close()
        return self._rim.came


class _Library:
    """The library's consumer with its MDIB, as its tutorial has it."""

    def __init__(self, url: str) -> None:
        warnings.simplefilter("ignore", DeprecationWarning)
        from sdc11073 import observableproperties
        from sdc11073.consumer.consumerimpl import SdcConsumer
        from sdc11073.definitions_sdc import SdcV1Definitions
        from sdc11073.mdib.consumermdib import ConsumerMdib

        self._came: list[int] = []
        self._blocks: list[tuple[int, int]] = []
        self._consumer = SdcConsumer(url, SdcV1Definitions, None, validate=False)
        self._consumer.start_all()
        self._mdib = ConsumerMdib(self._consumer)
        self._mdib.init_mdib()
        observableproperties.strongbind(self._mdib, waveform_by_handle=self._waves)
        observableproperties.strongbind(self._mdib, metrics_by_handle=lambda _: self._came.append(time.monotonic_ns()))
        time.sleep(1.0)

    def _waves(self, states: dict[str, object]) -> None:
        now = time.monotonic_ns()
        samples = {len(state.MetricValue.Samples) for state in states.values()}  # type: ignore[attr-defined]
        self._blocks.append((now, max(samples)))

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Blocks; one of 0 samples says that nothing came."""
        given = 0
        while True:
            time.sleep(0.05)
            fresh = self._blocks[given:]
            given += len(fresh)
            yield from fresh or [(time.monotonic_ns(), 0)]

    def close(self) -> list[int]:
        """End; gives the moments of numerics."""
        self._consumer.stop_all()
        return self._came


def measure(seconds: float, block_ms: float, cores: tuple[int, int], *, library: bool) -> str:
    """One run; a line of the table."""
    command = [sys.executable, __file__, "--provide", "--seconds", str(seconds), "--block-ms", str(block_ms)]
    provider = subprocess.Popen(
        [*command, "--provider-core", str(cores[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert provider.stdin is not None
    assert provider.stdout is not None
    os.sched_setaffinity(0, {cores[1]})
    consumer = (_Library if library else _Ours)(provider.stdout.readline().strip())
    expected = round((seconds + WARM_S) * 1000 / block_ms) * round(RATE_HZ * block_ms / 1000)
    used, began = time.process_time(), time.monotonic_ns()
    provider.stdin.write("go\n")
    provider.stdin.flush()
    came: list[int] = []
    samples, quiet_ns = 0, time.monotonic_ns()
    for now, present in consumer.blocks():
        if present:
            came.append(now)
            samples, quiet_ns = samples + present, now
        if samples >= expected or now - quiet_ns > 5e9:
            break
    share = (time.process_time() - used) / ((time.monotonic_ns() - began) / 1e9)
    said = json.loads(provider.stdout.readline())
    numerics = consumer.close()
    with contextlib.suppress(BrokenPipeError):
        provider.stdin.write("end\n")
        provider.stdin.close()
    provider.wait()
    line = f"{block_ms:8.0f} {samples:9d}/{expected:<9d} {said['late_ms']:10.1f}"
    for sent, got in ((said["waves"], came), (said["numerics"], numerics)):
        if len(sent) == len(got):  # block by block; where some were lost nobody can say which came
            warm = round(WARM_S * len(sent) / (seconds + WARM_S))
            delays = (np.array(got) - np.array(sent))[warm:] / 1e6
            line += "".join(f" {value:8.2f}" for value in np.percentile(delays, [50, 99, 100]))
        else:
            line += f" {'lost':>8} {len(got):8d} {'':8}"
    return f"{line} {100 * share:7.1f}"


def main() -> None:
    """Measure every block length asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--block-ms", type=float, nargs="+", default=[100.0, 40.0, 20.0])
    parser.add_argument("--provider-core", type=int, default=0)
    parser.add_argument("--device-core", type=int, default=1)
    parser.add_argument("--library", action="store_true", help="measure the library's own consumer instead")
    parser.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.provide:
        provide(chosen.seconds, chosen.block_ms[0], chosen.provider_core)
        return
    names = "".join(f" {name:>8}" for name in ("p50 ms", "p99 ms", "max ms", "num p50", "num p99", "num max"))
    print(f"block ms samples/sent            late ms{names}  core %")
    cores = (chosen.provider_core, chosen.device_core)
    for block_ms in chosen.block_ms:
        print(measure(chosen.seconds, block_ms, cores, library=chosen.library), flush=True)


if __name__ == "__main__":
    main()
