"""Scores, NEWS2 and advisories to a hospital's HL7 v2 listener: an ``Output`` into the outbox, and its ``Sender``.

What leaves, and when, is ``record``'s to say; how it reads, ``wire.hl7v2_out``'s. A message counts as arrived when the
receiver has acknowledged its very control id; until then it is sent again, the same message with the same id.

| the answer                                            | what becomes of the message                          |
|-------------------------------------------------------|------------------------------------------------------|
| AA, CA                                                | it arrived                                           |
| CR; AE, AR, CE with a code that blames the message    | refused for good, and counted                        |
| AR, CE with 207                                       | the receiver cannot take it now: later, and as long  |
| AE with 207; AE, AR, CE without a code                | later, but not for ever (``courier``)                |
| none, another's, none that can be read; hung up       | later, and as long as it takes                       |

A code blames the message when it is one of HL7 table 0357 other than 207. Whoever sends no code may mean a fault of the
message or one of his own: such an answer is no reason to lose an advisory at once, nor to hold up all that follow.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.bedside.output.courier import Later, Outcome, Refused, Sent
from edgeward.bedside.output.record_output import SCORES_EVERY_S, RecordOutput, check_every_s
from edgeward.bedside.source.http import tls_files_error
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.hosts import LOOPBACK
from edgeward.wire import hl7v2_out, mllp
from edgeward.wire.hl7v2_answer import FAULTS, TAKEN, Answer, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.output.outbox import Item, Outbox
    from edgeward.kernel.clock import Clock
    from edgeward.wire.entries import Entry, Whose
    from edgeward.wire.hl7v2_out import Letterhead

DESTINATION = "hl7"
CONNECT_S = 5.0
ANSWER_S = 15.0
"""How long the answer to one message is waited for, whatever else comes meanwhile."""
ANSWER_BYTES_MAX = 64 << 10
UNMATCHED_MAX = 64
"""Answers to something else that are read while one is waited for."""
_BUSY = "207"
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Hl7OutSettings:
    """Where to send, and how to be known there.

    TLS 1.2 or newer unless ``plain_text``, which the site must say where the receiver is not this very machine, for
    patients' data leave then readable by whoever can listen. ``authority``: PEM of who signed the receiver's
    certificate, empty for the system's own; ``certificate``, ``key``: our own. Raises ``ConfigError``.
    """

    host: str
    port: int
    head: Letterhead
    plain_text: bool = False
    authority: str = ""
    certificate: str = ""
    key: str = ""
    scores_every_s: float = SCORES_EVERY_S

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65_535:
            raise ConfigError("hl7-address", "name the host and the port (1 to 65535) of the HL7 listener to send to")
        if self.plain_text and (self.authority or self.certificate or self.key):
            raise ConfigError("hl7-tls", "plain_text and the files of TLS exclude each other; leave one of them out")
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("hl7-tls", "certificate and key belong together")
        check_every_s(self.scores_every_s)

    @property
    def encrypted(self) -> bool:
        """Whether the connection is by TLS: always, but for ``plain_text``, and loopback where nothing else is said."""
        return bool(self.authority or self.certificate) or not (self.plain_text or self.host in LOOPBACK)


class Hl7Output(RecordOutput):
    """An ``Output`` of the ward: what is for the record (``record``), as ORU^R01 in the outbox."""

    def __init__(
        self, outbox: Outbox, clock: Clock, whose: Callable[[int], Whose | None], settings: Hl7OutSettings
    ) -> None:
        self._head = settings.head
        super().__init__(DESTINATION, settings.head.device, settings.scores_every_s, outbox, clock, whose)

    def form(self, entry: Entry, whose: Whose, name: str, wall_ns: int) -> bytes:
        """The message that enters an entry; the same name, the same control id."""
        return hl7v2_out.message(entry, whose, self._head, name, wall_ns)


@dataclass(slots=True)
class Hl7Sender:
    """Sends an item's message by MLLP and waits for its acknowledgement. Raises ``ConfigError`` (``tls-files``)."""

    settings: Hl7OutSettings
    answer_s: float = ANSWER_S
    _tls: ssl.SSLContext | None = field(init=False, repr=False)
    _socket: socket.socket | None = field(default=None, repr=False)
    _decoder: mllp.Decoder = field(default_factory=mllp.Decoder, repr=False)

    def __post_init__(self) -> None:
        self._tls = _context(self.settings)

    def send(self, item: Item) -> Outcome:
        """Try once; over a kept connection that turns out to be gone, once more over a new one."""
        line = self._kept()
        if line is not None:
            try:
                return self._over(line, item)
            except TimeoutError:
                return self._given_up("hl7-no-answer")
            except (OSError, ValueError):  # ValueError: a socket that was closed meanwhile
                if self._socket is not line:
                    return Later("closed")  # by us, from another thread: nobody waits for another attempt
        try:
            line = self._connect()
        except ssl.SSLError:
            return self._given_up("tls")
        except OSError:
            return self._given_up("unreachable")
        try:
            return self._over(line, item)
        except TimeoutError:
            return self._given_up("hl7-no-answer")
        except ssl.SSLError:  # of TLS 1.3 a refused certificate shows with the first byte that is read
            return self._given_up("tls")
        except (OSError, ValueError):
            return self._given_up("hl7-hung-up")

    def close(self) -> None:
        """Drop the connection, also under a ``send`` that waits in another thread; the next one makes another."""
        line, self._socket = self._socket, None
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)  # closing alone would not wake who waits
            line.close()

    def _connect(self) -> socket.socket:
        self.close()
        settings = self.settings
        line = socket.create_connection((settings.host, settings.port), timeout=CONNECT_S)
        try:
            _keep_alive(line)
            if self._tls is not None:
                line = self._tls.wrap_socket(line, server_hostname=settings.host)
        except BaseException as error:
            line.close()
            if isinstance(error, TimeoutError):
                raise ConnectionRefusedError from error
            raise
        self._decoder = mllp.Decoder(ANSWER_BYTES_MAX)
        self._socket = line
        return line

    def _kept(self) -> socket.socket | None:
        """The connection of the message before, unless the receiver has ended it; late answers on it are forgotten."""
        line = self._socket
        if line is None:
            return None
        try:
            line.setblocking(False)
            for _ in range(UNMATCHED_MAX):
                data = line.recv(_READ_BYTES)
                if not data:
                    return None
                self._decoder.feed(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return line
        except (OSError, ValueError):
            pass
        return None

    def _given_up(self, code: str) -> Later:
        """The same message again, over a line on which no late answer can come."""
        self.close()
        return Later(code)

    def _over(self, line: socket.socket, item: Item) -> Outcome:
        line.settimeout(self.answer_s)
        line.sendall(mllp.encode(item.payload))
        return self._await(line, hl7v2_out.control_of(item.payload))

    def _await(self, line: socket.socket, control: str) -> Outcome:
        """Read until the answer to ``control`` is there. ``TimeoutError`` when its time is over."""
        until = time.monotonic() + self.answer_s
        unmatched = 0
        while unmatched < UNMATCHED_MAX:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            line.settimeout(left)
            data = line.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError
            for part in self._decoder.feed(data):
                answer = read_answer(part) if isinstance(part, bytes) else None
                if answer is not None and answer.control == control:
                    return outcome_of(answer)
                if answer is not None and not answer.control and answer.code in FAULTS:
                    # It could not read whom it answers, and one message at a time is on its way.
                    return Later(f"hl7-{answer.code.lower()}-unmatched", at_item=True)
                unmatched += 1
        return self._given_up("hl7-answers-unmatched")


def outcome_of(answer: Answer) -> Outcome:
    """What an answer to our own message means for it; the table stands above."""
    if answer.code in TAKEN:
        return Sent()
    code = f"hl7-{answer.code.lower()}{'-' if answer.condition else ''}{answer.condition}"
    if answer.condition == _BUSY:
        return Later(code, at_item=answer.code == "AE")
    if answer.code == "CR" or answer.condition:
        return Refused(code)
    return Later(code, at_item=True)


def _keep_alive(line: socket.socket) -> None:
    """Find a receiver that is gone, or a firewall that forgot the connection, between two scores."""
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _context(settings: Hl7OutSettings) -> ssl.SSLContext | None:
    if not settings.encrypted:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.authority or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise tls_files_error() from error
    return context
