"""A TUF repository that a test bends as it likes, its HTTP server, and ``edgeward-tuf-client`` run against it.

The real suite (theupdateframework/tuf-conformance) runs the client as a process; here its ``main`` is called with the
same arguments, because hundreds of interpreter starts would cost minutes; ``test_as_a_process`` runs some.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from edgeward.cli.tuf_client import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOP = ("root", "timestamp", "snapshot", "targets")
SAFE_DAYS = 30


def in_days(days: float) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


class Repository:
    """Metadata as they are being written (``signed_of``) and as they were published (``published``)."""

    def __init__(self) -> None:
        expires = in_days(SAFE_DAYS)
        self.mds: dict[str, Metadata[Any]] = {
            "targets": Metadata(Targets(expires=expires)),
            "snapshot": Metadata(Snapshot(expires=expires)),
            "timestamp": Metadata(Timestamp(expires=expires)),
            "root": Metadata(Root(expires=expires)),
        }
        self.published: dict[str, list[bytes]] = {}
        self.signers: dict[str, dict[str, CryptoSigner]] = {}
        self.files: dict[str, bytes] = {}
        self.with_hashes = False
        self.asked: list[tuple[str, int | None]] = []
        self.fetched: list[tuple[str, str]] = []
        for role in TOP:
            self.add_key(role)
        self.publish("targets", "snapshot", "timestamp", "root")

    @property
    def root(self) -> Root:
        return self.mds["root"].signed

    @property
    def targets(self) -> Targets:
        return self.mds["targets"].signed

    @property
    def snapshot(self) -> Snapshot:
        return self.mds["snapshot"].signed

    @property
    def timestamp(self) -> Timestamp:
        return self.mds["timestamp"].signed

    def add_key(self, role: str, signer: CryptoSigner | None = None, delegator: str = "root") -> CryptoSigner:
        signer = signer or CryptoSigner.generate_ed25519()
        self.mds[delegator].signed.add_key(signer.public_key, role)
        self.signers.setdefault(role, {})[signer.public_key.keyid] = signer
        return signer

    def rotate(self, role: str) -> None:
        self.root.roles[role].keyids.clear()
        self.signers[role].clear()
        self.add_key(role)

    def publish(self, *roles: str) -> None:
        """Count up, sign and publish each role in turn; the metadata above it in the chain name it."""
        for role in roles:
            metadata = self.mds[role]
            if role in self.published:
                metadata.signed.version += 1
            metadata.signatures.clear()
            for signer in self.signers[role].values():
                metadata.sign(signer, append=True)
            raw = metadata.to_bytes()
            self.published.setdefault(role, []).append(raw)
            version = metadata.signed.version
            named = MetaFile.from_data(version, raw, ["sha256"]) if self.with_hashes else MetaFile(version)
            if role == "snapshot":
                self.timestamp.snapshot_meta = named
            elif role not in {"root", "timestamp"}:
                self.snapshot.meta[f"{role}.json"] = named

    def restart(self, role: str, version: int = 1) -> None:
        """Forget what was published of ``role``: its next publication has this version."""
        del self.published[role]
        self.mds[role].signed.version = version

    def add_file(self, role: str, path: str, data: bytes, hashes: tuple[str, ...] = ("sha256",)) -> TargetFile:
        entry = TargetFile.from_data(path, data, list(hashes))
        self.mds[role].signed.targets[path] = entry
        self.files[path] = data
        return entry

    def delegate(self, delegator: str, role: DelegatedRole, expires: datetime | None = None) -> None:
        parent: Targets = self.mds[delegator].signed
        if parent.delegations is None:
            parent.delegations = Delegations({}, roles={})
        assert parent.delegations.roles is not None
        parent.delegations.roles[role.name] = role
        self.add_key(role.name, delegator=delegator)
        self.mds.setdefault(role.name, Metadata(Targets(expires=expires or in_days(SAFE_DAYS))))

    def delegate_bins(self, bit_length: int) -> None:
        signer = CryptoSigner.generate_ed25519()
        bins = SuccinctRoles([], 1, bit_length, "bin")
        self.targets.delegations = Delegations({}, None, bins)
        for name in bins.get_roles():
            self.mds[name] = Metadata(Targets(expires=in_days(SAFE_DAYS)))
            self.signers[name] = {signer.public_key.keyid: signer}
            self.publish(name)
        self.targets.add_key(signer.public_key)

    # --- what the server asks for

    def answer(self, kind: str, name: str) -> bytes | None:
        if kind == "targets":
            folder, slash, last = name.rpartition("/")
            digest, _, rest = last.partition(".")
            self.fetched.append((f"{folder}{slash}{rest}", digest))
            return self.files.get(f"{folder}{slash}{rest}")
        stem = name.removesuffix(".json")
        version, _, role = ("", "", stem) if stem == "timestamp" else stem.partition(".")
        self.asked.append((role, int(version) if version else None))
        known = self.published.get(unquote(role), [])
        index = int(version) if version else len(known)
        return known[index - 1] if 1 <= index <= len(known) else None


class Server:
    """Serves any number of repositories, each below its own number."""

    def __init__(self) -> None:
        self._repositories: list[Repository] = []
        repositories = self._repositories

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, number, kind, name = self.path.split("/", 3)
                body = repositories[int(number)].answer(kind, name)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def add(self, repository: Repository) -> str:
        self._repositories.append(repository)
        return f"http://127.0.0.1:{self._http.server_address[1]}/{len(self._repositories) - 1}"

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


@dataclass
class Client:
    """``edgeward-tuf-client`` with its folders; ``now`` is its clock, the system's when None."""

    url: str
    folder: Path
    trusted_root: bytes
    now: datetime | None = None
    metadata: Path = field(init=False)
    files: Path = field(init=False)

    def __post_init__(self) -> None:
        self.metadata, self.files = self.folder / "metadata", self.folder / "files"
        self.metadata.mkdir()
        self.files.mkdir()

    def run(self, *arguments: str) -> int:
        wall = None if self.now is None else lambda: self.now
        return main(["--metadata-dir", str(self.metadata), *arguments], wall=wall)  # type: ignore[arg-type]

    def init(self) -> int:
        path = self.folder / "initial_root.json"
        path.write_bytes(self.trusted_root)
        return self.run("init", str(path))

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, *paths: str) -> int:
        """Download ``paths`` in one run of the client."""
        names = [word for path in paths for word in ("--target-name", path)]
        where = ("--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.files))
        return self.run("--metadata-url", f"{self.url}/metadata/", *names, *where, "download")

    def version(self, role: str) -> int | None:
        path = self.metadata / f"{role}.json"
        return Metadata.from_bytes(path.read_bytes()).signed.version if path.exists() else None

    def trusted(self) -> dict[str, int | None]:
        """The roles whose metadata are trusted now, with their versions."""
        return {path.stem: self.version(path.stem) for path in self.metadata.glob("*.json")}

    def downloaded(self) -> list[bytes]:
        """Every file in the download folder, the oldest first."""
        paths = sorted((p for p in self.files.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
        return [path.read_bytes() for path in paths]
