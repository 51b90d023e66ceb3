"""What one server shows: the port between the connections (``hub``) and a page's state and looks.

A *channel* is one stream of server-sent events, named by its path: the ECG page has one, a ward has one for all beds
and one for each.
"""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.page.request import Refusal, answer, refuse
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from edgeward.bedside.page.request import Request

News = tuple[str, str, "Mapping[str, Any]"]
"""Channel, kind, datum."""

DATUM_BYTES_MAX = 1 << 18
"""A datum that is longer as JSON is not taken."""

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Screen(Protocol):
    """State and pages of one server; everything is called on the loop's thread, with monotonic ms, and never waits."""

    methods: tuple[str, ...]
    """Allowed methods."""

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> None:
        """Take one published datum, plain and finite. InputError where it cannot be shown."""
        ...

    def news(self, followed: Collection[str], now_ms: float) -> Iterable[News]:
        """What the followed channels have not been sent yet."""
        ...

    def greeting(self) -> Mapping[str, Any]:
        """What the first event of every stream tells beside time and boot: ``look``, by which a page knows its age."""
        ...

    def joining(self, channel: str, now_ms: float) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Everything that a browser joining a channel now needs, so that ``news`` carries on from there."""
        ...

    def channel(self, path: str) -> str | None:
        """The channel of a path; None where it is no stream."""
        ...

    def is_page(self, path: str) -> bool:
        """Whether people may come to the path from elsewhere."""
        ...

    def answer(self, request: Request, now_ms: float) -> bytes | None:
        """The answer to an admitted request that is no stream; None where there is no such page."""
        ...


class Static:
    """The static files of a page, read once; nothing else in the folder can be asked for. ``look``: their hash."""

    def __init__(self, template: str, *names: str) -> None:
        self._files = {name: static_bytes(name) for name in names}
        self.template = static_bytes(template).decode()
        everything = self.template.encode() + b"".join(self._files.values())
        self.look = hashlib.sha256(everything).hexdigest()[:12]

    def answer(self, path: str) -> bytes | None:
        """The file at ``/static/<name>``; None for any other path."""
        body = self._files.get(path.removeprefix("/static/")) if path.startswith("/static/") else None
        return None if body is None else answer(HTTPStatus.OK, _TYPES[path.rpartition(".")[2]], body)


def static_bytes(name: str) -> bytes:
    """A file of the static folder, as installed with the package."""
    return resources.files("edgeward.bedside.page").joinpath("static", name).read_bytes()


def page_answer(page: bytes, status: HTTPStatus = HTTPStatus.OK, *, forms: bool = False) -> bytes:
    """An HTML page."""
    return answer(status, "text/html; charset=utf-8", page, forms=forms)


def json_answer(data: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """An object as JSON."""
    return answer(status, "application/json", json_bytes(data))


def not_found() -> bytes:
    """The answer to a path that leads nowhere."""
    return refuse(Refusal(HTTPStatus.NOT_FOUND, "no such page"))


def event(kind: str, data: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json_bytes(data))


def json_bytes(data: Mapping[str, Any]) -> bytes:
    """Compact JSON; numpy's scalars and arrays are taken too. TypeError or ValueError for what is not finite JSON."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that holds nothing but finite JSON. InputError where it is longer than DATUM_BYTES_MAX; else as above."""
    text = json_bytes(data)
    if len(text) > DATUM_BYTES_MAX:
        raise InputError("page-datum", "a datum for the page is too long; not shown")
    copy: dict[str, Any] = json.loads(text)
    return copy


def _plain(value: Any) -> Any:
    """Numpy's scalars and arrays, without importing numpy; TypeError for everything else."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("not JSON")
