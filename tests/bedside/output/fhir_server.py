"""A hospital's FHIR server on loopback: real HTTP or TLS, and every resource held to the standard's own model."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fhir.resources.R4B import get_fhir_model_class
from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

if TYPE_CHECKING:
    import ssl


class FhirServer:
    """Takes transactions: creates conditionally, updates by identifier. ``script``: what it does with the next ones.

    ``taken``: what was created or updated, in order; ``invalid``: what the standard does not allow; ``requests``: each
    one's headers and path.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.taken: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.script: deque[tuple[int, dict[str, str]] | str] = deque()
        self.invalid: list[str] = []
        self._known: set[tuple[str, str]] = set()
        self._closed = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self.http = Listener(("127.0.0.1", port), Handler)
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_address[1]}/fhir/r4"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Do with a request what the script says, or take it."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        step = (200, {}) if not self.script else self.script.popleft()
        if self._closed:
            step = "hang-up"
        else:
            self.requests.append({**dict(request.headers), "path": request.path})
        if isinstance(step, str):
            if step == "lost-answer":
                self.take(body)
            request.close_connection = True
            return
        status, headers = step
        request.send_response(self.take(body) if status == 200 else status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    def take(self, body: bytes) -> int:
        """A transaction: all of it, or nothing."""
        document = json.loads(body)
        try:
            Bundle.model_validate(document)
            for entry in document["entry"]:
                get_fhir_model_class(entry["resource"]["resourceType"]).model_validate(entry["resource"])
        except ValidationError as error:
            self.invalid.append(str(error))
            return 422
        for entry in document["entry"]:
            resource = entry["resource"]
            key = (resource["resourceType"], resource["identifier"][0]["value"])
            if entry["request"]["method"] == "PUT" or key not in self._known:
                self._known.add(key)
                self.taken.append(resource)
        return 200

    def close(self) -> None:
        """Be away: nobody listens, and what is connected is hung up on."""
        self._closed = True
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()
