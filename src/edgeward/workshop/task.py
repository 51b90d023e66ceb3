"""What the line asks of a model: one object per kind of model, found by the name of its file in ``models/``."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch

    from edgeward.bundle.manifest import TensorSpec
    from edgeward.workshop.scorer import FloatArray
    from edgeward.workshop.windows import LabelledWindows

TASKS: dict[str, str] = {
    "ecg-beat": "edgeward.workshop.ecg_beat_task",
    "sepsis-risk": "edgeward.workshop.sepsis_task",
    "hypotension": "edgeward.workshop.hypotension_task",
}
"""Name of a model (``models/ecg_beat.py`` is ``ecg-beat``) → the module that offers ``TASK``."""


@dataclass(frozen=True, slots=True)
class Source:
    """A data set behind a model, as the card and the licence file name it."""

    title: str
    licence: str
    citation: str
    address: str


def sources_of(facts: Mapping[str, Any]) -> tuple[Source, ...]:
    """The data sets that the facts of an evidence say were read: none where they say nothing."""
    return tuple(Source(**source) for source in facts.get("training", {}).get("sources", ()))


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What the operator may choose.

    ``data``: folder of WFDB records; ``extra``: folder of PTB-XL; ``fold``: (k, K) holds out the k-th of K groups of
    patients, None trains on everybody; ``records``: only these.
    """

    data: Path
    extra: Path | None = None
    fold: tuple[int, int] | None = None
    seed: int | None = None
    epochs: int | None = None
    records: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse before the recordings are read what no reading can mend. Raises ``ConfigError``."""
        if self.fold is not None and not (1 <= self.fold[0] <= self.fold[1] and self.fold[1] >= 2):
            raise ConfigError("fold-range", "--fold k/K needs K of 2 or more and k from 1 to K, such as 2/5")
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(
                "setting-invalid", "--epochs must be 1 or more; --weights adopts weights without training"
            )
        if self.seed is not None and not 0 <= self.seed < 1 << 32:
            raise ConfigError("setting-invalid", f"--seed must lie between 0 and {(1 << 32) - 1}")


@dataclass(frozen=True, slots=True)
class Trained:
    """A network in evaluation mode and how it came about (plain JSON values)."""

    network: torch.nn.Module
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Windows for training, and the windows of patients held out; ``whole`` is the task's own form of all of it.

    ``sources``: the data sets that were read for it, and no other.
    """

    training: LabelledWindows
    held_out: LabelledWindows
    held_out_patients: tuple[str, ...]
    sha256: str
    whole: Any
    sources: tuple[Source, ...] = ()


class BundleTask(Protocol):
    """What a bundle and its card say of a model, of whatever family. Class indices are positions in ``classes``."""

    name: str
    task: str
    classes: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    feature_names: tuple[str, ...]
    preprocessing: str
    preprocessing_params: Mapping[str, Any]
    deadline_ms: float
    intended_use: str
    limits: tuple[str, ...]
    baseline: str

    def decision(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """The manifest's ``decision``, checked; ``ConfigError`` when it does not hold."""
        ...

    def synthetic(self, count: int, seed: int) -> dict[str, FloatArray]:
        """``count`` made-up windows through the real preprocessing: the golden vectors hold no patient."""
        ...


class ModelTask(BundleTask, Protocol):
    """A network."""

    spared: Mapping[str, Sequence[str]]
    """EC57: true classes whose call as this class is no false positive."""
    f1_drop_max: Mapping[str, float]
    """Largest loss of F1, in percentage points, that INT8 may cost in a class."""
    fp32_inputs: tuple[str, ...]
    """Inputs whose downstream layers stay FP32 in the INT8 model."""
    feature_input: str

    def prepare(self, options: TrainOptions, cache: Path) -> TrainingData:
        """Read the data, split by patient. ``ConfigError`` when data are missing."""
        ...

    def train(
        self,
        data: TrainingData,
        options: TrainOptions,
        on_epoch: Callable[[int, Mapping[str, float]], None],
    ) -> Trained:
        """Train; ``on_epoch`` is told the epoch's number and its figures."""
        ...

    def save(self, network: torch.nn.Module, path: Path) -> None:
        """Write the weights: tensors and plain values, no pickled object."""
        ...

    def load(self, path: Path) -> torch.nn.Module:
        """Read what ``save`` wrote; pruned weights too."""
        ...

    def deployed(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network as it is exported: its output is ``outputs``."""
        ...


def find_task(name: str) -> ModelTask:
    """The task called ``name``; ``ConfigError`` for an unknown one or when the workshop extra is not installed."""
    if name not in TASKS:
        raise ConfigError("model-unknown", f"there is no model {name!r}; known: {', '.join(sorted(TASKS))}")
    try:
        module = importlib.import_module(TASKS[name])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgeward"):
            raise
        raise workshop_missing(error.name) from error
    return cast("ModelTask", module.TASK)


def workshop_missing(library: str | None) -> ConfigError:
    """What to say when a library of the workshop is not installed."""
    return ConfigError(
        "workshop-missing", f"making models needs {library or 'a library'}; pip install 'edgeward[workshop]'"
    )
