"""Where the pipeline says how long its stages take, without a clock of its own."""

from __future__ import annotations

from typing import Protocol


class StageTimer(Protocol):
    """Where the pipeline reports how long its stages take; the adapter reads the clock."""

    def start(self) -> int:
        """A mark in ns."""
        ...

    def lap(self, stage: str, mark: int) -> int:
        """Record the time since ``mark`` for ``stage``; returns a new mark."""
        ...


class NoTimer:
    """A ``StageTimer`` where nothing is measured: no clock is read."""

    def start(self) -> int:
        """No mark."""
        return 0

    def lap(self, stage: str, mark: int) -> int:  # noqa: ARG002
        """No duration."""
        return 0
