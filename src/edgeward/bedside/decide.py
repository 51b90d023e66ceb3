"""From scores to a beat class, and from beat classes to advisories, with hysteresis so that one odd beat is silent."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.priority import Priority
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import MODEL_RATE_HZ
from edgeward.signal.beat import BeatClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Advisory:
    """One notice to a person. ``raised_index``: model-rate sample at which it was raised."""

    code: str
    text: str
    priority: Priority
    raised_index: int
    active: bool

    def ended(self) -> Advisory:
        """The same notice, taken back."""
        return replace(self, active=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """How scores become a class: arg max of log-probability plus a fixed offset per class.

    The offsets are chosen on out-of-fold scores of the training patients and travel in the manifest.
    """

    log_offsets: tuple[float, ...]

    @classmethod
    def from_manifest(cls, decision: Mapping[str, Any]) -> Decision:
        """Read ``{"log_offsets": [N, S, V, F, Q]}``; ``BundleError`` (``decision-malformed``) for anything else."""
        offsets = decision.get("log_offsets")
        whole = (
            isinstance(offsets, list | tuple) and set(decision) == {"log_offsets"} and len(offsets) == len(BeatClass)
        )
        if not whole or not all(isinstance(x, int | float) and math.isfinite(x) for x in offsets or ()):
            raise BundleError(
                "decision-malformed", "manifest field 'decision' must be five finite log_offsets; refuse the bundle"
            )
        return cls(tuple(float(x) for x in offsets or ()))

    def classify(self, scores: npt.NDArray[np.float32]) -> tuple[BeatClass, float]:
        """The class of one row of probabilities (5,) and its own probability."""
        chosen = int(np.argmax(np.log(np.maximum(scores, 1e-9)) + np.asarray(self.log_offsets)))
        return BeatClass(chosen), float(scores[chosen])


@dataclass(frozen=True, slots=True)
class _Burden:
    """Raise at ``raise_at`` ectopic beats within the horizon, clear at ``clear_at`` or fewer."""

    code: str
    text: str
    beat_class: BeatClass
    raise_at: int
    clear_at: int


_HORIZON = 60 * MODEL_RATE_HZ
_COUPLET_BEATS = 2
_RUN_BEATS = 3
"""Three or more consecutive ectopic beats are a run, two are a couplet (as EC57 counts them)."""
_VT_BEATS = 5
_RUN_RATE_BPM = 100.0
_RUN_CLEAR = 30 * MODEL_RATE_HZ
_BURDENS = (
    _Burden("frequent-veb", "Frequent ventricular ectopic beats", BeatClass.V, 6, 3),
    _Burden("frequent-sveb", "Frequent supraventricular ectopic beats", BeatClass.S, 6, 3),
)
_RUN_TEXT = {
    BeatClass.V: ("veb-run", "Run of ventricular beats"),
    BeatClass.S: ("sveb-run", "Run of supraventricular beats"),
}


class Advisor:
    """Turns the accepted beats of one bed into advisories. Memory is bounded by the beats of one minute."""

    def __init__(self) -> None:
        self._recent: dict[BeatClass, deque[int]] = {burden.beat_class: deque(maxlen=600) for burden in _BURDENS}
        self._active: dict[str, Advisory] = {}
        self._quiet_since: dict[str, int] = {}
        self._run: tuple[BeatClass, int, int] | None = None  # class, first index, beats

    @property
    def active(self) -> tuple[Advisory, ...]:
        """Advisories now raised."""
        return tuple(self._active.values())

    @property
    def quiet(self) -> bool:
        """Whether no run of ectopic beats is under way or stands."""
        return not self._quiet_since and (self._run is None or self._run[2] < _COUPLET_BEATS)

    def beat(self, index: int, beat_class: BeatClass) -> list[Advisory]:
        """Take one accepted beat; returns the advisories that changed (``active`` says which way)."""
        if beat_class in self._recent:
            self._recent[beat_class].append(index)
        return [*self._run_changes(index, beat_class), *self.passed(index)]

    def unjudged(self) -> None:
        """A beat without a class ends a run: what was not seen is not counted."""
        self._run = None

    def passed(self, index: int) -> list[Advisory]:
        """Time has come to ``index``: raise or clear what depends on the last minute."""
        changed: list[Advisory] = []
        for burden in _BURDENS:
            recent = self._recent[burden.beat_class]
            while recent and recent[0] <= index - _HORIZON:
                recent.popleft()
            if burden.code not in self._active and len(recent) >= burden.raise_at:
                changed.append(self._raise(burden.code, burden.text, Priority.LOW, index))
            elif burden.code in self._active and len(recent) <= burden.clear_at:
                changed.append(self._clear(burden.code))
        changed.extend(
            self._clear(code) for code, last in list(self._quiet_since.items()) if index - last >= _RUN_CLEAR
        )
        return changed

    def _run_changes(self, index: int, beat_class: BeatClass) -> list[Advisory]:
        if beat_class not in _RUN_TEXT:
            self._run = None
            return []
        if self._run is None or self._run[0] is not beat_class:
            self._run = (beat_class, index, 1)
            return []
        _, first, beats = self._run
        beats += 1
        self._run = (beat_class, first, beats)
        rate_bpm = 60.0 * MODEL_RATE_HZ * (beats - 1) / (index - first) if index > first else 0.0
        if beats < _RUN_BEATS or rate_bpm < _RUN_RATE_BPM:
            return []
        code, text = _RUN_TEXT[beat_class]
        sustained = beat_class is BeatClass.V and beats >= _VT_BEATS
        priority = Priority.HIGH if sustained else Priority.MEDIUM if beat_class is BeatClass.V else Priority.LOW
        self._quiet_since[code] = index
        known = self._active.get(code)
        if known is not None and known.priority is priority:
            return []
        return [self._raise(code, text, priority, known.raised_index if known else index)]

    def _raise(self, code: str, text: str, priority: Priority, index: int) -> Advisory:
        self._active[code] = advisory = Advisory(code, text, priority, index, active=True)
        return advisory

    def _clear(self, code: str) -> Advisory:
        self._quiet_since.pop(code, None)
        return self._active.pop(code).ended()
