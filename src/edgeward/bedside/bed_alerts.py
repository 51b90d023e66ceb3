"""The threshold alerts of one ECG bed, from the stream's side: numerics to the thresholds process, alerts back.

The checks themselves run in that process (``bedside/thresholds``), which shares nothing with the engine or the stream.
Here is only what the stream must do: hand over what it measured, hear, notice when nobody checks, and say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgeward.bedside.feed import Admitted, Discharged, Feed, Measured, Population
from edgeward.bedside.side import CHECK_MS, What
from edgeward.bedside.thresholds.down import DownNotice
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.bedside.feed import Message
    from edgeward.bedside.side import Happening
    from edgeward.signal.numeric import Numeric

LOOK_NS = CHECK_MS * NS_PER_MS // 2
"""How often alerts are heard and the process is looked after."""


class Side(Protocol):
    """What is needed of the thresholds process (``SideProcess``)."""

    restarts: int

    @property
    def caught_up(self) -> bool:
        """Whether it runs and has taken all that it was fed."""
        ...

    @property
    def pid(self) -> int | None:
        """The process."""
        ...

    def feed(self, message: Feed) -> None:
        """Tell it; never waits."""
        ...

    def hear(self) -> list[Message]:
        """What it has said."""
        ...

    def check(self, now_ns: int) -> list[Happening]:
        """Look after it."""
        ...


class BedAlerts:
    """One stay in one bed, admitted when this is made. ``end`` takes back everything that it raised."""

    def __init__(
        self,
        side: Side,
        stay: int,
        bed: str,
        now_ns: int,
        *,
        population: Population = Population.ADULT,
        age_y: float | None = None,
        simulated: bool = False,
    ) -> None:
        self._side = side
        self._stay = stay
        self._notice = DownNotice(now_ns)
        self._shown: dict[str, dict[str, Any]] = {}
        self._retold: set[str] = set()  # since the process last failed
        self._next_look_ns = now_ns
        side.feed(Admitted(stay, bed, now_ns, population, age_y, simulated=simulated))

    def offer(self, numerics: Iterable[Numeric]) -> None:
        """Hand over what was measured; never waits."""
        self._side.feed(Measured(self._stay, tuple(numerics)))

    def look(self, now_ns: int) -> list[Message]:
        """What is to be told now; costs nothing until ``LOOK_NS`` have passed since the last look."""
        if now_ns < self._next_look_ns:
            return []
        self._next_look_ns = now_ns + LOOK_NS
        happened = self._side.check(now_ns)
        told = [message for said in self._side.hear() for message in self._heard(*said)]
        for happening in happened:
            if happening.what is What.BACK:
                told += self._forget_unheard()
            else:
                self._retold.clear()
            told.append(self._process(happening.what.value, happening.how))
        told += self._notice.look(now_ns, up=self._side.caught_up)
        return told

    def end(self, now_ns: int) -> list[Message]:
        """The stay is over: everything that is shown is taken back."""
        self._side.feed(Discharged(self._stay, now_ns))
        told = [_ended(data) for data in self._shown.values()]
        self._shown.clear()
        return told + self._notice.look(now_ns, up=True)

    def _heard(self, kind: str, data: dict[str, Any]) -> list[Message]:
        name = data.get("id")
        if kind != "alert" or data.get("stay") != self._stay or not isinstance(name, str):
            return []
        alert = {key: value for key, value in data.items() if key not in ("bed", "stay")}
        self._retold.add(name)
        if alert.get("active") or alert.get("latched"):
            self._shown[name] = alert
        else:
            self._shown.pop(name, None)
        return [("alert", alert)]

    def _forget_unheard(self) -> list[Message]:
        """A new process has told again all that holds: what it did not tell holds no more."""
        gone = [key for key in self._shown if key not in self._retold]
        return [_ended(self._shown.pop(key)) for key in gone]

    def _process(self, state: str, how: str) -> Message:
        """Who checks, for an engineer at the device."""
        side = self._side
        return "thresholds", {"pid": side.pid, "state": state, "how": how, "restarts": side.restarts}


def _ended(alert: dict[str, Any]) -> Message:
    return "alert", {**alert, "active": False, "latched": False}
