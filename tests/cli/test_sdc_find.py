"""``edgeward sdc find``: what an engineer reads off it can be written into the settings as it stands."""

from __future__ import annotations

import pytest

pytest.importorskip("sdc11073", reason="SDC needs the extra: pip install 'edgeward[sdc]'")

from edgeward.bedside.source import sdc_session
from edgeward.bedside.source.sdc_link import sdc_address
from edgeward.cli.main import main
from edgeward.testing.sdc_provider import SdcMonitor

LOOPBACK = "127.0.0.1"


def test_a_device_that_announces_itself_is_listed_as_the_settings_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    """With the address that it gives."""
    with SdcMonitor(discoverable=True) as monitor:
        code = main(["sdc", "find", "--adapter", LOOPBACK])
        found = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
        named = f"{monitor.epr}?adapter={LOOPBACK}"
        if named not in found:
            pytest.skip("NO MULTICAST on this machine's loopback: WS-Discovery cannot be tried here")
        assert code == 0
        assert found[named] == monitor.url
        assert (sdc_address(named).epr, sdc_address(named).adapter) == (monitor.epr, LOOPBACK)


def test_nobody_there_is_told_and_says_what_to_look_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3."""
    monkeypatch.setattr(sdc_session, "discover", lambda adapter, seconds: [])
    assert main(["sdc", "find", "--adapter", LOOPBACK]) == 3
    assert "sdc-not-found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--adapter", "monitor.example"], ["--adapter", "192.0.2.1"], ["--adapter", LOOPBACK, "--for", "0"]]
)
def test_an_adapter_that_is_not_ours_is_a_wrong_argument(capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    """Exit code 2, and what to write."""
    assert main(["sdc", "find", *wrong]) == 2
    assert "sdc-" in capsys.readouterr().err


def test_a_device_s_words_do_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the network may answer."""
    monkeypatch.setattr(sdc_session, "discover", lambda adapter, seconds: [("urn:\x1b[2J", "http://h/\n")])
    assert main(["sdc", "find", "--adapter", LOOPBACK]) == 0
    assert capsys.readouterr().out == f"urn:?[2J?adapter={LOOPBACK}\thttp://h/?\n"
