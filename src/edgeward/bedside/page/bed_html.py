"""One bed's page, made of pieces that change on their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from math import exp
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import claims
from edgeward.bedside.page.html import MARKS
from edgeward.bedside.page.need import is_silent
from edgeward.bedside.page.pieces import (
    LEVEL_WORDS,
    Cell,
    Moment,
    alert_words,
    cell,
    live_modes,
    open_notes,
    percent,
    refused_words,
    rung_words,
    simulated,
    why_no_score,
)
from edgeward.bedside.page.vitals import NONE, SLOTS, keep_ms, marks_of, number, shown
from edgeward.bedside.page.words import item_words, kind_words, mode_words, reason_words, task_words, unit_words
from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgeward.bedside.page.stay import Stay
    from edgeward.bedside.page.vitals import Vital
    from edgeward.bedside.page.ward import Bed

_ALWAYS = ("hr", "spo2", "rr")
_IN_SLOTS = frozenset(kind for slot in SLOTS.values() for kind in slot.kinds)
_TREND_OF = {name: [kind.value for kind in slot.kinds] for name, slot in SLOTS.items()}


@dataclass(frozen=True, slots=True)
class Actions:
    """That people may acknowledge and suspend from the page: the token of its forms, and for how many minutes."""

    token: str
    minutes: tuple[int, ...]


def rows(stay: Stay | None) -> list[str]:
    """The slots that a bed's page shows: the usual ones always, the others once they were measured."""
    known = set(stay.vitals) if stay else set()
    present = [name for name, slot in SLOTS.items() if known.intersection(slot.kinds)]
    pressure = [name for name in ("abp", "nibp") if name in present] or ["nibp"]
    rest = [name for name in present if name not in (*_ALWAYS, "pulse", "abp", "nibp", "temp")]
    pulse = ["pulse"] if "pulse" in present and "hr" not in present else []
    return [*_ALWAYS, *pulse, *pressure, "temp", *rest]


def rows_html(names: Sequence[str], cells: Mapping[str, Cell]) -> str:
    """The vital signs, each beside the canvas of its trend."""
    made = []
    for name in names:
        one = cells.get(f"v-{name}")
        label = escape(f"Trend of {SLOTS[name].long_label}")
        made.append(
            f'<li class="row"><div class="slot" id="v-{name}">{one.html() if one else ""}</div>'
            f'<canvas class="trend needs-script" data-kinds="{" ".join(_TREND_OF[name])}" role="img"'
            f' aria-label="{label}"></canvas></li>'
        )
    return "".join(made)


def cells(bed: Bed, stay: Stay | None, names: Iterable[str], moment: Moment) -> dict[str, Cell]:
    """The vital signs by the ids of their places."""
    marks = {} if stay is None or bed.suspended(moment.now_ms) else marks_of(stay.alerts)
    vitals = stay.vitals if stay else {}
    return {f"v-{name}": cell(shown(SLOTS[name], vitals, marks, moment.now_ms), moment, long=True) for name in names}


def pieces(
    bed: Bed, stay: Stay | None, tasks: Sequence[Mapping[str, Any]], actions: Actions | None, moment: Moment
) -> dict[str, str]:
    """Everything on the page but the vital signs, by id."""
    return {
        "p-state": _state(bed, moment),
        "p-mode": _modes(stay, tasks, moment),
        "p-suspension": _suspension(bed, actions, moment),
        "p-alerts": _alerts(bed, stay, actions, moment),
        "p-scores": _scores(stay, tasks, moment),
        "p-forecasts": _forecasts(stay, moment),
        "p-news2": _news2(stay, moment),
        "p-facts": _facts(stay, moment),
        "p-sources": _sources(bed, moment),
    }


def _state(bed: Bed, moment: Moment) -> str:
    if moment.now_ms > bed.until_ms:
        since = " yet" if bed.told_ms is None else f" for {moment.age(bed.told_ms)}"
        return f'<span class="claim" data-kind="silent"><span class="text">NO WORD from the device{since}</span></span>'
    if not bed.occupied():
        return '<span class="claim" data-kind="none">No patient in this bed</span>'
    said = [simulated(bed)]
    if bed.population not in ("", "adult"):
        said.append(f'<span class="who">{escape(bed.population)}</span>')
    if is_silent(bed, moment.now_ms):
        since = " yet" if bed.silent_since_ms is None else f" for {moment.age(bed.silent_since_ms)}"
        said.append(f'<span class="claim" data-kind="silent"><span class="text">NO DATA{since}</span></span>')
    return "".join(said)


def _modes(stay: Stay | None, tasks: Sequence[Mapping[str, Any]], moment: Moment) -> str:
    """A banner for each way in which the bed's models are served; one for all where they are served alike."""
    if not tasks:
        return _banner("NO_AI", "No AI installed — threshold alerts go on", "")
    told = live_modes(stay, moment.now_ms)
    if not told:
        return _banner("UNKNOWN", "AI not heard of — threshold alerts go on", "")
    ways: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for mode in told:
        ways.setdefault((mode["mode"], mode["reason"]), []).append(mode)
    made = []
    for (rung, reason), modes in ways.items():
        names = ", ".join(task_words(mode["task"]) for mode in modes) + ": " if len(ways) > 1 else ""
        since = f"for {moment.age(max(mode['since_at_ms'] for mode in modes))}"
        made.append(_banner(rung, names + mode_words(rung, reason), since))
    return "".join(made)


def _banner(mode: str, words: str, since: str) -> str:
    return (
        f'<p class="mode" data-mode="{escape(mode)}"><span class="mode-title">{escape(words)}</span>'
        f'<span class="mode-since">{since}</span></p>'
    )


def _suspension(bed: Bed, actions: Actions | None, moment: Moment) -> str:
    if not bed.suspended(moment.now_ms):
        if actions is None or bed.stay is None:
            return ""
        return f'<a class="button suspend" href="{escape(bed.path)}/suspend">Suspend alerts…</a>'
    left = moment.left(bed.suspended_until_ms)
    said = f'<span class="claim" data-kind="suspended"><span>SUSPENDED, {left} left</span></span>'
    return said + _form(bed, actions, "suspend", "End now", minutes=0)


def _alerts(bed: Bed, stay: Stay | None, actions: Actions | None, moment: Moment) -> str:
    notes = stay.alerts.ranked() if stay else []
    made = [_alert(bed, note, actions, moment) for note in notes]
    unseen = [str(note["id"]) for note in open_notes(notes) if not note.get("acknowledged")]
    if not open_notes(notes):
        made.insert(0, '<li class="none" data-key="none">none now</li>')
    if len(unseen) > 1:
        all_of_them = _form(bed, actions, "acknowledge", f"Acknowledge all {len(unseen)}", alerts=unseen)
        if all_of_them:
            made.append(f'<li class="all" data-key="all">{all_of_them}</li>')
    return "".join(made)


def _alert(bed: Bed, note: Mapping[str, Any], actions: Actions | None, moment: Moment) -> str:
    raised_ms = note["t_ms"] - note["raised_ms_ago"]
    if not claims(note):
        kind, age = "ended", f"ended {moment.age(note['ended_t_ms'])} ago"
    elif not note["active"]:
        kind, age = "latched", f"over, not seen yet; raised {moment.age(raised_ms)} ago"
    else:
        kind, age = ("seen" if note.get("acknowledged") else "alert"), f"for {moment.age(raised_ms)}"
        if bed.suspended(moment.now_ms):
            kind, age = "suspended", f"suspended; {age}"
    technical = '<span class="kind">technical</span> ' if note["cause"] != "physiological" else ""
    done = ""
    if claims(note) and note.get("acknowledged"):
        done = '<span class="done">✓ seen</span>'
    elif kind != "ended" and not note.get("acknowledged"):
        done = _form(bed, actions, "acknowledge", "Acknowledge", alerts=[str(note["id"])])
    return (
        f'<li class="note" data-key="{escape(str(note["id"]))}" data-kind="{kind}"'
        f' data-priority="{note["priority"]}"><span class="mark">{MARKS[note["priority"]]}</span>'
        f'<span class="text">{escape(alert_words(note))}</span>{done}<span class="age">{technical}{age}</span></li>'
    )


def _form(
    bed: Bed, actions: Actions | None, action: str, words: str, *, alerts: Sequence[str] = (), minutes: int = 0
) -> str:
    """A button that does one thing, as a plain form; nothing where this page may change nothing."""
    if actions is None or bed.stay is None:
        return ""
    return (
        f'<form method="post" action="{escape(bed.path)}/act">{_hidden(bed, actions, action, alerts)}'
        f'<input type="hidden" name="minutes" value="{minutes}"><button>{escape(words)}</button></form>'
    )


def _hidden(bed: Bed, actions: Actions, action: str, alerts: Sequence[str] = ()) -> str:
    fields = [("token", actions.token), ("stay", str(bed.stay)), ("action", action), *(("alert", a) for a in alerts)]
    return "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields)


def suspend_form(bed: Bed, actions: Actions) -> str:
    """What must be confirmed before alerts are suspended."""
    choices = "".join(
        f'<label><input type="radio" name="minutes" value="{minutes}"{" checked" if number == 0 else ""}> '
        f"{minutes} min</label>"
        for number, minutes in enumerate(actions.minutes)
    )
    return (
        f'<form method="post" action="{escape(bed.path)}/act" class="confirm">{_hidden(bed, actions, "suspend")}'
        f"<p>Threshold alerts of <b>{escape(bed.name)}</b> will call nobody until the time is over. "
        "Stay with the patient.</p>"
        f'<fieldset><legend>For how long</legend>{choices}</fieldset><p class="buttons">'
        f'<button class="go">Suspend alerts</button><a class="button" href="{escape(bed.path)}">Cancel</a></p></form>'
    )


def _scores(stay: Stay | None, tasks: Sequence[Mapping[str, Any]], moment: Moment) -> str:
    if stay is None:
        return ""
    names = list(dict.fromkeys([*(str(task["task"]) for task in tasks), *stay.scores]))
    served = [name for name in names if name in stay.scores or name not in stay.forecasts]
    made = [_score(name, stay, moment) for name in served if name in stay.scores]
    notes = [
        f'<li class="note" data-key="{escape(str(note["id"]))}" data-kind="advisory"><span class="mark">◆</span>'
        f'<span class="text">{escape(str(note["text"]))}</span>'
        f'<span class="age">for {moment.age(note["t_ms"] - note["raised_ms_ago"])}</span></li>'
        for note in stay.advisories.ranked()
        if note["active"]
    ]
    said = f'<ul class="advisories" data-key="advisories">{"".join(notes)}</ul>' if notes else ""
    return said + ("".join(made) or '<p class="none" data-key="none">no score yet</p>')


def _score(task: str, stay: Stay, moment: Moment) -> str:
    score = stay.scores[task]
    live = stay.live_score(task, moment.now_ms)
    name = escape(task_words(task))
    if live is None:
        why = escape(why_no_score(score))
        head = f'<span class="level"></span><b class="figure">{NONE}</b><span class="why">{why}</span>'
        level, until, drivers = "none", "", ""
    else:
        level, until = str(live["level"]), f' data-until="{live["until_ms"]:.0f}"'
        words = LEVEL_WORDS.get(level, level)
        head = (
            f'<span class="level">{escape(words)}</span><b class="figure live">{percent(live["probability"])}</b>'
            f'<b class="figure gone">{NONE}</b><span class="gone why">too old</span>{rung_words(live)}'
        )
        drivers = "".join(_driver(driver) for driver in live["drivers"])
    return (
        f'<article class="score" data-key="{escape(task)}" data-level="{escape(level)}"{until}><h3>{name}</h3>'
        f'<p class="head">{head}<span class="age">{moment.age(score["at_ms"])} ago</span></p>'
        f'<ul class="drivers live">{drivers}</ul><p class="shares">{_shares(score)}</p>'
        f'<canvas class="history needs-script" data-task="{escape(task)}" role="img"'
        f' aria-label="History of {name}"></canvas></article>'
    )


def _driver(driver: Mapping[str, Any]) -> str:
    """A feature in words: its value, and by how much it raises or lowers the odds."""
    effect = driver["effect"]
    way, sign = ("up", "▲ raises") if effect >= 0 else ("down", "▼ lowers")
    odds = exp(max(-7.0, min(7.0, effect)))
    value = NONE if driver["value"] is None else f"{driver['value']:g} {unit_words(driver['unit'])}".strip()
    return (
        f'<li data-way="{way}"><span class="name">{escape(driver["label"])}</span> <span class="effect">'
        f'<b>{escape(value)}</b> <span class="way">{sign} odds ×{odds:.2g}</span></span></li>'
    )


def _shares(score: Mapping[str, Any]) -> str:
    """How much of a score's input was missing or old, and which version made it."""
    told = {"missing": score["missing_share"], "old": score["stale_share"]}
    parts = [f"{share * 100:.0f} % {name}" for name, share in told.items() if share]
    whole = [] if told["missing"] is None else ["all inputs there"]
    said = [f"inputs: {', '.join(parts)}"] if parts else whole
    return " · ".join([*said, *([escape(score["version"])] if score["version"] else [])])


def _forecasts(stay: Stay | None, moment: Moment) -> str:
    return "".join(_forecast(kind, forecast, moment) for kind, forecast in (stay.forecasts.items() if stay else ()))


def _forecast(kind: str, forecast: Mapping[str, Any], moment: Moment) -> str:
    info = KINDS[Kind(kind)]
    name = escape(f"{kind_words(kind)} in {max(forecast['minutes'], default=60):.0f} min")
    live = forecast["accepted"] and moment.now_ms < forecast["until_ms"]
    if not live:
        why = reason_words(forecast["why"]) if not forecast["accepted"] else "too old"
        return (
            f'<figure data-key="{kind}"><figcaption>{name}: <b>{NONE}</b> <span class="why">{escape(why)}</span>'
            f"</figcaption></figure>"
        )
    fan = {name: forecast[name] for name in ("minutes", "low", "mid", "high")}
    data = escape(json.dumps({**fan, "kind": kind, "at_ms": forecast["at_ms"]}))
    ends = f"{forecast['mid'][-1]:.0f} ({forecast['low'][-1]:.0f} to {forecast['high'][-1]:.0f})"
    chance = forecast["probability"]
    risk = "" if chance is None else f", {percent(chance)} risk within the hour"
    return (
        f'<figure data-key="{kind}" data-until="{forecast["until_ms"]:.0f}"><figcaption>{name}: '
        f'<b class="live">{ends} {escape(unit_words(info.unit))}</b><b class="gone">{NONE}</b>'
        f'<span class="live">{escape(risk)}</span> {rung_words(forecast)}</figcaption>'
        f'<canvas class="fan live needs-script" data-fan="{data}" role="img" aria-label="{name}: 10th, 50th and 90th'
        f' percentile"></canvas></figure>'
    )


def _news2(stay: Stay | None, moment: Moment) -> str:
    news2 = stay.news2 if stay else None
    if news2 is None or moment.now_ms > news2["until_ms"]:
        return f'<p class="total">NEWS2 <b>{NONE}</b></p>'
    if not news2["applies"]:
        return '<p class="total">NEWS2 does not apply under 16 years</p>'
    complete = news2["complete"]
    score = NONE if news2["score"] is None else f"{'' if complete else '≥'}{news2['score']}"
    items = "".join(
        f'<li data-points="{points}"><span>{escape(item_words(item))}</span> <b>{points}</b></li>'
        for item, points in sorted(news2["items"].items(), key=lambda item: -item[1])
    )
    missing = "".join(
        f'<li data-points=""><span>{escape(item_words(item))}</span> <b>?</b></li>' for item in news2["missing"]
    )
    risk = f"{news2['risk'].replace('-', ' to ')} risk" if news2["risk"] else ""
    scale = " · SpO₂ scale 2" if news2["scale"] == 2 else ""
    least = "" if complete else " · incomplete" + ("" if news2["score"] is None else ": at least")
    return (
        f'<div data-until="{news2["until_ms"]:.0f}"><p class="total">NEWS2 <b class="live">{score}</b>'
        f'<b class="gone">{NONE}</b> <span>{escape(risk)}{scale}{least}</span></p>'
        f'<ul class="items">{items}{missing}</ul></div>'
    )


def _facts(stay: Stay | None, moment: Moment) -> str:
    """What else is known, laboratory among it, each with its age."""
    known = [(kind, stay.vitals[kind]) for kind in Kind if stay and kind in stay.vitals and kind not in _IN_SLOTS]
    return "".join(_fact(kind, vital, moment) for kind, vital in known)


def _fact(kind: Kind, vital: Vital, moment: Moment) -> str:
    live = vital.state == "ok" and vital.value is not None and moment.now_ms - vital.at_ms <= keep_ms(kind)
    value = number(kind, vital.value) if live else NONE
    if live and kind is Kind.ACVPU and vital.value is not None:
        value = ACVPU_LEVELS[min(len(ACVPU_LEVELS) - 1, max(0, round(vital.value)))]
    return (
        f"<li><span>{escape(KINDS[kind].label)}</span> <b>{escape(value)}</b> "
        f"<small>{escape(unit_words(KINDS[kind].unit))}</small> {moment.age(vital.at_ms)}</li>"
    )


def _sources(bed: Bed, moment: Moment) -> str:
    said = [f"Sources: {escape(', '.join(bed.sources)) or 'none'}"]
    if bed.refusal is not None:
        said.append(f"last refused: {refused_words(bed.refusal, moment)}")
    return " · ".join(said)
