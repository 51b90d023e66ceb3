"""The little of HTTP/1.1 that the page needs: read one GET, answer with headers that keep a browser strict. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

REQUEST_BYTES_MAX = 8_192
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    f"Content-Security-Policy: {_CSP}\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Permissions-Policy: camera=(), microphone=(), geolocation=()\r\n"
    "Cache-Control: no-store\r\n"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: method, path without its query, and headers with lower-case names."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that gets no page: the status and a sentence for whoever reads it."""

    status: HTTPStatus
    why: str


def parse(head: bytes) -> Request | Refusal:
    """Read a request's head (without the empty line that ends it); a Refusal where it is not plain HTTP/1.x."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        return Refusal(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name != name.strip() or (key == "host" and key in headers):
            return Refusal(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        headers[key] = value.strip()
    return Request(words[0], words[1].partition("?")[0], headers)


def admit(request: Request, names: frozenset[str]) -> Refusal | None:
    """A Refusal for what is not a GET for one of our own names.

    The Host check stops DNS rebinding: a foreign site whose name was pointed at this address still sends its own name.
    """
    host = request.headers.get("host")
    if host is None:
        return Refusal(HTTPStatus.BAD_REQUEST, "no Host header")
    if host_name(host) not in names:
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST, "this name is not among the page's names; add it to its settings"
        )
    if request.method != "GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and request.path != "/":
        return Refusal(HTTPStatus.FORBIDDEN, "asked for by another site")
    return None


def host_name(host: str) -> str:
    """The name of a Host header without its port; an IPv6 address keeps its brackets."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower().removesuffix(".")


def answer(status: HTTPStatus, content_type: str, body: bytes, extra: str = "") -> bytes:
    """A whole answer; the connection ends with it."""
    return stream_head(status, content_type, f"Content-Length: {len(body)}\r\n{extra}") + body


def stream_head(status: HTTPStatus, content_type: str, extra: str = "") -> bytes:
    """The head of an answer whose body goes on until the connection ends."""
    first = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
    return f"{first}{_HEADERS}{extra}Connection: close\r\n\r\n".encode("latin-1")


def refuse(refusal: Refusal) -> bytes:
    """The answer to a refused request."""
    extra = ""
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        extra = "Allow: GET\r\n"
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        extra = "Retry-After: 2\r\n"
    return answer(refusal.status, "text/plain; charset=utf-8", f"{refusal.why}\n".encode(), extra)
