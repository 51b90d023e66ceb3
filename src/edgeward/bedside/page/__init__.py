"""The pages at the bedside and of the ward: server-rendered HTML and server-sent events."""

from __future__ import annotations

from edgeward.bedside.page.server import PageServer, WardServer

__all__ = ["PageServer", "WardServer"]
