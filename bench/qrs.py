"""QRS sensitivity and PPV of the streaming detector over a folder of WFDB records (EC57 rules).

Usage: ``python bench/qrs.py DATA_DIR [RECORD ...] [--single-lead]``. Beats within 150 ms of an annotation match;
scoring starts at 5:00; ventricular flutter and fibrillation between ``[`` and ``]`` is left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from edgeward.signal.beat import AAMI_OF_SYMBOL
from edgeward.signal.lead import choose_slots
from edgeward.signal.qrs import QrsDetector
from edgeward.signal.resample import Resampler
from edgeward.wire.wfdb import read_annotations, read_record

MATCH_S = 0.15
SCORED_FROM_S = 300.0


def load(path: Path, leads: int = 2) -> tuple[np.ndarray, float, list[tuple[float, str]], list[tuple[float, float]]]:
    """Wave (C, n) in mV, its rate, beats as (time in s, symbol) and the flutter stretches in s."""

    def read(file: str) -> bytes:
        return (path.parent / file).read_bytes()

    record = read_record(path.name, read)
    notes = read_annotations(path.name, "atr", read, rate_hz=record.rate_hz)
    wave = record.samples[list(choose_slots(record.leads))[:leads]]
    beats = [(s / record.rate_hz, c) for s, c in zip(notes.sample, notes.symbol, strict=True) if c in AAMI_OF_SYMBOL]
    stretches, opened = [], None
    for sample, symbol in zip(notes.sample, notes.symbol, strict=True):
        if symbol == "[":
            opened = sample / record.rate_hz
        elif symbol == "]" and opened is not None:
            stretches.append((opened, sample / record.rate_hz))
            opened = None
    return wave, record.rate_hz, beats, stretches


def detect(wave: np.ndarray, rate_hz: float, block_s: float = 1.0) -> list[float]:
    """Times of the beats in s, fed in blocks as a monitor would."""
    resampler, detector = Resampler(rate_hz, wave.shape[0]), QrsDetector(wave.shape[0])
    found = []
    step = max(int(block_s * rate_hz), 1)
    for start in range(0, wave.shape[1], step):
        block = wave[:, start : start + step]
        out = resampler.push(np.nan_to_num(block))
        found += [beat.index / 250.0 for beat in detector.push(out, np.ones(out.shape, dtype=np.bool_))]
    return found + [beat.index / 250.0 for beat in detector.flush()]


def match(truth: list[float], found: list[float]) -> tuple[list[int], list[int]]:
    """For each true beat the index of its detection or −1, and the detections left over; nearest pairs first."""
    of_truth, used = [-1] * len(truth), set()
    pairs = []
    j0 = 0
    for i, t in enumerate(truth):
        while j0 < len(found) and found[j0] < t - MATCH_S:
            j0 += 1
        j = j0
        while j < len(found) and found[j] <= t + MATCH_S:
            pairs.append((abs(found[j] - t), i, j))
            j += 1
    for _, i, j in sorted(pairs):
        if of_truth[i] < 0 and j not in used:
            of_truth[i] = j
            used.add(j)
    return of_truth, [j for j in range(len(found)) if j not in used]


def score(
    beats: list[tuple[float, str]], found: list[float], stretches: list[tuple[float, float]]
) -> tuple[int, list[tuple[float, str]], list[float], dict[str, list[float]]]:
    """True positives, missed (time, symbol), false detections (time) and the offsets in ms by AAMI class."""

    def counted(t: float) -> bool:
        return t >= SCORED_FROM_S and not any(a - MATCH_S <= t <= b + MATCH_S for a, b in stretches)

    of_truth, extra = match([t for t, _ in beats], found)
    hits, missed, offsets = 0, [], {}
    for (t, symbol), j in zip(beats, of_truth, strict=True):
        if not counted(t):
            continue
        if j < 0:
            missed.append((t, symbol))
        else:
            hits += 1
            offsets.setdefault(AAMI_OF_SYMBOL[symbol].name, []).append(1000.0 * (found[j] - t))
    return hits, missed, [found[j] for j in extra if counted(found[j])], offsets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("records", nargs="*")
    parser.add_argument("--single-lead", action="store_true")
    parser.add_argument("--block-s", type=float, default=1.0)
    parser.add_argument("--errors", action="store_true", help="list each error")
    args = parser.parse_args()
    names = args.records or sorted(p.stem for p in args.data.glob("*.hea") if p.with_suffix(".atr").exists())
    total = np.zeros(3, dtype=int)
    spread: dict[str, list[float]] = {}
    spent = signal_s = 0.0
    print(f"{'record':8}{'beats':>7}{'missed':>8}{'false':>7}{'Se %':>9}{'PPV %':>9}{'sd N ms':>9}{'sd V ms':>9}")
    for name in names:
        wave, rate_hz, beats, stretches = load(args.data / name, 1 if args.single_lead else 2)
        started = time.perf_counter()
        found = detect(wave, rate_hz, args.block_s)
        spent += time.perf_counter() - started
        signal_s += wave.shape[1] / rate_hz
        hits, missed, extra, offsets = score(beats, found, stretches)
        total += (hits, len(missed), len(extra))
        for key, values in offsets.items():
            spread.setdefault(key, []).extend(np.asarray(values) - np.median(offsets.get("N", values)))
        sd = [f"{np.std(offsets[k]):9.1f}" if k in offsets else f"{'':9}" for k in "NV"]
        print(f"{name:8}{hits + len(missed):7}{_row(hits, len(missed), len(extra))}{''.join(sd)}")
        if args.errors:
            print("   missed", [f"{t:.2f}{s}" for t, s in missed], "false", [f"{t:.2f}" for t in extra])
    print(f"{'gross':8}{total[0] + total[1]:7}{_row(*total)}")
    print(f"cost {1000 * spent / max(signal_s, 1e-9):.3f} ms per second of signal in blocks of {args.block_s:g} s")
    for key, values in sorted(spread.items()):
        print(
            f"fiducial {key}: n {len(values)}, mean {np.mean(values):+.1f} ms, sd {np.std(values):.1f} ms, "
            f"within 20 ms {100 * np.mean(np.abs(values) <= 20):.1f} %"
        )


def _row(hits: int, missed: int, extra: int) -> str:
    se, ppv = 100 * hits / max(hits + missed, 1), 100 * hits / max(hits + extra, 1)
    return f"{missed:8}{extra:7}{se:9.3f}{ppv:9.3f}"


if __name__ == "__main__":
    main()
