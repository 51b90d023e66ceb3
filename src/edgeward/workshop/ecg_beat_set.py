"""Everything the beat model learns from: recorded strips, the same without a past or a second lead, and made strips."""

from __future__ import annotations

import ast
import csv
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import find_peaks

from edgeward.kernel.errors import ConfigError
from edgeward.signal.beat import BeatClass
from edgeward.workshop.ecg_beat_data import (
    RATE_HZ,
    BeatData,
    IntArray,
    Strip,
    build,
    detected,
    jittered,
    model_rate_wave,
    read_strip,
)
from edgeward.workshop.ecg_beat_synth import BeatBank, bank_of, compose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeward.signal.preprocess import BeatWindowSpec
    from edgeward.workshop.ecg_beat_data import FloatArray

_SINUS = {"SR", "SARRH", "SBRAD", "STACH", "NORM"}
# Statements under which not every beat of the ten seconds is surely sinus or surely fibrillation.
_UNSURE = {"PVC", "PAC", "AFLT", "PACE", "SVARR", "SVTAC", "PSVT", "BIGU", "TRIGU", "2AVB", "3AVB", "WPW"}
_PTBXL_TABLE = "ptbxl_database.csv"


@dataclass(frozen=True, slots=True)
class SetConfig:
    """How much of each kind is made."""

    seed: int = 5
    strips_per_record: int = 8
    record_strip_s: float = 60.0
    strips_per_ptbxl: int = 1
    strips_per_fibrillation: int = 4
    ptbxl_strip_s: float = 50.0
    strips_per_pair: int = 1
    """Strips of each PTB-XL record in a random pair of its leads, beside those in the pair the bedside would choose."""
    long_per_record: int = 2
    long_ptbxl_share: float = 0.15
    long_strip_s: float = 420.0
    """Strips with room for runs that outlast the memory of the present rhythm."""
    donor_share: float = 0.6
    stranger_share: float = 0.3
    """Of the strips with a donor's ventricular beats, those whose donor is from PTB-XL."""
    cold_every_s: float = 45.0
    one_lead_share: float = 0.3


def training_set(
    folder: Path,
    records: Sequence[str],
    spec: BeatWindowSpec,
    *,
    ptbxl: Path | None = None,
    config: SetConfig | None = None,
) -> BeatData:
    """Windows of ``records`` in ``folder`` (WFDB with ``.atr``) and of what is made from them and from PTB-XL.

    Recorded beats stand at the positions the bedside's own detector gives. ``BeatData.source`` is the patient for
    those, and ``variant+…`` or ``made+…`` with every patient involved for the rest; ``without`` takes both out.
    """
    config = config or SetConfig()
    rng = np.random.default_rng(config.seed)
    parts: list[BeatData] = []
    banks: list[BeatBank] = []
    for name in records:
        strip = read_strip(folder / name)
        parts.append(build(detected(strip), spec))
        parts.append(build(_variant(strip, config, rng), spec))
        bank = bank_of(strip)
        if bank is not None and not _paced(strip):
            banks.append(bank)
    donors = [bank for bank in banks if len(bank.ventricular) >= 5]
    jobs = [(bank, config.strips_per_record, config.record_strip_s) for bank in banks]
    jobs += [(bank, config.long_per_record, config.long_strip_s) for bank in banks]
    strangers: list[BeatBank] = []
    if ptbxl is not None:
        strangers = ptbxl_donors(ptbxl)
        for bank in ptbxl_banks(ptbxl):
            count = config.strips_per_fibrillation if bank.fibrillating else config.strips_per_ptbxl
            jobs.append((bank, count, config.ptbxl_strip_s))
            if rng.random() < config.long_ptbxl_share:
                jobs.append((bank, 1, config.long_strip_s))
        jobs += [(bank, config.strips_per_pair, config.ptbxl_strip_s) for bank in ptbxl_banks(ptbxl, rng=rng)]
    for host, count, seconds in jobs:
        for _ in range(count):
            donor = None
            if donors and rng.random() < config.donor_share:
                among = strangers if strangers and rng.random() < config.stranger_share else donors
                donor = among[int(rng.integers(len(among)))]
            made = jittered(compose(host, donor, rng, seconds), rng, sd_s=0.008, miss=0.003, extra=0.002)
            parts.append(build(made, spec))
    return BeatData.joined(parts)


def _variant(strip: Strip, config: SetConfig, rng: np.random.Generator) -> Strip:
    """The first half with reference positions, forgotten pasts, and sometimes without its second lead."""
    wave = strip.wave
    if rng.random() < config.one_lead_share:
        wave = np.stack([wave[0], np.zeros_like(wave[1])])
    half = wave.shape[1] // 2
    first = strip.beats < half - RATE_HZ
    other = replace(
        strip,
        source=f"variant+{strip.source}",
        wave=wave[:, :half],
        beats=strip.beats[first],
        labels=strip.labels[first],
        cold_every_s=config.cold_every_s,
    )
    return jittered(other, rng, sd_s=0.008, miss=0.004, extra=0.002)


def _paced(strip: Strip) -> bool:
    return bool(np.mean(strip.labels == BeatClass.Q) > 0.3)


def ptbxl_banks(folder: Path, *, most: int | None = None, rng: np.random.Generator | None = None) -> list[BeatBank]:
    """Beats of the PTB-XL records whose statements say sinus rhythm (any conduction) or fibrillation, and no ectopy.

    ``most``: stop after so many. ``rng``: draw a pair of leads for each record, for another view of the same hearts.
    Raises ``ConfigError`` (``data-missing``) when the table is not there.
    """
    banks: list[BeatBank] = []
    for row, path in _ptbxl_records(folder):
        if most is not None and len(banks) >= most:
            break
        codes = set(ast.literal_eval(row["scp_codes"]))
        fibrillating = "AFIB" in codes
        if codes & _UNSURE or row["extra_beats"].strip() or not (fibrillating or codes & _SINUS):
            continue
        wave = model_rate_wave(path, _drawn_pair(rng) if rng is not None else None)
        beats = plain_peaks(wave)
        if not fibrillating and _irregular(beats):
            continue
        strip = Strip(_patient(row), wave, beats, np.zeros(beats.size, dtype=np.int64))
        bank = bank_of(strip, fibrillating=fibrillating)
        if bank is not None:
            banks.append(bank)
    return banks


def ptbxl_donors(folder: Path) -> list[BeatBank]:
    """Ventricular beats of PTB-XL records that are said to hold some: those early and unlike the others."""
    banks: list[BeatBank] = []
    for row, path in _ptbxl_records(folder):
        codes = set(ast.literal_eval(row["scp_codes"]))
        said = "PVC" in codes or "VES" in row["extra_beats"].replace("SVES", "")
        if not said or codes & {"PACE", "PAC", "WPW"}:
            continue
        wave = model_rate_wave(path)
        beats = plain_peaks(wave)
        bank = bank_of(Strip(_patient(row), wave, beats, _strange(wave, beats)), least=1)
        if bank is not None and bank.ventricular:
            banks.append(bank)
    return banks


def _strange(wave: FloatArray, beats: IntArray) -> IntArray:
    """V for complexes that came early and are unlike the usual one of the strip, else N."""
    labels = np.zeros(beats.size, dtype=np.int64)
    inside = np.flatnonzero((beats >= 40) & (beats + 60 < wave.shape[1]))
    if inside.size < 4:
        return labels
    cuts = np.stack([wave[:, beats[k] - 30 : beats[k] + 45] for k in inside])
    cuts = (cuts - cuts.mean(axis=2, keepdims=True)).reshape(inside.size, -1)
    usual = np.median(cuts, axis=0)
    corr = cuts @ usual / np.maximum(np.linalg.norm(cuts, axis=1) * np.linalg.norm(usual), 1e-6)
    rr = np.diff(beats, prepend=beats[0] - np.median(np.diff(beats)))
    early = rr[inside] < 0.9 * np.median(rr)
    labels[inside[early & (corr < 0.6)]] = int(BeatClass.V)
    return labels


def _drawn_pair(rng: np.random.Generator) -> tuple[str, str]:
    first = str(rng.choice(["II", "I", "V5", "aVF"], p=[0.5, 0.15, 0.2, 0.15]))
    return first, str(rng.choice([name for name in ("V1", "V2", "V4", "V5", "III") if name != first]))


def _ptbxl_records(folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Rows of the table whose recordings are there."""
    table = folder / _PTBXL_TABLE
    if not table.is_file():
        raise ConfigError("data-missing", f"the PTB-XL folder holds no {_PTBXL_TABLE}; name the folder of PTB-XL 1.0.x")
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            path = _record_path(folder, row["filename_hr"])
            if path is not None:
                yield row, path


def _patient(row: dict[str, str]) -> str:
    return f"ptb{round(float(row['patient_id']))}"


def _record_path(folder: Path, relative: str) -> Path | None:
    """The record where PTB-XL has it, or flat in ``records500``."""
    for path in (folder / relative, folder / "records500" / relative.rsplit("/", 1)[-1]):
        if path.with_suffix(".hea").is_file():
            return path
    return None


def plain_peaks(wave: FloatArray) -> IntArray:
    """Positions of the QRS complexes of ten clean seconds: too short for a detector that learns the patient first."""
    slope = wave[:, 4:] - wave[:, :-4]
    slope = slope / np.maximum(np.percentile(np.abs(slope), 99, axis=1, keepdims=True), 0.02)
    energy = np.convolve((slope * slope).sum(axis=0), np.ones(11) / 11.0, mode="same")
    found, _ = find_peaks(energy, height=0.3 * np.percentile(energy, 97), distance=75)
    return np.asarray(found + 2, dtype=np.int64)


def _irregular(beats: IntArray) -> bool:
    if beats.size < 6:
        return True
    rr = np.diff(beats)
    return bool(rr.std() / rr.mean() > 0.15)
