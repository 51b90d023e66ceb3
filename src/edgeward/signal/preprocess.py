"""From the 250 Hz wave and the detected beats to what the beat model sees: one code in training and at the bedside.

A beat's window holds two leads around its fiducial without their baseline, in units of the patient's usual complex;
below them, on the same scale, the patient's running average beat; and a vector of rhythm and shape features. It is
complete when the look-ahead beats have come, or when the wait for them is over, and never sees beyond them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import BundleError
from edgeward.signal.complex import LATEST_SHIFT, MEASURE_AFTER, MEASURE_BEFORE, Complex, Seen, measure
from edgeward.signal.rhythm import LONG_BEATS, RHYTHM_NAMES, rhythm_features
from edgeward.signal.shape import SHAPE_NAMES, ShapeMemory
from edgeward.signal.window import Ring

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = npt.NDArray[np.float32]

MAX_BLOCK_S = 2.0
"""Longest block of samples that may be pushed at once."""
DETECTION_DELAY_S = 0.6
"""A beat must be reported within this time of its fiducial to count as look-ahead."""

_WINDOW_NAME = "beat-window-2"
_BLOCK = 10  # baseline: medians of 40 ms …
_SPAN = 15  # … and their running median over 0.6 s
_LEFT = 75  # context before the window for the baseline
_AMPLITUDE_CLIP = 4.0
_EARLY, _LATE = RHYTHM_NAMES.index("pre_vs_32"), RHYTHM_NAMES.index("post_vs_32")


@dataclass(frozen=True, slots=True)
class BeatWindowSpec:
    """What a beat window is; travels in the manifest by name and figures.

    ``before_s`` and ``after_s`` lie around the fiducial; ``lookahead_beats`` later beats are awaited, but never longer
    than ``max_wait_s`` after the fiducial.
    """

    name: str = _WINDOW_NAME
    rate_hz: int = 250
    before_s: float = 0.9
    after_s: float = 0.6
    lookahead_beats: int = 2
    max_wait_s: float = 2.4
    rhythm_names: tuple[str, ...] = field(default=RHYTHM_NAMES + SHAPE_NAMES)

    def __post_init__(self) -> None:
        problems = []
        if self.name != _WINDOW_NAME:
            problems.append("an unknown name")
        if self.rate_hz != 250:
            problems.append("a rate other than 250 Hz")
        if not (0.5 <= self.before_s <= 2.0 and 0.45 <= self.after_s <= 1.5):
            problems.append("a window outside 0.5–2.0 s before and 0.45–1.5 s after the beat")
        if self.lookahead_beats not in (1, 2):
            problems.append("a look-ahead other than 1 or 2 beats")
        if not self.after_s + DETECTION_DELAY_S <= self.max_wait_s <= 3.0:
            problems.append("a wait outside after_s + 0.6 s to 3.0 s")
        if tuple(self.rhythm_names) != RHYTHM_NAMES + SHAPE_NAMES:
            problems.append("other rhythm features than this version computes")
        if problems:
            raise BundleError(
                "window-spec-unsupported",
                f"the beat window asks for {'; '.join(problems)}; build the bundle with a matching version of Edgeward",
            )

    @property
    def before(self) -> int:
        """Samples before the fiducial."""
        return round(self.before_s * self.rate_hz)

    @property
    def after(self) -> int:
        """Samples from the fiducial on."""
        return round(self.after_s * self.rate_hz)

    @property
    def wave_shape(self) -> tuple[int, int]:
        """Shape of ``BeatWindow.wave``: two leads and the average beat in the same two leads, by T samples."""
        return (4, self.before + self.after)

    @property
    def rhythm_len(self) -> int:
        """Length K of ``BeatWindow.rhythm``."""
        return len(self.rhythm_names)

    def to_params(self) -> dict[str, object]:
        """Plain values for the manifest."""
        return {
            "name": self.name,
            "rate_hz": self.rate_hz,
            "before_s": self.before_s,
            "after_s": self.after_s,
            "lookahead_beats": self.lookahead_beats,
            "max_wait_s": self.max_wait_s,
            "rhythm_names": list(self.rhythm_names),
        }

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> BeatWindowSpec:
        """The spec that ``to_params`` wrote. Raises ``BundleError`` for missing, additional or ill-typed values."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "name": str,
            "rate_hz": int,
            "before_s": (int, float),
            "after_s": (int, float),
            "lookahead_beats": int,
            "max_wait_s": (int, float),
            "rhythm_names": (list, tuple),
        }
        if set(params) != set(kinds):
            raise BundleError(
                "window-spec-malformed",
                f"the beat window must state exactly {', '.join(kinds)}; rebuild the bundle",
            )
        for key, kind in kinds.items():
            if isinstance(params[key], bool) or not isinstance(params[key], kind):
                raise BundleError(
                    "window-spec-malformed", f"the beat window's {key} has a wrong type; rebuild the bundle"
                )
        names = params["rhythm_names"]
        assert isinstance(names, list | tuple)
        values = {key: params[key] for key in kinds if key != "rhythm_names"}
        return cls(**values, rhythm_names=tuple(str(n) for n in names))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class BeatWindow:
    """One beat as the model sees it."""

    beat_index: int
    """Sample of the detection, as given to ``BeatWindower.beat``."""
    end_index: int
    """Last sample that this window needed."""
    wave: FloatArray
    """(4, T): two leads, then the patient's usual beat in both, baseline removed, in units of the usual complex."""
    rhythm: FloatArray
    """(K,): the features named in the spec."""
    rr_ms: int | None
    """Milliseconds since the beat before; None for the first after a reset."""


@dataclass(slots=True)
class _Pending:
    index: int
    complex_: Complex | None = None
    wave_mv: FloatArray | None = None
    shape: FloatArray | None = None


class BeatWindower:
    """Turns samples and detections into windows; causal, bounded, independent of how samples are cut in blocks.

    Order per block: ``push`` the samples, ``beat`` for every detection in them, then ``ready``. A second lead that is
    missing is zeros. ``start``: index of the first sample that will be pushed.
    """

    def __init__(self, spec: BeatWindowSpec, start: int = 0) -> None:
        self._spec = spec
        rate = spec.rate_hz
        self._wait = round(spec.max_wait_s * rate)
        self._horizon = self._wait - round(DETECTION_DELAY_S * rate)
        self._max_block = round(MAX_BLOCK_S * rate)
        self._ring = Ring(2, self._wait + spec.before + _LEFT + MEASURE_BEFORE + 2 * self._max_block, start)
        self._interp = _interpolation(spec.before + spec.after + _LEFT)
        blocks = (spec.before + spec.after + _LEFT) // _BLOCK
        self._edge = np.clip(np.arange(-(_SPAN // 2), blocks + _SPAN // 2), 0, blocks - 1)
        self._memory = ShapeMemory(spec.before + spec.after, spec.before)
        self.reset()

    @property
    def spec(self) -> BeatWindowSpec:
        """The spec this windower follows."""
        return self._spec

    def reset(self) -> None:
        """Forget beats, rhythm and average beat (after a gap); the sample count goes on."""
        self._pending: deque[_Pending] = deque()
        self._history: deque[float] = deque(maxlen=LONG_BEATS)
        self._previous: Complex | None = None
        self._previous_index: int | None = None
        self._newest = -1
        self._owed: Seen | None = None
        self._memory.reset()

    def push(self, samples: FloatArray) -> None:
        """Append samples (2, n) in mV at 250 Hz, NaN-free. Raises ``ValueError`` for another shape or > 2 s at once."""
        if samples.ndim != 2 or samples.shape[0] != 2 or samples.shape[1] > self._max_block:
            raise ValueError(f"push takes (2, n ≤ {self._max_block}) samples, not {samples.shape}")
        self._learn()
        self._ring.push(samples)
        self._look_ahead()

    def beat(self, index: int) -> None:
        """A QRS was detected at sample ``index``. Raises ``ValueError`` when not later than the beat before."""
        if index <= self._newest:
            raise ValueError("beats must come in increasing order")
        self._newest = index
        self._pending.append(_Pending(index))

    @property
    def pending(self) -> list[int]:
        """Beats whose window is not complete yet."""
        return [beat.index for beat in self._pending]

    def ready(self) -> list[BeatWindow]:
        """Windows whose look-ahead is complete or whose wait is over, in beat order; each is given once."""
        out = []
        while self._pending:
            following = self._following()
            end = self._needed(following)
            if self._ring.end <= end:
                break
            out.append(self._release(following, end))
        return out

    def drain(self) -> list[BeatWindow]:
        """At the end of a source: the remaining windows, with what has arrived; missing samples are zeros."""
        out = []
        missing = self._wait + MEASURE_AFTER
        while missing > 0:
            self._ring.push(np.zeros((2, min(missing, self._max_block)), dtype=np.float32))
            missing -= self._max_block
            out += self.ready()
        return out

    def _following(self) -> list[_Pending]:
        first = self._pending[0].index
        later = islice(self._pending, 1, 1 + self._spec.lookahead_beats)
        return [beat for beat in later if beat.index <= first + self._horizon]

    def _needed(self, following: list[_Pending]) -> int:
        """Last sample needed before the first pending beat may be released."""
        first = self._pending[0].index
        if len(following) < self._spec.lookahead_beats:
            return first + self._wait
        return max(first + LATEST_SHIFT + self._spec.after, following[-1].index + MEASURE_AFTER) - 1

    def _release(self, following: list[_Pending], end: int) -> BeatWindow:
        self._learn()
        beat = self._pending.popleft()
        current = self._measured(beat)
        nexts = [self._measured(b) for b in following]
        pre_s = self._seconds(self._previous, current)
        post_s = self._seconds(current, nexts[0]) if nexts else None
        postpost_s = self._seconds(nexts[0], nexts[1]) if len(nexts) > 1 else None
        rhythm = rhythm_features(pre_s, post_s, postpost_s, tuple(self._history))
        wave_mv = beat.wave_mv if beat.wave_mv is not None else self._wave_mv(current.index)
        memory = self._memory
        pre = self._samples_since(current)
        own = beat.shape if beat.shape is not None else memory.features(current, wave_mv, pre)
        shape = memory.followed(own, current, nexts)
        if not memory.known:
            memory.add(Seen(current, wave_mv, 0.0, 0.0, pre, shape))
        scale = memory.scale_mv[:, None]
        wave = np.concatenate([wave_mv / scale, memory.home / scale])
        rr_ms = None
        if self._previous_index is not None:
            rr_ms = round(1000 * (beat.index - self._previous_index) / self._spec.rate_hz)
        if pre_s is not None:
            self._owed = Seen(current, wave_mv, float(rhythm[_EARLY]), float(rhythm[_LATE]), pre, shape)
            self._history.append(pre_s)
        self._previous, self._previous_index = current, beat.index
        return BeatWindow(
            beat_index=beat.index,
            end_index=end,
            wave=np.clip(wave, -_AMPLITUDE_CLIP, _AMPLITUDE_CLIP).astype(np.float32),
            rhythm=np.concatenate([rhythm, shape]),
            rr_ms=rr_ms,
        )

    def _learn(self) -> None:
        """Take the last beat into the running average: after its window went out, for the patient waits for that."""
        if self._owed is not None:
            owed, self._owed = self._owed, None
            self._memory.add(owed)

    def _look_ahead(self) -> None:
        """Cut and measure the next window as soon as its samples are there: only what waits for later beats is left.

        The memory does not change until this beat's window is out, so that its features are already what they will be.
        """
        if not self._pending:
            return
        beat = self._pending[0]
        if beat.wave_mv is None and beat.complex_ is not None:
            centre = beat.complex_.index  # measured when it was an earlier beat's look-ahead; it does not change again
            if self._ring.end >= centre + self._spec.after:
                beat.wave_mv = self._wave_mv(centre)
                beat.shape = self._memory.features(beat.complex_, beat.wave_mv, self._samples_since(beat.complex_))

    def _measured(self, beat: _Pending) -> Complex:
        if beat.complex_ is None:
            cut = self._ring.cut(beat.index - MEASURE_BEFORE, beat.index + MEASURE_AFTER)
            found = measure(cut, beat.index, self._memory.scale_mv)
            beat.complex_ = self._memory.aligned(cut, beat.index, found)
        return beat.complex_

    def _samples_since(self, current: Complex) -> int | None:
        return current.index - self._previous.index if self._previous is not None else None

    def _seconds(self, earlier: Complex | None, later: Complex) -> float | None:
        if earlier is None:
            return None
        return min(3.0, max(0.1, (later.index - earlier.index) / self._spec.rate_hz))

    def _wave_mv(self, centre: int) -> FloatArray:
        """Window (2, T) in mV around ``centre`` without its baseline (running median over 0.6 s)."""
        cut = self._ring.cut(centre - self._spec.before - _LEFT, centre + self._spec.after)  # (2, T + 75)
        n = cut.shape[1] // _BLOCK
        blocks = np.sort(cut[:, : n * _BLOCK].reshape(2, n, _BLOCK), axis=2)[:, :, _BLOCK // 2]
        padded = blocks[:, self._edge]
        spans = np.lib.stride_tricks.sliding_window_view(padded, _SPAN, axis=1)
        baseline = np.sort(spans, axis=2)[:, :, _SPAN // 2] @ self._interp  # (2, T + 75)
        return np.asarray((cut - baseline)[:, _LEFT:], dtype=np.float32)


def _interpolation(samples: int) -> FloatArray:
    """Matrix (n, samples) that interpolates linearly between the centres of n blocks."""
    n = samples // _BLOCK
    position = np.clip((np.arange(samples) - 0.5 * (_BLOCK - 1)) / _BLOCK, 0, n - 1)
    low = np.minimum(position.astype(np.intp), n - 2)
    share = position - low
    matrix = np.zeros((n, samples), dtype=np.float32)
    matrix[low, np.arange(samples)] = 1.0 - share
    matrix[low + 1, np.arange(samples)] = share
    return matrix
