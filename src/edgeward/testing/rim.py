"""A rim that keeps what it is given, for tests of sources and for measuring them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.bedside.source.reading import Reading


@dataclass(slots=True)
class RecordingRim:
    """The ``Rim`` port: takes every reading, or none while ``busy``; ``peers``: (peer, connected) in order."""

    readings: list[Reading] = field(default_factory=list)
    peers: list[tuple[str, bool]] = field(default_factory=list)
    busy: bool = False

    def take(self, reading: Reading) -> bool:
        """Keep it, unless busy."""
        if self.busy:
            return False
        self.readings.append(reading)
        return True

    def peer(self, source: str, peer: str, *, connected: bool) -> None:  # noqa: ARG002  (the port's signature)
        """Note who came or went."""
        self.peers.append((peer, connected))

    @property
    def refusals(self) -> list[str]:
        """Codes of everything refused, in order."""
        return [refusal.code for reading in self.readings for refusal in reading.refusals]
