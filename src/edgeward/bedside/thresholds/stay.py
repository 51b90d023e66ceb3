"""One stay under watch: numerics in, alerts and NEWS2 out. Pure: same numerics at the same instants, same alerts.

A violation is alerted once it has lasted its delay, whether a numeric or only time says so. A check that sees nothing
concludes nothing: what is raised stays raised until it is seen to be over, or for ``UNSEEN_NS`` without any sight of
it, after which the technical alert that says so stands in its place. A pending violation survives a short gap, so that
a flickering measurement cannot put an alert off for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.priority import Priority
from edgeward.bedside.thresholds.alert import Alert, Cause
from edgeward.bedside.thresholds.checks import KINDS_CHECKED, MEASUREMENTS, SILENT, checks_of
from edgeward.bedside.thresholds.latest import Latest
from edgeward.bedside.thresholds.settings import Latch
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.signal import news2
from edgeward.signal.news2 import FRESH_S, Item
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.bedside.feed import Admitted, Message
    from edgeward.bedside.thresholds.checks import Check, Measurement
    from edgeward.bedside.thresholds.settings import ThresholdSettings
    from edgeward.signal.news2 import News2
    from edgeward.signal.numeric import Numeric

UNSEEN_NS = 60 * NS_PER_S
"""A raised alert whose condition nothing shows any more ends after this; a latching one is latched then."""
GAP_NS = 5 * NS_PER_S
"""A pending violation goes on across so much time in which nothing was seen."""
_NEWS2_EVERY_NS = NS_PER_S
_NEWS2_AGEING_NS = 5 * NS_PER_S
_NEWS2_RETELL_NS = 60 * NS_PER_S
_MEMORY_EVERY_NS = 5 * NS_PER_S
_SUSPENDED_RETELL_NS = 5 * NS_PER_S
_MEMORY_VERSION = 1


class StayWatch:
    """The watch over one stay. Alerts are bounded by the number of checks: one per condition."""

    def __init__(self, admitted: Admitted, settings: ThresholdSettings) -> None:
        self._settings = settings
        self._latest = Latest(KINDS_CHECKED)
        self._alerts: dict[str, Alert] = {}
        self._pending: dict[str, tuple[int, int | None]] = {}  # code: violated since, nothing seen since
        self._unseen: dict[str, int] = {}  # code of a raised alert: since when nothing shows its condition
        self._suspended_until_ns: int | None = None
        self._suspended_told_ns = 0
        self._last_id_ms = 0
        self._told: News2 | None = None
        self._told_ns: int | None = None
        self._scored_ns: int | None = None
        self._unscored = True
        self._some_over = False  # an alert has ended that may have stood for a lower level
        self._changed = False  # since the last memory: alerts or suspension
        self._measured = False  # since the last memory: numerics
        self._memory_ns = admitted.at_ns
        self._out: list[Message] = []
        self.admit(admitted)

    def admit(self, admitted: Admitted) -> None:
        """The stay begins, or more is known of its patient: limits follow, what was seen stays."""
        self._admitted = admitted
        self.move(admitted.bed)

    def move(self, bed: str) -> None:
        """The patient lies in ``bed`` now; its limits count."""
        self.bed = bed
        who = self._admitted
        self._limits = self._settings.limits(bed, who.population, who.age_y)
        self._checks = checks_of(self._limits)
        self._checks_of: dict[Kind, tuple[Check, ...]] = {
            kind: tuple(check for check in self._checks if kind in check.kinds) for kind in KINDS_CHECKED
        }
        self._unscored = True

    def take(self, numerics: Iterable[Numeric], now_ns: int) -> list[Message]:
        """Take numerics in the order in which they were observed."""
        lasted: dict[str, Check] = {}
        for numeric in numerics:
            if self._latest.take(numeric, now_ns):
                self._measured = self._unscored = True
                for check in self._checks_of[numeric.kind]:
                    self._judge(check, min(numeric.at_ns, now_ns), now_ns)
                    if numeric.at_ns < now_ns:
                        lasted[check.code] = check
        # What was observed last has lasted until now; what an ended alert stood for is raised without a tick between.
        for check in self._checks if self._some_over else lasted.values():
            self._judge(check, now_ns, now_ns)
        return self._flush(now_ns)

    def tick(self, now_ns: int) -> list[Message]:
        """Time has come to ``now_ns``: what only time decides. To be called at least every second of a live stay."""
        self._judge_measurements(now_ns)
        for check in self._checks:
            self._judge(check, now_ns, now_ns)
        self._end_suspension(now_ns)
        self._remind(now_ns)
        if self._settings.news2:
            self._score(now_ns)
        return self._flush(now_ns)

    def acknowledge(self, alert: str, now_ns: int) -> list[Message]:
        """Somebody has seen the alert with that ``id``, or all for ""; an unknown one is none of ours."""
        for known in list(self._alerts.values()):
            if alert in ("", known.id) and known.acknowledge(now_ns):
                self._tell(known, now_ns)
        return self._flush(now_ns)

    def suspend(self, until_ns: int, now_ns: int) -> list[Message]:
        """Alerts make no claim until then, at most ``suspend_s_max`` from now; not later than now ends it."""
        granted_ns = self._granted(until_ns, now_ns)
        if granted_ns is not None:
            self._suspended_until_ns = granted_ns
            self._tell_suspended(now_ns)
        elif self._suspended_until_ns is not None:
            self._suspended_until_ns = now_ns
            self._end_suspension(now_ns)
        return self._flush(now_ns)

    def _granted(self, until_ns: int, now_ns: int) -> int | None:
        longest_ns = round(self._settings.suspend_s_max * NS_PER_S)
        return min(until_ns, now_ns + longest_ns) if until_ns > now_ns else None

    # --- alerts

    def _judge(self, check: Check, at_ns: int, now_ns: int) -> None:
        """Compare what counts now; ``at_ns``: the instant up to which a violation is known to have lasted."""
        code = check.code
        alert = self._alerts.get(code)
        raised = alert is not None and alert.active
        if check.on_oxygen_only and not self._on_oxygen(now_ns):
            self._over(code, now_ns)
            return
        found = self._latest.first(check.kinds, now_ns)
        if found is None:
            self._see_nothing(code, now_ns, raised=raised)
            return
        self._unseen.pop(code, None)
        kind, value, seen_ns = found
        if not check.violated(value, raised=raised):
            self._over(code, now_ns)
        elif not raised:
            since_ns, blind_ns = self._pending.get(code, (seen_ns, None))
            if blind_ns is not None and seen_ns - blind_ns > GAP_NS:
                since_ns = seen_ns
            self._pending[code] = (since_ns, None)
            waited = at_ns - since_ns >= check.delay_for(kind)
            if waited and not any(self._active(worse) for worse in check.worse):
                self._raise(check, value, now_ns)

    def _see_nothing(self, code: str, now_ns: int, *, raised: bool) -> None:
        if raised:
            if now_ns - self._unseen.setdefault(code, now_ns) >= UNSEEN_NS:
                self._over(code, now_ns)
        elif code in self._pending and self._pending[code][1] is None:
            self._pending[code] = (self._pending[code][0], now_ns)

    def _judge_measurements(self, now_ns: int) -> None:
        silent = self._latest.silent(now_ns)
        self._judge_loss(SILENT, silent, now_ns)
        delay_ns = self._limits.lost_delay_s * NS_PER_S
        for measurement in MEASUREMENTS:
            since_ns = None if silent else self._latest.lost_since(measurement.kinds, now_ns)
            lost = since_ns is not None and now_ns - since_ns >= delay_ns
            if lost and measurement.beside:
                lost = self._latest.first(measurement.beside, now_ns) is not None
            self._judge_loss(measurement, lost, now_ns)

    def _judge_loss(self, measurement: Measurement, lost: bool, now_ns: int) -> None:
        if not lost:
            self._over(measurement.code, now_ns)
        elif not self._active(measurement.code):
            code, text, priority = measurement.code, measurement.text, measurement.priority
            self._add(Alert(self._new_id(code, now_ns), code, text, priority, Cause.TECHNICAL, now_ns), now_ns)

    def _raise(self, check: Check, value: float, now_ns: int) -> None:
        code = check.code
        shown = value if check.shows_value else None
        known = self._alerts.get(code)
        if known is not None:  # latched: nobody has seen it, and here it is again
            known.active, known.latched, known.value = True, False, shown
            self._add(known, now_ns)
            return
        self._add(
            Alert(
                id=self._new_id(code, now_ns),
                code=code,
                text=check.text,
                priority=check.priority,
                cause=Cause.PHYSIOLOGICAL,
                raised_ns=now_ns,
                value=shown,
                limit=check.limit,
                unit=check.unit,
            ),
            now_ns,
        )

    def _add(self, alert: Alert, now_ns: int) -> None:
        self._pending.pop(alert.code, None)
        self._alerts[alert.code] = alert
        self._tell(alert, now_ns)

    def _over(self, code: str, now_ns: int) -> None:
        """The condition of ``code`` holds no more."""
        self._pending.pop(code, None)
        self._unseen.pop(code, None)
        alert = self._alerts.get(code)
        if alert is not None and alert.active:
            latch = self._settings.latch
            wanted = latch is Latch.ALL or (latch is Latch.HIGH and alert.priority is Priority.HIGH)
            alert.end(latches=wanted and alert.cause is Cause.PHYSIOLOGICAL)
            self._some_over = True
            self._tell(alert, now_ns)

    def _active(self, code: str) -> bool:
        alert = self._alerts.get(code)
        return alert is not None and alert.active

    def _new_id(self, code: str, now_ns: int) -> str:
        self._last_id_ms = max(now_ns // NS_PER_MS, self._last_id_ms + 1)
        return f"{code}-{self._last_id_ms}"

    def _remind(self, now_ns: int) -> None:
        if self._suspended_until_ns is not None:
            return
        for alert in self._alerts.values():
            seen_ns = alert.acknowledged_ns
            if seen_ns is None or alert.priority is Priority.LOW:
                continue
            if now_ns - seen_ns >= self._settings.reminder_s * NS_PER_S:
                alert.remind()
                self._tell(alert, now_ns, keep=True)

    def _end_suspension(self, now_ns: int) -> None:
        until_ns = self._suspended_until_ns
        if until_ns is None:
            return
        if now_ns >= until_ns:
            self._suspended_until_ns = None
            self._tell_suspended(now_ns)
            for alert in self._alerts.values():
                if alert.acknowledged_ns is None:
                    self._tell(alert, now_ns, keep=True)
        elif now_ns - self._suspended_told_ns >= _SUSPENDED_RETELL_NS:
            self._tell_suspended(now_ns)

    def _on_oxygen(self, now_ns: int) -> bool:
        within_s = FRESH_S[Item.OXYGEN]
        known = [self._latest.value_within(kind, within_s, now_ns) for kind in (Kind.FIO2, Kind.O2_FLOW)]
        return news2.oxygen_given(*known) is True

    # --- NEWS2

    def _score(self, now_ns: int) -> None:
        wait_ns = _NEWS2_EVERY_NS if self._unscored else _NEWS2_AGEING_NS
        if self._scored_ns is not None and now_ns - self._scored_ns < wait_ns:
            return
        self._scored_ns, self._unscored = now_ns, False
        who = self._admitted
        adult = who.population is Population.ADULT  # a child of unknown age is a child
        applies = news2.applies(who.age_y) and (adult or who.age_y is not None)
        seen = news2.observe(lambda kind, within_s: self._latest.value_within(kind, within_s, now_ns))
        scored = news2.score(seen, who.spo2_scale if who.spo2_scale in (1, 2) else 1)
        again = self._told_ns is None or now_ns - self._told_ns >= _NEWS2_RETELL_NS
        if scored == self._told and not again:
            return
        self._told, self._told_ns = scored, now_ns
        risk = scored.risk
        self._say(
            "news2",
            {
                "score": scored.score if applies else None,
                "complete": applies and scored.complete,
                "missing": [item.value for item in scored.missing] if applies else [],
                "items": {item.value: points for item, points in scored.points.items()} if applies else {},
                "risk": risk.value if applies and risk is not None else None,
                "scale": scored.scale,
                "applies": applies,
                "from_gcs": applies and scored.from_gcs,
            },
        )

    # --- what is told and remembered

    def _tell(self, alert: Alert, now_ns: int, *, keep: bool = False) -> None:
        self._say("alert", alert.message(now_ns))
        self._changed = True
        if alert.over and not keep:
            del self._alerts[alert.code]

    def _tell_suspended(self, now_ns: int) -> None:
        self._suspended_told_ns = now_ns
        left_ns = 0 if self._suspended_until_ns is None else self._suspended_until_ns - now_ns
        self._say("suspended", {"ms_left": left_ns // NS_PER_MS})
        self._changed = True

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        self._out.append((kind, {"bed": self.bed, "stay": self._admitted.stay, **data}))

    def _flush(self, now_ns: int) -> list[Message]:
        self._some_over = False
        if self._changed or (self._measured and now_ns - self._memory_ns >= _MEMORY_EVERY_NS):
            self._changed = self._measured = False
            self._memory_ns = now_ns
            self._out.append(("memory", {"stay": self._admitted.stay, "memory": self._memory()}))
        out, self._out = self._out, []
        return out

    def _memory(self) -> dict[str, Any]:
        return {
            "version": _MEMORY_VERSION,
            "latest": self._latest.to_memory(),
            "alerts": [alert.to_memory() for alert in self._alerts.values()],
            "pending": {code: list(times) for code, times in self._pending.items()},
            "unseen": dict(self._unseen),
            "suspended_until": self._suspended_until_ns,
        }

    def resume(self, memory: Any, now_ns: int) -> list[Message]:
        """Take up what an earlier process gave as memory, and tell every alert again.

        Raises ``ValueError`` for what is no such memory; the stay then goes on as it was.
        """
        codes = {check.code for check in self._checks} | {m.code for m in (SILENT, *MEASUREMENTS)}
        latest = Latest(KINDS_CHECKED)
        try:
            latest.from_memory(memory["latest"])
            alerts = [Alert.from_memory(alert) for alert in memory["alerts"]]
            pending = {
                str(code): (int(since), None if blind is None else int(blind))
                for code, (since, blind) in memory["pending"].items()
            }
            unseen = {str(code): int(since) for code, since in memory["unseen"].items()}
            suspended = None if memory["suspended_until"] is None else int(memory["suspended_until"])
            known = memory["version"] == _MEMORY_VERSION
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError("this is no memory of a stay") from error
        if not known:
            raise ValueError("this memory is of another version")
        self._latest = latest
        self._alerts = {alert.code: alert for alert in alerts if alert.code in codes and not alert.over}
        self._pending = {code: times for code, times in pending.items() if code in codes}
        self._unseen = {code: since for code, since in unseen.items() if code in codes}
        if suspended is not None:
            self._suspended_until_ns = self._granted(suspended, now_ns)
            self._tell_suspended(now_ns)
        for alert in self._alerts.values():
            self._tell(alert, now_ns, keep=True)
        self._unscored = True
        return self._flush(now_ns)
