"""An output that keeps everything that a ward or a bed told."""

from __future__ import annotations

from typing import Any


class Heard:
    """The ``Output`` port."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def write(self, kind: str, data: dict[str, Any]) -> None:
        self.messages.append((kind, data))

    def close(self) -> None:
        pass

    def of(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        """What was told of that kind, from the message ``since`` on."""
        return [data for name, data in self.messages[since:] if name == kind]
