"""What a ward's pages know: every bed, and the stay that lies in it. Pure and bounded.

Everything about a patient hangs on the stay, never on the bed: a patient who moves takes alerts and trends along, and
nobody inherits those of the one before. Times are milliseconds of the server's monotonic clock, passed in.
"""

from __future__ import annotations

import contextlib
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from edgeward.bedside.page.bundles import BundlesSaid
from edgeward.bedside.page.datum import TEXT_MAX, age_ms, real, real_or_none, require, words
from edgeward.bedside.page.outbox import OutboxSaid
from edgeward.bedside.page.stay import TAKERS, TASKS_MAX, Stay, steady
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

BEDS_MAX = 64
BED_TTL_MS = 15_000
"""A bed that the device has not spoken of for so long (it should every 5 s) is not shown as live."""
UNCLAIMED_MS_MAX = 60_000
"""A stay that lies in no bed, because it is being moved, is kept for so long."""
SOURCES_MAX, PEERS_MAX = 8, 256
"""Kinds of sources, and connections of one, that are counted."""

_HERE = frozenset({"0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})  # noqa: S104  # recognised, not listened on
_OF_THE_DEVICE = frozenset({"latency", "outbox", "peer", "process", "serving"})
_BED = {"bed": str}
_NOTE = {**_BED, "id": (str, Integral), "text": str, "priority": str, "active": bool}
_REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "hello": {"beds": list},
    "latency": {},
    "peer": {"source": str, "peer": str, "connected": bool},
    "outbox": {"waiting": Integral, "oldest_ms": Real, "fault": str, "destinations": list},
    "process": {"name": str, "what": str},
    "serving": {"task": str, "version": str},
    "source": {"source": str, "refused": str},
    "bed": {**_BED, "state": str},
    "vitals": {**_BED, "values": dict},
    "alert": {**_NOTE, "cause": str},
    "advisory": _NOTE,
    "news2": {**_BED, "items": dict, "score": (Integral, type(None))},
    "score": {**_BED, "task": str, "outcome": str, "level": str, "age_ms": Real, "ttl_ms": Real},
    "forecast": {**_BED, "vital": str, "minutes": list, "age_ms": Real, "ttl_ms": Real},
    "mode": {**_BED, "task": str, "mode": str},
}


WARD_KINDS = frozenset(_REQUIRED)
"""Every kind that may be published to a ward (docs/messages.md)."""


class Bed:
    """A bed as the device is set up for it, and what was last said of it."""

    def __init__(self, index: int, name: str, ecg: str) -> None:
        self.index, self.name, self.ecg = index, name, ecg
        self.path = f"/beds/{quote(name, safe='')}"
        self.stay: int | None = None
        self.told_ms: float | None = None
        self.state = "empty"
        self.population = ""
        self.simulated = False
        self.sources: tuple[str, ...] = ()
        self.suspended_until_ms = -math.inf
        self.silent_since_ms: float | None = None
        self.limits: dict[str, tuple[float | None, float | None]] = {}
        self.refusal: dict[str, Any] | None = None

    @property
    def until_ms(self) -> float:
        """When the bed stops being live, unless the device speaks of it again."""
        return -math.inf if self.told_ms is None else self.told_ms + BED_TTL_MS

    def occupied(self) -> bool:
        """Whether a patient lies in it."""
        return self.state == "occupied"

    def suspended(self, now_ms: float) -> bool:
        """Whether its threshold alerts make no claim now."""
        return now_ms < self.suspended_until_ms


class Device:
    """What was said of the device and not of a bed: who is connected, what is down, was refused, waits to leave."""

    def __init__(self) -> None:
        self.peers: dict[str, set[str]] = {}
        self.down: dict[str, str] = {}
        self.refusal: dict[str, Any] | None = None
        self.outbox: OutboxSaid | None = None
        self.bundles: dict[str, BundlesSaid] = {}

    def take(self, kind: str, data: Mapping[str, Any], now_ms: float) -> None:
        """Take an ``outbox``, ``peer``, ``process``, ``serving``, ``source`` or ``latency``."""
        if kind == "source":
            self.refusal = _refusal(data, now_ms)
        elif kind == "outbox":
            self.outbox = OutboxSaid.read(data, now_ms, self.outbox)
        elif kind == "serving":
            task = words(data["task"])
            if task in self.bundles or len(self.bundles) < TASKS_MAX:
                self.bundles[task] = BundlesSaid.read(data, now_ms, self.bundles.get(task))
        elif kind == "peer":
            source, peer = words(data["source"]), words(data["peer"])
            peers = self.peers.get(source, set())
            if not data["connected"]:
                peers.discard(peer)
            elif len(peers) < PEERS_MAX and (source in self.peers or len(self.peers) < SOURCES_MAX):
                self.peers.setdefault(source, peers).add(peer)
        elif kind == "process":
            name = words(data["name"])
            self.down.pop(name, None)
            if data["what"] != "back" and len(self.down) < 2 * BEDS_MAX:
                self.down[name] = words(data["what"])


class WardState:
    """The current state of a ward's pages. Not thread-safe: one thread owns it."""

    def __init__(self, hello: Mapping[str, Any], now_ms: float) -> None:
        self.beds: list[Bed] = []
        self.hello: Mapping[str, Any] = {"beds": []}
        self.tasks: list[dict[str, Any]] = []
        self.device = Device()
        self._stays: dict[int, Stay] = {}
        self._by_name: dict[str, Bed] = {}
        self.apply("hello", {"beds": [], **hello}, now_ms)

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> Bed | None:
        """Take one published datum; return the bed that it changed. InputError where it is odd, or of another stay."""
        require(kind, data, _REQUIRED[kind])
        if kind == "hello":
            self._greet(data, now_ms)
            return None
        if kind in _OF_THE_DEVICE or (kind == "source" and data.get("bed") is None):
            self.device.take(kind, data, now_ms)
            return None
        bed = self._by_name.get(data["bed"])
        if bed is None:
            raise InputError("page-bed", f"a {kind} for the page names a bed that the ward does not have; not shown")
        if kind == "bed":
            self._take_bed(bed, data, now_ms)
        elif kind == "source":
            bed.refusal = _refusal(data, now_ms)
        else:
            TAKERS[kind](self._stay_for(bed, data), data, now_ms)
        return bed

    def stay_of(self, bed: Bed) -> Stay | None:
        """What is known of the patient in a bed; None where nobody lies in it."""
        return None if bed.stay is None else self._stays.get(bed.stay)

    def bed_named(self, name: str) -> Bed | None:
        """The bed of a configured name."""
        return self._by_name.get(name)

    def forget(self, now_ms: float) -> None:
        """Let go what is over."""
        gone = [key for key, stay in self._stays.items() if now_ms - (stay.unclaimed_ms or now_ms) > UNCLAIMED_MS_MAX]
        for key in gone:
            del self._stays[key]
        for stay in self._stays.values():
            stay.alerts.forget_ended(now_ms)
            stay.advisories.forget_ended(now_ms)

    def forget_all_of(self, bed: Bed) -> None:
        """Let go whatever is known of the patient in a bed: it cannot be shown."""
        if bed.stay is not None:
            self._stays[bed.stay] = Stay()

    def _greet(self, data: Mapping[str, Any], now_ms: float) -> None:
        told = [dict(bed) for bed in data["beds"]]
        names = [str(bed["bed"]) for bed in told]
        if len(names) > BEDS_MAX or len(set(names)) < len(names) or not all(0 < len(n) <= TEXT_MAX for n in names):
            raise InputError(
                "page-beds",
                f"a ward has at most {BEDS_MAX} beds, each with its own name of 1 to {TEXT_MAX} characters; not shown",
            )
        before = self._by_name
        for name in before.keys() - set(names):
            self._lay(before[name], None, now_ms)
        tasks = [dict(task) for task in data.get("tasks") or ()]
        self.tasks = [task for task in tasks if isinstance(task.get("task"), str)][:TASKS_MAX]
        self.hello = data
        self.beds = []
        for index, (name, bed) in enumerate(zip(names, told, strict=True)):
            held = before.get(name) or Bed(index, name, "")
            held.index, held.ecg = index, _address(bed.get("ecg"))
            self.beds.append(held)
        self._by_name = dict(zip(names, self.beds, strict=True))

    def _take_bed(self, bed: Bed, data: Mapping[str, Any], now_ms: float) -> None:
        stay = data.get("stay")
        occupied = data["state"] == "occupied"
        self._lay(bed, int(stay) if occupied and isinstance(stay, int) else None, now_ms)
        bed.told_ms = now_ms
        bed.state = "occupied" if occupied else "empty"
        bed.population = words(data.get("population"))
        bed.simulated = bool(data.get("simulated"))
        bed.sources = tuple(words(name) for name in (data.get("sources") or ())[:SOURCES_MAX])
        silent = data.get("silent_ms")
        bed.silent_since_ms = None if silent is None else steady(bed.silent_since_ms, now_ms - age_ms(silent))
        left = real(data.get("suspended_ms_left") or 0)
        bed.suspended_until_ms = steady(bed.suspended_until_ms, now_ms + left) if left > 0 else -math.inf
        bed.limits = {
            str(kind): (real_or_none(low), real_or_none(high))
            for kind, (low, high) in (data.get("limits") or {}).items()
            if kind in _KINDS
        }

    def _lay(self, bed: Bed, stay: int | None, now_ms: float) -> None:
        if stay == bed.stay:
            return
        left = self.stay_of(bed)
        if left is not None:
            left.unclaimed_ms = now_ms
        for other in self.beds:
            if stay is not None and other.stay == stay:  # moved: what lies in the other bed will be told
                other.stay, other.told_ms = None, None
        bed.stay = stay
        bed.refusal = None
        if stay is not None:
            self._stays.setdefault(stay, Stay()).unclaimed_ms = None
        while len(self._stays) > 2 * BEDS_MAX:
            oldest = min(self._stays, key=lambda key: self._stays[key].unclaimed_ms or math.inf)
            del self._stays[oldest]

    def _stay_for(self, bed: Bed, data: Mapping[str, Any]) -> Stay:
        stay = data.get("stay")
        untold = bed.told_ms is None and bed.stay is None and isinstance(stay, int)
        if untold and all(other.stay != stay for other in self.beds):
            self._lay(bed, stay, 0.0)
        found = self.stay_of(bed)
        if found is None or stay != bed.stay:
            raise InputError("page-stay", "a datum for the page belongs to a stay that is not in that bed; not shown")
        return found


def _refusal(data: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    """What was refused last, of a bed or of the device."""
    named = {"source": words(data["source"]), "refused": words(data["refused"])}
    return {**named, "count": words(data.get("count") or 1), "t_ms": now_ms}


def reachable(address: str, host: str) -> str:
    """``address`` of a page of this device as the browser that asked for ``host`` (its Host header) reaches it.

    A page that is bound to every interface, or to loopback, tells an address that is right on the device alone.
    """
    parts, asked = urlsplit(address), urlsplit(f"//{host}")
    with contextlib.suppress(ValueError):  # a port that is none
        if parts.hostname in _HERE and parts.port and asked.hostname and asked.hostname not in _HERE:
            name = f"[{asked.hostname}]" if ":" in asked.hostname else asked.hostname
            return urlunsplit(parts._replace(netloc=f"{name}:{parts.port}"))
    return address


def _address(given: Any) -> str:
    """A link to an ECG page: to a web address or a path of this server, never a script."""
    address = str(given or "")[:TEXT_MAX]
    own = address.startswith("/") and not address.startswith("//")
    return address if own or address.startswith(("http://", "https://")) else ""


_KINDS = frozenset(kind.value for kind in Kind)
