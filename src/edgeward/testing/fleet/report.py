"""What a run of a simulated fleet came to: figures for people, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from edgeward.exchange.words import UPDATE_ENDS, UpdateState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeward.testing.fleet.device import SimulatedDevice


@dataclass(slots=True)
class Traffic:
    """What went over the wire. ``ms``: from when a check-in was due to its answer, for those that were answered.

    ``lag_ms``: how late the simulator's own loop was, which is part of ``ms`` and no fault of the server.
    """

    ms: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    parts: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    _begin: int = 0

    def mark(self, part: str) -> None:
        """A part of the run ends here: its check-ins, their median and 99th percentile stand under its name."""
        since = self.ms[self._begin :]
        self.parts[part] = (len(since), percentile(since, 0.50), percentile(since, 0.99))
        self._begin = len(self.ms)


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """One version on all devices; seconds are of the machine's clock since the repository named it, None: never.

    ``tried``: its trial was begun; ``served``: it was in charge of beds, if only for a moment; ``ended``: devices by
    the state at which it ended; ``why``: by reason, for those that did not commit it.
    """

    version: str
    ordered: int
    adopted: int
    adopted_50_s: float | None
    adopted_99_s: float | None
    tried: int
    served: int
    ended: dict[str, int]
    why: dict[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole run. ``seconds`` of the machine's clock; percentiles in ms."""

    devices: int
    seconds: float
    speed: float
    authenticated: str
    check_ins: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    lag_p99_ms: float
    failures: dict[str, int]
    reboots: int
    silent: int
    clocks_wrong: int
    versions: tuple[VersionFigures, ...]
    parts: dict[str, tuple[int, float, float]]
    """Parts of the run that were marked: check-ins, p50 and p99 in ms."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def figures(
    devices: Sequence[SimulatedDevice],
    traffic: Traffic,
    named_ns: dict[str, int],
    *,
    seconds: float,
    speed: float,
    authenticated: str,
) -> Figures:
    """Reckon it all up. ``named_ns``: when the repository named each version (ns of the machine's clock)."""
    return Figures(
        devices=len(devices),
        seconds=round(seconds, 1),
        speed=speed,
        authenticated=authenticated,
        check_ins=len(traffic.ms),
        p50_ms=percentile(traffic.ms, 0.50),
        p99_ms=percentile(traffic.ms, 0.99),
        max_ms=percentile(traffic.ms, 1.0),
        lag_p99_ms=percentile(traffic.lag_ms, 0.99),
        failures=dict(sorted(traffic.failures.items())),
        reboots=sum(device.reboots for device in devices),
        silent=sum(device.silent for device in devices),
        clocks_wrong=sum(not device.knows_time for device in devices),
        versions=tuple(_version(version, devices, at_ns) for version, at_ns in named_ns.items()),
        parts=dict(traffic.parts),
    )


def _version(version: str, devices: Sequence[SimulatedDevice], named_ns: int) -> VersionFigures:
    stories = [device.stories[version] for device in devices if version in device.stories]
    committed = sorted(
        story.at_ns[UpdateState.COMMITTED] - named_ns for story in stories if UpdateState.COMMITTED in story.at_ns
    )
    ends = Counter(end for story in stories if (end := _end(story.at_ns)) is not None)
    why = Counter(
        story.why.value for story in stories if story.why is not None and UpdateState.COMMITTED not in story.at_ns
    )
    return VersionFigures(
        version,
        ordered=len(stories),
        adopted=len(committed),
        adopted_50_s=_reached(committed, len(devices), 0.50),
        adopted_99_s=_reached(committed, len(devices), 0.99),
        tried=sum(story.tried for story in stories),
        served=sum(story.served for story in stories),
        ended=dict(sorted(ends.items())),
        why=dict(sorted(why.items())),
    )


def _end(at_ns: Iterable[UpdateState]) -> str | None:
    return next((state.value for state in at_ns if state in UPDATE_ENDS), None)


def _reached(sorted_ns: Sequence[int], count: int, share: float) -> float | None:
    """Seconds after which ``share`` of ``count`` devices had it."""
    needed = max(1, -int(-count * share // 1))
    return round(sorted_ns[needed - 1] / 1e9, 1) if needed <= len(sorted_ns) else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed; 0 of none."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return round(ranked[min(len(ranked) - 1, max(0, -int(-len(ranked) * share // 1) - 1))], 2)


def table(found: Figures) -> str:
    """For people."""
    lag = f"(the simulator's own lag: p99 {found.lag_p99_ms:g} ms)"
    rows = {
        "devices": f"{found.devices:,} for {found.seconds:g} s, {found.speed:g} times life; {found.authenticated}",
        "check-ins": f"{found.check_ins:,}; p50 {found.p50_ms:g}, p99 {found.p99_ms:g}, max {found.max_ms:g} ms {lag}",
        "failed": _counts(found.failures),
        "faults": f"{found.reboots} power cuts, {found.silent} fell silent, {found.clocks_wrong} clocks wrong",
    }
    lines = [f"  {name:<12} {text}" for name, text in rows.items()]
    for part, (count, p50_ms, p99_ms) in found.parts.items():
        lines.append(f"  {'':<12} {part}: {count:,}; p50 {p50_ms:g}, p99 {p99_ms:g} ms")
    for one in found.versions:
        if not one.ordered:
            continue
        share = 100.0 * one.tried / found.devices
        lines.append(
            f"  {one.version:<12} ordered {one.ordered:,}, adopted {one.adopted:,}; "
            f"50 % after {_seconds(one.adopted_50_s)}, 99 % after {_seconds(one.adopted_99_s)}"
        )
        lines.append(
            f"  {'':<12} tried by {one.tried:,} ({share:.2f} %), served on {one.served:,}; "
            f"ended {_counts(one.ended)}; not adopted because {_counts(one.why)}"
        )
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:g} s"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
