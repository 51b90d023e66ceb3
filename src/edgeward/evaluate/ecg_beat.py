"""``evaluate ecg-beat``: the bedside pipeline over WFDB records, judged by EC57.

The detections, the quality verdicts and the INT8 model are those of the bedside. Records stream in parallel processes;
the order of the results is that of the records asked for.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
from edgeward.kernel.errors import ConfigError, EngineError, InputError
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.trust.durable import storage_error, write_durably
from edgeward.wire.wfdb import encode_annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
    results: list[RecordResult] = []
    for outcome in _outcomes(jobs, min(len(jobs), workers or os.cpu_count() or 1)):
        if isinstance(outcome, Streamed):
            on_record(outcome)
            results.append(outcome.result)
        elif on_refused is None:
            raise outcome
        else:
            on_refused(outcome)
    return BeatReport(tuple(results))


def _outcomes(jobs: Sequence[Job], count: int) -> Iterator[Streamed | InputError]:
    """What came of each job, in their order, from ``count`` processes."""
    if count <= 1:
        yield from map(_tried, jobs)
        return
    # spawn: a fork of a process that holds ONNX Runtime's threads may never come back.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_at_ctrl_c)
    try:
        # A process inherits the mask: one that is still starting must not answer Ctrl-C with a traceback of its own.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = [pool.submit(_tried, job) for job in jobs]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for future in futures:
            yield future.result()
    except BrokenProcessPool as error:
        raise EngineError(
            "process-ended",
            "a process that streamed a record was ended by the system, most likely for want of memory; "
            "evaluate with fewer --workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_at_ctrl_c() -> None:
    """Let Ctrl-C end this process at once and without a word; the one that started it says what is to be said."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _tried(job: Job) -> Streamed | InputError:
    """What came of one record, or its refusal."""
    try:
        return stream(job)
    except InputError as error:
        return error


def stream(job: Job) -> Streamed:
    """Stream one record through the bedside pipeline and compare it with its reference annotations.

    Raises ``InputError`` naming the record for one that cannot be read, ``BundleError`` for the bundle, ``ConfigError``
    (``disk-full``, ``disk-error``) where the annotation file cannot be written.
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
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(file, encode_annotations(found))
        except OSError as error:
            raise storage_error(error, f"writing the annotations of {job.record}") from error
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
