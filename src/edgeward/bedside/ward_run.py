"""A ward at work: one asyncio loop over the rim, its listeners, its processes and its ECG streams."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.charge.charge import REFUSED, SERVING
from edgeward.bedside.feed import encode
from edgeward.bedside.side import CHECK_MS
from edgeward.bedside.stream import ENDED, JUDGES, PAGE
from edgeward.bedside.ward import ODD
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import EngineError
from edgeward.signal.numeric import Kind, Numeric

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.bedside.lives import Lives
    from edgeward.bedside.messages import Message
    from edgeward.bedside.side import SideProcess
    from edgeward.bedside.stream import EcgStream
    from edgeward.bedside.ward import Ward
    from edgeward.bedside.ward_bundles import Returned
    from edgeward.kernel.clock import Clock

ACT_S = 2.0
"""A person's press waits so long for the rim, which answers at once or is not there."""
_FROM_STREAM = frozenset({"mode", "advisory", "engine", "beat", "quality", "latency", ENDED, PAGE})
"""What of a stream the ward takes; its alerts stay on its own page, for the ward makes them from numerics."""


class Listener(Protocol):
    """A source that is served on the loop (``source.hl7``, ``source.fhir``, ``source.sdc``)."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def close(self) -> None:
        """End, within a bounded time."""
        ...


@dataclass(slots=True)
class WardLoop:
    """Runs a ward until ``stop`` is called or ``end_ns`` has come.

    ``refused``: called with task, hash and code, off the loop's thread, when a bundle cannot be what it should be;
    what it returns is what was gone back to, None for no change. ``lives``: where bundles change while beds are
    watched. ``news``: asked at each tick what to tell besides.
    """

    ward: Ward
    sides: dict[str, SideProcess]
    streams: Sequence[EcgStream]
    listeners: Sequence[Listener]
    clock: Clock
    end_ns: int | None = None
    refused: Callable[[str, str, str], Returned | None] | None = None
    lives: Lives | None = None
    news: Sequence[Callable[[int], list[Message]]] = ()
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _work: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve; raises what a listener raises at its start (``ConfigError``)."""
        self._loop = loop = asyncio.get_running_loop()
        self.ward.refused = self._refused
        if self.lives is not None:
            self.lives.wake = lambda: self._from_thread(self.ward.arrange)
        async with contextlib.AsyncExitStack() as stack:
            for side in self.sides.values():
                side.start()
                stack.callback(side.close)
                loop.add_reader(side.fileno(), self._heard, side.name)
                stack.callback(loop.remove_reader, side.fileno())
            for listener in self.listeners:
                await listener.start()
                stack.push_async_callback(listener.close)
            for stream in self.streams:
                stack.callback(stream.stop)
            stack.callback(self._ask_streams_to_end)
            for stream in self.streams:
                loop.add_reader(stream.fileno(), self._streamed, stream)
                stack.callback(loop.remove_reader, stream.fileno())
            if started is not None:
                started()
            await self._tick()

    def stop(self) -> None:
        """End the ward; from the loop's thread (a signal handler of the loop)."""
        self._stop.set()

    def act(self, action: str, bed: str, stay: int, alert: str = "", minutes: float = 0.0) -> None:
        """``Ward.act`` for another thread (the page's). Raises what it raises; ``EngineError`` where nobody answers."""
        assert self._loop is not None
        done = asyncio.run_coroutine_threadsafe(self._act(action, bed, stay, alert, minutes), self._loop)
        try:
            done.result(ACT_S)
        except FutureTimeoutError:
            done.cancel()
            raise EngineError("rim-busy", "the device did not answer; look at the bed and try again") from None

    async def _act(self, action: str, bed: str, stay: int, alert: str, minutes: float) -> None:
        self.ward.act(action, bed, stay, alert, minutes)

    async def _tick(self) -> None:
        while not self._stop.is_set():
            now = self.clock.monotonic_ns()
            if self.end_ns is not None and now >= self.end_ns:
                return
            self.ward.tick()
            for stream in self.streams:
                self._look_after(stream, now)
            for tell in self.news:
                for kind, data in tell(now):
                    self.ward.said(kind, data)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), CHECK_MS / 1000.0)

    def _look_after(self, stream: EcgStream, now: int) -> None:
        live = None if self.lives is None else self.lives.stream(stream.bed)
        losses = stream.losses
        for happening in stream.check(now):
            self.ward.stream_happened(stream.bed, happening, stream.pid)
        if live is not None and stream.losses != losses:
            live.lost(failed=True)
        if live is not None and stream.pid is not None and (told := live.due()) is not None:
            stream.tell(encode(told))

    def _heard(self, name: str) -> None:
        self.ward.hear(name)

    def _refused(self, task: str, sha256: str, code: str) -> None:
        if self.refused is not None and self._loop is not None:
            work = self._loop.create_task(self._return(task, sha256, code))
            self._work.add(work)
            work.add_done_callback(self._work.discard)

    async def _return(self, task: str, sha256: str, code: str) -> None:
        """A bundle turned out to be none for this device: go back to the one before, off the loop (the disk waits)."""
        assert self.refused is not None
        returned = await asyncio.to_thread(self.refused, task, sha256, code)
        if returned is None:
            return
        if returned.settings is not None:
            self._restart(returned.settings)
        self.ward.swapped(returned.swap)

    def _restart(self, settings: dict[str, Any]) -> None:
        if self.lives is not None:
            self.lives.lost(failed=False)
        self.sides["assess"].restart(settings)

    def _from_thread(self, call: Callable[..., None], *values: Any) -> None:
        """Have the loop call it; when the ward has ended meanwhile nobody needs it."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *values)

    def _streamed(self, stream: EcgStream) -> None:
        for kind, data in stream.hear():
            if kind == JUDGES:
                now = self.clock.monotonic_ns()
                with contextlib.suppress(ValueError, TypeError):
                    numerics = [Numeric(Kind(name), value, now) for name, value in data["values"].items()]
                    self.ward.measured(stream.bed, numerics, "ecg", simulated=data.get("simulated") is True)
            elif kind in _FROM_STREAM:
                self.ward.streamed(stream.bed, kind, data)
            elif self.lives is not None:
                with contextlib.suppress(*ODD):
                    self._of_bundles(self.lives, stream.bed, kind, data)

    def _of_bundles(self, lives: Lives, bed: str, kind: str, data: dict[str, Any]) -> None:
        if kind == REFUSED:
            self._refused(str(data["task"]), str(data["sha256"]), str(data["code"]))
        elif kind == SERVING:
            for facts in lives.stream(bed).heard(data):
                self.ward.swapped({"bed": bed, **facts})
            self.ward.said(kind, {"bed": bed, **data})

    def _ask_streams_to_end(self) -> None:
        """All at once: each may take seconds to end."""
        for stream in self.streams:
            stream.ask_to_end()


def end_after(clock: Clock, seconds: float | None) -> int | None:
    """The instant at which a run of ``seconds`` ends; None: never."""
    return None if seconds is None else clock.monotonic_ns() + round(seconds * NS_PER_S)
