"""A thresholds core on a clock that a test moves, and what a reader of its messages would see."""

from __future__ import annotations

import json
from typing import Any

from edgeward.bedside.feed import Acknowledged, Admitted, Feed, Measured, Population, Resumed, Suspended
from edgeward.bedside.recall import Recall
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.signal.numeric import Kind, Numeric

S = 1_000_000_000
TICK = S // 4


class Play:
    """One stay. Time moves in ticks of 250 ms, as in the process; messages are folded into what is shown."""

    def __init__(
        self,
        settings: ThresholdSettings | None = None,
        population: Population = Population.ADULT,
        age_y: float | None = None,
        spo2_scale: int = 1,
    ) -> None:
        self.settings = settings or ThresholdSettings()
        self.core = ThresholdCore(self.settings)
        self.now = 1_000 * S
        self.recall = Recall()
        self.shown: dict[str, dict[str, Any]] = {}
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.suspended_ms = 0
        self.fed = 0
        self.feed(Admitted(1, "bed 1", self.now, population, age_y, None, spo2_scale))

    def feed(self, message: Feed) -> None:
        """Tell the core."""
        self.recall.fed(message)
        self.fed += 1
        self._hear(self.core.take(message, self.now))

    def measure(self, at: int | None = None, **values: float | None) -> None:
        """Numerics by the value of their kind, observed now or at ``at`` ns."""
        at = self.now if at is None else at
        self.feed(Measured(1, tuple(Numeric(Kind(kind), value, at) for kind, value in values.items())))

    def wait(self, seconds: float, every: float | None = None, **values: float | None) -> None:
        """Let time pass in ticks; with ``every``, ``values`` are measured at that period on the way."""
        end = self.now + round(seconds * S)
        due = self.now
        while self.now < end:
            if every is not None and self.now >= due:
                self.measure(**values)
                due += round(every * S)
            self.now = min(self.now + TICK, end)
            self._hear(self.core.tick(self.now))

    def acknowledge(self, alert: str = "") -> None:
        """Somebody has seen it."""
        self.feed(Acknowledged(1, alert, self.now))

    def suspend(self, seconds: float) -> None:
        """Somebody asks for quiet."""
        self.feed(Suspended(1, self.now + round(seconds * S), self.now))

    def restart(self, lost_s: float = 0.0) -> None:
        """The process dies, and another is told what the rim remembers ``lost_s`` later."""
        self.now += round(lost_s * S)
        self.core = ThresholdCore(self.settings)
        told = self.recall.replay()
        self.fed = 0
        for message in told:
            self.fed += 1
            self._hear(self.core.take(_through_json(message), self.now))
        self._hear(self.core.tick(self.now))

    @property
    def active(self) -> set[str]:
        """Codes of the alerts whose condition holds."""
        return {alert["code"] for alert in self.shown.values() if alert["active"]}

    @property
    def latched(self) -> set[str]:
        """Codes of the alerts that wait to be seen."""
        return {alert["code"] for alert in self.shown.values() if alert["latched"]}

    def alert(self, code: str) -> dict[str, Any]:
        """The alert with that code that is shown."""
        (found,) = [alert for alert in self.shown.values() if alert["code"] == code]
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All messages of a kind so far."""
        return [data for name, data in self.messages if name == kind]

    def _hear(self, messages: list[tuple[str, dict[str, Any]]]) -> None:
        for kind, data in messages:
            if kind == "memory":
                self.recall.remember(data["stay"], json.loads(json.dumps(data["memory"])), self.fed)
                continue
            self.messages.append((kind, data))
            if kind == "suspended":
                self.suspended_ms = data["ms_left"]
            if kind == "alert":
                if data["active"] or data["latched"]:
                    self.shown[data["id"]] = data
                else:
                    self.shown.pop(data["id"], None)


def _through_json(message: Feed) -> Feed:
    if isinstance(message, Resumed):
        return Resumed(message.stay, json.loads(json.dumps(message.memory)))
    return message
