"""Pieces of HTML that the ward's pages share: ages, vital signs, modes, scores. Everything published is escaped.

The server alone makes HTML. A piece names instants, not ages (``data-at``, ``data-until``, ``data-left``: the server's
monotonic ms): a browser with scripts counts from them, so that a piece changes only when what it says does; for one
without, ``Moment`` writes the age at which the page was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import claims
from edgeward.bedside.page.html import MARKS
from edgeward.bedside.page.stay import NOT_ASKED, RENEWED, SERVING
from edgeward.bedside.page.vitals import NONE
from edgeward.bedside.page.words import age_words, mode_title, mode_words, reason_words, task_words, unit_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgeward.bedside.page.stay import Stay
    from edgeward.bedside.page.vitals import Shown
    from edgeward.bedside.page.ward import Bed

RUNGS = (NOT_ASKED, "LOCAL", "LOCAL_PREVIOUS", "CLOUD", "THRESHOLD_ONLY", "NO_AI")
"""The ladder, best first; a model that is not asked speaks for a bed only where no other is either."""
LEVEL_WORDS = {"act": "ACT", "watch": "WATCH", "none": ""}
"""Levels of a score; beside them stand a full and a hollow diamond, the marks of everything that a model says."""
SPARK_WIDE, SPARK_HIGH = 60, 16

_FEW = {"LOCAL_PREVIOUS": "AI previous"}


@dataclass(frozen=True, slots=True)
class Moment:
    """When a piece is made. ``spoken``: ages are written out, for browsers without scripts."""

    now_ms: float
    spoken: bool = False

    def age(self, at_ms: float, from_ms: int = 0) -> str:
        """How long ago ``at_ms`` was; nothing while that is less than ``from_ms``."""
        age_ms = self.now_ms - at_ms
        text = age_words(age_ms) if self.spoken and age_ms >= from_ms else ""
        start = f' data-from="{from_ms}"' if from_ms else ""
        return f'<time data-at="{at_ms:.0f}"{start}>{text}</time>'

    def left(self, until_ms: float) -> str:
        """How much time is left, in minutes and seconds."""
        text = _minutes(until_ms - self.now_ms) if self.spoken else ""
        return f'<time data-left="{until_ms:.0f}">{text}</time>'


@dataclass(frozen=True, slots=True)
class Cell:
    """A vital sign's piece: ``frame`` with the places of the number and its instant, which change far more often."""

    frame: str
    text: str
    at_ms: int | None

    def html(self) -> str:
        """The whole piece."""
        return self.frame.replace("\x01", self.text).replace("\x02", "" if self.at_ms is None else str(self.at_ms))


def cell(shown: Shown, moment: Moment, *, long: bool = False) -> Cell:
    """A vital sign: label, number or dashes, unit, its age where that matters. ``long``: and what was last known."""
    slot = shown.slot
    mark = f'<span class="mark">{MARKS[shown.mark]}</span>' if shown.mark else ""
    live = shown.state == "ok"
    when = ""
    if shown.at_ms is not None:
        start = f' data-from="{shown.age_from_ms}"' if live and shown.age_from_ms else ""
        old_ms = moment.now_ms - shown.at_ms
        said = moment.spoken and (not live or old_ms >= shown.age_from_ms)
        when = f'<time data-at="\x02"{start}>{age_words(old_ms) if said else ""}</time>'
    if shown.state == "unmeasured":
        when = "no reading"
    elif shown.state == "stale" and long and shown.last:
        when = f"last {escape(shown.last)}, {when} ago"
    elif shown.state == "none" and long:
        when = "never measured"
    frame = (
        f'<div class="cell" data-slot="{slot.name}" data-state="{shown.state}" data-priority="{shown.mark}"'
        f' data-keep="{shown.keep_ms}" data-at="\x02">'
        f'<span class="label"><abbr title="{escape(slot.long_label)}">{escape(slot.label)}</abbr>{mark}</span>'
        f'<span class="num">\x01</span><span class="dashes">{NONE}</span>'
        f'<small class="unit">{escape(slot.unit)}</small><small class="when">{when}</small></div>'
    )
    return Cell(frame, _split(shown.text), None if shown.at_ms is None else round(shown.at_ms))


def _split(text: str) -> str:
    """A pressure's mean may stand apart from the pair."""
    pair, bracket, mean = text.partition(" (")
    return f"{escape(pair)} <i>({escape(mean)}</i>" if bracket else escape(text)


def live_modes(stay: Stay | None, now_ms: float) -> list[Mapping[str, Any]]:
    """The modes of a stay's tasks that are still told, the lowest on the ladder first."""
    told = [mode for mode in (stay.modes.values() if stay else ()) if now_ms <= mode["until_ms"]]
    return sorted(told, key=_rung, reverse=True)


def mode_badge(modes: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> str:
    """The lowest rung that serves a bed, with the reason where it is not the first, and dashes where none is asked."""
    if not modes:
        return f'<span class="rung" data-mode="UNKNOWN">{"AI not heard of" if tasks else "No AI installed"}</span>'
    mode = modes[0]
    rung = mode["mode"]
    said = mode_title(rung) if rung == "LOCAL" else mode_words(rung, mode["reason"])
    differ = any(other["mode"] != rung for other in modes)
    whole, short = (f"{task_words(mode['task'], short=short)}: {said}" if differ else said for short in (False, True))
    few = short if rung not in SERVING else _FEW.get(rung, mode_title(rung))
    few = f"{NONE} {few}" if rung == NOT_ASKED else few
    until = f' data-until="{mode["until_ms"]:.0f}"' if rung in RENEWED else ""
    return f'<span class="rung" data-mode="{escape(rung)}"{until} title="{escape(whole)}">{escape(few)}</span>'


def news2_chip(stay: Stay | None, moment: Moment) -> str:
    """NEWS2 in a word: ``≥5`` where an item is missing, dashes where nothing is known or it is not told any more."""
    news2 = stay.news2 if stay else None
    if news2 is not None and not news2["applies"]:
        return ""
    if news2 is None or moment.now_ms > news2["until_ms"] or news2["score"] is None:
        return (
            f'<span class="news2" data-risk=""><abbr title="National Early Warning Score 2">NEWS2</abbr> {NONE}</span>'
        )
    complete = news2["complete"]
    least = "" if complete else "≥"
    missing = "" if complete else f", {len(news2['missing'])} items missing: at least"
    return (
        f'<span class="news2" data-risk="{escape(news2["risk"])}" data-complete="{str(complete).lower()}"'
        f' data-until="{news2["until_ms"]:.0f}"><abbr title="National Early Warning Score 2{missing}">NEWS2</abbr>'
        f' <b class="live">{least}{news2["score"]}</b><b class="gone">{NONE}</b></span>'
    )


def score_line(task: str, stay: Stay, moment: Moment) -> str:
    """A model's score in a line: level, name, probability or why there is none, the last hour, and its age."""
    score = stay.scores[task]
    live = stay.live_score(task, moment.now_ms)
    name = f'<span class="task">{escape(task_words(task, short=True))}</span>'
    if live is None:
        why = why_no_score(score)
        return (
            f'<span class="score" data-level="none">{name} <b>{NONE}</b> <span class="why">{escape(why)}</span> '
            f"{moment.age(score['at_ms'])}</span>"
        )
    level = str(live["level"])
    words = LEVEL_WORDS.get(level, level)
    mark = f'<span class="level">{escape(words)}</span> ' if words else ""
    return (
        f'<span class="score" data-level="{escape(level)}" data-until="{live["until_ms"]:.0f}">{mark}{name} '
        f'<b class="live">{percent(live["probability"])}</b><b class="gone">{NONE}</b> '
        f"{sparkline(stay.trends.last_hour(task, moment.now_ms))} {moment.age(live['at_ms'])}</span>"
    )


def why_no_score(score: Mapping[str, Any]) -> str:
    """Why a score is not shown: it is past its time to live, or it was withheld or not made."""
    if score["probability"] is not None:
        return "too old"
    return reason_words(score["why"])


def rung_words(score: Mapping[str, Any]) -> str:
    """Where a score was made, unless by the present bundle on this device."""
    rung = score["rung"] or "LOCAL"
    return "" if rung == "LOCAL" else f'<span class="from">{escape(mode_title(rung).removeprefix("AI "))}</span>'


def percent(probability: float) -> str:
    """A probability for people: whole per cent, never rounded to none or all."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{probability * 100:.0f} %"


def sparkline(values: Sequence[float | None]) -> str:
    """A small curve of probabilities, one per minute; gaps stay gaps. The scale is 0 to 50 %, or to 100 % beyond."""
    top = 0.5 if max((value for value in values if value is not None), default=0) <= 0.5 else 1.0
    lines: list[list[str]] = [[]]
    for x, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{x},{(1 - value / top) * (SPARK_HIGH - 2) + 1:.1f}")
    drawn = "".join(f'<polyline points="{" ".join(line)}"/>' for line in lines if line)
    return (
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDE} {SPARK_HIGH}" preserveAspectRatio="none" aria-hidden="true">'
        f"{drawn}</svg>"
    )


def open_notes(notes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that still ask for somebody, in their order."""
    return [note for note in notes if claims(note)]


def alert_words(alert: Mapping[str, Any]) -> str:
    """An alert's text with its value and limit, where it has them."""
    value, limit = alert["value"], alert["limit"]
    if value is None:
        return str(alert["text"])
    shown = f"{value:g} {unit_words(alert['unit'])}".strip()
    return f"{alert['text']}: {shown}" + (f" (limit {limit:g})" if limit is not None else "")


def refused_words(refusal: Mapping[str, Any], moment: Moment) -> str:
    """What was refused from a source: its code, how often, and when it was told."""
    what = f"{refusal['source']}: {refusal['refused']}"
    return f"{escape(what)} ({escape(refusal['count'])}×, {moment.age(refusal['t_ms'])} ago)"


def simulated(bed: Bed) -> str:
    """The mark of a bed without a patient."""
    return '<span class="made-up"><abbr title="simulated">SIM</abbr></span>' if bed.simulated else ""


def _rung(mode: Mapping[str, Any]) -> int:
    return RUNGS.index(mode["mode"]) if mode["mode"] in RUNGS else len(RUNGS)


def _minutes(ms: float) -> str:
    seconds = max(0, int(ms // 1000))
    return f"{seconds // 60}:{seconds % 60:02d}"
