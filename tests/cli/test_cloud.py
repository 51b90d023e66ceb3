"""The scoring server's verbs: tokens are private, and what cannot be served is refused in words."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeward.cli.main import main
from edgeward.cli.shipped import shipped_bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_a_token_is_for_one_reader_and_its_hash_for_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is its owner's alone and never overwritten; what is printed does not tell the token."""
    path = tmp_path / "token"
    assert main(["cloud", "token", str(path)]) == 0
    token, printed = path.read_text().strip(), capsys.readouterr().out.strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert printed == hashlib.sha256(token.encode()).hexdigest()
    assert main(["cloud", "token", str(path)]) == 2
    assert path.read_text().strip() == token


def test_serving_starts_and_ends_in_order(tmp_path: Path) -> None:
    """It says what it serves and where, and SIGTERM ends it with the counts and exit code 0."""
    command = [sys.executable, "-m", "edgeward.cli.main", "cloud", "serve", "--port", "0"]
    command += ["--bundle", str(shipped_bundle("ecg-beat"))]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = [server.stdout.readline(), server.stdout.readline()]
    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=30)
    assert re.match(r"ecg-beat \d+\.\d+\.\d+ [0-9a-f]{16}", said[0])
    assert said[1].startswith("scoring: http://127.0.0.1:")
    assert "answered 0" in errors
    assert server.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--host", "0.0.0.0"], 2),
        (["--certificate", "chain.pem"], 2),
        (["--tokens", "missing.txt"], 2),
        (["--bundle", "missing.ewb"], 5),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], code: int) -> None:
    """Open to the world, half a certificate, no tokens, no bundle."""
    assert main(["cloud", "serve", "--port", "0", "--bundle", str(shipped_bundle("ecg-beat")), *arguments]) == code
