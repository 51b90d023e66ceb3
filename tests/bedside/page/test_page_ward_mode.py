"""What a ward's pages say of its models: what is wrong is loud, what is not meant for a patient is quiet and plain."""

from __future__ import annotations

import pytest
from ward_messages import BEDS, bed, hello, mode, score

from edgeward.bedside.page import bed_html
from edgeward.bedside.page.need import need_of
from edgeward.bedside.page.pieces import Moment
from edgeward.bedside.page.stay import MODE_TTL_MS
from edgeward.bedside.page.ward import WardState
from edgeward.bedside.page.ward_html import tile, ward_mode
from edgeward.bedside.verdict import NOT_ASKED

NOW = Moment(0.0, spoken=True)


@pytest.fixture
def ward() -> WardState:
    state = WardState(hello(), 0)
    for name in BEDS:
        state.apply("bed", bed(name), 0)
        state.apply("mode", mode(name), 0)
    return state


def score_line(state: WardState, name: str, moment: Moment = NOW) -> str:
    """The last line of a bed's tile."""
    held = state.bed_named(name)
    assert held is not None
    stay = state.stay_of(held)
    made = tile(held, stay, need_of(held, stay, moment.now_ms), state.tasks, moment)
    return made.pieces[f"b{held.index}-score"]


@pytest.mark.parametrize("reason", sorted(NOT_ASKED))
def test_a_model_that_is_not_asked_is_quiet_and_says_that_there_is_no_score_and_why(
    ward: WardState, reason: str
) -> None:
    """Dashes and words on the tile and on the bed's page; the ward counts it as no failure."""
    name = BEDS[0]
    ward.apply("mode", mode(name, "NOT_ASKED", reason), 0)
    ward.apply("score", {**score(name, 0.4), "outcome": "withheld", "why": reason, "probability": None}, 0)
    line = score_line(ward, name)
    assert 'data-mode="NOT_ASKED"' in line
    assert ">-- AI not asked: " in line
    assert "%" not in line
    assert "local" not in line
    assert ward_mode(ward, NOW) == '<span class="rung" data-mode="LOCAL">AI local · not asked at 1</span>'
    held = ward.bed_named(name)
    assert held is not None
    pieces = bed_html.pieces(held, ward.stay_of(held), ward.tasks, None, NOW)
    assert "AI not asked: " in pieces["p-mode"]
    assert "--" in pieces["p-scores"]
    assert "40 %" not in pieces["p-scores"]


def test_no_valid_input_stays_loud_and_counted(ward: WardState) -> None:
    """Beside beds whose model is not asked, and with its own reason."""
    for name in BEDS[1:]:
        ward.apply("mode", mode(name, "NOT_ASKED", "low_pressure"), 0)
    ward.apply("mode", mode(BEDS[0], "NO_AI", "stale"), 0)
    said = ward_mode(ward, NOW)
    assert f"No AI at 1 of {len(BEDS)} beds — the measurements are too old<" in said
    assert 'data-mode="NO_AI"' in said
    assert 'data-mode="NO_AI"' in score_line(ward, BEDS[0])


def test_a_ward_without_a_question_does_not_call_itself_served(ward: WardState) -> None:
    """No bed's model is asked: that is neither "AI local" nor a failure."""
    for name in BEDS:
        ward.apply("mode", mode(name, "NOT_ASKED", "too_little"), 0)
    count = len(BEDS)
    assert f'data-mode="NOT_ASKED">AI not asked at {count} of {count} beds<' in ward_mode(ward, NOW)


def test_one_model_that_is_not_asked_hides_no_other(ward: WardState) -> None:
    """What another model says, or that it failed, speaks for the bed."""
    name = BEDS[0]
    ward.apply("mode", {**mode(name, "NOT_ASKED", "low_pressure"), "task": "hypotension"}, 0)
    ward.apply("score", score(name, 0.4), 0)
    assert "40 %" in score_line(ward, name)
    assert 'data-mode="LOCAL"' in score_line(ward, name)
    ward.apply("mode", mode(name, "THRESHOLD_ONLY", "engine_hung"), 0)
    assert "Threshold only — the AI does not answer" in score_line(ward, name)
    assert f"Threshold only at 1 of {len(BEDS)} beds" in ward_mode(ward, NOW)


def test_that_a_model_is_not_asked_must_be_told_again(ward: WardState) -> None:
    """Silence of the device is no reason to be quiet."""
    ward.apply("mode", mode(BEDS[0], "NOT_ASKED", "population"), 0)
    assert "AI not heard of" in score_line(ward, BEDS[0], Moment(MODE_TTL_MS + 1.0))
    assert "not asked" not in ward_mode(ward, Moment(MODE_TTL_MS + 1.0))
