"""What a bed knows without any model: whether a lead can be judged, the heart rate, and for how long no beat has come.

Time is the sample index at the model rate since the stream began or began afresh. What was told last (``lost``,
``rate``) outlives a fresh beginning, so that the bed takes it back instead of leaving it standing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.limits import MODEL_RATE_HZ
from edgeward.signal.quality import FLAT

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from edgeward.bedside.verdict import Reason

_RATE_BEATS = 8
_RATE_TTL = 5 * MODEL_RATE_HZ
_SILENCE_TOLD = 2 * MODEL_RATE_HZ
"""After leads came back, a silence says something from here on: a shorter one could be the end of one before."""
_INPUT_LOST = round(0.8 * MODEL_RATE_HZ)
"""Without a usable lead for this long there is no AI; with the page's own delay the notice stays under 1 s."""


class Watch:
    """Heart rate, lost input and silence of one bed."""

    def __init__(self) -> None:
        self.lost: Reason | None = None
        """Why no lead can be judged; None while one can."""
        self.rate: int | None = None
        """Heart rate in beats per minute; None when it is not known."""
        self.afresh()

    def afresh(self) -> None:
        """The stream begins anew: what was seen counts no more, and no lead is usable until one is."""
        self._beats: deque[int] = deque(maxlen=_RATE_BEATS + 1)
        self._unusable_since: int | None = 0
        self._blind_since: int | None = 0
        self._quiet_from: int | None = None
        self._hidden = 0
        self._now = 0
        self.beat_since = False

    @property
    def silent(self) -> int | None:
        """Samples since the last beat, those left out that no lead could show; None without a lead for 0.8 s.

        A short gap neither counts as silence nor ends it: on a lossy line asystole must still be found.
        """
        return None if self._quiet_from is None else self._now - self._quiet_from - self._hidden

    @property
    def silence_s(self) -> float | None:
        """Seconds without a beat; None where no lead can show one, or leads are back for less than 2 s without a beat.

        So less than 2 s always means a beat, and asystole is never ended by leads that were off meanwhile.
        """
        silent = self.silent
        if silent is None or (silent < _SILENCE_TOLD and not self.beat_since):
            return None
        return silent / MODEL_RATE_HZ

    def beat(self, index: int) -> None:
        """A beat was detected at ``index``."""
        self._beats.append(index)
        if self._quiet_from is not None:
            self._quiet_from = max(self._quiet_from, index)
            self._hidden = 0
            self.beat_since = True

    def passed(self, now: int, masks: npt.NDArray[np.uint8], why: Callable[[], Reason]) -> None:
        """Time has come to ``now``; ``masks`` (L, m): flags of the newest samples; ``why`` names what lost the input.

        A lead that is flat cannot be judged, and yet a flat line on a connected lead is what asystole looks like: for
        silence only gaps, open electrodes and rails make a lead blind.
        """
        self._now = now
        self._unusable_since = _since(np.any(masks == 0, axis=0), self._unusable_since, now)
        lost = self._unusable_since is not None and (self.lost is not None or now - self._unusable_since >= _INPUT_LOST)
        if not lost:
            self.lost = None
        elif self.lost is None:  # the first cause stands until input is back
            self.lost = why()
            self._beats.clear()  # an interval across the loss is no interval: beats may have come unseen
        self._watch_silence(np.any(masks & ~np.uint8(FLAT) == 0, axis=0), now)
        self.rate = self._rate(now)

    def _watch_silence(self, seen: npt.NDArray[np.bool_], now: int) -> None:
        self._blind_since = _since(seen, self._blind_since, now)
        if self._blind_since is not None and now - self._blind_since >= _INPUT_LOST:
            self._quiet_from = None
        elif self._quiet_from is not None:
            self._hidden += int(np.count_nonzero(~seen))
        elif self._blind_since is None:
            well = int(np.argmax(~seen[::-1])) if not seen.all() else seen.size
            self._quiet_from, self._hidden, self.beat_since = now - well, 0, False

    def _rate(self, now: int) -> int | None:
        if len(self._beats) < 3 or now - self._beats[-1] > _RATE_TTL or self.lost is not None:
            return None
        return round(60 * MODEL_RATE_HZ * (len(self._beats) - 1) / (self._beats[-1] - self._beats[0]))


def _since(well: npt.NDArray[np.bool_], since: int | None, now: int) -> int | None:
    """Since when no sample was ``well`` (m,); None while the newest is. ``now``: index after the newest sample."""
    if not well.size:
        return since
    if well[-1]:
        return None
    if since is not None and not well.any():
        return since
    return now - (int(np.argmax(well[::-1])) if well.any() else well.size)
