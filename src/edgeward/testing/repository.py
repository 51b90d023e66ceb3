"""Good and bad repositories for tests, and a server that misbehaves on request."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bundle.archive import hash_members, write_bundle
from edgeward.bundle.manifest import BATCH, GoldenSpec, Manifest, ModelSpec, TensorSpec
from edgeward.trust.ceremony import Ceremony
from edgeward.trust.fetch import TrustClient
from edgeward.trust.publish import Publisher
from edgeward.workshop.serve import RepositoryHandler, RepositoryServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.trust.roles import Expiry


def tiny_bundle(version: str = "1.0.0", *, name: str = "ecg-beat", filler: bytes = b"") -> bytes:
    """A well-formed bundle of about 2 KiB whose model is not one: for everything that never runs it."""
    golden = io.BytesIO()
    np.savez(golden, wave=np.zeros((1, 2, 4), np.float32), scores=np.zeros((1, 5), np.float32))
    members = {"model.onnx": b"not a model " + version.encode() + filler, "golden.npz": golden.getvalue()}
    manifest = Manifest(
        name=name,
        version=version,
        task="ecg-beat-aami",
        inputs=(TensorSpec("wave", (BATCH, 2, 4), unit="mV"),),
        outputs=(TensorSpec("scores", (BATCH, 5)),),
        classes=("N", "S", "V", "F", "Q"),
        preprocessing="beat-window-2",
        preprocessing_params={},
        decision={},
        deadline_ms=4.0,
        default_model="fp32",
        models=(ModelSpec("fp32", "model.onnx", "onnxruntime", "fp32"),),
        golden=GoldenSpec("golden.npz", 1, {"fp32": 1e-4}),
        hashes=hash_members(members),
    )
    return write_bundle(manifest, members)


@dataclass
class FakeWall:
    """Wall time that a test sets."""

    now: datetime = field(default_factory=lambda: datetime(2026, 6, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        """The time now."""
        return self.now

    def advance(self, **parts: float) -> None:
        """Move on by ``days=``, ``hours=`` …, negative to set the clock back."""
        self.now += timedelta(**parts)


class RepositoryLab:
    """A repository on disk, its keys, a device's trust folder and one clock for all, under ``folder``.

    A small one by default; with ``families`` one of a ceremony: 2 of 3 root keys, a role for each family.
    """

    def __init__(
        self,
        folder: Path,
        *,
        wall: FakeWall | None = None,
        expiry: Expiry | None = None,
        families: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.wall = wall or FakeWall()
        self.repo = folder / "repo"
        self.trust = folder / "trust"
        self.publisher = Publisher(self.repo, folder / "keys", expiry=expiry, wall=self.wall)
        self.ceremony = Ceremony(self.publisher.folder)
        made = self.ceremony.init(families=families) if families else self.publisher.init()
        self.root = made.read_bytes()

    def publish(
        self, version: str = "1.0.0", *, name: str = "ecg-beat", filler: bytes = b"", allow_return: bool = False
    ) -> bytes:
        """Publish a tiny bundle and return its bytes."""
        raw = tiny_bundle(version, name=name, filler=filler)
        path = self.folder / "to-publish.ewb"
        path.write_bytes(raw)
        self.publisher.add(path, allow_return=allow_return)
        return raw

    def client(self, url: str | Path | None = None) -> TrustClient:
        """A device's client of this repository (or of ``url``), with this lab's clock and root."""
        return TrustClient(url or self.repo, self.trust, root=self.root, wall=self.wall, timeout_s=5.0)

    def snapshot_to(self, name: str) -> Path:
        """A copy of the whole repository as it is now: what an attacker may show again later."""
        return shutil.copytree(self.repo, self.folder / name)


@dataclass
class Faults:
    """What a ``FaultyServer`` does wrong to bundles (``targets/``); everything off by default."""

    cut_after: int | None = None
    """Close the connection after this many body bytes, once per request while ``cuts`` > 0."""
    cuts: int = 1_000_000
    ignore_range: bool = False
    ignore_if_range: bool = False
    etag: str | None = None
    no_etag: bool = False
    status: int | None = None
    replace: bytes | None = None
    """Send this instead of every bundle."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of every bundle request, in order."""


class FaultyServer(RepositoryServer):
    """A repository server whose ``faults`` a test may change at any time."""

    def __init__(self, repo_dir: Path) -> None:
        self.faults = Faults()
        super().__init__(repo_dir, handler=type("FaultyHandler", (_FaultyHandler,), {"faults": self.faults}))


class _FaultyHandler(RepositoryHandler):
    faults: Faults

    def do_GET(self) -> None:  # noqa: N802  (the name http.server asks for)
        path = self._find()
        if path is None or path.parent.name != "targets":
            super().do_GET()
            return
        faults = self.faults
        faults.requests.append({name.lower(): value for name, value in self.headers.items()})
        body = faults.replace if faults.replace is not None else path.read_bytes()
        tag = faults.etag or f'"{path.name[:64]}"'
        if faults.ignore_if_range:
            del self.headers["If-Range"]
        start, _ = (0, 0) if faults.ignore_range else self._wanted(len(body), tag)
        status = faults.status or (206 if start else 200)
        self.send_response(status)
        if not faults.no_etag:
            self.send_header("ETag", tag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        if faults.cut_after is not None and faults.cuts > 0:
            faults.cuts -= 1
            body = body[: faults.cut_after]
            self.close_connection = True
        self.wfile.write(body)
