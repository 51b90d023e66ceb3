"""Jinja2 with everything escaped, and the few filters that the pages share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgeward.exchange.enrol import grouped
from edgeward.fleet import words
from edgeward.fleet.accounts import Permission
from edgeward.fleet.api.guard import fleet_of
from edgeward.fleet.conduct.look import evidence_of
from edgeward.fleet.rollout.plan_text import share_text, time_text
from edgeward.kernel.week import DAYS

if TYPE_CHECKING:
    from fastapi import Request

    from edgeward.fleet.accounts import Caller
    from edgeward.fleet.rollout.hours import Hours
    from edgeward.fleet.rollout.plan import Pick
    from edgeward.fleet.rollout.state import Counts

_FOLDER = Path(__file__).parent
BAR_WIDTH = 1_000
"""Units of a bar; the page stretches it."""
_ERRORS = ("silent", "failed", "rolled_back", "unproven")
_PARTS = ("committed", "working", *_ERRORS, "waiting", "withdrawn", "ended", "offline", "already")


def ago(then_s: int | None, now_s: int) -> str:
    """How long ago, in the largest fitting unit."""
    if not then_s:
        return "never"
    gone_s = max(0, now_s - then_s)
    for name, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if gone_s >= 2 * seconds:
            return f"{gone_s // seconds} {name} ago"
    return f"{gone_s} s ago"


def clock(then_s: int | None) -> str:
    """Date and time, UTC."""
    return f"{datetime.fromtimestamp(then_s, UTC):%Y-%m-%d %H:%M} UTC" if then_s else "never"


def days_of(hours: Hours) -> str:
    """The days on which they are open, by name."""
    return "every day" if len(hours.days) == len(DAYS) else ", ".join(DAYS[day] for day in hours.days)


def pick_words(pick: Pick) -> str:
    """Which devices a stage takes."""
    limits = []
    if pick.count is not None:
        limits.append("at most 1 device" if pick.count == 1 else f"at most {pick.count} devices")
    if pick.share is not None:
        limits.append(f"until {share_text(pick.share)} of all are chosen")
    kinds = [f"of group {pick.group}"] if pick.group is not None else []
    kinds += [f"with the tag {pick.tag}"] if pick.tag is not None else []
    if pick.is_rest:
        return "all that remain"
    return " ".join([" and ".join(limits) or "all devices", *kinds])


def bar(counts: Counts) -> list[tuple[str, int, int, int]]:
    """The parts of a stage's bar: name, start, width (of ``BAR_WIDTH``) and devices; none for an empty stage."""
    shown, start, seen = [], 0, 0
    for name in _PARTS:
        number = getattr(counts, name)
        seen += number
        end = BAR_WIDTH * seen // counts.total if counts.total else 0
        if number:
            shown.append((name.replace("_", "-"), start, end - start, number))
        start = end
    return shown


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": clock,
        "grouped": grouped,
        "share": share_text,
        "span": time_text,
        "bar": bar,
        **{name: getattr(words, f"{name}_words") for name in ("status", "cause", "standing", "state", "rung", "why")},
    }
    made.globals |= {
        "ago": ago,
        "BAR_WIDTH": BAR_WIDTH,
        "days_of": days_of,
        "evidence_of": evidence_of,
        "pick_words": pick_words,
    }
    return made


_PAGES = _environment()


def fragment(name: str, **context: Any) -> str:
    """A part of a page as HTML."""
    return _PAGES.get_template(name).render(**context)


def page(
    request: Request, name: str, *, caller: Caller | None = None, status: int = 200, **context: Any
) -> HTMLResponse:
    """A whole page."""
    fleet = fleet_of(request)
    context |= {
        "user": caller,
        "may_operate": caller is not None and caller.may(Permission.OPERATE),
        "may_approve": caller is not None and caller.may(Permission.APPROVE),
        "may_audit": caller is not None and caller.may(Permission.AUDIT),
        "site": fleet.settings.name,
        "path": request.url.path,
        "now_s": fleet.now_s(),
    }
    return HTMLResponse(fragment(name, **context), status_code=status)
