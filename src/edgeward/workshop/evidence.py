"""Evidence: what was measured before a bundle may exist, one typed gate per claim.

``evidence.json`` (schema 1) is one object::

    schema      1
    name        the model task ("ecg-beat")
    models      {key: {sha256, bytes, precision}}              the exact files that were measured
    gates       [{name, model, data, data_sha256, figure, relation, bound, unit, passed, note}]
    facts       {section: {…}}                                 training, calibration, accuracy, latency; plain JSON
    machine     {cpu, logical_cpus, threads, python, numpy, onnxruntime, edgeward}      never a host name

A gate passes when ``figure relation bound`` holds; ``relation`` is "<=" or ">=". A figure that is not a finite number
fails: a gate never fails open. ``data`` says which patients the figure comes from: "held-out" (not seen by training or
calibration), "training" (where no patient was held out), "synthetic" or "none".
"""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward import __version__
from edgeward.kernel.errors import BundleError, EdgewardError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = 1
RELATIONS = ("<=", ">=")
DATA_KINDS = ("held-out", "training", "synthetic", "none")


class GateFailed(EdgewardError):  # noqa: N818 - named for what it says: a measurement was made and a bound does not hold
    """A measurement was made and its bound does not hold: exit code 1, and no bundle."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Gate:
    """One measured figure beside its bound."""

    name: str
    model: str
    figure: float
    relation: str
    bound: float
    unit: str
    data: str = "none"
    data_sha256: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS or self.data not in DATA_KINDS:
            raise BundleError("evidence-field", f"gate {self.name!r}: unknown relation or kind of data")

    @property
    def passed(self) -> bool:
        """Whether the figure keeps its bound; a figure or bound that is not finite does not."""
        if not (math.isfinite(self.figure) and math.isfinite(self.bound)):
            return False
        return self.figure <= self.bound if self.relation == "<=" else self.figure >= self.bound

    def line(self) -> str:
        """One line for people."""
        mark = "pass" if self.passed else "FAIL"
        return (
            f"{mark}  {self.name} [{self.model}]: {self.figure:.6g} {self.unit} (bound {self.relation} {self.bound:g})"
        )


@dataclass(frozen=True, slots=True)
class ModelFact:
    """Size and hash of a measured model file."""

    sha256: str
    bytes: int
    precision: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All gates of one release, with what they were measured on. See the module's docstring for the JSON."""

    name: str
    models: Mapping[str, ModelFact]
    gates: tuple[Gate, ...]
    machine: Mapping[str, str | int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that do not hold."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def require(self) -> None:
        """Raise ``GateFailed`` unless there is a gate and every gate holds."""
        if not self.gates:
            raise GateFailed("gates-missing", "no gate was measured; run verify before pack")
        if self.failed:
            lines = "; ".join(gate.line() for gate in self.failed)
            raise GateFailed("gate-failed", f"{len(self.failed)} of {len(self.gates)} gates do not hold: {lines}")

    def to_json(self) -> bytes:
        """Canonical bytes."""
        gates = [{**asdict(gate), "passed": gate.passed} for gate in self.gates]
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "models": {key: asdict(fact) for key, fact in self.models.items()},
            "gates": [{key: _plain(value) for key, value in gate.items()} for gate in gates],
            "facts": self.facts,
            "machine": self.machine,
        }
        return (json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Evidence:
        """Read what ``to_json`` wrote; ``BundleError`` for anything else, also for a ``passed`` that is not true."""
        try:
            data = json.loads(raw)
            if data.pop("schema") != SCHEMA:
                raise BundleError("evidence-schema", f"the evidence's schema is not {SCHEMA}; run verify again")
            gates = [_gate(item) for item in data["gates"]]
            models = {key: ModelFact(**fact) for key, fact in data["models"].items()}
            return cls(**{**data, "gates": tuple(gates), "models": models})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                "evidence-malformed", "evidence.json is not what verify writes; run verify again"
            ) from error


def _gate(item: dict[str, Any]) -> Gate:
    said = item.pop("passed")
    gate = Gate(**{**item, "figure": _number(item["figure"]), "bound": _number(item["bound"])})
    if said is not gate.passed:
        raise BundleError("evidence-malformed", f"gate {gate.name!r} says what its figure does not; run verify again")
    return gate


def _plain(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not a number")
    return float(value)


def machine_facts(threads: int) -> dict[str, str | int]:
    """The machine as evidence may show it: processor, threads, versions; no host name, no user, no path."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "logical_cpus": os.cpu_count() or 1,
        "threads": threads,
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "onnxruntime": metadata.version("onnxruntime"),
        "edgeward": __version__,
    }


def _cpu_model() -> str:
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
