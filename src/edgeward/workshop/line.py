"""The line: train → export → compress → verify → pack → publish, one function per step, one for all of them.

Every step reads what the step before left in the build folder and can be run alone; ``build`` runs those whose inputs
changed. The training data are read when a step needs windows, never stored in a bundle.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeward.bundle.manifest import is_version
from edgeward.kernel.errors import ConfigError
from edgeward.workshop.card import beat_figures, model_card
from edgeward.workshop.compress.distil import distil
from edgeward.workshop.compress.prune import FRACTION_MAX, prune
from edgeward.workshop.compress.quantise import METHODS, Quantised, best_method, calibration_windows, quantise
from edgeward.workshop.device_gates import LATENCY_RUNS
from edgeward.workshop.evidence import Evidence, machine_facts
from edgeward.workshop.export import OPSET, PARITY_WINDOWS, export_onnx, parity_gate, random_inputs, require
from edgeward.workshop.pack import ModelFile, make_golden, pack
from edgeward.workshop.reference import reference_json
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.steps import Steps, silent
from edgeward.workshop.track import Tracker, environment
from edgeward.workshop.verify import Bounds, Judged, verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.workshop.folder import BuildFolder
    from edgeward.workshop.steps import Say
    from edgeward.workshop.task import ModelTask, TrainingData, TrainOptions

KEYS = ("fp32", "int8")
"""Models of a bundle; each is its own precision."""
_TRAINED = ("weights.pt", "facts.json")


@dataclass(frozen=True, slots=True)
class LineOptions:
    """What the operator may choose.

    ``weights``: adopt weights made elsewhere instead of training. ``prune``: share of channels to take out, and
    ``distil_steps`` batches of training towards the whole network after it. ``method``: "best" or one of
    ``quantise.METHODS``. ``decision``: the manifest's decision. ``evaluation``: what a cross-validated ``evaluate
    --json`` printed for this method, for the card and the bundle.
    """

    train: TrainOptions
    version: str = "0.1.0"
    weights: Path | None = None
    prune: float = 0.0
    distil_steps: int = 400
    method: str = "best"
    decision: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    latency_runs: int = LATENCY_RUNS

    def __post_init__(self) -> None:
        """Refuse now what a later step would refuse after an hour of training. Raises ``ConfigError``."""
        if not is_version(self.version):
            raise ConfigError("setting-invalid", "--bundle-version must be MAJOR.MINOR.PATCH, such as 1.0.0")
        if self.method != "best" and self.method not in METHODS:
            raise ConfigError("calibration-method", f"--method must be best or one of {', '.join(METHODS)}")
        if not 0.0 <= self.prune <= FRACTION_MAX:  # False for NaN as well
            raise ConfigError("prune-fraction", f"--prune must lie between 0 and {FRACTION_MAX}")
        if self.distil_steps < 0:
            raise ConfigError("setting-invalid", "--distil-steps must be 0 or more")


class Line(Steps["ModelTask"]):
    """A network's way through the workshop."""

    def __init__(self, task: ModelTask, folder: BuildFolder, options: LineOptions, say: Say = silent) -> None:
        super().__init__(task, folder, options.version, say)
        self.options = options
        self._data: TrainingData | None = None

    @property
    def data(self) -> TrainingData:
        """The training data, read once."""
        if self._data is None:
            self.say("data", "reading recordings and cutting windows")
            self._data = self.task.prepare(self.options.train, self.folder.cache)
            counts = np.bincount(self._data.training.labels, minlength=len(self.task.classes))
            shown = ", ".join(f"{name} {count}" for name, count in zip(self.task.classes, counts, strict=True))
            self.say("data", f"{len(self._data.training)} windows of recordings for training: {shown}")
        return self._data

    # --- the steps

    def train(self) -> None:
        """Train (or adopt ``options.weights``) → ``train/weights.pt``, ``train/facts.json``."""
        options = self.options
        inputs = {
            "task": self.task.name,
            # the folders' contents count (in the data's hash), not their names
            "options": [options.train.fold, options.train.seed, options.train.epochs, options.train.records],
            "data": self.data.sha256,
            "weights": _digest(options.weights),
        }
        decision = self.task.decision(options.decision)
        if self.folder.is_done("train", inputs):
            self.say("train", "unchanged")
            self._decide(decision, inputs)
            return
        settings = {"task": self.task.name, "fold": options.train.fold, "adopted": options.weights is not None}
        with Tracker(self.task.name, settings, {"data_sha256": self.data.sha256}) as tracker:
            network, made = self._network(tracker)
            facts = self._training_facts(made, decision)
            tracker.facts("training", facts)
        self.task.save(network, self.folder.path("train", "weights.pt", make=True))
        self.folder.write_json("train", "facts.json", facts)
        self.folder.finish("train", inputs, _TRAINED)

    def export(self) -> None:
        """``train/weights.pt`` → ``export/fp32.onnx``; parity must hold (``GateFailed``)."""
        inputs = {"weights": self.folder.sha256("train", "weights.pt"), "opset": OPSET}
        if self.folder.is_done("export", inputs):
            self.say("export", "unchanged")
            return
        model = self._exported("export", self._trained_network())
        self.folder.write("export", "fp32.onnx", model)
        self.folder.finish("export", inputs, ("fp32.onnx",))

    def compress(self) -> None:
        """``export/fp32.onnx`` → ``compress/fp32.onnx`` (pruned, when asked) and ``int8.onnx``."""
        options, folder = self.options, self.folder
        inputs = {
            "model": folder.sha256("export", "fp32.onnx"),
            "method": options.method,
            "prune": [options.prune, options.distil_steps],
            "data": self.data.sha256,
            "fold": str(options.train.fold),
        }
        if folder.is_done("compress", inputs):
            self.say("compress", "unchanged")
            return
        model, network = folder.read("export", "fp32.onnx"), self._trained_network()
        pruning: dict[str, Any] = {}
        if options.prune > 0:
            network, pruning = self._pruned(network)
            model = self._exported("compress", network)
        made = self._quantised(model)
        self.task.save(network, folder.path("compress", "weights.pt", make=True))
        folder.write("compress", "fp32.onnx", model)
        folder.write("compress", "int8.onnx", made.model)
        folder.write_json("compress", "calibration.json", made.calibration.to_dict())
        folder.write_json("compress", "pruning.json", pruning)
        names = ("fp32.onnx", "int8.onnx", "weights.pt", "calibration.json", "pruning.json")
        folder.finish("compress", inputs, names)
        compared = ", ".join(f"{name} {value:.2e}" for name, value in made.calibration.divergence.items())
        chosen = f"{made.calibration.method} (KL: {compared or 'not compared'})"
        self.say("compress", f"{len(model)} → {len(made.model)} bytes, {chosen}")

    def verify(self) -> Evidence:
        """Every gate → ``verify/evidence.json``. Raises ``GateFailed`` after writing it when one does not hold."""
        models = self._models()
        inputs: dict[str, Any] = {key: self.folder.sha256("compress", f"{key}.onnx") for key in KEYS}
        inputs |= {
            "data": self.data.sha256,
            "facts": self.folder.sha256("train", "facts.json"),
            "bounds": asdict(self.options.bounds),
            "machine": machine_facts(threads=1),
        }
        if self.folder.is_done("verify", inputs):
            self.say("verify", "unchanged")
            evidence = Evidence.from_json(self.folder.read("verify", "evidence.json"))
        else:
            evidence = self._measured(models)
            if not evidence.failed:  # else it is measured again the next time
                names = ("evidence.json", "golden.npz", "golden.json", "reference.json")
                self.folder.finish("verify", inputs, names)
        return self._require(evidence)

    def pack(self) -> Path:
        """Everything → ``pack/NAME-VERSION.ewb``. Refused unless every gate of the evidence holds."""
        evidence = Evidence.from_json(self.folder.read("verify", "evidence.json"))
        evaluation = self.options.evaluation
        card = model_card(self.task, evidence, version=self.version, figures=beat_figures(evidence, evaluation))
        raw = pack(
            self.task,
            self._models(),
            self._golden(),
            version=self.version,
            decision=self.folder.read_json("train", "facts.json")["decision"],
            evidence=evidence,
            reference=self.folder.read("verify", "reference.json"),
            card=card,
            evaluation=evaluation,
        )
        return self._write(raw, card)

    # --- their parts

    def _decide(self, decision: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """Note another decision beside weights that stay: it is made from their scores, not learnt with them."""
        facts = self.folder.read_json("train", "facts.json")
        if facts["decision"] != decision:
            self.folder.write_json("train", "facts.json", {**facts, "decision": dict(decision)})
            self.folder.finish("train", inputs, _TRAINED)

    def _network(self, tracker: Tracker) -> tuple[torch.nn.Module, dict[str, Any]]:
        if self.options.weights is not None:
            self.say("train", "adopting the weights given")
            return self.task.load(self.options.weights), {"settings": "adopted weights", "adopted": True}

        def on_epoch(number: int, values: Mapping[str, float]) -> None:
            tracker.metrics(values, step=number)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.say("train", f"epoch {number}: {shown}")

        made = self.task.train(self.data, self.options.train, on_epoch)
        return made.network, dict(made.facts)

    def _training_facts(self, made: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
        training = self.data.training
        return {
            "training": {
                **made,
                "patients": len(training.patient_ids()),
                "patient_ids": list(training.patient_ids()),
                "windows": len(training),
                "made_windows": len(self.data.whole) - len(training) - len(self.data.held_out),
                "held_out_patients": list(self.data.held_out_patients),
                "fold": list(self.options.train.fold) if self.options.train.fold else None,
                "data_sha256": self.data.sha256,
                "sources": [asdict(source) for source in self.data.sources],
                "environment": environment(),
            },
            "decision": dict(decision),
        }

    def _trained_network(self) -> torch.nn.Module:
        return self.task.load(self.folder.path("train", "weights.pt"))

    def _exported(self, step: str, network: torch.nn.Module) -> bytes:
        deployed = self.task.deployed(network)
        model = export_onnx(deployed, self.task.inputs, self.task.outputs)
        gate = parity_gate(deployed, model, random_inputs(self.task.inputs, PARITY_WINDOWS, seed=1), data="synthetic")
        require(gate)
        self.say(step, f"{len(model)} bytes, opset {OPSET}; {gate.line()}")
        return model

    def _pruned(self, whole: torch.nn.Module) -> tuple[torch.nn.Module, dict[str, Any]]:
        options = self.options
        example = [torch.from_numpy(array) for array in random_inputs(self.task.inputs, 2, seed=0).values()]
        pruned = prune(whole, example, options.prune)
        self.say("compress", f"pruned {pruned.weights_before} → {pruned.weights_after} weights")

        def on_step(step: int, loss: float) -> None:
            self.say("compress", f"distilling, batch {step}: divergence {loss:.4f}")

        if options.distil_steps > 0:
            distil(pruned.network, whole, self.data.training, steps=options.distil_steps, on_step=on_step)
        made = {"fraction": options.prune, "distil_steps": options.distil_steps, **pruned.to_dict()}
        return pruned.network, made

    def _quantised(self, model: bytes) -> Quantised:
        data, task = self.data, self.task
        self.say("compress", "calibrating on training patients")
        if self.options.method == "best":
            return best_method(
                model,
                data.training,
                held_out=data.held_out_patients,
                methods=tuple(METHODS),
                fp32_inputs=task.fp32_inputs,
            )
        windows = calibration_windows(data.training, data.held_out_patients)
        return quantise(
            model, windows, held_out=data.held_out_patients, method=self.options.method, fp32_inputs=task.fp32_inputs
        )

    def _models(self) -> list[ModelFile]:
        return [ModelFile(key, self.folder.read("compress", f"{key}.onnx"), key) for key in KEYS]

    def _measured(self, models: list[ModelFile]) -> Evidence:
        facts = self.folder.read_json("train", "facts.json")
        data = self.data
        judged = Judged(data.held_out, "held-out") if len(data.held_out) else Judged(data.training, "training")
        self.say("verify", f"measuring the gates on {len(judged.windows)} {judged.data} windows")
        golden = make_golden(self.task, models)
        pruning = self.folder.read_json("compress", "pruning.json")
        evidence = verify(
            self.task,
            self.task.deployed(self.task.load(self.folder.path("compress", "weights.pt"))),
            models,
            golden,
            judged,
            decision=facts["decision"],
            facts={
                "training": facts["training"],
                "calibration": self.folder.read_json("compress", "calibration.json"),
                "pruning": pruning,
            },
            whole=self.folder.read("export", "fp32.onnx") if pruning else None,
            bounds=self.options.bounds,
            latency_runs=self.options.latency_runs,
        )
        scores = Scorer(models[-1].model).scores(data.training.inputs)
        reference = reference_json(
            data.training.inputs[self.task.feature_input].astype(np.float32),
            self.task.feature_names,
            scores,
            self.task.classes,
            len(data.training.patient_ids()),
        )
        self._keep(evidence, golden, reference)
        return evidence


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError("weights-unreadable", "the file given by --weights cannot be read; check its path") from error
