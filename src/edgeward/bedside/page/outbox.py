"""What was said of what leaves for the hospital's record: how much waits and how long, what failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import age_ms, real, words
from edgeward.bedside.page.stay import steady
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

DESTINATIONS_MAX = 8
OUTBOX_TTL_MS = 20_000
"""The outbox is told of every 5 s."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination. ``code``: why its latest attempt failed, empty when it did not."""

    name: str
    refused: int
    code: str


@dataclass(frozen=True, slots=True)
class OutboxSaid:
    """The message ``outbox`` as it was said at ``t_ms``; ``oldest_at_ms``: since when the oldest item waits."""

    t_ms: float
    waiting: int
    oldest_at_ms: float
    lost: int
    unidentified: int
    fault: str
    destinations: tuple[Destination, ...]

    @classmethod
    def read(cls, data: Mapping[str, Any], now_ms: float, before: OutboxSaid | None = None) -> OutboxSaid:
        """Read a message that follows ``before``. Raises ``InputError`` where a field is odd."""
        told = data["destinations"][:DESTINATIONS_MAX]
        if not all(isinstance(one, dict) for one in told):
            raise InputError("page-datum", "a destination of the outbox is none; not shown")
        return cls(
            now_ms,
            _count(data["waiting"]),
            steady(None if before is None else before.oldest_at_ms, now_ms - age_ms(data["oldest_ms"])),
            sum(_count(data.get(name) or 0) for name in ("expired", "dropped", "failed")),
            _count(data.get("unidentified") or 0),
            words(data["fault"]),
            tuple(
                Destination(words(one.get("destination")), _count(one.get("refused") or 0), words(one.get("code")))
                for one in told
            ),
        )


def _count(value: Any) -> int:
    return max(0, int(real(value)))
