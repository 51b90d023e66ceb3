"""``edgeward device enrol`` and ``status``, against a fleet on loopback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.files import RealFiles
from edgeward.bedside.fleet_link.identity import Identity
from edgeward.bedside.fleet_link.notes import Notes, write_notes
from edgeward.cli import device as verbs
from edgeward.cli.main import main
from edgeward.exchange.enrol import Application, Credential, Standing, grouped
from edgeward.exchange.typed import decode, encode
from edgeward.testing.fleet.authority import DEVICE

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import StubFleet


class Operator:
    """Answers applications: ``standings`` one after the other, then the last for ever."""

    def __init__(self, fleet: StubFleet, *standings: Standing, age: timedelta = timedelta(days=1)) -> None:
        self.standings, self.age, self.issuer = list(standings), age, fleet.issuer
        self.seen: list[Application] = []
        fleet.answer = self.answer

    def answer(self, path: str, body: bytes, known: bool) -> tuple[int, bytes, dict[str, str]]:
        application = decode(Application, body, bytes_max=1 << 15)
        self.seen.append(application)
        standing = self.standings.pop(0) if len(self.standings) > 1 else self.standings[0]
        accepted = standing is Standing.ACCEPTED
        pem = self.issuer.certificate(application.csr, begins=datetime.now(UTC) - self.age) if accepted else ""
        return 200, encode(Credential(standing, "ab" * 32, DEVICE if accepted else None, pem, 1)), {}


def enrol(fleet: StubFleet, folder: Path, *more: str) -> int:
    return main(["device", "enrol", "--url", fleet.url, "--ca", str(fleet.ca), "--folder", str(folder), *more])


def test_the_fingerprint_is_shown_before_anything_else(
    fleet: StubFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Operator(fleet, Standing.PENDING)
    assert enrol(fleet, tmp_path / "me") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"fingerprint  {grouped(Identity(tmp_path / 'me').asked_for())}"
    assert lines[1].startswith("pending:")


def test_waiting_ends_when_an_operator_accepts(
    fleet: StubFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs.time, "sleep", lambda seconds: None)
    operator = Operator(fleet, Standing.PENDING, Standing.PENDING, Standing.ACCEPTED)
    assert enrol(fleet, tmp_path / "me", "--wait") == 0
    assert f"accepted as {DEVICE}, until " in capsys.readouterr().out
    assert len({one.csr for one in operator.seen}) == 1
    assert enrol(fleet, tmp_path / "me") == 0
    assert f"enrolled as {DEVICE}" in capsys.readouterr().out
    assert len(operator.seen) == 3, "a device that is enrolled bothers nobody"


def test_a_token_is_read_from_a_file_of_its_owner_alone(fleet: StubFleet, tmp_path: Path) -> None:
    operator = Operator(fleet, Standing.ACCEPTED)
    token = tmp_path / "token"
    token.write_text("once-only_1\n")
    token.chmod(0o644)
    assert enrol(fleet, tmp_path / "me", "--token-file", str(token)) == 2
    token.chmod(0o600)
    assert enrol(fleet, tmp_path / "me", "--token-file", str(token)) == 0
    assert [one.token for one in operator.seen] == ["once-only_1"]


def test_again_asks_with_another_key_and_keeps_the_pair_in_use_until_there_is_one(
    fleet: StubFleet, tmp_path: Path
) -> None:
    operator = Operator(fleet, Standing.ACCEPTED, Standing.PENDING, Standing.ACCEPTED)
    enrol(fleet, tmp_path / "me")
    before = Identity(tmp_path / "me").look()
    assert enrol(fleet, tmp_path / "me", "--again") == 0
    assert Identity(tmp_path / "me").look() == before
    assert operator.seen[0].csr != operator.seen[1].csr
    write_notes(tmp_path / "me", RealFiles(), Notes(3, "shut-out"))
    assert enrol(fleet, tmp_path / "me") == 0, "the application under way is asked about"
    assert operator.seen[2].csr == operator.seen[1].csr
    assert Identity(tmp_path / "me").look() != before


def test_rejection_ends_with_a_code_and_the_next_application_is_another(fleet: StubFleet, tmp_path: Path) -> None:
    operator = Operator(fleet, Standing.REJECTED)
    assert enrol(fleet, tmp_path / "me") == 4
    assert enrol(fleet, tmp_path / "me") == 4
    assert operator.seen[0].csr != operator.seen[1].csr


def test_an_unreachable_fleet_is_an_error_with_its_word(
    fleet: StubFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.url = "https://127.0.0.1:9"
    assert enrol(fleet, tmp_path / "me") == 4
    assert "[fleet-unreachable]" in capsys.readouterr().err
    assert Identity(tmp_path / "me").asked_for(), "the key is kept for the next try"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ("", "name the fleet"),
        ('[fleet]\nurl = "http://fleet"\nca = "x"', "https://HOST"),
        ('[fleet]\nurl = "https://fleet/path"\nca = "x"', "https://HOST"),
        ('[fleet]\nurl = "https://fleet"', "ca must name"),
        ('[fleet]\nurl = "https://fleet"\nca = "x"\nrate = 3', "no setting 'rate'"),
        ('[fleet]\nurl = "https://fleet"\nca = "x"\nwindows = ["02:00-03:00"]', "move it to [updates]"),
    ],
)
def test_what_a_site_writes_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, word: str
) -> None:
    file = tmp_path / "ward.toml"
    file.write_text(settings)
    assert main(["device", "enrol", "--settings", str(file), "--folder", str(tmp_path / "me")]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(days=1), "not yet due for renewal"),
        (timedelta(days=20), "renewal is due"),
        (timedelta(days=50), "expired on"),
        (timedelta(days=-2), "clock is behind"),
    ],
)
def test_status_says_how_a_device_stands(
    fleet: StubFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], age: timedelta, words: str
) -> None:
    Operator(fleet, Standing.ACCEPTED, age=age)
    enrol(fleet, tmp_path / "me")
    write_notes(tmp_path / "me", RealFiles(), Notes(7, "shut-out", "certificate-not-taken", 1_790_000_000))
    capsys.readouterr()
    assert main(["device", "status", "--folder", str(tmp_path / "me")]) == 0
    said = capsys.readouterr().out
    assert words in said
    assert "last heard   2026-09-21 14:13 UTC" in said
    assert "shut out (revoked or expired); edgeward device enrol --again, last trouble: certificate-not-taken" in said
    assert "7 starts" in said


def test_status_of_a_device_without_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "status", "--folder", str(tmp_path / "me")]) == 0
    assert "not enrolled; to apply: edgeward device enrol" in capsys.readouterr().out
