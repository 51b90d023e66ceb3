"""What the device's rim tells the processes behind it (thresholds, assessment): one vocabulary, one line each.

A *stay* is one patient's time on this device; its number is never used twice. Everything a process keeps, it keeps by
stay: history cannot cross patients, because a new patient is a new number. Beds are only labels that a stay carries.
Instants are nanoseconds of the system's monotonic clock, which all processes of a device share.

Lines go through a pipe as compact JSON arrays. ``decode`` trusts nothing about a line's shape, for a process that is
fed nonsense must say so and live.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Any

from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import Kind, Numeric

LINE_BYTES_MAX = 1 << 20

Message = tuple[str, dict[str, Any]]
"""What comes back and what a device tells: a kind and a plain object (docs/messages.md)."""


class Population(StrEnum):
    """Which limits and which models fit a patient."""

    ADULT = "adult"
    PAEDIATRIC = "paediatric"
    NEONATAL = "neonatal"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A stay begins in ``bed``.

    ``age_y`` in years and ``sex`` ("f", "m") where known; ``spo2_scale``: NEWS2's, 1 or 2; ``simulated``: the patient
    is made up.
    """

    stay: int
    bed: str
    at_ns: int
    population: Population = Population.ADULT
    age_y: float | None = None
    sex: str | None = None
    spo2_scale: int = 1
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """The patient of ``stay`` now lies in ``bed``; the history goes along."""

    stay: int
    bed: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Discharged:
    """The stay is over: forget everything of it."""

    stay: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Numerics of one stay, in the order in which they were observed."""

    stay: int
    numerics: tuple[Numeric, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Somebody at the bed has seen alert ``alert`` ("" for all of the stay)."""

    stay: int
    alert: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Suspended:
    """Threshold alerts of the stay make no claim on anybody until ``until_ns``; not later than now ends it."""

    stay: int
    until_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the process itself last gave as ``memory`` of the stay, given back after it was restarted."""

    stay: int
    memory: Any


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Which bundles a task has, of the assessment or a stream, as files with their SHA-256 ("" where there is none).

    ``bundle`` is in charge, ``previous`` is the one before, ``shadow`` runs beside it and is shown to nobody. Told at
    the start, and again whenever it changes: the process then brings itself to what is told. ``at_once``: do not wait
    for a safe moment. ``turn`` counts what was told, so that an answer is known by what it answers.
    """

    task: str
    bundle: str = ""
    sha256: str = ""
    previous: str = ""
    previous_sha256: str = ""
    shadow: str = ""
    shadow_sha256: str = ""
    at_once: bool = False
    turn: int = 0


Feed = Admitted | Moved | Discharged | Measured | Acknowledged | Suspended | Resumed | TaskSettings


def encode(message: Feed) -> bytes:
    """One line, newline included."""
    match message:
        case Measured(stay, numerics):
            row: list[Any] = ["measured", stay, [[n.kind.value, n.value, n.at_ns] for n in numerics]]
        case Admitted(stay, bed, at_ns, population, age_y, sex, scale, simulated):
            row = ["admitted", stay, bed, at_ns, population.value, age_y, sex, scale, simulated]
        case Moved(stay, bed, at_ns):
            row = ["moved", stay, bed, at_ns]
        case Discharged(stay, at_ns):
            row = ["discharged", stay, at_ns]
        case Acknowledged(stay, alert, at_ns):
            row = ["acknowledged", stay, alert, at_ns]
        case Suspended(stay, until_ns, at_ns):
            row = ["suspended", stay, until_ns, at_ns]
        case Resumed(stay, memory):
            row = ["resumed", stay, memory]
        case TaskSettings():
            row = ["task", *astuple(message)]
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Feed:
    """The message of one line; ``InputError`` (``feed-malformed``) for anything else."""
    try:
        kind, *rest = json.loads(line)
        message: Feed = _READERS[kind](*rest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            "feed-malformed", f"a line of the device's own feed cannot be read ({type(error).__name__}); it is dropped"
        ) from error
    return message


def _measured(stay: int, rows: list[list[Any]]) -> Measured:
    return Measured(int(stay), tuple(_numeric(*row) for row in rows))


def _numeric(kind: str, value: float | None, at_ns: int) -> Numeric:
    return Numeric(Kind(kind), None if value is None else float(value), int(at_ns))


def _admitted(
    stay: int,
    bed: str,
    at_ns: int,
    population: str,
    age_y: float | None,
    sex: str | None,
    scale: int,
    simulated: bool,
) -> Admitted:
    age = None if age_y is None else float(age_y)
    return Admitted(int(stay), str(bed), int(at_ns), Population(population), age, sex, int(scale), bool(simulated))


def _task(task: str, *rest: Any) -> TaskSettings:
    bundle, sha256, previous, previous_sha256, shadow, shadow_sha256, at_once, turn = rest
    files = (str(bundle), str(sha256), str(previous), str(previous_sha256), str(shadow), str(shadow_sha256))
    return TaskSettings(str(task), *files, bool(at_once), int(turn))


_READERS: dict[str, Any] = {
    "measured": _measured,
    "admitted": _admitted,
    "moved": lambda stay, bed, at_ns: Moved(int(stay), str(bed), int(at_ns)),
    "discharged": lambda stay, at_ns: Discharged(int(stay), int(at_ns)),
    "acknowledged": lambda stay, alert, at_ns: Acknowledged(int(stay), str(alert), int(at_ns)),
    "suspended": lambda stay, until_ns, at_ns: Suspended(int(stay), int(until_ns), int(at_ns)),
    "resumed": Resumed,
    "task": _task,
}
