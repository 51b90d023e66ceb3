"""The verb ``trust`` as a person and as a script use it."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgeward.cli.main import main
from edgeward.testing.repository import tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct horse battery"


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """The arguments that name repository, keys and passphrase."""
    path = tmp_path / "passphrase"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    folders = ["--repo", str(tmp_path / "repo"), "--keys", str(tmp_path / "keys")]
    return [*folders, "--offline-keys", str(tmp_path / "offline"), "--passphrase-file", str(path)]


@pytest.fixture
def made(place: list[str]) -> list[str]:
    assert main(["trust", "init", *place, "--family", "ecg-beat", "--yes"]) == 0
    return place


def test_init_publish_and_rotate_without_a_person(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script makes a repository, publishes, exchanges a family's key and publishes on."""
    bundle = tmp_path / "b.ewb"
    for version in ("1.0.0", "1.1.0"):
        bundle.write_bytes(tiny_bundle(version))
        assert main(["publish", str(bundle), *made]) == 0
        assert main(["trust", "rotate", "ecg-beat", *made]) == 0
    capsys.readouterr()
    assert main(["trust", "show", *made, "--json"]) == 0
    rows = {row["role"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["root"]["threshold"], len(rows["root"]["keys"])) == (2, 3)
    assert rows["ecg-beat"]["version"] == 5
    assert main(["trust", "show", *made]) == 0
    assert "2 of 3" in capsys.readouterr().out


def test_publishing_beside_the_repository_makes_no_other(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a ceremony's keys a mistyped --repo is repository-missing, not a new small repository."""
    bundle = tmp_path / "b.ewb"
    bundle.write_bytes(tiny_bundle("1.0.0"))
    assert main(["publish", str(bundle), "--repo", str(tmp_path / "rpeo"), *made[2:]]) == 2
    assert "[repository-missing]" in capsys.readouterr().err
    assert not (tmp_path / "rpeo").exists()


def test_root_is_signed_from_hand_to_hand(made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the threshold the exit code is 1 and the next step is said; the last signature puts it in force."""
    secret = made[-2:]
    offline = tmp_path / "offline"
    for number in (1, 2, 3):
        (offline / f"root-{number}.pem").rename(tmp_path / f"root-{number}.pem")
    draft = offline / "root-draft.json"
    assert main(["trust", "rotate", "snapshot", "timestamp", *made]) == 1
    assert main(["trust", "rotate", "snapshot", "timestamp", *made]) == 2  # the draft is not written over
    assert main(["trust", "sign", str(draft), "--key", str(tmp_path / "root-1.pem"), *secret, "--yes"]) == 1
    said = capsys.readouterr()
    assert "1 of 2 signatures" in said.out
    assert "snapshot: with snapshot-2 (id " in said.err
    assert "next holder" in said.err
    assert main(["trust", "sign", str(draft), "--key", str(tmp_path / "root-3.pem"), *secret]) == 2  # nobody said yes
    assert main(["trust", "sign", str(draft), "--key", str(tmp_path / "root-3.pem"), *made, "--yes"]) == 0
    assert "root 2 is in force" in capsys.readouterr().out
    assert not draft.exists()


def test_key_that_is_no_root_key_is_refused(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signing with another role's key is key-foreign and leaves the draft as it is."""
    offline = tmp_path / "offline"
    (offline / "root-1.pem").rename(tmp_path / "root-1.pem")
    (offline / "root-2.pem").rename(tmp_path / "root-2.pem")
    assert main(["trust", "rotate", "root", *made]) == 1
    before = (offline / "root-draft.json").read_bytes()
    command = ["trust", "sign", str(offline / "root-draft.json"), "--key", str(offline / "targets-1.pem"), "--yes"]
    assert main([*command, *made[-2:]]) == 2
    assert "[key-foreign]" in capsys.readouterr().err
    assert (offline / "root-draft.json").read_bytes() == before


def test_second_init_is_refused(made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run makes nothing and says so."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pem")}
    assert main(["trust", "init", *made, "--yes"]) == 2
    assert "[repository-exists]" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pem")} == before


@pytest.mark.parametrize(
    ("mode", "text", "code"),
    [(0o644, SECRET, "passphrase-permissions"), (0o600, "", "passphrase-file"), (0o600, "short", "passphrase-short")],
)
def test_passphrase_file_is_checked(
    place: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: int, text: str, code: str
) -> None:
    """A passphrase that others may read, none or a short one makes no key."""
    (tmp_path / "passphrase").write_text(text)
    (tmp_path / "passphrase").chmod(mode)
    assert main(["trust", "init", *place, "--yes"]) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.pem")) == []


def test_init_without_terminal_or_passphrase_is_refused(
    place: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys without passphrases are made only when that is asked for by name."""
    monkeypatch.setattr(sys, "stdin", None)
    bare = place[:4]
    assert main(["trust", "init", *bare, "--yes"]) == 2
    assert "[passphrase-missing]" in capsys.readouterr().err
    assert main(["trust", "init", *bare, "--no-passphrase"]) == 2
    assert "[not-confirmed]" in capsys.readouterr().err
    assert main(["trust", "init", *bare, "--yes", "--no-passphrase"]) == 0


def test_person_at_a_terminal_is_led_through_init(tmp_path: Path) -> None:
    """Each key's passphrase is asked for by the key's name, twice, unseen; a short or different one is asked again."""
    command = [sys.executable, "-m", "edgeward.cli.main", "trust", "init", "--root-keys", "1", "--root-threshold", "1"]
    command += ["--repo", str(tmp_path / "repo"), "--keys", str(tmp_path / "keys")]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    answers = [
        ("Type yes:", "yes"),
        ("New passphrase for root-1", "short"),
        ("New passphrase for root-1", SECRET),
        ("root-1 again", "something different"),
        ("New passphrase for root-1", SECRET),
        ("root-1 again", SECRET),
        ("New passphrase for targets-1", SECRET),
        ("targets-1 again", SECRET),
    ]
    seen = ""
    try:
        for prompt, answer in answers:
            fresh = ""
            deadline = time.monotonic() + 60
            while prompt not in fresh:
                assert select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0], seen
                fresh += os.read(ours, 4096).decode()
            seen += fresh
            os.write(ours, f"{answer}\n".encode())
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the child has closed the terminal
                break
            if not chunk:
                break
            seen += chunk.decode()
        assert child.wait(60) == 0, seen
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert SECRET not in seen
    assert "That is too short." in seen
    assert "The two differ." in seen
    assert "give this root file to every device" in seen
    assert sorted(p.name for p in (tmp_path / "keys").glob("*.pem")) == [
        "root-1.pem",
        "snapshot-1.pem",
        "targets-1.pem",
        "timestamp-1.pem",
    ]
