"""An ``Output`` of the ward that fills the outbox for one destination: what ``record`` decides, in that one's form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.bedside.output.outbox import Item
from edgeward.bedside.output.record import Enter, Moment, Record
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.wire.entries import News2, Score

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.output.outbox import Outbox
    from edgeward.bedside.output.record import Effect
    from edgeward.kernel.clock import Clock
    from edgeward.wire.entries import Entry, Whose

SCORES_EVERY_S = 900.0


class RecordOutput:
    """Puts what is for the record of ``destination`` into the outbox.

    ``device``: this device's name at the site, part of every item's id; ``whose``: who lies in a stay now;
    ``scores_every_s``: how often a score goes that has not changed. ``form`` is the subclass's.
    """

    def __init__(
        self,
        destination: str,
        device: str,
        scores_every_s: float,
        outbox: Outbox,
        clock: Clock,
        whose: Callable[[int], Whose | None],
    ) -> None:
        self._destination, self._device = destination, device
        self._outbox, self._clock = outbox, clock
        self._record = Record(destination, round(scores_every_s * NS_PER_S), whose)
        self._unformed = 0
        at = self._at()
        self._carry_out(self._record.begin(outbox.notes, at), at)

    def form(self, entry: Entry, whose: Whose, name: str, wall_ns: int) -> bytes:
        """An entry as its destination reads it; ``name``: the item's id. ``ValueError`` where it cannot be formed."""
        raise NotImplementedError

    @property
    def destination(self) -> str:
        """Where it goes."""
        return self._destination

    @property
    def unidentified(self) -> int:
        """What did not leave because nobody's number is known."""
        return self._record.unidentified

    @property
    def failed(self) -> int:
        """Messages that could not be read, and entries that could not be formed: our mistakes."""
        return self._record.failed + self._unformed

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Put what a message brings to the record into the outbox; returns at once."""
        at = self._at()
        self._carry_out(self._record.take(kind, data, at), at)

    def close(self) -> None:
        """Nothing is held here: the outbox has it."""

    def _carry_out(self, effects: list[Effect], at: Moment) -> None:
        for effect in effects:
            if not isinstance(effect, Enter):
                self._outbox.note(effect.key, effect.text)
                continue
            name = f"{self._device}.{effect.id}"
            try:
                payload = self.form(effect.entry, effect.whose, name, at.wall_ns)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                self._unformed += 1
                continue
            self._outbox.put(Item(self._destination, name, _kind(effect.entry), payload, effect.lives_ns))

    def _at(self) -> Moment:
        return Moment(self._clock.monotonic_ns(), round(self._clock.wall().timestamp() * 1e9))


def check_every_s(scores_every_s: float) -> None:
    """Raise ``ConfigError`` where a record would be flooded with scores, or see none."""
    if not 15 <= scores_every_s <= 86_400:  # written so that a NaN fails it
        raise ConfigError("setting-invalid", "scores_every_s lies between 15 seconds and a day")


def _kind(entry: Entry) -> str:
    match entry:
        case Score():
            return "score"
        case News2():
            return "news2"
        case _:
            return "advisory"
