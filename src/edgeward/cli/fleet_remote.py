"""The fleet server from elsewhere: its REST interface, over TLS, by the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from edgeward.kernel.errors import ConfigError, InputError, RolloutError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 << 20
_OURS = ("rollout-", "approval-", "plan-", "return-", "release-", "group-", "tag-", "zone-")


@dataclass(frozen=True, slots=True)
class FleetClientSettings:
    """Which fleet an operator's machine speaks to.

    ``server``: its URL; ``token_file``: file whose first line is an API token; ``authority``: PEM of the fleet's
    authority, "" for the certificates that the system trusts.
    """

    server: str = "https://127.0.0.1:8470"
    token_file: Path = Path()
    authority: str = ""


class Remote:
    """One fleet server. ``token``: an API token."""

    def __init__(self, settings: FleetClientSettings, token: str) -> None:
        parts = urlsplit(settings.server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError("fleet-url", f"{settings.server!r} is no fleet server: write https://HOST:PORT")
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise ConfigError("fleet-plain", "a token goes over TLS alone, but for loopback: write https://")
        self._url = settings.server
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._authority = settings.authority
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """What is at ``path``. Raises what ``ask`` does."""
        asked = {name: value for name, value in (query or {}).items() if value not in (None, "", False)}
        return self.ask("GET", f"{path}?{urlencode(asked)}" if asked else path)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to ``/api/v1``; the answer's JSON, None for an empty one.

        ``ConfigError`` for a server that cannot be reached or a token it does not take; else its own refusal:
        ``RolloutError`` where it concerns one, ``InputError``.
        """
        sent = None if body is None else json.dumps(body).encode()
        headers = self._headers if sent is None else {**self._headers, "Content-Type": "application/json"}
        connection = self._connection()
        try:
            connection.request(method, f"/api/v1{path}", sent, headers)
            answer = connection.getresponse()
            raw = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError("fleet-unreachable", self._unreachable(error)) from error
        finally:
            connection.close()
        try:
            found = json.loads(raw) if raw else None
        except ValueError as error:
            raise ConfigError(
                "fleet-url", f"what answers at {self._url} is no fleet server; correct --server"
            ) from error
        if answer.status >= 400:
            raise _refusal(answer.status, found)
        return found

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            context = ssl.create_default_context(cafile=self._authority or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("authority-unreadable", f"cannot read the authority {self._authority}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)

    def _unreachable(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{self._url} has no certificate of this fleet; give --authority its ca.pem, or correct --server"
        return f"{self._url} does not answer ({type(error).__name__}); start the server, or correct --server"


def _refusal(status: int, found: Any) -> Exception:
    body = found if isinstance(found, dict) else {}
    code, message = str(body.get("code", "fleet-refused")), str(body.get("message", f"the server answered {status}"))
    if status == 401:
        return ConfigError(code, f"{message} (--token-file, made by: edgeward fleet user token NAME)")
    if code == "not-permitted":
        return ConfigError(code, message)
    return (RolloutError if code.startswith(_OURS) else InputError)(code, message)
