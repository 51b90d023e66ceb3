"""`edgeward evaluate ecg-beat` over made-up WFDB records: the road that a blind data set will take."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bedside.source.simulator import Episode, SimulatorSource
from edgeward.bedside.source.wfdb import load_annotations
from edgeward.bedside.system import SystemClock
from edgeward.cli.main import main
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.testing.bundles import tiny_bundle
from edgeward.wire.wfdb import Annotations, Record, encode_annotations, encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPEC = BeatWindowSpec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated records with their truth: 2 leads at 360 Hz, 12 at 500 Hz, 1 at 257 Hz; and a tiny bundle."""
    path = tmp_path_factory.mktemp("records")
    for name, leads, rate_hz, seed in (
        ("a1", ("II", "V1"), 360.0, 1),
        ("b12", ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"), 500.0, 2),
        ("c1", ("V5",), 257.0, 3),
    ):
        source = SimulatorSource(
            SystemClock(),
            rate_hz=rate_hz,
            leads=leads,
            seed=seed,
            duration_s=90.0,
            speed=0.0,
            scenario=[Episode(20.0, "pvc"), Episode(50.0, "pac")],
        )
        samples = np.concatenate([block.samples for block in source.blocks()], axis=1)
        truth = source.beats_until(samples.shape[1])
        record = Record(name, leads, rate_hz, samples, ((-5.0, 5.0),) * len(leads))
        for file, content in encode_record(record).items():
            (path / file).write_bytes(content)
        annotations = Annotations.of([index for index, _ in truth], [symbol for _, symbol in truth])
        (path / f"{name}.atr").write_bytes(encode_annotations(annotations))
    channels, samples_ = SPEC.wave_shape
    (path / "tiny.ewb").write_bytes(
        tiny_bundle(
            channels=channels,
            samples=samples_,
            rhythm=SPEC.rhythm_len,
            preprocessing_params=SPEC.to_params(),
            decision={"log_offsets": [0.0] * 5},
        )
    )
    return path


def _run(folder: Path, *more: str) -> int:
    bundle = str(folder / "tiny.ewb")
    verb = ["evaluate", "ecg-beat", "--data", str(folder), "--bundle", bundle, "--start", "5", "--workers", "1"]
    return main([*verb, *more])


def test_any_leads_and_rate_give_figures_and_annotation_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line is one JSON object; every simulated beat is found; the files read back."""
    assert _run(folder, "--json", "--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert {"qrs", "sveb", "veb", "records"} <= set(result)
    for measure in ("qrs", "sveb", "veb"):
        assert {"se", "ppv", "fpr", "ci", "gross", "average"} <= set(result[measure])
    assert [record["record"] for record in result["records"]] == ["a1", "b12", "c1"]
    assert result["qrs"]["se"] > 0.98
    assert result["qrs"]["ppv"] > 0.98
    found = load_annotations(tmp_path / "a1", "edw", rate_hz=360.0)
    truth = load_annotations(folder / "a1", "atr", rate_hz=360.0)
    late = truth.sample[(truth.sample > 5 * 360) & (truth.sample < 85 * 360)]
    assert all(np.min(np.abs(found.sample - at)) <= 54 for at in late)


def test_annotation_files_are_read_by_wfdb(folder: Path, tmp_path: Path) -> None:
    """What we write is what the reference library reads."""
    wfdb = pytest.importorskip("wfdb")
    assert _run(folder, "--records", "a1", "--out", str(tmp_path)) == 0
    read = wfdb.rdann(str(tmp_path / "a1"), "edw")
    assert set(read.symbol) <= set("NSVFQ")
    assert list(read.sample) == list(load_annotations(tmp_path / "a1", "edw", rate_hz=360.0).sample)


def test_bounds_decide_the_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound that holds is exit 0, a broken one exit 1 and a line that names it, a malformed one exit 2."""
    assert _run(folder, "--records", "a1", "--min", "qrs.se=0.9", "qrs.ppv=90") == 0
    assert _run(folder, "--records", "a1", "--min", "veb.se=1.0,sveb.se=1.0") == 1
    assert "BOUND BROKEN: " in capsys.readouterr().out
    assert _run(folder, "--records", "a1", "--min", "veb=1") == 2
    assert "veb.se=0.97" in capsys.readouterr().err


def test_a_second_bound_or_list_of_records_adds_to_the_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An option given twice never drops what was asked for first: a gate would pass in silence."""
    assert _run(folder, "--records", "a1", "--min", "veb.se=1.0", "--min", "qrs.se=0.9") == 1
    assert "BOUND BROKEN: veb.se" in capsys.readouterr().out
    assert _run(folder, "--records", "a1", "--records", "c1.hea", "--json") == 0
    records = json.loads(capsys.readouterr().out.splitlines()[-1])["records"]
    assert [record["record"] for record in records] == ["a1", "c1"]


def _copy(folder: Path, to: Path, *names: str) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        for suffix in ("hea", "dat", "atr"):
            (to / f"{name}.{suffix}").write_bytes((folder / f"{name}.{suffix}").read_bytes())
    return to


def _evaluate(folder: Path, data: Path, *more: str) -> int:
    verb = ["evaluate", "ecg-beat", "--data", str(data), "--bundle", str(folder / "tiny.ewb"), "--start", "5"]
    return main([*verb, "--workers", "1", *more])


def test_records_without_annotations_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not scored is said, in words and in the object; a folder without any annotation is refused."""
    data = _copy(folder, tmp_path, "a1", "c1")
    (data / "a1.atr").unlink()
    assert _evaluate(folder, data, "--json") == 0
    said = capsys.readouterr()
    assert "not scored: a1 " in said.err
    result = json.loads(said.out.splitlines()[-1])
    assert (result["unannotated"], len(result["records"])) == (["a1"], 1)
    assert _evaluate(folder, data, "--records", "a1,c1") == 2
    assert "no .atr annotations lie beside: a1" in capsys.readouterr().err
    (data / "c1.atr").unlink()
    assert _evaluate(folder, data) == 2
    assert "none of the 2 WFDB records" in capsys.readouterr().err


def test_records_in_folders_below_are_found_where_the_folder_has_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record's name is then its path, its annotation file keeps that path, and no name leads out of the folder."""
    data = tmp_path / "data"
    _copy(folder, data / "ward" / "one", "c1")
    assert _evaluate(folder, data, "--json", "--out", str(tmp_path / "out")) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [record["record"] for record in result["records"]] == ["ward/one/c1"]
    assert len(load_annotations(tmp_path / "out" / "ward" / "one" / "c1", "edw", rate_hz=257.0)) > 50
    for wrong in ("ward/../ward/one/c1", str(data / "ward" / "one" / "c1")):
        assert _evaluate(folder, data, "--records", wrong) == 2
    _copy(folder, data, "c1")
    capsys.readouterr()
    assert _evaluate(folder, data, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [record["record"] for record in result["records"]] == ["c1"]


def test_a_record_in_segments_is_scored_as_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its segments are no unannotated records beside it."""
    data = _copy(folder, tmp_path, "c1")
    samples = (data / "c1.hea").read_text().split()[3]
    (data / "whole.hea").write_text(f"whole/1 1 257 {samples}\nc1 {samples}\n")
    (data / "c1.atr").rename(data / "whole.atr")
    assert _evaluate(folder, data, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [record["record"] for record in result["records"]] == ["whole"]
    assert result["unannotated"] == []
    assert result["qrs"]["se"] > 0.98


def test_an_error_in_another_process_is_said_as_in_this_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --model is a sentence with its code, however many processes look for it."""
    for workers in ("1", "2"):
        assert _run(folder, "--records", "a1,c1", "--workers", workers, "--model", "none") == 5
        assert "[model-unknown]" in capsys.readouterr().err


def test_a_full_disk_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An annotation file that cannot be written is the operator's to mend, and none is left half written."""

    def full(handle: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgeward.trust.durable.os.write", full)
    assert _run(folder, "--records", "a1", "--out", str(tmp_path)) == 2
    monkeypatch.undo()
    assert "[disk-full]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_every_process_at_once(folder: Path) -> None:
    """The terminal's Ctrl-C reaches them all: one line is said, by one of them."""
    verb = ["evaluate", "ecg-beat", "--data", str(folder), "--bundle", str(folder / "tiny.ewb"), "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "edgeward.cli.main", *verb],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as evaluation:
        assert evaluation.stderr is not None
        evaluation.stderr.readline()  # the first record is done, the others are under way
        os.killpg(evaluation.pid, signal.SIGINT)
        _, error = evaluation.communicate(timeout=60)
    assert evaluation.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in error


def test_a_record_too_short_to_be_scored_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EC57 scores from 5:00 on: a recording of 90 s has nothing there, and figures that are not defined."""
    assert _run(folder, "--records", "a1", "--start", "300", "--json") == 0
    said = capsys.readouterr()
    assert "no reference beat after 300 s" in said.err
    assert json.loads(said.out.splitlines()[-1])["qrs"]["se"] is None


def test_damaged_records_are_refused_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A truncated record is named and left out, the others are scored; allowed, what is there of it is streamed."""
    for file in folder.glob("a1.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    signal = tmp_path / "a1.dat"
    signal.write_bytes(signal.read_bytes()[: signal.stat().st_size // 2])
    verb = ["evaluate", "ecg-beat", "--data", str(tmp_path), "--bundle", str(folder / "tiny.ewb"), "--start", "5"]
    assert main(verb) == 3
    error = capsys.readouterr().err
    assert "record a1" in error
    for file in folder.glob("c1.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for workers in ("1", "2"):
        assert main([*verb, "--json", "--workers", workers]) == 3
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [record["record"] for record in result["records"]] == ["c1"]
        assert len(result["refused"]) == 1
    assert main([*verb, "--allow-truncated"]) == 0
    assert main([*verb, "--records", "zz"]) == 2


def test_a_record_named_twice_counts_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gross figures are over records, not over mentions of them."""
    assert _run(folder, "--records", "a1,a1", "a1", "--json") == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["records"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--bundle", "there-is-none.ewb"),
        ("--out", "/dev/null/below-a-file"),
        ("--start", "nan"),
        ("--start", "-1"),
        ("--cross-validate", "0"),
        ("--cross-validate", "-3"),
        ("--workers", "0"),
        ("--records", ","),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    """Exit code 2 and a sentence, not a traceback after hours; and no fold number is silently ignored."""
    named = () if wrong[0] == "--records" else ("--records", "a1")
    assert _run(folder, *named, *wrong) == 2
    said = capsys.readouterr()
    assert said.err.startswith("edgeward: ")
    assert said.out == ""


def test_cross_validation_needs_no_bundle_shipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folds decide as the workshop does, or as the bundle named does: the shipped one may be of an older kind."""
    asked: list[object] = []

    def folds(data: Path, records: Sequence[str], count: int, work: Path, **more: object) -> dict[str, Path]:
        asked.append(more["decision"])
        return dict.fromkeys(records, folder / "tiny.ewb")

    def none(name: str) -> Path:
        raise AssertionError(name)

    monkeypatch.setattr("edgeward.evaluate.cross_validate.fold_bundles", folds)
    monkeypatch.setattr("edgeward.cli.evaluate.shipped_bundle", none)
    verb = ["evaluate", "ecg-beat", "--data", str(folder), "--records", "a1", "--start", "5", "--cross-validate", "2"]
    assert main(verb) == 0
    assert main([*verb, "--bundle", str(folder / "tiny.ewb")]) == 0
    assert asked == [{}, {"log_offsets": [0.0] * 5}]
    assert "a1" in capsys.readouterr().out
