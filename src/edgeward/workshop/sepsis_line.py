"""The line of the sepsis bundle: train (with cross-validation) → export → compress → verify → pack.

The same steps, folder and evidence as ``line.Line``, for trees. Cross-validation belongs to training: calibration and
thresholds rest on scores of patients that the scoring forest has not seen. Beside the model the bundle holds a second
one on vital signs alone, and the plain baseline as a member that only evaluation reads.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import numpy.typing as npt

from edgeward.inference.backends.trees import read_trees, write_trees
from edgeward.inference.golden import write_golden
from edgeward.inference.tree_effects import TreeEffects
from edgeward.kernel.errors import ConfigError
from edgeward.workshop.card import model_card
from edgeward.workshop.evidence import Evidence, GateFailed
from edgeward.workshop.pack import FP32_TOLERANCE, GOLDEN_POOL, GOLDEN_SEED, GOLDEN_VECTORS, Golden, ModelFile, pack
from edgeward.workshop.sepsis_card import card_figures
from edgeward.workshop.sepsis_kept import kept_features
from edgeward.workshop.sepsis_members import BASELINE_MEMBER, COMPANIONS_MEMBER, SEEN_MEMBER
from edgeward.workshop.sepsis_out_of_fold import at_bedside, cross, decision_of, figures
from edgeward.workshop.sepsis_recipes import BASELINE, FULL, RECIPES, VITALS_ONLY
from edgeward.workshop.sepsis_reference import reference_json
from edgeward.workshop.sepsis_task import HOURS_IN_MAX, TASK, SepsisTask
from edgeward.workshop.sepsis_train import Forest, best_threshold, grow
from edgeward.workshop.sepsis_utility import utility_of
from edgeward.workshop.sepsis_verify import Judged, export_gates, verify
from edgeward.workshop.stay_table import read_stays
from edgeward.workshop.steps import Steps, silent
from edgeward.workshop.track import Tracker, environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.workshop.folder import BuildFolder
    from edgeward.workshop.line import LineOptions
    from edgeward.workshop.sepsis_train import Recipe
    from edgeward.workshop.stay_table import StayTable
    from edgeward.workshop.steps import Say

FloatArray = npt.NDArray[np.float32]

FOLDS = 5
WORKERS = 2
"""Processes that grow folds beside each other; each takes about 2 GB."""
SAMPLE_ROWS, REFERENCE_ROWS = 512, 100_000
KEYS = (FULL.name, VITALS_ONLY.name)
"""The models of the bundle, the default first."""


class SepsisLine(Steps[SepsisTask]):
    """The sepsis model's way through the workshop."""

    def __init__(self, folder: BuildFolder, options: LineOptions, say: Say = silent) -> None:
        super().__init__(TASK, folder, options.version, say)
        train = options.train
        if options.weights or train.records or train.epochs or train.fold or options.decision or options.prune:
            raise ConfigError(
                "setting-invalid",
                "sepsis-risk takes --data and --seed: it crosses by itself, and its decision comes from that",
            )
        self.recipes = tuple(replace(recipe, seed=train.seed or 0) for recipe in RECIPES)
        self.options = options
        self._data: StayTable | None = None

    @property
    def data(self) -> StayTable:
        """The training patients' table, read once."""
        if self._data is None:
            self.say("data", "reading the table")
            self._data = read_stays(self.options.train.data)
        return self._data

    def matrix(self) -> Path:
        """The features of every row, kept in the cache of the build folder."""

        def say(text: str) -> None:
            self.say("data", text)

        return kept_features(self.data, self.task.feature_names, self.folder.cache, workers=WORKERS, say=say)

    # --- the steps

    def train(self) -> None:
        """Folds, then everybody → ``train/RECIPE-N.txt`` (the library's own), ``train/facts.json``."""
        inputs = {"data": self.data.sha256(), "recipes": [asdict(recipe) for recipe in self.recipes], "folds": FOLDS}
        if self.folder.is_done("train", inputs):
            self.say("train", "unchanged")
            return
        settings = {recipe.name: recipe.shown() for recipe in self.recipes}
        with Tracker(self.task.name, settings, {"data_sha256": self.data.sha256()}) as tracker:
            facts = self._crossed(tracker)
            written = [name for recipe in self.recipes for name in self._grown(recipe)]
            tracker.facts("training", facts)
        self.folder.write_json("train", "facts.json", facts)
        self.folder.finish("train", inputs, ("facts.json", *written))

    def export(self) -> None:
        """``train/`` → ``export/RECIPE.npz``; they must score as the library does (``GateFailed``)."""
        inputs = {"facts": self.folder.sha256("train", "facts.json")}
        if self.folder.is_done("export", inputs):
            self.say("export", "unchanged")
            return
        sample = self._sample()
        for recipe in self.recipes:
            forest = self._forest(recipe.name)
            raw = write_trees(forest.trees())
            for gate in export_gates(recipe.name, read_trees(raw), forest, sample):
                self.say("export", gate.line())
                if not gate.passed:
                    raise GateFailed("gate-failed", f"{gate.line()}; the plain trees are not the library's")
            self.folder.write("export", f"{recipe.name}.npz", raw)
        self.folder.finish("export", inputs, tuple(f"{recipe.name}.npz" for recipe in self.recipes))

    def compress(self) -> None:
        """Trees are numbers to compare with: there is nothing to make smaller without making them others."""
        self.say("compress", "trees are not compressed")

    def verify(self) -> Evidence:
        """Every gate → ``verify/evidence.json``. Raises ``GateFailed`` after writing it when one does not hold."""
        facts = self.folder.read_json("train", "facts.json")
        models = self._models()
        golden = golden_of(models)
        judged = Judged(facts["out_of_fold"], self._sample(), self.data.sha256())
        evidence = verify(
            self.task,
            models,
            [self._forest(key) for key in KEYS],
            golden,
            judged,
            decision=facts["decision"],
            facts={"training": facts["training"], "out_of_fold": facts["out_of_fold"]},
            latency_runs=self.options.latency_runs,
        )
        self._keep(evidence, golden, self._reference())
        return self._require(evidence)

    def pack(self) -> Path:
        """Everything → ``pack/NAME-VERSION.ewb``. Refused unless every gate of the evidence holds."""
        evidence = Evidence.from_json(self.folder.read("verify", "evidence.json"))
        facts = self.folder.read_json("train", "facts.json")
        evaluation = self.options.evaluation
        card = model_card(self.task, evidence, version=self.version, figures=card_figures(evidence, evaluation))
        seen = io.BytesIO()
        np.save(seen, np.sort(self.data.fingerprints()))
        raw = pack(
            self.task,
            self._models(),
            self._golden(),
            version=self.version,
            decision=facts["decision"],
            evidence=evidence,
            reference=self.folder.read("verify", "reference.json"),
            card=card,
            evaluation=evaluation,
            more={
                SEEN_MEMBER: seen.getvalue(),
                BASELINE_MEMBER: self.folder.read("export", f"{BASELINE.name}.npz"),
                COMPANIONS_MEMBER: (json.dumps(facts["companions"], sort_keys=True) + "\n").encode(),
            },
        )
        return self._write(raw, card)

    # --- their parts

    def _crossed(self, tracker: Tracker) -> dict[str, Any]:
        table = self.data
        crossed = cross(
            self.recipes,
            self.matrix(),
            self.task.feature_names,
            table,
            folds=FOLDS,
            hours_in_max=HOURS_IN_MAX,
            workers=WORKERS,
            say=lambda text: self.say("train", text),
        )
        found = {name: figures(scores, table) for name, scores in crossed.items()}
        for name, row in found.items():
            tracker.metrics({f"{name}.{key}": v for key, v in row.items() if isinstance(v, float)}, step=0)
            self.say("train", f"{name}: AUROC {row['auroc']:.4f}, utility {row['utility']:.4f}, out of fold")
        utility = utility_of(table.labels, table.starts)
        companions = {
            recipe.name: {
                "threshold": round(best_threshold(crossed[recipe.name].charted, utility, table.patient_of_row), 4)
            }
            for recipe in self.recipes[1:]
        }
        return {
            "training": {
                "settings": {recipe.name: recipe.shown() for recipe in self.recipes},
                "patients": len(table.patients),
                "septic": int(table.septic.sum()),
                "windows": len(table),
                "windows_are": "hours",
                "sources": [asdict(source) for source in self.task.sources],
                "folds": FOLDS,
                "data_sha256": table.sha256(),
                "environment": environment(),
            },
            "out_of_fold": found,
            "companions": companions,
            "decision": self.task.decision(decision_of(crossed[FULL.name], table)),
        }

    def _grown(self, recipe: Recipe) -> list[str]:
        values = np.load(self.matrix(), mmap_mode="r", allow_pickle=False)
        everybody = np.ones(len(self.data.patients), dtype=np.bool_)
        forest = grow(recipe, values, self.task.feature_names, self.data, everybody)
        written = []
        for number, booster in enumerate(forest.boosters):
            name = f"{recipe.name}-{number}.txt"
            self.folder.write("train", name, booster.model_to_string().encode())
            written.append(name)
        self.say("train", f"{recipe.name}: grown on all {len(self.data.patients)} patients")
        return written

    def _forest(self, name: str) -> Forest:
        recipe = next(recipe for recipe in self.recipes if recipe.name == name)
        texts = [self.folder.read("train", f"{name}-{number}.txt").decode() for number in range(len(recipe.parts))]
        boosters = tuple(lightgbm.Booster(model_str=text) for text in texts)
        return Forest(boosters, recipe.columns(self.task.feature_names), len(self.task.feature_names))

    def _models(self) -> list[ModelFile]:
        return [ModelFile(key, self.folder.read("export", f"{key}.npz"), "fp32", "trees") for key in KEYS]

    def _sample(self, rows: int = SAMPLE_ROWS) -> FloatArray:
        values = np.load(self.matrix(), mmap_mode="r", allow_pickle=False)
        chosen = np.sort(np.random.default_rng(5).choice(len(values), min(rows, len(values)), replace=False))
        sample: FloatArray = at_bedside(values[chosen], self.task.feature_names, HOURS_IN_MAX)
        return sample

    def _reference(self) -> bytes:
        sample = self._sample(REFERENCE_ROWS)
        scores = self._forest(FULL.name).scores(sample)
        return reference_json(sample, self.task.feature_names, scores, len(self.data.patients))


def golden_of(models: Sequence[ModelFile]) -> Golden:
    """Golden vectors of made-up stays, spread over the scores of the first model; trees have one way to be computed."""
    pool = TASK.synthetic(GOLDEN_POOL, GOLDEN_SEED)["features"]
    effects = {model.key: TreeEffects(read_trees(model.model)) for model in models}
    scores = np.array([_scores(effects[models[0].key], row)[0] for row in pool])
    order = np.argsort(scores, kind="stable")
    chosen = np.sort(order[np.linspace(0, len(order) - 1, GOLDEN_VECTORS).astype(np.intp)])
    expected = {
        key: np.array([_scores(each, row) for row in pool[chosen]], dtype=np.float32) for key, each in effects.items()
    }
    tolerance = dict.fromkeys(expected, FP32_TOLERANCE)
    spread = dict.fromkeys(expected, 0.0)
    return Golden(write_golden({"features": pool[chosen]}, expected), len(chosen), tolerance, spread, (0,))


def _scores(effects: TreeEffects, row: FloatArray) -> npt.NDArray[np.float64]:
    told = effects.explain(row.astype(np.float64))
    return np.append(effects.base + told.sum(), told)
