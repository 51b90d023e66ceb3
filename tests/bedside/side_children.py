"""Processes behind the rim that misbehave on demand: ``python -m side_children '{…}'``, started by tests only.

The core answers each measured heart rate, remembers the last one, and does what a value tells it: 1 raise, 2 loop for
ever, 4 stop, 5 say a lot, 10 and more say nonsense. ``settings`` may name what to do at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from edgeward.bedside.behind import run
from edgeward.bedside.feed import Admitted, Feed, Measured, Resumed
from edgeward.kernel.errors import ConfigError

NONSENSE = {
    10.0: b"this is no message\n",
    11.0: b'["alert"]\n',
    12.0: b'[{"kind":"alert"},{}]\n',
    13.0: b'["memory",{"stay":[1],"memory":1,"taken":1}]\n',
    14.0: b'["memory",{"stay":1,"memory":NaN,"taken":1}]\n',
    15.0: b'["alive",{"taken":"all"}]\n',
    16.0: b"[" * 100_000 + b"\n",
}


class Odd:
    """A ``behind.Core``."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings.get("refuse"):
            raise ConfigError("setting-invalid", "these settings are refused")
        if settings.get("die"):
            sys.stderr.write("cannot find my library\n")
            os._exit(3)
        if settings.get("slow_s"):
            time.sleep(settings["slow_s"])
        self._poison = settings.get("poison", [])

    def take(self, message: Feed, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        """Echo, and harm as asked."""
        out: list[tuple[str, dict[str, Any]]] = []
        if isinstance(message, Admitted):
            out.append(("admitted", {"stay": message.stay, "bed": message.bed}))
        if isinstance(message, Resumed):
            self._harm(message.memory)
            out.append(("resumed", {"stay": message.stay, "memory": message.memory}))
        if isinstance(message, Measured):
            for numeric in message.numerics:
                self._harm(numeric.value)
                out.append(("echo", {"stay": message.stay, "value": numeric.value}))
                if numeric.value is not None and numeric.value >= 100:
                    out.append(("memory", {"stay": message.stay, "memory": numeric.value}))
        return out

    def tick(self, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        """Nothing by itself."""
        return []

    def _harm(self, value: Any) -> None:
        if value in self._poison:
            raise RuntimeError("poisoned")
        if value == 1:
            raise RuntimeError("asked to")
        if value == 2:
            while True:
                pass
        if value in NONSENSE:
            os.write(1, NONSENSE[value])
        if value == 4:
            os.kill(os.getpid(), signal.SIGSTOP)
        if value == 5:
            for _ in range(2_000):
                os.write(1, b'["much",{"text":"' + b"x" * 500 + b'"}]\n')


if __name__ == "__main__":
    sys.exit(run(Odd, sys.argv[1:]))
