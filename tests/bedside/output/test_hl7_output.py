"""Scores and advisories to HL7 listeners, ours and odd ones: all of them, in order, for the right patient."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from rim_recorder import RimRecorder

from edgeward.bedside.output.courier import Courier, Later, Outcome, Refused, Sent
from edgeward.bedside.output.hl7 import DESTINATION, Hl7Output, Hl7OutSettings, Hl7Sender, outcome_of
from edgeward.bedside.output.outbox import Item, Outbox
from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_settings import Hl7Settings, Hl7Tls
from edgeward.bedside.source.reading import Receipt
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock
from edgeward.wire.entries import Whose
from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_answer import Answer
from edgeward.wire.hl7v2_encode import Sender
from edgeward.wire.hl7v2_out import Letterhead
from edgeward.wire.mllp import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = Letterhead("bay-3", Sender(facility="ICU", receiver="ENGINE"))
SCORE = {
    "bed": "5", "stay": 7, "task": "sepsis-risk", "outcome": "accepted", "why": None, "probability": 0.4,
    "level": "watch",
    "drivers": [{"feature": "hr", "label": "Heart rate", "value": 120.0, "unit": "/min", "effect": 0.5}],
    "missing_share": 0.2, "stale_share": 0.0, "age_ms": 500, "ttl_ms": 45_000, "rung": "LOCAL", "version": "1.0.0",
}  # fmt: skip
ADVISORY = {
    "bed": "5", "stay": 7, "id": "a1", "code": "sepsis-act", "text": "High risk of sepsis", "priority": "high",
    "active": True, "raised_ms_ago": 1000, "task": "sepsis-risk", "rung": "LOCAL",
}  # fmt: skip
ITEM = Item(DESTINATION, "bay-3.one", "score", b"MSH|^~\\&|EDGEWARD|ICU|||20260101||ORU^R01^ORU_R01|c|P|2.6\r")


class OddReceiver:
    """A hand-made MLLP listener. ``script``: what it does to each message in turn; a bare code is an answer with it.

    Taken messages stand in ``taken``, each control id once, in the order in which they first came.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: deque[Any] = deque()
        self.taken: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            if self._tls is not None:
                line = self._tls.wrap_socket(line, server_side=True)
            self._open.append(line)
            decoder = Decoder()
            while data := line.recv(65_536):
                for content in decoder.feed(data):
                    assert isinstance(content, bytes)
                    if not self._answer(line, content):
                        return

    def _answer(self, line: socket.socket, content: bytes) -> bool:
        """Do what the script says; whether the connection stays."""
        named = parse(content).rows[0][10]
        step = self.script.popleft() if self.script else "AA"
        self.seen.append(named)
        if step == "hang-up":
            return False
        if step == "lost-answer":
            self.taken.setdefault(named, content)
            return False
        if callable(step):
            return bool(step(line, named))
        if step.startswith(("AA", "CA")):
            self.taken.setdefault(named, content)
        code, _, condition = step.partition(" ")
        line.sendall(ack(code, named, condition))
        return True

    def close(self) -> None:
        for line in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        self._thread.join(10)


def ack(code: str, named: str, condition: str = "") -> bytes:
    error = f"ERR|||{condition}^x^HL70357|E\r" if condition else ""
    return encode(f"MSH|^~\\&|ENGINE|H|||20260101||ACK|9|P|2.6\rMSA|{code}|{named}\r{error}".encode())


@pytest.fixture
def receiver() -> Iterator[OddReceiver]:
    made = OddReceiver()
    yield made
    made.close()


def _whose(stay: int) -> Whose | None:
    return {7: Whose(frozenset({"SECRET-P1^^^HOSP^MR"}), "ICU^^5"), 8: Whose(frozenset({"A^^^m^ASSOC"}), "X")}.get(stay)


def _settings(port: int, **more: Any) -> Hl7OutSettings:
    return Hl7OutSettings("127.0.0.1", port, HEAD, **more)


def _until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.005)


@contextlib.contextmanager
def _courier(outbox: Outbox, settings: Hl7OutSettings, **more: Any) -> Iterator[Courier]:
    courier = Courier(outbox, DESTINATION, Hl7Sender(settings, **more), jitter=random.Random(1).random, wait_s_min=0.01)
    try:
        yield courier
    finally:
        courier.close()


@contextlib.contextmanager
def _sender(port: int, answer_s: float = 10.0, **more: Any) -> Iterator[Hl7Sender]:
    sender = Hl7Sender(_settings(port, **more), answer_s)
    try:
        yield sender
    finally:
        sender.close()


# --- to our own listener


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_everything_arrives_at_a_listener_of_ours(tmp_path: Path, secure: bool) -> None:
    """Under the patient and at the place of the source, with TLS on both sides and without; nothing as a vital sign."""
    tls, files = None, {}
    if secure:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        own = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        own.write_to_path(tmp_path / "own.pem")
        tls = Hl7Tls(tmp_path / "own.pem", tmp_path / "own.pem", tmp_path / "ca.pem")
        pem = str(tmp_path / "own.pem")
        files = {"authority": str(tmp_path / "ca.pem"), "certificate": pem, "key": pem}
    rim = RimRecorder()
    listener = Hl7Listener(rim, SystemClock(), Hl7Settings(port=0, tls=tls))
    rim.run(listener.start())
    outbox = Outbox(tmp_path / "out.db", SystemClock())
    try:
        settings = _settings(listener.port, **files)
        output = Hl7Output(outbox, SystemClock(), _whose, settings)
        output.write("bed", {"bed": "5", "state": "occupied", "stay": 7, "simulated": True})
        output.write("score", SCORE)
        output.write("advisory", ADVISORY)
        output.write("advisory", {**ADVISORY, "active": False})
        with _courier(outbox, settings) as courier:
            _until(lambda: courier.state.sent == 3)
            assert (courier.state.refused, courier.state.code) == (0, "")
    finally:
        outbox.close()
        rim.run(listener.close())
        rim.close()
    assert listener.receiver.counts.taken == 3
    for reading in rim.readings:
        assert reading.patient is not None
        assert reading.patient.identifiers == {"SECRET-P1^^^HOSP^MR"}
        assert (reading.place, reading.simulated, reading.numerics) == ("ICU^^5", True, ())
        assert {refusal.code for refusal in reading.refusals} == {"code-unknown"}


def test_our_listener_says_busy_and_not_here(tmp_path: Path) -> None:
    """A rim that cannot take it now gets it again; a place that is nobody's is refused for good."""
    rim = RimRecorder()
    listener = Hl7Listener(rim, SystemClock(), Hl7Settings(port=0))
    rim.run(listener.start())
    item = _formed(tmp_path)
    with _sender(listener.port) as sender:
        rim.answer = Receipt.LATER
        assert sender.send(item) == Later("hl7-ar-207")
        rim.answer = Receipt.REFUSED
        assert sender.send(item) == Refused("hl7-ae-204")
        rim.answer = Receipt.TAKEN
        assert sender.send(item) == Sent()
        assert sender.send(item) == Sent()
    assert listener.receiver.counts.repeated == 1
    rim.run(listener.close())
    rim.close()


def _formed(folder: Path, kind: str = "score", **changes: Any) -> Item:
    """The item that an output makes of one message."""
    outbox = Outbox(folder / "formed.db", ManualClock())
    try:
        output = Hl7Output(outbox, ManualClock(), _whose, _settings(1))
        output.write(kind, {**{"score": SCORE, "advisory": ADVISORY}[kind], **changes})
        outbox.flush()
        item = outbox.take(DESTINATION, 0.0)
        assert item is not None
        outbox.done((item.destination, item.id))
        return item
    finally:
        outbox.close()


# --- to others


def test_everything_arrives_once_and_in_order_through_whatever_happens(tmp_path: Path, receiver: OddReceiver) -> None:
    """Hang-ups, lost answers, busy and nameless faults: the same message again, under the same control id."""
    outbox = Outbox(tmp_path / "out.db", SystemClock())
    output = Hl7Output(outbox, SystemClock(), _whose, _settings(receiver.port))
    receiver.script.extend(["hang-up", "lost-answer", "AR 207", "CE 207", "AE", "AA", "hang-up", "AE 207"])
    output.write("score", SCORE)
    output.write("advisory", ADVISORY)
    output.write("advisory", {**ADVISORY, "active": False})
    with _courier(outbox, _settings(receiver.port)) as courier:
        _until(lambda: courier.state.sent == 3)
        state = courier.state
    outbox.close()
    told = [parse(content) for content in receiver.taken.values()]
    assert [message.text(message.rows[3], 4) for message in told] == ["sepsis-risk", "advisory", "advisory"]
    assert [message.raw(message.rows[3], 25) for message in told] == ["F", "F", "C"]
    assert (state.refused, state.code) == (0, "")
    assert len(set(receiver.seen)) == 3
    assert len(receiver.seen) > 6


def test_what_waits_is_sent_after_a_restart(tmp_path: Path, receiver: OddReceiver) -> None:
    """The advisory as it was, and its end, for the patient for whom it was raised; no score past its time."""
    clock = ManualClock()
    outbox = Outbox(tmp_path / "out.db", clock)
    output = Hl7Output(outbox, clock, _whose, _settings(receiver.port))
    output.write("score", SCORE)
    output.write("advisory", ADVISORY)
    outbox.close()
    clock.advance(60)
    outbox = Outbox(tmp_path / "out.db", clock, boot="another")
    Hl7Output(outbox, clock, lambda _: None, _settings(receiver.port))
    with _courier(outbox, _settings(receiver.port)) as courier:
        _until(lambda: courier.state.sent == 2)
    outbox.close()
    told = [parse(content) for content in receiver.taken.values()]
    assert [message.raw(message.rows[3], 25) for message in told] == ["F", "C"]
    assert len({message.raw(message.rows[3], 3) for message in told}) == 1
    assert {message.raw(message.rows[1], 3) for message in told} == {"SECRET-P1^^^HOSP^MR"}
    assert {message.raw(message.rows[2], 3) for message in told} == {"ICU^^5"}


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("AA", Sent()),
        ("CA", Sent()),
        ("AE 101", Refused("hl7-ae-101")),
        ("AR 200", Refused("hl7-ar-200")),
        ("CE 102", Refused("hl7-ce-102")),
        ("CR", Refused("hl7-cr")),
        ("CR 207", Later("hl7-cr-207")),
        ("AR 207", Later("hl7-ar-207")),
        ("CE 207", Later("hl7-ce-207")),
        ("AE 207", Later("hl7-ae-207", at_item=True)),
        ("AE", Later("hl7-ae", at_item=True)),
        ("AR", Later("hl7-ar", at_item=True)),
        ("CE", Later("hl7-ce", at_item=True)),
        ("hang-up", Later("hl7-hung-up")),
    ],
)
def test_answers_are_told_apart(receiver: OddReceiver, step: str, outcome: Outcome) -> None:
    """Arrived, refused for good, or to be tried again, and whether because of this message."""
    receiver.script.append(step)
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == outcome


def test_every_answer_has_an_outcome() -> None:
    """Nothing but AA and CA is an arrival."""
    for code in ("AA", "CA", "AE", "AR", "CE", "CR"):
        for condition in ("", "100", "207"):
            assert (outcome_of(Answer(code, "c", condition)) == Sent()) == (code in {"AA", "CA"})


def test_an_answer_to_something_else_is_no_answer(receiver: OddReceiver) -> None:
    """Another's, one in pieces, noise and two at once: only the one that names this message counts."""
    mine = "c"

    def others(line: socket.socket, named: str) -> bool:
        line.sendall(ack("AA", "another") + b"noise\x1c\r" + encode(b"MSH|^~\\&|x\rMSA|ZZ|" + mine.encode() + b"\r"))
        right = ack("AE", mine, "101")
        line.sendall(ack("AA", "") + right[:9])
        time.sleep(0.05)
        line.sendall(right[9:] + ack("AA", mine))
        return True

    receiver.script.append(others)
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == Refused("hl7-ae-101")


def test_a_fault_without_a_name_is_about_the_message_on_its_way(receiver: OddReceiver) -> None:
    """A receiver that could not read whom it answers; it is not waited for, and not believed for ever."""

    def nameless(line: socket.socket, named: str) -> bool:
        line.sendall(ack("AR", ""))
        return True

    receiver.script.append(nameless)
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == Later("hl7-ar-unmatched", at_item=True)


def test_a_flood_of_other_answers_ends(receiver: OddReceiver) -> None:
    """They are bounded in number, as the wait is in time."""

    def flood(line: socket.socket, named: str) -> bool:
        line.sendall(ack("AA", "other") * 100)
        return True

    receiver.script.append(flood)
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == Later("hl7-answers-unmatched")
        assert sender.send(ITEM) == Sent()
    assert receiver.connections == 2


def test_a_receiver_that_says_nothing_is_left_and_its_late_answer_believed_by_nobody(receiver: OddReceiver) -> None:
    """The next attempt has a line of its own."""
    released = threading.Event()

    def late(line: socket.socket, named: str) -> bool:
        released.wait(20)
        with contextlib.suppress(OSError):
            line.sendall(ack("AA", named))
        return True

    receiver.script.append(late)
    with _sender(receiver.port, answer_s=0.2) as sender:
        assert sender.send(ITEM) == Later("hl7-no-answer")
        receiver.script.append("AE 101")
        with _sender(receiver.port) as another:
            assert another.send(ITEM) == Refused("hl7-ae-101")
        released.set()
    assert receiver.connections == 2


def test_a_kept_connection_that_is_gone_is_made_anew_at_once(receiver: OddReceiver) -> None:
    """Whether it was ended between two messages or under the second; nobody there is no error."""
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == Sent()
        assert sender.send(ITEM) == Sent()
        assert receiver.connections == 1
        receiver.script.append("hang-up")
        assert sender.send(ITEM) == Sent()
        receiver._open[-1].shutdown(socket.SHUT_RDWR)
        _until(lambda: sender._kept() is None)
        assert sender.send(ITEM) == Sent()
        assert receiver.connections == 3
    receiver.close()
    with _sender(receiver.port) as sender:
        assert sender.send(ITEM) == Later("unreachable")


def test_closing_ends_a_wait(receiver: OddReceiver) -> None:
    """From another thread, and nothing is sent after it."""
    waiting = threading.Event()
    receiver.script.append(lambda line, named: waiting.set() or True)
    sender = Hl7Sender(_settings(receiver.port), answer_s=60.0)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(sender.send(ITEM)))
    thread.start()
    assert waiting.wait(20)
    sender.close()
    thread.join(20)
    assert outcomes == [Later("hl7-hung-up")]
    assert len(receiver.seen) == 1


def test_a_receiver_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    """Nor one of the right authority under another name; a right one is, over a kept connection too."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for issuer, name, outcome in (
        (authority, "127.0.0.1", Sent()),
        (authority, "elsewhere.example", Later("tls")),
        (stranger, "127.0.0.1", Later("tls")),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(name).configure_cert(context)
        receiver = OddReceiver(context)
        with _sender(receiver.port, authority=str(tmp_path / "ca.pem")) as sender:
            assert [sender.send(ITEM), sender.send(ITEM)] == [outcome, outcome]
        assert len(receiver.seen) == (2 if outcome == Sent() else 0)
        assert receiver.connections == (1 if outcome == Sent() else 2)
        receiver.close()


def test_plain_text_to_another_machine_must_be_said() -> None:
    """The default is TLS; settings that contradict themselves, or flood a record, are refused."""
    assert not _settings(1).encrypted
    assert Hl7OutSettings("10.0.0.7", 6661, HEAD).encrypted
    assert not Hl7OutSettings("10.0.0.7", 6661, HEAD, plain_text=True).encrypted
    wrong: tuple[dict[str, Any], ...] = (
        {"host": ""}, {"port": 0}, {"port": 70_000}, {"plain_text": True, "authority": "a"}, {"certificate": "c"},
        {"scores_every_s": 1.0}, {"scores_every_s": float("nan")},
    )  # fmt: skip
    for changes in wrong:
        with pytest.raises(ConfigError):
            Hl7OutSettings(**{"host": "h", "port": 1, "head": HEAD, **changes})
    with pytest.raises(ConfigError):
        Hl7Sender(Hl7OutSettings("h", 1, HEAD, authority="none.pem"))


def test_patients_are_in_payloads_and_nowhere_else(tmp_path: Path, receiver: OddReceiver) -> None:
    """No id, control id, state, code or repr holds who it is about; nobody without a number leaves."""
    clock = ManualClock()
    outbox = Outbox(tmp_path / "out.db", clock)
    output = Hl7Output(outbox, clock, _whose, _settings(receiver.port))
    for stay in (7, 8, 9):
        output.write("score", {**SCORE, "stay": stay})
        output.write("advisory", {**ADVISORY, "stay": stay})
    assert (output.unidentified, output.failed) == (4, 0)
    outbox.flush()
    item = outbox.take(DESTINATION, 0.0)
    assert item is not None
    assert b"SECRET-P1" in item.payload
    receiver.script.append("AE 101")
    with _courier(outbox, _settings(receiver.port)) as courier:
        _until(lambda: courier.state.refused == 1 and courier.state.sent == 1)
        said = repr((item, vars(output._record), outbox.state(), courier.state, receiver.seen, output))
    outbox.close()
    assert "SECRET" not in said
