"""``edgeward evaluate hypotension``: sustained hypotension 30 to 60 minutes ahead, on stays of CinC 2012's shape."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

BOUNDS = (
    "auroc",
    "auprc",
    "recall_at_1_per_day",
    "ppv",
    "lead_minutes",
)
"""Figures that ``--min`` may bound."""
SIMULATED_MAX = 1000
SIMULATED_HOURS = 6.0


def register(subjects: Any) -> None:
    """Add the subject ``hypotension``."""
    parser = subjects.add_parser(
        "hypotension",
        help="sustained hypotension 30 to 60 minutes ahead (PhysioNet/CinC 2012)",
        description="Scores the shipped model at decision points of stays it has not seen, beside the last mean "
        "pressure and its trend, with 95 %% intervals by patient; stays that it was trained on are cross-validated "
        "instead: LSTM and trees are trained anew for every fold (hours; needs the workshop extra).",
        epilog="Example: edgeward evaluate hypotension --data set_b.parquet --min auroc=0.7 --json",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", metavar="FILE", help="parquet files with record, minute, parameter, value"
    )
    parser.add_argument("--bundle", type=Path, help="bundle to evaluate (default: the one shipped with Edgeward)")
    parser.add_argument("--mode", choices=("auto", "cross-validate", "shipped"), default="auto")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument(
        "--work", type=Path, default=Path("build/hypotension-cross"), help="with cross-validation: keeps folds"
    )
    parser.add_argument(
        "--simulated", type=int, metavar="N", help="instead of data: N simulated patients, a score every 15 s"
    )
    parser.add_argument("--definitions", action="store_true", help="also score other definitions of the task (shipped)")
    parser.add_argument(
        "--min", nargs="+", default=[], metavar="FIGURE=VALUE", dest="bounds", help="least values, such as auroc=0.7"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write hypotension.png and hypotension.json there")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.set_defaults(run=run_hypotension)


def run_hypotension(arguments: argparse.Namespace) -> int:
    """The verb ``evaluate hypotension``."""
    from edgeward.evaluate.hypotension import run
    from edgeward.evaluate.hypotension_report import plot, render

    bounds = parse_bounds(arguments.bounds)
    if (arguments.simulated is None) == (not arguments.data):
        raise ConfigError("data-missing", "name parquet files of stays with --data, or ask for --simulated N")
    bundle = arguments.bundle or shipped_bundle("hypotension")
    if not bundle.is_file():
        raise ConfigError("bundle-missing", f"there is no bundle at {bundle}; name its file with --bundle")
    if arguments.simulated is not None:
        return _simulated(arguments.simulated, bundle, as_json=arguments.json)
    result = run(arguments.data, bundle, arguments.work, mode=arguments.mode, folds=arguments.folds, say=_say)
    print(render(result))
    told = result.to_dict()
    if arguments.definitions:
        told["definitions"] = _definitions(arguments.data, bundle)
    broken = broken_bounds(told, bounds)
    for line in broken:
        print(f"BOUND BROKEN: {line}")
    if arguments.out is not None:
        plot(result, arguments.out / "hypotension.png")
        _write(arguments.out / "hypotension.json", told)
    if arguments.json:
        print(json.dumps({**told, "bounds_hold": not broken}))
    return 1 if broken else 0


def _simulated(count: int, bundle: Path, *, as_json: bool) -> int:
    """Patients of five courses by turns, their figures from the half of the ranges that is held out."""
    from edgeward.bundle.archive import read_bundle
    from edgeward.evaluate.hypotension_simulated import play, render, told
    from edgeward.testing.patients import Patient
    from edgeward.testing.patients import Plan as PatientPlan
    from edgeward.testing.vitals_table import COURSES

    if not 1 <= count <= SIMULATED_MAX:
        raise ConfigError("setting-invalid", f"--simulated takes 1 to {SIMULATED_MAX} patients")
    patients = []
    for seed in range(count):
        random = Random(seed)
        plan = PatientPlan(
            seed=seed,
            course=COURSES[seed % len(COURSES)],
            onset_s=random.uniform(1.5, 3.0) * 3600,
            ramp_s=random.uniform(1.0, 2.5) * 3600,
            held_out=True,
        )
        patients.append((plan.course.value, Patient(plan), SIMULATED_HOURS))
    played = read_bundle(bundle.read_bytes())
    found = play(played, patients, _say)
    named = f"{played.manifest.name} {played.manifest.version}"
    print(f"{named}\n{render(found)}")
    if as_json:
        print(json.dumps({"bundle": named, **told(found)}))
    return 0


def _definitions(paths: Sequence[Path], bundle: Path) -> list[dict[str, Any]]:
    """The same model at other definitions of the task; every difference from the task is named."""
    from edgeward.evaluate.hypotension import run
    from edgeward.evaluate.hypotension_report import shown, table
    from edgeward.signal.hypotension import TASK

    variants = {
        "the task": TASK,
        "3 values, gaps to 30 min": replace(TASK, gap=30, values=3),
        "nothing low for 2 h": replace(TASK, clear=120),
        "nothing low in the stay": replace(TASK, clear=100_000),
        "every value asked": replace(TASK, every=1),
        "sustained 15 min": replace(TASK, sustained=15),
        "low is below 60": replace(TASK, limit=60.0),
        "begins 15 to 60 min ahead": replace(TASK, soonest=15),
    }
    rows: list[tuple[str, ...]] = [
        ("definition", "patients", "points", "positives", "AUROC", "last MAP", "recall at 1 false a day")
    ]
    told = []
    for name, task in variants.items():
        result = run(paths, bundle, Path(), mode="shipped", task=task)
        auroc, last = result.ranks[result.model][0], result.ranks["last MAP"][0]
        counts = result.counts
        recall = result.at_budget[result.model].recall
        numbers = [f"{counts[key]:.0f}" for key in ("patients", "points", "positives")]
        rows.append((name, *numbers, shown(auroc), shown(last), shown(recall)))
        told.append({"definition": name, "auroc": auroc.value, "last_map": last.value, "points": counts["points"]})
    print("\nOther definitions, the same model\n" + table(rows))
    return told


def parse_bounds(texts: Sequence[str]) -> dict[str, float]:
    """``["auroc=0.7"]`` → {"auroc": 0.7}; ``ConfigError`` (``bound-invalid``) for anything else."""
    bounds: dict[str, float] = {}
    for text in (part for item in texts for part in item.split(",")):
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in BOUNDS or not math.isfinite(number):
            raise ConfigError("bound-invalid", f"--min {text}: write FIGURE=VALUE with one of {', '.join(BOUNDS)}")
        bounds[name] = number
    return bounds


def broken_bounds(told: Mapping[str, Any], bounds: Mapping[str, float]) -> list[str]:
    """One sentence per bound that does not hold; a figure that is not defined holds none."""
    broken = []
    for name, bound in bounds.items():
        value = told[name]
        if value is None or not value >= bound:
            broken.append(f"{name} is {'not defined' if value is None else f'{value:.4f}'}, bound {bound:g}")
    return broken


def _write(path: Path, told: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(told, indent=1) + "\n")
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {path.name}: {error.strerror}") from error


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
