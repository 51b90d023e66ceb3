"""What a bundle says of itself: typed, strict, and pure.

Every field is on an allow-list: an unknown key, task, preprocessing, backend or file role is a ``BundleError``. A
manifest names members of its own archive only; never a path, never something to import.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import GOLDEN_VECTORS_MAX, MANIFEST_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
TASKS = frozenset({"ecg-beat-aami", "sepsis-risk", "hypotension"})
PREPROCESSING = frozenset({"beat-window-2", "stay-features-1", "vitals-grid-1"})
PREPROCESSING_FORMER = frozenset({"beat-window-1"})
"""What earlier versions computed and this one does not: other features, so such a model cannot be fed."""
BACKENDS = frozenset({"onnxruntime", "openvino", "trees"})
PRECISIONS = frozenset({"fp32", "int8"})
DTYPES = frozenset({"float32"})
UNITS = frozenset({"mV", "1"})
BATCH = -1
"""Stands for the batch axis in a shape."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}(/[a-z0-9][a-z0-9_.-]{0,62})?")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model: name, shape (``BATCH`` = −1 first), dtype, unit ("mV", "1").

    ``missing``: NaN is allowed in this input and means "not measured"; elsewhere a NaN refuses the window.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = "1"
    meaning: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model file, made for one backend at one precision."""

    key: str
    member: str
    backend: str
    precision: str


@dataclass(frozen=True, slots=True)
class GoldenSpec:
    """Inputs with their expected scores, per model key; a device runs them before it trusts the bundle.

    ``tolerance`` is the largest absolute difference of any score that still passes: per model key, because INT8
    kernels round differently between processor generations and FP32 does not.
    """

    member: str
    count: int
    tolerance: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a device needs to know to run a bundle. ``hashes``: member → SHA-256 of every other member."""

    name: str
    version: str
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    classes: tuple[str, ...]
    preprocessing: str
    preprocessing_params: Mapping[str, Any]
    decision: Mapping[str, Any]
    deadline_ms: float
    default_model: str
    models: tuple[ModelSpec, ...]
    golden: GoldenSpec
    hashes: Mapping[str, str]
    licences: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    def __post_init__(self) -> None:
        _check(self)

    def model(self, key: str | None = None) -> ModelSpec:
        """The model named ``key``, or the default one; ``BundleError`` when the bundle holds none of that name."""
        wanted = key or self.default_model
        for spec in self.models:
            if spec.key == wanted:
                return spec
        known = ", ".join(spec.key for spec in self.models)
        raise BundleError("model-unknown", f"the bundle has no model {wanted!r}; it holds: {known}")

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces to vary, one newline at the end.

        A field that came later than the schema is left out where it says nothing, so that older bundles keep their
        bytes.
        """
        whole = asdict(self)
        for tensor in (*whole["inputs"], *whole["outputs"]):
            if not tensor["missing"]:
                del tensor["missing"]
        return (json.dumps(whole, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Manifest:
        """Read a manifest strictly; ``BundleError`` names the field that does not hold."""
        if len(raw) > MANIFEST_BYTES_MAX:
            raise BundleError(
                "manifest-too-large", f"the manifest is larger than {MANIFEST_BYTES_MAX} bytes; refuse the bundle"
            )
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BundleError(
                "manifest-not-json", "the manifest is not JSON; the bundle is damaged or foreign"
            ) from error
        if not isinstance(data, dict):
            raise BundleError(
                "manifest-not-json", "the manifest is not a JSON object; the bundle is damaged or foreign"
            )
        if data.get("schema") != SCHEMA:
            raise BundleError(
                "manifest-schema", f"the manifest's schema is not {SCHEMA}; install an Edgeward that reads it"
            )
        try:
            return cls(
                **{
                    **data,
                    "inputs": tuple(_tensor(item) for item in data["inputs"]),
                    "outputs": tuple(_tensor(item) for item in data["outputs"]),
                    "models": tuple(ModelSpec(**item) for item in data["models"]),
                    "golden": GoldenSpec(**data["golden"]),
                    "classes": _words(data["classes"]),
                    "licences": _words(data.get("licences", [])),
                }
            )
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise BundleError(
                "manifest-malformed",
                f"a field of the manifest is missing, unknown or of the wrong type ({type(error).__name__})",
            ) from error


def _words(items: object) -> tuple[str, ...]:
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError
    return tuple(items)


def _tensor(item: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(**{**item, "shape": tuple(item["shape"])})


def _require(condition: bool, field_name: str, rule: str) -> None:
    if not condition:
        raise BundleError("manifest-field", f"manifest field {field_name!r}: {rule}; the bundle is refused")


def _check(manifest: Manifest) -> None:
    _require(manifest.schema == SCHEMA, "schema", f"must be {SCHEMA}")
    _require(is_bundle_name(manifest.name), "name", "must be lower-case words joined by hyphens")
    _require(is_version(manifest.version), "version", "must be MAJOR.MINOR.PATCH")
    _require(manifest.task in TASKS, "task", f"must be one of {sorted(TASKS)}")
    if manifest.preprocessing in PREPROCESSING_FORMER:
        raise BundleError(
            "preprocessing-former",
            f"the bundle's model reads {manifest.preprocessing!r}, which only earlier versions of Edgeward compute; "
            "install the bundle that was built for this version",
        )
    _require(manifest.preprocessing in PREPROCESSING, "preprocessing", f"must be one of {sorted(PREPROCESSING)}")
    _require(0 < manifest.deadline_ms <= 60_000, "deadline_ms", "must lie in (0, 60000]")
    _require(1 <= len(manifest.models) <= 8, "models", "must hold 1 to 8 models")
    _require(bool(manifest.inputs) and bool(manifest.outputs), "inputs/outputs", "must not be empty")
    for spec in (*manifest.inputs, *manifest.outputs):
        shape_ok = (
            1 <= len(spec.shape) <= 4 and spec.shape[0] == BATCH and all(0 < n <= 1 << 20 for n in spec.shape[1:])
        )
        _require(shape_ok, f"shape of {spec.name}", "must be (-1, positive sizes…)")
        _require(
            spec.dtype in DTYPES and spec.unit in UNITS,
            f"dtype/unit of {spec.name}",
            f"{sorted(DTYPES)} in {sorted(UNITS)}",
        )
        _require(isinstance(spec.name, str) and isinstance(spec.meaning, str), "inputs/outputs", "must have names")
        _require(isinstance(spec.missing, bool), f"missing of {spec.name}", "must be true or false")
    for name, value in (("preprocessing_params", manifest.preprocessing_params), ("decision", manifest.decision)):
        _require(isinstance(value, dict), name, "must be an object")
    _require(0 <= manifest.golden.count <= GOLDEN_VECTORS_MAX, "golden.count", f"must lie in 0 to {GOLDEN_VECTORS_MAX}")
    for key, bound in manifest.golden.tolerance.items():
        _require(0 <= bound < 1, f"golden.tolerance of {key}", "must lie in [0, 1)")
    members = {manifest.golden.member}
    for model in manifest.models:
        _require(model.backend in BACKENDS, f"backend of {model.key}", f"must be one of {sorted(BACKENDS)}")
        _require(model.precision in PRECISIONS, f"precision of {model.key}", f"must be one of {sorted(PRECISIONS)}")
        members.add(model.member)
    keys = [model.key for model in manifest.models]
    _require(
        len(set(keys)) == len(keys) and manifest.default_model in keys, "default_model", "must name one of the models"
    )
    _require(set(manifest.golden.tolerance) == set(keys), "golden.tolerance", "must give one tolerance per model")
    _require(members <= set(manifest.hashes), "hashes", "must cover every member that the manifest names")
    for member, digest in manifest.hashes.items():
        _require(
            is_member_name(member) and member != "manifest.json",
            "hashes",
            "may name only plain members of this archive",
        )
        _require(isinstance(digest, str) and bool(_SHA256.fullmatch(digest)), "hashes", "must be lower-case SHA-256")


def is_version(text: str) -> bool:
    """Whether ``text`` is MAJOR.MINOR.PATCH."""
    return bool(_VERSION.fullmatch(text))


def is_bundle_name(name: str) -> bool:
    """Whether ``name`` can be a bundle's: lower-case words joined by hyphens, at most 63 characters."""
    return bool(_NAME.fullmatch(name))


def is_member_name(name: str) -> bool:
    """Whether ``name`` may stand in an archive: lower case, at most one folder, no ``..`` and no absolute path."""
    return bool(_MEMBER.fullmatch(name)) and ".." not in name
