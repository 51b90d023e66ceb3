"""A downloader that a power cut, a full disk or a lost network only ever pauses.

Beside the destination stand ``NAME.part`` and ``NAME.journal``. The journal's first line says what is being
downloaded; every further line is a checkpoint, ``OFFSET HASH-OF-THE-FIRST-OFFSET-BYTES``, written after the part
was fsynced to that offset. To resume, the part is hashed again and cut back to the last checkpoint that still holds,
so torn or stale bytes never survive, then the rest is asked for with ``Range`` and ``If-Range`` (RFC 9110, 13.1.5
and 14.2). Length and hash are checked while the bytes stream in and once more from the disk; only then does one
rename put the file at its destination.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.trust.durable import FULL, fsync_folder, storage_error
from edgeward.trust.transport import TIMEOUT_S, UnreachableError, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.trust.transport import Answer

CHECKPOINT_BYTES = 4 << 20
"""At most this much is fetched twice after a power cut."""
CHUNK_BYTES = 1 << 16
ATTEMPTS = 4
"""Connections tried in a row without one new byte before giving up."""
RATE_MIN_BYTES_PER_S = 256
"""A server slower than this over ``SLOW_AFTER_S`` is unreachable (TUF's slow-retrieval attack)."""
SLOW_AFTER_S = 60.0
RETRY_PAUSE_S = 0.2
ROOM_BYTES = 1 << 20
"""Kept free on the disk beside the file itself."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_CHECKPOINT = re.compile(rb"(\d{1,12}) ([0-9a-f]{64,128})")


@dataclass(frozen=True, slots=True)
class Blob:
    """What to download: signed metadata gave the length in bytes and its ``digest``; ``ca`` as ``opened`` has it."""

    url: str
    length: int
    digest: str
    algorithm: str = "sha256"
    ca: str = ""


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """Bytes kept from an earlier run, bytes fetched by this one, and how often it had to begin anew."""

    resumed_bytes: int
    fetched_bytes: int
    restarts: int


class Pace(Protocol):
    """What keeps a download to a rate."""

    @property
    def part_bytes(self) -> int:
        """How much to read at a time."""
        ...

    def spend(self, count: int) -> None:
        """``count`` bytes came: wait until they may have."""
        ...


class StoppedError(Exception):
    """Raised by the caller's ``progress`` or ``pace`` to end a download: every byte that came is kept."""


def download(
    blob: Blob,
    dest: Path,
    *,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int], None] | None = None,
    pace: Pace | None = None,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    pause: Callable[[float], None] = time.sleep,
) -> DownloadReport:
    """Put ``blob`` at ``dest``, resuming what an earlier call left; ``progress`` is told the bytes held so far.

    ``pace`` keeps it to a rate; it and ``progress`` may raise ``StoppedError``, which passes through.

    Raises ``TrustError``: ``repository-unreachable`` (call again: it resumes), ``download-hash``,
    ``download-too-long``, ``download-refused``; ``ConfigError``: ``disk-full``, ``disk-error``. After any of them, and
    after a kill at any instant, ``dest`` is what it was before, and at most the resumable part and its journal lie
    beside it.
    """
    try:
        if _is_there(blob, dest):
            return DownloadReport(blob.length, 0, 0)
        dest.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(blob, dest)
        try:
            part.require_room()
            loop = _Loop(blob, part, timeout_s, checkpoint_bytes, progress, pace, pause)
            loop.run()
        finally:
            part.close()
        part.finish()
    except OSError as error:
        raise storage_error(error, "downloading the bundle") from error
    except UnreachableError:
        raise
    except TrustError:
        discard(dest)  # what came is not the signed bundle, so there is nothing to resume
        raise
    return DownloadReport(part.resumed, loop.fetched, loop.restarts)


def fetch_unsigned(
    url: str,
    dest: Path,
    bytes_max: int,
    *,
    timeout_s: float = TIMEOUT_S,
    ca: str = "",
    progress: Callable[[int], None] | None = None,
    pace: Pace | None = None,
) -> None:
    """Put what lies at ``url`` at ``dest``, of whatever length up to ``bytes_max``, checked by nobody and not resumed.

    For what is judged by what it makes (a delta). Raises ``UnreachableError``, ``TrustError`` (``download-refused``,
    ``download-too-long``) and ``OSError``; ``progress``, ``pace`` and ``ca`` as ``download``.
    """
    with opened(url, timeout_s=timeout_s, ca=ca) as answer, dest.open("wb") as file:
        if answer.status != 200:
            raise _refused(f"HTTP {answer.status}")
        clock, size = _Slowness(), 0
        while chunk := answer.read(_part_bytes(pace)):
            size += len(chunk)
            if size > bytes_max:
                raise _too_long()
            file.write(chunk)
            _tell(size, len(chunk), progress, pace)
            clock.require_fast(size)


def held_bytes(dest: Path) -> int:
    """Bytes of ``dest`` that an earlier run has left in its part, an upper bound; 0 when there is none."""
    try:
        return _beside(dest, "part").stat().st_size
    except FileNotFoundError:
        return 0


def discard(dest: Path) -> None:
    """Remove the part and journal of ``dest``, if any."""
    for kind in ("part", "journal"):
        _beside(dest, kind).unlink(missing_ok=True)


def _beside(dest: Path, kind: str) -> Path:
    return dest.with_name(f"{dest.name}.{kind}")


def _is_there(blob: Blob, path: Path) -> bool:
    try:
        if path.stat().st_size != blob.length:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, blob.algorithm).hexdigest() == blob.digest
    except FileNotFoundError:
        return False


class _Part:
    """The part file and its journal: the only state of a download."""

    def __init__(self, blob: Blob, dest: Path) -> None:
        self._blob = blob
        self._dest = dest
        self._path = _beside(dest, "part")
        self._journal_path = _beside(dest, "journal")
        self.etag = ""
        self.offset = 0
        self.resumed = 0
        self._hash = hashlib.new(blob.algorithm)
        self._saved = 0
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._journal = os.open(self._journal_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            os.close(self._file)
            raise
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def _header(self) -> dict[str, Any]:
        return {
            "url": self._blob.url,
            "length": self._blob.length,
            self._blob.algorithm: self._blob.digest,
            "etag": self.etag,
        }

    def _recover(self) -> None:
        lines = os.pread(self._journal, 1 << 24, 0).split(b"\n")[:-1]  # a torn last line has no newline
        header: Any = None
        if lines:
            with contextlib.suppress(ValueError):
                header = json.loads(lines[0])
        if not isinstance(header, dict) or any(
            header.get(k) != self._header()[k] for k in ("length", self._blob.algorithm)
        ):
            self.restart("")
            return
        # Another address for the same signed bytes goes on with them; only its ETag means nothing here.
        self.etag = str(header.get("etag", "")) if header.get("url") == self._blob.url else ""
        size = os.fstat(self._file).st_size
        held = hashlib.new(self._blob.algorithm)
        valid = len(lines[0]) + 1
        for line in lines[1:]:
            found = _CHECKPOINT.fullmatch(line)
            if found is None or not self.offset < int(found[1]) <= min(size, self._blob.length):
                break
            while chunk := self._read(int(found[1])):
                held.update(chunk)
                self.offset += len(chunk)
            if held.hexdigest() != found[2].decode():
                break
            self._saved = self.offset
            self._hash = held.copy()
            valid += len(line) + 1
        self.offset = self._saved
        os.ftruncate(self._journal, valid)
        os.ftruncate(self._file, self.offset)
        self.resumed = self.offset

    def _read(self, end: int) -> bytes:
        return os.pread(self._file, min(CHUNK_BYTES, end - self.offset), self.offset)

    def restart(self, etag: str) -> None:
        """Forget every byte and begin a journal anew for the representation ``etag``."""
        os.ftruncate(self._file, 0)
        os.ftruncate(self._journal, 0)
        self.etag, self.offset, self._saved, self.resumed = etag, 0, 0, 0
        self._hash = hashlib.new(self._blob.algorithm)
        _append(self._journal, json.dumps(self._header()).encode() + b"\n")
        os.fsync(self._journal)
        fsync_folder(self._dest.parent)

    def write(self, chunk: bytes) -> None:
        """Take bytes at the end of the part; not durable until ``checkpoint``."""
        view = memoryview(chunk)
        while view:
            done = os.pwrite(self._file, view, self.offset)
            self._hash.update(view[:done])
            self.offset += done
            view = view[done:]

    def unsaved(self) -> int:
        """Bytes after the last checkpoint."""
        return self.offset - self._saved

    def checkpoint(self) -> None:
        """Make every byte so far durable, then say so in the journal."""
        if self.unsaved():
            os.fsync(self._file)
            _append(self._journal, f"{self.offset} {self._hash.hexdigest()}\n".encode())
            os.fsync(self._journal)
            self._saved = self.offset

    def hash_holds(self) -> bool:
        """Whether the streamed bytes are the blob."""
        return self.offset == self._blob.length and self._hash.hexdigest() == self._blob.digest

    def require_room(self) -> None:
        """``ConfigError`` ``disk-full`` when what is left to fetch does not fit."""
        stat = os.fstatvfs(self._file)
        need = self._blob.length - self.offset + ROOM_BYTES
        if stat.f_bavail * stat.f_frsize < need:
            raise ConfigError(
                "disk-full", f"the download needs {need} free bytes; free some space and run it again, it resumes"
            )

    def close(self) -> None:
        """Close both files; the part stays."""
        os.close(self._file)
        os.close(self._journal)

    def finish(self) -> None:
        """Check the file once more from the disk and put it at its destination."""
        if not _is_there(self._blob, self._path):
            raise TrustError(
                "download-hash",
                "the downloaded bundle is not the signed one; it was thrown away, the bundle in use stays in use",
            )
        self._path.replace(self._dest)
        fsync_folder(self._dest.parent)
        self._journal_path.unlink(missing_ok=True)


def _append(handle: int, line: bytes) -> None:
    os.lseek(handle, 0, os.SEEK_END)
    if os.write(handle, line) != len(line):
        raise OSError(next(iter(FULL)), "short write")


class _Loop:
    """Connects again and again until the part is whole or nothing more comes."""

    def __init__(
        self,
        blob: Blob,
        part: _Part,
        timeout_s: float,
        checkpoint_bytes: int,
        progress: Callable[[int], None] | None,
        pace: Pace | None,
        pause: Callable[[float], None],
    ) -> None:
        self._blob = blob
        self._part = part
        self._timeout_s = timeout_s
        self._checkpoint_bytes = checkpoint_bytes
        self._progress = progress
        self._pace = pace
        self._pause = pause
        self._connections = self.fetched = self.restarts = 0

    def run(self) -> None:
        """Fetch until the hash holds. Raises ``TrustError``; every byte that came is saved first."""
        idle, best = 0, self._part.offset
        while not self._part.hash_holds():
            if self._part.offset == self._blob.length:
                self._begin_anew()
                continue
            try:
                self._connect()
            except (UnreachableError, StoppedError, KeyboardInterrupt) as error:
                self._part.checkpoint()
                # A server that ignores Range or drips must not keep us here: only bytes never held before count.
                idle = 0 if self._part.offset >= best + CHUNK_BYTES else idle + 1
                best = max(best, self._part.offset)
                if idle >= ATTEMPTS or not isinstance(error, UnreachableError):
                    raise
                self._pause(RETRY_PAUSE_S * idle)
        self._part.checkpoint()

    def _begin_anew(self) -> None:
        """Every byte is here and the hash is wrong: two answers may be mixed once; after that, refuse."""
        if self.restarts or (self._connections == 1 and not self._part.resumed):
            raise TrustError(
                "download-hash",
                "the server's bundle is not the signed one; it was thrown away, the bundle in use stays in use",
            )
        self._restart("")

    def _restart(self, etag: str) -> None:
        self.restarts += 1
        self._part.restart(etag)

    def _connect(self) -> None:
        self._connections += 1
        headers: dict[str, str] = {}
        if self._part.offset:
            headers["Range"] = f"bytes={self._part.offset}-"
            if self._part.etag.startswith('"'):  # RFC 9110, 13.1.5: If-Range takes strong validators only
                headers["If-Range"] = self._part.etag
        with opened(self._blob.url, headers, timeout_s=self._timeout_s, ca=self._blob.ca) as answer:
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        etag = answer.headers.get("etag", "")
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            fits = found and int(found[1]) == self._part.offset and int(found[3]) == self._blob.length
            if not fits or (self._part.etag and etag != self._part.etag):
                if self.restarts > ATTEMPTS:
                    raise _refused("its partial answers do not fit together")
                self._restart("")
                return
        elif answer.status == 200:
            if self._part.offset:
                self._restart(etag)
            elif self._part.etag != etag:
                self._part.restart(etag)
        elif answer.status == 416 and self.restarts <= ATTEMPTS:
            self._restart("")
            return
        elif answer.status >= 500 or answer.status in {408, 429}:
            raise UnreachableError(f"HTTP {answer.status}")
        else:
            raise _refused(f"HTTP {answer.status}")
        self._stream(answer)

    def _stream(self, answer: Answer) -> None:
        clock, had = _Slowness(), self.fetched
        while True:
            chunk = answer.read(_part_bytes(self._pace))
            if len(chunk) > self._blob.length - self._part.offset:
                raise _too_long()
            if not chunk:
                if self._part.offset < self._blob.length:
                    raise UnreachableError("the answer ended early")
                return
            self._part.write(chunk)
            self.fetched += len(chunk)
            if self._part.unsaved() >= self._checkpoint_bytes:
                self._part.checkpoint()
            _tell(self._part.offset, len(chunk), self._progress, self._pace)
            clock.require_fast(self.fetched - had)


class _Slowness:
    """Notices a server that keeps a connection alive by drips."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def require_fast(self, fetched: int) -> None:
        """``UnreachableError`` when ``fetched`` bytes are too few for the time since it was made."""
        spent = time.monotonic() - self._began
        if spent > SLOW_AFTER_S and fetched < RATE_MIN_BYTES_PER_S * spent:
            raise UnreachableError(f"slower than {RATE_MIN_BYTES_PER_S} bytes per second")


def _part_bytes(pace: Pace | None) -> int:
    return CHUNK_BYTES if pace is None else min(CHUNK_BYTES, pace.part_bytes)


def _tell(held: int, count: int, progress: Callable[[int], None] | None, pace: Pace | None) -> None:
    if progress:
        progress(held)
    if pace:
        pace.spend(count)


def _too_long() -> TrustError:
    return TrustError(
        "download-too-long",
        "the server sends more bytes than were signed; nothing was kept, tell the fleet operator",
    )


def _refused(why: str) -> TrustError:
    return TrustError(
        "download-refused",
        f"the server does not give the signed bundle ({why}); tell the fleet operator, the bundle in use stays in use",
    )
