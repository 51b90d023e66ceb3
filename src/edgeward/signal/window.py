"""The ring of recent samples and the cut given to a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Ring:
    """Fixed-size buffer of the most recent samples, addressed by absolute sample index.

    Memory is allocated once: twice the capacity, so that every cut is one contiguous copy. ``start``: index of the
    first sample that will be pushed.
    """

    def __init__(self, channels: int, capacity: int, start: int = 0) -> None:
        if channels < 1 or capacity < 1:
            raise ValueError("a ring needs at least one channel and one sample")
        self._capacity = capacity
        self._data = np.zeros((channels, 2 * capacity), dtype=np.float32)  # (C, 2·capacity)
        self._fill = 0
        self._end = start

    @property
    def end(self) -> int:
        """Absolute index one past the newest sample."""
        return self._end

    @property
    def start(self) -> int:
        """Absolute index of the oldest sample still held."""
        return self._end - min(self._fill, self._capacity)

    def push(self, samples: FloatArray) -> None:
        """Append ``samples`` (C, n); the oldest are forgotten."""
        n = samples.shape[1]
        self._end += n
        if n >= self._capacity:
            self._data[:, : self._capacity] = samples[:, n - self._capacity :]
            self._fill = self._capacity
            return
        if self._fill + n > self._data.shape[1]:
            keep = self._capacity - n if self._fill > self._capacity - n else self._fill
            self._data[:, :keep] = self._data[:, self._fill - keep : self._fill].copy()
            self._fill = keep
        self._data[:, self._fill : self._fill + n] = samples
        self._fill += n

    def cut(self, start: int, stop: int) -> FloatArray:
        """Copy of samples ``start`` to ``stop`` (C, stop − start); what is not held (too old, too early) is zero.

        Raises ``ValueError`` when ``stop`` lies in the future.
        """
        if stop > self._end:
            raise ValueError(f"sample {stop - 1} has not arrived yet; the newest is {self._end - 1}")
        out = np.zeros((self._data.shape[0], stop - start), dtype=np.float32)  # (C, T)
        first = max(start, self._end - self._fill)
        if first < stop:
            offset = self._fill - (self._end - first)
            out[:, first - start :] = self._data[:, offset : offset + stop - first]
        return out
