"""Two slots for bundles on a device, and one small file that says which one runs.

::

    root/lock              held while a device process uses these slots
    root/state.json        active, previous, trial, refused; with a checksum; replaced atomically
    root/state.copy.json   the same, written after it: one of the two is always whole
    root/a/bundle.ewb  root/b/bundle.ewb
    root/incoming/         where a download waits

    stage → the inactive slot, on trial → commit:  trial becomes active, active becomes previous
                                        → refuse:  trial is refused, active never stopped being active
                                        → abandon: trial ends without a judgement
    revert: the active one is refused, the previous one becomes active

At every instant, power cut included, the active slot is whole or the store says that none is: its bytes were durable
before the state named them, and nothing removes them while it does. A bundle on trial is never active: after a power
cut the device runs the one before, and whoever leads the trial takes it up again with ``resume``, which is counted. A
slot is believed only when its SHA-256 is the one in the state. Changes may be made by several threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeward.bedside.files import FilePort, LockHeldError, RealFiles, draft_of, replace_file
from edgeward.bedside.sealed import seal, unseal
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.kernel.errors import BundleError, ConfigError, EdgewardError
from edgeward.trust.durable import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

ROOM_BYTES = 1 << 20
"""Kept free beside a staged bundle, so that the state can always be written."""
REFUSED_MAX = 16
INTERRUPTIONS_MAX = 3
"""A bundle whose trials were cut short so often in a row is refused: it may be what takes the device down."""
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

    Codes: ``trial-interrupted`` (it is still on trial), ``slot-damaged`` (the previous bundle runs, or none),
    ``state-unreadable``.
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
    interruptions: int = 0  # how often in a row
    resting: bool = False  # the device stopped in order: the trial was not cut short


class SlotStore:
    """The slots under ``root``. Use it in a ``with`` block, or call ``open`` first and ``close`` last."""

    def __init__(self, root: Path, files: FilePort | None = None) -> None:
        self.root = root
        self._files: FilePort = files or RealFiles()
        self._state = _State()
        self._seq = 0
        self._unlock: Callable[[], None] | None = None
        self._changing = threading.RLock()

    @property
    def incoming(self) -> Path:
        """The folder where a download may wait; on the same disk as the slots."""
        return self.root / "incoming"

    # --- opening

    def open(self) -> Opening:
        """Take the lock, leave a damaged slot for the previous one, and say which bundle may run.

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
        if self._state.trial is not None and not self._state.resting:
            code, message = "trial-interrupted", "a trial was cut short; the bundle in use before it stays in use"
        found = self._recover()
        if found:
            code, message = "slot-damaged", found
        if self._state != before:
            with contextlib.suppress(OSError):  # a full disk must not keep the good slot from running
                self._save(self._state)
        return Opening(self._state.active, code, message)

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

    def trial(self) -> Slot | None:
        """The slot on trial."""
        return self._state.trial

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

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """While the block runs nobody else changes anything here: for whoever must look first and act then."""
        with self._changing:
            yield

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

    def collect(self, *, keep: str = "") -> None:
        """Remove every bundle but those that are active, previous or on trial; never raises.

        Of ``incoming`` the file named ``keep`` stays, with its part and journal.
        """
        state = self._state
        kept = {slot.path for slot in (state.active, state.previous, state.trial) if slot is not None}
        if keep:
            kept |= {self.incoming / name for name in (keep, f"{keep}.part", f"{keep}.journal")}
        with contextlib.suppress(EdgewardError), self._change("removing what is not needed"):
            for folder in (self.incoming, self.root / "a", self.root / "b"):
                for name in self._files.list(folder):
                    if folder / name not in kept:
                        self._files.unlink(folder / name)

    def stage(self, bundle_path: Path) -> Slot:
        """Copy a bundle into the inactive slot and put it on trial. The bundle is read and checked first.

        Raises ``BundleError`` (any), ``ConfigError`` (``disk-full``, ``disk-error``); the active slot is untouched
        either way, the previous one is given up when the copying begins.
        """
        with self._change("staging the bundle"):
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
            self._save(replace(self._state, previous=None, trial=None, resting=False))
            self._files.unlink(slot.path)
            self._files.unlink(draft_of(slot.path))
            self._files.fsync_dir(folder)
            replace_file(self._files, slot.path, raw)
            if not self._holds(slot):
                raise BundleError("slot-damaged", "the disk did not keep the staged bundle; replace the disk")
            self._save(replace(self._state, trial=slot))
        return slot

    def commit(self, slot: Slot) -> None:
        """Make the slot on trial the active one, in one rename; the active one becomes the previous."""
        with self._change("committing the bundle"):
            if self._state.trial != slot:
                raise ConfigError("slot-not-on-trial", "only the slot on trial can be committed; stage it again")
            refused = tuple(item for item in self._state.refused if item[0] != slot.sha256)
            self._save(_State(active=slot, previous=self._state.active, refused=refused))

    def resume(self, sha256: str) -> Slot | None:
        """Take up the trial of ``sha256`` that ended without a verdict; None when there is none, or not any more.

        Each trial that was cut short is counted; ``INTERRUPTIONS_MAX`` in a row of one bundle refuse it with
        ``trial-interrupted``. Raises ``ConfigError`` (``disk-full``, ``disk-error``): then it must not go on.
        """
        with self._change("taking the trial up again"):
            state, trial = self._state, self._state.trial
            if trial is None or trial.sha256 != sha256:
                return None
            if not self._holds(trial):
                state = replace(state, trial=None)
            elif not state.resting:
                count = 1 + (state.interruptions if state.interrupted == sha256 else 0)
                state = replace(state, interrupted=sha256, interruptions=count)
                if count >= INTERRUPTIONS_MAX:
                    state = _refuse(state, sha256, "trial-interrupted")
            self._save(replace(state, resting=False))
        return self._state.trial

    def rest(self) -> None:
        """The device stops in order: what is on trial goes on at the next start, uncounted. Never raises."""
        if self._state.trial is not None:
            with contextlib.suppress(EdgewardError), self._change("stopping"):
                self._save(replace(self._state, resting=True))

    def refuse(self, sha256: str, code: str) -> None:
        """Never take the bundle of this hash again, because of ``code``; ends its trial if it is on trial."""
        with self._change("refusing the bundle"):
            self._save(_refuse(self._state, sha256, code))

    def revert(self, code: str) -> Slot:
        """Refuse the active bundle because of ``code`` and run the previous one.

        Returns what runs now. Raises ``BundleError`` ``no-previous`` when there is nothing whole to go back to: while
        another bundle is on trial, too, since it lies where the previous one lay.
        """
        with self._change("returning to the bundle before"):
            state = self._state
            if state.active is None or state.previous is None or not self._holds(state.previous):
                raise BundleError(
                    "no-previous", "there is no whole previous bundle to return to; publish and install another"
                )
            back = replace(state, active=state.previous, previous=None)
            # A damaged slot says nothing against the bundle: it may be installed again.
            self._save(_refuse(back, state.active.sha256, code) if self._holds(state.active) else back)
        return state.previous

    def abandon(self) -> None:
        """End a trial without a judgement on the bundle: it may be tried again."""
        if self._state.trial is not None:
            with self._change("ending the trial"):
                self._save(replace(self._state, trial=None, resting=False))

    # --- the disk

    def _save(self, state: _State) -> None:
        self._seq += 1  # also after a save that failed: two different states must never carry one number
        raw = _encode(state, self._seq)
        for name in _STATES:
            replace_file(self._files, self.root / name, raw)
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
    def _change(self, what: str) -> Iterator[None]:
        with self._changing, self._explained(what):
            yield

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(error, what) from error


def _refuse(state: _State, sha256: str, code: str) -> _State:
    kept = [item for item in state.refused if item[0] != sha256]
    trial = None if state.trial is not None and state.trial.sha256 == sha256 else state.trial
    return replace(state, trial=trial, refused=(*kept, (sha256, code))[-REFUSED_MAX:])


def _encode(state: _State, seq: int) -> bytes:
    body: dict[str, Any] = {
        "schema": _SCHEMA,
        "seq": seq,
        "refused": [list(item) for item in state.refused],
        "interrupted": state.interrupted,
        "interruptions": state.interruptions,
        "resting": state.resting,
    }
    for role in ("active", "previous", "trial"):
        slot: Slot | None = getattr(state, role)
        body[role] = None if slot is None else {k: v for k, v in asdict(slot).items() if k != "path"}
    return seal(body)


def _decode(raw: bytes, root: Path) -> tuple[int, _State]:
    body = unseal(raw, _SCHEMA)
    slots = {
        role: None if body[role] is None else Slot(**body[role], path=root / body[role]["key"] / _BUNDLE)
        for role in ("active", "previous", "trial")
    }
    refused = tuple((str(sha), str(code)) for sha, code in body["refused"])
    interruptions, resting = int(body.get("interruptions", 0)), body.get("resting") is True
    return int(body["seq"]), _State(
        **slots, refused=refused, interrupted=body["interrupted"], interruptions=interruptions, resting=resting
    )
