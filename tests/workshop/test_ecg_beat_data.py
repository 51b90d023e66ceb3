"""Training strips: matching to the reference, made rhythms, and leaving patients out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.wire.wfdb import Annotations, Record, encode_annotations, encode_record, patient_of
from edgeward.workshop.ecg_beat_data import BeatData, Strip, build, jittered, matched, model_rate_wave, read_strip
from edgeward.workshop.ecg_beat_rhythms import draw_plan, schedule
from edgeward.workshop.ecg_beat_set import SetConfig, ptbxl_banks, ptbxl_donors, training_set
from edgeward.workshop.ecg_beat_synth import BeatBank, bank_of, compose
from edgeward.workshop.golden_wave import golden_wave

if TYPE_CHECKING:
    from pathlib import Path

SPEC = BeatWindowSpec()


def strip(source: str = "p1", beats: int = 60, seed: int = 4) -> Strip:
    wave, at, kinds = golden_wave(beats, seed)
    return Strip(source, wave, at, kinds)


def bank(source: str = "p1", seed: int = 4) -> BeatBank:
    found = bank_of(strip(source, seed=seed))
    assert found is not None
    return found


def test_detections_take_the_class_of_the_reference_beat_near_them() -> None:
    """Within 150 ms a detection has the reference's class, beyond it is unclassifiable, and nothing is doubled."""
    reference = Strip("p", np.zeros((2, 1000), dtype=np.float32), np.array([100, 300, 600]), np.array([0, 2, 1]))
    found = matched(np.array([110, 290, 450, 637, 900]), reference)
    assert found.labels.tolist() == [0, 2, BeatClass.Q, 1, BeatClass.Q]
    assert matched(np.array([400]), reference).labels.tolist() == [BeatClass.Q]
    assert matched(np.array([], dtype=np.int64), reference).labels.size == 0


def test_both_records_of_one_person_are_one_patient() -> None:
    """201 and 202 are the same person; the others are themselves."""
    assert patient_of("202") == patient_of("201") == "201"
    assert patient_of("203") == "203"


def test_leaving_a_patient_out_takes_what_was_made_from_them() -> None:
    """without() removes recorded and made beats in which a left-out patient had any part."""
    data = BeatData.joined([build(strip(name, 12), SPEC) for name in ("a", "made+a+b", "variant+b", "made+c", "ab")])
    assert set(data.without({"b"}).source) == {"a", "made+c", "ab"}
    assert set(data.without({"a"}).source) == {"variant+b", "made+c", "ab"}


def test_beats_and_labels_stay_together(tmp_path: Path) -> None:
    """Every beat of a strip has one window with its own label, also after a forgotten past and on disk."""
    whole = strip()
    data = build(whole, SPEC)
    assert data.index.tolist() == whole.beats.tolist()
    assert data.label.tolist() == whole.labels.tolist()
    data.save(tmp_path / "set.npz")
    again = BeatData.load(tmp_path / "set.npz")
    assert np.array_equal(again.wave, data.wave)
    assert again.source.tolist() == data.source.tolist()
    cold = build(replace(whole, cold_every_s=10.0), SPEC)
    labels = dict(zip(whole.beats.tolist(), whole.labels.tolist(), strict=True))
    assert [labels[i] for i in cold.index.tolist()] == cold.label.tolist()


def test_jitter_keeps_order_and_marks_false_beats() -> None:
    """Moved, missed and false beats stay in order, apart and inside the wave; false ones are unclassifiable."""
    whole = strip(beats=120)
    other = jittered(whole, np.random.default_rng(1), sd_s=0.01, miss=0.1, extra=0.2)
    assert np.all(np.diff(other.beats) > 30)
    assert other.beats.min() >= 0
    assert other.beats.max() < whole.wave.shape[1]
    assert np.sum(other.labels == BeatClass.Q) > np.sum(whole.labels == BeatClass.Q)


def test_schedules_follow_physiology() -> None:
    """Atrial beats come early, fibrillation has no P wave, and every kind of beat appears over many plans."""
    rng = np.random.default_rng(2)
    kinds: set[int] = set()
    for _ in range(40):
        plan = draw_plan(rng, 0.8)
        beats = schedule(plan, 40.0, rng)
        kinds |= {int(beat.cls) for beat in beats}
        assert all(0.2 < beat.rr_s < 4.0 for beat in beats)
        if plan.fibrillation:
            assert all(beat.p_scale == 0.0 for beat in beats if beat.cls is BeatClass.N)
        else:
            early = [beat.rr_s for beat in beats if beat.cls is BeatClass.S]
            usual = np.median([beat.rr_s for beat in beats if beat.cls is BeatClass.N])
            assert not early or np.median(early) < usual
    assert kinds == {BeatClass.N, BeatClass.S, BeatClass.V, BeatClass.F}


def test_a_made_strip_names_everyone_and_repeats_by_seed() -> None:
    """The same seed makes the same strip, whose source names host and donor."""
    first = compose(bank("p1"), bank("p2", 5), np.random.default_rng(7), 20.0)
    again = compose(bank("p1"), bank("p2", 5), np.random.default_rng(7), 20.0)
    assert first.source == "made+p1+p2"
    assert np.array_equal(first.wave, again.wave)
    assert first.beats.tolist() == again.beats.tolist()
    assert np.isfinite(first.wave).all()
    assert first.beats[-1] < first.wave.shape[1]


def test_long_strips_have_rhythms_that_last() -> None:
    """Over many long plans: runs of each kind, paroxysms of fibrillation among sinus beats, and aberrant beats."""
    rng = np.random.default_rng(5)
    longest = {BeatClass.S: 0, BeatClass.V: 0}
    paroxysms = aberrant = 0
    for _ in range(60):
        plan = draw_plan(rng, 0.8, long=True)
        beats = schedule(plan, 300.0, rng)
        run = 0
        for before, beat in pairwise(beats):
            run = run + 1 if beat.cls is before.cls else 1
            if beat.cls in longest:
                longest[beat.cls] = max(longest[beat.cls], run)
        fibrillating = [beat.fibrillating for beat in beats if beat.cls is BeatClass.N]
        paroxysms += any(fibrillating) and not all(fibrillating)
        aberrant += sum(beat.aberrant for beat in beats)
        assert all(0.2 < beat.rr_s < 5.0 for beat in beats)
    assert longest[BeatClass.S] > 40
    assert longest[BeatClass.V] > 20
    assert paroxysms > 5
    assert aberrant > 50


def test_a_pair_of_leads_can_be_asked_for(tmp_path: Path) -> None:
    """Another pair than the bedside's own gives those leads."""
    _record(tmp_path, "901", 0)
    own, turned = model_rate_wave(tmp_path / "901"), model_rate_wave(tmp_path / "901", ("V1", "II"))
    assert np.array_equal(own[::-1], turned)


def test_too_few_beats_give_no_bank() -> None:
    """A strip with less than five usable normal beats is no host."""
    assert bank_of(strip(beats=4)) is None


def _record(folder: Path, name: str, seed: int) -> None:
    wave, beats, labels = golden_wave(60, seed)
    limits = ((-5.0, 5.0), (-5.0, 5.0))
    for file, content in encode_record(Record(name, ("II", "V1"), 250.0, wave, limits)).items():
        (folder / file).write_bytes(content)
    none = np.zeros(beats.size, dtype=np.int64)
    symbols = tuple("NAVF/"[k] for k in labels)
    written = encode_annotations(Annotations(beats, symbols, none, none, none, ("",) * beats.size))
    (folder / f"{name}.atr").write_bytes(written)


def test_a_training_set_holds_recorded_variant_and_made_beats(tmp_path: Path) -> None:
    """From a folder of records come beats of each kind, with the patients in their source."""
    for seed, name in enumerate(("901", "902")):
        _record(tmp_path, name, seed)
    config = SetConfig(strips_per_record=4, record_strip_s=8.0, long_per_record=0)
    data = training_set(tmp_path, ("901", "902"), SPEC, config=config)
    kinds = {str(source).split("+")[0] for source in data.source}
    assert kinds == {"901", "902", "variant", "made"}
    left = {part for source in data.without({"901"}).source for part in str(source).split("+")}
    assert left == {"902", "variant", "made"}


def test_a_record_reads_back_at_the_model_rate(tmp_path: Path) -> None:
    """Wave and reference beats of a written record come back."""
    _record(tmp_path, "901", 0)
    wave, beats, _ = golden_wave(60, 0)
    found = read_strip(tmp_path / "901")
    assert found.beats.tolist() == beats.tolist()
    n = min(wave.shape[1], found.wave.shape[1])
    assert np.abs(found.wave[:, :n] - wave[:, :n]).max() < 0.01


def test_ptbxl_gives_many_hosts(shared_data: Path) -> None:
    """Most PTB-XL records become hosts, some of them fibrillating."""
    if not (shared_data / "ptbxl").is_dir():
        pytest.skip("REAL DATA ABSENT: no ptbxl/ in the data folder")
    banks = ptbxl_banks(shared_data / "ptbxl", most=40)
    assert len(banks) > 20
    assert all(b.patient.startswith("ptb") for b in banks)
    views = ptbxl_banks(shared_data / "ptbxl", most=10, rng=np.random.default_rng(0))
    assert [b.patient for b in views] == [b.patient for b in banks[:10]]
    donors = ptbxl_donors(shared_data / "ptbxl")
    assert len(donors) >= 5
    assert all(b.ventricular for b in donors)
