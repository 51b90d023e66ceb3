"""The update's record on the disk: one small file, replaced whole, read once at boot.

::

    root/update.json       the record, the last transitions, a checksum

Replaced and not appended to, because a record is all that a boot needs: write beside it → fsync → rename → fsync of
the folder leaves the old record or the new one at every instant, so there is no torn tail to judge and nothing to
compact. The last ``PAST_MAX`` transitions stand in it for people. It lies in the slots' folder, under the slots' lock.

It decides nothing about slots: a journal that is lost or damaged costs the update that was under way, whose trial is
then abandoned, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.files import FilePort, RealFiles, replace_file
from edgeward.bedside.sealed import seal, unseal
from edgeward.bedside.updating.happening import Record
from edgeward.exchange.checkin import Evidence, Order
from edgeward.exchange.typed import decode, encode
from edgeward.exchange.words import UpdateState, Why
from edgeward.kernel.errors import InputError
from edgeward.trust.durable import storage_error

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

PAST_MAX = 64
NAME = "update.json"
_SCHEMA = 1
_BYTES_MAX = 1 << 17
_MESSAGE_MAX = 400


@dataclass(frozen=True, slots=True)
class Past:
    """A transition, or a wait's beginning: when by the device's wall clock (s since 1970); to what; why."""

    wall_s: int
    rollout: int
    state: str
    why: str


class Journal:
    """The record of one family's update in the folder ``root`` of its slots, which must be open."""

    def __init__(self, root: Path, files: FilePort | None = None) -> None:
        self.path = root / NAME
        self._files: FilePort = files or RealFiles()
        self._past: tuple[Past, ...] = ()

    @property
    def past(self) -> tuple[Past, ...]:
        """The last transitions, oldest first."""
        return self._past

    def read(self) -> Record:
        """The last record that was written; an empty one when there is none or it is damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, InputError):
            record, self._past = _decode(self._files.read(self.path))
            return record
        return Record()

    def write(self, record: Record, wall: datetime) -> None:
        """Make ``record`` durable. Raises ``ConfigError`` (``disk-full``, ``disk-error``): then the old one stands."""
        order = record.order
        now = Past(
            int(wall.timestamp()),
            order.rollout if order else 0,
            record.state.value,
            record.why.value if record.why else "",
        )
        past = (*self._past, now)[-PAST_MAX:]
        try:
            replace_file(self._files, self.path, _encode(record, past))
        except OSError as error:
            raise storage_error(error, "recording the update") from error
        self._past = past


def _encode(record: Record, past: tuple[Past, ...]) -> bytes:
    body: dict[str, Any] = {
        "schema": _SCHEMA,
        "order": None if record.order is None else json.loads(encode(record.order)),
        "local": record.is_local,
        "state": record.state.value,
        "attempt": record.attempt,
        "why": None if record.why is None else record.why.value,
        "code": record.code,
        "message": record.message[:_MESSAGE_MAX],
        "percent": record.percent,
        "evidence": json.loads(encode(record.evidence)),
        "compared": record.compared,
        "soaked": record.soaked,
        "past": [[item.wall_s, item.rollout, item.state, item.why] for item in past],
    }
    return seal(body)


def _decode(raw: bytes) -> tuple[Record, tuple[Past, ...]]:
    body = unseal(raw[:_BYTES_MAX], _SCHEMA)
    order = None
    if body["order"] is not None:
        order = decode(Order, json.dumps(body["order"]).encode(), bytes_max=_BYTES_MAX)
    record = Record(
        order,
        body["local"] is True,
        UpdateState(body["state"]),
        int(body["attempt"]),
        None if body["why"] is None else Why(body["why"]),
        str(body["code"]),
        str(body["message"]),
        int(body["percent"]),
        decode(Evidence, json.dumps(body["evidence"]).encode(), bytes_max=_BYTES_MAX),
        body["compared"] is True,
        body["soaked"] is True,
    )
    return record, tuple(Past(int(at), int(rollout), str(state), str(why)) for at, rollout, state, why in body["past"])
