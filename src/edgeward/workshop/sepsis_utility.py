"""The official utility of the PhysioNet/CinC Challenge 2019, from its published definition, for whole tables at once.

Reyna MA, Josef CS, Jeter R, et al. Early Prediction of Sepsis From Clinical Data: the PhysioNet/Computing in Cardiology
Challenge 2019. Crit Care Med 48(2):210-217, 2020. Each row of a patient is an hour, and saying sepsis in it earns or
costs something, by its distance to the onset of sepsis t_sepsis (six rows after the first row labelled 1):

- from 12 h before the onset the reward of saying sepsis rises to 1 at 6 h before it, then falls to 0 at 3 h after
  it; earlier than 12 h before, it costs 0.05;
- saying nothing from 6 h before to 3 h after costs more and more, down to -2;
- later than 3 h after the onset nothing counts;
- saying sepsis of a patient without it costs 0.05, saying nothing costs nothing.

The sum over all rows is scaled so that saying nothing gives 0 and the best that can be said gives 1. As each row counts
by itself, all that matters of it is its *gain*: the utility of saying sepsis less that of saying nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DT_EARLY = -12
DT_OPTIMAL = -6
DT_LATE = 3
MAX_U_TP = 1.0
MIN_U_FN = -2.0
U_FP = -0.05

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Utility:
    """What each row is worth.

    ``gain`` (N,): utility of predicting 1 less that of predicting 0; ``inaction`` (N,): utility of predicting 0;
    ``best`` (N,): where the definition calls saying sepsis best.
    """

    gain: Array
    inaction: Array
    best: Mask

    def rows(self, chosen: Mask) -> Utility:
        """The worth of some rows."""
        return Utility(self.gain[chosen], self.inaction[chosen], self.best[chosen])

    def normalised(self, predicted: Mask) -> float:
        """The official figure of ``predicted`` (N,); NaN where no patient has sepsis."""
        most = float((self.gain * self.best).sum())
        return float((self.gain * predicted).sum()) / most if most > 0 else float("nan")


def utility_of(labels: npt.NDArray[np.integer], starts: Rows) -> Utility:
    """The worth of each row of a table sorted by patient and hour.

    ``labels`` (N,) are the challenge's (1 from six hours before the onset on), ``starts`` (P,) the first row of each
    patient. Time is counted in rows from a patient's first, as the challenge's own program does.
    """
    total = len(labels)
    counts = np.diff(np.append(starts, total))
    index = np.arange(total) - np.repeat(starts, counts)
    first = np.minimum.reduceat(np.where(labels > 0, index, total), starts)
    septic = np.repeat(first < total, counts)
    since_onset = (index - np.repeat(first - DT_OPTIMAL, counts)).astype(np.float64)
    since_onset[~septic] = np.inf
    positive, negative = _septic(since_onset)
    positive = np.where(septic, positive, U_FP)
    negative = np.where(septic, negative, 0.0)
    best = septic & (since_onset >= DT_EARLY) & (since_onset <= DT_LATE)
    return Utility(positive - negative, negative, best)


def _septic(since_onset: Array) -> tuple[Array, Array]:
    """Utility of saying sepsis and of saying nothing, by hours since the onset (negative before it)."""
    rise = MAX_U_TP * (since_onset - DT_EARLY) / (DT_OPTIMAL - DT_EARLY)
    fall = MAX_U_TP * (DT_LATE - since_onset) / (DT_LATE - DT_OPTIMAL)
    missed = MIN_U_FN * (since_onset - DT_OPTIMAL) / (DT_LATE - DT_OPTIMAL)
    early, counts = since_onset <= DT_OPTIMAL, since_onset <= DT_LATE
    positive = np.where(early, np.maximum(rise, U_FP), np.where(counts, fall, 0.0))
    negative = np.where(early | ~counts, 0.0, missed)
    return positive, negative
