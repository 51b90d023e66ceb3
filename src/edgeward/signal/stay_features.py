"""``stay-features-1``: a stay's numerics → one vector, causal, by time, the same code in training and at the bedside.

The cost of an update and of a vector does not depend on how long a stay lasts, and memory is bounded. A batch of stays
on one clock is computed at once (training replays thousands of hourly tables in lock-step); a bed is a batch of one.
NaN is "not known". Names are ``channel.family`` or ``channel.family.hours``::

    last      newest value, while it stands (``Channel.stands_s``)
    age       hours since the newest value, at most ``AGE_H_MAX``
    own       newest hour less the mean of the whole stay so far
    peak dip  greatest and least hour of the whole stay so far
    mean low high spread slope cover .Nh    over the hours of the last N: mean, least, greatest, standard deviation,
              change per hour (least squares), share of those hours of the stay that have a value
    above below .Nh                         hours of the last N with a mean beyond ``BEYOND``
    change    newest value less the mean of what was measured a day and more before (three days at most)
    first     newest value less the stay's first
    low high .72h                           of laboratory values, over the last three days
    cover                                   share of all quarters of a day so far that have a value

Vital signs are kept by the hour and laboratory values by six hours; the newest hour is the running one. What several
channels say together stands in ``stay_together``.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal.history import NS_PER_S, History
from edgeward.signal.stay_channels import CHANNEL_OF, CHANNELS, LABS, LINE_SILENT_S, VITALS
from edgeward.signal.stay_together import TOGETHER, together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.signal.numeric import Numeric

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

NAME = "stay-features-1"
"""As a manifest calls this preprocessing."""
WINDOWS_H = (6, 12, 24, 72)
AGE_H_MAX = 200.0
BEYOND: Mapping[str, tuple[float | None, float | None]] = MappingProxyType(
    {
        "hr": (None, 100.0), "spo2": (94.0, None), "temp": (36.0, 38.0), "sys": (100.0, None), "map": (65.0, None),
        "rr": (None, 22.0),
    }
)  # fmt: skip
"""Channel → below, above: limits of SIRS (Bone 1992), qSOFA (Seymour 2016) and the Surviving Sepsis Campaign's MAP."""
BEYOND_H = (24, 72)

_HOUR_NS = 3600 * NS_PER_S
_NEVER_NS = (1 << 63) - 1
_VITAL_HOURS = 72
_LAB_BUCKET_H, _LAB_BUCKETS, _DAY = 6.0, 12, 4
_WINDOW = ("mean", "low", "high", "spread", "slope", "cover")
_LAB = ("last", "age", "change", "first", "low.72h", "high.72h", "cover")
_POINTS_MIN = 3
"""Hours that a slope needs; a spread needs two."""


def _names() -> tuple[str, ...]:
    names = [f"{channel.name}.{family}" for family in ("last", "age", "own", "peak", "dip") for channel in VITALS]
    names += [f"{channel.name}.{family}.{hours}h" for family in _WINDOW for channel in VITALS for hours in WINDOWS_H]
    for name, limits in BEYOND.items():
        names += [
            f"{name}.{family}.{hours}h"
            for family, limit in zip(("below", "above"), limits, strict=True)
            if limit is not None
            for hours in BEYOND_H
        ]
    names += [f"{channel.name}.{family}" for family in _LAB for channel in LABS]
    return (*names, *TOGETHER, "hours_in", "hours_before", "age_y", "male")


NAMES: tuple[str, ...] = _names()
"""Every feature that ``StayFeatures.all_values`` gives, in its order."""
_POSITION: Mapping[str, int] = MappingProxyType({name: index for index, name in enumerate(NAMES)})


class StayFeatures:
    """The state of a batch of ``stays``, and the features ``names`` (F) of it.

    ``hours_in_max``: where ``hours_in`` stops growing (ADR 14). Raises ``ValueError`` for a name that is not among
    ``NAMES``.
    """

    def __init__(self, names: Sequence[str] = NAMES, *, stays: int = 1, hours_in_max: float = math.inf) -> None:
        unknown = [name for name in names if name not in _POSITION]
        if unknown:
            raise ValueError(f"there is no feature {unknown[0]!r}")
        self.names = tuple(names)
        self._hours_in_max = hours_in_max
        self._chosen = np.array([_POSITION[name] for name in names], dtype=np.intp)
        self._vitals = History([c.name for c in VITALS], bucket_s=3600.0, buckets=_VITAL_HOURS, stays=stays)
        self._labs = History([c.name for c in LABS], bucket_s=3600.0 * _LAB_BUCKET_H, buckets=_LAB_BUCKETS, stays=stays)
        self._began_ns = np.zeros(stays, dtype=np.int64)
        self._watched_ns = np.full(stays, _NEVER_NS, dtype=np.int64)
        self._hours_before = np.full(stays, np.nan)
        self._age_y = np.full(stays, np.nan)
        self._male = np.full(stays, np.nan)
        self._preferred_ns: dict[int, int] = {}

    def begin(
        self,
        at_ns: int | npt.NDArray[np.int64],
        age_y: float | Array,
        male: float | Array,
        hours_before: float | Array = math.nan,
    ) -> None:
        """When the stays began, ages in years, 1 for a man and 0 for a woman, hours in hospital before this care.

        NaN where not known.
        """
        self._began_ns[:] = at_ns
        self._hours_before[:] = hours_before
        self._age_y[:] = age_y
        self._male[:] = male

    def update(self, numeric: Numeric) -> None:
        """Take one numeric of a batch of one. What no feature needs, and what is not measured, changes nothing."""
        channel = CHANNEL_OF.get(numeric.kind)
        if channel is None or numeric.value is None:
            return
        if len(CHANNELS[channel].kinds) > 1:
            if numeric.kind is CHANNELS[channel].kinds[0]:
                self._preferred_ns[channel] = max(numeric.at_ns, self._preferred_ns.get(channel, numeric.at_ns))
            elif numeric.at_ns - self._preferred_ns.get(channel, -(1 << 62)) < LINE_SILENT_S * NS_PER_S:
                return
        if CHANNELS[channel].low <= numeric.value <= CHANNELS[channel].high:
            vital = channel < len(VITALS)
            history, offset = (self._vitals, 0) if vital else (self._labs, len(VITALS))
            self._watched_ns[0] = min(int(self._watched_ns[0]), numeric.at_ns)
            history.put(0, channel - offset, numeric.value, numeric.at_ns)

    def observe(self, stays: Index, channels: Index, values: Array, at_ns: int) -> None:
        """Take values of ``channels`` (positions in ``CHANNELS``) of ``stays`` at one instant; each pair once."""
        kept = (values >= _LOW[channels]) & (values <= _HIGH[channels])
        vital = channels < len(VITALS)
        for history, chosen, offset in ((self._vitals, kept & vital, 0), (self._labs, kept & ~vital, len(VITALS))):
            if chosen.any():
                self._watched_ns[stays[chosen]] = np.minimum(self._watched_ns[stays[chosen]], at_ns)
                history.put(stays[chosen], channels[chosen] - offset, values[chosen], at_ns)

    def vector(self, now_ns: int) -> npt.NDArray[np.float32]:
        """The chosen features at ``now_ns`` (S, F); NaN where not known."""
        chosen: npt.NDArray[np.float32] = self.all_values(now_ns)[:, self._chosen].astype(np.float32)
        return chosen

    def all_values(self, now_ns: int) -> Array:
        """Every feature of ``NAMES`` at ``now_ns`` (S, all)."""
        for history in (self._vitals, self._labs):
            history.advance(now_ns)
        hours_in = (now_ns - self._began_ns) / _HOUR_NS + 1.0
        watched = np.maximum(now_ns - self._watched_ns, 0) / _HOUR_NS + 1.0
        single = np.concatenate([*self._of_vitals(now_ns, watched), *self._of_labs(now_ns, watched)], axis=1)
        held = np.minimum(hours_in, self._hours_in_max)
        facts = np.stack([held, self._hours_before, self._age_y, self._male], axis=1)
        return np.concatenate([single, together(lambda name: single[:, _POSITION[name]]), facts], axis=1)

    def ages_s(self, now_ns: int) -> Array:
        """Seconds since the newest value of each of ``CHANNELS`` (S, K); infinite where there has been none."""
        return np.concatenate([self._vitals.age_s(now_ns), self._labs.age_s(now_ns)], axis=1)

    # --- memory

    def to_memory(self) -> dict[str, Any]:
        """The state of a batch of one as plain JSON values."""
        return {
            "vitals": self._vitals.to_memory(),
            "labs": self._labs.to_memory(),
            "began_ns": int(self._began_ns[0]),
            "watched_ns": int(self._watched_ns[0]),
            "facts": [
                None if math.isnan(fact) else float(fact)
                for fact in (self._age_y[0], self._male[0], self._hours_before[0])
            ],
            "preferred_ns": sorted(self._preferred_ns.items()),
        }

    @classmethod
    def from_memory(
        cls, memory: Mapping[str, Any], names: Sequence[str] = NAMES, *, hours_in_max: float = math.inf
    ) -> StayFeatures:
        """What ``to_memory`` gave; ``InputError`` (``history-memory``) for anything else."""
        made = cls(names, hours_in_max=hours_in_max)
        try:
            vitals, labs = History.from_memory(memory["vitals"]), History.from_memory(memory["labs"])
            for mine, kept in ((made._vitals, vitals), (made._labs, labs)):
                if (mine.channels, mine.buckets, mine.bucket_ns) != (kept.channels, kept.buckets, kept.bucket_ns):
                    raise InputError("history-memory", "the kept state of a stay is another's; its history begins anew")
            made._vitals, made._labs = vitals, labs
            age, male, before = (math.nan if fact is None else float(fact) for fact in memory["facts"])
            made.begin(int(memory["began_ns"]), age, male, before)
            made._watched_ns[0] = int(memory["watched_ns"])
            made._preferred_ns = {int(channel): int(at_ns) for channel, at_ns in memory["preferred_ns"]}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                "history-memory", "the kept state of a stay cannot be read; its history begins anew"
            ) from error
        return made

    # --- families

    def _of_vitals(self, now_ns: int, watched: Array) -> list[Array]:
        history = self._vitals
        hours = history.mean(1)  # (S, 7, 72), the newest first
        own_low, own_high = history.own_range()
        own = hours[..., 0] - history.own_mean()
        last, age = _standing(history, _STANDS_S[: len(VITALS)], now_ns)
        beyond = []
        for name, (below, above) in BEYOND.items():
            row = hours[:, history.channels.index(name)]
            beyond += [(row[:, :span] < below).sum(axis=1) for span in BEYOND_H if below is not None]
            beyond += [(row[:, :span] > above).sum(axis=1) for span in BEYOND_H if above is not None]
        return [
            last,
            age,
            own,
            own_high,
            own_low,
            *_windows(hours, watched),
            np.stack(beyond, axis=1).astype(np.float64),
        ]

    def _of_labs(self, now_ns: int, watched: Array) -> list[Array]:
        history = self._labs
        last, age = _standing(history, _STANDS_S[len(VITALS) :], now_ns)
        there = ~np.isnan(days := history.mean(1)[..., _DAY:])
        count = there.sum(axis=-1)
        before = np.where(there, days, 0.0).sum(axis=-1) / np.where(count > 0, count, np.nan)
        return [
            last,
            age,
            last - before,
            last - history.first,
            history.low(_LAB_BUCKETS)[..., 0],
            history.high(_LAB_BUCKETS)[..., 0],
            history.own_filled() / np.maximum(watched / _LAB_BUCKET_H, 1.0)[:, None],
        ]


_LOW = np.array([channel.low for channel in CHANNELS])
_HIGH = np.array([channel.high for channel in CHANNELS])
_STANDS_S = np.array([channel.stands_s for channel in CHANNELS])
_HOURS_BACK = -np.arange(float(_VITAL_HOURS))


def _standing(history: History, stands_s: Array, now_ns: int) -> tuple[Array, Array]:
    """Newest value while it stands (S, K), and its age in hours (S, K)."""
    age_s = history.age_s(now_ns)
    return np.where(age_s <= stands_s, history.last, np.nan), np.minimum(age_s / 3600.0, AGE_H_MAX)


def _windows(hours: Array, watched: Array) -> list[Array]:
    """The families of ``_WINDOW`` over ``WINDOWS_H``, each (S, 7 · windows), from hour means, newest first.

    ``watched`` (S,): hours since the first value of the stay.
    """
    ends = np.array(WINDOWS_H) - 1
    there = ~np.isnan(hours)
    values = np.where(there, hours, 0.0)
    count, total, square, time, time_square, product = (
        np.cumsum(column, axis=-1)[..., ends]
        for column in (
            there.astype(np.float64),
            values,
            values * values,
            there * _HOURS_BACK,
            there * _HOURS_BACK**2,
            values * _HOURS_BACK,
        )
    )
    low = np.minimum.accumulate(np.where(there, hours, np.inf), axis=-1)[..., ends]
    high = np.maximum.accumulate(np.where(there, hours, -np.inf), axis=-1)[..., ends]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        spread = np.where(count >= 2, np.sqrt(np.maximum(square / count - mean**2, 0.0)), np.nan)
        slope = (count * product - time * total) / (count * time_square - time**2)
    slope = np.where(count >= _POINTS_MIN, slope, np.nan)
    low, high = np.where(count > 0, low, np.nan), np.where(count > 0, high, np.nan)
    stayed = np.minimum(np.array(WINDOWS_H), watched[:, None])  # (S, windows)
    families = (mean, low, high, spread, slope, count / stayed[:, None, :])
    return [family.reshape(len(hours), -1) for family in families]
