"""``stay-features-1``: a stay's numerics → one vector, causal, by time, the same code in training and at the bedside.

Update and vector cost do not depend on how long a stay lasts; memory is bounded. A batch of stays on one clock is
computed at once (training replays thousands of hourly tables in lock-step); a bed is a batch of one. NaN is "not
known". Names are ``channel.family`` or ``channel.family.hours``::

    last        newest value, while it stands (``Channel.stands_s``)
    age         hours since the newest value, at most ``AGE_H_MAX``
    hour        mean of the last hour
    own         hour less the mean of the whole stay so far
    mean low high spread slope cover .Nh      over the hour means of the last N hours: mean, least, greatest, standard
                deviation, change per hour (least squares), share of hours with a value
    change      newest value less the mean of what was measured a day and more before
    first       newest value less the stay's first
    low high cover .72h                       over the last three days
    shock …     what several channels say together (``_together``)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

NAME = "stay-features-1"
WINDOWS_H = (3, 6, 12, 24)
AGE_H_MAX = 200.0
_VITAL_BUCKET_S, _LAB_BUCKET_S = 900.0, 6 * 3600.0
_HOUR = round(3600 / _VITAL_BUCKET_S)
_DAY_BUCKETS, _LAB_BUCKETS = 24, 12
_WINDOW = ("mean", "low", "high", "spread", "slope", "cover")


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature for people: its name, a label and a UCUM unit ("1" where it has none), decimals worth showing."""

    name: str
    label: str
    unit: str
    decimals: int = 1
