"""The source port: where samples enter a device.

A source says who it is (``info``), then gives blocks in order until it ends or is closed. A block's ``start`` counts
the samples of one lead since the source began. A jump in ``start`` is a gap: nothing arrived for those samples. A jump
of ``RECORD_GAP_S`` or more means that what follows has no common history with what came before. A live source that
hears nothing gives blocks of NaN, at least every ``SILENCE_S``, so that the bed notices within a second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import BLOCK_SAMPLES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.kernel.clock import Clock

FloatArray = npt.NDArray[np.float32]

RECORD_GAP_S = 60.0
"""Index gap between unrelated stretches; longer than any hole that the pipeline fills."""
SILENCE_S = 0.5
"""A live source that has heard nothing for this long says so with missing samples."""
BLOCK_MS = 20.0
"""A monitor's usual block: short against the budget of a beat, long against the cost of a call."""
_NAP_S = 0.1
_SILENT_TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Who sends: lead names in channel order, rate, a label without patient data, converter rails per lead in mV.

    ``limits_mv`` is None where the source does not state them; ``simulated`` marks an ECG that no patient made.
    """

    leads: tuple[str, ...]
    rate_hz: float
    label: str
    limits_mv: tuple[tuple[float, float], ...] | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """``samples`` (C, n) float32 mV, NaN where missing; ``start``: index of the first; ``received_ns``: monotonic."""

    samples: FloatArray
    start: int
    received_ns: int


class Source(Protocol):
    """A source of ECG. ``close`` may be called at any time, from any thread, more than once."""

    @property
    def info(self) -> SourceInfo:
        """Who sends."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Blocks in order, ``start`` never going back; ends when the source ends or is closed."""
        ...

    def close(self) -> None:
        """Let go of everything held; the iterator ends at its next block."""
        ...


class Pace:
    """Delivers samples when their time has come: in real time, ``speed`` times faster, or at once (``speed`` 0)."""

    def __init__(self, clock: Clock, rate_hz: float, speed: float, sleep: Callable[[float], None] = time.sleep) -> None:
        if not 0.0 <= speed <= 10_000.0:
            raise ConfigError("speed", "the replay speed lies outside 0 (as fast as possible) to 10000")
        self._clock = clock
        self._sleep = sleep
        self._ns_per_sample = NS_PER_S / (rate_hz * speed) if speed else 0.0
        self._began_ns: int | None = None
        self._samples = 0

    def wait(self, samples: int, closed: Callable[[], bool]) -> int:
        """Wait until ``samples`` more have been acquired (or ``closed()``); returns the monotonic time then."""
        now = self._clock.monotonic_ns()
        if not self._ns_per_sample:
            return now
        if self._began_ns is None:
            self._began_ns = now
        self._samples += samples
        due = self._began_ns + round(self._samples * self._ns_per_sample)
        while now < due and not closed():
            self._sleep(min((due - now) / NS_PER_S, _NAP_S))
            now = self._clock.monotonic_ns()
        return now


class Silence:
    """Turns time in which no sample came into missing samples: after ``SILENCE_S``, then every tenth of a second."""

    def __init__(self, leads: int, rate_hz: float) -> None:
        self._leads = leads
        self._rate_hz = rate_hz
        self._filled_ns = 0
        self._silent = False

    def broken(self, now_ns: int) -> None:
        """Samples were given out: the index accounts for all time up to ``now_ns``."""
        self._filled_ns = now_ns
        self._silent = False

    def owed(self, now_ns: int) -> int:
        """Samples that time since then would have brought."""
        return max(0, int((now_ns - self._filled_ns) * self._rate_hz / NS_PER_S))

    def block(self, start: int, now_ns: int) -> tuple[Block, int] | None:
        """A block of missing samples from index ``start`` on, and the index behind it; None: not silent for long.

        Where the caller was away for more than a second the block is short and begins late: a jump says the same.
        """
        patience_s = _SILENT_TICK_S if self._silent else SILENCE_S
        if now_ns - self._filled_ns < patience_s * NS_PER_S:
            return None
        count = self.owed(now_ns)
        behind = start + count
        self._silent, self._filled_ns = True, now_ns
        if count > self._rate_hz:
            start, count = behind - 1, 1
        return Block(np.full((self._leads, count), np.nan, dtype=np.float32), start, now_ns), behind


def block_samples(block_ms: float, rate_hz: float) -> int:
    """Samples in a block of ``block_ms``, at least one; raises ``ConfigError`` (``block-length``) beyond the limit."""
    samples = max(1, round(block_ms * rate_hz / 1000.0)) if block_ms > 0 else 0
    if not 1 <= samples <= BLOCK_SAMPLES_MAX:
        raise ConfigError(
            "block-length", f"a block holds 1 to {BLOCK_SAMPLES_MAX} samples; choose another block length"
        )
    return samples
