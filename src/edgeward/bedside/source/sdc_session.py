"""One connection to an SDC device by the library ``sdc11073``: discovery, questions, subscriptions. Calls block.

The library is used for what it is good at (WS-Discovery, DPWS metadata, WS-Eventing, SOAP over HTTP and TLS) and kept
from the rest: notifications do not pass through it (``sdc_hub``), it holds no MDIB, its answers are bounded, and it is
not asked to choose between TLS and plain text, which it would do in favour of plain text. It logs whole messages,
patients included, when one is not valid: its loggers are closed here, for good.

Import this module only where SDC is used: ``ConfigError`` (``sdc-not-installed``) without the extra ``sdc``.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import ssl
import uuid
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.source.http import server_tls, tls_files_error
from edgeward.kernel.errors import ConfigError, InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library warns of a module of its own
    try:
        from sdc11073.consumer import consumerimpl
        from sdc11073.definitions_sdc import SdcV1Definitions
        from sdc11073.dispatch import RequestDispatcher
        from sdc11073.pysoap import soapclient
        from sdc11073.wsdiscovery import WSDiscovery
        from sdc11073.xml_types.actions import Actions
        from sdc11073.xml_types.addressing_types import HeaderInformationBlock
    except ImportError as error:
        raise ConfigError(
            "sdc-not-installed", "an SDC source needs the library sdc11073: pip install 'edgeward[sdc]'"
        ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable

for _name in ("sdc", "sdc_comm"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)
    logging.getLogger(_name).propagate = False

ANSWER_BYTES_MAX = 16 << 20
"""The MDIB of the largest monitors takes about 2 MB."""
SOAP_S_MAX = 2.0
"""A device on a ward's network answers within this, or is not there."""


@dataclass(frozen=True, slots=True)
class SdcTls:
    """The device's own certificate in both roles: as the one who asks, and as the one who is notified."""

    client_context: ssl.SSLContext
    server_context: ssl.SSLContext


def sdc_tls(certificate: str, key: str, authority: str) -> SdcTls:
    """Our certificate and key, and the authority whose certificates the site's devices show (PEM files).

    Both sides must show one. Host names are not compared: SDC devices are reached by address, and a certificate tells
    what its holder may do, not what it is called (11073-20701, annex on security). Raises ``ConfigError``
    (``tls-files``).
    """
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.minimum_version = ssl.TLSVersion.TLSv1_2
    asking.check_hostname = False
    try:
        asking.load_cert_chain(certificate, key)
        asking.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise tls_files_error() from error
    return SdcTls(asking, server_tls(certificate, key, client_ca=authority))


class _Response(http.client.HTTPResponse):
    """An answer of bounded size, not compressed: nothing was said to be welcome but plain text."""

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise http.client.HTTPException("an answer is compressed without having been asked for it")

    def read(self, amt: int | None = None) -> bytes:
        """All of the answer, or ``amt`` bytes of it."""
        if amt is not None and amt > ANSWER_BYTES_MAX:
            raise http.client.HTTPException("an answer is too long")
        data = super().read(ANSWER_BYTES_MAX + 1 if amt is None else amt)
        if len(data) > ANSWER_BYTES_MAX:
            raise http.client.HTTPException("an answer is too long")
        return data


class _SoapClient(soapclient.SoapClient):  # type: ignore[misc]  # the library is untyped here
    def _mk_http_connection(self) -> Any:
        connection = super()._mk_http_connection()
        connection.response_class = _Response
        return connection


@dataclass(frozen=True, slots=True)
class _Sink:
    """Stands in for the library's own server of notifications: only its address is asked for."""

    base_url: str

    @property
    def dispatcher(self) -> _Sink:
        """The library registers its reader here; nothing is ever given to it."""
        return self

    def register_instance(self, path_element: str | None, instance: object) -> None:
        """Take note of nothing."""


class Session:
    """Asks one device, and holds its subscriptions.

    ``wanted``: local names of the reports to subscribe to; ``sink``: base address of the hub that is notified, under
    ``path``. All methods block, up to ``SOAP_S_MAX`` for each message; the library's own errors come as they are.
    """

    def __init__(self, url: str, tls: SdcTls | None, wanted: Iterable[str], sink: str) -> None:
        self._wanted = {action for action in Actions if action.name in set(wanted)}
        components = consumerimpl.default_components_factory()
        components.soap_client_class = _SoapClient
        components.action_dispatcher_class = RequestDispatcher  # the default one leaves a thread behind for ever
        identity = uuid.uuid4()
        self.path = identity.hex
        self._sink = _Sink(sink)
        self._consumer = consumerimpl.SdcConsumer(
            url,
            SdcV1Definitions,
            tls,
            epr=identity,
            validate=False,  # wire/sdc.py reads strictly; a failed validation would be logged with its patient
            components=components,
            socket_timeout=SOAP_S_MAX,
            force_ssl_connect=tls is not None,
        )
        self._consumer.set_used_compression()

    def open(self) -> None:
        """Read the device's metadata and subscribe. Raises ``InputError`` ``sdc-not-subscribed`` where that fails."""
        unwanted = [action for action in Actions if action not in self._wanted]
        self._consumer.start_all(not_subscribed_actions=unwanted, shared_http_server=self._sink)
        if not self.subscribed:
            raise InputError(
                "sdc-not-subscribed", "the device was reached but does not report to us; it is tried again"
            )

    @property
    def subscribed(self) -> bool:
        """Whether every subscription stands, and together they cover what is wanted and offered."""
        status: dict[str, bool] = self._consumer.subscription_status
        covered = {word for words in status for word in words.split()}
        offered = {
            key.action
            for hosted in self._consumer.host_description.relationship.Hosted
            for port_type in hosted.Types or ()
            if (client := self._consumer.client(port_type.localname)) is not None
            for key in client.get_available_subscriptions()
        }
        return bool(status) and all(status.values()) and {one.value for one in self._wanted} & offered <= covered

    def mdib(self) -> list[bytes]:
        """The answer to GetMdib; and to GetContextStates, where the device leaves contexts out of the MDIB."""
        first = self._ask("GetService", "GetMdib")
        if b"ContextState" in first or self._consumer.client("ContextService") is None:
            return [first]
        return [first, self._ask("ContextService", "GetContextStates")]

    def states(self, handles: Iterable[str]) -> bytes:
        """The answer to GetMdState for these descriptors."""
        return self._ask("GetService", "GetMdState", handles)

    def _ask(self, service: str, question: str, handles: Iterable[str] = ()) -> bytes:
        client = self._consumer.client(service)
        request = getattr(SdcV1Definitions.data_model.msg_types, question)()
        if handles:
            request.HandleRef.extend(handles)
        head = HeaderInformationBlock(action=request.action, addr_to=client.endpoint_reference.Address)
        message = self._consumer.msg_factory.mk_soap_message(head, payload=request)
        raw: bytes = client.post_message(message).p_msg.raw_data
        return raw

    def close(self) -> None:
        """End the subscriptions, if the device still listens, and every thread of the library."""
        with contextlib.suppress(Exception):  # the device may be gone, or never have been reached
            self._consumer.stop_all()


def locate(epr: str, adapter: str, timeout_s: float = SOAP_S_MAX) -> str:
    """Address of the device with endpoint reference ``epr``, by WS-Discovery on the network of address ``adapter``.

    Raises ``InputError`` (``sdc-not-found``) where it does not answer in time.
    """
    with contextlib.closing(_Discovery(adapter)) as discovery:
        for service in discovery.search(timeout_s):
            if service.epr == epr and service.x_addrs:
                return str(service.x_addrs[0])
    raise InputError(
        "sdc-not-found", "no SDC device with that endpoint reference answered; is it on, and on this network?"
    )


def discover(adapter: str, timeout_s: float = SOAP_S_MAX) -> list[tuple[str, str]]:
    """Endpoint reference and first address of every SDC device that answers on the network of ``adapter``."""
    with contextlib.closing(_Discovery(adapter)) as discovery:
        return sorted((str(one.epr), str(one.x_addrs[0])) for one in discovery.search(timeout_s) if one.x_addrs)


class _Discovery:
    def __init__(self, adapter: str) -> None:
        self._discovery = WSDiscovery(adapter)
        self._discovery.start()

    def search(self, timeout_s: float) -> Any:
        return self._discovery.search_sdc_services(timeout=timeout_s)

    def close(self) -> None:
        self._discovery.stop()
