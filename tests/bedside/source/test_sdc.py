"""Numerics of real SDC devices on loopback: they arrive, and keep arriving, whatever the device does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from rim_recorder import RimRecorder

from edgeward.bedside.source import sdc_link
from edgeward.bedside.source.reading import Change, Reading, Receipt
from edgeward.bedside.source.sdc import QUEUE_MAX, SdcSource
from edgeward.bedside.source.sdc_link import SdcAddress, sdc_address
from edgeward.bedside.source.sdc_session import SdcTls, discover, sdc_tls
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind
from edgeward.testing.sdc_provider import SdcMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOCK = SystemClock()


@pytest.fixture
def rim() -> Iterator[RimRecorder]:
    """A rim on its own loop."""
    recorder = RimRecorder()
    yield recorder
    recorder.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a quiet device more often than at a bed, so that a test need not wait."""
    monkeypatch.setattr(sdc_link, "ASK_QUIET_S", 0.5)
    monkeypatch.setattr(sdc_link, "ASK_S", 1.0)


def _tls(folder: Path, authority: trustme.CA) -> SdcTls:
    certificate = authority.issue_cert("127.0.0.1")
    folder.mkdir()
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return sdc_tls(str(folder / "own.pem"), str(folder / "own.pem"), str(folder / "ca.pem"))


@contextlib.contextmanager
def _listening(rim: RimRecorder, *addresses: SdcAddress, tls: SdcTls | None = None) -> Iterator[SdcSource]:
    source = SdcSource(addresses, rim, CLOCK, host="127.0.0.1", tls=tls)
    rim.run(source.start())
    try:
        yield source
    finally:
        rim.run(source.close())
        ours = ("sdc-hub", "sdc-link", "SubscriptionClient", "Thread-")  # the library names its own, or does not
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]
        assert not left, "the source leaves no thread behind"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_numerics_arrive_under_the_patient_and_place(rim: RimRecorder, tmp_path: Path, secure: bool) -> None:
    """From a real provider, with TLS on both ways and without."""
    authority = trustme.CA()
    mine, theirs = (_tls(tmp_path / who, authority) if secure else None for who in ("device", "monitor"))
    with SdcMonitor(tls=theirs) as monitor:
        assert monitor.url.startswith("https:" if secure else "http:")
        monitor.set_patient("P1", born="1950-03-04", sex="F", category="Ad")
        monitor.set_location(poc="ICU", bed="5", facility="H")
        with _listening(rim, sdc_address(monitor.url), tls=mine):
            rim.wait(lambda: rim.changes() == [Change.ADMIT])
            monitor.set_numerics({Kind.HR: 72, Kind.SPO2: 97, Kind.TEMP: 36.6})
            rim.wait(lambda: len(rim.values(Kind.TEMP)) == 1)
            monitor.set_numerics({Kind.HR: None}, validity="NA")
            rim.wait(lambda: rim.values(Kind.HR) == [72.0, None])
    assert rim.peers[0] == (sdc_address(monitor.url).name, True)
    measured = [reading for reading in rim.readings if reading.numerics]
    assert {reading.place for reading in measured} == {"ICU^^5"}
    for reading in measured:
        assert reading.patient is not None
        assert reading.patient.identifiers == {"P1^^^urn:oid:1.2.3^"}
        assert reading.patient.sex == "f"
        for numeric in reading.numerics:
            assert 0 <= reading.received_ns - numeric.at_ns < 2_000_000_000
    assert rim.codes() == []


def test_a_device_without_our_certificate_authority_is_not_believed(rim: RimRecorder, tmp_path: Path) -> None:
    """A monitor of another authority is refused, and never spoken to in plain text instead."""
    mine, theirs = (_tls(tmp_path / who, trustme.CA()) for who in ("device", "monitor"))
    with SdcMonitor(tls=theirs) as monitor, _listening(rim, sdc_address(monitor.url), tls=mine) as source:
        rim.wait(lambda: "sdc-connection-lost" in rim.codes())
        assert source.devices[0].link.connections == 0
        assert rim.peers == []


def test_a_restarted_device_is_taken_back(rim: RimRecorder) -> None:
    """A new run at the same address: its patient is asked for anew, its numbers arrive."""
    with SdcMonitor() as monitor:
        monitor.set_patient("P1")
        with _listening(rim, sdc_address(monitor.url)) as source:
            rim.wait(lambda: rim.changes() == [Change.ADMIT])
            monitor.set_numerics({Kind.HR: 72})
            rim.wait(lambda: rim.values(Kind.HR) == [72.0])
            monitor.restart()
            rim.wait(lambda: source.devices[0].link.connections == 2)
            monitor.set_numerics({Kind.HR: 80})
            rim.wait(lambda: rim.values(Kind.HR)[-1] == 80.0)
    name = sdc_address(monitor.url).name
    assert rim.peers == [(name, True), (name, False), (name, True)]
    assert rim.changes() == [Change.ADMIT, Change.DISCHARGE]
    assert [reading for reading in rim.readings if reading.numerics][-1].patient is None


def test_a_device_that_says_goodbye_is_waited_for(rim: RimRecorder) -> None:
    """The end of a subscription is the end of the connection; the next one is tried until it stands."""
    monitor = SdcMonitor()
    address = sdc_address(monitor.url)
    with _listening(rim, address):
        rim.wait(lambda: rim.peers == [(address.name, True)])
        monitor.close()
        rim.wait(lambda: "sdc-ended" in rim.codes())
        rim.wait(lambda: "sdc-connection-lost" in rim.codes())
    assert rim.peers[-1] == (address.name, False)


def test_a_silent_subscription_is_noticed(rim: RimRecorder) -> None:
    """A device that renews and answers but reports nothing is connected to anew, and no value is lost meanwhile."""
    with SdcMonitor() as monitor, _listening(rim, sdc_address(monitor.url)) as source:
        rim.wait(lambda: source.devices[0].link.connections == 1)
        with monitor.silent():
            monitor.set_numerics({Kind.HR: 41})
            rim.wait(lambda: rim.values(Kind.HR) == [41.0])
            rim.wait(lambda: "sdc-silent" in rim.codes())
        rim.wait(lambda: source.devices[0].link.connections == 2)
        monitor.set_numerics({Kind.HR: 42})
        rim.wait(lambda: rim.values(Kind.HR) == [41.0, 42.0])


def test_a_unit_that_changes_in_mid_stream_is_followed(rim: RimRecorder) -> None:
    """The description is asked for again before any value in the new unit is given."""
    with SdcMonitor() as monitor, _listening(rim, sdc_address(monitor.url)) as source:
        rim.wait(lambda: source.devices[0].link.connections == 1)
        monitor.set_numerics({Kind.ETCO2: 38})
        rim.wait(lambda: rim.values(Kind.ETCO2) == [38.0])
        monitor.set_unit(Kind.ETCO2, "265987")
        rim.wait(lambda: rim.values(Kind.ETCO2) == [38.0, None])
        monitor.set_numerics({Kind.ETCO2: 5})
        rim.wait(lambda: rim.values(Kind.ETCO2) == [38.0, None, pytest.approx(37.503, abs=1e-3)])
        assert source.devices[0].link.connections == 1


def test_a_patient_change_never_mixes_numbers(rim: RimRecorder) -> None:
    """Numbers before and after go under their own names."""
    with SdcMonitor() as monitor, _listening(rim, sdc_address(monitor.url)):
        for number, who in enumerate(("A", "B", "C")):
            monitor.set_patient(who)
            monitor.set_numerics({Kind.HR: 60 + number})
        rim.wait(lambda: 62.0 in rim.values(Kind.HR))
    for reading in rim.readings:
        for numeric in reading.numerics:
            assert reading.patient is not None
            assert numeric.value is not None
            assert reading.patient.identifiers == {f"{'ABC'[round(numeric.value) - 60]}^^^urn:oid:1.2.3^"}


def test_a_device_is_found_by_its_endpoint_reference(rim: RimRecorder) -> None:
    """WS-Discovery on loopback: announced, found, connected; after a restart at another port, found again."""
    with SdcMonitor(discoverable=True) as monitor:
        if (monitor.epr, monitor.url) not in discover("127.0.0.1"):
            pytest.skip("NO MULTICAST on this machine's loopback: WS-Discovery cannot be tried here")
        with _listening(rim, sdc_address(f"{monitor.epr}?adapter=127.0.0.1")) as source:
            rim.wait(lambda: rim.peers == [(monitor.epr, True)])
            monitor.set_numerics({Kind.HR: 72})
            rim.wait(lambda: rim.values(Kind.HR) == [72.0])
            assert source.devices[0].link.last_error == ""


def test_several_devices_share_one_source(rim: RimRecorder) -> None:
    """Each is a peer of its own."""
    one, two = SdcMonitor(kinds=[Kind.HR]), SdcMonitor(kinds=[Kind.HR])
    with one, two, _listening(rim, sdc_address(one.url), sdc_address(two.url)):
        rim.wait(lambda: len(rim.peers) == 2)
        one.set_numerics({Kind.HR: 61})
        two.set_numerics({Kind.HR: 62})
        rim.wait(lambda: sorted(map(float, filter(None, rim.values(Kind.HR)))) == [61.0, 62.0])
    assert len({reading.peer for reading in rim.readings if reading.numerics}) == 2


def test_a_rim_that_cannot_take_gets_it_again(rim: RimRecorder) -> None:
    """Nothing is lost and nothing overtakes."""
    with SdcMonitor() as monitor, _listening(rim, sdc_address(monitor.url)):
        rim.wait(lambda: rim.peers)
        rim.answer = Receipt.LATER
        for value in (70, 71, 72):
            monitor.set_numerics({Kind.HR: value})
        time.sleep(0.3)
        assert rim.values(Kind.HR) == []
        rim.answer = Receipt.TAKEN
        rim.wait(lambda: rim.values(Kind.HR) == [70.0, 71.0, 72.0])


def test_the_queue_to_a_stuck_rim_is_bounded() -> None:
    """The oldest numerics go, counted; word of who lies where stays."""

    class _Stuck:
        def take(self, reading: Reading) -> Receipt:
            return Receipt.LATER

        def peer(self, source: str, peer: str, *, connected: bool) -> None:
            raise AssertionError("nothing was connected")

    async def fill() -> tuple[int, list[Reading]]:
        source = SdcSource([SdcAddress("http://127.0.0.1:1/x")], _Stuck(), CLOCK, host="127.0.0.1")
        source._loop = asyncio.get_running_loop()
        source.put(Reading("sdc", "", "p", 0, change=Change.DISCHARGE))
        for _ in range(QUEUE_MAX + 10):
            source.put(Reading("sdc", "", "p", 1))
        await asyncio.sleep(0.05)
        queue = [item for item in source._queue if isinstance(item, Reading)]
        source._loop = None
        await source.close()
        return source.dropped, queue

    dropped, queue = asyncio.run(fill())
    assert (dropped, len(queue)) == (11, QUEUE_MAX)
    assert queue[0].change is Change.DISCHARGE


def test_no_log_holds_a_message(
    rim: RimRecorder, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library would log whole messages, patients included; nothing of it reaches a log or a terminal."""
    caplog.set_level(logging.DEBUG)
    with SdcMonitor() as monitor:
        monitor.set_patient("SECRET-P1")
        with _listening(rim, sdc_address(monitor.url)):
            rim.wait(lambda: rim.changes() == [Change.ADMIT])
            monitor.restart()
            rim.wait(lambda: len(rim.peers) == 3)
    out, err = capfd.readouterr()
    assert "SECRET" not in caplog.text + out + err


@pytest.mark.parametrize(
    "text", ["", "ftp://h/x", "http:///x", "urn:uuid:1", "urn:?adapter=", "urn:uuid:a b?adapter=1", "127.0.0.1:80"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """With a word of how to write one."""
    with pytest.raises(ConfigError) as refused:
        sdc_address(text)
    assert refused.value.code == "sdc-address"


def test_the_address_and_the_certificates_must_agree(rim: RimRecorder, tmp_path: Path) -> None:
    """No silent plain text where certificates are named, and none forgotten where https is."""
    tls = _tls(tmp_path / "own", trustme.CA())
    for url, context in (("http://h/x", tls), ("https://h/x", None)):
        with pytest.raises(ConfigError):
            SdcSource([sdc_address(url)], rim, CLOCK, tls=context)
    with pytest.raises(ConfigError):
        sdc_tls(str(tmp_path / "none"), str(tmp_path / "none"), str(tmp_path / "none"))
    with pytest.raises(ConfigError):
        SdcSource([], rim, CLOCK)
