"""The device at work: a source, a bed, a clock, until the source ends or somebody stops it."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.bed import Bed
from edgeward.bedside.effects import SamplesArrived, ScoreWindow
from edgeward.bedside.health import StageLatency
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.sched import LOWEST, ORDINARY, put
from edgeward.bedside.stage_timer import NoTimer
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.limits import ENGINE_HANG_MS

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from edgeward.bedside.bed import Charged, Rung
    from edgeward.bedside.bed_alerts import BedAlerts
    from edgeward.bedside.fallback import Climb, Ladder, Mode
    from edgeward.bedside.model import Plan
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.source.base import Source, SourceInfo
    from edgeward.kernel.clock import Clock

_COLLECT_EVERY_NS = 30 * NS_PER_S
_SWITCH_S = 0.0005
_REALTIME = (LOWEST[0], 10)
_BEHIND_NICENESS = 10
_WAKE_US_MAX = 0
_WARM_S = 9.0
_WARM_BLOCK_S = 0.02


def bed_of(
    info: SourceInfo,
    plan: Plan,
    rungs: Mapping[Mode, Rung],
    outputs: Sequence[Output],
    clock: Clock,
    *,
    climb: Climb,
    alerts: BedAlerts | None = None,
    ladder: Ladder | None = None,
    charged: Charged | None = None,
) -> tuple[Bed, StageLatency]:
    """A bed for a source; ``ladder``, ``alerts`` and ``charged`` as ``Bed`` has them.

    Raises ``InputError`` when the source cannot be judged at all.
    """
    latency = StageLatency(clock)
    pipeline = EcgPipeline(
        info.leads,
        info.rate_hz,
        plan.spec,
        plan.decision,
        deadline_ms=plan.deadline_ms,
        timer=latency,
        limits_mv=info.limits_mv,
    )
    bed = Bed(
        pipeline,
        rungs,
        outputs,
        clock,
        latency,
        climb=climb,
        ladder=ladder,
        alerts=alerts,
        charged=charged,
        simulated=info.simulated,
        budget_ms=plan.deadline_ms,
    )
    return bed, latency


def warm_up(info: SourceInfo, plan: Plan, rungs: Mapping[Mode, Rung]) -> None:
    """Run the whole path once on a made-up ECG, so that the first real beat meets warm code and warm pages."""
    pipeline = EcgPipeline(
        info.leads, info.rate_hz, plan.spec, plan.decision, deadline_ms=plan.deadline_ms, timer=NoTimer()
    )
    wave = np.tile(_spikes(info.rate_hz), (len(info.leads), 1))  # (C, n)
    block = max(1, round(info.rate_hz * _WARM_BLOCK_S))
    for start in range(0, wave.shape[1], block):
        for effect in pipeline.step(SamplesArrived(wave[:, start : start + block], start, 0), 0):
            if isinstance(effect, ScoreWindow):
                for rung in rungs.values():
                    rung.engine.infer(effect.inputs, budget_s=ENGINE_HANG_MS / 1000.0)


def _spikes(rate_hz: float) -> npt.NDArray[np.float32]:
    """Ten narrow complexes at 75/min with a little noise: (n,) in mV."""
    time_s = np.arange(round(_WARM_S * rate_hz)) / rate_hz
    phase = (time_s % 0.8) - 0.4
    noise = np.random.default_rng(0).normal(0.0, 0.01, time_s.size)
    return (np.exp(-0.5 * (phase / 0.012) ** 2) + noise).astype(np.float32)


def run(source: Source, bed: Bed, clock: Clock, stop: threading.Event, end_ns: int | None) -> bool:
    """Carry blocks to the bed; True when the source ended, False when ``stop`` was set or ``end_ns`` has come."""
    next_collect_ns = clock.monotonic_ns() + _COLLECT_EVERY_NS
    for block in source.blocks():
        bed.block(block)
        now = clock.monotonic_ns()
        if stop.is_set() or (end_ns is not None and now >= end_ns):
            return False
        if now >= next_collect_ns:
            # Right after a block is when the stream can best afford it; what lived at the start is frozen.
            gc.collect(1)
            next_collect_ns = now + _COLLECT_EVERY_NS
    return not stop.is_set()


@contextlib.contextmanager
def quiet_interpreter(*, realtime: bool) -> Iterator[bool]:
    """Keep Python's own pauses out of the stream; yields whether the system granted real-time scheduling.

    The cyclic collector runs when the stream asks for it, other threads (page, JSON lines) hold the interpreter for
    0.5 ms at most, and the process asks for real-time priority, which a worker started later inherits.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    granted = realtime and put(0, _REALTIME)
    awake = _stay_awake() if realtime else -1
    try:
        yield granted
    finally:
        if awake >= 0:
            os.close(awake)
        if granted:
            put(0, ORDINARY)
        sys.setswitchinterval(switch_s)
        gc.enable()
        gc.unfreeze()


def _stay_awake() -> int:
    """Ask the kernel to wake its processors within ``_WAKE_US_MAX``; the request holds while the descriptor is open.

    A processor that went to sleep between two blocks took three times as long over the next one. -1 where the system
    refuses (Linux PM QoS, Documentation/power/pm_qos_interface).
    """
    try:
        awake = os.open("/dev/cpu_dma_latency", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        os.write(awake, struct.pack("i", _WAKE_US_MAX))
    except OSError:
        os.close(awake)
        return -1
    return awake


def yield_to_stream() -> None:
    """Give the calling thread ordinary priority and a low one: what runs behind the stream must not compete with it."""
    if put(0, ORDINARY):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _BEHIND_NICENESS)


@contextlib.contextmanager
def stopped_by_signals(source: Source, stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the stream in an orderly way; a second one ends it at once."""

    def ask(number: int, frame: object) -> None:  # noqa: ARG001
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        source.close()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
