"""Keeps one SDC device connected: finds it, subscribes, watches, and begins anew whenever something is amiss.

The library does not reconnect, and a device that looks subscribed may report nothing. So a connection is given up, and
the next one begins after a pause that grows, when

* the device cannot be reached or answers nonsense (``sdc-connection-lost``, or the code of what was wrong);
* a subscription was refused, was not renewed, or was ended by the device (``sdc-not-subscribed``, ``sdc-ended``);
* a question shows a state that no report brought (``sdc-silent``);
* the device runs anew (``sdc-restarted``).

The device is asked for its states when it hangs up, when it has been quiet for ``ASK_QUIET_S``, and at least every
``ASK_S``: so a lost report, and a lost device, are noticed without waiting for a subscription to run out.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlsplit

from edgeward.bedside.source.sdc_hub import Subscriber
from edgeward.inference.backoff import Backoff, BackoffPolicy
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError, EdgewardError
from edgeward.wire.sdc import Message, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bedside.source.sdc_hub import SdcHub
    from edgeward.bedside.source.sdc_session import SdcTls, Session
    from edgeward.kernel.clock import Clock

ASK_QUIET_S = 2.0
ASK_S = 10.0
ASK_HUNG_UP_S = 1.0
"""A device that hangs up after every report is asked this often, and not more."""
RELOAD_S = 1.0
"""A device whose description never fits its reports is asked for its MDIB this often, and not more."""
ASKED_MAX = 512
"""Descriptors asked for at once."""
TICK_S = 0.2
CLOSE_S_MAX = 10.0
_BACKOFF = BackoffPolicy(free=1, base_s=0.5, longest_s=10.0, forget_s=60.0)
_EPR = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True)
class SdcAddress:
    """Where a device is: ``url`` (http or https), or its endpoint reference and the network adapter to look on."""

    url: str = ""
    epr: str = ""
    adapter: str = ""

    @property
    def name(self) -> str:
        """A name of the device that holds no PHI."""
        return self.epr or urlsplit(self.url).netloc


def sdc_address(text: str) -> SdcAddress:
    """Read ``http://HOST:PORT/PATH``, ``https://…`` or ``urn:uuid:…?adapter=ADDRESS`` (found by WS-Discovery).

    Raises ``ConfigError`` (``sdc-address``).
    """
    plain, _, query = text.partition("?")
    parts = urlsplit(text)
    adapter = dict(parse_qsl(query)).get("adapter", "")
    if parts.scheme in {"http", "https"} and parts.hostname:
        return SdcAddress(url=text)
    if plain.startswith("urn:") and _EPR.fullmatch(plain) and adapter:
        return SdcAddress(epr=plain, adapter=adapter)
    raise ConfigError(
        "sdc-address",
        "write an SDC device as http://HOST:PORT/PATH, https://HOST:PORT/PATH or urn:uuid:…?adapter=OUR-ADDRESS",
    )


class Listener(Protocol):
    """Who wants to know what a device tells; everything is called on the hub's thread."""

    def loaded(self, answers: Sequence[Message], received_ns: int) -> None:
        """The device's MDIB, after each connection and each change of its description."""
        ...

    def reported(self, message: Message, received_ns: int) -> None:
        """A report."""
        ...

    def answered(self, message: Message, received_ns: int) -> None:
        """An answer to a question for states."""
        ...

    def asked(self) -> None:
        """The MDIB is about to be asked for."""
        ...

    def lost(self, code: str) -> None:
        """The connection is given up; another is tried."""
        ...

    def unreadable(self, code: str) -> None:
        """A report came that cannot be read."""
        ...

    def of_interest(self) -> Sequence[str]:
        """Descriptors whose states are asked for."""
        ...


class SdcLink(Subscriber):
    """One device. ``wanted``: local names of reports; ``start`` it, ``close`` it; the listener hears the rest.

    ``renew`` (a code) gives the connection up, ``reload`` asks for the MDIB again; both from any thread.
    """

    def __init__(
        self,
        address: SdcAddress,
        listener: Listener,
        hub: SdcHub,
        clock: Clock,
        *,
        wanted: Sequence[str],
        tls: SdcTls | None = None,
    ) -> None:
        if tls is not None and address.url.startswith("http:"):
            raise ConfigError("sdc-address", "with certificates given, the device's address must begin with https://")
        if tls is None and address.url.startswith("https:"):
            raise ConfigError("sdc-address", "an https:// address needs certificates: name them, or use http://")
        self.address = address
        self._listener, self._hub, self._clock = listener, hub, clock
        self._wanted, self._tls = tuple(wanted), tls
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._renew = ""
        self._reload = False
        self._heard_ns = 0
        self._hung_up = False
        self._backoff = Backoff(_BACKOFF)
        self._thread = threading.Thread(target=self._run, name="sdc-link", daemon=True)
        self.connections = 0
        """Connections that came to stand so far."""
        self.last_error = ""
        """Code of the latest failure."""

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def close(self) -> None:
        """End the connection politely, for a bounded time."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S_MAX)

    def renew(self, code: str) -> None:
        """Give the present connection up, for the reason ``code``."""
        self._renew = self._renew or code
        self._wake.set()

    def reload(self) -> None:
        """Ask for the MDIB again."""
        self._reload = True
        self._wake.set()

    # --- what the hub says

    def reported(self, message: Message, received_ns: int) -> None:
        """A report, or the word that there will be none."""
        if message.name == "SubscriptionEnd":
            self.renew("sdc-ended")
            return
        self._heard_ns = received_ns
        self._listener.reported(message, received_ns)

    def unreadable(self, code: str) -> None:
        """A report that cannot be read: its states are asked for instead."""
        self._listener.unreadable(code)
        self._hung_up = True
        self._wake.set()

    def hung_up(self) -> None:
        """Ask at once whether the device is still there."""
        self._hung_up = True
        self._wake.set()

    # --- the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            code = self._converse()
            if self._closing.is_set():
                return
            self.last_error = code
            self._hub.call(self._listener.lost, code)
            self._backoff.failed(self._clock.monotonic_ns())
            while not self._backoff.allows(self._clock.monotonic_ns()) and not self._closing.is_set():
                self._wake.wait(TICK_S)
                self._wake.clear()

    def _converse(self) -> str:
        """One connection, from finding the device to losing it; the code of why it ended."""
        from edgeward.bedside.source import sdc_session  # the library is needed here and not before

        session: Session | None = None
        self._renew, self._reload, self._hung_up = "", False, False
        try:
            url = self.address.url or sdc_session.locate(self.address.epr, self.address.adapter)
            session = sdc_session.Session(url, self._tls, self._wanted, self._hub.address)
            self._hub.register(session.path, self)
            self._hub.call(self._listener.asked)
            session.open()
            self._load(session)
            self.connections += 1
            return self._watch(session)
        except EdgewardError as error:
            return error.code
        except Exception:  # noqa: BLE001  # a device can make the library raise anything; none of it may end the thread
            return "sdc-connection-lost"
        finally:
            if session is not None:
                self._hub.unregister(session.path)
                session.close()

    def _load(self, session: Session) -> None:
        answers = [decode(answer) for answer in session.mdib()]
        self._hub.call(self._listener.loaded, answers, self._clock.monotonic_ns())

    def _watch(self, session: Session) -> str:
        asked_ns = loaded_ns = self._clock.monotonic_ns()
        while not self._closing.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            if self._renew:
                return self._renew
            if not session.subscribed:
                return "sdc-not-subscribed"
            now = self._clock.monotonic_ns()
            if self._reload and now - loaded_ns >= RELOAD_S * NS_PER_S:
                self._reload, loaded_ns = False, now
                self._hub.call(self._listener.asked)
                self._load(session)
            pause_s = ASK_QUIET_S if now - self._heard_ns > ASK_QUIET_S / 2 * NS_PER_S else ASK_S
            if now - asked_ns >= (ASK_HUNG_UP_S if self._hung_up else pause_s) * NS_PER_S:
                self._hung_up, asked_ns = False, now
                self._ask(session)
        return ""

    def _ask(self, session: Session) -> None:
        handles = tuple(self._listener.of_interest())[:ASKED_MAX]
        answer = decode(session.states(handles))
        self._hub.call(self._listener.answered, answer, self._clock.monotonic_ns())
