"""What the fleet server asks of its parts that stand elsewhere: today, of the rollouts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeward.exchange.checkin import CheckIn, Order


class Rollouts(Protocol):
    """What a check-in is told to, and where its orders come from. Both run inside the check-in's transaction.

    Devices are told in the order of their ids within one transaction, so whoever locks rows per device does so in that
    order on every worker.
    """

    def watched(self, session: Session) -> frozenset[str]:
        """Families with an active rollout. Asked once per transaction, before the first device of it."""
        ...

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:
        """The orders that stand for the device, at most one per family.

        Called when the report names a watched family, or when the progress it tells is not what was told before.
        ``now_s``: the server's wall time, seconds since 1970. Audit what changes with ``fleet.audit.record``.
        """
        ...

    def ended(self, session: Session, device_id: str, actor: str, now_s: int) -> None:
        """An operator revoked the device or called it lost, within this transaction, which holds its row."""
        ...


class NoRollouts:
    """A fleet that rolls nothing out."""

    def watched(self, session: Session) -> frozenset[str]:  # noqa: ARG002
        """None."""
        return frozenset()

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:  # noqa: ARG002
        """No order."""
        return []

    def ended(self, session: Session, device_id: str, actor: str, now_s: int) -> None:
        """It was on its way nowhere."""
