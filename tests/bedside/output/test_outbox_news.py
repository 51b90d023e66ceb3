"""How it goes with what leaves: told every 5 s, and at once when a fault begins or ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.bedside.output.courier import CourierState
from edgeward.bedside.output.outbox import OutboxState
from edgeward.bedside.output.outbox_news import OutboxNews

if TYPE_CHECKING:
    from edgeward.bedside.messages import Message

S = 1_000_000_000


@dataclass
class Part:
    """Stands for an outbox, a courier and an output at once."""

    now: OutboxState = field(default_factory=lambda: OutboxState(3, 900, 61.5, 1, 0, 0, ""))
    courier: CourierState = field(default_factory=lambda: CourierState("hl7", 7, 1, 2, ""))
    unidentified: int = 4
    failed: int = 0

    def state(self) -> OutboxState:
        return self.now


@dataclass
class Courier:
    state: CourierState


def told(news: OutboxNews, at_s: float) -> list[dict[str, Any]]:
    messages: list[Message] = news.tell(round(at_s * S))
    assert all(kind == "outbox" for kind, _ in messages)
    return [data for _, data in messages]


def test_it_is_told_every_five_seconds_and_a_fault_at_once() -> None:
    """Within a second; the same fault is not told again and again."""
    part = Part()
    courier = Courier(part.courier)
    news = OutboxNews(part, [courier], [part, part])  # type: ignore[arg-type, list-item]
    (first,) = told(news, 10)
    assert first["waiting"] == 3
    assert first["oldest_ms"] == 61_500
    assert first["unidentified"] == 8
    assert first["destinations"] == [{"destination": "hl7", "sent": 7, "refused": 1, "failures": 2, "code": ""}]
    assert told(news, 10.1) == []
    assert told(news, 14.9) == []
    assert len(told(news, 15.95)) == 1
    courier.state = CourierState("hl7", 7, 1, 3, "unreachable")
    (fault,) = told(news, 17)
    assert fault["destinations"][0]["code"] == "unreachable"
    assert told(news, 18.1) == []
    part.now = OutboxState(3, 900, 61.5, 1, 0, 0, "disk-full")
    assert told(news, 19.2)[0]["fault"] == "disk-full"
