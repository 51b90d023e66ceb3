"""``edgeward evaluate``: what a model is worth, by the field's own protocol."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli import evaluate_hypotension
from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import ConfigError, InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from edgeward.evaluate.beat_report import BeatReport
    from edgeward.evaluate.ecg_beat import Job, Streamed

_MEASURES = ("qrs", "sveb", "veb")
_FIGURES = ("se", "ppv", "fpr")
_RISK_FIGURES = ("auroc", "auprc", "utility", "ppv", "lead_minutes")


def register(verbs: Any) -> None:
    """Add ``evaluate`` and its subjects to the command line."""
    parser = verbs.add_parser("evaluate", help="measure a model by its field's protocol")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    _register_beat(subjects)
    _register_quality(subjects)
    _register_deterioration(subjects)
    evaluate_hypotension.register(subjects)


def _register_beat(subjects: Any) -> None:
    beat = subjects.add_parser(
        "ecg-beat",
        help="beat detection and classification by ANSI/AAMI EC57",
        description="Streams WFDB records through the bedside pipeline (its own QRS detections, its own quality "
        "verdicts, the bundle's default model) and prints the EC57 tables with 95 % bootstrap intervals by patient.",
        epilog="Example: edgeward evaluate ecg-beat --data mitdb --records 100,103,105 --min veb.se=0.97 --json",
    )
    beat.add_argument("--data", type=Path, required=True, help="folder of WFDB records with reference annotations")
    beat.add_argument(
        "--records",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="records by name, apart by spaces or commas (default: all in the folder that have annotations)",
    )
    beat.add_argument("--bundle", type=Path, help="bundle to evaluate (default: the one shipped with Edgeward)")
    beat.add_argument("--model", help="model of the bundle, such as fp32 (default: the bundle's own default)")
    beat.add_argument("--reference", default="atr", help="extension of the reference annotations (default: atr)")
    beat.add_argument("--start", type=float, default=300.0, metavar="S", help="score from this second on (EC57: 300)")
    beat.add_argument("--out", type=Path, help="folder for annotation files (*.edw) that wfdb and bxb can read")
    # "extend": a second --min must add a bound; replacing the first would pass a gate that was asked for.
    beat.add_argument(
        "--min",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIGURE=VALUE",
        dest="bounds",
        help="bounds on gross figures, exit code 1 when one is broken: {qrs,sveb,veb}.{se,ppv} at least, .fpr at most; "
        "a fraction such as veb.se=0.97, or in percent above 1",
    )
    beat.add_argument("--allow-truncated", action="store_true", help="stream what is there of a truncated record")
    beat.add_argument(
        "--cross-validate",
        type=int,
        metavar="K",
        help="train on the other patients, K folds (needs the workshop extra)",
    )
    beat.add_argument("--extra-data", type=Path, help="with --cross-validate: PTB-XL folder for more patients")
    beat.add_argument(
        "--work", type=Path, default=Path("build/cross-validate"), help="with --cross-validate: keeps folds"
    )
    beat.add_argument("--workers", type=int, help="processes (default: one per core)")
    beat.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    beat.set_defaults(run=run_beat)


def _register_quality(subjects: Any) -> None:
    quality = subjects.add_parser(
        "ecg-quality",
        help="is a 12-lead ECG acceptable? (PhysioNet/CinC 2011)",
        description="Applies the shipped acceptability model to the recordings that it has not seen. Where half of "
        "them or more trained it, all are cross-validated instead (needs the workshop extra).",
    )
    quality.add_argument(
        "--data",
        type=Path,
        required=True,
        help=".npz with adu (N, 12, n) in converter units (200 per mV, 500 Hz, leads I to V6) and acceptable (N,): "
        "1, 0, or -1 for not judged",
    )
    quality.add_argument(
        "--mode",
        choices=("auto", "cross-validate", "shipped"),
        default="auto",
        help="score the shipped model, cross-validate, or decide by what it has seen (default: auto)",
    )
    quality.add_argument(
        "--folds", type=int, help="folds of the cross-validation (default: 10, or as many as the rarer label allows)"
    )
    quality.add_argument("--seed", type=int, default=0, help="seed of folds and intervals (default: 0)")
    quality.add_argument("--min", type=float, metavar="ACCURACY", dest="bound", help="exit code 1 below this accuracy")
    quality.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    quality.set_defaults(run=run_quality)


def _register_deterioration(subjects: Any) -> None:
    risk = subjects.add_parser(
        "deterioration",
        help="sepsis risk on hourly stays (PhysioNet/CinC 2019): utility, burden, lead time",
        description="Scores the shipped sepsis model on stays that it has not seen; stays that trained it are "
        "cross-validated by patient instead. Beside it: vital signs alone, a plain baseline, NEWS2, qSOFA and "
        "threshold alerts. Needs the workshop extra.",
        epilog="Example: edgeward evaluate deterioration --data stays.parquet --min utility=0.4 --json",
    )
    risk.add_argument("--data", type=Path, required=True, help="parquet of hourly stays, or a folder of .psv files")
    risk.add_argument("--bundle", type=Path, help="bundle to evaluate (default: the one shipped with Edgeward)")
    risk.add_argument("--mode", choices=("auto", "cross-validate", "shipped"), default="auto")
    risk.add_argument("--folds", type=int, default=5)
    risk.add_argument("--seed", type=int, default=0, help="of the draws of patients")
    risk.add_argument("--workers", type=int, help="processes (default: one per core)")
    risk.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep features and folds' scores here; the cache of a build folder of the same table saves growing anew",
    )
    risk.add_argument("--out", type=Path, help="folder for plots (PNG) and the figures behind them (CSV)")
    risk.add_argument(
        "--min", nargs="+", default=[], action="extend", metavar="FIGURE=VALUE", dest="bounds",
        help="least values, such as utility=0.4 auroc=0.8",
    )  # fmt: skip
    risk.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    risk.set_defaults(run=run_deterioration)


def run_beat(arguments: argparse.Namespace) -> int:
    """The verb ``evaluate ecg-beat``."""
    from edgeward.evaluate.ecg_beat import evaluate, find_records

    bounds = parse_bounds(arguments.bounds)
    check_arguments(arguments)
    found = find_records(arguments.data, record_names(arguments.records), arguments.reference)
    if found.unannotated:
        sys.stderr.write(
            f"NOTE: no .{arguments.reference} annotations, so not scored: {' '.join(found.unannotated)} "
            "(--reference names another extension)\n"
        )
    jobs = _jobs(arguments, found.records)

    def told(streamed: Streamed) -> None:
        withheld = ", ".join(f"{count} {reason}" for reason, count in sorted(streamed.withheld.items()))
        beats = streamed.result.confusion.qrs.beats
        sys.stderr.write(f"  {streamed.result.record}: {beats} beats, leads {' '.join(streamed.leads)}")
        sys.stderr.write(f", withheld: {withheld}" if withheld else "")
        if not beats:
            sys.stderr.write(f", no reference beat after {arguments.start:g} s (--start)")
        sys.stderr.write("\n")

    refused: list[str] = []

    def refuse(error: InputError) -> None:
        refused.append(str(error))
        sys.stderr.write(f"  REFUSED {error} [{error.code}]\n")

    report = evaluate(jobs, workers=arguments.workers, on_record=told, on_refused=refuse)
    print(report.to_text())
    for line in refused:
        print(f"REFUSED, not in these figures: {line}")
    broken = broken_bounds(report, bounds)
    for line in broken:
        print(f"BOUND BROKEN: {line}")
    if arguments.json:
        more = {"refused": refused, "unannotated": found.unannotated, "bounds_hold": not broken}
        print(json.dumps({**report.to_json(), **more}))
    if refused:
        return InputError.exit_code
    return 1 if broken else 0


def record_names(given: Sequence[str] | None) -> list[str] | None:
    """``["100,101", "103.hea"]`` → ``["100", "101", "103"]``, each once: a record named twice would count twice.

    None where no record was asked for by name. Raises ``ConfigError`` where names were announced and none is there.
    """
    if given is None:
        return None
    names = [name.strip().removesuffix(".hea") for part in given for name in part.split(",") if name.strip()]
    if not names:
        raise ConfigError("setting-invalid", "--records names no record; leave it out to take all of the folder")
    return list(dict.fromkeys(names))


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse before hours of work what would fail or mislead after them. Raises ``ConfigError``."""
    if not 0 <= arguments.start < math.inf:
        raise ConfigError("setting-invalid", "--start is a time in seconds, 0 or more")
    if arguments.cross_validate is not None and arguments.cross_validate < 2:
        raise ConfigError("setting-invalid", "--cross-validate needs 2 folds or more")
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError("setting-invalid", "--workers needs 1 process or more; leave it out for one per core")
    if arguments.bundle is not None and not arguments.bundle.is_file():
        raise ConfigError("bundle-missing", f"there is no bundle at {arguments.bundle}; name its file with --bundle")
    if arguments.out is not None:
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("output-unwritable", f"cannot write to {arguments.out}: {error.strerror}") from error


def _jobs(arguments: argparse.Namespace, records: Sequence[str]) -> list[Job]:
    from edgeward.evaluate.ecg_beat import Job

    bundles: dict[str, Path]
    if arguments.cross_validate is not None:
        from edgeward.evaluate.cross_validate import fold_bundles

        bundles = fold_bundles(
            arguments.data,
            records,
            arguments.cross_validate,
            arguments.work,
            decision=_decision_of(arguments.bundle),
            extra_data=arguments.extra_data,
        )
    else:
        bundle = arguments.bundle or shipped_bundle("ecg-beat")
        warn_of_training_records(bundle, records)
        bundles = dict.fromkeys(records, bundle)
    return [
        Job(
            record=record,
            data=arguments.data,
            bundle=bundles[record],
            reference=arguments.reference,
            start_s=arguments.start,
            model=arguments.model,
            out=arguments.out,
            allow_truncated=arguments.allow_truncated,
        )
        for record in records
    ]


def _decision_of(bundle: Path | None) -> Mapping[str, Any]:
    """The decision of the bundle named; nothing, which is the workshop's own, without one.

    Not of the bundle shipped: it may be of an older kind than the one that is being made to replace it.
    """
    from edgeward.bundle.archive import read_bundle

    return {} if bundle is None else read_bundle(bundle.read_bytes()).manifest.decision


def warn_of_training_records(bundle: Path, records: Sequence[str]) -> None:
    """Say so when records were among those that the bundle was trained on: their figures show fit, not skill."""
    from edgeward.bundle.archive import read_bundle
    from edgeward.wire.wfdb import patient_of

    evidence = json.loads(read_bundle(bundle.read_bytes()).members.get("evidence.json", b"{}"))
    trained = set(evidence.get("facts", {}).get("training", {}).get("patient_ids", []))
    seen = [record for record in records if patient_of(record.rpartition("/")[2]) in trained]
    if seen:
        sys.stderr.write(
            f"NOTE: the model was trained on {len(seen)} of these {len(records)} records ({' '.join(seen)}); "
            "use --cross-validate 5 for figures on patients not seen\n"
        )


def parse_bounds(texts: Sequence[str]) -> dict[tuple[str, str], float]:
    """``["veb.se=0.97"]`` → {("veb", "se"): 0.97}; ``ConfigError`` for anything else. Values over 1 are percent."""
    bounds: dict[tuple[str, str], float] = {}
    for text in (part for item in texts for part in item.split(",")):
        name, _, value = text.partition("=")
        measure, _, figure = name.partition(".")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if measure not in _MEASURES or figure not in _FIGURES or not 0 <= number <= 100:
            raise ConfigError(
                "bound-invalid",
                f"--min {text}: write {{{','.join(_MEASURES)}}}.{{{','.join(_FIGURES)}}}=VALUE with a fraction "
                "from 0 to 1 or percent up to 100, such as veb.se=0.97",
            )
        bounds[measure, figure] = number / 100 if number > 1 else number
    return bounds


def broken_bounds(report: BeatReport, bounds: dict[tuple[str, str], float]) -> list[str]:
    """One sentence per bound that does not hold; a figure that is not defined holds none. ``fpr`` is a ceiling."""
    broken = []
    for (measure, figure), bound in bounds.items():
        value = getattr(report.gross(measure), figure)
        holds = value is not None and (value <= bound if figure == "fpr" else value >= bound)
        if not holds:
            shown = "not defined" if value is None else f"{value:.4f}"
            broken.append(f"{measure}.{figure} is {shown}, bound {bound:.4f}")
    return broken


def run_quality(arguments: argparse.Namespace) -> int:
    """The verb ``evaluate ecg-quality``."""
    from edgeward.evaluate.ecg_quality import render, run

    bound = accuracy_bound(arguments.bound)
    if arguments.seed < 0:
        raise ConfigError("setting-invalid", "--seed is a whole number, 0 or more")
    result = run(arguments.data, mode=arguments.mode, folds=arguments.folds, seed=arguments.seed)
    broken = bound is not None and result.accuracy < bound
    print(render(result))
    if broken:
        print(f"BOUND BROKEN: accuracy is {result.accuracy:.4f}, bound {bound:.4f}")
    if arguments.json:
        print(json.dumps({**result.to_dict(), "bounds_hold": not broken}))
    return 1 if broken else 0


def accuracy_bound(value: float | None) -> float | None:
    """A fraction, from a fraction or percent; ``ConfigError`` for what no accuracy can reach or miss."""
    if value is None:
        return None
    if not 0 <= value <= 100:
        raise ConfigError("bound-invalid", "--min takes an accuracy: a fraction such as 0.95, or percent above 1")
    return value / 100 if value > 1 else value


def run_deterioration(arguments: argparse.Namespace) -> int:
    """The verb ``evaluate deterioration``."""
    from edgeward.workshop.task import workshop_missing

    bounds = parse_figures(arguments.bounds)
    try:
        from edgeward.evaluate.deterioration import run
        from edgeward.evaluate.deterioration_plots import write_plots
        from edgeward.evaluate.deterioration_report import report
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgeward"):
            raise
        raise workshop_missing(error.name) from error
    bundle = None
    if arguments.mode != "cross-validate" or arguments.bundle is not None:
        bundle = arguments.bundle or shipped_bundle("sepsis-risk")
    found = run(
        arguments.data,
        bundle,
        mode=arguments.mode,
        folds=arguments.folds,
        workers=arguments.workers or os.cpu_count() or 1,
        work=arguments.work,
        say=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
    )
    told = report(found, seed=arguments.seed)
    print(told.to_text())
    if arguments.out is not None:
        for path in write_plots(found, arguments.out):
            print(path)
    values = told.to_json()
    broken = [
        f"{name} is {values[name]['value']}, bound {least}"
        for name, least in bounds.items()
        if values[name]["value"] is None or values[name]["value"] < least
    ]
    for line in broken:
        print(f"BOUND BROKEN: {line}")
    if arguments.json:
        print(json.dumps({**values, "bounds_hold": not broken}))
    return 1 if broken else 0


def parse_figures(texts: Sequence[str]) -> dict[str, float]:
    """``["utility=0.4"]`` → {"utility": 0.4}; ``ConfigError`` for anything else."""
    bounds: dict[str, float] = {}
    for text in (part for item in texts for part in item.split(",")):
        name, _, value = text.partition("=")
        try:
            bounds[name] = float(value)
        except ValueError:
            bounds[name] = math.nan
        if name not in _RISK_FIGURES or not math.isfinite(bounds[name]):
            raise ConfigError("bound-invalid", f"--min {text}: write FIGURE=VALUE with one of {_RISK_FIGURES}")
    return bounds
