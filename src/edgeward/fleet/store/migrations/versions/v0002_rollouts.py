"""Rollouts, the devices in them, and the clock that one worker holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From devices alone."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "rollouts",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=32), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("awake", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("pulse", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=128), nullable=False),
        sa.Column("approver", sa.String(length=128), nullable=False),
        sa.Column("made_s", sa.BigInteger(), nullable=False),
        sa.Column("changed_s", sa.BigInteger(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("opening", sa.Boolean(), nullable=False),
        sa.Column("opened_s", sa.BigInteger(), nullable=False),
        sa.Column("met_s", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=False),
        sa.Column("undoes", sa.String(length=64), nullable=False),
        sa.Column("way_back", sa.String(length=16), nullable=False),
        sa.Column("return_code", sa.String(length=64), nullable=False),
        sa.Column("return_note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    for column in ("awake", "family", "way_back", "status"):
        op.create_index(f"ix_rollouts_{column}", "rollouts", [column])
    op.create_table(
        "rollout_devices",
        sa.Column("rollout", number, nullable=False),
        sa.Column("device_id", sa.String(length=18), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("chosen_s", sa.BigInteger(), nullable=False),
        sa.Column("given_s", sa.BigInteger(), nullable=False),
        sa.Column("changed_s", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("why", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_devices_rollout", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rollout", "device_id", name="pk_rollout_devices"),
    )
    op.create_index("ix_rollout_devices_device_id", "rollout_devices", ["device_id"])
    op.create_index("ix_rollout_devices_rollout_standing", "rollout_devices", ["rollout", "standing"])
    clock = op.create_table(
        "rollout_clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollout_clock"),
    )
    op.bulk_insert(clock, [{"id": 1, "holder": "", "until_s": 0}])
