"""``evaluate hypotension``: whether sustained hypotension 30 to 60 minutes away is called, and at what burden.

The task is ``workshop.hypotension_points``'s, the burden ``workshop.hypotension_alerts``'s. A model is never scored on
patients that trained it: where the stays given overlap with the shipped model's, every part is trained anew for each
fold and judges only patients it has not seen (hours); else the shipped bundle's default model is scored as it is, on
the inputs that a bedside's own grid gives.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeward.bedside.assess.hypotension import plan_of
from edgeward.bundle.archive import read_bundle
from edgeward.evaluate.hypotension_figures import HypotensionResult, Scored, judge
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.hypotension import TASK, Definition
from edgeward.workshop.hypotension_data import Examples, examples
from edgeward.workshop.vitals_long import read_long

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edgeward.bundle.archive import Bundle

Mode = Literal["auto", "cross-validate", "shipped"]


def run(
    paths: Sequence[Path],
    bundle_path: Path,
    work: Path,
    *,
    mode: Mode = "auto",
    folds: int = 3,
    task: Definition = TASK,
    say: Callable[[str], None] = lambda _: None,
) -> HypotensionResult:
    """Score the stays of ``paths``. ``work`` keeps what cross-validation trains.

    Raises ``InputError`` for files that cannot be scored (``points-missing``: no decision point with a known outcome;
    ``stays-seen``), ``ConfigError`` where cross-validation lacks the workshop extra.
    """
    stays = read_long(paths)
    bundle = read_bundle(bundle_path.read_bytes())
    known = trained_on(bundle)
    seen = sum(1 for stay in stays if len(stay) and stay.fingerprint in known)
    crossing = mode == "cross-validate" or (mode == "auto" and seen > 0)
    if crossing:
        if task != TASK:
            raise ConfigError("task-variant", "other definitions of the task are scored with --mode shipped")
        scored = _cross_validated(paths, work, folds, say)
        used = stays
    else:
        used = [stay for stay in stays if not (len(stay) and stay.fingerprint in known)]
        if not used:
            raise InputError("stays-seen", "every stay given was used to train the model; cross-validate instead")
        say(f"scoring {len(used)} stays with {bundle.manifest.name} {bundle.manifest.version}")
        scored = shipped_scores(bundle, examples(used, task, learn=False))
    threshold = None if crossing else plan_of(bundle.manifest).act
    return judge(
        scored,
        used,
        threshold=threshold,
        mode="cross-validated" if crossing else "shipped-model",
        seen=seen,
        left_out=len(stays) - len(used),
        folds=folds if crossing else None,
    )


def trained_on(bundle: Bundle) -> frozenset[str]:
    """Fingerprints of the stays that trained the bundle."""
    evidence = json.loads(bundle.members.get("evidence.json", b"{}"))
    return frozenset(evidence.get("facts", {}).get("training", {}).get("patient_ids", []))


def shipped_scores(bundle: Bundle, points: Examples, *, model: str | None = None) -> Scored:
    """Scores of the bundle's default model (or ``model``), as its own engine gives them."""
    from edgeward.inference.engine import Engine

    layout = plan_of(bundle.manifest).layout
    engine = Engine.load(bundle, model)
    rows = np.array(
        [
            engine.infer({"grid": grid.astype(np.float32), "features": features})
            for grid, features in zip(points.grid, points.features, strict=True)
        ],
        dtype=np.float32,
    ).reshape(len(points), -1)
    shape = (len(points), len(layout.quantiles), len(layout.minutes), len(layout.vitals))
    return Scored(points, {"model": rows[:, -1].astype(np.float64)}, rows[:, :-1].reshape(shape))


def _cross_validated(paths: Sequence[Path], work: Path, folds: int, say: Callable[[str], None]) -> Scored:
    try:
        from edgeward.workshop.hypotension_cross import JOINED, choose, cross, prepare
    except ModuleNotFoundError as error:
        raise ConfigError(
            "workshop-missing",
            "some of these stays trained the shipped model, so it cannot be scored on them, and cross-validation needs "
            "the workshop extra: pip install 'edgeward[workshop]'",
        ) from error

    def told(fold: int, epoch: int, values: Mapping[str, float]) -> None:
        say(f"fold {fold} of {folds}, epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))

    data = prepare(paths, work / "cache", say)
    crossed = cross(data, work, folds=folds, on_epoch=told)
    points = data.examples.decisions()
    quantiles, odds = crossed.odds(points)
    scores = {name: crossed.joined(odds, points, columns) for name, columns in JOINED.items()}
    chosen = choose(scores, points.outcome)
    say(f"least log loss out of fold: {chosen}")
    return Scored(
        points, {**{name: scores[name] for name in scores if name != chosen}, chosen: scores[chosen]}, quantiles
    )
