"""The bedside page: server-rendered HTML and server-sent events."""

from __future__ import annotations

from edgeward.bedside.page.server import PageServer

__all__ = ["PageServer"]
