"""The screen of one bed with an ECG: a page, one stream, and nothing that a request could change."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.html import render
from edgeward.bedside.page.screen import Static, json_answer, page_answer
from edgeward.bedside.page.state import PageState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from edgeward.bedside.page.request import Request
    from edgeward.bedside.page.screen import News

_CHANNEL = "/events"
_FILES = ("base.css", "page.css", "page.js", "link.js", "panels.js", "strip.js", "theme.js", "icon.svg")


class StripScreen:
    """A ``Screen`` over ``PageState``: every datum goes to every browser as it came."""

    methods: tuple[str, ...] = ("GET",)

    def __init__(self, hello: Mapping[str, Any], now_ms: float) -> None:
        self._state = PageState(hello, now_ms)
        self._static = Static("page.html", *_FILES)
        self._template = Template(self._static.template)
        self._news: list[News] = []

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> None:
        """Take one datum; see ``Screen``."""
        self._news.append((_CHANNEL, kind, self._state.apply(kind, data, now_ms)))

    def news(self, followed: Collection[str], now_ms: float) -> Iterable[News]:  # noqa: ARG002
        """Everything since last time."""
        news, self._news = self._news, []
        return news if followed else ()

    def greeting(self) -> Mapping[str, Any]:
        """The look."""
        return {"look": self._static.look}

    def joining(self, channel: str, now_ms: float) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ARG002
        """The latest of each kind and the last seconds of wave."""
        return self._state.joining(now_ms)

    def channel(self, path: str) -> str | None:
        """The only one."""
        return path if path == _CHANNEL else None

    def is_page(self, path: str) -> bool:
        """The only one."""
        return path == "/"

    def answer(self, request: Request, now_ms: float) -> bytes | None:
        """Page, state or static file."""
        if request.path == "/":
            return page_answer(render(self._template, self._state.as_json(now_ms)))
        if request.path == "/state.json":
            return json_answer(self._state.as_json(now_ms))
        return self._static.answer(request.path)
