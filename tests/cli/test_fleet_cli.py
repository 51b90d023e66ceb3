"""``edgeward fleet`` on the server's own machine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeward.cli.fleet_settings import load_fleet
from edgeward.cli.main import main
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse battery"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["fleet", *arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    pytest.importorskip("fastapi", reason="the fleet extra is not installed")
    assert run(capsys, "init", "--folder", str(tmp_path / "fleet"), "--name", "fleet.example")[0] == 0
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return str(tmp_path / "fleet")


def test_init_makes_what_is_missing_and_keeps_what_is_there(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path.name: (path.stat().st_mode & 0o777, path.read_bytes()) for path in (tmp_path / "fleet").glob("*.pem")}
    assert {name: mode for name, (mode, _) in files.items()} == {
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "server.pem": 0o644,
        "server-key.pem": 0o600,
    }
    code, out, _ = run(capsys, "init", "--folder", folder)
    assert (code, "(kept)" in out) == (0, True)
    assert all((tmp_path / "fleet" / name).read_bytes() == body for name, (_, body) in files.items())


def test_an_authority_whose_key_others_can_read_is_refused(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fleet" / "ca-key.pem").chmod(0o644)
    code, _, err = run(capsys, "serve", "--folder", folder, "--port", "0")
    assert code == 2
    assert "authority-key-open" in err


def test_users_are_made_changed_and_listed(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = str(tmp_path / "password")
    assert (
        run(capsys, "user", "add", "olga", "--role", "operator", "--password-file", secret, "--folder", folder)[0] == 0
    )
    code, _, err = run(capsys, "user", "add", "olga", "--role", "viewer", "--password-file", secret, "--folder", folder)
    assert (code, "user-exists" in err) == (3, True)
    assert run(capsys, "user", "change", "olga", "--role", "approver", "--disable", "--folder", folder)[0] == 0
    assert run(capsys, "user", "list", "--folder", folder)[1].split() == ["olga", "approver", "local", "locked"]
    code, out, err = run(capsys, "user", "token", "olga", "--folder", folder)
    assert (code, out.startswith("ew_"), "this once" in err) == (0, True, True)


def test_the_audit_is_verified_against_a_head_that_was_noted(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    noted = run(capsys, "audit", "verify", "--folder", folder)[1].strip()
    assert noted.startswith("1:")
    assert run(capsys, "token", "--folder", folder)[0] == 0
    assert run(capsys, "audit", "verify", "--folder", folder, "--expect", noted)[0] == 0
    code, _, err = run(capsys, "audit", "verify", "--folder", folder, "--expect", f"1:{'0' * 64}")
    assert (code, "audit-broken" in err) == (4, True)
    assert run(capsys, "audit", "verify", "--folder", folder, "--expect", "first")[0] == 2


def test_an_unknown_application_is_said_to_be(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "enrolments", "accept", "a" * 64, "--folder", folder)
    assert (code, "enrolment-unknown" in err) == (3, True)
    assert "nobody waits" in run(capsys, "enrolments", "list", "--folder", folder)[1]
    assert run(capsys, "enrolments", "list", "--json", "--folder", folder)[1].strip() == "[]"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--group", "g" * 65], "a group's name is made of"),
        (["--tag", "<b>"], "a device has 32 tags at most, and each is made of"),
        (["--label", "l" * 129], "a label has 128 characters at most"),
    ],
)
def test_what_the_interface_would_refuse_is_refused_on_the_server_too(
    folder: str, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    """A token gives no group that no rollout could name, and an acceptance neither."""
    for verb in (["token"], ["enrolments", "accept", "a" * 64]):
        code, out, err = run(capsys, *verb, *given, "--folder", folder)
        assert (code, out, words in err, "[request-unfit]" in err) == (3, "", True, True)


def test_without_the_extra_every_verb_says_which_extra_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('fastapi', 'sqlalchemy', 'alembic', 'uvicorn')))\n"
        "from edgeward.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for verb in (["init"], ["serve"], ["user", "list"], ["audit", "verify"]):
        command = [sys.executable, "-c", script, "fleet", *verb, "--folder", str(tmp_path / "x")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "edgeward[fleet]" in done.stderr


def test_settings_are_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[fleet]\nhost = "0.0.0.0"\ntls = false\ntrusted_proxies = ["10.0.0.1"]\n[fleet.oidc]\n'
        'issuer = "https://idp.example"\nclient_id = "edgeward"\n[fleet.oidc.roles]\nstaff = "viewer"\n'
    )
    settings = load_fleet(file, {"port": 0})
    assert (settings.host, settings.port, settings.trusted_proxies) == ("0.0.0.0", 0, ("10.0.0.1",))
    assert settings.oidc is not None
    assert settings.oidc.roles == (("staff", "viewer"),)
    for text, code in (
        ("[fleet]\nprot = 1\n", "setting-unknown"),
        ('[fleet]\nhost = "0.0.0.0"\ntls = false\n', "fleet-open"),
        ("[fleet]\nworkers = 0\n", "setting-invalid"),
        ('[fleet]\nkey = "x"\n', "setting-incomplete"),
        ('[fleet.oidc]\nissuer = "https://x"\n[fleet.oidc.roles]\na = "admin"\n', "setting-invalid"),
        ('[fleet.oidc]\nissuer = "https://x"\n[fleet.oidc.roles]\na = "viewer"\n', "setting-incomplete"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_fleet(file, {})
        assert refused.value.code == code, text
