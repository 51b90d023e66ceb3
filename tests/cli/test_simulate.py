"""What ``simulate monitor`` refuses before it plays anybody."""

from __future__ import annotations

import pytest

from edgeward.cli.main import main


@pytest.mark.parametrize("past", ["601", "-1", "0.5", "long"])
def test_a_past_that_nobody_can_bring_along_is_refused(past: str, capsys: pytest.CaptureFixture[str]) -> None:
    """More than ten hours, less than none, parts of a minute, words."""
    source = f"patients:stable?past={past}"
    assert main(["simulate", "monitor", "--source", source, "--to", "hl7://127.0.0.1:1"]) == 2
    assert "source-malformed" in capsys.readouterr().err
