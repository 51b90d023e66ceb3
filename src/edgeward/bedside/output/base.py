"""The output port: where messages of a bed go. ``write`` never blocks the stream and never raises."""

from __future__ import annotations

from typing import Any, Protocol


class Output(Protocol):
    """One consumer of a bed's messages."""

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Take one message; drops it (and counts it) rather than waiting."""
        ...

    def close(self) -> None:
        """Write out what is held, for a bounded time, and let go."""
        ...
