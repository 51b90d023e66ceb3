"""A scoring server: the same bundle as at the bedside, behind HTTPS, for devices whose own engines fail.

Speaks ``edgeward.exchange.scoring``: model inputs in, scores out. It keeps nothing of a request, and its log holds
counts and codes only. Engines run in processes of their own (``EngineHost``), so that a model that crashes costs one
answer. Plain HTTP exists for loopback alone; elsewhere a certificate and tokens are asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import edgeward
from edgeward.bundle.archive import read_bundle
from edgeward.exchange.scoring import PATH, REQUEST_BYTES_MAX, decode_request, encode_answer
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import BundleError, ConfigError, InputError
from edgeward.kernel.hosts import LOOPBACK

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from pathlib import Path

READ_S = 5.0
"""A client that has not sent its request, or not finished its handshake, by then is dropped."""
BUDGET_S = 1.0
"""Time that an engine gets for one answer."""
CONNECTIONS_MAX = 128


@dataclass
class Counts:
    """What the server tells of itself."""

    answered: int = 0
    refused: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str) -> None:
        """Count one."""
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)


class ScoringServer:
    """Serves ``bundles`` at ``host:port`` (0: any) from construction until ``close``.

    ``certificate``: PEM files of chain and key; ``token_hashes``: SHA-256 of the tokens that devices show, in hex.
    Raises ``ConfigError`` (``cloud-open``: not loopback and without both; ``cloud-port``; ``cloud-certificate``) and
    what the bundles raise.
    """

    def __init__(
        self,
        bundles: Iterable[Path],
        *,
        host: str = "127.0.0.1",
        port: int = 8443,
        certificate: tuple[Path, Path] | None = None,
        token_hashes: Iterable[str] = (),
        threads: int = 1,
    ) -> None:
        self.token_hashes = frozenset(token_hashes)
        if host not in LOOPBACK and (certificate is None or not self.token_hashes):
            raise ConfigError(
                "cloud-open", "a scoring server beyond loopback needs a certificate and at least one device token"
            )
        self.counts = Counts()
        self.engines: dict[str, EngineHost] = {}
        self._context = _context(certificate)
        with contextlib.ExitStack() as started:
            started.callback(self._stop_engines)
            for path in bundles:
                self._serve(path, threads)
            self._http = _listen(self, host, port)
            started.pop_all()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._context else 'http'}://{shown}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="scoring", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; engines are killed and reaped."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._stop_engines()

    def __enter__(self) -> ScoringServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def dressed(self, raw: socket.socket) -> socket.socket:
        """The connection with its handshake done where TLS is on, within ``READ_S``."""
        raw.settimeout(READ_S)
        return raw if self._context is None else self._context.wrap_socket(raw, server_side=True)

    def knows(self, token: str) -> bool:
        """Whether a device's token is one of those that were given; compared in constant time."""
        if not self.token_hashes:
            return True
        shown = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        matches = [hmac.compare_digest(shown, known) for known in self.token_hashes]  # all of them: constant time
        return any(matches)

    def _serve(self, path: Path, threads: int) -> None:
        try:
            bundle = read_bundle(path.read_bytes())
        except OSError as error:
            raise BundleError("bundle-unreadable", f"cannot read {path}: {error.strerror}") from error
        engine = EngineHost(path, threads=threads)
        engine.start()
        self.engines[bundle.sha256] = engine

    def _stop_engines(self) -> None:
        for engine in self.engines.values():
            engine.stop()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: ScoringServer) -> None:
        self.owner = owner
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread per connection, up to the ceiling; beyond it the connection is closed at once."""
        if not self._room.acquire(blocking=False):
            self.owner.counts.add("refused")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake belongs to the connection's own thread: a slow one must not hold up the others."""
        try:
            dressed = self.owner.dressed(request)
        except (OSError, ssl.SSLError):
            self.owner.counts.add("refused")
            self.shutdown_request(request)
        else:
            super().process_request_thread(dressed, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is nobody's error, and no traceback may show what it sent."""
        self.owner.counts.add("failed")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"edgeward/{edgeward.__version__}"
    sys_version = ""
    timeout = READ_S
    server: _Http

    def do_GET(self) -> None:
        """What is served, and how it goes."""
        owner = self.server.owner
        if self.path != "/healthz":
            self._say(HTTPStatus.NOT_FOUND, {"code": "no-such-page"})
            return
        ready = {sha256: engine.ready for sha256, engine in owner.engines.items()}
        counts = {"answered": owner.counts.answered, "refused": owner.counts.refused, "failed": owner.counts.failed}
        status = HTTPStatus.OK if all(ready.values()) else HTTPStatus.SERVICE_UNAVAILABLE
        self._say(status, {"bundles": ready, **counts})

    def do_POST(self) -> None:
        """Score one request."""
        owner = self.server.owner
        if self.path != PATH:
            self._refuse(HTTPStatus.NOT_FOUND, "no-such-page")
            return
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not owner.knows(token if scheme.lower() == "bearer" else ""):
            self._refuse(HTTPStatus.UNAUTHORIZED, "token-unknown", {"WWW-Authenticate": "Bearer"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > REQUEST_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "score-request")
            return
        self._score(self.rfile.read(int(length)))

    def _score(self, body: bytes) -> None:
        owner = self.server.owner
        try:
            request = decode_request(body)
            engine = owner.engines.get(request.sha256)
            if engine is None:
                self._refuse(HTTPStatus.NOT_FOUND, "bundle-unknown")
                return
            began = time.perf_counter_ns()
            result = engine.infer(dict(request.inputs), budget_s=BUDGET_S)
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, error.code)
            return
        if result.scores is None:
            owner.counts.add("failed")
            why = result.failure.value if result.failure else "failed"
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"code": f"engine-{why}"}, {"Retry-After": "1"})
            return
        owner.counts.add("answered")
        took = {"Server-Timing": f"score;dur={(time.perf_counter_ns() - began) / 1e6:.3f}"}
        self._send(HTTPStatus.OK, encode_answer(result.scores), took)

    def _refuse(self, status: HTTPStatus, code: str, headers: dict[str, str] | None = None) -> None:
        self.server.owner.counts.add("refused")
        self.close_connection = True  # a body that was not read must not be taken for the next request
        self._say(status, {"code": code}, headers)

    def _say(self, status: HTTPStatus, words: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(words).encode(), headers)

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: a line per score would tell when a patient was worse."""


def _context(certificate: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "cloud-certificate", "the server's certificate or key cannot be used; give PEM files that belong together"
        ) from error
    return context


def _listen(owner: ScoringServer, host: str, port: int) -> _Http:
    try:
        return _Http((host, port), owner)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            "cloud-port", f"cannot listen at {host}, port {port}; choose another address or port"
        ) from error
