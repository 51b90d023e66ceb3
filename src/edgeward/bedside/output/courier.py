"""Takes what waits in the outbox to one destination, in order, for as long as it takes.

A ``Sender`` tries once and says what came of it: ``Sent``, ``Later`` (nobody was there, or not now) or ``Refused``
(this item, for good). After ``Later`` the courier waits ever longer, up to ``WAIT_S_MAX``, and at least as long as the
receiver asked for. An item that alone makes the receiver fail, time after time, is given up after
``ITEM_ATTEMPTS_MAX``, so that it does not hold up all that follow.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.output.outbox import Item, Outbox

WAIT_S_MIN = 1.0
WAIT_S_MAX = 300.0
ASKED_S_MAX = 3_600.0
"""A receiver may ask for a pause of this length, and not more."""
ITEM_ATTEMPTS_MAX = 24
"""With the pauses between: more than an hour and a half."""
_TAKE_S = 1.0
_CLOSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """It arrived."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now. ``after_s``: the receiver asked for a pause; ``at_item``: it was there, and failed on this item."""

    code: str
    after_s: float = 0.0
    at_item: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the receiver will not take this item."""

    code: str


Outcome = Sent | Later | Refused


class Sender(Protocol):
    """One way to one destination. ``send`` may block for a bounded time; ``close`` may come from another thread."""

    def send(self, item: Item) -> Outcome:
        """Try once."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True)
class CourierState:
    """What a page shows of a destination; ``code``: why the latest attempt failed, empty after a success."""

    destination: str
    sent: int
    refused: int
    failures: int
    code: str


class Courier:
    """Serves ``destination`` from construction until ``close``.

    ``jitter`` gives 0 to 1: not all devices must come at once when a receiver is back.
    """

    def __init__(
        self,
        outbox: Outbox,
        destination: str,
        sender: Sender,
        *,
        jitter: Callable[[], float],
        wait_s_min: float = WAIT_S_MIN,
    ) -> None:
        self._outbox, self._destination, self._sender = outbox, destination, sender
        self._jitter, self._wait_s_min = jitter, wait_s_min
        self._closing = threading.Event()
        self._state = CourierState(destination, 0, 0, 0, "")
        self._thread = threading.Thread(target=self._run, name=f"courier-{destination}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> CourierState:
        """How it goes."""
        return self._state

    def close(self) -> None:
        """End; what was not sent waits in the outbox."""
        self._closing.set()
        self._sender.close()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        failures = 0  # since the latest success
        attempts: tuple[str, int] = ("", 0)  # of the item on which the receiver fails
        while not self._closing.is_set():
            item = self._outbox.take(self._destination, _TAKE_S)
            if item is None:
                continue
            outcome = self._try(item)
            if isinstance(outcome, Later) and outcome.at_item:
                attempts = (item.id, attempts[1] + 1 if attempts[0] == item.id else 1)
                if attempts[1] >= ITEM_ATTEMPTS_MAX:
                    outcome = Refused(outcome.code)
            match outcome:
                case Sent():
                    failures = 0
                    self._outbox.done((item.destination, item.id))
                    self._count(sent=1)
                case Refused(code):
                    self._outbox.done((item.destination, item.id))
                    self._count(refused=1, code=code)
                case Later(code, after_s):
                    failures += 1
                    self._count(failures=1, code=code)
                    self._closing.wait(self._pause_s(failures, after_s))
        self._sender.close()

    def _try(self, item: Item) -> Outcome:
        try:
            return self._sender.send(item)
        except Exception:  # noqa: BLE001  # a sender's mistake over one item must not end the way for all others
            return Later("internal", at_item=True)

    def _pause_s(self, failures: int, asked_s: float) -> float:
        longest = min(WAIT_S_MAX, self._wait_s_min * 2.0 ** min(failures - 1, 30))
        return max(longest * (0.5 + 0.5 * self._jitter()), min(asked_s, ASKED_S_MAX))

    def _count(self, *, sent: int = 0, refused: int = 0, failures: int = 0, code: str = "") -> None:
        was = self._state
        self._state = CourierState(
            self._destination, was.sent + sent, was.refused + refused, was.failures + failures, code
        )
