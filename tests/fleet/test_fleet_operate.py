"""What an operator does from another machine, by the command line over the server's REST interface."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conduct_support import FAMILY, Site
from fleet_support import Served

from edgeward.cli.main import main
from edgeward.exchange.words import UpdateState
from edgeward.fleet.accounts import Role
from edgeward.fleet.api import rollouts
from edgeward.fleet.serve import listen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet_support import FleetKit

    from edgeward.fleet.store.engine import Store

PLAN = """
gap = "0 min"
[[stage]]
name = "canary"
count = 2
success = "100 %"
errors = "0 %"
[[stage]]
name = "the rest"
"""


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """SQLite is enough here."""
    return sqlite_store


class Desk:
    """A running server, devices, and people with token files."""

    def __init__(self, kit: FleetKit, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.site = Site(kit, 4, groups=("icu",))
        kit.fleet = replace(kit.with_rollouts(self.site.book).fleet, desk=self.site.desk)
        self.served = Served(kit, listen(kit.settings), routers=(rollouts.router,))
        self.folder, self._capsys = folder, capsys
        for name, role in {"ann": Role.OPERATOR, "ben": Role.APPROVER, "quinn": Role.AUDITOR}.items():
            (folder / name).write_text(kit.token(name, role) + "\n")

    def run(self, who: str, *words: str, code: int = 0) -> str:
        """One command; what it printed, errors included."""
        url = str(self.served.client.base_url)
        found = main(["fleet", *words, "--server", url, "--token-file", str(self.folder / who)])
        said = self._capsys.readouterr()
        assert found == code, said
        return said.out + said.err


@pytest.fixture
def desk(kit: FleetKit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    made = Desk(kit, tmp_path, capsys)
    yield made
    made.served.close()


def test_whole_road_from_another_machine(desk: Desk) -> None:
    """Draft with a plan's file, approve, watch, and read the devices."""
    plan = desk.folder / "plan.toml"
    plan.write_text(PLAN)
    assert "rollout 1 is drafted" in desk.run("ann", "rollout", "create", FAMILY, "--plan", str(plan))
    assert "rollout 1 is approved" in desk.run("ben", "rollout", "approve", "1")
    for _ in range(8):
        desk.site.round()
    shown = desk.run("ann", "rollout", "show", "1")
    assert "completed" in shown
    columns, *rows = [re.split(r" {2,}", line) for line in shown.splitlines()[-3:]]
    assert [row[:2] for row in rows] == [["canary", "passed"], ["the rest", "passed"]]
    for row in rows:
        found = dict(zip(columns[2:], row[2:], strict=True))
        assert found.pop("COMMITTED") == "2"
        assert set(found) >= {"WORKING", "SILENT", "ENDED", "ALREADY"}
        assert set(found.values()) == {"0"}
    table = desk.run("ann", "rollouts").splitlines()
    assert table[0].startswith("NO  BUNDLE")
    assert "ecg-beat 2.0.0  completed" in table[1]
    devices = json.loads(desk.run("ann", "devices", "--group", "icu", "--json"))
    assert {family["version"] for one in devices for family in one["families"]} == {"2.0.0"}
    name = devices[0]["id"]
    assert "ecg-beat  2.0.0" in desk.run("ann", "device", name)
    assert len(desk.run("ann", "rollout", "devices", "1", "--standing", "committed").splitlines()) == 5
    assert "rollout.completed" in desk.run("quinn", "audit", "list", "--action", "rollout.completed")
    assert "no rollout is like this" in desk.run("ann", "rollouts", "--status", "halted")


def test_failures_are_read_from_the_command_line(desk: Desk) -> None:
    """A halted rollout, why, on which devices."""
    desk.run("ann", "rollout", "create", FAMILY)
    desk.run("ben", "rollout", "approve", "1")
    for device in desk.site.devices.values():
        device.will = UpdateState.FAILED
    for _ in range(3):
        desk.site.round()
    shown = desk.run("ann", "rollout", "show", "1")
    assert "halted (too-many-errors)" in shown
    sentence = "golden-failed: golden vectors gave other scores on the device"
    assert sentence in shown
    table = desk.run("ann", "rollout", "devices", "1", "--errors")
    assert sentence in table
    assert sentence in desk.run("ann", "device", table.splitlines()[1].split()[0])


def test_a_device_gets_its_group_and_tags_from_another_machine(desk: Desk) -> None:
    """Tags are put on and taken off one by one; who may only look may not; a group's name must be one."""
    name = json.loads(desk.run("ann", "devices", "--json"))[0]["id"]
    said = desk.run("ann", "describe", name, "--label", "bed 9", "--group", "ward", "--tag", "new", "--tag", "canary")
    assert said == f"{name}: label bed 9, group ward, tags canary, new\n"
    assert "group none, tags canary\n" in desk.run("ann", "describe", name, "--untag", "new", "--group", "")
    assert json.loads(desk.run("ann", "devices", "--tag", "canary", "--json"))[0]["id"] == name
    assert "[not-permitted]" in desk.run("ben", "describe", name, "--group", "ward", code=2)
    assert "a group's name is made of" in desk.run("ann", "describe", name, "--group", "g" * 65, code=3)
    assert "[change-missing]" in desk.run("ann", "describe", name, code=2)
    assert json.loads(desk.run("ann", "describe", name, "--group", "icu", "--json"))["group"] == "icu"


@pytest.mark.parametrize(("end", "state"), [("revoke", "revoked"), ("lost", "lost")])
def test_a_stolen_device_is_ended_from_another_machine(desk: Desk, end: str, state: str) -> None:
    """By an operator; whoever approves rollouts may not."""
    name = json.loads(desk.run("ann", "devices", "--json"))[0]["id"]
    assert "not-permitted" in desk.run("ben", end, name, code=2)
    assert f"{name} is {state}" in desk.run("ann", end, name)
    assert json.loads(desk.run("ann", "device", name, "--json"))["device"]["state"] == state
    assert "already" in desk.run("ann", end, name, code=3)
    other = json.loads(desk.run("ann", "devices", "--state", "active", "--json"))[0]["id"]
    assert json.loads(desk.run("ann", end, other, "--json")) == {"id": other, "state": state}
    desk.run("ann", end, f"d-{'0' * 16}", code=3)


def test_refusals_have_their_exit_codes(desk: Desk) -> None:
    """7: the rollout may not; 2: the token may not, or there is no server; 3: there is no such thing."""
    desk.run("ann", "rollout", "create", FAMILY)
    assert "[rollout-state]" in desk.run("ann", "rollout", "resume", "1", code=7)
    assert "[rollout-changed]" in desk.run("ann", "rollout", "abort", "1", "--revision", "9", code=7)
    assert "[not-permitted]" in desk.run("ann", "rollout", "approve", "1", code=2)
    assert "[device-unknown]" in desk.run("ann", "device", "d-0000000000000000", code=3)
    assert "[rollout-unknown]" in desk.run("ann", "rollout", "show", "77", code=7)
    bad = desk.folder / "plan.toml"
    bad.write_text('soak = "for ever"')
    assert "[plan-text]" in desk.run("ann", "rollout", "create", FAMILY, "--plan", str(bad), code=7)
    (desk.folder / "old").write_text("ew_" + "0" * 64)
    assert "[sign-in-needed]" in desk.run("old", "rollouts", code=2)


def test_wrong_servers_are_said(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server, no URL, a token in the open, and no token."""
    token = ["--token-file", str(desk.folder / "ann")]
    for server, code in (
        ("http://127.0.0.1:9", "fleet-unreachable"),
        ("fleet.example", "fleet-url"),
        ("http://fleet.example", "fleet-plain"),
    ):
        assert main(["fleet", "rollouts", "--server", server, *token]) == 2
        assert f"[{code}]" in capsys.readouterr().err
    monkeypatch.delenv("EDGEWARD_FLEET_TOKEN", raising=False)
    assert main(["fleet", "rollouts"]) == 2
    assert "[token-missing]" in capsys.readouterr().err
    monkeypatch.setenv("EDGEWARD_FLEET_TOKEN", (desk.folder / "ann").read_text())
    assert main(["fleet", "rollouts", "--server", str(desk.served.client.base_url)]) == 0
    settings = desk.folder / "settings.toml"
    settings.write_text(f'[fleet_client]\nserver = "{desk.served.client.base_url}"\ntoken_file = "{desk.folder}/ann"\n')
    assert main(["fleet", "rollouts", "--settings", str(settings)]) == 0
