"""Latencies in fixed memory: a log-linear histogram since start and over a sliding window.

As HdrHistogram does it: durations in integer ns fall in 64 linear buckets per power of two, from 1 ns to 68.7 s, so
that a bucket's middle is at most 1/128 (0.8 %) from any duration in it. A percentile is the nearest rank: the smallest
recorded duration that at least that share of the durations does not exceed. Mean and maximum are exact.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

import numpy as np

SUB_BITS = 6
RELATIVE_ERROR = 1.0 / (2 << SUB_BITS)
"""Largest relative error of a percentile."""
DURATION_NS_MAX = (1 << 36) - 1
"""Longer durations are counted here (the maximum stays exact)."""
WINDOW_NS = 60_000_000_000
WINDOW_PARTS = 6

_BUCKETS = ((36 - SUB_BITS - 1) << SUB_BITS) + (2 << SUB_BITS)
_NONE = array("Q", bytes(8 * _BUCKETS))


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Figures in µs; all 0 when ``count`` is 0."""

    count: int
    mean_us: float
    p50_us: float
    p95_us: float
    p99_us: float
    p999_us: float
    max_us: float


class Counts:
    """The buckets of one stretch of time."""

    __slots__ = ("buckets", "count", "longest_ns", "total_ns")

    def __init__(self) -> None:
        self.buckets = array("Q", _NONE)
        self.clear()

    def clear(self) -> None:
        """Forget everything, in place."""
        self.buckets[:] = _NONE
        self.count = 0
        self.total_ns = 0
        self.longest_ns = 0

    def add(self, other: Counts) -> None:
        """Add what ``other`` counted."""
        np.frombuffer(self.buckets, np.uint64)[...] += np.frombuffer(other.buckets, np.uint64)
        self.count += other.count
        self.total_ns += other.total_ns
        self.longest_ns = max(self.longest_ns, other.longest_ns)

    def percentiles_ns(self, *shares: float) -> list[float]:
        """Nearest-rank percentiles in ns, each share in [0, 1]; 0 when nothing was recorded."""
        if not self.count:
            return [0.0] * len(shares)
        ranks = [max(1, min(self.count, math.ceil(share * self.count))) for share in shares]
        cumulative = np.cumsum(np.frombuffer(self.buckets, np.uint64))
        found = np.searchsorted(cumulative, np.array(ranks, np.uint64))
        return [min(_middle_ns(int(index)), float(self.longest_ns)) for index in found]

    def summary(self) -> LatencySummary:
        """The figures a person reads."""
        p50, p95, p99, p999 = (ns / 1e3 for ns in self.percentiles_ns(0.5, 0.95, 0.99, 0.999))
        mean = self.total_ns / self.count / 1e3 if self.count else 0.0
        return LatencySummary(self.count, mean, p50, p95, p99, p999, self.longest_ns / 1e3)


class LatencyHistogram:
    """Durations since start and over the last ``window_ns``, in about 110 KB whatever happens.

    The window is a ring of ``parts`` stretches, the oldest dropped as a whole: it covers between ``window_ns`` less one
    part and ``window_ns``. One thread records; reading at the same time from another is safe but may miss a record.
    """

    def __init__(self, *, window_ns: int = WINDOW_NS, parts: int = WINDOW_PARTS) -> None:
        if parts < 1 or window_ns < parts:
            raise ValueError("a window needs at least one part, and each part at least 1 ns")
        self._part_ns = window_ns // parts
        self._ring = [Counts() for _ in range(parts)]
        self._total = Counts()
        self._part = 0  # number of the current part since time 0
        self._until_ns = 0  # where the current part ends; 0 before the first record
        self._now = self._ring[0]

    def record(self, duration_ns: int, now_ns: int | None = None) -> None:
        """Count one duration. ``now_ns``: the monotonic time it ended; without it the window does not move on."""
        if now_ns is not None and now_ns >= self._until_ns:
            self._move_on(now_ns)
        value = duration_ns if duration_ns > 0 else 0
        clipped = value if value <= DURATION_NS_MAX else DURATION_NS_MAX
        shift = clipped.bit_length() - 7
        index = (shift << 6) + (clipped >> shift) if shift > 0 else clipped
        total, now = self._total, self._now
        total.buckets[index] += 1
        total.count += 1
        total.total_ns += value
        if value > total.longest_ns:
            total.longest_ns = value
        now.buckets[index] += 1
        now.count += 1
        now.total_ns += value
        if value > now.longest_ns:
            now.longest_ns = value

    def snapshot(self) -> LatencySummary:
        """The figures since start."""
        return self._total.summary()

    def window(self, now_ns: int | None = None) -> LatencySummary:
        """The figures of the sliding window; ``now_ns`` drops what has grown too old since the last record."""
        if now_ns is not None and now_ns >= self._until_ns:
            self._move_on(now_ns)
        merged = Counts()
        for part in self._ring:
            merged.add(part)
        return merged.summary()

    def percentile_ns(self, share: float) -> float:
        """Any percentile since start, in ns, ``share`` in [0, 1]."""
        return self._total.percentiles_ns(share)[0]

    def merge(self, other: LatencyHistogram) -> None:
        """Add what ``other`` counted since start; the sliding windows are of different times and stay apart."""
        self._total.add(other._total)

    def _move_on(self, now_ns: int) -> None:
        part = now_ns // self._part_ns
        steps = part - self._part if self._until_ns else 0
        for step in range(1, min(steps, len(self._ring)) + 1):
            self._ring[(self._part + step) % len(self._ring)].clear()
        if not self._until_ns:  # what was recorded without a time belongs to the first part
            first = part % len(self._ring)
            self._ring[0], self._ring[first] = self._ring[first], self._ring[0]
        self._part = part
        self._until_ns = (part + 1) * self._part_ns
        self._now = self._ring[part % len(self._ring)]


def _middle_ns(index: int) -> float:
    """The middle of a bucket; ``RELATIVE_ERROR`` from its ends."""
    if index < 2 << SUB_BITS:
        return float(index)
    shift = (index >> SUB_BITS) - 1
    low = ((index & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2
