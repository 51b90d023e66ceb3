"""A small ward that speaks in real time, for looking at its pages in a browser."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ward_messages import BEDS, alert, bed, mode, vitals

if TYPE_CHECKING:
    from edgeward.bedside.page import WardServer

LIVE = "document.body.dataset.link === 'live'"
"""JS: the page follows the ward."""
VALUES = {"hr": 71.0, "spo2": 97.0, "rr": 15.0, "abp_sys": 121.0, "abp_dia": 66.0, "abp_mean": 84.0, "temp": 36.8}


class Ward:
    """A small ward that speaks in real time until it is stopped; ``say`` changes what a bed says from then on."""

    def __init__(self, server: WardServer) -> None:
        self.server = server
        self.beds: dict[str, dict[str, Any]] = {name: {} for name in BEDS}
        self.values: dict[str, dict[str, float | None]] = {name: dict(VALUES) for name in BEDS}
        self.alerts: dict[tuple[str, str], dict[str, Any]] = {}
        self.obeys = True
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ward:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def raise_alert(self, name: str, key: str = "a", priority: str = "high", **fields: Any) -> None:
        """An alert, told now and in every round."""
        self.alerts[name, key] = alert(name, key, priority, **fields)

    def act(self, action: str, name: str, stay: int, key: str, minutes: int) -> bool:
        """What the device does with what people do; it may be deaf."""
        if self.obeys and action == "acknowledge":
            self.alerts[name, key] |= {"acknowledged": True, "latched": False}
        if self.obeys and action == "suspend":
            self.beds[name] = {**self.beds[name], "suspended_ms_left": minutes * 60_000}
        return True

    def _run(self) -> None:
        while True:
            for name in BEDS:
                self.server.publish("bed", bed(name, **self.beds[name]))
                self.server.publish("vitals", vitals(name, **self.values[name]))
                self.server.publish("mode", mode(name))
            for data in list(self.alerts.values()):
                self.server.publish("alert", dict(data))
            if self._end.wait(0.3):
                return
