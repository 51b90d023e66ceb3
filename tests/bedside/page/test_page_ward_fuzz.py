"""Whatever is published, the ward's pages can be made, and nothing on them is markup that somebody published."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ward_messages import BEDS, alert, bed, hello, mode, news2, of, outbox, score, serving, vitals

from edgeward.bedside.page.request import Request
from edgeward.bedside.page.ward_screen import WardScreen
from edgeward.kernel.errors import InputError

NAME = BEDS[0]
KEYS = st.sampled_from(["hr", "v", "<u>k"])
TASTES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["<u>x", "high", "accepted", "act", "LOCAL", "hr", "", "occupied"]) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FAN = {"minutes": [20, 40], "low": [60, 55], "mid": [64, 61], "high": [69, 68]}
SOUND: list[tuple[str, dict[str, Any]]] = [
    ("bed", bed(NAME, limits={"hr": [50, 120]})),
    ("vitals", vitals(NAME, hr=71, abp_sys=120, abp_dia=60, lactate=2.0, acvpu=1.0)),
    ("alert", alert(NAME)),
    ("advisory", of(NAME, id="x", code="sepsis", text="Sepsis risk raised", priority="medium", active=True)),
    ("news2", news2(NAME, 5)),
    ("score", score(NAME)),
    ("forecast", of(NAME, vital="abp_mean", **FAN, probability=0.4, age_ms=0, ttl_ms=60_000)),
    ("mode", mode(NAME)),
    ("source", {"source": "hl7", "refused": "unit-unknown", "count": 2}),
    ("source", of(NAME, source="hl7", refused="unit-unknown", count=2)),
    ("peer", {"source": "hl7", "peer": "a", "connected": True}),
    ("process", {"name": "assess", "what": "crashed"}),
    ("outbox", outbox()),
    ("serving", serving(since_ms=4_000, shadow={"version": "2.0.0", "code": "golden-failed"})),
    ("hello", hello()),
]
CAUGHT = (InputError, TypeError, ValueError, LookupError, AttributeError)
"""What the hub takes for a datum that cannot be shown."""


def look_at_everything(screen: WardScreen, now_ms: float) -> str:
    """Every page, and what the streams would say now."""
    paths = ["/", *(f"/beds/{name.replace(' ', '%20')}" for name in BEDS)]
    pages = [screen.answer(Request("GET", path, {}), now_ms) for path in paths]
    assert all(pages)
    channels = ["/events", *(f"{path}/events" for path in paths[1:])]
    told = [dict(data) for channel in channels for _, data in screen.joining(channel, now_ms)]
    told += [dict(data) for _, _, data in screen.news(channels, now_ms + 5_000)]
    json.dumps(told, allow_nan=False)
    trend = screen.answer(Request("GET", f"{paths[1]}/trend.json", {}, "hours=24"), now_ms)
    assert trend is not None
    return "".join(page.decode() for page in pages if page) + json.dumps(told)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans())
def test_odd_fields_break_no_page(more: st.DataObject, sound: bool) -> None:
    """Any field of any message may be anything: it is shown as text, or refused; no bed has to be given up for it."""
    screen = WardScreen(hello(), 0.0, lambda *_: True, (2, 5))
    for kind, data in SOUND if sound else SOUND[:1]:
        screen.apply(kind, data, 1_000.0)
    for kind, data in more.draw(st.lists(st.sampled_from(SOUND), min_size=1, max_size=6)):
        odd = {**data, more.draw(st.sampled_from(sorted(data.keys() - {"beds"}))): more.draw(TASTES)}
        with contextlib.suppress(*CAUGHT):
            screen.apply(kind, json.loads(json.dumps(odd)), 2_000.0)
    assert "<u>" not in look_at_everything(screen, 3_000.0)
    assert screen.unshowable == 0


def test_bed_that_cannot_be_shown_starts_with_nothing_and_the_others_stay() -> None:
    """Should a fault slip through: that bed shows dashes, and the page lives."""
    screen = WardScreen(hello(), 0.0, None, (2,))
    for name in BEDS[:2]:
        screen.apply("bed", bed(name), 0.0)
        screen.apply("vitals", vitals(name, hr=71), 0.0)
    broken = screen._state.stay_of(screen._state.beds[0])
    assert broken is not None
    broken.scores["sepsis"] = {}
    look_at_everything(screen, 1_000.0)
    page = screen.answer(Request("GET", "/", {}), 1_000.0)
    assert page is not None
    assert page.decode().count('<span class="num">71</span>') == 1
    assert screen.unshowable == 1
