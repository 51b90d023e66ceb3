"""How it goes with what leaves for other systems, as the message ``outbox`` (docs/messages.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bedside.messages import Message
    from edgeward.bedside.output.courier import Courier
    from edgeward.bedside.output.outbox import Outbox
    from edgeward.bedside.output.record_output import RecordOutput

EVERY_NS = 5 * NS_PER_S
LOOK_NS = NS_PER_S
"""Whether a destination or the disk failed, or is well again, is looked at this often and told at once."""


class OutboxNews:
    """Tells of an outbox, its couriers and the outputs that fill it: every ``EVERY_NS`` and when a fault changes."""

    def __init__(self, outbox: Outbox, couriers: Sequence[Courier], outputs: Sequence[RecordOutput]) -> None:
        self._outbox, self._couriers, self._outputs = outbox, couriers, outputs
        self._next_look_ns = self._next_ns = 0
        self._faults: tuple[str, ...] = ()

    def tell(self, now_ns: int) -> list[Message]:
        """What is to be told now; call it as often as you like. Never waits."""
        if now_ns < self._next_look_ns:
            return []
        self._next_look_ns = now_ns + LOOK_NS
        state = self._outbox.state()
        couriers = [courier.state for courier in self._couriers]
        faults = (state.fault, *(courier.code for courier in couriers))
        if faults == self._faults and now_ns < self._next_ns:
            return []
        self._faults, self._next_ns = faults, now_ns + EVERY_NS
        data: dict[str, Any] = {
            "waiting": state.waiting,
            "oldest_ms": round(1000 * state.oldest_s),
            "unsaved": state.unsaved,
            "fault": state.fault,
            "expired": state.expired,
            "dropped": state.dropped,
            "unidentified": sum(output.unidentified for output in self._outputs),
            "failed": sum(output.failed for output in self._outputs),
            "destinations": [
                {
                    "destination": one.destination,
                    "sent": one.sent,
                    "refused": one.refused,
                    "failures": one.failures,
                    "code": one.code,
                }
                for one in couriers
            ],
        }
        return [("outbox", data)]
