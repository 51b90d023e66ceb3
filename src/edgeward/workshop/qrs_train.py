"""Train the QRS scorer's trees on WFDB records and write them where the package ships them.

``python -m edgeward.workshop.qrs_train DATA_DIR OUT.npz [--folds 5]``. The detector itself is run over each record,
clean and with hardships (``qrs_noise``), and every candidate's features are kept with the truth. Since features
depend on the beats taken before, part of each run follows the truth and part follows poor policies, so that the
scorer learns to find back from its own mistakes. With ``--folds`` the held-out records are then run through the
streaming detector with trees that never saw them, and the counts are printed (EC57: 150 ms, from 5:00 on, flutter
left out).
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

from edgeward.signal import qrs_score
from edgeward.signal.beat import AAMI_OF_SYMBOL
from edgeward.signal.lead import choose_slots
from edgeward.signal.qrs import QrsDetector
from edgeward.signal.qrs_features import NAMES, features
from edgeward.signal.resample import Resampler
from edgeward.wire.wfdb import read_annotations, read_record
from edgeward.workshop.heap_trees import heap_trees
from edgeward.workshop.qrs_noise import add_noise, erase_beats, stretch, vary_gain, weaken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.signal.qrs_features import Float64Array, Measured, View
    from edgeward.workshop.qrs_noise import Indices, Wave

RATE_HZ = 250
MATCH = 37  # samples: 150 ms
SCORED_FROM = 300 * RATE_HZ
_TRUE_WITHIN = 30
_HARD_STRETCH = 12 * 60 * RATE_HZ
_WEIGHTS = {"clean": 1.0, "two leads": 0.6, "one lead": 0.5}
_ROUNDS = 200
_DRAWS = 2
_SETTINGS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 24,
    "max_depth": qrs_score.DEPTH,
    "learning_rate": 0.08,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "use_missing": False,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record at 250 Hz: rhythm and chest lead, beats, and the stretches of ventricular flutter (k, 2)."""

    name: str
    wave: Wave  # (C, n)
    beats: Indices
    flutter: Indices


@dataclass(frozen=True, slots=True)
class Examples:
    """Candidates of one run: features (m, len(NAMES)), whether a QRS (m,), and their weight in training."""

    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, np.dtype[np.int8]]
    weight: float


_NO_TREES = qrs_score.Trees(
    np.zeros((1, qrs_score.NODES), dtype=np.int64),
    np.zeros((1, qrs_score.NODES)),
    np.zeros((1, qrs_score.NODES + 1)),
)


class _Recorder(QrsDetector):
    """A detector that keeps every candidate's features and takes beats by the truth or by a poor policy in turn."""

    def __init__(self, channels: int, beats: Indices, rng: np.random.Generator) -> None:
        super().__init__(channels, trees=_NO_TREES)
        self.rows: list[Float64Array] = []
        self.places: list[int] = []
        self._beats, self._rng = beats, rng
        self._until, self._how = 0, ""

    def _confidence(self, view: View, this: Measured) -> float:
        x = features(view, this, self._memory)
        self.rows.append(x)
        self.places.append(view.index)
        while view.index >= self._until:
            poor = self._how == "truth"
            self._how = str(self._rng.choice(["rule", "big", "any"])) if poor else "truth"
            self._until += int(RATE_HZ * (self._rng.uniform(4, 15) if poor else self._rng.uniform(20, 60)))
        if self._how == "rule":
            return rule(x)
        if self._how == "big":
            return float(this.amp > 0.6)
        if self._how == "any":
            return float(this.amp > 0.25)
        near = int(np.searchsorted(self._beats, view.index))
        true = any(abs(int(b) - view.index) <= _TRUE_WITHIN for b in self._beats[max(near - 1, 0) : near + 1])
        return float(true != (self._rng.random() < 0.01))


def rule(x: Float64Array) -> float:
    """Plain rules of the classical kind (threshold falls with the gap, T wave by slope): a baseline, a poor policy."""
    f = dict(zip(NAMES, x.tolist(), strict=True))
    known = f["beats_known"] >= 4
    relative = math.sqrt(max(f["amp_med"], 1e-3) * max(f["amp"], 1e-3)) if known else f["amp"]
    steepness = f["slope_med"] if known else f["amp"]
    needed = 0.42
    if f["dt_med"] > 1.2:
        needed /= 1.0 + 0.6 * (min(f["dt_med"], 2.2) - 1.2)
    if f["dt_s"] < 0.40:
        needed = max(needed, 0.55) * (1.5 if steepness < 0.6 else 1.0)
    if f["after"] > 1.6 and f["dt_med"] < 1.3:
        needed *= 1.5
    excess = (0.6 * relative + 0.4 * steepness - needed) / needed
    return 1.0 / (1.0 + math.exp(-8.0 * min(max(excess, -5.0), 5.0)))


def load(folder: Path, name: str) -> Record:
    """Read a WFDB record with its ``.atr`` beats, resampled to 250 Hz; ``InputError`` for a damaged one."""

    def read(file: str) -> bytes:
        return (folder / file).read_bytes()

    record = read_record(name, read)
    notes = read_annotations(name, "atr", read, rate_hz=record.rate_hz)
    wave = np.nan_to_num(record.samples[list(choose_slots(record.leads))])
    scale = RATE_HZ / record.rate_hz
    marks = [(round(s * scale), c) for s, c in zip(notes.sample, notes.symbol, strict=True)]
    opened = [s for s, c in marks if c == "["]
    closed = [s for s, c in marks if c == "]"]
    flutter = np.asarray(list(zip(opened, closed, strict=False)), dtype=np.int64).reshape(-1, 2)
    beats = np.asarray([s for s, c in marks if c in AAMI_OF_SYMBOL], dtype=np.int64)
    return Record(name, Resampler(record.rate_hz, wave.shape[0]).push(wave), beats, flutter)


def hardened(record: Record, kind: str, rng: np.random.Generator) -> Record:
    """Twelve minutes of the record made harder, with both leads or with one of them."""
    start = int(rng.integers(0, max(record.wave.shape[1] - _HARD_STRETCH, 1)))
    wave = record.wave[:, start : start + _HARD_STRETCH]
    beats = record.beats[(record.beats >= start) & (record.beats < start + wave.shape[1])] - start
    flutter = record.flutter - start
    if kind == "one lead":
        lead = int(rng.integers(wave.shape[0]))
        wave = wave[lead : lead + 1]
    wave, beats = erase_beats(weaken(wave, rng), beats, rng)
    if kind == "two leads":
        factor = float(rng.uniform(0.85, 1.2))
        wave, beats = stretch(wave, beats, factor)
        flutter = np.rint(flutter * factor).astype(np.int64)
    wave = add_noise(vary_gain(wave, rng), beats, rng, share=0.25 if kind == "two leads" else 0.4)
    return Record(record.name, wave, beats, flutter)


def examples(record: Record, kind: str, seed: int = 0) -> Examples:
    """Run the recorder over the record, clean or hardened, and label its candidates."""
    rng = np.random.default_rng([seed, *record.name.encode(), *kind.encode()])
    if kind != "clean":
        record = hardened(record, kind, rng)
    recorder = _Recorder(record.wave.shape[0], record.beats, rng)
    recorder.push(record.wave, np.ones(record.wave.shape, dtype=np.bool_))
    places = np.asarray(recorder.places, dtype=np.int64)
    y = np.zeros(places.size, dtype=np.int8)
    for beat, k in zip(record.beats, np.searchsorted(places, record.beats), strict=True):
        near = [q for q in (k - 1, k) if 0 <= q < places.size and abs(places[q] - beat) <= MATCH]
        if near:
            y[min(near, key=lambda q: abs(places[q] - beat))] = 1
    keep = np.ones(places.size, dtype=np.bool_)
    for start, stop in record.flutter:
        keep &= (places < start - 75) | (places > stop + 75)
    return Examples(np.asarray(recorder.rows, dtype=np.float32)[keep], y[keep], _WEIGHTS[kind])


def all_examples(record: Record) -> list[Examples]:
    """The candidates of the clean record and of each hardened version, with several draws of policy and hardship."""
    return [examples(record, kind, seed) for kind in _WEIGHTS for seed in range(_DRAWS)]


def fit(sets: Sequence[Examples]) -> qrs_score.Trees:
    """Boosted trees on the candidates of many runs."""
    weight = np.concatenate([np.full(s.y.size, s.weight) for s in sets])
    data = lightgbm.Dataset(
        np.concatenate([s.x for s in sets]), np.concatenate([s.y for s in sets]), weight=weight, params=_SETTINGS
    )
    grown = heap_trees(lightgbm.train(_SETTINGS, data, _ROUNDS), qrs_score.DEPTH)
    return qrs_score.Trees(grown.feature, grown.threshold, grown.leaf)


def count(record: Record, trees: qrs_score.Trees) -> tuple[int, int, int]:
    """True, missed and false beats of the streaming detector with these trees on a clean record."""
    detector = QrsDetector(record.wave.shape[0], trees=trees)
    found = [
        b.index for b in (*detector.push(record.wave, np.ones(record.wave.shape, dtype=np.bool_)), *detector.flush())
    ]
    taken: set[int] = set()
    hits = missed = 0
    for beat in record.beats.tolist():
        near = [k for k, f in enumerate(found) if abs(f - beat) <= MATCH and k not in taken]
        if near:
            taken.add(min(near, key=lambda k: abs(found[k] - beat)))
        if _scored(beat, record):
            hits, missed = (hits + 1, missed) if near else (hits, missed + 1)
    false = sum(_scored(f, record) for k, f in enumerate(found) if k not in taken)
    return hits, missed, false


def _scored(at: int, record: Record) -> bool:
    return at >= SCORED_FROM and not any(a - MATCH <= at <= b + MATCH for a, b in record.flutter.tolist())


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write; with ``--folds`` cross-validate by record as well."""
    parser = argparse.ArgumentParser(prog="python -m edgeward.workshop.qrs_train", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=int, default=0, help="then cross-validate over this many groups of records")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run the detector over the records")
    args = parser.parse_args(argv)
    names = sorted(p.stem for p in args.data.glob("*.hea") if p.with_suffix(".atr").exists())
    records = [load(args.data, name) for name in names]
    with ProcessPoolExecutor(args.jobs) as pool:
        sets = list(pool.map(all_examples, records))
        args.out.write_bytes(qrs_score.write_trees(fit([one for of_record in sets for one in of_record])))
        print(f"trees written to {args.out}", flush=True)  # noqa: T201
        if args.folds:
            _cross_validate(records, sets, args.folds, pool)
    return 0


def _cross_validate(records: list[Record], sets: list[list[Examples]], folds: int, pool: ProcessPoolExecutor) -> None:
    held_out, models = [], []
    for fold in range(folds):
        trees = fit([one for k, of_record in enumerate(sets) if k % folds != fold for one in of_record])
        held_out += records[fold::folds]
        models += [trees] * len(records[fold::folds])
    total = np.zeros(3, dtype=np.int64)
    for record, counts in zip(held_out, pool.map(count, held_out, models), strict=True):
        total += counts
        print(record.name, "true {} missed {} false {}".format(*counts), flush=True)  # noqa: T201
    hits, missed, false = total.tolist()
    se, ppv = hits / max(hits + missed, 1), hits / max(hits + false, 1)
    print(f"gross: sensitivity {se:.4%}, PPV {ppv:.4%} ({missed} missed, {false} false)")  # noqa: T201


if __name__ == "__main__":
    raise SystemExit(main())
