"""Labelled windows: what calibration and the gates are fed with, always with the patient beside the window."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWindows:
    """N windows as the model takes them.

    ``inputs``: name → (N, …) floats (kept as float16 where that is enough, given out as float32); ``labels`` (N,) class
    index; ``patients`` (N,) patient id of each window.
    """

    inputs: Mapping[str, npt.NDArray[np.floating]]
    labels: npt.NDArray[np.int64]
    patients: npt.NDArray[np.str_]

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.patients), *(len(array) for array in self.inputs.values())}
        if len(lengths) != 1:
            raise InputError("windows-uneven", "inputs, labels and patients differ in length; build the windows again")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> LabelledWindows:
        """The windows at ``index`` (positions or a mask)."""
        inputs = {name: array[index] for name, array in self.inputs.items()}
        return LabelledWindows(inputs, self.labels[index], self.patients[index])

    def of_patients(self, patients: Collection[str]) -> LabelledWindows:
        """The windows of these patients."""
        return self.take(np.isin(self.patients, sorted(patients)))

    def patient_ids(self) -> tuple[str, ...]:
        """Every patient once, sorted."""
        return tuple(str(patient) for patient in np.unique(self.patients))

    def batches(self, size: int) -> Iterator[dict[str, FloatArray]]:
        """Inputs in batches of at most ``size``, in order."""
        for start in range(0, len(self), size):
            yield {name: array[start : start + size].astype(np.float32) for name, array in self.inputs.items()}

    def floats(self) -> dict[str, FloatArray]:
        """All inputs as float32."""
        return {name: array.astype(np.float32) for name, array in self.inputs.items()}

    def sha256(self) -> str:
        """Hash of names, shapes, values, labels and patients: the data-set hash in evidence."""
        digest = hashlib.sha256()
        named = {**self.inputs, "labels": self.labels, "patients": self.patients}
        for name in sorted(named):
            array = np.ascontiguousarray(named[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def stratified(windows: LabelledWindows, count: int, seed: int, *, floor_per_class: int = 1) -> npt.NDArray[np.intp]:
    """Positions of about ``count`` windows, patients taken in turn so that no long record dominates.

    Every class that occurs keeps at least ``floor_per_class`` windows where it has so many. Sorted; same seed, same
    positions.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(windows))
    chosen: list[int] = []
    for label in np.unique(windows.labels):
        chosen += [int(i) for i in order[windows.labels[order] == label][:floor_per_class]]
    turns: dict[str, list[int]] = {}
    for i in order:
        turns.setdefault(str(windows.patients[i]), []).append(int(i))
    picked = set(chosen)
    depth = 0
    longest = max((len(queue) for queue in turns.values()), default=0)
    while len(picked) < min(count, len(windows)) and depth < longest:
        for patient in sorted(turns):
            if depth < len(turns[patient]) and len(picked) < count:
                picked.add(turns[patient][depth])
        depth += 1
    return np.array(sorted(picked), dtype=np.intp)
