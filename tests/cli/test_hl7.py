"""``edgeward hl7 explain`` says what becomes of every observation, and shows nobody."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from hl7_seeds import FOLDER, names, seed

from edgeward.cli.hl7_text import ADVICE
from edgeward.cli.main import main
from edgeward.cli.settings import load_hl7
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind
from edgeward.wire import mllp
from edgeward.wire.codes import site_codes
from edgeward.wire.hl7v2_ack import CONDITIONS

PRIVATE = ("4711", "Muster", "1954", "0815", "884422", "Jane", "40817", "Иванов", "MRN1001", "TEMP0099", "ACC-3344")


def _explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["hl7", "explain", *arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("name", names())
def test_every_seed_is_explained_and_shows_nobody(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Refusals have a code that docs and logs share; identifiers, names and births are masked."""
    code, text = _explain(capsys, str(FOLDER / f"{name}.hl7"))
    assert code == {"pcd04_alert_r40": 3}.get(name, 1 if "refused" in text else 0)
    assert "answer" in text
    assert not [word for word in PRIVATE if word in text]


def test_what_became_of_each_observation_stands_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Code, what was said, what it becomes, and how old it is."""
    code, text = _explain(capsys, str(FOLDER / "integrator_two_codings.hl7"))
    assert code == 1
    lines = text.splitlines()
    fever = next(line for line in lines if "8310-5" in line)
    assert "101.3 [degF]" in fever
    assert "Temperature 38.5 Cel" in fever
    assert "5 min (OBX-14)" in fever
    wrong = next(at for at, line in enumerate(lines) if "150456 CO2" in line)
    assert "refused (OBX-3): code-name-mismatch" in lines[wrong]
    assert ADVICE["code-name-mismatch"] in lines[wrong + 1]
    assert "Consciousness (ACVPU) V" in text
    assert "CA, then AA  (enhanced mode: MSH-15 AL, MSH-16 AL)" in text
    assert "9 observations taken, 3 refusals" in text


@pytest.mark.parametrize("name", names())
def test_the_lines_it_proposes_settle_what_was_refused(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They are TOML, they are accepted, and then nothing is refused for its code any more."""
    _, text = _explain(capsys, str(FOLDER / f"{name}.hl7"))
    if "[[codes]]\n" not in text:
        assert "code-unknown" not in text
        return
    settings = tmp_path / "site.toml"
    settings.write_text('[hl7]\nzone = "Europe/Berlin"\n\n' + text[text.index("[[codes]]\n") :], "utf-8")
    _, text = _explain(capsys, str(FOLDER / f"{name}.hl7"), "--settings", str(settings))
    assert not re.search(r"code-unknown|code-name-mismatch|unit-missing", text)


def test_patients_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """With the option that says so, and names never."""
    _, text = _explain(capsys, str(FOLDER / "adt_a01.hl7"), "--show-phi")
    assert "MRN4711^^^HOSP^MR" in text
    assert "Muster" not in text


def test_a_message_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Escape sequences in any field come out as dots, and a field of any length is cut."""
    path = tmp_path / "evil.hl7"
    evil = (
        seed("integrator_two_codings").replace(b"INTEGRATOR", b"\x1b[2J" + b"x" * 9999).replace(b"4 West", b"\xc2\x9b4")
    )
    path.write_bytes(evil.replace(b"Heart rate", b"\\X1B\\[31m").replace(b"|999|", b"|\x1b]0;|"))
    _, text = _explain(capsys, str(path))
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert max(map(len, text.splitlines())) < 400


def test_mllp_blocks_joined_and_broken_messages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a capture of the wire holds is read as the listener reads it."""
    path = tmp_path / "capture.bin"
    whole = mllp.encode(seed("adt_a01")) + b"\x00" + mllp.encode(seed("carescape_no_obx14") + seed("adt_a03"))
    path.write_bytes(whole + b"noise" + mllp.START + seed("adt_a08")[:120])
    code, text = _explain(capsys, str(path))
    assert code == 3
    assert text.count("── message") == 5
    assert "mllp-noise" in text
    assert "mllp-no-end" in text


def test_standard_input_and_files_that_are_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A dash is standard input; what cannot be read is an input error."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(seed("adt_a01"))))
    assert _explain(capsys, "-")[0] == 0
    (tmp_path / "empty").write_bytes(b"\r\n")
    (tmp_path / "foreign").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["hl7", "explain", str(tmp_path / "empty")]) == 3
    assert main(["hl7", "explain", str(tmp_path / "absent")]) == 3
    assert _explain(capsys, str(tmp_path / "foreign"))[0] == 3


def test_the_document_names_every_refusal_and_every_kind() -> None:
    """docs/hl7.md is where an engineer looks a code up."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "hl7.md").read_text()
    named = set(re.findall(r"`([a-z0-9-]+)`", text))
    notes = {"charset-mismatch", "charset-unknown", "charset-unstated"}  # written `charset-mismatch`, `-unknown` …
    assert (set(ADVICE) | set(CONDITIONS)) - notes <= named
    assert {kind.value for kind in Kind} - {"beat_silence"} <= set(re.findall(r"[a-z0-9_]+", text))


def test_settings_of_a_site(tmp_path: Path) -> None:
    """Zone, character set, TLS and codes; every mistake is refused."""
    path = tmp_path / "site.toml"
    path.write_text(
        '[hl7]\nhost = "0.0.0.0"\nport = 6661\nzone = "Asia/Kolkata"\ncharset = "8859/5"\n'
        'tls_certificate = "c.pem"\ntls_key = "k.pem"\n'
        '[[codes]]\ncode = "101"\nname = "HR"\nkind = "hr"\nunit = "bpm"\n'
    )
    settings, codes = load_hl7(path)
    assert (settings.host, settings.port, str(settings.zone), settings.codec) == (
        "0.0.0.0",
        6661,
        "Asia/Kolkata",
        "iso8859-5",
    )
    assert settings.tls is not None
    assert settings.tls.client_ca is None
    assert codes == site_codes([{"code": "101", "name": "HR", "kind": "hr", "unit": "bpm"}])
    assert codes[0].kind is Kind.HR
    for text, code in (
        ('[hl7]\nzone = "Mars/Olympus"', "zone-unknown"),
        ('[hl7]\nzone = "../etc/passwd"', "zone-unknown"),
        ('[hl7]\ncharset = "latin"', "charset-unknown"),
        ("[hl7]\nports = 1", "setting-unknown"),
        ('[hl7]\nport = "1"', "setting-invalid"),
        ("[hl7]\nport = 99999", "setting-invalid"),
        ('[hl7]\ntls_key = "k.pem"', "setting-incomplete"),
        ('[hl7]\ntls_client_ca = "ca.pem"', "setting-incomplete"),
        ('[codes]\ncode = "1"', "setting-invalid"),
        ('[[codes]]\ncode = "1"\nkind = "pulse_rate"', "codes-invalid"),
        ("[hl8]", "setting-unknown"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_hl7(path)
        assert refused.value.code == code, text
