"""The one loop of an ECG bed: samples in, verdicts and advisories out.

``EcgPipeline.step(event, now_ns) -> effects`` is the whole interface. It does no I/O and reads no clock: the caller
scores the windows it is asked to score and hands the scores back as an event, so a recorded stream replays any
failure, and evaluation runs the very code of the bedside. How the samples are cut into blocks changes no verdict.

Per block: raw quality at the source's rate → resampling to 250 Hz → QRS detection on the rhythm and the chest lead →
beat window once its look-ahead is complete → window quality → ``ScoreWindow`` or a Withheld verdict.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.bedside.beside import Beside
from edgeward.bedside.decide import Advisor, Decision
from edgeward.bedside.effects import (
    AdvisoryChanged,
    BeatFound,
    Effect,
    Event,
    InputChanged,
    QualityChanged,
    RateChanged,
    SamplesArrived,
    Scored,
    ScoreWindow,
    SeenBeside,
    WaveReady,
)
from edgeward.bedside.verdict import Outcome, Reason, Verdict
from edgeward.bedside.watch import Watch
from edgeward.kernel.clock import NS_PER_MS
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import MODEL_RATE_HZ, RING_S
from edgeward.signal.lead import check_leads, choose_slots, normalise
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.preprocess import BeatWindower
from edgeward.signal.qrs import QrsDetector
from edgeward.signal.quality import Flag, SampleQuality, flag_of_mask, window_flags
from edgeward.signal.resample import Resampler
from edgeward.signal.window import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bedside.stage_timer import StageTimer
    from edgeward.signal.preprocess import BeatWindow, BeatWindowSpec

FloatArray = npt.NDArray[np.float32]

_FILL_MAX_S = 10.0
"""A hole up to this long is filled with missing samples; after a longer one the bed starts afresh."""
_FLUSH_S = 4.0
"""Missing samples before a fresh start: more than detection and the longest wait for look-ahead beats take."""
_CHUNK_S = 0.5


@dataclass(slots=True)
class _Waiting:
    window: BeatWindow
    received_ns: int
    index: int
    source_index: int
    advisor: Advisor


class EcgPipeline:
    """One bed. ``limits_mv``: the converter's rails where the source states them (see ``SampleQuality``).

    Raises ``InputError`` (``rate-unsupported``, ``leads-unsupported``) for a source that cannot be judged.
    """

    def __init__(
        self,
        leads: Sequence[str],
        rate_hz: float,
        spec: BeatWindowSpec,
        decision: Decision,
        *,
        deadline_ms: float,
        timer: StageTimer,
        limits_mv: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        check_leads(leads, rate_hz)
        self.leads = tuple(normalise(name) for name in leads)
        self.slots = choose_slots(self.leads)
        self.rate_hz = rate_hz
        self._spec = spec
        self._decision = decision
        self._deadline_ns = round(deadline_ms * NS_PER_MS)
        self._timer = timer
        self._limits_mv = limits_mv
        self._sequence = 0
        self._waiting: dict[int, _Waiting] = {}
        self._watch = Watch()
        self._ended = False
        self._beside: Beside | None = None
        self._windower: BeatWindower
        self._overdue: list[BeatWindow]
        self._unseen: list[int]
        self._restart(0)

    @property
    def slot_leads(self) -> tuple[str, ...]:
        """Names of the leads that the detector and the model look at."""
        return tuple(self.leads[slot] for slot in self.slots)

    def step(self, event: Event, now_ns: int) -> list[Effect]:
        """Take one event; returns what follows from it, in order."""
        match event:
            case SamplesArrived():
                return self._samples(event)
            case Scored():
                return self._scored(event, now_ns)

    def finish(self) -> list[Effect]:
        """The source has ended, as if its last sample were held: the beats still under way, with what look-ahead came.

        Only evaluation calls this, once: a bedside stream has no end to wait for.
        """
        self._ended = True
        held = round((QrsDetector.MAX_DELAY_S + 0.1) * self.rate_hz) + self._resampler.delay_samples_in
        effects = self._chunks(np.repeat(self._newest, held, axis=1), received_ns=0)
        return effects + self._judge(self._windower.drain(), received_ns=0)

    # --- another bundle

    @property
    def quiet(self) -> bool:
        """Whether another bundle could be in charge of the next window: no run of beats is being judged.

        A run is told by beats in a row, which one bundle must judge; what is counted over a minute is counted on.
        """
        return self._advisor.quiet

    def knows(self, spec: BeatWindowSpec) -> bool:
        """Whether windows of ``spec`` show what is usual for this patient; true while nothing can be judged anyway."""
        beside = self._beside
        known = spec == self._spec or (beside is not None and beside.spec == spec and beside.knows)
        return known or self._watch.lost is not None

    def see_as(self, spec: BeatWindowSpec | None) -> None:
        """Cut windows of ``spec`` too, as ``SeenBeside``; none where it is None, or that of the bundle in charge."""
        if spec is None or spec == self._spec:
            self._beside = None
        elif self._beside is None or self._beside.spec != spec:
            self._beside = Beside(spec, self._ring.end)

    def adopt(self, spec: BeatWindowSpec, decision: Decision, deadline_ms: float) -> None:
        """Another bundle is in charge of the beats that are not judged yet; each beat is judged once, by one of them.

        Everything else goes on: rate, quality, advisories. Windows of the bundle before are cut on (``see_as``). A beat
        that the new one cannot see any more is withheld.
        """
        self._decision, self._deadline_ns = decision, round(deadline_ms * NS_PER_MS)
        if spec == self._spec:
            return
        self.see_as(spec)
        assert self._beside is not None
        self._overdue = self._beside.after(self._judged)
        self._unseen = self._beside.unseen(self._windower.pending)
        self._flags_of.clear()  # of windows of another length
        before = Beside(self._spec, 0, self._windower)
        self._windower, self._spec, self._beside = self._beside.windower, spec, before

    # --- samples

    def _restart(self, source_start: int) -> None:
        slots = len(self.slots)
        self._origin = source_start
        self._expected = source_start
        self._quality = SampleQuality(self.rate_hz, len(self.leads), self._limits_mv)
        self._resampler = Resampler(self.rate_hz, slots, MODEL_RATE_HZ)
        self._detector = QrsDetector(slots, MODEL_RATE_HZ)
        self._windower = BeatWindower(self._spec)
        self._judged: int = -1  # the newest beat whose window was given out
        self._unseen = []  # beats that it cannot see
        self._overdue = []  # windows that a bundle brought along when it came to be in charge
        if self._beside is not None:
            self._beside = Beside(self._beside.spec, 0)
        self._masks = np.zeros((slots, 0), dtype=np.uint8)  # source-rate flags not yet resampled  # (L, n)
        self._masks_start = 0
        self._unflagged: deque[int] = deque()  # beats whose window's samples are not judged yet
        self._flags_of: dict[int, tuple[Flag | None, ...]] = {}  # by beat, until its window is complete
        self._ring = Ring(2 * slots, RING_S * MODEL_RATE_HZ)  # waves, then their flags
        self._newest = np.full((len(self.leads), 1), np.nan, dtype=np.float32)  # (C, 1)
        self._watch.afresh()
        self._last_flags = b""
        self._shown_flags: dict[str, Flag | None] = {}
        self._advisor = Advisor()

    def _samples(self, event: SamplesArrived) -> list[Effect]:
        effects: list[Effect] = []
        if event.samples.shape[0] != len(self.leads):
            raise InputError(
                "leads-changed", "the source changed its number of leads mid-stream; restart it as a new source"
            )
        hole = event.start - self._expected
        if hole < 0:
            raise InputError("samples-repeated", "the source sent samples a second time; the repeated block is dropped")
        if hole > _FILL_MAX_S * self.rate_hz:
            if self._ring.end:  # beats on their way get their verdicts before everything is forgotten
                lack = np.full((len(self.leads), round(_FLUSH_S * self.rate_hz)), np.nan, dtype=np.float32)
                effects += self._chunks(lack, event.received_ns)
            effects += self.cleared()
            self._restart(event.start)
        elif hole:
            missing = np.full((len(self.leads), hole), np.nan, dtype=np.float32)
            effects += self._chunks(missing, event.received_ns)
        effects += self._chunks(event.samples, event.received_ns)
        self._expected = event.start + event.samples.shape[1]
        return effects

    def cleared(self) -> list[Effect]:
        """What was raised is taken back before the bed starts afresh or ends: a reader must not see it for ever."""
        return [AdvisoryChanged(advisory.ended()) for advisory in self._advisor.active]

    def numerics(self, at_ns: int) -> tuple[Numeric, ...]:
        """What the bed measures of the heart at ``at_ns``, now, for the threshold checks."""
        rate = None if self._watch.rate is None else float(self._watch.rate)
        return Numeric(Kind.HR, rate, at_ns), Numeric(Kind.BEAT_SILENCE, self._watch.silence_s, at_ns)

    def _chunks(self, samples: FloatArray, received_ns: int) -> list[Effect]:
        longest = max(1, int(_CHUNK_S * self.rate_hz))
        effects: list[Effect] = []
        for first in range(0, samples.shape[1], longest):
            effects += self._chunk(samples[:, first : first + longest], received_ns)
        return effects

    def _chunk(self, raw: FloatArray, received_ns: int) -> list[Effect]:
        mark = self._timer.start()
        clean, _, flags = self._quality.push(raw)
        self._newest = raw[:, -1:].copy()
        mark = self._timer.lap("quality", mark)
        slots = list(self.slots)
        wave = self._resampler.push(clean[slots])  # (L, m)
        masks = self._masks_for(flags[slots], wave.shape[1])  # (L, m)
        usable = masks == 0
        start = self._ring.end
        self._ring.push(np.concatenate((wave, masks.astype(np.float32))))
        mark = self._timer.lap("resample", mark)
        beats = self._detector.push(wave, usable)
        mark = self._timer.lap("qrs", mark)
        effects: list[Effect] = []
        if wave.shape[1]:
            effects.append(WaveReady(self._page_index(start), wave, usable))
        effects += self._lead_changes(flags)
        seen = _two_leads(np.where(usable, wave, np.float32(0.0)))
        self._windower.push(seen)
        found = [beat.index for beat in beats if not self._ended or self._source_index(beat.index) < self._expected]
        for index in found:
            self._windower.beat(index)
            self._unflagged.append(index)
            self._watch.beat(index)
            effects.append(BeatFound(self._page_index(index)))
        effects += [self._unjudged(index) for index in self._unseen]
        self._unseen = []
        windows = [*self._overdue, *self._windower.ready()]
        if windows:
            self._overdue = []
            effects += self._judge(windows, received_ns)
            mark = self._timer.lap("window", mark)
        if self._beside is not None:
            effects += [self._seen_beside(self._beside, window) for window in self._beside.push(seen, found)]
        effects += self._watched(masks)
        self._flag_ahead()
        self._timer.lap("watch", mark)
        return effects

    def _masks_for(self, flags: npt.NDArray[np.uint8], made: int) -> npt.NDArray[np.uint8]:
        """Flags (L, made) at the model rate: each output takes the flags of the source samples that surround it."""
        if self.rate_hz == MODEL_RATE_HZ:
            return flags
        self._masks = np.concatenate((self._masks, flags), axis=1)
        if not made:
            return self._masks[:, :0]
        first = self._ring.end
        centre = np.array([self._resampler.to_source(first + k) for k in range(made)]) - self._masks_start
        centre = np.clip(centre, 0, self._masks.shape[1] - 1)
        after = np.minimum(centre + 1, self._masks.shape[1] - 1)
        masks: npt.NDArray[np.uint8] = self._masks[:, centre] | self._masks[:, after]
        drop = int(centre[-1])
        self._masks = self._masks[:, drop:]
        self._masks_start += drop
        return masks

    def _lead_changes(self, flags: npt.NDArray[np.uint8]) -> list[Effect]:
        if not flags.shape[1]:
            return []
        last = flags[:, -1].tobytes()
        if last == self._last_flags:
            return []
        self._last_flags = last
        leads = {name: flag_of_mask(mask) for name, mask in zip(self.leads, last, strict=True)}
        if leads == self._shown_flags:
            return []
        self._shown_flags = leads
        return [QualityChanged(leads)]

    # --- rate, input

    def _watched(self, masks: npt.NDArray[np.uint8]) -> list[Effect]:
        watch = self._watch
        lost, rate = watch.lost, watch.rate
        watch.passed(self._ring.end, masks, self._lost_reason)
        effects: list[Effect] = []
        if watch.lost is not lost:
            effects.append(InputChanged(watch.lost))
        if watch.rate != rate:
            effects.append(RateChanged(watch.rate))
        now = self._page_index(self._ring.end)
        effects += [AdvisoryChanged(advisory) for advisory in self._advisor.passed(now)]
        return effects

    def _lost_reason(self) -> Reason:
        flags = [self._shown_flags.get(name) for name in self.slot_leads]
        return next((Reason(flag.value) for flag in flags if flag is not None), Reason.GAP)

    # --- windows and verdicts

    def _judge(self, windows: list[BeatWindow], received_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        for window in windows:
            index = window.beat_index
            if index <= self._judged:  # by the bundle that was in charge before
                continue
            self._judged = index
            self._sequence += 1
            self._waiting[self._sequence] = _Waiting(
                window, received_ns, self._page_index(index), self._source_index(index), self._advisor
            )
            reason, wave = self._window_quality(window)
            if reason is not None:
                effects += self._withhold(self._sequence, reason)
                continue
            page_index, deadline_ns = self._page_index(index), received_ns + self._deadline_ns
            effects.append(ScoreWindow(self._sequence, page_index, wave[None], window.rhythm[None], deadline_ns))
        return effects

    def _seen_beside(self, beside: Beside, window: BeatWindow) -> SeenBeside:
        reason, wave = self._judgeable(window, self._flags_around(window.beat_index, beside.spec))
        seen = None if reason is not None else wave[None]
        return SeenBeside(self._page_index(window.beat_index), seen, window.rhythm[None])

    def _window_quality(self, window: BeatWindow) -> tuple[Reason | None, FloatArray]:
        """As ``_judgeable``, with the flags that were found ahead where they were."""
        flags = self._flags_of.pop(window.beat_index, None)
        if flags is None:  # the window was complete in the very block that brought its last sample
            while self._unflagged and self._unflagged[0] <= window.beat_index:
                self._unflagged.popleft()
            flags = self._flags_around(window.beat_index, self._spec)
        return self._judgeable(window, flags)

    def _judgeable(self, window: BeatWindow, flags: Sequence[Flag | None]) -> tuple[Reason | None, FloatArray]:
        """Why no lead of the window may be judged; else None and the wave with the refused leads silenced."""
        slots = len(self.slots)
        refused = [slot for slot, flag in enumerate(flags) if flag is not None]
        if len(refused) == slots:
            first = flags[0]
            assert first is not None
            return Reason(first.value), window.wave
        if not refused:
            return None, window.wave
        wave = window.wave.copy()
        for slot in refused:
            wave[slot::2] = 0.0  # the lead and its running average, as the network was trained to meet a missing lead
        return None, wave

    def _flags_around(self, index: int, spec: BeatWindowSpec) -> tuple[Flag | None, ...]:
        """Why each slot's lead may not be judged around the beat at ``index``; None where it may."""
        slots = len(self.slots)
        stop = min(index + spec.after, self._ring.end)
        cut = self._ring.cut(index - spec.before, stop)  # (2·L, T)
        masks = cut[slots:].astype(np.uint8)
        return window_flags(cut[:slots], masks == 0, masks)

    def _flag_ahead(self) -> None:
        """Judge the samples of a window while its later beats are awaited: it is off the patient's path then."""
        while self._unflagged and self._ring.end >= self._unflagged[0] + self._spec.after:
            index = self._unflagged.popleft()
            self._flags_of[index] = self._flags_around(index, self._spec)

    def _unjudged(self, index: int) -> Verdict:
        """The verdict of a beat that no window shows to the bundle in charge."""
        self._sequence += 1
        self._judged = index
        self._advisor.unjudged()
        places = self._page_index(index), self._source_index(index)
        return Verdict(self._sequence, *places, Outcome.WITHHELD, Reason.GAP, None, None, None, 0)

    def _withhold(self, sequence: int, reason: Reason) -> list[Effect]:
        waiting = self._waiting.pop(sequence)
        waiting.advisor.unjudged()
        return [self._verdict(sequence, waiting, Outcome.WITHHELD, reason, 0)]

    def _scored(self, event: Scored, now_ns: int) -> list[Effect]:
        waiting = self._waiting.pop(event.sequence)
        latency_ns = now_ns - waiting.received_ns
        if event.scores is None or event.failure is not None:
            waiting.advisor.unjudged()
            reason = event.failure or Reason.BAD_SCORES
            return [self._verdict(event.sequence, waiting, Outcome.FALLBACK, reason, latency_ns)]
        if latency_ns > self._deadline_ns:
            waiting.advisor.unjudged()
            return [self._verdict(event.sequence, waiting, Outcome.WITHHELD, Reason.LATE, latency_ns)]
        beat_class, probability = (event.decision or self._decision).classify(event.scores)
        unclassed = self._verdict(event.sequence, waiting, Outcome.ACCEPTED, None, latency_ns)
        verdict = replace(unclassed, beat_class=beat_class, probability=probability)
        # A bed that began afresh meanwhile has taken its advisories back: a beat from before raises none.
        changed = waiting.advisor.beat(waiting.index, beat_class) if waiting.advisor is self._advisor else []
        return [verdict, *(AdvisoryChanged(advisory) for advisory in changed)]

    def _verdict(
        self, sequence: int, waiting: _Waiting, outcome: Outcome, reason: Reason | None, latency_ns: int
    ) -> Verdict:
        """A verdict without a class."""
        return Verdict(
            sequence=sequence,
            index=waiting.index,
            source_index=waiting.source_index,
            outcome=outcome,
            reason=reason,
            beat_class=None,
            probability=None,
            rr_ms=waiting.window.rr_ms,
            latency_ns=latency_ns,
        )

    def _page_index(self, index: int) -> int:
        """Model-rate index since the source began, across restarts after long holes."""
        return round(self._origin * MODEL_RATE_HZ / self.rate_hz) + index

    def _source_index(self, index: int) -> int:
        return self._origin + self._resampler.to_source(index)


def _two_leads(wave: FloatArray) -> FloatArray:
    if wave.shape[0] == 2:
        return wave
    return np.concatenate((wave, np.zeros_like(wave)))  # (2, m)
