"""``edgeward simulate``: a monitor for a device that has no patient."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from edgeward.bedside.system import SystemClock
from edgeward.cli.sources import open_source

if TYPE_CHECKING:
    import argparse

    from edgeward.bedside.source.base import Source


def register(verbs: Any) -> None:
    """Add ``simulate`` to the command line."""
    parser = verbs.add_parser("simulate", help="play a monitor for a device without a patient")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    monitor = subjects.add_parser(
        "monitor",
        help="send a simulated or recorded 12-lead ECG over TCP",
        epilog="Example: edgeward simulate monitor --source sim:ectopy --port 9750",
    )
    monitor.add_argument(
        "--source",
        default="sim:",
        help="sim:[normal|ectopy|artefacts|demo][?seed=1&rate=250] or wfdb:FOLDER (default: sim:)",
    )
    monitor.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    monitor.add_argument("--port", type=int, default=9750, help="port to listen on, 0 for any free one (default: 9750)")
    monitor.add_argument("--speed", type=float, default=1.0, help="1 is real time")
    monitor.add_argument("--once", action="store_true", help="end when one device has got the whole source")
    monitor.set_defaults(run=run_monitor)


def run_monitor(arguments: argparse.Namespace) -> int:
    """The verb ``simulate monitor``."""
    from edgeward.testing.monitor import MonitorServer

    clock = SystemClock()

    def make_source() -> Source:
        return open_source(arguments.source, clock, arguments.speed)

    make_source().close()  # a wrong address is an error now, not when the first device connects
    server = MonitorServer(make_source, host=arguments.host, port=arguments.port)
    try:
        sys.stdout.write(f"monitor: tcp://{server.host}:{server.port}\n")
        sys.stdout.flush()
        server.serve(once=arguments.once)
    finally:
        server.close()
    return 0
