"""A scripted ward: plausible beds in the message shapes of docs/messages.md, to look at pages and to load them.

Nothing here measures or judges: alerts, NEWS2 and scores are written down with the patients, so that every mark of the
pages is there at once. Everything is marked simulated. One seed gives one ward.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

from edgeward.testing.ward_patients import SCENES, STABLE, Patient

if TYPE_CHECKING:
    from collections.abc import Callable

Message = tuple[str, dict[str, Any]]

SCORE_EVERY_S = 15
SCORE_TTL_MS = 45_000
NEWS2_EVERY_S = 60
BED_EVERY_S = 5
TASKS = (
    {"task": "sepsis", "bundle": "sepsis-risk", "version": "1.2.0", "hash8": "3fa94c1e"},
    {"task": "hypotension", "bundle": "vitals-forecast", "version": "0.9.1", "hash8": "b07d51aa"},
)
_UNITS = {"hr": "/min", "spo2": "%", "rr": "/min", "abp_mean": "mm[Hg]", "temp": "Cel"}
_NOISE = {"hr": 1.2, "spo2": 0.4, "rr": 0.7, "abp_sys": 1.5, "abp_dia": 1.0, "etco2": 0.6, "cvp": 0.4}
_AT_ONCE, _PAUSE_S = 500, 0.15
_STEP_S = 0.1
_SELDOM = ("nibp_sys", "nibp_dia", "nibp_mean", "temp")


class ScriptedWard:
    """Says what a ward's device would, second by second.

    ``scene``: one of SCENES; ``beds``: how many, or their names; further beds repeat the scene's patients.
    """

    def __init__(
        self, scene: str = "busy", beds: int | tuple[str, ...] = 12, *, ward: str = "Ward 7", seed: int = 7
    ) -> None:
        names = tuple(f"Bed {number + 1}" for number in range(beds)) if isinstance(beds, int) else beds
        patients = SCENES[scene]
        self.ward = ward
        self.beds = {name: patients[number % len(patients)] for number, name in enumerate(names)}
        self._random = random.Random(seed)
        self._seen: set[tuple[str, str]] = set()
        self._suspended_until_s = {name: patient.suspended_s for name, patient in self.beds.items()}
        self._second = -1

    def hello(self) -> dict[str, Any]:
        """Who the ward is."""
        beds = [
            {"bed": name, "population": patient.population, "ecg": "http://127.0.0.1:8600/" if number == 0 else None}
            for number, (name, patient) in enumerate(self.beds.items())
        ]
        return {"ward": self.ward, "beds": beds, "tasks": [dict(task) for task in TASKS], "simulated": True}

    def act(self, action: str, bed: str, stay: int, alert: str, minutes: int) -> bool:
        """What a page's person does; see ``edgeward.bedside.page.ward_screen.Act``."""
        if bed not in self.beds or stay != self._stay(bed):
            return False
        if action == "acknowledge":
            self._seen.add((bed, alert))
        else:
            self._suspended_until_s[bed] = self._second + minutes * 60.0
        return True

    def history(self, minutes: int) -> list[Message]:
        """The minutes before now: vital signs and scores, oldest first, on their way from an hour ago to now."""
        said: list[Message] = [self._bed(name, 0.0) for name in self.beds]
        for minute in range(minutes, 0, -1):
            for name, patient in self.beds.items():
                gap = patient is STABLE and 20 <= minute < 26
                if not patient.empty and not gap and minute * 60 > (patient.silent_s or 0):
                    said.append(self._vitals(name, -minute * 60.0, minute * 60_000))
                    said += [
                        m for m in self._scores(name, -minute * 60.0, minute * 60_000) if m[1]["outcome"] == "accepted"
                    ]
        return said

    def step(self, at_s: float) -> list[Message]:
        """Everything that is said up to ``at_s``, which only grows; each whole second once."""
        said: list[Message] = []
        while self._second < int(at_s):
            self._second += 1
            for number, name in enumerate(self.beds):
                said += self._second_of(number, name, self._second)
            said.append(("latency", {"stages": []}))
        return said

    def _second_of(self, number: int, name: str, second: int) -> list[Message]:
        patient = self.beds[name]
        said: list[Message] = []
        if second == 0 or (second + number) % BED_EVERY_S == 0:
            said.append(self._bed(name, second))
            said += self._modes(name, second)
        if patient.empty:
            return said
        if patient.silent_s is None:
            said.append(self._vitals(name, second, 0))
        if second == 0 or (second + number * 7) % NEWS2_EVERY_S == 0:
            said.append(self._news2(name))
            said += self._labs(name, second)
        if second == 0 or (second + number) % SCORE_EVERY_S == 0:
            said += self._scores(name, second, 0) + self._forecast(name, second)
        said += self._alerts(name, second)
        return said

    def _stay(self, name: str) -> int:
        return list(self.beds).index(name) + 100

    def _of(self, name: str, **fields: Any) -> dict[str, Any]:
        return {"bed": name, "stay": self._stay(name), **fields}

    def _bed(self, name: str, at_s: float) -> Message:
        patient = self.beds[name]
        if patient.empty:
            return "bed", {"bed": name, "stay": None, "state": "empty", "population": "adult", "sources": []}
        left_s = max(0.0, self._suspended_until_s[name] - at_s)
        silent_ms = 300.0 if patient.silent_s is None else (patient.silent_s + at_s) * 1000
        return "bed", self._of(
            name, state="occupied", population=patient.population, since_ms=9e6, sources=["hl7"], silent_ms=silent_ms,
            simulated=True, suspended_ms_left=left_s * 1000,
            limits={"hr": [50, 120], "spo2": [90, None], "rr": [8, 30], "abp_mean": [65, 110], "temp": [36, 39]},
        )  # fmt: skip

    def _value(self, patient: Patient, kind: str, at_s: float) -> float:
        share = max(0.0, min(1.0, 1 + at_s / 3600.0)) ** 2
        before = patient.hour_ago.get(kind, patient.now[kind])
        value = before + (patient.now[kind] - before) * share + self._random.gauss(0, _NOISE.get(kind, 0.0))
        return round(min(value, 100.0) if kind == "spo2" else value, 1)

    def _vitals(self, name: str, at_s: float, age_ms: float) -> Message:
        patient = self.beds[name]
        values: dict[str, dict[str, Any]] = {}
        for kind in patient.now:
            if kind in _SELDOM:
                if int(at_s) % 900 == 0:
                    values[kind] = {"v": self._value(patient, kind, at_s), "age_ms": age_ms, "state": "ok"}
            else:
                values[kind] = {"v": self._value(patient, kind, at_s), "age_ms": age_ms, "state": "ok"}
        for kind in patient.unmeasured:
            values[kind] = {"v": None, "age_ms": age_ms, "state": "unmeasured"}
        if {"abp_sys", "abp_dia"} <= values.keys():
            mean = (values["abp_sys"]["v"] + 2 * values["abp_dia"]["v"]) / 3
            values["abp_mean"] = {"v": round(mean, 1), "age_ms": age_ms, "state": "ok"}
        return "vitals", self._of(name, values=values)

    def _labs(self, name: str, second: int) -> list[Message]:
        patient = self.beds[name]
        values = {kind: {"v": v, "age_ms": 5.4e6 + second * 1000, "state": "ok"} for kind, v in patient.labs.items()}
        return [("vitals", self._of(name, values=values))] if values else []

    def _alerts(self, name: str, second: int) -> list[Message]:
        patient, said = self.beds[name], []
        for number, alert in enumerate(patient.alerts):
            seen = (name, f"a{number}") in self._seen
            if second % 10 and not seen:
                continue
            value = patient.now.get(alert.kind)
            fields = self._of(
                name, id=f"a{number}", code=alert.code, text=alert.text, priority=alert.priority, cause=alert.cause,
                active=alert.active, latched=alert.latched and not seen, acknowledged=seen,
                raised_ms_ago=(alert.raised_s + second) * 1000, value=value, limit=alert.limit,
                unit=_UNITS.get(alert.kind),
            )  # fmt: skip
            said.append(("alert", fields))
        return said

    def _news2(self, name: str) -> Message:
        patient = self.beds[name]
        items = patient.news2
        score = sum(items.values()) if items else None
        single = any(points == 3 for points in items.values())
        risk = "high" if score is not None and score >= 7 else "medium" if score is not None and score >= 5 else "low"
        risk_class = None if score is None else "low-medium" if risk == "low" and single else risk
        return "news2", self._of(
            name, score=score, complete=not patient.missing, missing=list(patient.missing), items=dict(items),
            risk=risk_class, scale=1, applies=patient.population == "adult",
        )  # fmt: skip

    def _scores(self, name: str, at_s: float, age_ms: float) -> list[Message]:
        patient = self.beds[name]
        share = max(0.0, min(1.0, 1 + at_s / 3600.0))
        risk = patient.risk_before + (patient.risk - patient.risk_before) * share**2
        risk = max(0.002, risk + self._random.gauss(0, 0.006))
        rung, reason = patient.mode
        accepted = patient.served()
        drivers = [
            {"feature": label.lower(), "label": label, "value": value, "unit": unit, "effect": effect}
            for label, value, unit, effect in patient.drivers
        ]
        outcome = "accepted" if accepted else "withheld" if rung in ("NO_AI", "NOT_ASKED") else "fallback"
        return [
            ("score", self._of(
                name, task="sepsis", outcome=outcome, why="" if accepted else reason,
                probability=round(risk, 4) if accepted else None, level=patient.level if accepted else "none",
                drivers=drivers if accepted else [], missing_share=0.12, stale_share=0.05,
                age_ms=age_ms, ttl_ms=SCORE_TTL_MS, rung=rung, version="1.2.0",
            )),
        ]  # fmt: skip

    def _forecast(self, name: str, second: int) -> list[Message]:
        patient = self.beds[name]
        if second % NEWS2_EVERY_S >= SCORE_EVERY_S or "abp_mean" not in patient.now or not patient.served():
            return []
        mean, minutes = patient.now["abp_mean"], list(range(5, 61, 5))
        slope = (mean - patient.hour_ago.get("abp_mean", mean)) / 60.0 * 0.5
        mid = [round(mean + slope * minute, 1) for minute in minutes]
        fan = {"low": [m - 2 - 0.16 * t for m, t in zip(mid, minutes, strict=True)], "mid": mid}
        fan["high"] = [round(m + 2 + 0.13 * t, 1) for m, t in zip(mid, minutes, strict=True)]
        return [
            ("forecast", self._of(
                name, vital="abp_mean", minutes=minutes, **fan, probability=patient.pressure_risk, outcome="accepted",
                why="", age_ms=0, ttl_ms=180_000, rung=patient.mode[0], version="0.9.1",
            )),
        ]  # fmt: skip

    def _modes(self, name: str, second: int) -> list[Message]:
        patient = self.beds[name]
        if patient.empty:
            return []
        mode, reason = patient.mode
        since_ms = (754 + second) * 1000
        return [
            ("mode", self._of(name, task=task["task"], mode=mode, reason=reason, since_ms=since_ms)) for task in TASKS
        ]


class Player:
    """Plays a scripted ward in real time into ``publish`` until it is left; ``minutes`` of its history come first."""

    def __init__(self, ward: ScriptedWard, publish: Callable[[str, dict[str, Any]], None], *, minutes: int = 0) -> None:
        self._ward, self._publish, self._minutes = ward, publish, minutes
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._play, name="scripted ward", daemon=True)

    def __enter__(self) -> Player:
        for number, (kind, data) in enumerate(self._ward.history(self._minutes)):
            self._publish(kind, data)
            if number % _AT_ONCE == _AT_ONCE - 1:
                time.sleep(_PAUSE_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _play(self) -> None:
        started_s = time.monotonic()
        while not self._left.is_set():
            for kind, data in self._ward.step(time.monotonic() - started_s):
                self._publish(kind, data)
            self._left.wait(_STEP_S)
