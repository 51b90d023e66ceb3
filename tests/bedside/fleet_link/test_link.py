"""One exchange with the fleet, with everything that can be wrong about the other side."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.fleet_link import link as link_module
from edgeward.bedside.fleet_link.identity import Identity
from edgeward.bedside.fleet_link.link import Link, LinkError, Trouble
from edgeward.exchange.checkin import ANSWER_BYTES_MAX, PATH, Answer
from edgeward.exchange.enrol import Renewal
from edgeward.exchange.typed import encode
from edgeward.kernel.errors import ConfigError
from edgeward.testing.fleet.authority import Issuer

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import StubFleet

ANSWER = Answer(1, 60, False, ())


def _post(fleet: StubFleet, pem: Path | None = None, ca: Path | None = None) -> Answer:
    link = Link(fleet.url, ca or fleet.ca, pem)
    return link.post(PATH, Renewal("CSR"), Answer, bytes_max=ANSWER_BYTES_MAX)


def _trouble(fleet: StubFleet, pem: Path | None = None, ca: Path | None = None) -> LinkError:
    with pytest.raises(LinkError) as caught:
        _post(fleet, pem, ca)
    return caught.value


def _enrolled(folder: Path, issuer: Issuer, age: timedelta = timedelta(days=1)) -> Path:
    with Identity(folder) as identity:
        identity.accept(issuer.certificate(identity.request(), begins=datetime.now(UTC) - age))
    return identity.pem


def test_a_device_shows_its_certificate(fleet: StubFleet, tmp_path: Path) -> None:
    fleet.answer = lambda path, body, known: (200, encode(ANSWER), {})
    assert _post(fleet) == ANSWER
    assert _post(fleet, _enrolled(tmp_path / "me", fleet.issuer)) == ANSWER
    assert [bool(one.shown) for one in fleet.heard] == [False, True]


def test_nothing_is_sent_to_a_stranger(fleet: StubFleet, tmp_path: Path) -> None:
    """An authority of the same name with another key is another authority."""
    other = tmp_path / "other.pem"
    other.write_text(Issuer().pem)
    assert _trouble(fleet, ca=other).trouble is Trouble.UNKNOWN
    assert fleet.heard == []


@pytest.mark.parametrize("fleet_of_another_time", [timedelta(days=3_650), timedelta(days=-3_650)], indirect=True)
def test_a_clock_ten_years_off_is_named_as_such(fleet_of_another_time: StubFleet) -> None:
    error = _trouble(fleet_of_another_time)
    assert error.trouble is Trouble.CLOCK
    assert "set the clock" in str(error)


def test_a_certificate_that_is_strange_or_expired_gets_nothing(fleet: StubFleet, tmp_path: Path) -> None:
    fleet.answer = lambda path, body, known: (200, encode(ANSWER), {})
    for pem in (_enrolled(tmp_path / "a", Issuer()), _enrolled(tmp_path / "b", fleet.issuer, timedelta(days=46))):
        # A server that hangs up at once may take its own alert along (TCP reset): then nobody can tell.
        assert _trouble(fleet, pem).trouble in {Trouble.NOT_TAKEN, Trouble.UNREACHABLE}
    assert fleet.heard == []


def test_revocation_is_told_by_its_word(fleet: StubFleet) -> None:
    fleet.answer = lambda path, body, known: (403, b'{"code": "certificate-revoked"}', {})
    error = _trouble(fleet)
    assert (error.trouble, error.word) == (Trouble.NOT_TAKEN, "certificate-revoked")


def test_a_token_that_is_used_up_is_named(fleet: StubFleet) -> None:
    fleet.answer = lambda path, body, known: (403, b'{"code": "token-refused"}', {})
    assert "one-time token" in str(_trouble(fleet))


@pytest.mark.parametrize("body", [b'{"code": "Doe^Jane 1970"}', b"[", b"[1]", b'{"code": 7}', b"\xff" * 9_000])
def test_a_refusal_that_cannot_be_read_is_a_refusal_all_the_same(fleet: StubFleet, body: bytes) -> None:
    fleet.answer = lambda path, sent, known: (422, body, {})
    error = _trouble(fleet)
    assert (error.trouble, error.word) == (Trouble.REFUSED, "")


def test_a_redirect_is_refused(fleet: StubFleet) -> None:
    fleet.answer = lambda path, body, known: (307, b"", {"Location": "https://elsewhere.example/"})
    assert _trouble(fleet).trouble is Trouble.REFUSED
    assert len(fleet.heard) == 1


@pytest.mark.parametrize(("asked", "after_s"), [("90", 90.0), ("9" * 40, 3_600.0), ("soon", 0.0)])
def test_a_busy_fleet_says_when(fleet: StubFleet, asked: str, after_s: float) -> None:
    fleet.answer = lambda path, body, known: (503, b"{}", {"Retry-After": asked})
    error = _trouble(fleet)
    assert (error.trouble, error.after_s) == (Trouble.BUSY, after_s)


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * (ANSWER_BYTES_MAX + 1), encode(ANSWER)[:-1] + b',"patient":"x"}'])
def test_an_answer_that_is_not_as_declared_is_dropped(fleet: StubFleet, body: bytes) -> None:
    fleet.answer = lambda path, sent, known: (200, body, {})
    assert _trouble(fleet).trouble is Trouble.UNREADABLE


def test_nobody_there_is_unreachable(fleet: StubFleet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fleet.url = f"https://127.0.0.1:{taken.getsockname()[1]}"
        assert _trouble(fleet).trouble is Trouble.UNREACHABLE


def test_a_server_that_says_nothing_is_cut_off(fleet: StubFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part by part it would be in time, all of it never."""
    over = threading.Event()
    monkeypatch.setattr(link_module, "EXCHANGE_S", 0.2)

    def drip(path: str, body: bytes, known: bool) -> tuple[int, bytes, dict[str, str]]:
        over.wait(20)
        return 200, encode(ANSWER), {}

    fleet.answer = drip
    try:
        assert _trouble(fleet).trouble is Trouble.UNREACHABLE
        assert not over.is_set()
    finally:
        over.set()


def test_an_authority_that_cannot_be_read_is_a_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Link("https://fleet.example", tmp_path / "none.pem")
    assert caught.value.code == "fleet-ca"
