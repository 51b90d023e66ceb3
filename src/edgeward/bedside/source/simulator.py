"""The built-in simulator: a 12-lead monitor with a script, in real time, faster, or at once.

A scenario is a list of ``Episode``: what happens, from when, for how long, on which leads. The same seed and scenario
give the same samples whatever the block length. The truth (``beats_until``) is kept for tests and demonstrations.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.bedside.source.base import BLOCK_MS, Block, Pace, SourceInfo, block_samples
from edgeward.bedside.source.physiology import LEADS, BeatKind, Heart, Rhythm, Torso, TrueBeat
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import RATE_HZ_MAX, RATE_HZ_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgeward.kernel.clock import Clock

FloatArray = npt.NDArray[np.float32]

RAIL_MV = 5.0
"""Converter rails of the simulated monitor (IEC 60601-2-27 asks for ±5 mV)."""
TRUTH_BEATS_MAX = 100_000
_RHYTHMS = frozenset({"af", "vt", "asystole"})
_SINGLE = {"pvc": BeatKind.VENTRICULAR, "pac": BeatKind.ATRIAL_PREMATURE}
_ARTEFACTS = frozenset({"lead_off", "saturated", "noise", "flat", "gap"})
_CHUNK_S = 1.0
_AHEAD_S = 1.5


@dataclass(frozen=True, slots=True)
class Episode:
    """``what`` happens from ``at_s`` for ``duration_s``.

    Rhythms ``af``, ``vt``, ``asystole``; single beats ``pvc``, ``pac`` (no duration); artefacts on ``leads`` (all where
    empty) ``lead_off``, ``saturated``, ``noise``, ``flat``; ``gap`` (nothing arrives).
    """

    at_s: float
    what: str
    duration_s: float = 0.0
    leads: tuple[str, ...] = ()


class SimulatorSource:
    """A simulated monitor. Raises ``ConfigError`` (``scenario``, ``rate-unsupported``, ``block-length``, ``speed``).

    ``duration_s`` None goes on until closed; ``leads`` chooses some of the 12.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rate_hz: float = 500.0,
        leads: Sequence[str] = LEADS,
        seed: int = 1,
        rhythm: Rhythm | None = None,
        scenario: Sequence[Episode] = (),
        duration_s: float | None = None,
        speed: float = 1.0,
        block_ms: float = BLOCK_MS,
        noise_mv: float = 0.01,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not RATE_HZ_MIN <= rate_hz <= RATE_HZ_MAX:
            raise ConfigError("rate-unsupported", f"the rate lies outside {RATE_HZ_MIN:g} to {RATE_HZ_MAX:g} Hz")
        if not leads or any(name not in LEADS for name in leads):
            raise ConfigError("leads-unsupported", f"the simulator has the leads {', '.join(LEADS)}")
        _check_scenario(scenario, leads)
        self._channels = [LEADS.index(name) for name in leads]
        rails = ((-RAIL_MV, RAIL_MV),) * len(self._channels)
        self._info = SourceInfo(tuple(leads), rate_hz, "simulated monitor", rails, simulated=True)
        self._rate_hz = rate_hz
        self._seed = seed
        self._rhythm = rhythm or Rhythm()
        self._scenario = tuple(sorted(scenario, key=lambda episode: episode.at_s))
        self._noise_mv = noise_mv
        self._total = None if duration_s is None else round(duration_s * rate_hz)
        self._block = block_samples(block_ms, rate_hz)
        self._chunk = round(_CHUNK_S * rate_hz)
        self._clock = clock
        self._speed = speed
        self._sleep = sleep
        self._pace = Pace(clock, rate_hz, speed, sleep)
        self._closed = False
        self._restart()

    @property
    def info(self) -> SourceInfo:
        """The simulated monitor; ``simulated`` is true."""
        return self._info

    def blocks(self) -> Iterator[Block]:
        """Blocks from the beginning; during a ``gap`` their samples are missing."""
        self._restart()
        self._pace = Pace(self._clock, self._rate_hz, self._speed, self._sleep)
        at = 0
        ready = np.zeros((len(self._channels), 0), dtype=np.float32)
        while not self._closed and (self._total is None or at < self._total):
            count = self._block if self._total is None else min(self._block, self._total - at)
            while ready.shape[1] < count:
                ready = np.concatenate((ready, self._make()), axis=1)
            now = self._pace.wait(count, lambda: self._closed)
            if self._closed:
                return
            yield Block(ready[:, :count].copy(), at, now)
            ready = ready[:, count:]
            at += count

    def close(self) -> None:
        """End at the next block."""
        self._closed = True

    def beats_until(self, index: int) -> list[tuple[int, str]]:
        """The truth so far: (sample index of the R peak, WFDB symbol) of beats before ``index``."""
        truth = ((round(beat.at_s * self._rate_hz), beat.kind.symbol) for beat, _ in self._truth)
        return [(at, symbol) for at, symbol in truth if 0 <= at < index]

    def _restart(self) -> None:
        seeds = np.random.SeedSequence(self._seed).spawn(3)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        breaths = self._rhythm.breaths_per_min
        self._heart = Heart(self._rhythm, rngs[0])
        self._torso = Torso(self._rate_hz, rngs[1], noise_mv=self._noise_mv, breaths_per_min=breaths)
        self._artefact_rng = rngs[2]
        self._made = 0
        self._truth: deque[tuple[TrueBeat, float]] = deque(maxlen=TRUTH_BEATS_MAX)
        self._recent: deque[tuple[TrueBeat, float]] = deque()
        self._singles = deque(e for e in self._scenario if e.what in _SINGLE)
        self._held = np.zeros(len(LEADS), dtype=np.float32)

    def _make(self) -> FloatArray:
        """The next chunk (C, n): always of the same length, so that the block length changes nothing."""
        start, count = self._made, self._chunk
        begin_s, end_s = start / self._rate_hz, (start + count) / self._rate_hz
        self._beat_until(end_s + _AHEAD_S)
        while self._recent and self._recent[0][0].at_s < begin_s - _AHEAD_S:
            self._recent.popleft()
        fibrillating = any(
            e.what == "af" and e.at_s < end_s and e.at_s + e.duration_s > begin_s for e in self._scenario
        )
        leads = self._torso.render(start, count, list(self._recent), fibrillating=fibrillating)
        self._spoil(leads, begin_s, end_s)
        self._made += count
        return leads[self._channels]

    def _beat_until(self, end_s: float) -> None:
        heart = self._heart
        while heart.last_s < end_s:
            rhythm = next((e for e in self._scenario if e.what in _RHYTHMS and _holds(e, heart.last_s)), None)
            heart.mode = rhythm.what if rhythm is not None else "sinus"
            if heart.mode == "asystole" and rhythm is not None:
                heart.skip_to(rhythm.at_s + rhythm.duration_s)
                continue
            if self._singles and self._singles[0].at_s <= heart.last_s and heart.mode == "sinus":
                heart.order = _SINGLE[self._singles.popleft().what]
            before = heart.last_s
            beat = heart.next_beat()
            if beat is not None:
                pair = (beat, beat.at_s - before)
                self._truth.append(pair)
                self._recent.append(pair)

    def _spoil(self, leads: FloatArray, begin_s: float, end_s: float) -> None:
        """Artefacts, in place on (12, n)."""
        first_s = begin_s
        for episode in self._scenario:
            if episode.what not in _ARTEFACTS or episode.at_s >= end_s or episode.at_s + episode.duration_s <= begin_s:
                continue
            a = max(0, round((episode.at_s - first_s) * self._rate_hz))
            b = min(leads.shape[1], round((episode.at_s + episode.duration_s - first_s) * self._rate_hz))
            rows = [LEADS.index(name) for name in episode.leads] or list(range(len(LEADS)))
            part = np.ix_(rows, range(a, b))
            match episode.what:
                case "lead_off" | "gap":
                    leads[part] = np.nan
                case "saturated":
                    leads[part] = RAIL_MV
                case "flat":
                    leads[part] = 0.0
                case _:
                    rough = self._artefact_rng.standard_normal((len(rows), b - a), dtype=np.float32)
                    leads[part] += np.float32(0.8) * rough
        np.clip(leads, -RAIL_MV, RAIL_MV, out=leads)


def _holds(episode: Episode, at_s: float) -> bool:
    return episode.at_s <= at_s < episode.at_s + episode.duration_s


def _check_scenario(scenario: Sequence[Episode], leads: Sequence[str]) -> None:
    known = sorted(_RHYTHMS | _SINGLE.keys() | _ARTEFACTS)
    for episode in scenario:
        if episode.what not in known:
            raise ConfigError("scenario", f"the simulator does not know this episode; it knows {', '.join(known)}")
        if episode.at_s < 0 or episode.duration_s < 0 or (episode.duration_s == 0 and episode.what not in _SINGLE):
            raise ConfigError("scenario", "an episode needs a start from 0 on and, unless a single beat, a duration")
        if any(name not in leads for name in episode.leads):
            raise ConfigError(
                "scenario", f"an episode names a lead that is not simulated; there are {', '.join(leads)}"
            )
