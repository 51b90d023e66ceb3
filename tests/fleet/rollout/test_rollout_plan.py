"""Plans that make sense, plans that do not, and the site's clock."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from edgeward.exchange.typed import decode, encode
from edgeward.fleet.rollout.hours import Hours, any_open
from edgeward.fleet.rollout.plan import CatchUp, Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.plan_text import plan_text, read_plan
from edgeward.kernel.errors import RolloutError

REST = Stage("rest")


def at(text: str, zone: str = "Europe/Berlin") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (Plan(stages=()), "plan-stages"),
        (Plan(stages=(Stage("a", Pick(count=3)),)), "plan-last-stage"),
        (Plan(stages=(Stage("a"), REST)), "plan-stage-unlimited"),
        (Plan(stages=(Stage("rest", Pick(count=1)), REST)), "plan-stage-names"),
        (
            Plan(
                stages=(
                    Stage("a", Pick(count=1)),
                    Stage("b", Pick(share=20_000)),
                    Stage("c", Pick(share=20_000)),
                    REST,
                )
            ),
            "plan-shares",
        ),
        (Plan(stage_s=7_200), "plan-stage-time"),
        (Plan(zone="Europe/Nowhere"), "zone-unknown"),
    ],
)
def test_plan_that_makes_no_sense_is_refused(plan: Plan, code: str) -> None:
    """Each with its own code."""
    with pytest.raises(RolloutError) as caught:
        plan.check()
    assert caught.value.code == code


def test_stored_plan_is_the_same_plan() -> None:
    """A plan goes through the database unchanged."""
    plan = Plan(
        stages=(Stage("canary", Pick(group="ICU A"), Gate(errors_max=0)), REST),
        catch_up=CatchUp(3),
        hours=(Hours((4,), 1_320, 240),),
        zone="Europe/Berlin",
    )
    assert decode(Plan, encode(plan), bytes_max=1 << 16) == plan
    replace(plan, group="Wing 3").check()


def test_few_devices_allow_no_error() -> None:
    """An allowance is rounded down, and a gate without a success is never reached."""
    gate = Gate(success=500_000, errors=100_000)
    assert not gate.allows(1, 9)
    assert gate.allows(1, 10)
    assert not Gate(errors=999_999, errors_max=1).allows(2, 1_000)
    assert not gate.is_reached(0, 0)
    assert gate.is_reached(1, 2)
    assert not gate.is_reached(1, 3)
    assert CatchUp(errors=50_000, errors_max=2).allows(2, 2)
    assert not CatchUp(errors=50_000, errors_max=2).allows(3, 59)
    assert CatchUp(errors=50_000, errors_max=2).allows(3, 60)


def test_hours_follow_the_clock_on_the_wall() -> None:
    """Across midnight, on the right day, and through both changes of summer time."""
    friday = (Hours((4,), 22 * 60, 4 * 60),)
    zone = "Europe/Berlin"
    assert not any_open(friday, zone, at("2026-11-27T21:59"))
    assert any_open(friday, zone, at("2026-11-27T22:00"))
    assert any_open(friday, zone, at("2026-11-28T03:59"))
    assert not any_open(friday, zone, at("2026-11-28T04:00"))
    assert not any_open(friday, zone, at("2026-11-27T03:00"))
    early = (Hours((6,), 2 * 60, 3 * 60),)
    spring = at("2026-03-29T01:59")
    assert not any_open(early, zone, spring)
    assert not any_open(early, zone, spring + 60)  # 02:00 to 03:00 does not exist that day
    autumn = at("2026-10-25T01:59") + 60
    assert any_open(early, zone, autumn)
    assert any_open(early, zone, autumn + 3_600)  # the hour comes twice
    assert not any_open(early, zone, autumn + 7_200)


def test_plan_is_read_as_people_write_it() -> None:
    """Shares, times and days by the words of a plan's text; and what is written is read back."""
    text = tomllib.loads(
        """
        silent = "2 h"
        soak = "90 min"
        zone = "Europe/Berlin"
        [[stage]]
        name = "canary"
        count = 5
        errors = "0 %"
        [[stage]]
        name = "tenth"
        share = "10.5 %"
        [[stage]]
        name = "the rest"
        success = "99.9 %"
        [[hours]]
        days = ["Fri"]
        from = "22:00"
        to = "04:00"
        """
    )
    plan = read_plan(text)
    assert (plan.silent_s, plan.soak_s) == (7_200, 5_400)
    assert plan.stages[1].pick == Pick(share=105_000)
    assert plan.stages[2].gate.success == 999_000
    assert plan.hours == (Hours((4,), 1_320, 240),)
    assert read_plan(plan_text(plan)) == plan
    assert read_plan(plan_text(Plan())) == Plan()
    assert read_plan({}) == Plan()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ({"stages": []}, "'stages' is not one of"),
        ({"stage": [{"count": 1}]}, "no name"),
        ({"stage": [{"name": "a", "count": "10"}, {"name": "b"}]}, "whole number"),
        ({"stage": [{"name": "a", "share": 0.1}, {"name": "b"}]}, "5 %"),
        ({"stage": [{"name": "a", "count": 0}, {"name": "b"}]}, "count"),
        ({"soak": "an hour"}, "90 min"),
        ({"hours": [{"from": "22:00", "to": "24:00"}]}, "time of day"),
        ({"hours": [{"days": ["Freitag"], "from": "22:00", "to": "23:00"}]}, "Mon"),
        ({"stage": [{"name": "a", "success": "0 %"}]}, "success"),
        ({"stage": "canary"}, "not a list"),
    ],
)
def test_plan_text_that_cannot_be_read_says_where(text: dict[str, object], word: str) -> None:
    """The message names the place and what is expected there."""
    with pytest.raises(RolloutError, match=re.escape(word)) as caught:
        read_plan(text)
    assert caught.value.code == "plan-text"
