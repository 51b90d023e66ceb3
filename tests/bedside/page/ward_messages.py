"""Messages of a small ward, for the tests of its pages: each with what it needs and nothing else."""

from __future__ import annotations

from typing import Any

BEDS = ("Bed 1", "Bed 2", "Bed 3")
STAY = {name: number + 11 for number, name in enumerate(BEDS)}


def hello(*beds: str, **more: Any) -> dict[str, Any]:
    """Who the ward is; without beds, the three of this module."""
    listed = [{"bed": name, "population": "adult", "ecg": None} for name in beds or BEDS]
    tasks = [{"task": "sepsis", "bundle": "sepsis-risk", "version": "1.0.0", "hash8": "3fa94c1e"}]
    return {"ward": "Ward 7", "beds": listed, "tasks": tasks, "simulated": False, **more}


def of(name: str, **fields: Any) -> dict[str, Any]:
    """A message's fields with bed and stay."""
    return {"bed": name, "stay": STAY.get(name, 99), **fields}


def bed(name: str, **fields: Any) -> dict[str, Any]:
    """An occupied bed that was measured just now."""
    usual = {"state": "occupied", "population": "adult", "since_ms": 60_000, "sources": ["hl7"], "silent_ms": 200}
    return of(name, **{**usual, "simulated": False, "suspended_ms_left": 0, **fields})


def vitals(name: str, age_ms: float = 0, **values: float | None) -> dict[str, Any]:
    """Values by kind; None: not measured."""
    said = {
        kind: {"v": v, "age_ms": age_ms, "state": "ok" if v is not None else "unmeasured"} for kind, v in values.items()
    }
    return of(name, values=said)


def alert(name: str, key: str = "a", priority: str = "high", **fields: Any) -> dict[str, Any]:
    """An active physiological alert that nobody has seen."""
    usual = {"code": "spo2-low", "text": "SpO2 low", "cause": "physiological", "active": True, "latched": False}
    usual |= {"acknowledged": False, "raised_ms_ago": 5_000, "value": 86, "limit": 90, "unit": "%"}
    return of(name, id=key, priority=priority, **{**usual, **fields})


def score(name: str, probability: float | None = 0.31, level: str = "watch", **fields: Any) -> dict[str, Any]:
    """An accepted score of the sepsis task, with one driver."""
    driver = {"feature": "rr", "label": "Respiration", "value": 27, "unit": "/min", "effect": 0.7}
    usual = {"task": "sepsis", "outcome": "accepted", "why": "", "drivers": [driver], "missing_share": 0.1}
    usual |= {"stale_share": 0.0, "age_ms": 0, "ttl_ms": 45_000, "rung": "LOCAL", "version": "1.0.0"}
    return of(name, probability=probability, level=level, **{**usual, **fields})


def news2(name: str, total: int | None, risk: str | None = "low", **fields: Any) -> dict[str, Any]:
    """A NEWS2 whose points all stand at respiration."""
    usual = {"complete": True, "missing": [], "items": {"respiration": total or 0}, "scale": 1, "applies": True}
    return of(name, score=total, risk=risk, **{**usual, **fields})


def mode(name: str, rung: str = "LOCAL", reason: str = "", **fields: Any) -> dict[str, Any]:
    """The mode of the sepsis task."""
    return of(name, task="sepsis", mode=rung, reason=reason, **{"since_ms": 90_000, **fields})


def outbox(destinations: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """Nothing waits at one destination that takes everything."""
    one = {"destination": "hl7", "sent": 3, "refused": 0, "failures": 0, "code": ""}
    usual = {"waiting": 0, "oldest_ms": 0, "unsaved": 0, "fault": "", "expired": 0, "dropped": 0}
    usual |= {"unidentified": 0, "failed": 0, "destinations": [one] if destinations is None else destinations}
    return {**usual, **more}


def serving(**more: Any) -> dict[str, Any]:
    """Which bundle of the sepsis task is in charge; nothing runs beside it."""
    usual = {"task": "sepsis", "turn": 0, "version": "1.0.0", "sha256": "a" * 64, "scores": 3, "failures": 0}
    return {**usual, "served": True, "down": False, "since_ms": None, "safe": True, "shadow": None, **more}
