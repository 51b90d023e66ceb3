"""Source addresses: what they mean, and what a wrong one says."""

from __future__ import annotations

import sys

import pytest

from edgeward.bedside.system import SystemClock
from edgeward.cli.sources import demo_scenario, open_source
from edgeward.kernel.errors import ConfigError, InputError


def test_the_simulator_is_opened_by_name_and_options() -> None:
    """sim: takes a scenario, a seed and a rate."""
    source = open_source("sim:ectopy?seed=3&rate=500", SystemClock(), 0.0)
    assert source.info.simulated
    assert source.info.rate_hz == 500.0
    assert len(source.info.leads) == 12
    source.close()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("serial:/dev/x", "source-unknown"),
        ("sim:nonsense", "scenario-unknown"),
        ("sim:?speed=2", "source-malformed"),
        ("sim:?seed=one", "source-malformed"),
        ("sim:?seed=-1", "source-malformed"),
        ("sim:?seconds=nan", "source-malformed"),
        ("sim:?seconds=inf", "source-malformed"),
        ("sim:?seconds=-1", "source-malformed"),
        ("sim:demo?length=nan", "source-malformed"),
        ("tcp://host", "source-malformed"),
        ("tcp://host:99999", "source-malformed"),
        ("sdc:127.0.0.1:80", "sdc-address"),
        ("sdc:http://host/x#speed=1", "source-malformed"),
        ("sdc:https://host/x#key=a.pem", "source-malformed"),
        ("sdc:http://host/x#port=x", "source-malformed"),
        ("sdc:https://host/x#certificate=a.pem&key=b.pem&authority=c.pem", "tls-files"),
    ],
)
def test_a_wrong_address_says_what_is_known(address: str, code: str) -> None:
    """Each is the operator's error, with a code."""
    with pytest.raises(ConfigError) as refused:
        open_source(address, SystemClock(), 1.0)
    assert refused.value.code == code


def test_an_absent_record_and_an_absent_monitor_are_input_errors(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Nothing there to read is an InputError, and a monitor is not waited for for ever."""
    with pytest.raises(InputError):
        open_source(f"wfdb:{tmp_path}", SystemClock(), 0.0)
    for address in ("tcp://127.0.0.1:9", "sdc:http://127.0.0.1:9/x#host=127.0.0.1&mds=m"):
        with pytest.raises(InputError):
            open_source(address, SystemClock(), 1.0, wait_s=0.3)


def test_a_device_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDC is an extra; everything else works without it."""
    monkeypatch.delitem(sys.modules, "edgeward.bedside.source.sdc_session", raising=False)
    monkeypatch.delattr("edgeward.bedside.source.sdc_session", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "sdc11073"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as refused:
        open_source("sdc:http://127.0.0.1:9/x", SystemClock(), 1.0)
    assert refused.value.code == "sdc-not-installed"
    assert "edgeward[sdc]" in str(refused.value)


@pytest.mark.parametrize("seconds", [20.0, 30.0, 90.0])
def test_the_demo_tells_its_whole_story_in_its_time(seconds: float) -> None:
    """Ectopic beats, then leads off, all before the engine is killed."""
    episodes = demo_scenario(seconds)
    off = next(e for e in episodes if e.what == "lead_off")
    assert max(e.at_s for e in episodes if e.what != "lead_off" and e.at_s < off.at_s) < off.at_s
    assert off.at_s + off.duration_s < 0.6 * seconds
