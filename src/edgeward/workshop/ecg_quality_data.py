"""Recordings of the 12-lead acceptability question: one ``.npz`` of the shape that Challenge 2011 data comes in.

Nothing but numpy is needed here, so that a device can be judged without the libraries that train.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal.acceptability import LEADS, RATE_HZ, SECONDS_MIN, features

if TYPE_CHECKING:
    from pathlib import Path

IntArray = npt.NDArray[np.int16]
MV_PER_UNIT = 0.005
"""The converter's step in the challenge's recordings: 200 units per mV, which gives QRS complexes of 1 to 2 mV."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """``units`` (N, 12, n) as converted; ``acceptable`` (N,) 1, 0, or −1 where nobody judged; a fingerprint of each."""

    units: npt.NDArray[np.int16]
    acceptable: npt.NDArray[np.int8]
    fingerprints: tuple[str, ...]

    @property
    def judged(self) -> npt.NDArray[np.intp]:
        """Indices of the recordings with a label."""
        return np.flatnonzero(self.acceptable >= 0)

    def blank(self) -> npt.NDArray[np.bool_]:
        """Recordings (N,) without any signal in any lead: alike in every patient, so they identify nobody."""
        constant: npt.NDArray[np.bool_] = (np.ptp(self.units, axis=2) == 0).all(axis=1)
        return constant


def load(path: Path) -> Recordings:
    """Read ``path``: ``adu`` (N, 12, n), ``acceptable`` (N,), and ``fs`` where stated, which must be 500.

    The arrays may be of any number type, as long as ``adu`` holds whole numbers of 16 bits. Raises ``InputError``
    (``quality-data``) for anything else, pickled content included.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            units, acceptable = archive["adu"], archive["acceptable"]
            rate_hz = float(archive["fs"]) if "fs" in archive else float(RATE_HZ)
    except FileNotFoundError as error:
        raise InputError("quality-data", f"there is no file {path}; name an .npz of recordings with --data") from error
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            "quality-data",
            f"{path.name} is not an .npz with the arrays adu and acceptable, or it is damaged; name such a file",
        ) from error
    if units.ndim != 3 or units.shape[1] != len(LEADS) or units.shape[2] < SECONDS_MIN * RATE_HZ:
        raise InputError("quality-data", f"adu in {path.name} must have the shape (N, 12, n) with at least 5 s each")
    if rate_hz != RATE_HZ:
        raise InputError("quality-data", f"the recordings in {path.name} must be sampled at {RATE_HZ} Hz")
    codes = _whole(units)
    if codes is None:
        raise InputError(
            "quality-data", f"adu in {path.name} must hold the converter's units: whole numbers from -32768 to 32767"
        )
    labels = _whole(acceptable)
    if labels is None or labels.shape != (len(codes),) or not np.isin(labels, (-1, 0, 1)).all():
        raise InputError("quality-data", f"acceptable in {path.name} must hold 1, 0 or -1 for each recording")
    return Recordings(codes, labels.astype(np.int8), tuple(_fingerprint(one) for one in codes))


def _whole(values: npt.NDArray[np.generic]) -> IntArray | None:
    """The same numbers as int16; None where one of them is none: a fraction, NaN, or too large.

    Who saves the arrays anew may well widen them, so their type says nothing of what they hold.
    """
    if values.dtype.kind not in "biuf":
        return None
    with np.errstate(invalid="ignore"):  # a NaN becomes some number, and so differs from what it was
        narrow: IntArray = values.astype(np.int16, copy=False)
    return narrow if np.array_equal(narrow, values) else None


def _fingerprint(units: npt.NDArray[np.int16]) -> str:
    """64 bits of the SHA-256 of the samples, little-endian, lead after lead: enough to tell recordings apart."""
    return hashlib.sha256(np.ascontiguousarray(units, dtype="<i2").tobytes()).hexdigest()[:16]


def measure(units: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Features (N, F) of recordings (N, 12, n)."""
    return np.array([features(one * MV_PER_UNIT, RATE_HZ) for one in units])
