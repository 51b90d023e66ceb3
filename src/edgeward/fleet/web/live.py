"""Server-sent messages: a part of a page is sent anew whenever what it shows has changed.

A stream asks the database once a second, so it does not matter which worker a browser is connected to. It ends after
some minutes; the browser comes again, and is asked who it is again.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

    from fastapi import Request

LOOK_S = 1.0
QUIET_S = 15
STREAM_S = 300


def stream(request: Request, mark: Callable[[], Hashable], render: Callable[[], str]) -> StreamingResponse:
    """Send ``render()`` at once and whenever ``mark()`` is another; both run on a thread of their own."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_messages(request, mark, render), media_type="text/event-stream", headers=headers)


async def _messages(request: Request, mark: Callable[[], Hashable], render: Callable[[], str]) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    ends, told, known = loop.time() + STREAM_S, loop.time(), None
    yield "retry: 2000\n\n"
    while loop.time() < ends and not await request.is_disconnected():
        found = await run_in_threadpool(mark)
        if found != known:
            known, told = found, loop.time()
            yield f"data: {json.dumps(await run_in_threadpool(render))}\n\n"
        elif loop.time() - told >= QUIET_S:
            told = loop.time()
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)
