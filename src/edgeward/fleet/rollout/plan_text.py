"""A plan as people write it (TOML or JSON): shares as "5 %", times as "90 min", days by name. Pure.

::

    silent = "60 min"
    soak = "1 h"
    [[stage]]
    name = "canary"
    count = 10
    share = "10 %"
    success = "100 %"
    errors = "0 %"
    [[stage]]
    name = "the rest"
    [[hours]]
    days = ["Fri", "Sat"]
    from = "22:00"
    to = "04:00"

What is left out has the default of ``Plan``; an unknown word is an error that names the known ones.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from edgeward.exchange.typed import encode
from edgeward.fleet.rollout.hours import Hours
from edgeward.fleet.rollout.plan import WHOLE, CatchUp, Gate, Pick, Plan, Stage
from edgeward.kernel.errors import InputError, RolloutError
from edgeward.kernel.week import DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[Any, str], Any]

_UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_TIME = re.compile(r"(\d{1,7}) ?(s|min|h|d)")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?) ?%")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def read_plan(text: Mapping[str, Any]) -> Plan:
    """The plan that ``text`` (parsed TOML or JSON) says. ``RolloutError``: ``plan-text``, and as ``Plan.check``."""
    taken = _taken(text, _PLAN, "the plan")
    taken = {_FIELDS.get(name, name): value for name, value in taken.items()}
    plan = Plan(**taken)
    try:
        encode(plan)  # every figure lies within its range
    except InputError as error:
        raise RolloutError("plan-text", str(error).partition(";")[0]) from error
    plan.check()
    return plan


def plan_text(plan: Plan) -> dict[str, Any]:
    """``plan`` so that ``read_plan`` gives it back."""
    text: dict[str, Any] = {
        "silent": time_text(plan.silent_s),
        "shadow": time_text(plan.shadow_s),
        "shadow_windows": plan.shadow_windows,
        "disagree": share_text(plan.disagree),
        "soak": time_text(plan.soak_s),
        "gap": time_text(plan.gap_s),
        "stage_time": time_text(plan.stage_s),
        "attempts": plan.attempts,
        "rate_kib_s": plan.rate_kib_s,
        "zone": plan.zone,
        "stage": [_stage_text(stage) for stage in plan.stages],
        "catch_up": {
            "at_once": plan.catch_up.at_once,
            "errors": share_text(plan.catch_up.errors),
            "errors_max": plan.catch_up.errors_max,
        },
    }
    if plan.group is not None:
        text["group"] = plan.group
    if plan.hours:
        text["hours"] = [
            {"days": [DAYS[day] for day in one.days], "from": _clock(one.start), "to": _clock(one.end)}
            for one in plan.hours
        ]
    return text


def share_text(millionths: int) -> str:
    """``50000`` → ``5 %``."""
    return f"{(Decimal(millionths) / 10_000).normalize():f} %"


def time_text(seconds: int) -> str:
    """``5400`` → ``90 min``: the largest unit that gives a whole number."""
    unit = next((name for name in ("d", "h", "min") if seconds and seconds % _UNITS[name] == 0), "s")
    return f"{seconds // _UNITS[unit]} {unit}"


def _stage_text(stage: Stage) -> dict[str, Any]:
    pick, gate = stage.pick, stage.gate
    text: dict[str, Any] = {"name": stage.name}
    if pick.share is not None:
        text["share"] = share_text(pick.share)
    text |= {name: value for name in ("count", "group", "tag") if (value := getattr(pick, name)) is not None}
    text |= {"success": share_text(gate.success), "errors": share_text(gate.errors)}
    return text if gate.errors_max is None else {**text, "errors_max": gate.errors_max}


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _taken(text: Any, known: Mapping[str, Reader], where: str) -> dict[str, Any]:
    if not hasattr(text, "items"):
        raise _wrong(where, "it is not a table")
    unknown = sorted(str(name) for name in text if name not in known)
    if unknown:
        raise _wrong(where, f"{unknown[0]!r} is not one of {', '.join(known)}")
    return {name: known[name](value, f"{name} of {where}") for name, value in text.items()}


def _wrong(where: str, why: str) -> RolloutError:
    return RolloutError("plan-text", f"{where} cannot be taken: {why}; correct the plan")


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(where, "it is not a whole number")
    return value


def _words(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "it is not a text")
    return value


def _share(value: Any, where: str) -> int:
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(where, 'it is not a share such as "5 %" or "0.5 %"')
    return int(Decimal(found[1]) * (WHOLE // 100))


def _time(value: Any, where: str) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(where, 'it is not a time such as "90 min" (s, min, h or d)')
    return int(found[1]) * _UNITS[found[2]]


def _minute(value: Any, where: str) -> int:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong(where, 'it is not a time of day such as "22:00"')
    return int(found[1]) * 60 + int(found[2])


def _day_numbers(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value or any(day not in DAYS for day in value):
        raise _wrong(where, f"it is not a list of {', '.join(DAYS)}")
    return tuple(sorted({DAYS.index(day) for day in value}))


def _many(read: Reader) -> Reader:
    def items(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _wrong(where, "it is not a list")
        return tuple(read(item, f"{where}, number {number}") for number, item in enumerate(value, 1))

    return items


def _stage(value: Any, where: str) -> Stage:
    taken = _taken(value, _STAGE, where)
    if "name" not in taken:
        raise _wrong(where, "it has no name")
    pick = Pick(**{name: taken[name] for name in ("count", "share", "group", "tag") if name in taken})
    gate = Gate(**{name: taken[name] for name in ("success", "errors", "errors_max") if name in taken})
    return Stage(taken["name"], pick, gate)


def _hours(value: Any, where: str) -> Hours:
    taken = _taken(value, {"days": _day_numbers, "from": _minute, "to": _minute}, where)
    if "from" not in taken or "to" not in taken:
        raise _wrong(where, "it needs from and to")
    return Hours(taken.get("days", tuple(range(7))), taken["from"], taken["to"])


def _catch_up(value: Any, where: str) -> CatchUp:
    return CatchUp(**_taken(value, {"at_once": _whole, "errors": _share, "errors_max": _whole}, where))


_STAGE: dict[str, Reader] = {
    "name": _words,
    "count": _whole,
    "share": _share,
    "group": _words,
    "tag": _words,
    "success": _share,
    "errors": _share,
    "errors_max": _whole,
}
_PLAN: dict[str, Reader] = {
    "group": _words,
    "silent": _time,
    "shadow": _time,
    "shadow_windows": _whole,
    "disagree": _share,
    "soak": _time,
    "gap": _time,
    "stage_time": _time,
    "attempts": _whole,
    "rate_kib_s": _whole,
    "zone": _words,
    "stage": _many(_stage),
    "hours": _many(_hours),
    "catch_up": _catch_up,
}
_FIELDS = {
    "silent": "silent_s",
    "shadow": "shadow_s",
    "soak": "soak_s",
    "gap": "gap_s",
    "stage_time": "stage_s",
    "stage": "stages",
    "hours": "hours",
}
