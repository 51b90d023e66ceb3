"""`edgeward evaluate ecg-beat` over made-up WFDB records: the road that a blind data set will take."""

from __future__ import annotations

import json
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
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    """Exit code 2 and a sentence, not a traceback after hours; and no fold number is silently ignored."""
    assert _run(folder, "--records", "a1", *wrong) == 2
    said = capsys.readouterr()
    assert said.err.startswith("edgeward: ")
    assert said.out == ""
