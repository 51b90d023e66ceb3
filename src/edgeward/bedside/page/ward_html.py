"""The ward's page: one tile per bed, each made of a few pieces that change on their own."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.bundles import BUNDLES_TTL_MS
from edgeward.bedside.page.html import MARKS
from edgeward.bedside.page.need import Need, is_silent
from edgeward.bedside.page.outbox import OUTBOX_TTL_MS
from edgeward.bedside.page.pieces import (
    LEVEL_WORDS,
    Cell,
    cell,
    live_modes,
    mode_badge,
    news2_chip,
    open_notes,
    refused_words,
    score_line,
    simulated,
)
from edgeward.bedside.page.stay import NOT_ASKED, SERVING
from edgeward.bedside.page.vitals import TILE, marks_of, shown_first
from edgeward.bedside.page.words import mode_title, outbox_words, reason_words, task_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bedside.page.bundles import BundlesSaid
    from edgeward.bedside.page.outbox import OutboxSaid
    from edgeward.bedside.page.pieces import Moment
    from edgeward.bedside.page.stay import Stay
    from edgeward.bedside.page.ward import Bed, WardState

NAME_SHORT, NAME_LONG = 14, 34
"""A bed's longer name is written smaller, in two or three lines: its end often tells beds apart."""
_COUNTED = (
    ("high", "!!!", "high", (Need.HIGH, Need.HIGH_SEEN, Need.TECHNICAL_HIGH)),
    ("medium", "!!", "medium", (Need.MEDIUM, Need.MEDIUM_SEEN)),
    ("low", "!", "low", (Need.LOW, Need.LOW_SEEN)),
    ("latched", "…", "over, not seen", (Need.LATCHED_HIGH, Need.LATCHED_MEDIUM, Need.LATCHED_LOW)),
    ("act", "◆", "act", (Need.ACT,)),
    ("watch", "◇", "watch", (Need.WATCH,)),
    ("news2", "", "NEWS2", (Need.NEWS2_HIGH, Need.NEWS2_MEDIUM, Need.NEWS2_SINGLE)),
    ("technical", "", "no data, technical", (Need.NO_DATA, Need.TECHNICAL_MEDIUM, Need.TECHNICAL_LOW)),
    ("suspended", "", "suspended", (Need.SUSPENDED,)),
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A bed's tile: pieces by name, vital signs by place, and the attributes that its looks hang on."""

    pieces: Mapping[str, str]
    cells: Mapping[str, Cell]
    attributes: Mapping[str, str]


def tile(bed: Bed, stay: Stay | None, need: Need, tasks: Sequence[Mapping[str, Any]], moment: Moment) -> Tile:
    """The tile of a bed now."""
    number = bed.index
    empty = need is Need.EMPTY
    marks = {} if stay is None or bed.suspended(moment.now_ms) else marks_of(stay.alerts)
    vitals = stay.vitals if stay else {}
    shown = [shown_first(names, vitals, marks, moment.now_ms) for names in TILE]
    return Tile(
        {
            f"b{number}-tags": "" if empty else _tags(bed, stay, moment),
            f"b{number}-claim": _claim(bed, stay, moment),
            f"b{number}-score": "" if empty or stay is None else _model(stay, tasks, moment),
        },
        {f"b{number}-{names[0]}": cell(what, moment) for names, what in zip(TILE, shown, strict=True)},
        {
            "data-need": need.name.lower().replace("_", "-"),
            "data-until": "" if bed.told_ms is None else f"{bed.until_ms:.0f}",
        },
    )


def _tags(bed: Bed, stay: Stay | None, moment: Moment) -> str:
    population = "" if bed.population in ("", "adult") else f'<span class="who">{escape(bed.population)}</span>'
    return simulated(bed) + population + news2_chip(stay, moment)


def _claim(bed: Bed, stay: Stay | None, moment: Moment) -> str:
    """The one line that says why somebody should come; what else is open is counted."""
    if bed.told_ms is None:
        return '<span class="claim" data-kind="none">no word from the device yet</span>'
    if not bed.occupied() and stay is None:
        return '<span class="claim" data-kind="none">empty</span>'
    lines = _suspension(bed, moment) or _alerts(stay, moment)
    if is_silent(bed, moment.now_ms):
        since = "" if bed.silent_since_ms is None else f" for {moment.age(bed.silent_since_ms)}"
        lines.insert(0, f'<span class="claim" data-kind="silent"><span class="text">NO DATA{since}</span></span>')
    lines += _advisories(stay)
    return lines[0] if lines else '<span class="claim" data-kind="none"></span>'


def _suspension(bed: Bed, moment: Moment) -> list[str]:
    if not bed.suspended(moment.now_ms):
        return []
    text = (
        f'<span class="text">ALERTS SUSPENDED</span><span class="age">{moment.left(bed.suspended_until_ms)} left</span>'
    )
    return [f'<span class="claim" data-kind="suspended">{text}</span>']


def _alerts(stay: Stay | None, moment: Moment) -> list[str]:
    notes = open_notes(stay.alerts.ranked()) if stay else []
    if not notes:
        return []
    first = sorted(notes, key=_rank)[0]
    more = f'<span class="more">+{len(notes) - 1}</span>' if len(notes) > 1 else ""
    kind = "latched" if not first["active"] else "seen" if first["acknowledged"] else "alert"
    if first["cause"] != "physiological" and (kind != "alert" or first["priority"] != "high"):
        kind = "technical"
    over = {"latched": "over, not seen: ", "seen": "✓ "}.get(kind, "")
    said = (
        f'<span class="mark">{MARKS[first["priority"]]}</span>'
        f'<span class="text">{over}{escape(str(first["text"]))}</span>{more}'
        f'<span class="age">{moment.age(first["t_ms"] - first["raised_ms_ago"])}</span>'
    )
    return [f'<span class="claim" data-kind="{kind}" data-priority="{first["priority"]}">{said}</span>']


def _rank(note: Mapping[str, Any]) -> tuple[bool, bool, int, bool]:
    """Physiological before technical (but for a high one), holding before over, by priority, unseen before seen."""
    priority = list(MARKS).index(note["priority"])
    technical = note["cause"] != "physiological" and (priority > 0 or bool(note["acknowledged"]))
    return (technical, not note["active"], priority, bool(note["acknowledged"]))


def _advisories(stay: Stay | None) -> list[str]:
    return [
        f'<span class="claim" data-kind="advisory"><span class="mark">◆</span>'
        f'<span class="text">{escape(str(note["text"]))}</span></span>'
        for note in (stay.advisories.ranked() if stay else ())
        if note["active"]
    ]


def _model(stay: Stay, tasks: Sequence[Mapping[str, Any]], moment: Moment) -> str:
    """What serves the bed and the score that matters most; where nothing serves it, why."""
    badge = mode_badge(live_modes(stay, moment.now_ms), tasks)
    levels = list(LEVEL_WORDS)

    def weight(task: str) -> tuple[bool, int]:
        live = stay.live_score(task, moment.now_ms)
        level = live["level"] if live else "none"
        return (live is None, levels.index(level) if level in levels else len(levels))

    scored = sorted(stay.scores, key=weight)
    served = [task for task in scored if stay.modes.get(task, {}).get("mode", SERVING[0]) in SERVING]
    return badge + (score_line(served[0], stay, moment) if served else "")


def summary(needs: Mapping[str, Need]) -> str:
    """How many beds need what, in the order of need."""
    parts = []
    for name, mark, words, members in _COUNTED:
        count = sum(need in members for need in needs.values())
        if count:
            sign = f'<span class="mark">{mark}</span> ' if mark else ""
            parts.append(f'<li data-need="{name}">{sign}<b>{count}</b> {words}</li>')
    quiet = sum(need is Need.QUIET for need in needs.values())
    empty = sum(need is Need.EMPTY for need in needs.values())
    parts.append(f'<li data-need="quiet"><b>{quiet}</b> quiet</li>')
    if empty:
        parts.append(f'<li data-need="empty"><b>{empty}</b> empty</li>')
    return f"<ul>{''.join(parts)}</ul>"


def ward_mode(state: WardState, moment: Moment) -> str:
    """The AI of the whole ward in one line: how many beds have less than they should, and how many it is not for."""
    stays = [stay for bed in state.beds if (stay := state.stay_of(bed)) is not None]
    modes = [next(iter(live_modes(stay, moment.now_ms)), None) for stay in stays]
    asked = [mode for mode in modes if mode is None or mode["mode"] != NOT_ASKED]
    lesser = [mode for mode in asked if mode is None or mode["mode"] != "LOCAL"]
    if not state.tasks:
        return '<span class="rung" data-mode="NO_AI">No AI installed — threshold alerts go on</span>'
    if not stays:
        return ""
    if not asked:
        return f'<span class="rung" data-mode="{NOT_ASKED}">AI not asked at {len(stays)} of {len(stays)} beds</span>'
    if not lesser:
        aside = f" · not asked at {len(stays) - len(asked)}" if len(asked) < len(stays) else ""
        return f'<span class="rung" data-mode="LOCAL">AI local{aside}</span>'
    told = [mode for mode in lesser if mode is not None]
    ways = {(mode["mode"], mode["reason"]) for mode in told}
    mode, reason = next(iter(ways), ("UNKNOWN", ""))
    title, why = "AI not local", ""
    if not told:
        title = "AI not heard of"
    elif len(ways) == 1:
        title, why = mode_title(mode), f" — {reason_words(reason)}" if reason else ""
    words = f"{title} at {len(lesser)} of {len(stays)} beds{why}"
    return f'<span class="rung" data-mode="{escape(mode if len(ways) == 1 else "UNKNOWN")}">{escape(words)}</span>'


def device(state: WardState, moment: Moment) -> str:
    """For those who look after the device: what is connected, down, in charge, waiting to leave, refused."""
    told = state.device
    said = [f"{escape(source)}: {len(peers)} connected" for source, peers in told.peers.items()]
    said += [f"<b>{escape(name)} {escape(what)}</b>" for name, what in told.down.items()]
    said += [
        _bundles(task, one, moment) for task, one in told.bundles.items() if moment.now_ms - one.t_ms <= BUNDLES_TTL_MS
    ]
    if told.outbox is not None:
        said.append(_outbox(told.outbox, moment))
    if told.refusal is not None:
        said.append(f"last refused: {refused_words(told.refusal, moment)}")
    return " · ".join(said)


def _bundles(task: str, told: BundlesSaid, moment: Moment) -> str:
    """Which version of a task's bundle is in charge, and which one runs beside it, shown to nobody."""
    since = "" if told.since_at_ms is None else f" for {moment.age(told.since_at_ms)}"
    said = f"{escape(task_words(task))} {escape(told.version)}{since}"
    if told.shadow:
        said += f", {escape(told.shadow)} in its shadow"
    return f"{said} does not run ({escape(told.code)})" if told.code else said


def _outbox(told: OutboxSaid, moment: Moment) -> str:
    """What leaves for the record, in a line; what needs somebody is bold."""
    if moment.now_ms - told.t_ms > OUTBOX_TTL_MS:
        return "<b>record: not heard of</b>"
    said = ["record: all sent"]
    if told.waiting:
        said = [f"record: {told.waiting} waiting for {moment.age(told.oldest_at_ms)}"]
    for one in told.destinations:
        if one.code:
            said.append(f"<b>{escape(one.name)}: {escape(outbox_words(one.code))}</b>")
        if one.refused:
            said.append(f"<b>{escape(one.name)}: {one.refused} refused</b>")
    if told.fault:
        said.append(f"<b>{escape(outbox_words(told.fault))}</b>")
    if told.lost:
        said.append(f"<b>{told.lost} lost</b>")
    if told.unidentified:
        said.append(f"{told.unidentified} without a patient’s number, not sent")
    return ", ".join(said)


def tile_html(bed: Bed, made: Tile) -> str:
    """A whole tile."""
    number = f"b{bed.index}"
    cells = "".join(f'<div class="slot" id="{name}">{one.html()}</div>' for name, one in made.cells.items())
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in made.attributes.items())
    size = "longer" if len(bed.name) > NAME_LONG else "long" if len(bed.name) > NAME_SHORT else ""
    long = f' class="long {size}"' if size else ""
    tags, claim, score = (made.pieces[f"{number}-{piece}"] for piece in ("tags", "claim", "score"))
    return (
        f'<li class="tile" id="{number}"{attributes}><div class="tile-in">'
        f'<h2{long}><a href="{escape(bed.path)}">{escape(bed.name)}</a></h2>'
        f'<p class="tags" id="{number}-tags">{tags}</p><p class="claim-line" id="{number}-claim">{claim}</p>'
        f'<div class="cells">{cells}</div><p class="score-line" id="{number}-score">{score}</p></div></li>'
    )


def columns(beds: int) -> int:
    """How many tiles stand side by side on a wall screen."""
    return max(1, ceil(sqrt(beds)))
