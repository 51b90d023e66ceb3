"""The page as the server renders it: the current state in words, so that the essentials need no script.

The scripts take over the same elements and keep them current; without scripts the page is read anew every two seconds.
Everything that was published is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.words import age_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from string import Template

MARKS = {"high": "!!!", "medium": "!!", "low": "!"}
"""Priority marks of IEC 60601-1-8 beside the colour, which never stands alone."""


def render(template: Template, state: Mapping[str, Any]) -> bytes:
    """The whole page from ``PageState.as_json``."""
    hello = state["hello"]
    bundle = hello.get("bundle") or {}
    return template.substitute(
        place=escape(_place(hello)),
        simulated="" if hello.get("simulated") else " hidden",
        mode=escape(str((state["mode"] or {}).get("mode", "UNKNOWN"))),
        mode_title=escape(_mode_title(state["mode"])),
        mode_since=escape(_mode_since(state["mode"])),
        rate=escape(rate_text(state["rate"])),
        alerts=_notes(state["alert"]),
        advisories=_notes(state["advisory"]),
        bundle=escape(" ".join(str(bundle[key]) for key in ("name", "version", "hash8") if key in bundle) or "none"),
    ).encode()


def rate_text(rate: Mapping[str, Any] | None) -> str:
    """Whole beats per minute, or two dashes where there is none to be shown."""
    if rate is None or rate["hr_bpm"] is None:
        return "--"
    return str(round(rate["hr_bpm"]))


def _place(hello: Mapping[str, Any]) -> str:
    return " · ".join(str(hello[key]) for key in ("site", "bed") if hello.get(key)) or "Edgeward"


def _mode_title(mode: Mapping[str, Any] | None) -> str:
    if mode is None:
        return "Starting"
    return f"{mode['title']} — {mode['why']}" if mode["why"] else str(mode["title"])


def _mode_since(mode: Mapping[str, Any] | None) -> str:
    return "" if mode is None else f"for {age_words(mode['since_ms'])}"


def _notes(notes: Iterable[Mapping[str, Any]]) -> str:
    return "".join(
        f'<li class="note" data-priority="{escape(str(note["priority"]))}" data-active="{str(note["active"]).lower()}">'
        f'<span class="mark">{MARKS[note["priority"]]}</span><span class="text">{escape(str(note["text"]))}</span>'
        f'<span class="age">{escape(_note_age(note))}</span></li>'
        for note in notes
    )


def _note_age(note: Mapping[str, Any]) -> str:
    if note["active"]:
        return f"for {age_words(note['raised_ms_ago'])}"
    return f"ended {age_words(note['ended_ms_ago'])} ago"
