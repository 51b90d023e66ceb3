"""What a stay has measured lately: rings of time buckets, in bounded memory and at a cost that no history adds to.

Everything is by time, never by count of values, so that the same definitions hold for a table with a row per hour and
for a monitor that speaks each second: values of one bucket become one mean, and buckets become the means of hours. One
``History`` holds a batch of stays on one clock: a bed keeps a batch of one, and the workshop replays thousands of stays
in lock-step through the very same code.

A value counts in the bucket of its own instant, so that late and reordered values change nothing; one that is older
than the ring is dropped. A value far in the future would empty the ring: whoever stamps values (the rim) keeps them at
or before now. Nothing here reads a clock.

::

    buckets      oldest … newest            absolute number of a bucket = instant // bucket length
    groups       `width` buckets each, newest group first, the newest bucket is the running one
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = npt.NDArray[np.float64]
Index = int | npt.NDArray[np.intp]

NS_PER_S = 1_000_000_000
CHANNELS_MAX = 128
BUCKETS_MAX = 4096
"""Ceilings of one history: 128 channels × 4,096 buckets are 16 MB per stay, more than anything here asks for."""
_KEPT_DECIMALS = 6


class History:
    """Rings of buckets for a batch of stays.

    ``channels``: what is kept, by name; ``bucket_s``: seconds of a bucket; ``buckets``: how many; ``stays``: size S of
    the batch. Shapes are (S, K, …) with K channels. Raises ``ValueError`` for sizes beyond the ceilings.
    """

    def __init__(self, channels: Sequence[str], *, bucket_s: float, buckets: int, stays: int = 1) -> None:
        if not 0 < len(channels) <= CHANNELS_MAX or not 0 < buckets <= BUCKETS_MAX or stays < 1 or bucket_s <= 0:
            raise ValueError("a history needs 1 to 128 channels, 1 to 4096 buckets, a length and a stay")
        self.channels = tuple(channels)
        self.bucket_ns = round(bucket_s * NS_PER_S)
        self.buckets = buckets
        size = (stays, len(self.channels))
        self._sum = np.zeros((*size, buckets))
        self._count = np.zeros((*size, buckets))
        self._low = np.full((*size, buckets), np.inf)
        self._high = np.full((*size, buckets), -np.inf)
        self._gone_sum = np.zeros(size)
        self._gone_count = np.zeros(size)
        self._gone_low = np.full(size, np.inf)
        self._gone_high = np.full(size, -np.inf)
        self._head: int | None = None
        self.last = np.full(size, np.nan)
        """The newest value of each channel (S, K); NaN where there has been none."""
        self._last_ns = np.full(size, -1, dtype=np.int64)
        self.first = np.full(size, np.nan)
        """The value of each channel that came first (S, K); NaN where there has been none."""

    def put(self, stay: Index, channel: Index, value: float | Array, at_ns: int) -> bool:
        """Take values observed at ``at_ns``: one, or arrays of stays, channels and values of one length.

        Each pair of stay and channel stands at most once in a call. False for values older than the ring: they are
        dropped.
        """
        bucket = at_ns // self.bucket_ns
        if self._head is None:
            self._head = bucket
        self._advance(bucket)
        if bucket <= self._head - self.buckets:
            return False
        slot = bucket % self.buckets
        place = (stay, channel, slot)
        self._sum[place] += value
        self._count[place] += 1.0
        self._low[place] = np.minimum(self._low[place], value)
        self._high[place] = np.maximum(self._high[place], value)
        self.first[stay, channel] = np.where(self._last_ns[stay, channel] < 0, value, self.first[stay, channel])
        newer = at_ns >= self._last_ns[stay, channel]
        self.last[stay, channel] = np.where(newer, value, self.last[stay, channel])
        self._last_ns[stay, channel] = np.where(newer, at_ns, self._last_ns[stay, channel])
        return True

    def advance(self, now_ns: int) -> None:
        """Let time pass: buckets up to that of ``now_ns`` are there, those that fell out of the ring are not."""
        if self._head is None:
            self._head = now_ns // self.bucket_ns
        self._advance(now_ns // self.bucket_ns)

    def age_s(self, now_ns: int) -> Array:
        """Seconds since the newest value (S, K); infinite where there has been none."""
        age = np.maximum(now_ns - self._last_ns, 0) / NS_PER_S
        return np.where(self._last_ns < 0, np.inf, age)

    def mean(self, width: int = 1, groups: int | None = None) -> Array:
        """Mean of the bucket means in each group (S, K, groups); NaN where nothing was measured.

        Buckets weigh alike however many values each holds, so that a monitor that speaks more often for a while does
        not pull the mean.
        """
        means, there = self._bucket_means()
        count = self._grouped(there, width, groups).sum(axis=-1)
        total = self._grouped(means, width, groups).sum(axis=-1)
        return _ratio(total, count)

    def low(self, width: int = 1, groups: int | None = None) -> Array:
        """Least value in each group (S, K, groups); NaN where nothing was measured."""
        least = self._grouped(self._low, width, groups).min(axis=-1)
        return np.where(np.isfinite(least), least, np.nan)

    def high(self, width: int = 1, groups: int | None = None) -> Array:
        """Greatest value in each group (S, K, groups); NaN where nothing was measured."""
        most = self._grouped(self._high, width, groups).max(axis=-1)
        return np.where(np.isfinite(most), most, np.nan)

    def filled(self, width: int = 1, groups: int | None = None) -> Array:
        """Share of each group's buckets that hold a value (S, K, groups)."""
        there: Array = (self._grouped(self._count, width, groups) > 0).mean(axis=-1)
        return there

    def own_filled(self) -> Array:
        """How many buckets have held a value since the stay began (S, K)."""
        filled: Array = self._gone_count + (self._count > 0).sum(axis=-1)
        return filled

    def own_mean(self) -> Array:
        """Mean of all bucket means since the stay began (S, K), those that left the ring included; NaN for none."""
        means, there = self._bucket_means()
        return _ratio(self._gone_sum + means.sum(axis=-1), self._gone_count + there.sum(axis=-1))

    def own_range(self) -> tuple[Array, Array]:
        """Least and greatest bucket mean since the stay began (S, K); NaN where there has been none."""
        means, there = self._bucket_means()
        least = np.minimum(self._gone_low, np.where(there > 0, means, np.inf).min(axis=-1))
        most = np.maximum(self._gone_high, np.where(there > 0, means, -np.inf).max(axis=-1))
        return np.where(np.isfinite(least), least, np.nan), np.where(np.isfinite(most), most, np.nan)

    # --- memory

    def to_memory(self, stay: int = 0) -> dict[str, Any]:
        """One stay's state as plain JSON values; only buckets that hold something are in it."""
        head = self._head if self._head is not None else 0
        first = head - self.buckets + 1
        order = np.arange(first, head + 1) % self.buckets
        rows: list[list[Any]] = []
        for channel in range(len(self.channels)):
            position = np.flatnonzero(self._count[stay, channel, order])
            slots = order[position]
            rings = (self._sum, self._count, self._low, self._high)
            columns = [np.round(ring[stay, channel, slots], _KEPT_DECIMALS).tolist() for ring in rings]
            rows.append([position.tolist(), *columns])
        return {
            "channels": list(self.channels),
            "bucket_ns": self.bucket_ns,
            "buckets": self.buckets,
            "head": self._head,
            "rows": rows,
            "gone": [
                [_null(value) for value in gone[stay].tolist()]
                for gone in (self._gone_sum, self._gone_count, self._gone_low, self._gone_high)
            ],
            "first": [_null(value) for value in self.first[stay].tolist()],
            "last": [_null(value) for value in self.last[stay].tolist()],
            "last_ns": self._last_ns[stay].tolist(),
        }

    @classmethod
    def from_memory(cls, memory: Mapping[str, Any]) -> History:
        """What ``to_memory`` gave, as a batch of one. ``InputError`` (``history-memory``) for anything else."""
        try:
            made = cls(memory["channels"], bucket_s=memory["bucket_ns"] / NS_PER_S, buckets=memory["buckets"])
            made._take(memory)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise InputError(
                "history-memory", "the kept state of a stay cannot be read; its history begins anew"
            ) from error
        return made

    def _take(self, memory: Mapping[str, Any]) -> None:
        head = memory["head"]
        self._head = None if head is None else int(head)
        rings = (self._sum, self._count, self._low, self._high)
        first = (self._head or 0) - self.buckets + 1
        for channel, (position, *columns) in enumerate(memory["rows"]):
            offset = np.asarray(position, dtype=np.int64)
            if ((offset < 0) | (offset >= self.buckets)).any():
                raise ValueError
            slots = (first + offset) % self.buckets
            for ring, column in zip(rings, columns, strict=True):
                ring[0, channel, slots] = _finite(column)
        total, count, low, high = memory["gone"]
        self._gone_sum[0], self._gone_count[0] = _finite(total), _finite(count)
        self._gone_low[0], self._gone_high[0] = _or(low, math.inf), _or(high, -math.inf)
        self.first[0], self.last[0] = _or(memory["first"], math.nan), _or(memory["last"], math.nan)
        self._last_ns[0] = np.asarray(memory["last_ns"], dtype=np.int64)

    # --- inside

    def _advance(self, bucket: int) -> None:
        assert self._head is not None
        passed = bucket - self._head
        if passed <= 0:
            return
        slots = np.arange(self._head + 1, self._head + 1 + min(passed, self.buckets)) % self.buckets
        count = self._count[..., slots]
        means = _ratio(self._sum[..., slots], count, empty=0.0)
        self._gone_sum += means.sum(axis=-1)
        self._gone_count += (count > 0).sum(axis=-1)
        self._gone_low = np.minimum(self._gone_low, np.where(count > 0, means, np.inf).min(axis=-1))
        self._gone_high = np.maximum(self._gone_high, np.where(count > 0, means, -np.inf).max(axis=-1))
        self._sum[..., slots] = 0.0
        self._count[..., slots] = 0.0
        self._low[..., slots] = np.inf
        self._high[..., slots] = -np.inf
        self._head = bucket

    def _bucket_means(self) -> tuple[Array, Array]:
        there = self._count > 0
        return _ratio(self._sum, self._count, empty=0.0), there.astype(np.float64)

    def _grouped(self, ring: Array, width: int, groups: int | None) -> Array:
        """A ring in time order (S, K, groups, width), newest group first."""
        fits = self.buckets // width
        wanted = fits if groups is None else groups
        if not 1 <= width <= self.buckets or not 1 <= wanted <= fits:
            raise ValueError("the ring does not hold so many groups of so many buckets")
        newest = self._head if self._head is not None else 0
        order = (newest - np.arange(wanted * width)) % self.buckets
        return ring[..., order].reshape(*ring.shape[:-1], wanted, width)


def _ratio(part: Array, whole: Array, empty: float = math.nan) -> Array:
    return np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or(column: Sequence[float | None], absent: float) -> list[float]:
    return [absent if value is None else float(value) for value in column]


def _finite(column: Sequence[float]) -> Array:
    values = np.asarray(column, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError
    return values
