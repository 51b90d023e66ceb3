"""The line: each step leaves what the next one needs; nothing unchanged is repeated; a failed gate stops it."""

# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from pathlib import Path

from toy_task import ToyTask

from edgeward.bundle.archive import read_bundle
from edgeward.cli import publish
from edgeward.cli import workshop as cli
from edgeward.kernel.errors import ConfigError
from edgeward.workshop import line as lines
from edgeward.workshop import task as tasks
from edgeward.workshop.evidence import GateFailed
from edgeward.workshop.folder import BuildFolder
from edgeward.workshop.line import Line, LineOptions
from edgeward.workshop.task import TrainOptions
from edgeward.workshop.verify import Bounds

pytestmark = pytest.mark.workshop
EASY = Bounds(agreement_min=0.9, macro_f1_drop_max=10.0, int8_bytes_max=0.9)


@pytest.fixture(autouse=True)
def _quiet_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def _options(tmp_path: Path) -> LineOptions:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    return LineOptions(
        TrainOptions(data, fold=(2, 6), seed=1, epochs=25), method="minmax", bounds=EASY, latency_runs=40
    )


def test_one_call_makes_a_bundle_and_a_second_one_repeats_nothing(tmp_path: Path) -> None:
    """From data to a bundle; again with the same inputs trains and measures nothing, and gives the same bytes."""
    said: list[tuple[str, str]] = []
    task, folder = ToyTask(), BuildFolder(tmp_path / "build")
    path = Line(task, folder, _options(tmp_path), lambda step, text: said.append((step, text))).build()
    first = path.read_bytes()
    bundle = read_bundle(first)
    facts = json.loads(bundle.members["evidence.json"])["facts"]
    assert facts["training"]["held_out_patients"] == ["b"]
    assert facts["accuracy"]["data"] == "held-out"
    assert "b" not in facts["calibration"]["patients"]
    assert bundle.manifest.version == "0.1.0"
    said.clear()
    assert Line(task, folder, _options(tmp_path), lambda s, t: said.append((s, t))).build().read_bytes() == first
    assert task.trained == 1
    assert [step for step, text in said if text == "unchanged"] == ["train", "export", "compress", "verify"]


def test_a_changed_input_repeats_the_steps_behind_it(tmp_path: Path) -> None:
    """Another seed trains anew; a file changed by hand is made again."""
    task, folder = ToyTask(), BuildFolder(tmp_path / "build")
    options = _options(tmp_path)
    Line(task, folder, options).build()
    folder.path("export", "fp32.onnx").write_bytes(b"damaged")
    said: list[tuple[str, str]] = []
    Line(task, folder, options, lambda step, text: said.append((step, text))).build()
    assert ("train", "unchanged") in said
    assert ("export", "unchanged") not in said
    Line(task, folder, replace(options, train=replace(options.train, seed=2))).build()
    assert task.trained == 2


def test_another_decision_trains_nothing(tmp_path: Path) -> None:
    """Offsets are chosen from the scores of weights that stay: the gates are measured anew, the bundle carries them."""
    task, folder = ToyTask(), BuildFolder(tmp_path / "build")
    options = _options(tmp_path)
    Line(task, folder, options).build()
    said: list[tuple[str, str]] = []
    offsets = [0.0, -0.5, 0.0, 0.0, 0.0]
    other = replace(options, decision={"log_offsets": offsets})
    path = Line(task, folder, other, lambda step, text: said.append((step, text))).build()
    assert task.trained == 1
    assert [step for step, text in said if text == "unchanged"] == ["train", "export", "compress"]
    assert read_bundle(path.read_bytes()).manifest.decision == {"log_offsets": offsets}


def test_a_failed_gate_leaves_evidence_and_no_bundle(tmp_path: Path) -> None:
    """The measurement is kept for reading, pack refuses, and the next run measures again."""
    folder = BuildFolder(tmp_path / "build")
    options = replace(_options(tmp_path), bounds=replace(EASY, agreement_min=1.01))
    line = Line(ToyTask(), folder, options)
    with pytest.raises(GateFailed, match="agreement"):
        line.build()
    assert folder.path("verify", "evidence.json").is_file()
    with pytest.raises(GateFailed):
        line.pack()
    assert not list(folder.root.rglob("*.ewb"))
    assert Line(ToyTask(), folder, replace(options, bounds=EASY)).build().is_file()


def test_pruning_gives_a_smaller_model_judged_against_the_whole(tmp_path: Path) -> None:
    """With --prune the bundle's FP32 file shrinks and its gates name it beside INT8."""
    folder = BuildFolder(tmp_path / "build")
    options = replace(_options(tmp_path), prune=0.5, distil_steps=60, bounds=Bounds(0.5, 60.0, 2.0))
    task = ToyTask()
    task.f1_drop_max = {}
    bundle = read_bundle(Line(task, folder, options).build().read_bytes())
    assert len(bundle.members["models/fp32.onnx"]) < len(folder.read("export", "fp32.onnx"))
    evidence = json.loads(bundle.members["evidence.json"])
    assert {gate["model"] for gate in evidence["gates"] if gate["name"] == "agreement"} == {"fp32", "int8"}
    assert evidence["facts"]["pruning"]["weights_after"] < evidence["facts"]["pruning"]["weights_before"]


def test_weights_made_elsewhere_can_be_adopted(tmp_path: Path) -> None:
    """--weights takes the place of training; a missing file is the operator's error."""
    task, folder = ToyTask(), BuildFolder(tmp_path / "one")
    Line(task, folder, _options(tmp_path)).train()
    weights = folder.path("train", "weights.pt")
    adopted = replace(_options(tmp_path), weights=weights)
    Line(task, BuildFolder(tmp_path / "two"), adopted).train()
    assert task.trained == 1
    with pytest.raises(ConfigError) as caught:
        Line(task, BuildFolder(tmp_path / "three"), replace(adopted, weights=tmp_path / "none.pt")).train()
    assert caught.value.code == "weights-unreadable"


def test_a_step_without_the_step_before_says_which_verb_is_missing(tmp_path: Path) -> None:
    """export without train, pack without verify: the message names the verb."""
    line = Line(ToyTask(), BuildFolder(tmp_path / "build"), _options(tmp_path))
    with pytest.raises(ConfigError, match="edgeward train"):
        line.export()
    with pytest.raises(ConfigError, match="edgeward verify"):
        line.pack()


def test_interrupted_training_leaves_no_step_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during training: nothing counts as done, and the next run trains."""
    task, folder = ToyTask(), BuildFolder(tmp_path / "build")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(task, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Line(task, folder, _options(tmp_path)).train()
    Line(task, folder, _options(tmp_path)).train()
    assert task.trained == 1


def _run(*words: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    cli.register(verbs)
    publish.register(verbs)
    arguments = parser.parse_args(words)
    code: int = arguments.run(arguments)
    return code


@pytest.fixture
def toy_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command line with the toy in the place of ecg-beat; gives the build folder."""
    monkeypatch.setattr(tasks, "find_task", lambda name: ToyTask())
    monkeypatch.setattr(lines, "LineOptions", partial(LineOptions, bounds=EASY, latency_runs=40))
    (tmp_path / "data").mkdir()
    return tmp_path / "build"


def test_the_verbs_make_and_publish_a_bundle(toy_cli: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train, export, compress, verify, pack, publish one after another; later verbs know the fold of the first."""
    out = ("--out", str(toy_cli))
    data = ("--data", str(tmp_path / "data"))
    assert _run("train", *out, *data, "--fold", "2/6", "--epochs", "150", "--seed", "1") == 0
    assert _run("export", *out) == 0
    assert _run("compress", *out, "--method", "minmax") == 0
    assert json.loads((toy_cli / "compress" / "calibration.json").read_text())["patients"] == list("acdef")
    assert _run("verify", *out) == 0
    assert _run("pack", *out, "--bundle-version", "2.0.0") == 0
    bundle = toy_cli / "pack" / "ecg-beat-2.0.0.ewb"
    assert _run("publish", str(bundle), "--repo", str(tmp_path / "repo"), "--keys", str(tmp_path / "keys")) == 0
    assert "published ecg-beat 2.0.0" in capsys.readouterr().out
    seen = (tmp_path / "repo" / "metadata" / "timestamp.json").read_bytes()
    assert _run("publish", "--repo", str(tmp_path / "repo"), "--keys", str(tmp_path / "keys"), "--refresh") == 0
    assert (tmp_path / "repo" / "metadata" / "timestamp.json").read_bytes() != seen


def test_options_that_fail_do_not_replace_those_of_an_earlier_training(
    toy_cli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later verbs go on with what was trained, not with what was tried after it."""
    out, data = ("--out", str(toy_cli)), ("--data", str(tmp_path / "data"))
    assert _run("train", *out, *data, "--fold", "2/6", "--epochs", "2", "--seed", "1") == 0
    noted = (toy_cli / "options.json").read_bytes()

    def missing(self: ToyTask, options: TrainOptions, cache: Path) -> None:
        raise ConfigError("records-missing", "1 of the records named are not in --data")

    monkeypatch.setattr(ToyTask, "prepare", missing)
    with pytest.raises(ConfigError, match="not in --data"):
        _run("train", *out, *data, "--records", "x")
    assert (toy_cli / "options.json").read_bytes() == noted
    (toy_cli / "options.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        _run("export", *out)
    assert caught.value.code == "step-damaged"


def test_an_interrupted_download_is_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a database looks like a small one: the folder appears once it is whole, and is then not fetched again."""
    wfdb = pytest.importorskip("wfdb")
    folder = tmp_path / "mitdb"
    calls: list[str] = []

    def fetch(database: str, to: str) -> None:
        calls.append(database)
        Path(to).mkdir(exist_ok=True)
        (Path(to) / "100.atr").write_bytes(b"")
        if len(calls) == 1:
            raise OSError("connection lost")

    monkeypatch.setattr(wfdb, "dl_database", fetch)
    with pytest.raises(ConfigError) as caught:
        cli.download("mitdb", folder)
    assert caught.value.code == "download-failed"
    assert not folder.exists()
    cli.download("mitdb", folder)
    assert [path.name for path in folder.iterdir()] == ["100.atr"]
    cli.download("mitdb", folder)
    assert calls == ["mitdb", "mitdb"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(ConfigError) as caught:
        cli.download("mitdb", tmp_path / "other")
    assert caught.value.code == "download-folder"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("train", "--data", "nowhere"), "data-missing"),
        (("train",), "data-missing"),
        (("train", "other-model", "--data", "."), "model-unknown"),
        (("train", "--data", ".", "--fold", "two"), "fold-range"),
        (("train", "--data", ".", "--fold", "9/3"), "fold-range"),
        (("train", "--data", ".", "--fold", "1/1"), "fold-range"),
        (("train", "--data", ".", "--epochs", "0"), "setting-invalid"),
        (("train", "--data", ".", "--seed", "-1"), "setting-invalid"),
        (("build", "--data", ".", "--bundle-version", "one"), "setting-invalid"),
        (("build", "--data", ".", "--method", "magic"), "calibration-method"),
        (("build", "--data", ".", "--prune", "nan"), "prune-fraction"),
        (("build", "--data", ".", "--prune", "1.5"), "prune-fraction"),
        (("build", "--data", ".", "--distil-steps", "-4"), "setting-invalid"),
        (("publish", "--repo", "r", "--keys", "k"), "publish-arguments"),
        (("publish", "--repo", "r", "--keys", "k", "--refresh"), "repository-missing"),
        (("export",), "step-missing"),
        (("build", "--data", ".", "--publish", "repo"), "publish-arguments"),
        (("publish", "x.ewb", "--repo", "r", "--keys", "k", "--serve", "web"), "serve-address"),
    ],
)
def test_wrong_arguments_are_told(
    words: tuple[str, ...], code: str, toy_cli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake of the operator has its code and exit code 2, and is told before anything is read or trained."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        _run(*words)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without torch answers a workshop verb with the pip command."""

    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(tasks.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install 'edgeward\[workshop\]'") as caught:
        tasks.find_task("ecg-beat")
    assert caught.value.code == "workshop-missing"
