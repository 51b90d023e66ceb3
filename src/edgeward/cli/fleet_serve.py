"""Putting a fleet server together from its parts, and running it in one process or several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from edgeward.fleet.api import rollouts
from edgeward.fleet.api.app import create_app
from edgeward.fleet.authority import Authority
from edgeward.fleet.conduct.clock import Clock
from edgeward.fleet.logs import log, set_up
from edgeward.fleet.parts import open_fleet
from edgeward.fleet.serve import allow_files, listen, server_of, tls_context, url_of
from edgeward.fleet.setup import renew_server
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.migrate import migrate as bring_up
from edgeward.fleet.store.migrate import require_current
from edgeward.fleet.web.console import ROUTERS

if TYPE_CHECKING:
    from edgeward.fleet.settings import FleetSettings

_RESTART_S = 1.0
"""A worker that dies is replaced no sooner than this after the last one was."""


def serve(settings: FleetSettings, *, migrate: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; requests that are under way are finished."""
    _prepare(settings, migrate=migrate)
    allow_files()
    listener = listen(settings)
    print(f"fleet: {url_of(settings, listener)}", flush=True)
    set_up()
    log("serving", workers=settings.workers, tls=settings.tls)
    if settings.workers == 1:
        run_worker(settings, listener)
        return 0
    return _supervise(settings, listener)


def run_worker(settings: FleetSettings, listener: socket.socket) -> None:
    """One worker, in this process, until it is told to stop."""
    # uvicorn stops in order at the signal and then raises it anew, for whoever handled it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fleet = open_fleet(settings)
    app = create_app(fleet, routers=(rollouts.router, *ROUTERS))
    with Clock(fleet.store, fleet.desk, fleet.now_s, holder=f"{socket.gethostname()[:32]}/{os.getpid()}"):
        server_of(app, settings).run(sockets=[listener])


def _prepare(settings: FleetSettings, *, migrate: bool) -> None:
    """Say what is wrong now, in words, before anything listens."""
    authority = Authority.load(*settings.authority_files)
    if settings.tls:
        renew_server(settings, authority, int(time.time()))
        tls_context(settings)
    store = Store(settings.store_url)
    try:
        if migrate:
            bring_up(store)
        require_current(store)
    finally:
        store.close()


def _worker(settings: FleetSettings, listener: socket.socket) -> None:
    set_up()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor's SIGTERM ends it
    threading.Thread(target=_follow, args=(multiprocessing.parent_process(),), daemon=True).start()
    run_worker(settings, listener)


def _follow(parent: multiprocessing.process.BaseProcess | None) -> None:
    """Stop when the supervisor has gone, however it went: a worker without one would hold the port for ever."""
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _supervise(settings: FleetSettings, listener: socket.socket) -> int:
    """Keep ``settings.workers`` processes on one socket; replace one that dies."""
    context = multiprocessing.get_context("spawn")
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="edgeward-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        workers = [context.Process(target=_worker, args=(settings, listener)) for _ in range(settings.workers)]
        for worker in workers:
            worker.start()
        while not stopping:
            time.sleep(0.2)
            for place, worker in enumerate(workers):
                if worker.is_alive() or stopping:
                    continue
                log("worker died", code=worker.exitcode)
                time.sleep(_RESTART_S)
                workers[place] = context.Process(target=_worker, args=(settings, listener))
                workers[place].start()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
    sys.stdout.flush()
    return 0
