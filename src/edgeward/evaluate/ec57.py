"""Beat-by-beat comparison by ANSI/AAMI EC57, as WFDB's ``bxb`` carries it out.

Rules and where they come from (ANSI/AAMI EC57:1998 as ``bxb`` of the WFDB software implements it, and bxb(1)):

* Scoring starts at 5:00. A detection just before the start may match the first reference beat; a detection within one
  match window after the start whose successor is the better match belongs to a beat before the start: not counted.
* A pair matches within 150 ms, taken as ``bxb`` does: ``floor(0.15 × rate + 0.5)`` samples, inclusive (54 at 360 Hz).
  One to one, in order of time: the earlier of the two is paired unless its own file's next annotation is as near to the
  other or nearer.
* Between ``[`` and ``]`` of the reference (flutter or fibrillation) nothing counts: its beats are dropped, and a
  detection that stays unmatched inside is not an extra one. So are beats between ``[`` and ``]`` of the tested file.
* Fusion (F) or unclassifiable (Q) called V is no VEB false positive and no true negative; Q called S is no SVEB false
  positive. V called F or Q, and S called V, F or Q, are misses. A tested beat called Q is a detected QRS and neither S
  nor V; Edgeward writes Q where the beat's window was withheld.
* FPR = FP ÷ (TN + FP). TN of VEB: everything not V in the reference and detected as not V, extra detections included;
  of SVEB by the same rule. Missed beats stand in no FPR. ``bxb`` prints no SVEB FPR; it is formed here in the same way.
* Records with paced beats stand in the QRS figures and not in the VEB and SVEB figures (EC57).
* Classes are those of EC57 and de Chazal et al. 2004 (``signal.beat``): atrial and nodal escape beats are N; ``bxb``
  itself puts ``e``, ``j`` and ``n`` in S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.beat import AAMI_OF_SYMBOL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.wire.wfdb import Annotations

CountArray = npt.NDArray[np.int64]
FigureArray = npt.NDArray[np.float64]

START_S = 300.0
WINDOW_S = 0.150
EXTRA = 5
"""Row of detections without a reference beat (O of EC57)."""
MISSED = 5
"""Column of reference beats without a detection (o and x of EC57)."""
ROWS = "NSVFQO"
COLUMNS = "nsvfqo"

_N, _S, _V, _F, _Q = range(5)
_FAR = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Counts (6, 6): rows are reference classes N S V F Q and extra, columns tested classes n s v f q and missed.

    The sum of two is the confusion of both stretches together, so that gross figures come from a sum.
    """

    counts: CountArray

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Confusion) and bool(np.array_equal(self.counts, other.counts))

    def __hash__(self) -> int:
        return hash(self.counts.tobytes())

    @classmethod
    def empty(cls) -> Confusion:
        """No beat at all."""
        return cls(np.zeros((6, 6), dtype=np.int64))

    @classmethod
    def total(cls, parts: Iterable[Confusion]) -> Confusion:
        """Sum of many."""
        return sum(parts, start=cls.empty())

    @property
    def qrs(self) -> Figures:
        """QRS detection; it has no true negatives and so no FPR."""
        return _figures(qrs_counts(self.counts))

    @property
    def veb(self) -> Figures:
        """Ventricular ectopic beats."""
        return _figures(veb_counts(self.counts))

    @property
    def sveb(self) -> Figures:
        """Supraventricular ectopic beats."""
        return _figures(sveb_counts(self.counts))


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and the fractions (0 to 1) they give; a fraction whose denominator is zero is None ("–" in EC57)."""

    tp: int
    fn: int
    fp: int
    tn: int | None

    @property
    def beats(self) -> int:
        """Reference beats of the class."""
        return self.tp + self.fn

    @property
    def se(self) -> float | None:
        """Sensitivity TP ÷ (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def ppv(self) -> float | None:
        """Positive predictive value (+P) TP ÷ (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def fpr(self) -> float | None:
        """False-positive rate FP ÷ (TN + FP)."""
        return None if self.tn is None else _ratio(self.fp, self.tn + self.fp)


def compare(
    reference: Annotations,
    test: Annotations,
    rate_hz: float,
    *,
    start_s: float = START_S,
    window_s: float = WINDOW_S,
    stop_s: float | None = None,
) -> Confusion:
    """Compare the beats of ``test`` with those of ``reference``, both in samples of ``rate_hz``.

    ``stop_s`` is the record's end, None for the end of both files. Only the defaults conform to EC57.
    """
    window = _samples(window_s, rate_hz)
    start = _samples(start_s, rate_hz)
    stop = _FAR - 1 if stop_s is None else _samples(stop_s, rate_hz)
    truth = _Beats(reference)
    found = _Beats(test)
    counts = np.zeros((6, 6), dtype=np.int64)
    i, j = _enter(truth, found, start, window, counts)
    while truth.time[i] <= stop or found.time[j] <= stop:
        a, b = truth.time[i], found.time[j]
        if b < a:  # the detection comes first: pair it unless the next detection is as near or nearer
            if a - b <= window and a - b < abs(a - found.time[j + 1]):
                counts[truth.kind[i], found.kind[j]] += 1
                i += 1
            elif not truth.in_fibrillation(b):
                counts[EXTRA, found.kind[j]] += 1
            j += 1
        else:  # the beat comes first, or both at once: pair it unless the next beat is as near or nearer
            if b - a <= window and b - a < abs(b - truth.time[i + 1]):
                counts[truth.kind[i], found.kind[j]] += 1
                j += 1
            else:
                counts[truth.kind[i], MISSED] += 1
            i += 1
    return Confusion(counts)


def is_paced(reference: Annotations) -> bool:
    """Whether a record holds paced beats, which takes it out of the VEB and SVEB figures."""
    return "/" in reference.symbol


def qrs_counts(counts: CountArray) -> CountArray:
    """(…, 6, 6) → (…, 4): TP, FN, FP and −1 (no true negatives) of QRS detection."""
    tp = counts[..., :5, :5].sum(axis=(-2, -1))
    return np.stack(
        (tp, counts[..., :5, MISSED].sum(axis=-1), counts[..., EXTRA, :5].sum(axis=-1), -np.ones_like(tp)), -1
    )


def veb_counts(counts: CountArray) -> CountArray:
    """(…, 6, 6) → (…, 4): TP, FN, FP, TN of VEB detection."""
    return _class_counts(counts, _V, false=(_N, _S, EXTRA))


def sveb_counts(counts: CountArray) -> CountArray:
    """(…, 6, 6) → (…, 4): TP, FN, FP, TN of SVEB detection."""
    return _class_counts(counts, _S, false=(_N, _V, _F, EXTRA))


def rates(four: CountArray) -> FigureArray:
    """(…, 4) TP, FN, FP, TN → (…, 3) Se, PPV, FPR; NaN where undefined."""
    tp, fn, fp, tn = (four[..., k].astype(np.float64) for k in range(4))
    tn = np.where(tn < 0, np.nan, tn)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack((tp / (tp + fn), tp / (tp + fp), fp / (tn + fp)), axis=-1)


def _class_counts(counts: CountArray, wanted: int, *, false: tuple[int, ...]) -> CountArray:
    tp = counts[..., wanted, wanted]
    fn = counts[..., wanted, :].sum(axis=-1) - tp
    fp = counts[..., false, wanted].sum(axis=-1)
    other_rows = [row for row in range(6) if row != wanted]
    other_columns = [column for column in range(5) if column != wanted]
    tn = counts[..., other_rows, :][..., other_columns].sum(axis=(-2, -1))
    return np.stack((tp, fn, fp, tn), axis=-1)


class _Beats:
    """Beats of one file in time order, with two unreachable ones after the last, and its fibrillation stretches."""

    def __init__(self, annotations: Annotations) -> None:
        self.time: list[int] = []
        self.kind: list[int] = []
        self._spans: list[tuple[int, int]] = []
        began: int | None = None
        order = np.argsort(annotations.sample, kind="stable").tolist()
        for k in order:
            at, symbol = int(annotations.sample[k]), annotations.symbol[k]
            if began is not None:
                if symbol == "]":
                    self._spans.append((began, at))
                    began = None
            elif symbol == "[":
                began = at
            elif (kind := AAMI_OF_SYMBOL.get(symbol)) is not None:
                self.time.append(at)
                self.kind.append(int(kind))
        if began is not None:
            self._spans.append((began, _FAR))
        self.time += [_FAR, 2 * _FAR]

    def in_fibrillation(self, at: int) -> bool:
        """Whether ``at`` lies between [ and ], both included."""
        return any(began <= at <= ended for began, ended in self._spans)

    def first_from(self, start: int) -> int:
        """Index of the first beat at ``start`` or later."""
        return next(k for k, at in enumerate(self.time) if at >= start)


def _enter(truth: _Beats, found: _Beats, start: int, window: int, counts: CountArray) -> tuple[int, int]:
    """Where the comparison begins in both files, by bxb's rules for the first match window."""
    i, j = truth.first_from(start), found.first_from(start)
    first = truth.time[i]
    if j > 0:
        early = first - found.time[j - 1]
        if early <= window and early < abs(first - found.time[j]):
            counts[truth.kind[i], found.kind[j - 1]] += 1
            return i + 1, j
    if found.time[j] - start <= window and abs(first - found.time[j + 1]) < abs(first - found.time[j]):
        j += 1
    return i, j


def _samples(seconds: float, rate_hz: float) -> int:
    return math.floor(seconds * rate_hz + 0.5)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _figures(four: CountArray) -> Figures:
    tp, fn, fp, tn = (int(x) for x in four)
    return Figures(tp, fn, fp, None if tn < 0 else tn)
