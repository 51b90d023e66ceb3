"""A device and a scoring server, for real: HTTPS on loopback, the same bundle, and everything that can go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import select
import signal
import socket
import ssl
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trustme

from edgeward.bedside.breaker import BreakerPolicy
from edgeward.bedside.cloud import CloudClient, CloudFailure, CloudSettings, Heard
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle
from edgeward.exchange.scoring import PATH, ScoreRequest
from edgeward.fleet.cloud import ScoringServer
from edgeward.inference.engine import Engine
from edgeward.inference.golden import read_golden
from edgeward.kernel.errors import ConfigError
from edgeward.testing.bundles import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-device's-token"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "tiny.ewb").write_bytes(tiny_bundle())
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    (folder / "token").write_text(TOKEN + "\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ScoringServer]:
    hashes = [hashlib.sha256(TOKEN.encode()).hexdigest()]
    files = (folder / "chain.pem", folder / "key.pem")
    with ScoringServer([folder / "tiny.ewb"], port=0, certificate=files, token_hashes=hashes) as running:
        yield running


@pytest.fixture
def window(folder: Path) -> ScoreRequest:
    bundle = read_bundle((folder / "tiny.ewb").read_bytes())
    vectors = read_golden(bundle)
    return ScoreRequest(bundle.sha256, {name: array[:1] for name, array in vectors.inputs.items()})


def settings(server: ScoringServer, folder: Path, **more: Any) -> CloudSettings:
    told = {"url": server.url, "token_file": str(folder / "token"), "authority": str(folder / "authority.pem")}
    return CloudSettings(**{**told, **more})


def hear(client: CloudClient, count: int = 1, seconds: float = 20.0) -> list[Heard]:
    answers: list[Heard] = []
    end = time.monotonic() + seconds
    while len(answers) < count:
        assert time.monotonic() < end, "nothing was heard"
        select.select([client], [], [], 0.1)
        answers += client.heard()
    return answers


@contextlib.contextmanager
def client_of(told: CloudSettings, policy: BreakerPolicy | None = None) -> Iterator[CloudClient]:
    client = CloudClient(told, SystemClock(), policy)
    try:
        yield client
    finally:
        client.close()


def test_the_cloud_gives_the_scores_of_the_device(server: ScoringServer, folder: Path, window: ScoreRequest) -> None:
    """The same bundle, the same inputs, over TLS 1.3 and one kept connection: the same scores."""
    engine = Engine.load(read_bundle((folder / "tiny.ewb").read_bytes()))
    with client_of(settings(server, folder)) as client:
        for key in range(5):
            client.ask(key, window)
        answers = hear(client, 5)
    assert [answer.key for answer in answers] == list(range(5))
    for answer in answers:
        assert answer.failure is None
        np.testing.assert_allclose(answer.scores, engine.infer(dict(window.inputs)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"token_file": ""}, CloudFailure.REFUSED),
        ({"authority": ""}, CloudFailure.UNREACHABLE),
        ({"url": "https://localhost:1"}, CloudFailure.UNREACHABLE),
    ],
)
def test_a_server_that_may_not_or_cannot_answer(
    server: ScoringServer, folder: Path, window: ScoreRequest, change: dict[str, str], failure: CloudFailure
) -> None:
    """No token, a certificate that nobody vouches for, nobody there: each is a failure of its own, never a score."""
    with client_of(settings(server, folder, **change)) as client:
        client.ask(1, window)
        assert hear(client)[0].failure is failure


def test_another_bundle_is_refused(server: ScoringServer, folder: Path, window: ScoreRequest) -> None:
    """A device gets scores of its own bundle or none."""
    with client_of(settings(server, folder)) as client:
        client.ask(1, ScoreRequest("00" * 32, window.inputs))
        assert hear(client)[0].failure is CloudFailure.REFUSED


def test_a_killed_engine_costs_one_answer(server: ScoringServer, folder: Path, window: ScoreRequest) -> None:
    """The server lives, and the next answer is a score again."""
    engine = next(iter(server.engines.values()))
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    with client_of(settings(server, folder), BreakerPolicy(failures=100)) as client:
        for key in range(50):
            client.ask(key, window)
            answer = hear(client)[0]
            if answer.failure is None:
                break
            time.sleep(0.1)
        assert answer.failure is None


@contextlib.contextmanager
def impostor(words: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that says ``words``, at once or, with a pause before each, byte by byte, and counts nobody's time."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()
    pieces = [bytes([byte]) for byte in words] if pause_s else [words]

    def run() -> None:
        listener.settimeout(0.1)
        while not stop.is_set():
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65_536)
                    for piece in pieces:
                        if stop.wait(pause_s):
                            return
                        peer.sendall(piece)
                    peer.settimeout(1.0)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65_536):  # closing on what is unread would reset what was said
                        pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (b"nonsense\r\n\r\n", CloudFailure.UNREACHABLE),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"scores":["x"]}', CloudFailure.BAD_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 300_000, CloudFailure.REFUSED),
        (b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n", CloudFailure.REFUSED),
    ],
    ids=["nonsense", "no-scores", "too-long", "error"],
)
def test_an_answer_that_is_none(window: ScoreRequest, words: bytes, failure: CloudFailure) -> None:
    """Whatever comes back, only finite scores count."""
    with impostor(words) as url, client_of(CloudSettings(url)) as client:
        client.ask(1, window)
        assert hear(client)[0].failure is failure


def test_a_server_that_answers_drop_by_drop_is_cut_off(window: ScoreRequest) -> None:
    """Each byte comes in time and the answer never would: the deadline ends it, and the next call is not stuck."""
    with (
        impostor(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b" " * 100, pause_s=0.1) as url,
        client_of(CloudSettings(url, budget_s=0.5)) as client,
    ):
        for key in (1, 2):
            client.ask(key, window)
            assert hear(client)[0].failure is CloudFailure.LATE


def test_a_server_that_fails_is_left_alone(window: ScoreRequest) -> None:
    """After three failures nobody is asked until the pause is over; asking costs nothing meanwhile."""
    policy = BreakerPolicy(failures=3, pause_ns=10**12, pause_ns_max=10**12)
    with client_of(CloudSettings("http://127.0.0.1:1"), policy) as client:
        failures = []
        for key in range(5):
            client.ask(key, window)
            failures += [answer.failure for answer in hear(client)]
    assert failures == [CloudFailure.UNREACHABLE] * 3 + [CloudFailure.LEFT_ALONE] * 2


def test_asking_never_waits(window: ScoreRequest) -> None:
    """A server that takes the connection and says nothing holds up nobody; the queue is bounded."""
    with impostor(b"x", pause_s=60.0) as url, client_of(CloudSettings(url, budget_s=0.3)) as client:
        for key in range(100):
            client.ask(key, window)
        answers = hear(client, 100)
    assert {answer.failure for answer in answers} == {CloudFailure.LATE, CloudFailure.LEFT_ALONE}


def test_the_server_refuses_what_it_does_not_know(server: ScoringServer, folder: Path) -> None:
    """Wrong page, no token, too long, no JSON; and its health page tells counts and no request."""
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))

    def status(path: str, body: bytes, token: str = TOKEN, length: int | None = None) -> int:
        peer = http.client.HTTPSConnection(server.url.removeprefix("https://"), context=context)
        with contextlib.closing(peer):
            stated = str(len(body) if length is None else length)
            peer.request("POST", path, body, {"Authorization": f"Bearer {token}", "Content-Length": stated})
            return peer.getresponse().status

    assert status("/other", b"{}") == 404
    assert status(PATH, b"{}", token="wrong") == 401
    assert status(PATH, b"{}") == 400
    assert status(PATH, b"", length=2 << 20) == 413
    assert status(PATH, b"", length=-1) == 413
    with urllib.request.urlopen(server.url + "/healthz", context=context) as answer:
        health = json.load(answer)
    assert set(health) == {"bundles", "answered", "refused", "failed"}


def test_a_silent_client_does_not_stop_the_others(server: ScoringServer, folder: Path, window: ScoreRequest) -> None:
    """One that connects and never finishes its handshake holds its own thread only."""
    host, port = server.url.removeprefix("https://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(5)]
    try:
        with client_of(settings(server, folder)) as client:
            client.ask(1, window)
            assert hear(client)[0].failure is None
    finally:
        for peer in silent:
            peer.close()


def test_beyond_loopback_a_server_needs_a_certificate_and_tokens(folder: Path) -> None:
    """And a device trusts plain HTTP on loopback alone."""
    with pytest.raises(ConfigError) as refused:
        ScoringServer([folder / "tiny.ewb"], host="0.0.0.0", port=0)
    assert refused.value.code == "cloud-open"
    for url in ("http://cloud.example.org", "https://u@cloud.example.org", "ftp://x", "https://h/path", ""):
        with pytest.raises(ConfigError):
            CloudSettings(url)
    with pytest.raises(ConfigError):
        CloudClient(CloudSettings("https://localhost", token_file=str(folder / "none")), SystemClock())
