"""``evaluate deterioration``: the sepsis model as the clinic would ask for it, on a table of hourly stays.

A model is never scored on a patient it was trained with. Where the table's patients are strangers to the shipped
model, that model is scored as it is; where half of them or more trained it, every patient is scored by a forest grown
on the others (cross-validation by patient, with the very recipes of the workshop). Whatever stands beside the model
(vital signs alone, the plain baseline, NEWS2, qSOFA, threshold alerts) goes through the same rows and the same draws.
"""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgeward.bundle.archive import read_bundle
from edgeward.evaluate.hourly_scores import news2, qsofa, threshold_alert
from edgeward.inference.backends.trees import read_trees
from edgeward.kernel.errors import BundleError, ConfigError, InputError
from edgeward.workshop.calibrate import Calibrated
from edgeward.workshop.sepsis_members import BASELINE_MEMBER, COMPANIONS_MEMBER, SEEN_MEMBER
from edgeward.workshop.stay_replay import replay
from edgeward.workshop.stay_table import read_stays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.bundle.archive import Bundle
    from edgeward.workshop.stay_table import StayTable

Mode = Literal["auto", "cross-validate", "shipped"]
Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SEEN_SHARE = 0.5
"""From this share of known patients on, ``auto`` cross-validates instead of leaving the known ones out."""

CONVENTIONAL = ("threshold_alert", "news2_5", "news2_7")
"""The rules that an advisory should come before."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One rule's or model's scores (N,) of every row of the table, and where it says sepsis (N,)."""

    name: str
    score: Array
    predicted: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A table with everything that was scored on it; the first of ``scored`` is the model.

    ``bedside`` (N,): the model's log odds as a bed sees the patient; ``probability`` (N,): calibrated.
    ``seen``: patients that trained the shipped model; ``left_out``: those of them that were not scored.
    """

    table: StayTable
    mode: Literal["cross-validated", "shipped-model"]
    scored: tuple[Scored, ...]
    bedside: Array
    probability: Array
    folds: int | None = None
    seen: int = 0
    left_out: int = 0
    notes: tuple[str, ...] = field(default=())

    def rules(self) -> dict[str, Mask]:
        """Rows (N,) in which each of ``CONVENTIONAL`` holds."""
        return {each.name: each.predicted for each in self.scored if each.name in CONVENTIONAL}


def run(
    data: Path,
    bundle: Path | None,
    *,
    mode: Mode = "auto",
    folds: int = 5,
    workers: int = 1,
    work: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Run:
    """Score the stays of ``data`` (a parquet file or a folder of ``.psv``).

    ``bundle``: the sepsis bundle; None only with ``mode`` "cross-validate". ``work``: a folder that keeps features and
    the scores of folds between runs; the cache of a build folder of the same table will do. Raises what ``read_stays``
    raises, and ``InputError`` (``stays-seen``, ``stays-folds``, ``stays-septic``), ``BundleError`` for a bundle that is
    none.
    """
    table = read_stays(data)
    say(f"{len(table.patients)} stays, {len(table)} hours, {int(table.septic.sum())} with sepsis")
    shipped = None if bundle is None else read_sepsis_bundle(bundle)
    known = np.zeros(len(table.patients), np.bool_) if shipped is None else np.isin(table.fingerprints(), seen(shipped))
    crossing = mode == "cross-validate" or (mode == "auto" and known.mean() >= SEEN_SHARE)
    if crossing or shipped is None:
        return _crossed(table, folds, workers, int(known.sum()), work, say)
    if known.all():
        raise InputError("stays-seen", f"every stay of {data.name} trained the model; cross-validate instead")
    if known.any():
        table = table.take(~known)
    return _shipped(table, shipped, workers, int(known.sum()), say)


def read_sepsis_bundle(path: Path) -> Bundle:
    """The bundle at ``path``; ``BundleError`` (``task-mismatch``) when it is not one of sepsis risk by trees."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError("bundle-missing", f"there is no bundle at {path}; name its file with --bundle") from error
    bundle = read_bundle(raw)
    if bundle.manifest.task != "sepsis-risk" or bundle.manifest.model().backend != "trees":
        raise BundleError("task-mismatch", "the bundle is not one of sepsis risk by trees; name another with --bundle")
    return bundle


def seen(bundle: Bundle) -> npt.NDArray[np.uint64]:
    """Fingerprints of the stays that trained the bundle; none where it does not say."""
    raw = bundle.members.get(SEEN_MEMBER)
    return np.zeros(0, np.uint64) if raw is None else np.load(io.BytesIO(raw), allow_pickle=False)


def _crossed(
    table: StayTable, folds: int, workers: int, known: int, work: Path | None, say: Callable[[str], None]
) -> Run:
    from edgeward.workshop.sepsis_kept import kept_features
    from edgeward.workshop.sepsis_out_of_fold import cross, cross_judged
    from edgeward.workshop.sepsis_recipes import RECIPES
    from edgeward.workshop.sepsis_task import HOURS_IN_MAX, TASK

    names = TASK.feature_names
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        matrix = kept_features(table, names, work or Path(folder), workers=workers, say=say)
        crossed = cross(RECIPES, matrix, names, table, folds=folds, hours_in_max=HOURS_IN_MAX, workers=workers, say=say)
    scored = []
    judged = {name: cross_judged(scores, table) for name, scores in crossed.items()}
    for name, scores in crossed.items():
        scored.append(Scored(name, scores.charted, judged[name][0]))
    first = scored[0].name
    return Run(
        table,
        "cross-validated",
        (*scored, *charted_rules(table)),
        crossed[first].bedside,
        judged[first][1],
        folds=folds,
        seen=known,
    )


def _shipped(table: StayTable, bundle: Bundle, workers: int, known: int, say: Callable[[str], None]) -> Run:
    from edgeward.workshop.sepsis_out_of_fold import at_bedside
    from edgeward.workshop.tree_onnx import table_scores

    manifest = bundle.manifest
    names = list(manifest.preprocessing_params["features"])
    values = replay(table, names, workers=workers)
    say("features replayed")
    decision, companions = manifest.decision, json.loads(bundle.members.get(COMPANIONS_MEMBER, b"{}"))
    forests = {spec.key: bundle.model_bytes(spec.key) for spec in manifest.models}
    if BASELINE_MEMBER in bundle.members:
        forests["baseline"] = bundle.members[BASELINE_MEMBER]
    scored = []
    for key in sorted(forests, key=lambda name: name != manifest.default_model):
        score = table_scores(read_trees(forests[key]), values).astype(np.float64)
        at = decision["watch"] if key == manifest.default_model else companions[key]["threshold"]
        scored.append(Scored(key, score, score >= at))
    hours_in_max = float(manifest.preprocessing_params["hours_in_max"])
    default = read_trees(forests[manifest.default_model])
    bedside = table_scores(default, at_bedside(values, names, hours_in_max)).astype(np.float64)
    knots = decision["calibration"]
    calibrated = Calibrated(tuple(knots["log_odds"]), tuple(knots["probability"]))
    return Run(
        table,
        "shipped-model",
        (*scored, *charted_rules(table)),
        bedside,
        calibrated(bedside),
        seen=known,
        left_out=known,
        notes=(f"{manifest.name} {manifest.version}, {bundle.sha256[:8]}",),
    )


def charted_rules(table: StayTable) -> tuple[Scored, ...]:
    """What wards go by: ``CONVENTIONAL``, and qSOFA at 2. NEWS2 asks for an urgent response at 5, an emergency at 7."""
    alert, early_warning, quick = threshold_alert(table), np.nan_to_num(news2(table), nan=0.0), qsofa(table)
    return (
        Scored("threshold_alert", alert.astype(np.float64), alert),
        *(Scored(f"news2_{points}", early_warning, early_warning >= points) for points in (5, 7)),
        Scored("qsofa_2", quick, quick >= 2),
    )


def missing_columns(table: StayTable, names: Sequence[str] = ("EtCO2",)) -> tuple[str, ...]:
    """Columns that the table lacks and that the model would use; ``names`` are of no use to it."""
    return tuple(name for name in table.absent if name not in names)
