"""Scores and advisories to a real FHIR server on loopback: all of them, once, in order, for the right patient."""

from __future__ import annotations

import contextlib
import json
import random
import ssl
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trustme
from fhir_server import FhirServer

from edgeward.bedside.output.courier import Courier, Later, Refused, Sent
from edgeward.bedside.output.fhir import DESTINATION, FhirOutput, FhirOutSettings, FhirSender
from edgeward.bedside.output.outbox import Item, Outbox
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock
from edgeward.wire.entries import Whose
from edgeward.wire.fhir_out import Author

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AUTHOR = Author("bay-3", "1.2", systems={"HOSP": "urn:oid:1.2.3"})
SCORE = {
    "bed": "5", "stay": 7, "task": "sepsis-risk", "outcome": "accepted", "why": None, "probability": 0.4,
    "level": "watch",
    "drivers": [{"feature": "hr", "label": "Heart rate", "value": 120.0, "unit": "/min", "effect": 0.5}],
    "missing_share": 0.2, "stale_share": 0.0, "age_ms": 500, "ttl_ms": 45_000, "rung": "local", "version": "1.0.0",
}  # fmt: skip
ADVISORY = {
    "bed": "5", "stay": 7, "id": "a1", "code": "sepsis-act", "text": "High risk of sepsis", "priority": "high",
    "active": True, "raised_ms_ago": 1000, "task": "sepsis-risk", "rung": "local",
}  # fmt: skip
NEWS2 = {
    "bed": "5", "stay": 7, "score": 5, "complete": True, "missing": [], "items": {"pulse": 2}, "risk": "medium",
    "scale": 1, "applies": True,
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """A FHIR server in plain text on loopback."""
    made = FhirServer()
    yield made
    made.close()
    assert made.invalid == []


def _until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.005)


def _who(stay: int) -> Whose | None:
    return {7: Whose(frozenset({"SECRET-P1^^^HOSP^MR"})), 8: Whose(frozenset({"P2^^^HOSP^MR"}))}.get(stay)


@contextlib.contextmanager
def _output(
    tmp_path: Path, url: str = "http://localhost/fhir", **settings: Any
) -> Iterator[tuple[FhirOutput, Outbox, ManualClock]]:
    clock = ManualClock()
    outbox = Outbox(tmp_path / "out.db", clock)
    try:
        yield FhirOutput(outbox, clock, _who, FhirOutSettings(url, AUTHOR, **settings)), outbox, clock
    finally:
        outbox.close()


def _drain(outbox: Outbox) -> list[tuple[str, dict[str, Any]]]:
    """Kind and first resource of everything that waits."""
    outbox.flush()
    found = []
    while (item := outbox.take(DESTINATION, 0.0)) is not None:
        found.append((item.kind, json.loads(item.payload)["entry"][0]["resource"]))
        outbox.done((item.destination, item.id))
    return found


# --- from messages to the outbox


def test_scores_go_when_they_are_news(tmp_path: Path) -> None:
    """Every quarter of an hour, and at once when level or outcome changes; each task and stay by itself."""
    with _output(tmp_path) as (output, outbox, clock):
        for number in range(120):  # half an hour of scores
            output.write("score", {**SCORE, "probability": 0.4 + number / 1000})
            clock.advance(15)
        assert len(_drain(outbox)) == 0  # none is worth sending any more: their time to live is over
        assert outbox.state().expired == 2
        output.write("score", {**SCORE, "level": "act"})
        output.write(
            "score",
            {
                **SCORE,
                "level": "act",
                "outcome": "withheld",
                "why": "stale",
                "probability": None,
                "missing_share": None,
                "stale_share": None,
            },
        )
        output.write("score", {**SCORE, "task": "hypotension"})
        output.write("score", {**SCORE, "stay": 8})
        output.write("score", {**SCORE, "stay": 8})
        assert [kind for kind, _ in _drain(outbox)] == ["score"] * 4
        assert (output.failed, output.unidentified) == (0, 0)


def test_a_score_past_its_time_is_not_sent(tmp_path: Path) -> None:
    """Neither when it comes late nor when it waited too long; an advisory is."""
    with _output(tmp_path) as (output, outbox, clock):
        output.write("score", {**SCORE, "age_ms": 46_000})
        output.write("score", {**SCORE, "age_ms": 40_000, "level": "act"})
        output.write("advisory", ADVISORY)
        clock.advance(6)
        assert [kind for kind, _ in _drain(outbox)] == ["advisory"]


def test_an_advisory_is_raised_once_and_taken_back_for_the_same_patient(tmp_path: Path) -> None:
    """With its own times, however late; a text that changes is told; a repetition is not."""
    with _output(tmp_path) as (output, outbox, clock):
        output.write("advisory", ADVISORY)
        clock.advance(60)
        output.write("advisory", {**ADVISORY, "raised_ms_ago": 61_000})
        output.write("advisory", {**ADVISORY, "raised_ms_ago": 61_000, "priority": "medium"})
        clock.advance(60)
        output.write("advisory", {**ADVISORY, "active": False, "raised_ms_ago": 121_000})
        output.write("advisory", {**ADVISORY, "active": False, "raised_ms_ago": 121_000})
        first, second, last = (flag for _, flag in _drain(outbox))
        assert [flag["status"] for flag in (first, second, last)] == ["active", "active", "inactive"]
        assert first["period"] == {"start": "2026-01-01T00:00:00.000Z"}
        assert last["period"] == {"start": "2026-01-01T00:00:00.000Z", "end": "2026-01-01T00:02:01.000Z"}
        assert first["subject"] == last["subject"]


@pytest.mark.parametrize("bed", [{"state": "empty", "stay": 7}, {"state": "occupied", "stay": 8}])
def test_an_advisory_ends_with_its_stay(tmp_path: Path, bed: dict[str, Any]) -> None:
    """No flag stays in the record of a patient who is gone; and it is that patient's flag, not the next one's."""
    with _output(tmp_path) as (output, outbox, _):
        output.write("advisory", ADVISORY)
        output.write("bed", {"bed": "4", "state": "empty", "stay": 1})
        output.write("bed", {"bed": "5", "state": "occupied", "stay": 7})
        output.write("bed", {"bed": "5", **bed})
        raised, ended = (flag for _, flag in _drain(outbox))
        assert (raised["status"], ended["status"]) == ("active", "inactive")
        assert ended["subject"]["identifier"]["value"] == "SECRET-P1"


def test_an_advisory_is_taken_back_after_a_restart(tmp_path: Path) -> None:
    """Nobody knows any more who lies where; the record must not say for ever that somebody is at risk."""
    with _output(tmp_path) as (output, outbox, _):
        output.write("advisory", ADVISORY)
        output.write("advisory", {**ADVISORY, "id": "a2"})
        output.write("advisory", {**ADVISORY, "id": "a2", "active": False})
        assert len(_drain(outbox)) == 3
    with _output(tmp_path) as (output, outbox, _):
        ((_, flag),) = _drain(outbox)
        assert (flag["status"], flag["identifier"][0]["value"]) == ("inactive", "advisory.7.a1")
        assert flag["subject"]["identifier"]["value"] == "SECRET-P1"
    with _output(tmp_path) as (output, outbox, _):
        assert (_drain(outbox), output.failed) == ([], 0)


def test_news2_goes_when_its_risk_changes(tmp_path: Path) -> None:
    """Not with every point up and down within it, and not where it does not apply."""
    with _output(tmp_path) as (output, outbox, _):
        output.write("news2", NEWS2)
        output.write("news2", NEWS2)
        output.write("news2", {**NEWS2, "score": 6, "items": {"pulse": 3}})
        output.write("news2", {**NEWS2, "score": 7, "risk": "high"})
        output.write("news2", {**NEWS2, "stay": 8, "applies": False})
        assert [resource["valueInteger"] for _, resource in _drain(outbox)] == [5, 7]


def test_nothing_leaves_for_a_patient_whom_nobody_knows(tmp_path: Path) -> None:
    """It is counted; and what is no message costs nothing but a count."""
    with _output(tmp_path) as (output, outbox, _):
        for kind, data in (("score", SCORE), ("advisory", ADVISORY), ("news2", NEWS2)):
            output.write(kind, {**data, "stay": 9})
        assert output.unidentified == 3
        output.write("score", {"stay": "x"})
        output.write("wave", {})
        assert (output.failed, _drain(outbox)) == (1, [])
        output.close()


def test_a_simulated_bed_is_labelled(tmp_path: Path) -> None:
    """Whatever the ward says of the bed, or of itself."""
    with _output(tmp_path) as (output, outbox, _):
        output.write("bed", {"bed": "5", "state": "occupied", "stay": 7, "simulated": True})
        output.write("score", SCORE)
        output.write("hello", {"simulated": True})
        output.write("score", {**SCORE, "stay": 8, "bed": "6"})
        assert all("meta" in resource for _, resource in _drain(outbox))


# --- from the outbox to the server


def _item(number: int = 1) -> Item:
    """A score's transaction, made by the output itself."""
    kept: list[Item] = []

    class Keep:
        notes: ClassVar[dict[str, bytes]] = {}

        def put(self, item: Item) -> None:
            kept.append(item)

    output = FhirOutput(Keep(), ManualClock(10**9 * number), _who, FhirOutSettings("https://h/f", AUTHOR))  # type: ignore[arg-type]
    output.write("score", SCORE)
    return kept[0]


def test_everything_arrives_once_and_in_order(tmp_path: Path, server: FhirServer) -> None:
    """Through hang-ups, lost answers and busy answers: nothing twice, nothing missing."""
    clock = SystemClock()
    outbox = Outbox(tmp_path / "out.db", clock)
    settings = FhirOutSettings(server.url, AUTHOR)
    output = FhirOutput(outbox, clock, _who, settings)
    server.script.extend(
        ["hang-up", "lost-answer", (503, {"Retry-After": "0"}), (429, {}), (500, {}), (200, {}), "hang-up"]
    )
    output.write("score", SCORE)
    output.write("advisory", ADVISORY)
    output.write("advisory", {**ADVISORY, "active": False})
    courier = Courier(outbox, DESTINATION, FhirSender(settings, clock), jitter=random.Random(1).random, wait_s_min=0.01)
    _until(lambda: courier.state.sent == 3)
    state = courier.state
    courier.close()
    outbox.close()
    assert [(taken["resourceType"], taken["status"]) for taken in server.taken] == [
        ("Observation", "final"),
        ("RiskAssessment", "final"),
        ("Flag", "active"),
        ("Flag", "inactive"),
    ]
    assert (state.refused, state.code) == (0, "")
    assert state.failures >= 3
    assert {request["path"] for request in server.requests} == {"/fhir/r4"}
    assert server.requests[0]["Content-Type"] == "application/fhir+json; charset=utf-8"


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Sent()),
        (400, {}, Refused("http-400")),
        (422, {}, Refused("http-422")),
        (412, {}, Refused("http-412")),
        (401, {}, Later("http-401")),
        (404, {}, Later("http-404")),
        (301, {"Location": "http://elsewhere/"}, Later("http-301")),
        (500, {}, Later("http-500", at_item=True)),
        (409, {}, Later("http-409", at_item=True)),
        (429, {"Retry-After": "7"}, Later("http-429", 7.0)),
        (503, {"Retry-After": "Thu, 01 Jan 2026 00:01:01 GMT"}, Later("http-503", 60.0)),
        (503, {"Retry-After": "Thu, 01 Jan 2020 00:00:00 GMT"}, Later("http-503")),
        (503, {"Retry-After": "soon"}, Later("http-503")),
    ],
)
def test_answers_are_told_apart(server: FhirServer, status: int, headers: dict[str, str], outcome: object) -> None:
    """Taken, refused for good, or to be tried again, and when; no redirect is followed."""
    server.script.append((status, headers))
    sender = FhirSender(FhirOutSettings(server.url, AUTHOR), ManualClock())
    assert sender.send(_item()) == outcome
    sender.close()


def test_a_server_that_is_not_there_is_no_error(server: FhirServer) -> None:
    """And a connection that was kept and is gone is made anew at once."""
    sender = FhirSender(FhirOutSettings("http://127.0.0.1:9/fhir", AUTHOR), ManualClock())
    assert sender.send(_item()) == Later("unreachable")
    sender = FhirSender(FhirOutSettings(server.url, AUTHOR), ManualClock())
    assert sender.send(_item()) == Sent()
    server.script.append("hang-up")
    assert sender.send(_item(2)) == Sent()
    sender.close()


def test_tls_and_token_are_held_to(tmp_path: Path) -> None:
    """A certificate of another authority is not spoken to; the token is read anew."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (tmp_path / "token").write_text("first\n")
    server = FhirServer(context)
    try:
        settings = {"token_file": str(tmp_path / "token"), "authority": str(tmp_path / "ca.pem")}
        sender = FhirSender(FhirOutSettings(server.url, AUTHOR, **settings), ManualClock())
        assert sender.send(_item()) == Sent()
        (tmp_path / "token").write_text("second")
        assert sender.send(_item()) == Sent()
        (tmp_path / "token").unlink()
        assert sender.send(_item()) == Later("fhir-token")
        sender.close()
        stranger = FhirSender(FhirOutSettings(server.url, AUTHOR, authority=str(tmp_path / "other.pem")), ManualClock())
        assert stranger.send(_item()) == Later("tls")
        stranger.close()
    finally:
        server.close()
    assert [request["Authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    "wrong",
    [{"url": "http://ehr/fhir"}, {"url": "ftp://h/f"}, {"url": "https:///f"}, {"url": "https://u:p@h/f"},
     {"scores_every_s": 1.0}, {"scores_every_s": float("nan")}],
)  # fmt: skip
def test_settings_that_would_do_harm_are_refused(wrong: dict[str, Any]) -> None:
    """Patients' data in plain text, or a record flooded with scores."""
    with pytest.raises(ConfigError):
        FhirOutSettings(**{"url": "https://h/f", "author": AUTHOR, **wrong})
    with pytest.raises(ConfigError):
        FhirSender(FhirOutSettings("https://h/f", AUTHOR, authority="none.pem"), ManualClock())
    with pytest.raises(ConfigError):
        FhirSender(FhirOutSettings("https://h/f", AUTHOR, token_file="none"), ManualClock())


def test_no_repr_holds_a_patient(tmp_path: Path) -> None:
    """What a traceback could print."""
    with _output(tmp_path) as (output, outbox, _):
        output.write("advisory", ADVISORY)
        assert "SECRET" not in repr((vars(output._record), _item(), outbox.state()))
