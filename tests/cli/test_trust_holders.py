"""The ceremony of docs/trust.md, command by command as it is written there, and what its verbs refuse."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward.cli import tuf_client
from edgeward.cli.main import main
from edgeward.exchange.enrol import grouped
from edgeward.testing.repository import tiny_bundle
from edgeward.trust.fetch import TrustClient
from edgeward.trust.public import read_public

ROOT = Path(__file__).resolve().parents[2]
SECRET = "correct horse battery"


class Terminal(io.StringIO):
    """A terminal at which a person says yes to everything."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1) -> str:
        return "yes\n"


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A person at the terminal, who types the same passphrase for every key, in a scratch folder."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)
    monkeypatch.chdir(tmp_path)


def documented(first: str, last: str) -> list[str]:
    """The commands of docs/trust.md from the heading ``first`` up to the heading ``last``."""
    text = (ROOT / "docs" / "trust.md").read_text()
    part = text[text.index(f"{first}\n") : text.index(f"{last}\n")]
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    lines = re.sub(r"\\\n\s*", "", "".join(blocks)).splitlines()
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.usefixtures("person")
def test_every_command_of_the_ceremony_runs_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first key to the last exchange, in one scratch folder; a device of the first day follows all of it."""
    commands = documented("## The ceremony", "### What is refused")
    assert len(commands) >= 25
    for name in ("keys", "small-keys", "team", "ecg"):
        (tmp_path / "media" / name).mkdir(parents=True)
    for name, version in (("ecg-beat", "1.0.0"), ("ecg-beat", "1.1.0"), ("sepsis-risk", "1.0.0")):
        (tmp_path / f"{name}-{version}.ewb").write_bytes(tiny_bundle(version, name=name))
    seen: list[str] = []
    for command in commands:
        text, _, comment = command.partition("   # ")
        arguments = [word.replace("/media/", f"{tmp_path}/media/") for word in shlex.split(text, comments=True)]
        assert arguments[0] == "edgeward"
        code = main(arguments[1:])
        out = capsys.readouterr().out
        seen.append(out)
        assert code == int("exit code 1" in comment or "1 of 2" in out), (command, out)
        root = tmp_path / "repo" / "metadata" / "1.root.json"
        if (tmp_path / "repo" / "targets").is_dir() and any((tmp_path / "repo" / "targets").glob("*.ewb")):
            device = TrustClient(tmp_path / "repo", tmp_path / "trust", root=root.read_bytes())
            version = "1.1.0" if "ecg-beat-1.1.0.ewb" in "".join(commands[: len(seen)]) else "1.0.0"
            assert device.latest("ecg-beat").version == version, command
    assert TrustClient(tmp_path / "repo", tmp_path / "trust").latest("sepsis-risk").version == "1.0.0"
    assert main(["trust", "show", "--json", "--repo", "repo", "--keys", "online-keys"]) == 0
    rows = {row["role"]: row for row in json.loads(capsys.readouterr().out)}
    ids = {name: read_public(tmp_path / f"{name}.pub.pem").keyid for name in ("ada", "ben", "cem", "dora")}
    assert {*rows["root"]["ids"]} == {ids["ada"], ids["cem"], ids["dora"]}
    assert rows["root"]["version"] == 3
    assert rows["ecg-beat"]["keys"] == ["ecg-beat-2"]
    assert not list(tmp_path.glob("repo/**/root-*.pem")) + list(tmp_path.glob("online-keys/root-*.pem"))
    follows_as_a_tuf_client(tmp_path)


def follows_as_a_tuf_client(place: Path) -> None:
    """``edgeward-tuf-client``, given the first root, comes to the third and downloads a bundle."""
    url, device = (place / "repo").as_uri(), place / "tuf"
    metadata = ["--metadata-dir", str(device / "metadata")]
    (device / "metadata").mkdir(parents=True)
    (device / "bundles").mkdir()
    assert tuf_client.main([*metadata, "init", str(place / "repo" / "metadata" / "1.root.json")]) == 0
    asked = [
        "--metadata-url",
        f"{url}/metadata",
        "--target-name",
        "ecg-beat.ewb",
        "--target-base-url",
        f"{url}/targets",
    ]
    assert tuf_client.main([*metadata, *asked, "--target-dir", str(device / "bundles"), "download"]) == 0
    assert (device / "bundles" / "ecg-beat.ewb").read_bytes() == tiny_bundle("1.1.0")
    assert json.loads((device / "metadata" / "root.json").read_bytes())["signed"]["version"] == 3


@pytest.mark.usefixtures("person")
def test_key_is_made_and_its_id_read_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The id is printed in groups of four, the same for the public key file and for the private key."""
    assert main(["trust", "key", "new", "ada.pem"]) == 0
    said = capsys.readouterr()
    shown = grouped(read_public(tmp_path / "ada.pub.pem").keyid)
    assert said.out.splitlines() == ["public key  ada.pub.pem", f"id          {shown}"]
    assert "ada.pem is the private key: it stays with you" in said.err
    for name in ("ada.pub.pem", "ada.pem"):
        assert main(["trust", "key", "show", name]) == 0
        assert capsys.readouterr().out == f"id          {shown}\n"
    assert main(["trust", "key", "new", "ada.pem"]) == 2
    assert "[key-exists]" in capsys.readouterr().err
    assert main(["trust", "key", "show", "nobody.pem"]) == 2
    assert "[public-key-unreadable]" in capsys.readouterr().err


def test_key_without_terminal_or_passphrase_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key without a passphrase is made only when that is asked for by name."""
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["trust", "key", "new", str(tmp_path / "ada.pem")]) == 2
    assert "[passphrase-missing]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["trust", "key", "new", str(tmp_path / "ada.pem"), "--no-passphrase"]) == 0


class Script:
    """The command line as a script uses it: a passphrase file, and --yes where somebody is asked."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.secret = ["--passphrase-file", str(place / "passphrase")]
        (place / "passphrase").write_text(f"{SECRET}\n")
        (place / "passphrase").chmod(0o600)
        self.folders = ["--repo", str(place / "repo"), "--keys", str(place / "keys"), *self.secret]
        for name in ("ada", "ben", "cem", "team"):
            assert main(["trust", "key", "new", str(place / f"{name}.pem"), *self.secret]) == 0

    def init(self, *more: str) -> int:
        """``trust init`` with three holders' public keys."""
        keys = [word for name in ("ada", "ben", "cem") for word in ("--root-key", str(self.place / f"{name}.pub.pem"))]
        return main(["trust", "init", *self.folders, *keys, "--family", "ecg-beat", *more])

    def sign(self, name: str) -> int:
        """``trust sign`` by one holder."""
        return main(["trust", "sign", self.draft, "--key", str(self.place / f"{name}.pem"), *self.secret, "--yes"])

    @property
    def draft(self) -> str:
        """Where init writes the draft by default."""
        return str(self.place / "keys" / "root-draft.json")


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    made = Script(tmp_path)
    capsys.readouterr()
    return made


def test_script_goes_through_the_ceremony_of_holders(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 while signatures lack, with what comes next; ids are shown before anything is made."""
    bundle = script.place / "b.ewb"
    bundle.write_bytes(tiny_bundle("1.0.0"))
    assert script.init() == 2
    said = capsys.readouterr().err
    assert "[not-confirmed]" in said or "Has the holder of each key read out the same id?" in said
    assert grouped(read_public(script.place / "ben.pub.pem").keyid) in said
    assert not (script.place / "keys").exists()
    assert script.init("--yes") == 1
    said = capsys.readouterr()
    assert "root-draft.json: 0 of 2 signatures needed by the first root's holders" in said.out
    assert "timestamp: with timestamp-1 (id " in said.err  # for the record that holders compare with
    assert "Carry it to the next holder" in said.err
    assert main(["publish", str(bundle), *script.folders]) == 2
    assert "[root-not-in-force]" in capsys.readouterr().err
    assert script.sign("ada") == 1
    said = capsys.readouterr()
    assert "1 of 2" in said.out
    assert "the FIRST of a new repository" in said.err
    assert main(["trust", "sign", script.draft, *script.folders]) == 1  # too early
    assert script.sign("team") == 2
    assert "[key-foreign]" in capsys.readouterr().err
    assert script.sign("cem") == 0
    assert "Enough have signed" in capsys.readouterr().err
    assert main(["trust", "sign", script.draft, *script.folders]) == 0
    said = capsys.readouterr()
    assert f"root 1 is in force: {script.place / 'repo' / 'metadata' / '1.root.json'}" in said.out
    assert "give this root file to every device" in said.err
    assert main(["publish", str(bundle), *script.folders]) == 0


def test_empty_folder_beside_a_begun_root_becomes_no_small_repository(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publishing with the keys of a root that waits makes no repository with one key for each role."""
    bundle = script.place / "b.ewb"
    bundle.write_bytes(tiny_bundle("1.0.0"))
    assert script.init("--yes", "--no-passphrase") == 1
    other = ["--repo", str(script.place / "other"), "--keys", str(script.place / "keys")]
    assert main(["publish", str(bundle), *other]) == 2
    assert "[root-not-in-force]" in capsys.readouterr().err
    assert not (script.place / "other").exists()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--root-key", "ada.pem"], "key-is-private"),
        (["--root-key", "ada.pub.pem", "--root-key", "ada.pub.pem"], "key-twice"),
        (["--root-key", "passphrase"], "public-key-malformed"),
        (["--root-key", "nothing"], "public-key-unreadable"),
        (["--root-key", "ada.pub.pem"], "root-threshold"),
        (["--root-key", "ada.pub.pem", "--root-keys", "1"], "init-arguments"),
        (["--draft", "x.json"], "init-arguments"),
    ],
)
def test_init_refuses_what_is_no_holders_key(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str], code: str
) -> None:
    """Each by its code, and no key is made."""
    monkeypatch.chdir(script.place)
    assert main(["trust", "init", *script.folders, "--yes", *more]) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert not (script.place / "keys").exists()


def test_family_is_handed_to_its_team_by_script(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """Delegating and exchanging with a brought key ask whose it is; a family takes one key, online roles none."""
    assert script.init("--yes") == 1
    assert [script.sign(name) for name in ("ada", "ben")] == [1, 0]
    assert main(["trust", "sign", script.draft, *script.folders]) == 0
    team = str(script.place / "team.pub.pem")
    assert main(["trust", "delegate", "sepsis-risk", "--key", team, *script.folders]) == 2
    capsys.readouterr()
    assert main(["trust", "delegate", "sepsis-risk", "--key", team, *script.folders, "--yes"]) == 0
    assert "until its team signs the first bundle" in capsys.readouterr().err
    assert main(["trust", "show", "--ids", *script.folders]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"sepsis-risk +1 of 1 +0 +unsigned", shown)
    assert grouped(read_public(script.place / "team.pub.pem").keyid) in shown
    assert main(["trust", "rotate", "ecg-beat", "--with", team, *script.folders, "--yes"]) == 2
    assert "[key-twice]" in capsys.readouterr().err
    for roles, code in ((["snapshot"], "key-online"), (["root"], "key-count")):
        dora = str(script.place / "dora.pem")
        if not Path(dora).exists():
            assert main(["trust", "key", "new", dora, *script.secret]) == 0
        public = str(script.place / "dora.pub.pem")
        assert main(["trust", "rotate", *roles, "--with", public, *script.folders, "--yes"]) == 2
        assert f"[{code}]" in capsys.readouterr().err
    assert main(["trust", "rotate", "ecg-beat", "--with", public, *script.folders, "--yes"]) == 1
    assert "the one before is not ended yet" in capsys.readouterr().out
    both = ["rotate", "root", "targets", "--replace", "root-1", "--with", public, "--with", team]
    assert main(["trust", *both, *script.folders, "--yes"]) == 2
    assert "[rotate-arguments]" in capsys.readouterr().err
    two = ["--with", public, "--with", team]
    assert main(["trust", "rotate", "ecg-beat", *two, *script.folders, "--yes"]) == 2
    assert "[rotate-arguments]" in capsys.readouterr().err


def test_keys_of_holders_are_readable_by_openssl(script: Script) -> None:
    """The public key file is what other tools call a public key in PEM (SubjectPublicKeyInfo)."""
    try:
        command = ["openssl", "pkey", "-pubin", "-in", str(script.place / "ada.pub.pem"), "-text", "-noout"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("PROGRAM ABSENT: openssl")
    digits = "".join(re.findall(r"[0-9a-f]{2}", done.stdout.partition("pub:")[2]))
    assert digits == read_public(script.place / "ada.pub.pem").keyval["public"]
