"""A disk in memory that can lose power, fill up or be interrupted at any single operation.

It keeps what POSIX promises and no more: a file's content is durable after its fsync, a name after the fsync of its
folder, a rename is atomic, and nothing orders what was not synced. What a cut does to the rest is chosen by ``After``.
"""

from __future__ import annotations

import copy
import errno
import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.bedside.files import LockHeldError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class PowerCut(BaseException):
    """The power went; no code runs on after it, so nothing may catch it."""


class After(StrEnum):
    """What a power cut leaves of everything that was not synced."""

    LOST = "lost"
    KEPT = "kept"
    TORN = "torn"
    """By the seed: each name change kept or not, each content cut short or followed by zeros."""
    REORDERED = "reordered"
    """The newest name change reached the disk before all others, which are lost; contents are whole."""


@dataclass
class _Inode:
    content: bytes = b""
    durable: bytes = b""
    synced: bool = True


@dataclass
class _Change:
    """One change of a folder's names: ``gone`` disappears, ``name`` becomes ``inode``."""

    gone: Path | None
    name: Path | None
    inode: _Inode | None

    def apply(self, names: dict[Path, _Inode]) -> None:
        if self.gone is not None:
            names.pop(self.gone, None)
        if self.name is not None and self.inode is not None:
            names[self.name] = self.inode


@dataclass
class MemoryFiles:
    """The files port in memory. ``steps`` counts mutating operations; set one of the ``_at`` fields to strike there.

    ``cut_at``: ``PowerCut`` at that step, then call ``reboot``. ``interrupt_at``: ``KeyboardInterrupt`` at that step,
    once. ``full_from``: from that step on every write finds the disk full. ``capacity`` is in bytes.
    """

    capacity: int = 1 << 40
    cut_at: int = 0
    interrupt_at: int = 0
    full_from: int = 0
    after: After = After.LOST
    seed: int = 0
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    """What each step was, in order."""
    names: dict[Path, _Inode] = field(default_factory=dict)
    _durable: dict[Path, _Inode] = field(default_factory=dict)
    _pending: list[tuple[Path, _Change]] = field(default_factory=list)
    _locks: set[Path] = field(default_factory=set)
    _dead: bool = False

    # --- the port

    def read(self, path: Path) -> bytes:
        """The whole file."""
        self._require_power()
        return self._at(path).content

    def write_new(self, path: Path, data: bytes) -> None:
        """Three steps: make or empty the file, write it, fsync it."""
        self._step(f"create {path}", lambda: self._create(path))
        self._step(f"write {path}", lambda: self._write(path, data), written=(path, data))
        self._step(f"fsync {path}", lambda: self._sync(path))

    def rename(self, old: Path, new: Path) -> None:
        """One step."""
        self._require_power()
        inode = self._at(old)
        self._step(f"rename {old} → {new.name}", lambda: self._change(new.parent, _Change(old, new, inode)))

    def unlink(self, path: Path) -> None:
        """One step where the file is there."""
        self._require_power()
        if path in self.names:
            self._step(f"unlink {path}", lambda: self._change(path.parent, _Change(path, None, None)))

    def fsync_dir(self, folder: Path) -> None:
        """One step."""
        self._step(f"fsync folder {folder}", lambda: self._sync_names(folder))

    def mkdir(self, folder: Path) -> None:  # noqa: ARG002
        """Folders are always there in memory."""
        self._require_power()

    def list(self, folder: Path) -> list[str]:
        """The names in ``folder``, sorted."""
        self._require_power()
        return sorted(path.name for path in self.names if path.parent == folder)

    def size(self, path: Path) -> int:
        """Bytes of a file; 0 when it is not there."""
        self._require_power()
        return len(self.names[path].content) if path in self.names else 0

    def free_bytes(self, folder: Path) -> int:  # noqa: ARG002  (one disk)
        """``capacity`` less what the files hold."""
        self._require_power()
        return self.capacity - sum(len(inode.content) for inode in self.names.values())

    def lock(self, path: Path) -> Callable[[], None]:
        """A lock that a reboot forgets."""
        self._require_power()
        if path in self._locks:
            raise LockHeldError(4711)
        self._locks.add(path)
        return lambda: self._locks.discard(path)

    # --- what a test does

    def put(self, path: Path, data: bytes) -> None:
        """A durable file, out of nowhere and without a step."""
        self.names[path] = self._durable[path] = _Inode(data, data)

    def copy(self) -> MemoryFiles:
        """The same disk once more, independent of this one."""
        return copy.deepcopy(self)

    def reboot(self) -> None:
        """Power again: what was not synced becomes what ``after`` says; nothing strikes any more."""
        dice = random.Random(f"{self.seed}/{self.steps}")
        chance = {After.LOST: 0.0, After.TORN: 0.5, After.KEPT: 1.0, After.REORDERED: 0.0}[self.after]
        for _, change in self._pending:
            if dice.random() < chance:
                change.apply(self._durable)
        if self.after is After.REORDERED and self._pending:
            self._pending[-1][1].apply(self._durable)
        for inode in self._durable.values():
            if not inode.synced:
                inode.content = self._survivor(inode, dice)
            inode.durable, inode.synced = inode.content, True
        self.names = dict(self._durable)
        self._pending.clear()
        self._locks.clear()
        self._dead = False
        self.cut_at = self.interrupt_at = self.full_from = 0

    def _survivor(self, inode: _Inode, dice: random.Random) -> bytes:
        if self.after is After.LOST:
            return inode.durable
        if self.after in {After.KEPT, After.REORDERED}:
            return inode.content
        cut = dice.randrange(len(inode.content) + 1)
        return inode.content[:cut] + bytes(dice.choice((0, len(inode.content) - cut)))

    # --- the steps

    def _require_power(self) -> None:
        if self._dead:
            raise PowerCut

    def _at(self, path: Path) -> _Inode:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file in memory", str(path))
        return self.names[path]

    def _step(self, name: str, apply: Callable[[], None], written: tuple[Path, bytes] | None = None) -> None:
        self._require_power()
        self.steps += 1
        self.trace.append(name)
        if written is not None and self._finds_disk_full(*written):
            self.names[written[0]].content = written[1][: len(written[1]) // 2]
            raise OSError(errno.ENOSPC, "no space left in memory")
        if self.steps == self.cut_at:
            if self.after is not After.LOST:
                apply()
            self._dead = True
            raise PowerCut
        if self.steps == self.interrupt_at:
            if self.after is not After.LOST:
                apply()
            raise KeyboardInterrupt
        apply()

    def _finds_disk_full(self, path: Path, data: bytes) -> bool:
        return 0 < self.full_from <= self.steps or self.free_bytes(path.parent) < len(data)

    def _create(self, path: Path) -> None:
        if path in self.names:
            self.names[path].content, self.names[path].synced = b"", False
        else:
            self._change(path.parent, _Change(None, path, _Inode(synced=False)))

    def _write(self, path: Path, data: bytes) -> None:
        inode = self.names[path]
        inode.content, inode.synced = data, False

    def _sync(self, path: Path) -> None:
        inode = self.names[path]
        inode.durable, inode.synced = inode.content, True

    def _change(self, folder: Path, change: _Change) -> None:
        change.apply(self.names)
        self._pending.append((folder, change))

    def _sync_names(self, folder: Path) -> None:
        for place, change in self._pending:
            if place == folder:
                change.apply(self._durable)
        self._pending = [item for item in self._pending if item[0] != folder]
