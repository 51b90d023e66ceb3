"""A ward without a fleet, as processes, while its repository gets newer bundles: a good one, and one it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from wards import SETTINGS, accepted, bed, get, until

from edgeward.bedside.slot import SlotStore
from edgeward.testing.repository import FakeWall, RepositoryLab
from edgeward.testing.toy import TASK, toy_bundle
from edgeward.testing.ward_process import Monitors, WardProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

PERIOD_S = 0.2
BEDS = 4
UPDATES = """
[updates]
look_min = 0.1
shadow_min = 0.2
soak_min = 0.1
"""


class Repository:
    """A signed one of toys, and what a ward's settings say of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "toy.ewb"
        self._lab = RepositoryLab(folder, wall=FakeWall(datetime.now(UTC)))
        root = folder / "root.json"
        root.write_bytes(self._lab.root)
        self.settings = SETTINGS.replace("[ward]", f'[ward]\nrepository = "{self._lab.repo}"\ntrusted_root = "{root}"')

    def publish(self, version: str, **how: float) -> None:
        self._file.write_bytes(toy_bundle(version, **how))
        self._lab.publisher.add(self._file)


def test_a_ward_without_a_fleet_swaps_live_what_is_published_and_leaves_what_it_refused(tmp_path: Path) -> None:
    """No score is missed, the takeover is audited and on the page; a bundle of another opinion is fetched once."""
    repository = Repository(tmp_path / "published")
    repository.publish("1.0.0")
    beds = [bed(number, hr=80.0) for number in range(1, BEDS + 1)]
    with (
        WardProcess(tmp_path, repository.settings + UPDATES, toy_period_s=PERIOD_S) as ward,
        Monitors(beds, ward.hl7_port, period_s=PERIOD_S),
    ):
        ward.words(rf"update: (nothing new), {TASK} 1\.0\.0")
        for number in range(1, BEDS + 1):
            ward.wait("score", lambda m, number=number: accepted(m) and m["bed"] == f"ICU {number}")
        since = len(ward.heard)
        repository.publish("2.0.0", centre=100.5)
        ward.words(rf"update: {TASK} 2\.0\.0 (committed)", 120)
        ward.wait("score", lambda m: m["version"] == "2.0.0", since)
        scores = ward.all("score", since)
        assert {one["outcome"] for one in scores} == {"accepted"}
        versions = [one["version"] for one in scores]
        assert versions == sorted(versions)
        assert ward.all("hello", since)[-1]["tasks"][0]["version"] == "2.0.0"
        assert until(lambda: "2.0.0" in get(ward.page))
        repository.publish("3.0.0", centre=60.0)
        ward.words(rf"update: {TASK} 3\.0\.0 (failed)", 120)
        assert "[shadow-disagrees]" in ward.said
        assert ward.end() == 0
    with WardProcess(tmp_path, repository.settings + UPDATES, toy_period_s=PERIOD_S) as again:
        again.words(rf"update: {TASK} 3\.0\.0 (is not taken)")
        assert "downloading" not in again.said
        assert again.end() == 0
    rows = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]
    swaps = [row for row in rows if row["what"] == "swap"]
    assert [(row["reason"], row["from"], row["version"]) for row in swaps] == [("update", "1.0.0", "2.0.0")]
    with SlotStore(tmp_path / "state" / "slots" / TASK) as slots:
        active = slots.active()
        assert active is not None
        assert active.version == "2.0.0"


def test_a_ward_without_any_bundle_takes_the_first_that_is_published_without_a_restart(tmp_path: Path) -> None:
    """It watches without one; whenever one is there, its process takes it into charge."""
    repository = Repository(tmp_path / "published")
    with (
        WardProcess(tmp_path, repository.settings + UPDATES, toy_period_s=PERIOD_S, installed=False) as ward,
        Monitors([bed(1, hr=80.0)], ward.hl7_port, period_s=PERIOD_S),
    ):
        ward.words(rf"update: ({TASK} has no bundle yet)")
        since = ward.wait("process", lambda m: m["name"] == "assess" and m["what"] == "back") + 1
        repository.publish("1.0.0")
        ward.words(rf"update: {TASK} 1\.0\.0 (committed)", 60)
        ward.wait("score", accepted, since)
        assert not [one for one in ward.all("process", since) if one["name"] == "assess"], "nothing was started anew"
        assert ward.end() == 0
