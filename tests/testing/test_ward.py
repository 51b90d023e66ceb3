"""The scripted ward says what docs/messages.md describes."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from edgeward.bedside.page.need import Need, need_of
from edgeward.bedside.page.ward import WardState
from edgeward.testing.ward import BED_EVERY_S, SCORE_EVERY_S, ScriptedWard
from edgeward.testing.ward_patients import SCENES


@pytest.mark.parametrize("scene", SCENES)
def test_every_message_can_be_shown_at_once(scene: str) -> None:
    """The pages take each of them, history first; they are plain JSON."""
    ward = ScriptedWard(scene, 24)
    state = WardState(json.loads(json.dumps(ward.hello())), 0.0)
    for kind, data in [*ward.history(5), *ward.step(30)]:
        state.apply(kind, json.loads(json.dumps(data, allow_nan=False)), 1e7)


def test_rates_are_those_of_the_messages() -> None:
    """Vital signs each second, beds each five, scores each fifteen."""
    ward = ScriptedWard("calm", 2)
    ward.step(0)
    told = Counter((kind, data.get("bed")) for kind, data in ward.step(60))
    assert told["vitals", "Bed 1"] == 60
    assert told["bed", "Bed 1"] == 60 // BED_EVERY_S
    assert told["score", "Bed 1"] == 60 // SCORE_EVERY_S
    assert told["latency", None] == 60


def test_busy_ward_shows_every_kind_of_need_and_a_calm_one_hardly_any() -> None:
    """So that every mark of the pages is there to be looked at."""
    found = {}
    for scene in SCENES:
        ward = ScriptedWard(scene)
        state = WardState(ward.hello(), 0.0)
        for kind, data in ward.step(0):
            state.apply(kind, data, 1e7)
        found[scene] = {need_of(bed, state.stay_of(bed), 1e7) for bed in state.beds}
    assert {Need.HIGH, Need.MEDIUM, Need.LATCHED_HIGH, Need.WATCH, Need.NO_DATA, Need.QUIET} <= found["busy"]
    assert max(found["calm"]) <= Need.WATCH


def test_ward_does_what_its_people_do() -> None:
    """An alert is seen and a suspension runs, for the patient who lies there and for nobody else."""
    ward = ScriptedWard("busy")
    ward.step(0)
    assert ward.act("acknowledge", "Bed 2", 101, "a0", 0)
    assert not ward.act("acknowledge", "Bed 2", 7, "a0", 0)
    assert ward.act("suspend", "Bed 2", 101, "", 2)
    said = [(kind, data) for kind, data in ward.step(10) if data.get("bed") == "Bed 2"]
    assert any(kind == "alert" and data["acknowledged"] for kind, data in said)
    assert any(kind == "bed" and 100_000 < data["suspended_ms_left"] <= 120_000 for kind, data in said)


def test_one_seed_gives_one_ward() -> None:
    """The same noise each time."""
    assert ScriptedWard(seed=3).step(5) == ScriptedWard(seed=3).step(5)
    assert ScriptedWard(seed=3).step(5) != ScriptedWard(seed=4).step(5)
