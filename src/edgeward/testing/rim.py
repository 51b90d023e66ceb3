"""A rim that keeps what it is given, for tests of sources and for measuring them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.bedside.source.reading import Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.source.reading import Reading


@dataclass(slots=True)
class RecordingRim:
    """The ``Rim`` port: keeps every reading, or answers ``receipt`` and keeps none.

    ``receipts``: another answer for a place; ``peers``: (peer, connected) in order.
    """

    readings: list[Reading] = field(default_factory=list)
    peers: list[tuple[str, bool]] = field(default_factory=list)
    receipt: Receipt = Receipt.TAKEN
    receipts: Mapping[str, Receipt] = field(default_factory=dict)

    def take(self, reading: Reading) -> Receipt:
        """Keep it, unless another answer is set."""
        receipt = self.receipts.get(reading.place, self.receipt)
        if receipt is Receipt.TAKEN:
            self.readings.append(reading)
        return receipt

    def peer(self, source: str, peer: str, *, connected: bool) -> None:  # noqa: ARG002  (the port's signature)
        """Note who came or went."""
        self.peers.append((peer, connected))

    @property
    def refusals(self) -> list[str]:
        """Codes of everything refused, in order."""
        return [refusal.code for reading in self.readings for refusal in reading.refusals]
