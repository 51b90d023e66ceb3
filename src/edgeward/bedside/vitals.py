"""What a bed last measured, for people to see: the newest value of each kind, its age, and whether it still stands.

A value that grows stale is told once as stale and never shown as if it were live; one that is declared unmeasured is a
state of its own. Pure; what comes out are messages of docs/messages.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.signal.numeric import KINDS, Group, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.signal.numeric import Numeric

TELL_EVERY_NS = NS_PER_S
REPEAT_NS = 30 * NS_PER_S
"""A value that does not change is told again after so long, so that a page that missed it has it."""
_SPOT = frozenset({Kind.NIBP_SYS, Kind.NIBP_DIA, Kind.NIBP_MEAN, Kind.TEMP})


LIVE_S = 90
"""A gateway may report once a minute ; one report that is late is not yet a value gone."""


def is_spot(kind: Kind) -> bool:
    """Whether a kind is measured now and then, not all the time."""
    return kind in _SPOT or KINDS[kind].group is not Group.VITAL


def stale_after_ns(kind: Kind) -> int:
    """How old a value may be before it is stale: a live vital LIVE_S, a spot measurement or context 4 h, a lab 24 h."""
    if not is_spot(kind):
        return LIVE_S * NS_PER_S
    return (24 if KINDS[kind].group is Group.LAB else 4) * 3600 * NS_PER_S


@dataclass(slots=True)
class _Value:
    value: float | None
    at_ns: int
    told_ns: int = -REPEAT_NS
    told: tuple[float | None, str] | None = None

    def state(self, kind: Kind, now_ns: int) -> str:
        if now_ns - self.at_ns > stale_after_ns(kind):
            return "stale"
        return "unmeasured" if self.value is None else "ok"


@dataclass(slots=True)
class Vitals:
    """The numerics of one stay."""

    _values: dict[Kind, _Value] = field(default_factory=dict)
    _next_ns: int = 0
    newest_ns: int | None = None
    """When the newest numeric was observed; None before the first."""

    def take(self, numerics: Iterable[Numeric]) -> None:
        """Take numerics; of each kind the newest counts, however late an older one comes."""
        for numeric in numerics:
            held = self._values.get(numeric.kind)
            if held is None:
                self._values[numeric.kind] = _Value(numeric.value, numeric.at_ns)
            elif numeric.at_ns >= held.at_ns:
                held.value, held.at_ns = numeric.value, numeric.at_ns
            self.newest_ns = max(self.newest_ns or 0, numeric.at_ns)

    def tell(self, now_ns: int) -> dict[str, dict[str, Any]]:
        """What changed since it was told last, at most once a second; empty where nothing did."""
        if now_ns < self._next_ns:
            return {}
        changed: dict[str, dict[str, Any]] = {}
        for kind, held in self._values.items():
            state = held.state(kind, now_ns)
            shown = None if held.value is None else round(held.value, KINDS[kind].decimals + 1)
            live = state == "ok" and held.at_ns > held.told_ns  # a fresh measurement is news even when it is the same
            if (shown, state) != held.told or live or now_ns - held.told_ns >= REPEAT_NS:
                held.told, held.told_ns = (shown, state), now_ns
                changed[kind.value] = {"v": shown, "age_ms": (now_ns - held.at_ns) // NS_PER_MS, "state": state}
        if changed:
            self._next_ns = now_ns + TELL_EVERY_NS
        return changed
