"""The line of the hypotension bundle: train (with cross-validation) → export → compress → verify → pack.

The same steps, folder and gates as ``line.Line``, for a model of two parts. Cross-validation belongs to training: how
the parts are joined and calibrated, which forecasts are shown and from which threshold an advisory is raised all rest
on scores of patients that the scoring parts have not seen.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeward.kernel.errors import ConfigError
from edgeward.signal.trees import Trees
from edgeward.workshop.boosted import trees_of
from edgeward.workshop.card import model_card, table
from edgeward.workshop.compress.dynamic import quantise_dynamic
from edgeward.workshop.evidence import Evidence
from edgeward.workshop.export import OPSET, PARITY_WINDOWS, export_onnx, parity_gate, random_inputs, require
from edgeward.workshop.hypotension_alerts import Asked, threshold_at
from edgeward.workshop.hypotension_cross import FOLDS, JOINED, Parts, choose, cross, prepare, read_parts, write_parts
from edgeward.workshop.hypotension_points import Outcome
from edgeward.workshop.hypotension_task import SIMULATED_TASK, TASK, HypotensionTask
from edgeward.workshop.hypotension_train import ForecasterTraining, Joined, TreesTraining, fit_trees, join
from edgeward.workshop.hypotension_verify import Bounds, out_of_fold_facts, verify
from edgeward.workshop.models.hypotension import Forest, HypotensionNet
from edgeward.workshop.pack import ModelFile, by_last, make_golden, pack
from edgeward.workshop.reference import reference_json
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.steps import Steps, silent
from edgeward.workshop.track import Tracker, environment
from edgeward.workshop.vitals_long import is_simulated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgeward.workshop.folder import BuildFolder
    from edgeward.workshop.hypotension_cross import Prepared
    from edgeward.workshop.line import LineOptions
    from edgeward.workshop.steps import Say

KEYS = ("fp32", "int8")
SHIPPED = "int8"
"""What a bundle holds: FP32, four times as large, is what INT8 is judged against, and stays in the build folder."""
ACT_FALSE_PER_DAY = 1.0
WATCH_FALSE_PER_DAY = 4.0
"""False advisories a watched day at which the levels are set, on scores of patients that no part has seen."""

LSTM_OF_FOLD = 1
"""Whose LSTM is shipped: it has learned from the patients of the other folds. Trees are trained on everybody; an LSTM
trained on everybody would cost half of all folds again."""


class HypotensionLine(Steps[HypotensionTask]):
    """The hypotension model's way through the workshop."""

    def __init__(self, folder: BuildFolder, options: LineOptions, say: Say = silent) -> None:
        super().__init__(SIMULATED_TASK if is_simulated(options.train.data) else TASK, folder, options.version, say)
        torch.set_num_threads(1)  # the same weights on every machine, and the other processors left alone
        self.options = options
        usual, chosen = ForecasterTraining(), options.train
        seed = usual.seed if chosen.seed is None else chosen.seed
        epochs = usual.epochs if chosen.epochs is None else chosen.epochs
        self.settings = (replace(usual, seed=seed, epochs=epochs), TreesTraining())
        self._data: Prepared | None = None
        if options.train.fold is not None or options.weights is not None:
            raise ConfigError("setting-invalid", "hypotension takes neither --fold nor --weights: it crosses by itself")

    @property
    def data(self) -> Prepared:
        """The training data, read once."""
        if self._data is None:
            self._data = prepare([self.options.train.data], self.folder.cache, lambda text: self.say("data", text))
        return self._data

    # --- the steps

    def train(self) -> None:
        """Folds, then the trees on everybody → ``train/parts/``, ``train/facts.json``."""
        data = self.data
        inputs = {"data": data.sha256, "settings": repr(self.settings), "folds": FOLDS}
        if self.folder.is_done("train", inputs):
            self.say("train", "unchanged")
            return
        settings = {"task": self.task.name, "folds": FOLDS}
        with Tracker(self.task.name, settings, {"data_sha256": data.sha256}) as tracker:
            facts = self._trained(data, tracker)
            tracker.facts("training", facts)
        self.folder.write_json("train", "facts.json", facts)
        self.folder.finish("train", inputs, ("facts.json", "parts/forecaster.pt"))

    def export(self) -> None:
        """``train/`` → ``export/fp32.onnx``; parity must hold (``GateFailed``)."""
        inputs = {"facts": self.folder.sha256("train", "facts.json"), "opset": OPSET}
        if self.folder.is_done("export", inputs):
            self.say("export", "unchanged")
            return
        network = self.network()
        model = export_onnx(network, self.task.inputs, self.task.outputs)
        gate = parity_gate(network, model, random_inputs(self.task.inputs, PARITY_WINDOWS, seed=1), data="synthetic")
        require(gate)
        self.say("export", f"{len(model)} bytes, opset {OPSET}; {gate.line()}")
        self.folder.write("export", "fp32.onnx", model)
        self.folder.finish("export", inputs, ("fp32.onnx",))

    def compress(self) -> None:
        """``export/fp32.onnx`` → ``compress/fp32.onnx`` and ``compress/int8.onnx``, by dynamic quantisation."""
        model = self.folder.read("export", "fp32.onnx")
        if self.options.method not in ("best", "dynamic") or self.options.prune > 0:
            raise ConfigError("calibration-method", "an LSTM is compressed by --method dynamic, and not pruned here")
        inputs = {"model": self.folder.sha256("export", "fp32.onnx"), "method": "dynamic"}
        if self.folder.is_done("compress", inputs):
            self.say("compress", "unchanged")
            return
        small = quantise_dynamic(model)
        self.folder.write("compress", "fp32.onnx", model)
        self.folder.write("compress", "int8.onnx", small)
        self.folder.finish("compress", inputs, ("fp32.onnx", "int8.onnx"))
        self.say("compress", f"{len(model)} → {len(small)} bytes, dynamic")

    def verify(self) -> Evidence:
        """Every gate → ``verify/evidence.json``. Raises ``GateFailed`` after writing it when one does not hold."""
        models = self._models()
        facts = self.folder.read_json("train", "facts.json")
        golden = make_golden(self.task, models, pick=by_last)
        points = self.data.examples.decisions()
        evidence = verify(
            self.task,
            self.network(),
            models,
            golden,
            points,
            decision=facts["decision"],
            facts={"training": facts["training"], "out_of_fold": facts["out_of_fold"]},
            bounds=Bounds(),
            latency_runs=self.options.latency_runs,
            data_sha256=self.data.sha256,
        )
        self._keep(evidence, golden, self._reference(models[-1].model))
        return self._require(evidence)

    def pack(self) -> Path:
        """Everything → ``pack/NAME-VERSION.ewb``. Refused unless every gate of the evidence holds."""
        whole = Evidence.from_json(self.folder.read("verify", "evidence.json"))
        evidence = replace(whole, models={SHIPPED: whole.models[SHIPPED]})
        evaluation = self.options.evaluation
        card = model_card(self.task, evidence, version=self.version, figures=card_figures(evidence, evaluation))
        golden = self._golden()
        raw = pack(
            self.task,
            [model for model in self._models() if model.key == SHIPPED],
            replace(golden, tolerance={SHIPPED: golden.tolerance[SHIPPED]}),
            version=self.version,
            decision=self.folder.read_json("train", "facts.json")["decision"],
            evidence=evidence,
            reference=self.folder.read("verify", "reference.json"),
            card=card,
            evaluation=evaluation,
        )
        return self._write(raw, card)

    # --- their parts

    def network(self) -> HypotensionNet:
        """The trained parts, joined, as they are exported."""
        facts = self.folder.read_json("train", "facts.json")
        parts = read_parts(self.folder.path("train", "parts"), self.settings[0])
        rule = Joined(tuple(facts["joined"]["weights"]), facts["joined"]["bias"])
        return joined_network(parts, rule)

    def _trained(self, data: Prepared, tracker: Tracker) -> dict[str, Any]:
        steps = iter(range(1, 1_000_000))

        def told(fold: int, epoch: int, values: Mapping[str, float]) -> None:
            tracker.metrics({f"fold{fold}.{name}": value for name, value in values.items()}, step=next(steps))
            shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.say("train", f"fold {fold} of {FOLDS}, epoch {epoch}: {shown}")

        crossed = cross(data, self.folder.root / "folds", settings=self.settings, on_epoch=told)
        points = data.examples.decisions()
        quantiles, odds = crossed.odds(points)
        scores = {name: crossed.joined(odds, points, columns) for name, columns in JOINED.items()}
        chosen = choose(scores, points.outcome)
        rule = join(odds[:, list(JOINED[chosen])], points.outcome)
        weights = [0.0, 0.0]
        for column, weight in zip(JOINED[chosen], rule.weights, strict=True):
            weights[column] = weight
        found = {**out_of_fold_facts(points, scores, quantiles), "chosen": chosen}
        known = np.flatnonzero(points.outcome != Outcome.CENSORED)
        kept = points.take(known)
        asked = Asked(kept.stay, kept.minute, kept.outcome, kept.onset)
        decision = self.task.decision(
            {
                "act": threshold_at(asked, scores[chosen][known], ACT_FALSE_PER_DAY),
                "watch": threshold_at(asked, scores[chosen][known], WATCH_FALSE_PER_DAY),
                "shown": [vital for vital, ratio in found["mae_ratio"].items() if ratio <= Bounds().mae_ratio_max],
            }
        )
        self.say("train", "everybody: trees")
        boosters = fit_trees(data.examples, self.settings[1])
        shipped = Parts(crossed.parts[LSTM_OF_FOLD - 1].forecaster, tuple(boosters))
        write_parts(self.folder.path("train", "parts"), shipped)
        used = sorted({stay.fingerprint for stay in data.stays if len(stay)})
        return {
            "training": {
                "settings": repr(self.settings),
                "lstm_of_fold": LSTM_OF_FOLD,
                "patients": len(used),
                "patient_ids": used,
                "windows": int(np.isfinite(data.examples.low).sum()),
                "windows_are": f"readings and {len(data.stretches)} stretches of five hours",
                "sources": [asdict(source) for source in self.task.sources],
                "data_sha256": data.sha256,
                "environment": environment(),
            },
            "out_of_fold": found,
            "joined": {"weights": weights, "bias": rule.bias},
            "decision": decision,
        }

    def _models(self) -> list[ModelFile]:
        return [ModelFile(key, self.folder.read("compress", f"{key}.onnx"), key) for key in KEYS]

    def _reference(self, model: bytes) -> bytes:
        points = self.data.examples.decisions()
        inputs = {"grid": points.grid.astype(np.float32), "features": points.features}
        odds = Scorer(model).scores(inputs)[:, -1:]
        probability = (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)
        patients = len(np.unique(points.stay))
        return reference_json(inputs["grid"][:, -1], self.task.feature_names, probability, self.task.classes, patients)


def joined_network(parts: Parts, rule: Joined) -> HypotensionNet:
    """The network of one set of parts, in evaluation mode."""
    forest = Forest(mean_trees([trees_of(booster) for booster in parts.boosters]))
    lstm, trees = rule.weights
    return HypotensionNet(parts.forecaster, forest, (lstm, trees), rule.bias).eval()


def mean_trees(forests: Sequence[Trees]) -> Trees:
    """One forest that scores the mean of ``forests``."""
    starts = np.cumsum([0, *(len(forest.feature) for forest in forests)])[:-1]
    pairs = list(zip(forests, starts, strict=True))
    return Trees(
        feature=np.concatenate([forest.feature for forest in forests]),
        threshold=np.concatenate([forest.threshold for forest in forests]),
        left=np.concatenate([forest.left + start for forest, start in pairs]),
        right=np.concatenate([forest.right + start for forest, start in pairs]),
        value=np.concatenate([forest.value for forest in forests]) / len(forests),
        root=np.concatenate([forest.root + start for forest, start in pairs]),
        features=forests[0].features,
        missing_left=np.concatenate(
            [
                np.zeros(len(forest.feature), np.bool_) if forest.missing_left is None else forest.missing_left
                for forest in forests
            ]
        ),
    )


def card_figures(evidence: Evidence, evaluation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Sections of the card: unseen patients where there is an evaluation, then cross-validation."""
    found = evidence.facts["out_of_fold"]
    rows = [(name, f"{value:.3f}") for name, value in found["auroc"].items()]
    text = (
        f"Decision points of the training patients, each scored by parts that did not train on its patient: "
        f"{found['points']} points, {found['positives']} with an episode 30 to 60 min ahead.\n\n"
        + table(("score", "AUROC"), rows)
        + f"\n\nThe event is scored by: {found['chosen']} (least log loss). The LSTM shipped is that of fold "
        f"{evidence.facts['training']['lstm_of_fold']} of {FOLDS}, which has not learned from that fold's patients."
        + "\n\nError of the forecasts as a share of the last value's, all horizons:\n\n"
        + table(("vital", "share"), [(name, f"{value:.3f}") for name, value in found["mae_ratio"].items()])
    )
    sections = [("Figures by cross-validation", text)]
    if evaluation is not None:
        sections.insert(0, ("Figures on patients never seen", _evaluated(evaluation)))
    return sections


def _evaluated(evaluation: Mapping[str, Any]) -> str:
    names = ("auroc", "auprc", "brier", "recall_at_1_per_day", "alerts_per_patient_day", "ppv", "lead_minutes")
    rows = []
    for name in names:
        value, ci = evaluation.get(name), evaluation["ci"].get(name)
        shown = "–" if value is None else f"{value:.3f}" + (f" ({ci[0]:.3f}–{ci[1]:.3f})" if ci else "")
        rows.append((name.replace("_", " "), shown))
    head = (
        f"{evaluation['patients']} patients, {evaluation['points']} decision points, {evaluation['positives']} with an "
        f"episode ahead ({evaluation['mode']}); 95 % intervals by patient. The last mean pressure alone: AUROC "
        f"{evaluation['baseline_auroc']:.3f}."
    )
    return head + "\n\n" + table(("figure", "value"), rows)
