"""The windows that another bundle would cut of the same beats, where it cuts others than the one in charge."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edgeward.signal.preprocess import BeatWindower
from edgeward.signal.shape import MEMORY_BEATS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from edgeward.signal.preprocess import BeatWindow, BeatWindowSpec

_KEPT = 32
"""Windows kept: more than the beats of the longest wait for look-ahead."""


class Beside:
    """A windower beside the one in charge, fed the same; ``start``: index of the first sample that it will be fed.

    A bundle that was in charge until now goes on from its own ``windower``.
    """

    def __init__(self, spec: BeatWindowSpec, start: int, windower: BeatWindower | None = None) -> None:
        self.spec = spec
        self.windower = windower or BeatWindower(spec, start)
        self._start = start
        self._to_learn = 0 if windower is not None else MEMORY_BEATS
        self._kept: deque[BeatWindow] = deque(maxlen=_KEPT)

    def push(self, wave: npt.NDArray[np.float32], beats: Iterable[int]) -> list[BeatWindow]:
        """Take samples (2, n) and the beats found in them; returns the windows that are complete.

        Windows of the first beats are not told: the patient's usual beat is not known in them yet.
        """
        self.windower.push(wave)
        for index in beats:
            if index >= self._start:
                self.windower.beat(index)
        ready = self.windower.ready()
        self._kept.extend(ready)
        told = ready[self._to_learn :]
        self._to_learn = max(0, self._to_learn - len(ready))
        return told

    @property
    def knows(self) -> bool:
        """Whether it knows the patient's usual beat."""
        return not self._to_learn

    def unseen(self, beats: Iterable[int]) -> list[int]:
        """Those of ``beats`` that came before it was there."""
        return [index for index in beats if index < self._start]

    def after(self, index: int) -> list[BeatWindow]:
        """Windows that were complete already, of beats later than ``index``."""
        return [window for window in self._kept if window.beat_index > index]
