"""A process behind the rim without the process: its pure core, called in place on the caller's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.bedside.behind import MEMORY, Unhurried
from edgeward.bedside.recall import Care, Recall
from edgeward.bedside.side import Happening, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward.bedside.behind import Core
    from edgeward.bedside.feed import Feed, Message
    from edgeward.kernel.clock import Clock


class LocalSide:
    """Stands where a ``SideProcess`` would: ``feed``, ``hear``, ``check``. ``die`` and ``revive`` are the test's."""

    def __init__(self, name: str, make: Callable[[], Core], clock: Clock) -> None:
        self.name = name
        self._make = make
        self._clock = clock
        self._recall = Recall()
        self._core: Core | None = make()
        self._heard: list[Message] = []
        self._happened = [Happening(name, What.BACK, clock.monotonic_ns())]
        self._taken = 0
        self.restarts = 0
        self.settled: Mapping[str, Any] = {}

    @property
    def caught_up(self) -> bool:
        """Whether there is a core."""
        return self._core is not None

    @property
    def pid(self) -> int | None:
        """A number while there is a core."""
        return 1 if self._core is not None else None

    def feed(self, message: Feed) -> None:
        """Tell the core, if there is one."""
        self._recall.fed(message)
        if self._core is not None:
            self._taken += 1
            self._hear(self._core.take(message, self._clock.monotonic_ns()))

    def hear(self) -> list[Message]:
        """What it has said, memories left out."""
        heard, self._heard = self._heard, []
        return heard

    def check(self, now_ns: int) -> list[Happening]:
        """Let its time pass; returns what happened."""
        if self._core is not None:
            self._hear(self._core.tick(now_ns))
            if isinstance(self._core, Unhurried):
                self._core.afterwards(now_ns)
        happened, self._happened = self._happened, []
        return happened

    def die(self, what: What = What.CRASHED, how: str = "signal-9") -> None:
        """The process is gone."""
        self._core = None
        self.restarts += 1
        self._happened.append(Happening(self.name, what, self._clock.monotonic_ns(), how))

    def settle(self, settings: Mapping[str, Any]) -> None:
        """The settings of the next core, where ``make`` looks at ``settled``."""
        self.settled = settings

    def distrust(self) -> None:
        """It said nonsense: it is gone, as if it had been killed for it."""
        self.die(What.NONSENSE, "nonsense")

    def revive(self, care: Care = Care.WHOLE) -> None:
        """Another takes its place and is told what the rim remembers, with as much ``care``."""
        self._core = self._make()
        self._taken = 0
        for message in self._recall.replay(care):
            self._taken += 1
            self._hear(self._core.take(message, self._clock.monotonic_ns()))
        self._happened.append(Happening(self.name, What.BACK, self._clock.monotonic_ns()))

    def _hear(self, messages: list[Message]) -> None:
        for kind, data in messages:
            if kind == MEMORY:
                self._recall.remember(data["stay"], data["memory"], self._taken)
            else:
                self._heard.append((kind, data))
