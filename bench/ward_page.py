"""What a ward's pages cost the device and a browser: bytes and CPU per second with many browsers and 64 beds.

The server runs in a process of its own and is fed the scripted ward at the rates of docs/messages.md; the CPU counted
is that of the page's thread alone, as the kernel accounts it. The browsers are sockets in this process that read what
comes. ``--chromium`` opens the ward's page in a real one as well and asks it how long its main thread was busy.

    python bench/ward_page.py [--beds 64] [--browsers 32] [--seconds 20] [--chromium]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from edgeward.bedside.page import WardServer
from edgeward.bedside.page.ward import WardState
from edgeward.testing.ward import Player, ScriptedWard

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TICKS = os.sysconf("SC_CLK_TCK")
SETTLE_S = 4.0
DAY_MINUTES = 1440


def serve(pipe: Connection, beds: int) -> None:
    """The device's part, in its own process: answers each message on the pipe with the page's CPU seconds so far."""
    ward = ScriptedWard("busy", beds)
    with WardServer(hello=ward.hello(), act=ward.act) as server, Player(ward, server.publish, minutes=60):
        thread = next(one for one in threading.enumerate() if one.name == "edgeward-page")
        pipe.send(server.url)
        while pipe.recv():
            pipe.send((cpu_s(os.getpid(), thread.native_id or 0), server.dropped_streams, server.rejected))


def cpu_s(process: int, thread: int) -> float:
    """User and system CPU seconds of one thread."""
    fields = Path(f"/proc/{process}/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Followers:
    """Sockets that follow pages and count what they read."""

    def __init__(self, url: str, paths: list[str]) -> None:
        self.read = 0
        self._selector = selectors.DefaultSelector()
        where = urlsplit(url)
        for path in paths:
            follower = socket.create_connection((where.hostname, where.port), timeout=10)
            follower.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            follower.setblocking(False)
            self._selector.register(follower, selectors.EVENT_READ)

    def follow(self, seconds: float) -> None:
        """Read for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                self.read += len(key.fileobj.recv(1 << 16))

    def close(self) -> None:
        """Leave."""
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def measure(pipe: Connection, url: str, name: str, paths: list[str], seconds: float) -> None:
    """One row: what these followers cost."""
    followers = Followers(url, paths)
    followers.follow(SETTLE_S)
    before, joined = ask(pipe)[0], followers.read
    started = time.monotonic()
    followers.follow(seconds)
    took = time.monotonic() - started
    busy, dropped, rejected = ask(pipe)
    each = (followers.read - joined) / took / max(1, len(paths)) / 1000
    share = (busy - before) / took * 100
    print(f"{name:34} {len(paths):8} {each:14.1f} {share:11.1f} {dropped:8} {rejected:9}", flush=True)
    followers.close()


def ask(pipe: Connection) -> tuple[float, int, int]:
    pipe.send(True)
    answer: tuple[float, int, int] = pipe.recv()
    return answer


def browse(url: str, beds: int, seconds: float) -> None:
    """How long a real browser's main thread is busy with a page."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "bedside" / "page"))
    from page_chromium import Chromium, find_chromium

    binary = find_chromium()
    if binary is None:
        print("no Chromium here: its main thread was not measured")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Chromium(binary, Path(profile)) as browser:
        for name, path in ((f"ward of {beds}", ""), ("one bed", f"beds/{quote('Bed 2')}")):
            tab = browser.page()
            tab.size(1920, 1080)
            tab.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.open(url + path)
            tab.wait("document.body.dataset.link === 'live'")
            time.sleep(SETTLE_S)
            before = busy_s(tab.send("Performance.getMetrics"))
            time.sleep(seconds)
            share = (busy_s(tab.send("Performance.getMetrics")) - before) / seconds * 100
            print(f"Chromium, {name}: main thread busy {share:.1f} % (software drawing)", flush=True)
            tab.close()


def busy_s(answer: dict[str, list[dict[str, float]]]) -> float:
    return next(row["value"] for row in answer["metrics"] if row["name"] == "TaskDuration")


def memory(beds: int) -> float:
    """MB that a ward's pages hold after a whole day."""
    ward = ScriptedWard("busy", beds)
    tracemalloc.start()
    state = WardState(ward.hello(), 0.0)
    day_ms = DAY_MINUTES * 60_000.0
    for kind, data in ward.step(0):
        state.apply(kind, data, day_ms)
    for kind, data in ward.history(DAY_MINUTES):
        state.apply(kind, data, day_ms)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", type=int, default=64)
    parser.add_argument("--browsers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--chromium", action="store_true")
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    device = context.Process(target=serve, args=(theirs, chosen.beds), daemon=True)
    device.start()
    url = pipe.recv()
    beds = [f"/beds/{quote(f'Bed {number % chosen.beds + 1}')}/events" for number in range(chosen.browsers)]
    mixed = ["/events"] * (chosen.browsers // 2) + beds[: chosen.browsers - chosen.browsers // 2]
    print(f"{'followed, ' + str(chosen.beds) + ' beds':34} browsers  kB/s for each  % of core  dropped  rejected")
    for name, paths in (
        ("nobody", []),
        ("the ward, once", ["/events"]),
        ("the ward", ["/events"] * chosen.browsers),
        ("one bed, once", beds[:1]),
        ("one bed each", beds),
        ("half the ward, half a bed each", mixed),
    ):
        measure(pipe, url, name, paths, chosen.seconds)
    if chosen.chromium:
        browse(url, chosen.beds, chosen.seconds)
    pipe.send(False)
    device.join(10)
    print(f"memory after 24 h of {chosen.beds} beds: {memory(chosen.beds):.0f} MB")


if __name__ == "__main__":
    main()
