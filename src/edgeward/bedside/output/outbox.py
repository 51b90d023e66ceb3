"""What leaves for other systems waits here until it has arrived: durable, bounded, in order, whatever is sent and how.

``put`` takes bytes for a destination and returns at once. A thread of the outbox's own writes them to a file
(``outbox_store``), many in one commit, and a ``Courier`` for each destination takes them from there. So an item
survives a restart and a power cut a few milliseconds after it was put; until then, and for as long as the disk is full
or gone, it waits in memory and is sent from there: a disk costs durability, and never a caller's time or a message.

An item is known by destination and id: put twice while it waits, it is there once. One that expires is not sent after
its time. When there are more than ``count_max`` items or ``bytes_max`` bytes, those that expire go first, oldest first,
then the oldest; all that is lost is counted in ``state``.

Beside items it keeps ``notes``: what a destination has been told and must be told otherwise after a restart.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.bedside.output.outbox_store import Row, Store
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import locked, storage_error

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.kernel.clock import Clock

COUNT_MAX = 200_000
BYTES_MAX = 256 << 20
HELD_MAX = 10_000
"""Items in memory: on their way to the disk, or waiting for it to come back."""
HELD_BYTES_MAX = 32 << 20
PAYLOAD_BYTES_MAX = 1 << 20
GROUP_MAX = 256
NOTES_MAX = 4_096
RETRY_S = 1.0
CLOSE_S = 5.0
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to send. ``id``: the same for the same thing, however often.

    ``lives_ns``: how long it is worth sending, None: until it has arrived. ``payload`` may hold patients' data and
    stands in no ``repr``.
    """

    destination: str
    id: str
    kind: str
    payload: bytes = field(repr=False)
    lives_ns: int | None = None


@dataclass(frozen=True, slots=True)
class OutboxState:
    """What a page shows: how much waits and how long, what was lost, whether the disk keeps it.

    ``unsaved``: items in memory only; ``fault``: "disk-full", "disk-error", "set-aside" or empty.
    """

    waiting: int
    waiting_bytes: int
    oldest_s: float
    unsaved: int
    expired: int
    dropped: int
    fault: str


class Outbox:
    """One file of waiting items. ``ConfigError``: ``outbox-in-use``, or the disk refuses at the start."""

    def __init__(
        self, path: Path, clock: Clock, *, boot: str = "", count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._clock = clock
        self._boot = boot or _boot()
        self._count_max, self._bytes_max = count_max, bytes_max
        self._held: deque[Row] = deque()
        self._noted: dict[str, bytes | None] = {}  # on their way to the disk
        self._held_bytes = 0
        self._changed = threading.Condition()
        self._file = threading.Lock()
        self._closing = False
        self._saving: frozenset[tuple[str, str]] = frozenset()
        self._gone: set[tuple[str, str]] = set()  # done while they were being saved, or while the disk refused
        self._expired = self._dropped = 0
        self._fault = ""
        self._oldest_saved: int | None = None
        self._unlock = contextlib.ExitStack()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._unlock.enter_context(locked(path.with_name(path.name + ".lock"), "outbox-in-use", "the outbox"))
            self._store = Store(path)
            self.notes = self._store.notes()
            """Notes as they stood at the start, by key."""
        except (OSError, sqlite3.Error) as error:
            self._unlock.close()
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise storage_error(cause, "opening the outbox") from error
        except ConfigError:
            self._unlock.close()
            raise
        if self._store.set_aside:
            self._fault = "set-aside"
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take one item and return at once; any thread. One that is too large is dropped and counted."""
        now, wall = self._clock.monotonic_ns(), _wall_ns(self._clock)
        lives = item.lives_ns
        row = Row(
            item.destination,
            item.id,
            item.kind,
            item.payload,
            wall,
            self._boot,
            None if lives is None else wall + lives,
            None if lives is None else now + lives,
        )
        with self._changed:
            if len(item.payload) > PAYLOAD_BYTES_MAX or self._closing:
                self._dropped += 1
                return
            self._gone.discard(row.key)
            self._held.append(row)
            self._held_bytes += len(row.payload)
            while len(self._held) > HELD_MAX or self._held_bytes > HELD_BYTES_MAX:
                self._drop_held()
            self._changed.notify_all()

    def note(self, key: str, payload: bytes | None) -> None:
        """Keep a note under ``key``, or forget it (None); returns at once. Beyond ``NOTES_MAX`` at once it is lost."""
        with self._changed:
            if key in self._noted or len(self._noted) < NOTES_MAX:
                self._noted[key] = payload
                self._changed.notify_all()

    def take(self, destination: str, timeout_s: float) -> Item | None:
        """The oldest item for ``destination`` that is still worth sending; None where none came in time.

        It stays until ``done``. For the one courier of that destination.
        """
        until = time.monotonic() + timeout_s
        while True:
            row = self._first(destination)
            if row is not None:
                if not row.expired(self._boot, self._clock.monotonic_ns(), _wall_ns(self._clock)):
                    return Item(row.destination, row.id, row.kind, row.payload)
                self._expired += 1
                self.done(row.key)
                continue
            with self._changed:
                left = until - time.monotonic()
                if left <= 0 or self._closing:
                    return None
                self._changed.wait(min(left, _LOOK_S))

    def done(self, key: tuple[str, str]) -> None:
        """Forget an item (destination and id): it arrived, or never will."""
        with self._changed:
            for index, row in enumerate(self._held):
                if row.key == key:
                    del self._held[index]
                    self._held_bytes -= len(row.payload)
                    break
            if key in self._saving:
                self._gone.add(key)
        try:
            with self._file:
                if self._store.remove(key) and not self._store.count:
                    self._store.settle()
        except (OSError, sqlite3.Error) as error:
            # Where the disk stays away until a restart it is sent once more; ids are there for that.
            self._gone.add(key)
            self._failed(error)

    def state(self) -> OutboxState:
        """What waits and what was lost. Never waits for the disk: while that is busy, the file's part is as it was."""
        with self._changed:
            held, held_bytes = len(self._held), self._held_bytes
            oldest = self._held[0].made_wall_ns if self._held else None
        if self._file.acquire(blocking=False):
            try:
                self._oldest_saved = self._store.oldest_wall_ns()
            except (OSError, sqlite3.Error):
                self._oldest_saved = None
            finally:
                self._file.release()
        oldest = oldest if self._oldest_saved is None else self._oldest_saved
        age_s = 0.0 if oldest is None else max(0.0, (_wall_ns(self._clock) - oldest) / NS_PER_S)
        return OutboxState(
            self._store.count + held,
            self._store.size + held_bytes,
            age_s,
            held,
            self._expired,
            self._dropped,
            self._fault,
        )

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until everything put so far is on the disk; whether it is."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while (self._held or self._noted) and time.monotonic() < until:
                self._changed.wait(0.05)
            return not self._held and not self._noted

    def close(self) -> None:
        """Save what is held, for a bounded time, and let go of the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._file.acquire(timeout=CLOSE_S):
            try:
                self._store.close()
            finally:
                self._file.release()
        self._unlock.close()

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._held and not self._noted and not self._closing:
                    self._changed.wait()
                group = [self._held[index] for index in range(min(GROUP_MAX, len(self._held)))]
                notes = dict(self._noted)
                if not group and not notes and self._closing:
                    return
                self._saving = frozenset(row.key for row in group)
            if self._save(group, notes):
                with self._changed:
                    self._noted = {key: note for key, note in self._noted.items() if notes.get(key, b"") != note}
                    self._held = deque(row for row in self._held if row.key not in self._saving)
                    self._saving = frozenset()
                    self._held_bytes = sum(len(row.payload) for row in self._held)
                    self._changed.notify_all()
            elif self._closing:
                return
            else:
                with self._changed:
                    self._changed.wait(RETRY_S)

    def _save(self, group: list[Row], notes: dict[str, bytes | None]) -> bool:
        try:
            with self._file:
                if notes:
                    self._store.note(notes.items())
                if group:
                    self._store.add(group)
                for key in tuple(self._gone):
                    self._store.remove(key)
                    self._gone.discard(key)
                if notes and not self._store.count:
                    self._store.settle()
                while self._store.count > self._count_max or self._store.size > self._bytes_max:
                    if not self._store.drop_one():
                        break
                    self._dropped += 1
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            return False
        self._fault = "set-aside" if self._store.set_aside else ""
        return True

    def _failed(self, error: OSError | sqlite3.Error) -> None:
        full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
        self._fault = "disk-full" if full else "disk-error"

    def _first(self, destination: str) -> Row | None:
        with contextlib.suppress(OSError, sqlite3.Error), self._file:
            row = self._store.first(destination)
            if row is not None and row.key not in self._gone:
                return row
        if not self._fault.startswith("disk"):
            return None  # what is held is on its way to the disk, and is taken from there
        with self._changed:
            return next((row for row in self._held if row.destination == destination), None)

    def _drop_held(self) -> None:
        """Lose what is worth least, as ``Store.drop_one``."""
        worst = next((index for index, row in enumerate(self._held) if row.until_ns is not None), 0)
        self._held_bytes -= len(self._held[worst].payload)
        del self._held[worst]
        self._dropped += 1


def _wall_ns(clock: Clock) -> int:
    return round(clock.wall().timestamp() * 1e9)


def _boot() -> str:
    """Which run of the machine this is: monotonic time means nothing in another."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return f"unknown-{time.time_ns()}"
