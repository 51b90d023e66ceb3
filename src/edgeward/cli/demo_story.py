"""What was seen of the demo: every message of the ward, told in words, and the checks of its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.exchange.words import UpdateState

if TYPE_CHECKING:
    from collections.abc import Callable

ECG_BED = "ICU 1"
_MODES = {
    "LOCAL": "AI LOCAL",
    "LOCAL_PREVIOUS": "AI LOCAL, previous bundle",
    "THRESHOLD_ONLY": "THRESHOLD ONLY: the limits go on, no advisories",
    "NO_AI": "NO AI: nothing valid comes in",
    "NOT_ASKED": "not asked",
}
_TASKS = {"ecg-beat": "ECG", "sepsis-risk": "sepsis risk", "hypotension": "low pressure ahead"}
_STEPS = frozenset(UpdateState)


@dataclass
class Harm:
    """One process that was killed: when, when that was told, when it was over. Seconds since the kill."""

    at: float | None = None
    told_s: float | None = None
    over_s: float | None = None

    def since(self) -> float | None:
        """Seconds since the kill; None before it."""
        return None if self.at is None else time.monotonic() - self.at


@dataclass
class Story:
    """Takes the ward's messages (``kind``, fields) and tells what a reader of the demo wants to know."""

    tell: Callable[[str], None]
    dwell_s: float
    installed: set[str] = field(default_factory=set)
    pids: dict[str, int] = field(default_factory=dict)
    harms: dict[str, Harm] = field(
        default_factory=lambda: {name: Harm() for name in ("thresholds", "engine", "assess")}
    )
    beats: dict[str, int] = field(default_factory=dict)
    unclassed: dict[str, int] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    courses: int = 0
    alerts: set[str] = field(default_factory=set)
    modes: dict[tuple[str, str], str] = field(default_factory=dict)
    lead_off: bool = False
    beds: set[str] = field(default_factory=set)
    latency: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Beats with a class."""
        return sum(self.beats.values())

    def word(self, text: str) -> None:
        """A line that is no message."""
        words = text.split()
        if len(words) == 4 and words[0] == "update:" and words[3] in _STEPS:
            if words[3] != UpdateState.COMMITTED:
                return  # a ward tells every step; the last one says it all
            self.installed.add(words[1])
        self.tell(text)

    def take(self, message: dict[str, Any]) -> None:
        """One message."""
        handler = getattr(self, f"_on_{message['kind']}", None)
        if handler is not None:
            handler(message)

    # --- the ECG bed

    def _on_beat(self, beat: dict[str, Any]) -> None:
        if beat["verdict"] != "accepted":
            self._without_class(beat)
            return
        self.beats[beat["cls"]] = self.beats.get(beat["cls"], 0) + 1
        if self.accepted <= 3 or beat["cls"] != "N":
            rr = "no RR yet" if beat["rr_ms"] is None else f"RR {beat['rr_ms']} ms"
            self.tell(f"beat {beat['cls']} (p {beat['probability']:.2f}, {rr}, {beat['latency_us']} µs)")
        harm = self.harms["engine"]
        if harm.at is not None and harm.over_s is None:
            harm.over_s = harm.since()
            self.tell(f"first accepted window {harm.over_s:.2f} s after the kill")

    def _without_class(self, beat: dict[str, Any]) -> None:
        self.unclassed[beat["verdict"]] = self.unclassed.get(beat["verdict"], 0) + 1
        harm = self.harms["engine"]
        if beat["why"] != "probation":
            self.tell(f"beat without a class: {beat['verdict']} ({beat['why']})")
        elif harm.at is not None and harm.told_s is None:
            harm.told_s = harm.since()
            self.tell(f"engine scores again {harm.told_s:.2f} s after the kill; on probation for {self.dwell_s:g} s")

    def _on_engine(self, engine: dict[str, Any]) -> None:
        if engine.get("task", "ecg-beat") != "ecg-beat" or engine["pid"] is None:
            return
        if engine["pid"] != self.pids.get("engine"):
            more = f", restarts {engine['restarts']}" if engine["restarts"] else ""
            self.tell(f"ECG engine: process {engine['pid']}{more}")
        self.pids["engine"] = engine["pid"]

    def _on_quality(self, quality: dict[str, Any]) -> None:
        bad = {name: flag for name, flag in quality["leads"].items() if flag != "ok"}
        if len(bad) == len(quality["leads"]):
            self.tell(f"all leads: {' '.join(sorted(set(bad.values())))}")
        elif bad:
            self.tell(f"leads: {', '.join(f'{name} {flag}' for name, flag in sorted(bad.items()))}")
        else:
            self.tell("leads: all good")

    def _on_latency(self, latency: dict[str, Any]) -> None:
        self.latency = latency

    # --- the ward

    def _on_bed(self, bed: dict[str, Any]) -> None:
        if bed["state"] == "occupied" and bed["bed"] not in self.beds:
            self.beds.add(bed["bed"])
            self.tell(f"{bed['bed']}: a {'simulated ' if bed['simulated'] else ''}patient lies there")

    def _on_mode(self, mode: dict[str, Any]) -> None:
        bed, task = mode["bed"], mode["task"]
        if self.modes.get((bed, task)) == mode["mode"]:
            return
        self.modes[bed, task] = mode["mode"]
        ecg = task == "ecg-beat"
        self.lead_off |= ecg and mode["mode"] == "NO_AI"
        if ecg or bed == ECG_BED:  # one bed tells for all: an engine serves the whole ward
            why = f" ({mode['reason']})" if mode["reason"] else ""
            self.tell(f"{bed}, {_TASKS.get(task, task)}: {_MODES.get(mode['mode'], mode['mode'])}{why}")
        harm = self.harms["assess"]
        if not ecg and harm.at is not None and harm.told_s is None and mode["mode"] == "THRESHOLD_ONLY":
            harm.told_s = harm.since()

    def _on_score(self, score: dict[str, Any]) -> None:
        if score["outcome"] != "accepted":
            return
        task = score["task"]
        self.scores[task] = self.scores.get(task, 0) + 1
        if self.scores[task] <= 2 or score["level"] == "act":
            drivers = ", ".join(
                f"{driver['label']} {'↑' if driver['effect'] > 0 else '↓'}" for driver in score["drivers"]
            )
            said = f"{score['bed']}: {_TASKS.get(task, task)} {100 * score['probability']:.1f} % ({score['level']})"
            self.tell(said + (f"; most: {drivers}" if drivers else ""))

    def _on_forecast(self, forecast: dict[str, Any]) -> None:
        if forecast["vital"] != "abp_mean":
            return
        self.courses += 1
        if self.courses <= 2:
            last = {name: forecast[name][-1] for name in ("minutes", "low", "mid", "high")}
            self.tell(
                f"{forecast['bed']}: mean pressure in {last['minutes']} min {last['mid']:.0f} mmHg, "
                f"{last['low']:.0f} to {last['high']:.0f} likely"
            )

    def _on_alert(self, alert: dict[str, Any]) -> None:
        if alert["code"] == "thresholds-down":
            self._on_unwatched(alert)
        elif alert["active"] and alert["id"] not in self.alerts:
            self.alerts.add(alert["id"])
            value = "" if alert["value"] is None else f": {alert['value']:g} {alert['unit'] or ''}".rstrip()
            self.tell(f"{alert['bed']}: threshold alert ({alert['priority']}): {alert['text']}{value}")

    def _on_unwatched(self, alert: dict[str, Any]) -> None:
        harm = self.harms["thresholds"]
        if alert["active"] and harm.at is not None and harm.told_s is None:
            harm.told_s = harm.since()
            self.tell(f"every bed says that its limits are not watched, {harm.told_s:.2f} s after the kill")
        elif not alert["active"] and harm.told_s is not None and harm.over_s is None:
            harm.over_s = harm.since()
            self.tell(f"threshold checks run again {harm.over_s:.2f} s after the kill")

    def _on_advisory(self, advisory: dict[str, Any]) -> None:
        what = "raised" if advisory["active"] else "cleared"
        self.tell(f"{advisory['bed']}: advisory {what} ({advisory['priority']}): {advisory['text']}")

    def _on_process(self, process: dict[str, Any]) -> None:
        name, harm = process["name"], self.harms["assess"]
        if process["what"] != "back":
            self.pids.pop(name, None)
            self.tell(f"process {name}: {process['what']} ({process['how']})")
            return
        self.pids[name] = process["pid"]
        self.tell(f"process {name}: runs ({process['pid']})")
        if name == "assess" and harm.at is not None and harm.over_s is None:
            harm.over_s = harm.since()

    # --- the end

    def checks(self, bundles: int, *, simulated: bool, timed: bool) -> dict[str, bool]:
        """What was to happen, and whether it did."""
        thresholds, engine, assess = (self.harms[name] for name in ("thresholds", "engine", "assess"))
        checks = {
            f"{bundles} bundles installed through the signed repository": len(self.installed) == bundles,
            "beats accepted": self.accepted > 0,
            "vital signs of every bed": len(self.beds) > 1,
            "threshold alerts raised": bool(self.alerts),
        }
        checks |= {f"{_TASKS.get(task, task)}: scores accepted": count > 0 for task, count in self.scores.items()}
        if simulated and timed:
            checks["leads off: noticed, mode NO AI"] = self.lead_off
        if timed or thresholds.at is not None:
            both = thresholds.told_s is not None and thresholds.over_s is not None
            checks["threshold checks killed: told, and running again"] = both
        if timed or engine.at is not None:
            checks["ECG engine killed: windows accepted again"] = engine.over_s is not None
        if timed or assess.at is not None:
            checks["assessment killed: every bed drops to threshold only"] = assess.told_s is not None
            checks["assessment killed: running again"] = assess.over_s is not None
        return checks
