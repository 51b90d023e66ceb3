"""The rung CLOUD: asks a scoring server for what the device's own engines cannot give, and never waits for it.

A thread of its own holds the connection. ``ask`` puts a request into a short queue and returns; answers are picked up
with ``heard``. A request that could not be answered by its deadline is a failure, however it ends later. The breaker
leaves a server alone that fails. What is sent is ``exchange.scoring``'s minimum: features and the bundle's hash.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeward.bedside.breaker import Breaker, BreakerPolicy
from edgeward.exchange.scoring import ANSWER_BYTES_MAX, PATH, ScoreRequest, decode_answer, encode_request
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError, EngineError
from edgeward.kernel.hosts import LOOPBACK

if TYPE_CHECKING:
    from edgeward.exchange.scoring import Array
    from edgeward.kernel.clock import Clock

QUEUE_MAX = 64
CONNECT_S = 2.0


class CloudFailure(StrEnum):
    """Why there is no answer."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    LATE = "late"
    BAD_ANSWER = "bad_answer"
    LEFT_ALONE = "left_alone"
    """The breaker is open: nobody was asked."""


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Where to ask and how long to wait.

    ``url``: https://HOST[:PORT] (plain http only to loopback); ``token_file``: holds the device's token; ``authority``:
    PEM of the authority that signed the server's certificate, empty for the system's own. Raises ``ConfigError``.
    """

    url: str
    token_file: str = ""
    authority: str = ""
    budget_s: float = 3.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not secure or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
            raise ConfigError("cloud-url", "the scoring server must be named as https://HOST or https://HOST:PORT")
        if not 0.1 <= self.budget_s <= 10.0:
            raise ConfigError("setting-invalid", "the scoring server's budget_s must lie between 0.1 and 10 seconds")


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """The answer to ``ask(key, …)``: scores (classes,) or a failure."""

    key: int
    scores: Array | None
    failure: CloudFailure | None
    age_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    key: int
    request: ScoreRequest
    at_ns: int
    deadline_ns: int


class CloudClient:
    """One scoring server. ``fileno`` becomes readable when there is something to hear.

    Raises ``ConfigError`` (``cloud-token``, ``cloud-authority``) for files that cannot be read.
    """

    def __init__(self, settings: CloudSettings, clock: Clock, policy: BreakerPolicy | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._headers = {"Content-Type": "application/json"}
        if settings.token_file:
            self._headers["Authorization"] = f"Bearer {_token(settings.token_file)}"
        self._context = _context(settings)
        self._breaker = Breaker(policy or BreakerPolicy())
        self._waiting: deque[_Asked] = deque()
        self._heard: deque[Heard] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._under_way: _Asked | None = None
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="cloud", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """For a selector."""
        return self._bell

    def ask(self, key: int, request: ScoreRequest) -> None:
        """Ask for scores under ``key``; never waits. The answer, or why there is none, is heard within the budget."""
        now = self._clock.monotonic_ns()
        with self._changed:
            if not self._breaker.allows(now) or len(self._waiting) >= QUEUE_MAX:
                self._answer(Heard(key, None, CloudFailure.LEFT_ALONE, 0))
                return
            self._breaker = self._breaker.called(now)
            deadline = now + round(self._settings.budget_s * NS_PER_S)
            self._waiting.append(_Asked(key, request, now, deadline))
            self._changed.notify()

    def heard(self) -> list[Heard]:
        """Every answer since the last call. Call it now and then: it cuts off a server that answers drop by drop."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        with self._changed:
            answers = list(self._heard)
            self._heard.clear()
            overdue = self._under_way
            connection = self._connection
        if overdue is not None and connection is not None and self._clock.monotonic_ns() > overdue.deadline_ns:
            with contextlib.suppress(OSError, AttributeError):  # it may be closing itself just now
                connection.sock.shutdown(socket.SHUT_RDWR)
        return answers

    def close(self) -> None:
        """Let go, at the latest when the call under way runs into its time-out."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(CONNECT_S + self._settings.budget_s)
        if not self._thread.is_alive():
            os.close(self._bell)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    break
                asked = self._under_way = self._waiting.popleft()
            scores, failure = self._call(asked)
            now = self._clock.monotonic_ns()
            if now > asked.deadline_ns:
                scores, failure = None, CloudFailure.LATE
            with self._changed:
                self._under_way = None
                good = failure is None
                self._breaker = self._breaker.succeeded() if good else self._breaker.gave_up(now)
                self._answer(Heard(asked.key, scores, failure, now - asked.at_ns))
        self._hang_up()

    def _answer(self, heard: Heard) -> None:
        self._heard.append(heard)
        os.eventfd_write(self._bell, 1)

    def _call(self, asked: _Asked) -> tuple[Array | None, CloudFailure | None]:
        body = encode_request(asked.request)
        for fresh in (False, True):  # a kept connection may have been closed by the other side: that proves nothing
            left_s = (asked.deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return None, CloudFailure.LATE
            kept = self._connection is not None
            try:
                return self._exchange(body, left_s)
            except TimeoutError:
                self._hang_up()
                return None, CloudFailure.LATE
            except (OSError, http.client.HTTPException):
                self._hang_up()
                if fresh or not kept:
                    return None, CloudFailure.UNREACHABLE
        return None, CloudFailure.UNREACHABLE

    def _exchange(self, body: bytes, left_s: float) -> tuple[Array | None, CloudFailure | None]:
        connection = self._connected(left_s)
        connection.request("POST", PATH, body, self._headers)
        answer = connection.getresponse()
        whole = answer.read(ANSWER_BYTES_MAX + 1)
        if answer.status != http.client.OK or len(whole) > ANSWER_BYTES_MAX:
            self._hang_up()
            return None, CloudFailure.REFUSED
        try:
            return decode_answer(whole), None
        except EngineError:
            self._hang_up()
            return None, CloudFailure.BAD_ANSWER

    def _connected(self, left_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._settings.url)
            host, port, wait_s = parts.hostname or "", parts.port, min(CONNECT_S, left_s)
            if self._context is None:
                self._connection = http.client.HTTPConnection(host, port, timeout=wait_s)
            else:
                self._connection = http.client.HTTPSConnection(host, port, timeout=wait_s, context=self._context)
            self._connection.connect()
        self._connection.sock.settimeout(left_s)
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _context(settings: CloudSettings) -> ssl.SSLContext | None:
    if settings.url.startswith("http:"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.authority or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "cloud-authority", "the authority's certificate for the scoring server cannot be read; give a PEM file"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _token(name: str) -> str:
    try:
        return Path(name).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "cloud-token", "the token for the scoring server cannot be read; check token_file and its owner"
        ) from error
