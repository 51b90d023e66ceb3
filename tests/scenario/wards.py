"""What the scenarios of a whole ward share: its settings, its beds, and how they wait."""

from __future__ import annotations

import socket
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from edgeward.testing.gateway import SimulatedBed
from edgeward.testing.ward_process import Steady

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S = 0.4
SETTINGS = """
[ward]
tasks = ["sepsis-risk"]
dwell_s = 3
[thresholds.adult]
spo2_delay_s = 0
desat_delay_s = 0
"""


def bed(number: int, **vitals: float | None) -> SimulatedBed:
    """A patient whose vital signs stay as they are set."""
    return SimulatedBed(f"ICU^^{number}", Steady(**vitals), f"P{number}")


def accepted(message: Any) -> bool:
    """Whether a ``score`` has a probability."""
    return bool(message["outcome"] == "accepted")


def get(url: str) -> str:
    """A page."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for it; returns it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
