"""An HTTP/1.1 client for thousands of devices over a few kept connections, as a balancer that ends TLS keeps them.

Every request names its device in a header, which the server believes from this address alone. What a request waits for
a free connection counts as part of its time: a server that falls behind must not look fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_BYTES_MAX = 1 << 14
BODY_BYTES_MAX = 1 << 17
ANSWER_S = 60.0


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Pool:
    """At most ``size`` connections to ``url`` (http://HOST:PORT)."""

    url: str
    size: int = 64
    _idle: list[_Connection] = field(default_factory=list)
    _room: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.size)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ``OSError`` (``TimeoutError``) when there is none."""
        host = urlsplit(self.url).netloc
        named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{named}"
        raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        async with self._room:
            while True:
                kept = bool(self._idle)
                connection = self._idle.pop() if self._idle else await self._connect()
                try:
                    async with asyncio.timeout(ANSWER_S):
                        answer = await self._exchange(connection, raw)
                except (OSError, EOFError, ValueError):
                    connection.writer.close()
                    if kept:
                        continue  # the server may have closed it meanwhile: that proves nothing
                    raise ConnectionResetError from None
                except BaseException:
                    connection.writer.close()
                    raise
                if answer[0] < 500:
                    self._idle.append(connection)
                else:  # whatever went wrong there, the next request shall not meet its remains
                    connection.writer.close()
                return answer

    async def close(self) -> None:
        """Close what is idle; what was cut off meanwhile gets its turn to go, too."""
        while self._idle:
            connection = self._idle.pop()
            connection.writer.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()
        await asyncio.sleep(0)

    async def _connect(self) -> _Connection:
        parts = urlsplit(self.url)
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=HEAD_BYTES_MAX)
        return _Connection(reader, writer)

    async def _exchange(self, connection: _Connection, raw: bytes) -> tuple[int, bytes]:
        connection.writer.write(raw)
        head = await connection.reader.readuntil(b"\r\n\r\n")
        status, length = _read_head(head)
        return status, await connection.reader.readexactly(length)


def _read_head(head: bytes) -> tuple[int, int]:
    lines = head.split(b"\r\n")
    status, length = int(lines[0].split(b" ", 2)[1]), 0
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError("an answer without a length, or with too much of it")
    return status, length
