"""The little of HTTP/1.1 that the pages need: read one request, answer with headers that keep a browser strict."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

REQUEST_BYTES_MAX = 8_192
BODY_BYTES_MAX = 4_096
"""A form of a page: a few short fields."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_COMMON = (
    "X-Content-Type-Options: nosniff\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Permissions-Policy: camera=(), microphone=(), geolocation=()\r\n"
    "Cache-Control: no-store\r\n"
)


def _headers(form_action: str, referrer: str) -> str:
    return (
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src 'self'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'\r\n"
        f"Referrer-Policy: {referrer}\r\n{_COMMON}"
    )


_READ_ONLY = _headers("'none'", "no-referrer")
_WITH_FORMS = _headers("'self'", "same-origin")
"""Under no-referrer a form without scripts sends ``Origin: null`` (Fetch standard, 3.2), as a foreign one would."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: method, path, query without its ``?``, headers with lower-case names, and the body of a POST."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that gets no page: the status, a sentence for whoever reads it, and what the path does allow."""

    status: HTTPStatus
    why: str
    allow: str = "GET"


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
        twice = key in headers and key in ("host", "content-length", "origin")
        if not colon or not name or name != name.strip() or twice:
            return Refusal(HTTPStatus.BAD_REQUEST, "a header line is malformed")
        headers[key] = value.strip()
    path, _, query = words[1].partition("?")
    return Request(words[0], path, headers, query)


def body_length(request: Request) -> int | Refusal:
    """How many bytes of body belong to a request: none but a POST's are ever read."""
    if request.method != "POST":
        return 0
    given = request.headers.get("content-length", "")
    if "transfer-encoding" in request.headers or not (given.isascii() and given.isdigit()):
        return Refusal(HTTPStatus.LENGTH_REQUIRED, "a form comes with its length")
    if len(given) > 8 or int(given) > BODY_BYTES_MAX:
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the form is too long")
    return int(given)


def admit(
    request: Request, names: frozenset[str], *, page: bool, methods: tuple[str, ...] = ("GET",)
) -> Refusal | None:
    """A Refusal for what does not ask one of our own names by an allowed method.

    ``page``: what is asked for is a page that people may come to from elsewhere. The Host check stops DNS rebinding: a
    foreign site whose name was pointed at this address still sends its own name.
    """
    host = request.headers.get("host")
    if host is None:
        return Refusal(HTTPStatus.BAD_REQUEST, "no Host header")
    if host_name(host) not in names:
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST, "this name is not among the page's names; add it to its settings"
        )
    if request.method not in methods:
        allow = ", ".join(methods)
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allow}", allow)
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not page:
        return Refusal(HTTPStatus.FORBIDDEN, "asked for by another site")
    return None


def host_name(host: str) -> str:
    """The name of a Host header without its port; an IPv6 address keeps its brackets."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower().removesuffix(".")


def answer(status: HTTPStatus, content_type: str, body: bytes, extra: str = "", *, forms: bool = False) -> bytes:
    """A whole answer; the connection ends with it. ``forms``: the page may send forms back to this server."""
    return stream_head(status, content_type, f"Content-Length: {len(body)}\r\n{extra}", forms=forms) + body


def stream_head(status: HTTPStatus, content_type: str, extra: str = "", *, forms: bool = False) -> bytes:
    """The head of an answer whose body goes on until the connection ends."""
    first = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
    headers = _WITH_FORMS if forms else _READ_ONLY
    return f"{first}{headers}{extra}Connection: close\r\n\r\n".encode("latin-1")


def refuse(refusal: Refusal) -> bytes:
    """The answer to a refused request."""
    extra = ""
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        extra = f"Allow: {refusal.allow}\r\n"
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        extra = "Retry-After: 2\r\n"
    return answer(refusal.status, "text/plain; charset=utf-8", f"{refusal.why}\n".encode(), extra)
