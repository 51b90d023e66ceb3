"""Packing: deterministic, only with evidence that holds, with golden vectors that no patient is in."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from toy_task import MADE_UP, ToyTask, toy_network, toy_windows

from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Engine
from edgeward.kernel.errors import BundleError
from edgeward.workshop import pack as packing
from edgeward.workshop.card import beat_figures, model_card
from edgeward.workshop.compress.quantise import quantise
from edgeward.workshop.evidence import Evidence, Gate, GateFailed, ModelFact
from edgeward.workshop.export import export_onnx
from edgeward.workshop.pack import ModelFile
from edgeward.workshop.reference import counts, reference_json

pytestmark = pytest.mark.workshop
TASK = ToyTask()
GOOD = Gate("parity", "fp32", 1e-7, "<=", 1e-5, "1")


@pytest.fixture(scope="module")
def models() -> list[ModelFile]:
    fp32 = export_onnx(TASK.deployed(toy_network()), TASK.inputs, TASK.outputs)
    int8 = quantise(fp32, toy_windows(), held_out=(), fp32_inputs=("rhythm",)).model
    return [ModelFile("fp32", fp32, "fp32"), ModelFile("int8", int8, "int8")]


@pytest.fixture(scope="module")
def golden(models: list[ModelFile]) -> packing.Golden:
    return packing.make_golden(TASK, models)


def _evidence(models: list[ModelFile], *gates: Gate) -> Evidence:
    from hashlib import sha256

    facts = {m.key: ModelFact(sha256(m.model).hexdigest(), len(m.model), m.precision) for m in models}
    read = {"training": {"sources": [dataclasses.asdict(MADE_UP)]}}
    return Evidence("ecg-beat", facts, gates, {"cpu": "any"}, read)


def _pack(models: list[ModelFile], golden: packing.Golden, evidence: Evidence) -> bytes:
    return packing.pack(
        TASK, models, golden, version="1.2.3", decision={"log_offsets": [0.0] * 5}, evidence=evidence,
        reference=b"{}\n", card=model_card(TASK, evidence, version="1.2.3"),
    )  # fmt: skip


def test_same_inputs_give_the_same_bytes(models: list[ModelFile], golden: packing.Golden) -> None:
    """Golden vectors made again and packed again change no byte of the bundle."""
    evidence = _evidence(models, GOOD)
    again = packing.make_golden(TASK, models)
    assert _pack(models, golden, evidence) == _pack(models, again, evidence)


def test_a_packed_bundle_reads_back_and_its_golden_vectors_pass(
    models: list[ModelFile], golden: packing.Golden
) -> None:
    """A device can read it, and every model answers the golden vectors; INT8 is the default."""
    bundle = read_bundle(_pack(models, golden, _evidence(models, GOOD)))
    assert bundle.manifest.default_model == "int8"
    assert set(bundle.members) == {
        "card.md", "evidence.json", "golden.npz", "licences.txt", "models/fp32.onnx", "models/int8.onnx",
        "reference.json",
    }  # fmt: skip
    for key in ("fp32", "int8"):
        assert Engine.load(bundle, key).golden().passed


def test_golden_vectors_notice_other_weights(models: list[ModelFile], golden: packing.Golden) -> None:
    """A model of other weights does not pass the vectors made for this one."""
    other = export_onnx(TASK.deployed(toy_network(seed=3)), TASK.inputs, TASK.outputs)
    wrong = [ModelFile("fp32", other, "fp32"), models[1]]
    bundle = read_bundle(packing.trial_bundle(TASK, wrong, golden, version="0.0.0", decision={}))
    assert not Engine.load(bundle, "fp32").golden().passed


def test_a_failed_gate_makes_no_bundle(models: list[ModelFile], golden: packing.Golden) -> None:
    """Evidence with one gate that does not hold, or with none at all, is refused with exit code 1."""
    for gates in (
        (GOOD, dataclasses.replace(GOOD, figure=1e-3)),
        (dataclasses.replace(GOOD, figure=float("nan")),),
        (),
    ):
        with pytest.raises(GateFailed) as caught:
            _pack(models, golden, _evidence(models, *gates))
        assert caught.value.exit_code == 1


def test_evidence_of_other_files_is_refused(models: list[ModelFile], golden: packing.Golden) -> None:
    """Evidence measured on another model file does not stand for this one."""
    evidence = _evidence([models[0], ModelFile("int8", models[0].model, "int8")], GOOD)
    with pytest.raises(BundleError) as caught:
        _pack(models, golden, evidence)
    assert caught.value.code == "evidence-foreign"


def test_golden_vectors_cover_the_classes() -> None:
    """Every class that the model gives somewhere in the pool is among the chosen vectors, the rarest too."""
    scores = np.full((200, 5), 0.05, dtype=np.float32)
    scores[:, 0] = np.linspace(0.3, 0.9, 200)
    scores[17] = [0, 0, 1, 0, 0]
    scores[150] = [0, 1, 0, 0, 0]
    chosen = packing.choose(scores, 8)
    assert len(set(chosen)) == 8
    assert {17, 150} <= set(chosen)
    assert list(chosen) == sorted(chosen)
    assert len(packing.choose(scores[:3], 8)) == 3


def test_no_honest_tolerance_is_an_error() -> None:
    """A model whose scores swing with the graph level gets no bundle; a small swing gets three times itself."""
    assert packing.tolerance_for("fp32", 1e-7) == 1e-4
    assert packing.tolerance_for("int8", 0.001) == 0.02
    assert packing.tolerance_for("int8", 0.03) == 0.09
    for precision, spread in (("fp32", 1e-3), ("int8", 0.2), ("int8", float("nan"))):
        with pytest.raises(BundleError, match="graph levels"):
            packing.tolerance_for(precision, spread)


def test_evidence_reads_back_and_refuses_a_forged_pass(models: list[ModelFile]) -> None:
    """JSON and back is the same; a forged ``passed`` is refused; NaN survives as a fail."""
    evidence = _evidence(models, GOOD, dataclasses.replace(GOOD, name="nan", figure=float("nan")))
    assert Evidence.from_json(evidence.to_json()).to_json() == evidence.to_json()
    assert [gate.passed for gate in Evidence.from_json(evidence.to_json()).gates] == [True, False]
    forged = json.loads(evidence.to_json())
    forged["gates"][1]["passed"] = True
    for raw in (json.dumps(forged).encode(), b"[]", b"{", b'{"schema": 2}'):
        with pytest.raises(BundleError):
            Evidence.from_json(raw)


def test_the_machine_is_named_without_a_host(models: list[ModelFile]) -> None:
    """Evidence holds the processor but neither host nor user name."""
    import getpass
    import socket

    from edgeward.workshop.evidence import machine_facts

    facts = machine_facts(threads=1)
    assert facts["cpu"]
    text = json.dumps(facts)
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert set(facts) == {
        "cpu", "architecture", "logical_cpus", "threads", "python", "numpy", "onnxruntime", "edgeward"
    }  # fmt: skip
    assert getpass.getuser() not in facts.values()


def test_the_card_names_data_limits_and_that_it_is_no_device(models: list[ModelFile]) -> None:
    """The card carries attribution, the failed and passed gates, and the warning."""
    evidence = _evidence(models, GOOD)
    text = model_card(TASK, evidence, version="1.2.3", figures=beat_figures(evidence)).decode()
    for words in (
        "Not a medical device",
        "Made-up windows (CC0-1.0)",
        "It knows nothing.",
        "| parity | fp32 | 1e-07 1 |",
    ):
        assert words in text


def test_only_data_that_were_read_are_named(models: list[ModelFile], golden: packing.Golden) -> None:
    """Card, licences and manifest name the data sets of the evidence; without any they name none."""
    read = _evidence(models, GOOD)
    unread = dataclasses.replace(read, facts={})
    for evidence, named in ((read, True), (unread, False)):
        bundle = read_bundle(_pack(models, golden, evidence))
        for said in (
            bundle.members["card.md"].decode(),
            bundle.members["licences.txt"].decode(),
            *bundle.manifest.licences,
        ):
            assert (MADE_UP.title in said) is named
        assert bool(bundle.manifest.licences) is named


def test_reference_histograms_count_every_value_once() -> None:
    """Cells have fixed edges, values beyond them count in the outer cells, and the counts are integers."""
    values = np.array([-9.0, -4.0, -3.76, 0.0, 3.99, 4.0, 50.0])
    cells = counts(values, -4.0, 0.25, 32)
    assert sum(cells) == len(values)
    assert (cells[0], cells[1], cells[17], cells[32], cells[33]) == (1, 2, 1, 1, 2)
    windows = toy_windows(50)
    scores = np.full((50, 5), 0.2, dtype=np.float32)
    data = json.loads(reference_json(windows.inputs["rhythm"], ("a", "b", "c"), scores, TASK.classes, 6))
    assert set(data["features"]) == {"a", "b", "c"}
    assert all(sum(column["counts"]) == 50 for column in (*data["features"].values(), *data["scores"].values()))
