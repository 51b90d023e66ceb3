"""The rollouts' tables, on the store's ``Base``. Times are whole seconds since 1970 by the server's clock (``…_s``).

A device in a rollout is no foreign key of ``devices``: PostgreSQL would lock the device's row for it, which a check-in
that waits for the rollout's row already holds.
"""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from edgeward.fleet.store.models import Base

_HEX = 64
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


class RolloutRow(Base):
    """A rollout: the fields of ``rollout.state.Rollout``, with ``plan``, ``release`` and ``counts`` as JSON.

    ``revision`` counts what people must know before they decide (its status, its stage); ``pulse`` counts every change.
    ``awake``: its devices' check-ins concern it. ``way_back``: "" or "pending" (the return is to be put in force),
    "by-hand" (that failed: ``return_code`` and ``return_note`` say why), "done".
    """

    __tablename__ = "rollouts"

    id: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=True)
    family: Mapped[str] = mapped_column(String(64), index=True)
    label: Mapped[str] = mapped_column(String(128), default="")
    status: Mapped[str] = mapped_column(String(16), index=True)
    cause: Mapped[str] = mapped_column(String(32), default="")
    live: Mapped[bool] = mapped_column(Boolean, default=True)
    awake: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    revision: Mapped[int] = mapped_column(BigInteger, default=1)
    pulse: Mapped[int] = mapped_column(BigInteger, default=1)
    author: Mapped[str] = mapped_column(String(128))
    approver: Mapped[str] = mapped_column(String(128), default="")
    made_s: Mapped[int] = mapped_column(BigInteger)
    changed_s: Mapped[int] = mapped_column(BigInteger)
    release: Mapped[str] = mapped_column(Text)
    plan: Mapped[str] = mapped_column(Text)
    counts: Mapped[str] = mapped_column(Text)
    stage: Mapped[int] = mapped_column(Integer, default=0)
    opening: Mapped[bool] = mapped_column(Boolean, default=False)
    opened_s: Mapped[int] = mapped_column(BigInteger, default=0)
    met_s: Mapped[int] = mapped_column(BigInteger, default=0)
    size: Mapped[int] = mapped_column(Integer, default=0)
    origin: Mapped[int] = mapped_column(BigInteger, default=0)
    undoes: Mapped[str] = mapped_column(String(_HEX), default="")
    way_back: Mapped[str] = mapped_column(String(16), default="", index=True)
    return_code: Mapped[str] = mapped_column(String(64), default="")
    return_note: Mapped[str] = mapped_column(Text, default="")


class RolloutDevice(Base):
    """A device in a rollout: the fields of ``rollout.state.Member`` that outlive a check-in; ``evidence`` as JSON."""

    __tablename__ = "rollout_devices"

    rollout: Mapped[int] = mapped_column(_NUMBER, ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True)
    device_id: Mapped[str] = mapped_column(String(18), primary_key=True)
    stage: Mapped[int] = mapped_column(Integer)
    standing: Mapped[str] = mapped_column(String(16))
    chosen_s: Mapped[int] = mapped_column(BigInteger)
    given_s: Mapped[int] = mapped_column(BigInteger, default=0)
    changed_s: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16), default="")
    why: Mapped[str] = mapped_column(String(32), default="")
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    percent: Mapped[int] = mapped_column(Integer, default=0)
    evidence: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        Index("ix_rollout_devices_device_id", "device_id"),
        Index("ix_rollout_devices_rollout_standing", "rollout", "standing"),
    )


class RolloutClock(Base):
    """One row: which worker lets time pass, and until when it alone may."""

    __tablename__ = "rollout_clock"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(64))
    until_s: Mapped[int] = mapped_column(BigInteger)
