"""What every model's line shares: the order of the steps, and what is written when gates and bundle are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from edgeward.workshop.pack import Golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.workshop.evidence import Evidence
    from edgeward.workshop.folder import BuildFolder
    from edgeward.workshop.task import BundleTask

Say: TypeAlias = "Callable[[str, str], None]"
"""Called with the step and a line for people."""
TaskT = TypeVar("TaskT", bound="BundleTask")


def silent(step: str, text: str) -> None:
    """Say nothing."""
    del step, text


class Steps(ABC, Generic[TaskT]):
    """One model's way through the workshop, in one build folder."""

    def __init__(self, task: TaskT, folder: BuildFolder, version: str, say: Say) -> None:
        self.task = task
        self.folder = folder
        self.version = version
        self.say = say

    def build(self) -> Path:
        """Every step whose inputs changed; the bundle's path. Raises ``GateFailed`` when a gate does not hold."""
        self.train()
        self.export()
        self.compress()
        self.verify()
        return self.pack()

    @abstractmethod
    def train(self) -> None:
        """Train on the data."""

    @abstractmethod
    def export(self) -> None:
        """What was trained → a form that a device runs; they must agree (``GateFailed``)."""

    @abstractmethod
    def compress(self) -> None:
        """What was exported → what a bundle holds."""

    @abstractmethod
    def verify(self) -> Evidence:
        """Every gate → ``verify/evidence.json``. Raises ``GateFailed`` after writing it when one does not hold."""

    @abstractmethod
    def pack(self) -> Path:
        """Everything → ``pack/NAME-VERSION.ewb``. Refused unless every gate of the evidence holds."""

    # --- their parts

    def _keep(self, evidence: Evidence, golden: Golden, reference: bytes) -> None:
        """Write what was measured, for ``pack`` and for people."""
        self.folder.write("verify", "evidence.json", evidence.to_json())
        self.folder.write("verify", "reference.json", reference)
        self.folder.write("verify", "golden.npz", golden.member)
        self.folder.write_json("verify", "golden.json", golden.to_dict())

    def _require(self, evidence: Evidence) -> Evidence:
        """Say each gate; ``GateFailed`` when one does not hold."""
        for gate in evidence.gates:
            self.say("verify", gate.line())
        evidence.require()
        return evidence

    def _golden(self) -> Golden:
        """The golden vectors that were kept."""
        return Golden(self.folder.read("verify", "golden.npz"), **self.folder.read_json("verify", "golden.json"))

    def _write(self, raw: bytes, card: bytes) -> Path:
        """Write the bundle, and its card beside it."""
        self.folder.write("pack", "card.md", card)
        path = self.folder.write("pack", f"{self.task.name}-{self.version}.ewb", raw)
        self.say("pack", f"{path.name}, {len(raw)} bytes")
        return path
