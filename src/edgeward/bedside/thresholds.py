"""Conventional limits on the heart rate: always on, no model, no disk, no network.

Adult defaults; a site changes them in its settings. Each limit has a delay, so that one long interval is silent, and a
hysteresis, so that a rate on the limit does not flicker. Vital-sign numerics and a process of their own come with the
vital-sign monitor; these already share no lock with the engine, which lives in another process.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from edgeward.bedside.decide import Advisory, Priority
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import MODEL_RATE_HZ

_WAIT_S_MAX = 10.0
"""IEC 60601-2-27 wants the alert for a silent, slow or fast heart within this time."""
_HYSTERESIS_BPM_MAX = 20.0


@dataclass(frozen=True, slots=True)
class HeartRateLimits:
    """Limits in beats per minute and seconds.

    Raises ``ConfigError`` (``setting-invalid``) for limits that would silence a check: they are never off.
    """

    low_bpm: float = 50.0
    high_bpm: float = 120.0
    extreme_low_bpm: float = 40.0
    extreme_high_bpm: float = 140.0
    asystole_s: float = 4.0
    delay_s: float = 3.0
    hysteresis_bpm: float = 3.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in astuple(self))
        low, high = self.low_bpm, self.high_bpm
        if not (finite and 0 < self.extreme_low_bpm <= low < high <= self.extreme_high_bpm <= 300):
            raise ConfigError(
                "setting-invalid",
                "heart-rate limits must rise: 0 < extreme_low_bpm <= low_bpm < high_bpm <= extreme_high_bpm <= 300",
            )
        if not (1 <= self.asystole_s <= _WAIT_S_MAX and 0 <= self.delay_s <= _WAIT_S_MAX):
            raise ConfigError(
                "setting-invalid",
                "asystole_s must lie between 1 and 10 and delay_s between 0 and 10 seconds (IEC 60601-2-27: an alert "
                "within 10 s)",
            )
        if not 0 <= self.hysteresis_bpm <= _HYSTERESIS_BPM_MAX:
            raise ConfigError("setting-invalid", "hysteresis_bpm must lie between 0 and 20")


@dataclass(frozen=True, slots=True)
class _Check:
    code: str
    text: str
    priority: Priority
    limit_bpm: float
    below: bool

    def broken(self, rate_bpm: float, margin_bpm: float) -> bool:
        if self.below:
            return rate_bpm < self.limit_bpm + margin_bpm
        return rate_bpm > self.limit_bpm - margin_bpm


class HeartRateAlerts:
    """Threshold alerts of one bed from its detected beats. Time is the sample index at the model rate."""

    def __init__(self, limits: HeartRateLimits | None = None) -> None:
        self._limits = limits or HeartRateLimits()
        low, high = self._limits.low_bpm, self._limits.high_bpm
        self._checks = (
            _Check("hr-extreme-low", "Extreme bradycardia", Priority.HIGH, self._limits.extreme_low_bpm, below=True),
            _Check("hr-extreme-high", "Extreme tachycardia", Priority.HIGH, self._limits.extreme_high_bpm, below=False),
            _Check("hr-low", "Heart rate low", Priority.MEDIUM, low, below=True),
            _Check("hr-high", "Heart rate high", Priority.MEDIUM, high, below=False),
        )
        self._active: dict[str, Advisory] = {}
        self._broken_since: dict[str, int] = {}

    @property
    def active(self) -> tuple[Advisory, ...]:
        """Alerts now raised."""
        return tuple(self._active.values())

    def passed(
        self, index: int, rate_bpm: float | None, silent_samples: int | None, *, beat_since: bool = True
    ) -> list[Advisory]:
        """Time has come to ``index``.

        ``rate_bpm``: the heart rate, None when unknown. ``silent_samples``: samples since the last beat on usable
        leads, None when no lead is usable: then nothing is concluded and nothing is cleared. ``beat_since``: whether a
        beat was detected since leads became usable; only a beat ends asystole, never a lead that was off meanwhile.
        """
        if silent_samples is None:
            return []
        changed: list[Advisory] = []
        asystole = silent_samples >= self._limits.asystole_s * MODEL_RATE_HZ
        asystole = asystole or ("asystole" in self._active and not beat_since)
        changed += self._set("asystole", "No beat detected", Priority.HIGH, index, raised=asystole)
        if rate_bpm is None:
            self._broken_since.clear()  # the delay counts time at a known rate
            return changed
        for check in self._checks:
            margin = self._limits.hysteresis_bpm if check.code in self._active else 0.0
            if not check.broken(rate_bpm, margin):
                self._broken_since.pop(check.code, None)
                changed += self._set(check.code, check.text, check.priority, index, raised=False)
                continue
            since = self._broken_since.setdefault(check.code, index)
            if index - since >= self._limits.delay_s * MODEL_RATE_HZ:
                changed += self._set(check.code, check.text, check.priority, index, raised=True)
        return changed

    def _set(self, code: str, text: str, priority: Priority, index: int, *, raised: bool) -> list[Advisory]:
        known = self._active.get(code)
        if raised and known is None:
            self._active[code] = Advisory(code, text, priority, index, active=True)
            return [self._active[code]]
        if not raised and known is not None:
            return [self._active.pop(code).ended()]
        return []
