"""Choose the decision offsets of the beat model on scores from patients held out, and say what they are worth.

``python -m edgeward.workshop.ecg_beat_offsets DATA --extra-data PTBXL [--work build/cross-validate]`` comes after
``edgeward evaluate ecg-beat --cross-validate 5``, which leaves its folds in the work folder. The figures are on
windows, from 5:00 on, paced records left out. Two are printed: with the offsets chosen on all patients (slightly
optimistic), and nested: each fold decided with offsets chosen on the other four.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.beat import BeatClass
from edgeward.workshop.ecg_beat_data import RATE_HZ
from edgeward.workshop.ecg_beat_task import FOLDS, TASK
from edgeward.workshop.folder import BuildFolder
from edgeward.workshop.metrics import decide
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.task import TrainOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.workshop.scorer import FloatArray

IntArray = npt.NDArray[np.int64]

START = 300 * RATE_HZ
_PACED_SHARE = 0.3
_S_OFFSETS = np.arange(-2.5, 0.51, 0.25)
_V_OFFSETS = np.arange(-1.0, 1.01, 0.25)
_REST = (-0.5, -0.5)
"""F and Q are too few to choose by."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Out-of-fold scores (n, 5) of windows, with label, patient and fold (n,)."""

    scores: FloatArray
    label: IntArray
    patient: npt.NDArray[np.str_]
    fold: IntArray

    def take(self, rows: npt.NDArray[np.bool_]) -> Scored:
        """The given rows."""
        return Scored(self.scores[rows], self.label[rows], self.patient[rows], self.fold[rows])


def counts(label: IntArray, called: IntArray, cls: BeatClass) -> tuple[int, int, int]:
    """True positives, misses and false positives by EC57: F called V is no false positive of V."""
    spared = (BeatClass.F,) if cls is BeatClass.V else ()
    hit = int(np.sum((label == cls) & (called == cls)))
    missed = int(np.sum((label == cls) & (called != cls)))
    false = int(np.sum((label != cls) & (called == cls) & ~np.isin(label, spared)))
    return hit, missed, false


def worth(scored: Scored, called: IntArray) -> float:
    """What the choice maximises: F1 of S and V over all beats, and over patients counted by the root of their beats.

    Gross figures alone would be ruled by the two or three patients who have most of a class.
    """
    total = 0.0
    for cls in (BeatClass.S, BeatClass.V):
        gross, rooted = np.zeros(3), np.zeros(3)
        for patient in np.unique(scored.patient):
            rows = scored.patient == patient
            mine = np.array(counts(scored.label[rows], called[rows], cls), dtype=np.float64)
            gross += mine
            root = np.sqrt(max(1.0, mine[0] + mine[1]))
            rooted += (mine[0] / root, mine[1] / root, np.sqrt(mine[2]))
        total += _f1(gross) + _f1(rooted)
    return total


def choose(scored: Scored) -> tuple[float, ...]:
    """The offsets of the grid with the greatest ``worth``."""

    def value(pair: tuple[float, float]) -> float:
        return worth(scored, decide(scored.scores, (0.0, *pair, *_REST)))

    best = max(product(_S_OFFSETS.tolist(), _V_OFFSETS.tolist()), key=value)
    return (0.0, *best, *_REST)


def nested(scored: Scored) -> IntArray:
    """Classes (n,): each fold decided with the offsets chosen on the other folds."""
    called = np.zeros(scored.label.size, dtype=np.int64)
    for fold in np.unique(scored.fold):
        mine = scored.fold == fold
        called[mine] = decide(scored.scores[mine], choose(scored.take(~mine)))
    return called


def out_of_fold(data: Path, extra: Path | None, work: Path, model: str = "int8") -> Scored:
    """Scores of the folds that ``evaluate --cross-validate`` left in ``work``, each of its own held-out patients."""
    parts = []
    for number in range(1, len(FOLDS) + 1):
        folder = BuildFolder(work / f"fold-{number}-of-{len(FOLDS)}", cache=work / "cache")
        whole = TASK.prepare(TrainOptions(data=data, extra=extra, fold=(number, len(FOLDS))), folder.cache)
        held = whole.whole.take(np.isin(whole.whole.source, list(whole.held_out_patients)))
        inputs = {"wave": held.wave, "rhythm": held.rhythm}
        scores = Scorer(folder.read("compress", f"{model}.onnx")).scores(inputs)
        counted = (held.index >= START) & ~np.isin(held.source, _paced(held.source, held.label))
        fold = np.full(len(held), number)
        parts.append(Scored(scores, held.label, held.source, fold).take(counted))
    return Scored(*(np.concatenate([getattr(part, name) for part in parts]) for name in Scored.__slots__))


def _paced(source: npt.NDArray[np.str_], label: IntArray) -> list[str]:
    return [p for p in np.unique(source) if np.mean(label[source == p] == BeatClass.Q) > _PACED_SHARE]


def _f1(three: npt.NDArray[np.float64]) -> float:
    return float(2 * three[0] / max(1.0, 2 * three[0] + three[1] + three[2]))


def _line(name: str, scored: Scored, called: IntArray) -> str:
    shown = []
    for cls in (BeatClass.V, BeatClass.S):
        hit, missed, false = counts(scored.label, called, cls)
        se, ppv = hit / max(1, hit + missed), hit / max(1, hit + false)
        shown.append(f"{cls.name} sensitivity {se:.2%}, PPV {ppv:.2%}")
    return f"{name}: {'; '.join(shown)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the offsets and the figures."""
    parser = argparse.ArgumentParser(prog="python -m edgeward.workshop.ecg_beat_offsets", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--extra-data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/cross-validate"))
    parser.add_argument("--model", choices=("fp32", "int8"), default="int8")
    args = parser.parse_args(argv)
    scored = out_of_fold(args.data, args.extra_data, args.work, args.model)
    offsets = choose(scored)
    print("offsets", list(offsets))  # noqa: T201
    print(_line("chosen on all", scored, decide(scored.scores, offsets)))  # noqa: T201
    print(_line("nested", scored, nested(scored)))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
