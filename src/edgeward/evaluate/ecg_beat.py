"""``evaluate ecg-beat``: the bedside pipeline over WFDB records, judged by EC57.

The detections, the quality verdicts and the INT8 model are those of the bedside. Records stream in parallel processes;
the order of the results is that of the records asked for.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.bedside.decide import Decision
from edgeward.bedside.source.wfdb import load_annotations, load_record, segments_of
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.evaluate.beat_report import BeatReport, RecordResult
from edgeward.evaluate.ec57 import compare, is_paced
from edgeward.evaluate.stream import annotations_of, stream_record, withheld_counts
from edgeward.inference.engine import Engine
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.wire.wfdb import encode_annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from edgeward.evaluate.stream import Score

ANNOTATOR = "edw"
"""Extension of the annotation files that Edgeward writes, as ``rdann -a edw`` and ``bxb -a atr edw`` name them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One record to stream with one bundle. ``out``: folder for its annotation file, None for none."""

    record: str
    data: Path
    bundle: Path
    reference: str
    start_s: float
    model: str | None = None
    out: Path | None = None
    allow_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of one record."""

    result: RecordResult
    withheld: Mapping[str, int]
    leads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Names of the records to stream, and of those that were left out because nobody annotated their beats."""

    records: list[str]
    unannotated: list[str]


def find_records(data: Path, names: Sequence[str] | None, reference: str) -> Found:
    """The records to stream: those named, else every header in the folder with reference annotations.

    A folder without a header of its own is searched below; a record's name is then its path, such as ``a/100``. Where
    there are headers, nothing below is taken by itself: PhysioNet's folders hold excerpts of their records there.
    Raises ``ConfigError`` when the folder, a named record or every annotation is not there.
    """
    if not data.is_dir():
        raise ConfigError("data-missing", f"{data} is not a folder; name the folder that holds the .hea files")
    if names is not None:
        _require_named(data, names, reference)
        return Found(list(names), [])
    headers = list(data.glob("*.hea")) or list(data.rglob("*.hea"))
    present = sorted(path.relative_to(data).with_suffix("").as_posix() for path in headers)
    if not present:
        raise ConfigError("data-missing", f"{data} holds no WFDB record; name the folder that holds the .hea files")
    annotated = [name for name in present if (data / f"{name}.{reference}").is_file()]
    if not annotated:
        raise ConfigError(
            "data-missing",
            f"none of the {len(present)} WFDB records in {data} has .{reference} annotations to be scored against; "
            "name their extension with --reference",
        )
    bare = set(present) - set(annotated)
    segments = segments_of(data / name for name in annotated)
    return Found(annotated, sorted(name for name in bare if data / name not in segments))


def _require_named(data: Path, names: Sequence[str], reference: str) -> None:
    # A name that leads out of the folder would lead out of --out as well.
    inside = [name for name in names if not PurePath(name).is_absolute() and ".." not in PurePath(name).parts]
    absent = [name for name in names if name not in inside or not (data / f"{name}.hea").is_file()]
    if absent:
        raise ConfigError("record-missing", f"{data} holds no header (.hea) of: {', '.join(absent)}")
    bare = [name for name in names if not (data / f"{name}.{reference}").is_file()]
    if bare:
        raise ConfigError(
            "record-missing",
            f"no .{reference} annotations lie beside: {', '.join(bare)}; leave them out, or name another extension "
            "with --reference",
        )


def evaluate(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    on_record: Callable[[Streamed], None],
    on_refused: Callable[[InputError], None] | None = None,
) -> BeatReport:
    """Stream every job; ``on_record`` is told of each as it ends.

    A record that cannot be read is told to ``on_refused`` and left out of the report; without ``on_refused`` its
    ``InputError`` is raised. Raises what else streaming one record raises.
    """
    count = min(len(jobs), workers or os.cpu_count() or 1)
    with ExitStack() as stack:
        run: Callable[..., Iterable[Streamed | tuple[str, str]]] = map
        if count > 1:
            # spawn: a fork of a process that holds ONNX Runtime's threads may never come back.
            run = stack.enter_context(ProcessPoolExecutor(count, mp_context=get_context("spawn"))).map
        results: list[RecordResult] = []
        for outcome in run(_tried, jobs):
            if isinstance(outcome, Streamed):
                on_record(outcome)
                results.append(outcome.result)
                continue
            error = InputError(*outcome)
            if on_refused is None:
                raise error
            on_refused(error)
    return BeatReport(tuple(results))


def _tried(job: Job) -> Streamed | tuple[str, str]:
    """What came of one record, or code and message of its refusal: an error with two arguments does not cross."""
    try:
        return stream(job)
    except InputError as error:
        return error.code, str(error)


def stream(job: Job) -> Streamed:
    """Stream one record through the bedside pipeline and compare it with its reference annotations.

    Raises ``InputError`` naming the record for one that cannot be read, ``BundleError`` for the bundle.
    """
    bundle = read_bundle(job.bundle.read_bytes())
    path = job.data / job.record
    try:
        record = load_record(path, allow_truncated=job.allow_truncated)
        reference = load_annotations(path, job.reference, rate_hz=record.rate_hz)
        spec = BeatWindowSpec.from_params(bundle.manifest.preprocessing_params)
        decision = Decision.from_manifest(bundle.manifest.decision)
        verdicts = stream_record(record, spec, decision, score_of(bundle, job.model))
    except InputError as error:
        raise InputError(error.code, f"record {job.record}: {error}") from error
    found = annotations_of(verdicts)
    if job.out is not None:
        file = job.out / f"{job.record}.{ANNOTATOR}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_annotations(found))
    stop_s = record.samples.shape[1] / record.rate_hz
    confusion = compare(reference, found, record.rate_hz, start_s=job.start_s, stop_s=stop_s)
    withheld = withheld_counts(verdicts)
    result = RecordResult(job.record, confusion, is_paced(reference), sum(withheld.values()))
    return Streamed(result, withheld, record.leads)


def score_of(bundle: Bundle, model: str | None) -> Score:
    """The bundle's model as a function, run in this process."""
    engine = Engine.load(bundle, model)

    def score(wave: npt.NDArray[np.float32], rhythm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scores = engine.infer({"wave": wave, "rhythm": rhythm})
        return np.asarray(scores, dtype=np.float32).reshape(-1)

    return score
