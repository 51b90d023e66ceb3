"""Feeds the bedside page: waves gathered to about eight messages a second, everything else at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.page.state import KINDS
from edgeward.kernel.limits import MODEL_RATE_HZ

if TYPE_CHECKING:
    from edgeward.bedside.page.server import PageServer

_GATHER = MODEL_RATE_HZ // 8


class Publisher(Protocol):
    """What is needed of the page's server."""

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Send to every browser without waiting."""
        ...

    def close(self) -> None:
        """Stop serving."""
        ...


class PageOutput:
    """An ``Output`` over a ``PageServer``."""

    def __init__(self, server: PageServer | Publisher) -> None:
        self._server = server
        self._held: dict[str, Any] | None = None

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Publish one message; waves are held until there is an eighth of a second of them."""
        if kind == "wave":
            self._gather(data)
        elif kind in KINDS:
            self._server.publish(kind, data)

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _gather(self, data: dict[str, Any]) -> None:
        held = self._held
        if held is not None and held["i"] + len(held["v"][0]) != data["i"]:
            self._server.publish("wave", held)
            held = None
        if held is None:
            held = {"i": data["i"], "v": [[] for _ in data["v"]], "bad": [False for _ in data["v"]]}
        for mine, new in zip(held["v"], data["v"], strict=True):
            mine.extend(new)
        held["bad"] = [a or b for a, b in zip(held["bad"], data["bad"], strict=True)]
        if len(held["v"][0]) >= _GATHER:
            self._server.publish("wave", held)
            held = None
        self._held = held
