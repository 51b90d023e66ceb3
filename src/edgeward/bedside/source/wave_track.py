"""Leads that come in pieces with timestamps → one stream of samples with one index. Pure.

Each piece says of which lead it is, when its first sample was taken and which version it is; pieces of several leads
may come together or apart, late, twice, or not at all. Every sample gets the index that its time gives it. What comes
again, or later than its neighbours in other leads were waited for, is dropped and counted; what never comes is a hole:
a jump of the index where no lead has samples, missing samples where some have. When all leads come late, after their
time was told to be missing (``skip``), they follow it, as a silence over TCP is followed (``tcp``).

Timestamps are whole milliseconds of a clock of their own: pieces in unbroken order of versions are joined whatever the
timestamps say, within ``SLACK_S``, and the index follows the device's clock slowly. A clock that is set leaves the
index where it was: a hole is never longer than the time that has passed on ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

FloatArray = npt.NDArray[np.float32]

SLACK_S = 0.1
"""Jitter of timestamps within which pieces in order are joined."""
WAIT_S = 0.3
"""A lead that lags behind the others by more is given up, until it sends again."""
HELD_S = 5.0
"""Samples kept for a consumer that does not take them; what is older becomes a hole."""
_FOLLOW = 1 / 64


class WaveTrack:
    """``leads`` leads at ``rate_hz``. ``put`` pieces, then ``take`` what is complete."""

    def __init__(self, leads: int, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._room = round(HELD_S * rate_hz)
        self._samples = np.full((leads, self._room), np.nan, dtype=np.float32)  # column k: index self.next + k
        self._there = np.zeros((leads, self._room), dtype=bool)
        self._fill = [0] * leads  # index behind each lead's latest sample
        self._version: list[int | None] = [None] * leads
        self._away = [False] * leads
        self._origin_ms: float | None = None  # device's time of index 0
        self._heard_ns = 0
        self._since_ns = 0  # when the oldest sample that was not given yet came
        self.next = 0
        """Index of the next sample that will be given."""
        self.dropped = 0
        """Samples that came twice or too late, or were not taken in time."""

    def put(self, lead: int, samples: FloatArray, *, version: int, stamped_ms: int | None, received_ns: int) -> None:
        """Take ``samples`` (n,) in mV of one lead, the first taken at ``stamped_ms`` of the device's clock."""
        count = len(samples)
        if not count:
            return
        last = self._version[lead]
        if last is not None and version <= last:
            self.dropped += count
            return
        start = self._place(lead, stamped_ms, received_ns, unbroken=last is None or version == last + 1)
        self._version[lead] = version
        self._away[lead] = False
        self._heard_ns = received_ns
        if max(self._fill) <= self.next:
            self._since_ns = received_ns
        self._store(lead, start, samples)

    def begin_anew(self) -> None:
        """What follows has no common clock with what came: take all of that first."""
        self._origin_ms = None
        self._version = [None] * len(self._version)

    def skip(self, index: int) -> None:
        """Give away everything before ``index``: it was told to be missing."""
        ahead = index - self.next
        if ahead > 0:
            self._shift(ahead)

    def take(self, now_ns: int, *, everything: bool = False) -> Iterator[tuple[int, FloatArray]]:
        """What is complete: (index of the first, samples (C, n)), in order; a hole in all leads is between two.

        ``everything``: what some leads still lack will not come.
        """
        until = max(self._fill) if everything else self._complete(now_ns)
        if until <= self.next:
            return
        count = until - self.next
        samples, there = self._samples[:, :count].copy(), self._there[:, :count].any(axis=0)
        start = self.next
        self._shift(count)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8)))
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield start + first, samples[:, first:last]

    # --- where a piece belongs

    def _place(self, lead: int, stamped_ms: int | None, received_ns: int, *, unbroken: bool) -> int:
        known, behind = self._version[lead] is not None, max(self._fill)
        expected = self._fill[lead] if known else max(self.next, self._fill[lead])
        if stamped_ms is None:
            return expected
        if self._origin_ms is None:
            self._origin_ms = stamped_ms - max(self.next, behind) * 1000.0 / self._rate_hz
        index = round((stamped_ms - self._origin_ms) * self._rate_hz / 1000.0)
        slack = SLACK_S * self._rate_hz
        if known and unbroken and abs(index - expected) <= slack:
            self._origin_ms += (index - expected) * 1000.0 / self._rate_hz * _FOLLOW
            if behind < self.next:  # no lead was in time: all of them follow what was given away
                self._origin_ms -= (self.next - expected) * 1000.0 / self._rate_hz
                return self.next
            return expected
        # A hole, or a clock that was set. The former cannot be longer than the time since anything was heard.
        passed = round((received_ns - self._heard_ns) / NS_PER_S * self._rate_hz) if self._heard_ns else 0
        if index > behind + passed + slack or index < expected - slack:
            index = max(self.next, behind + passed if index > behind else behind)
            self._origin_ms = stamped_ms - index * 1000.0 / self._rate_hz
        return max(index, expected)

    def _store(self, lead: int, start: int, samples: FloatArray) -> None:
        late, end = self.next - start, start + len(samples)
        if late > 0:
            self.dropped += min(late, len(samples))
            samples, start = samples[late:], self.next
        if end - self.next > self._room:
            self.dropped += int(self._there[:, : min(self._room, end - self._room - self.next)].any(axis=0).sum())
            self._shift(end - self._room - self.next)
            if start < self.next:
                samples, start = samples[self.next - start :], self.next
        if len(samples):
            column = start - self.next
            self._samples[lead, column : column + len(samples)] = samples
            self._there[lead, column : column + len(samples)] = True
        self._fill[lead] = max(self._fill[lead], end)

    def _complete(self, now_ns: int) -> int:
        ahead = max(self._fill)
        present = [fill for fill, away in zip(self._fill, self._away, strict=True) if not away]
        until = min(present) if present else ahead
        if until <= self.next < ahead and now_ns - self._since_ns >= WAIT_S * NS_PER_S:
            self._away = [away or fill <= self.next for fill, away in zip(self._fill, self._away, strict=True)]
            until = min((fill for fill, away in zip(self._fill, self._away, strict=True) if not away), default=ahead)
        return until

    def _shift(self, count: int) -> None:
        kept = max(0, self._room - count)
        for array, empty in ((self._samples, np.nan), (self._there, False)):
            array[:, :kept] = array[:, self._room - kept :]
            array[:, kept:] = empty
        self.next += count
