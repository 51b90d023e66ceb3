"""Two slots for bundles on a device, and one small file that says which one runs.

::

    root/lock              held while a device process uses these slots
    root/state.json        active, previous, trial, refused; with a checksum; replaced atomically
    root/state.copy.json   the same, written after it: one of the two is always whole
    root/a/bundle.ewb  root/b/bundle.ewb
    root/incoming/         where a download waits

    stage → the inactive slot, on trial → commit: trial becomes active, active becomes previous
                                        → revert: trial is refused, active never stopped being active

At every instant, power cut included, the active slot is whole or the store says that none is: its bytes were durable
before the state named them, and nothing removes them while it does. A trial that a power cut ended is undone when
the store opens. A slot is believed only when its SHA-256 is the one in the state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeward.bedside.files import FilePort, LockHeldError, RealFiles
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.kernel.errors import BundleError, ConfigError
from edgeward.trust.durable import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

ROOM_BYTES = 1 << 20
"""Kept free beside a staged bundle, so that the state can always be written."""
REFUSED_MAX = 16
_SCHEMA = 1
_STATES = ("state.json", "state.copy.json")
_BUNDLE = "bundle.ewb"


@dataclass(frozen=True, slots=True)
class Slot:
    """One bundle in its place: ``key`` is "a" or "b", ``length`` is in bytes, ``path`` the bundle file."""

    key: str
    name: str
    version: str
    sha256: str
    length: int
    path: Path


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening found. ``code`` is empty when all is well; else ``message`` says what was lost and what runs now.

    Codes: ``trial-interrupted``, ``slot-damaged`` (the previous bundle runs, or none), ``state-unreadable``.
    """

    active: Slot | None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _State:
    active: Slot | None = None
    previous: Slot | None = None
    trial: Slot | None = None
    refused: tuple[tuple[str, str], ...] = ()  # (sha256, code), oldest first
    interrupted: str = ""  # sha256 of the last trial that a power cut ended


class SlotStore:
    """The slots under ``root``. Use it in a ``with`` block, or call ``open`` first and ``close`` last."""

    def __init__(self, root: Path, files: FilePort | None = None) -> None:
        self.root = root
        self._files: FilePort = files or RealFiles()
        self._state = _State()
        self._seq = 0
        self._unlock: Callable[[], None] | None = None

    @property
    def incoming(self) -> Path:
        """The folder where a download may wait; on the same disk as the slots."""
        return self.root / "incoming"

    # --- opening

    def open(self) -> Opening:
        """Take the lock, undo what a power cut left half done, and say which bundle may run.

        Raises ``ConfigError``: ``slots-in-use`` (another device process holds them), ``disk-full``, ``disk-error``.
        """
        with self._explained("opening the slots"):
            for folder in (self.root, self.root / "a", self.root / "b", self.incoming):
                self._files.mkdir(folder)
            self._files.fsync_dir(self.root)
            self._files.fsync_dir(self.root.parent)
            try:
                self._unlock = self._files.lock(self.root / "lock")
            except LockHeldError as error:
                raise ConfigError(
                    "slots-in-use",
                    f"process {error.pid or 'unknown'} already runs a device on these slots; "
                    "stop it, or give this one a folder of its own",
                ) from None
        try:
            return self._open_locked()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        if self._unlock is not None:
            unlock, self._unlock = self._unlock, None
            unlock()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_locked(self) -> Opening:
        self._state, unreadable = self._load()
        before, code, message = self._state, "", ""
        if unreadable:
            code, message = "state-unreadable", "both copies of the slots' state are damaged; install a bundle again"
        if self._state.trial is not None:
            self._undo_trial(self._state.trial)
            code, message = "trial-interrupted", "a trial was cut short; the bundle in use before it stays in use"
        found = self._recover()
        if found:
            code, message = "slot-damaged", found
        if self._state != before:
            with contextlib.suppress(OSError):  # a full disk must not keep the good slot from running
                self._save(self._state)
        return Opening(self._state.active, code, message)

    def _undo_trial(self, trial: Slot) -> None:
        """Forget an interrupted trial; the second in a row of one bundle is a refusal, or it would loop forever."""
        state = replace(self._state, trial=None, interrupted=trial.sha256)
        if self._state.interrupted == trial.sha256:
            state = _refuse(state, trial, "trial-interrupted")
        self._state = state

    def _recover(self) -> str:
        """Leave the active slot only if its hash does not hold; returns what happened, empty when all is well."""
        active, previous = self._state.active, self._state.previous
        if active is None or self._holds(active):
            return ""
        if previous is not None and self._holds(previous):
            self._state = replace(self._state, active=previous, previous=None)
            return (
                f"the bundle {active.version} in slot {active.key} is damaged; the previous one, "
                f"{previous.version}, runs instead; install again"
            )
        self._state = replace(self._state, active=None, previous=None)
        return f"the bundle {active.version} in slot {active.key} is damaged and no other is whole; install again"

    # --- asking

    def look(self) -> dict[str, Slot | None]:
        """What the state file says is active, previous and on trial: no lock, no check of bytes, nothing changed."""
        state, _ = self._load()
        return {"active": state.active, "previous": state.previous, "trial": state.trial}

    def active(self) -> Slot | None:
        """The slot that runs."""
        return self._state.active

    def previous(self) -> Slot | None:
        """The slot to go back to; its bytes are checked when it is asked for."""
        return self._state.previous

    def refused(self, sha256: str) -> str:
        """Why the bundle of this hash was refused on this device before, or empty."""
        return dict(self._state.refused).get(sha256, "")

    def read(self, slot: Slot) -> Bundle:
        """The bundle in ``slot``; ``BundleError`` ``slot-damaged`` when one bit of it is not what was staged."""
        try:
            raw = self._files.read(slot.path)
        except OSError:
            raw = b""
        if hashlib.sha256(raw).hexdigest() != slot.sha256:
            raise BundleError(
                "slot-damaged",
                f"the bundle in slot {slot.key} is damaged; open the slots again to use the previous one",
            )
        return read_bundle(raw)

    def _holds(self, slot: Slot) -> bool:
        try:
            return hashlib.sha256(self._files.read(slot.path)).hexdigest() == slot.sha256
        except OSError:
            return False

    # --- changing

    def room_for(self, length: int, *, download: Path | None = None) -> None:
        """``ConfigError`` ``disk-full`` unless a bundle of ``length`` bytes can be staged.

        ``download`` is where it will be fetched to first; what already lies there is not counted again.
        """
        idle = self._state.previous or self._state.trial
        with self._explained("measuring the free space"):
            need = length + ROOM_BYTES - (idle.length if idle else 0)
            if download is not None:
                held = self._files.size(download) or self._files.size(download.with_name(f"{download.name}.part"))
                need += max(length - held, 0)
            free = self._files.free_bytes(self.root)
        if free < need:
            raise ConfigError(
                "disk-full",
                f"the new bundle needs {need} free bytes and there are {free}; free some space, "
                "the bundle in use stays in use",
            )

    def clear_incoming(self, *, keep: str = "") -> None:
        """Remove what lies in ``incoming``, but for the file named ``keep`` and its part and journal; never raises."""
        with contextlib.suppress(OSError):
            for name in self._files.list(self.incoming):
                if not keep or name not in {keep, f"{keep}.part", f"{keep}.journal"}:
                    self._files.unlink(self.incoming / name)

    def stage(self, bundle_path: Path) -> Slot:
        """Copy a bundle into the inactive slot and put it on trial. The bundle is read and checked first.

        Raises ``BundleError`` (any), ``ConfigError`` (``disk-full``, ``disk-error``); the active slot is untouched
        either way, the previous one is given up when the copying begins.
        """
        with self._explained("staging the bundle"):
            raw = self._files.read(bundle_path)
            manifest = read_bundle(raw).manifest
            self._recover()
            self.room_for(len(raw))
            active = self._state.active
            key = "b" if active is not None and active.key == "a" else "a"
            folder = self.root / key
            slot = Slot(
                key, manifest.name, manifest.version, hashlib.sha256(raw).hexdigest(), len(raw), folder / _BUNDLE
            )
            self._save(replace(self._state, previous=None, trial=None))
            self._files.unlink(slot.path)
            self._files.unlink(_draft(slot.path))
            self._files.fsync_dir(folder)
            self._replace(slot.path, raw)
            if not self._holds(slot):
                raise BundleError("slot-damaged", "the disk did not keep the staged bundle; replace the disk")
            self._save(replace(self._state, trial=slot))
        return slot

    def commit(self, slot: Slot) -> None:
        """Make the slot on trial the active one, in one rename; the active one becomes the previous."""
        if self._state.trial != slot:
            raise ConfigError("slot-not-on-trial", "only the slot on trial can be committed; stage it again")
        with self._explained("committing the bundle"):
            refused = tuple(item for item in self._state.refused if item[0] != slot.sha256)
            self._save(_State(active=slot, previous=self._state.active, refused=refused))

    def revert(self, code: str) -> Slot | None:
        """Refuse the bundle on trial because of ``code``; without a trial, refuse the active one and run the previous.

        Returns what runs now. Raises ``BundleError`` ``no-previous`` when there is nothing whole to go back to.
        """
        state = self._state
        with self._explained("returning to the bundle before"):
            if state.trial is not None:
                self._save(_refuse(replace(state, trial=None), state.trial, code))
            elif state.active is not None and state.previous is not None and self._holds(state.previous):
                back = replace(state, active=state.previous, previous=None)
                # A damaged slot says nothing against the bundle: it may be installed again.
                self._save(_refuse(back, state.active, code) if self._holds(state.active) else back)
            else:
                raise BundleError(
                    "no-previous", "there is no whole previous bundle to return to; publish and install another"
                )
        return self._state.active

    def abandon(self) -> None:
        """End a trial without a judgement on the bundle: it may be tried again."""
        if self._state.trial is not None:
            with self._explained("ending the trial"):
                self._save(replace(self._state, trial=None))

    # --- the disk

    def _replace(self, path: Path, data: bytes) -> None:
        draft = _draft(path)
        try:
            self._files.write_new(draft, data)
            self._files.rename(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.unlink(draft)
            raise
        self._files.fsync_dir(path.parent)

    def _save(self, state: _State) -> None:
        self._seq += 1  # also after a save that failed: two different states must never carry one number
        raw = _encode(state, self._seq)
        for name in _STATES:
            self._replace(self.root / name, raw)
        self._state = state

    def _load(self) -> tuple[_State, bool]:
        """The newest whole state, and whether there were states but none was whole."""
        found: list[tuple[int, _State]] = []
        there = 0
        for name in _STATES:
            with contextlib.suppress(OSError):
                raw = self._files.read(self.root / name)
                there += 1
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    found.append(_decode(raw, self.root))
        if not found:
            return _State(), there > 0
        self._seq, state = max(found, key=lambda item: item[0])
        return state, False

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, what) from error


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _refuse(state: _State, slot: Slot, code: str) -> _State:
    kept = [item for item in state.refused if item[0] != slot.sha256]
    return replace(state, refused=(*kept, (slot.sha256, code))[-REFUSED_MAX:])


def _encode(state: _State, seq: int) -> bytes:
    body: dict[str, Any] = {
        "schema": _SCHEMA,
        "seq": seq,
        "refused": [list(item) for item in state.refused],
        "interrupted": state.interrupted,
    }
    for role in ("active", "previous", "trial"):
        slot: Slot | None = getattr(state, role)
        body[role] = None if slot is None else {k: v for k, v in asdict(slot).items() if k != "path"}
    return (json.dumps({**body, "check": _check(body)}, sort_keys=True, indent=1) + "\n").encode()


def _decode(raw: bytes, root: Path) -> tuple[int, _State]:
    body = json.loads(raw)
    if not isinstance(body, dict) or body.pop("check", "") != _check(body) or body["schema"] != _SCHEMA:
        raise ValueError("not a whole state")
    slots = {
        role: None if body[role] is None else Slot(**body[role], path=root / body[role]["key"] / _BUNDLE)
        for role in ("active", "previous", "trial")
    }
    refused = tuple((str(sha), str(code)) for sha, code in body["refused"])
    return int(body["seq"]), _State(**slots, refused=refused, interrupted=body["interrupted"])


def _check(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
