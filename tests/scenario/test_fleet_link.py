"""A device and the real fleet server, over TLS 1.3 on loopback, with everything that goes wrong between them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="the fleet extra is not installed")

from fleet_served import Running, Served, until

from edgeward.bedside.fleet_link.agent import FleetAgent
from edgeward.bedside.fleet_link.core import Policy
from edgeward.bedside.fleet_link.facts import facts_of
from edgeward.bedside.fleet_link.identity import Identity
from edgeward.bedside.fleet_link.link import Link
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle
from edgeward.cli.main import main
from edgeward.exchange.checkin import PATH, CheckIn
from edgeward.exchange.typed import decode
from edgeward.fleet.authority import DAY_S
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.parts import wall_s
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.testing.fleet.endpoint import Asked, Endpoint, Reply, forwarded
from edgeward.testing.toy import toy_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward.exchange.checkin import FamilyReport, Order

QUICK = Policy(first_s=0.0, hurry_s=0.02, retry_s=0.02, retry_s_max=0.1, shut_out_s=0.1, renew_s=0.0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    with Served(tmp_path / "fleet") as running:
        yield running


@dataclass
class NoUpdates:
    answers: int = 0

    def reports(self) -> tuple[FamilyReport, ...]:
        return ()

    def obey(self, orders: tuple[Order, ...]) -> None:
        self.answers += 1


@dataclass
class Bedside:
    """A device's agent with all that it says."""

    folder: Path
    url: str
    ca: Path
    said: list[str] = field(default_factory=list)
    updates: NoUpdates = field(default_factory=NoUpdates)

    def __enter__(self) -> Bedside:
        self.identity = Identity(self.folder)
        self.agent = FleetAgent(
            self.identity,
            lambda pem: Link(self.url, self.ca, pem),
            lambda: facts_of(self.folder, 4),
            self.updates,
            SystemClock(),
            dice=lambda: 0.0,
            say=self.said.append,
            policy=QUICK,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.close()

    def answered(self, count: int = 1) -> None:
        """Wait for so many more answers, asking for each."""
        goal = self.updates.answers + count

        def there() -> bool:
            self.agent.changed()
            return self.updates.answers >= goal

        until(there)


def enrol(running: Running, folder: Path, *more: str) -> int:
    return main(["device", "enrol", "--url", running.url, "--ca", str(running.ca), "--folder", str(folder), *more])


def with_token(running: Running, folder: Path) -> int:
    (token,) = running.tokens(1)
    file = folder.with_name(f"{folder.name}.token")
    file.touch(mode=0o600)
    file.write_text(token)
    return enrol(running, folder, "--token-file", str(file))


@pytest.fixture
def score(tmp_path: Path) -> Iterator[Callable[[], bool]]:
    """One score of an engine in its own process: whether it came."""
    path = tmp_path / "engine.ewb"
    path.write_bytes(toy_bundle())
    vectors = read_golden(read_bundle(path.read_bytes()))
    inputs = {name: array[:1] for name, array in vectors.inputs.items()}
    with EngineHost(path, standby=False) as host:
        yield lambda: host.infer(inputs, budget_s=5.0).failure is None


# --- becoming a member


def test_an_operator_accepts_the_fingerprint_that_the_device_shows(
    served: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(served, tmp_path / "me") == 0
    shown = capsys.readouterr().out.splitlines()[0].removeprefix("fingerprint").replace(" ", "")
    served.fleet.enrolments.accept(shown, Vouch("ICU 1"), actor="user:olga", now_s=wall_s())
    with Bedside(tmp_path / "me", served.url, served.ca) as bedside:
        bedside.answered()
    assert (served.device().label, served.device().boot) == ("ICU 1", 1)
    assert any(f"accepted as {served.device().id}" in line for line in bedside.said)


def test_a_one_time_token_takes_in_one_device(served: Running, tmp_path: Path) -> None:
    assert with_token(served, tmp_path / "me") == 0
    assert enrol(served, tmp_path / "other", "--token-file", str(tmp_path / "me.token")) == 4
    assert served.devices() == 1


def test_a_rejected_device_is_told(served: Running, tmp_path: Path) -> None:
    with Bedside(tmp_path / "me", served.url, served.ca) as bedside:
        until(lambda: any("fingerprint" in line for line in bedside.said))
        served.fleet.enrolments.reject(bedside.identity.asked_for(), actor="user:olga", now_s=wall_s())
    with Bedside(tmp_path / "me", served.url, served.ca) as bedside:
        until(lambda: bedside.agent.notes.phase == "rejected")
    assert served.devices() == 0


def test_who_lost_everything_comes_back_as_the_same_device(served: Running, tmp_path: Path) -> None:
    """A new folder is a new key; the operator says whose it is, and the old certificate ends in that moment."""
    with_token(served, tmp_path / "old")
    before = served.device()
    enrol(served, tmp_path / "new")
    asked = Identity(tmp_path / "new").asked_for()
    served.fleet.enrolments.accept(asked, Vouch(device_id=before.id), actor="user:olga", now_s=wall_s())
    with Bedside(tmp_path / "new", served.url, served.ca) as bedside:
        bedside.answered()
    assert (served.devices(), served.device().id) == (1, before.id)
    with Bedside(tmp_path / "old", served.url, served.ca) as bedside:
        until(lambda: bedside.agent.notes.phase == "shut-out")
    assert "certificate-superseded" in bedside.said[-1]


# --- staying one


def test_a_certificate_is_renewed_after_a_third_of_its_life_with_another_key(tmp_path: Path) -> None:
    """Enrolled fifteen of forty-five days ago: nobody does anything, and nothing is said of it."""
    ago_s = 15 * DAY_S
    with Served(tmp_path / "fleet", now_s=lambda: wall_s() - ago_s) as running:
        with_token(running, tmp_path / "me")
        ago_s = 0
        first = Identity(tmp_path / "me").look()
        with Bedside(tmp_path / "me", running.url, running.ca) as bedside:
            bedside.answered()
            until(lambda: bedside.identity.look() != first)
            second = bedside.identity.look()
            bedside.answered(3)
            assert bedside.identity.look() == second, "the new one is not due"
        assert running.certificates() == ["current", "superseded"]
        assert bedside.identity.asked_for() == ""
    assert bedside.said == []


def test_revocation_works_at_once_and_inference_goes_on(
    served: Running, tmp_path: Path, score: Callable[[], bool]
) -> None:
    """Not one score is lost over it: who reads the patient does not ask who belongs to the fleet."""
    with_token(served, tmp_path / "me")
    scored: list[bool] = []
    over = threading.Event()
    bed = threading.Thread(target=lambda: [scored.append(score()) for _ in iter(over.is_set, True)])
    bed.start()
    try:
        with Bedside(tmp_path / "me", served.url, served.ca) as bedside:
            bedside.answered(2)
            served.revoke()
            newest = served.device().sequence
            bedside.agent.changed()
            until(lambda: bedside.agent.notes.phase == "shut-out")
            assert served.device().sequence == newest, "nothing that a revoked device says is taken"
            count = len(scored)
            until(lambda: len(scored) > count + 20)
    finally:
        over.set()
        bed.join()
    assert all(scored)
    assert "certificate-revoked" in bedside.said[-1]


def test_a_revoked_device_is_enrolled_again_beside_its_running_ward(served: Running, tmp_path: Path) -> None:
    with_token(served, tmp_path / "me")
    with Bedside(tmp_path / "me", served.url, served.ca) as bedside:
        bedside.answered()
        served.revoke()
        bedside.agent.changed()
        until(lambda: bedside.agent.notes.phase == "shut-out")
        assert enrol(served, tmp_path / "me", "--again") == 0
        asked = Identity(tmp_path / "me").asked_for()
        served.fleet.enrolments.accept(asked, Vouch(device_id=served.device().id), actor="user:olga", now_s=wall_s())
        assert enrol(served, tmp_path / "me") == 0
        until(lambda: bedside.agent.notes.phase == "member")
        bedside.answered()
    assert served.devices() == 1


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_ten_years_off_is_said_and_forgiven_once_it_is_right(tmp_path: Path, years: int) -> None:
    """The device's clock and the fleet's certificate are ten years apart, whichever of them moved."""
    with Served(tmp_path / "fleet") as running:
        with_token(running, tmp_path / "me")
    with (
        Served(tmp_path / "fleet", made_s=years * 365 * DAY_S) as far,
        Bedside(tmp_path / "me", far.url, far.ca) as bedside,
    ):
        until(lambda: bedside.agent.notes.trouble == "fleet-clock")
        assert "set the clock" in bedside.said[-1]
        assert far.device().boot == 0, "nothing was said to a fleet that cannot be known"
    with Served(tmp_path / "fleet", made_s=-60) as near, Bedside(tmp_path / "me", near.url, near.ca) as bedside:
        bedside.answered()
        assert near.device().boot == 2


# --- a way that loses, doubles and reorders


@dataclass
class Balancer:
    """Ends TLS before a plain server, and does to check-ins what ``deeds`` says, one after the other, then no harm."""

    upstream: str
    header: str
    deeds: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    kept: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Reply:
        deed = self.deeds.pop(0) if self.deeds and asked.path == PATH else "pass"
        self.done.append(deed)
        match deed:
            case "lose the question":
                return 0, b"", {}
            case "lose the answer":
                self.forward(asked)
                return 0, b"", {}
            case "double":
                self.forward(asked)
            case "keep":
                self.kept.append(asked)
                return 0, b"", {}
            case "deliver late":
                reply = self.forward(asked)
                for old in self.kept:
                    self.forward(old)
                return reply
        return self.forward(asked)

    def forward(self, asked: Asked) -> Reply:
        return forwarded(self.upstream, self.header, asked)


def test_lost_doubled_and_overtaken_messages_change_nothing_that_they_should_not(tmp_path: Path) -> None:
    """Whatever the way did: the fleet ends with the newest state, the device with an answer to its newest question."""
    with Served(tmp_path / "fleet", tls=False) as running:
        chain, key = running.settings.server_files
        pem = tmp_path / "balancer.pem"
        pem.write_bytes(key.read_bytes() + chain.read_bytes())
        balancer = Balancer(running.url.removeprefix("http://"), running.settings.proxy_header)
        with Endpoint(pem, running.ca, balancer.answer) as endpoint:
            running.url = endpoint.url
            assert with_token(running, tmp_path / "me") == 0
            balancer.deeds += ["pass", "lose the question", "lose the answer", "double", "keep", "deliver late", "pass"]
            balancer.deeds += ["lose the answer"] * 3 + ["keep"] * 2 + ["double", "deliver late"]
            with Bedside(tmp_path / "me", endpoint.url, running.ca) as bedside:
                until(lambda: bedside.agent.changed() or not balancer.deeds)
                bedside.answered()
            newest = decode(CheckIn, [one for one in endpoint.heard if one.path == PATH][-1].body, bytes_max=1 << 16)
            device = running.device()
            assert (device.boot, device.sequence) == (newest.boot, newest.sequence)
            assert bedside.agent.notes.trouble == ""
    assert set(balancer.done) == {"pass", "lose the question", "lose the answer", "double", "keep", "deliver late"}
