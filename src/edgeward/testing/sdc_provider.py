"""A patient monitor that speaks IEEE 11073 SDC: a real provider (``sdc11073``) with a small MDIB, for tests and demos.

It has a channel of numerics, one of ECG leads, and contexts for patient and location. Whoever drives it says what it
measures; nothing happens by itself. It can also fail: restart as another run of the same device, or fall silent while
it goes on renewing subscriptions and answering questions, as devices have been seen to do.

Needs the extra ``sdc``. The samples sent are decimals of 1 µV, so that a receiver can be held to every one of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the library warns of a module of its own
    try:
        from sdc11073.httpserver import httpserverimpl
        from sdc11073.location import SdcLocation
        from sdc11073.mdib import ProviderMdib
        from sdc11073.provider import SdcProvider
        from sdc11073.wsdiscovery import WSDiscovery
        from sdc11073.xml_types import pm_types
        from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType
    except ImportError as error:
        raise ConfigError("sdc-not-installed", "an SDC monitor needs the extra: pip install 'edgeward[sdc]'") from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from edgeward.bedside.source.sdc_session import SdcTls

_PM = "http://standards.ieee.org/downloads/11073/11073-10207-2017/participant"
_MSG = "http://standards.ieee.org/downloads/11073/11073-10207-2017/message"

# Kind → MDC code, MDC unit, MetricAvailability.
METRICS: Mapping[Kind, tuple[str, str, str]] = {
    Kind.HR: ("147842", "264864", "Cont"),
    Kind.SPO2: ("150456", "262688", "Cont"),
    Kind.PULSE: ("149530", "264864", "Cont"),
    Kind.RR: ("151562", "264928", "Cont"),
    Kind.ABP_SYS: ("150037", "266016", "Cont"),
    Kind.ABP_DIA: ("150038", "266016", "Cont"),
    Kind.ABP_MEAN: ("150039", "266016", "Cont"),
    Kind.NIBP_SYS: ("150021", "266016", "Intr"),
    Kind.NIBP_DIA: ("150022", "266016", "Intr"),
    Kind.NIBP_MEAN: ("150023", "266016", "Intr"),
    Kind.TEMP: ("150344", "268192", "Cont"),
    Kind.ETCO2: ("151708", "266016", "Cont"),
}
LEADS: Mapping[str, str] = {
    "I": "131329",
    "II": "131330",
    "III": "131389",
    "aVR": "131390",
    "aVL": "131391",
    "aVF": "131392",
    "V1": "131331",
    "V2": "131332",
    "V3": "131333",
    "V4": "131334",
    "V5": "131335",
    "V6": "131336",
}
_MILLIVOLT = "266418"
_RENEW_S = 6
"""Longest subscription granted: short, so that a consumer has to renew within a test."""
_QUANTUM = Decimal("0.001")


class _Server(httpserverimpl.HttpServerThreadBase):  # type: ignore[misc]  # the library is untyped here
    """The library's HTTP server on a port of our choice: a monitor comes back where it was."""

    def __init__(self, host: str, port: int, tls: SdcTls | None) -> None:
        super().__init__(host, None, ["gzip"], logging.getLogger("sdc.test.http"))
        server = httpserverimpl._ThreadingHTTPServer  # noqa: SLF001
        server.allow_reuse_address = True
        self.httpd = server(self.logger, (host, port), 0, self.supported_encodings)
        scheme = "http"
        if tls is not None:
            self.httpd.socket = tls.server_context.wrap_socket(self.httpd.socket, server_side=True)
            scheme = "https"
        self.base_url = f"{scheme}://{host}:{self.server_port}/"
        self.started_evt.set()

    def run(self) -> None:
        """Serve until stopped."""
        self.httpd.serve_forever(poll_interval=0.05)


class _Undiscovered:
    """Stands in for WS-Discovery where the address is known."""

    def __init__(self, host: str) -> None:
        self.active_address = host

    def publish_service(self, epr: str, types: list[Any], scopes: Any, x_addrs: list[str]) -> None:
        """Tell nobody."""

    def clear_service(self, epr: str) -> None:
        """Tell nobody."""


class SdcMonitor:
    """One monitor at ``url`` from construction until ``close``; also a context manager.

    ``port`` 0 lets the system choose, and ``restart`` keeps it. ``discoverable``: announce itself by WS-Discovery (UDP
    multicast on ``host``). ``demo``: say that it only demonstrates (OperatingMode
    Dmo). ``units``: other MDC unit codes than ``METRICS`` names, per kind. ``epr``: its
    endpoint reference, which is part of ``url``; another each time where none is given.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: SdcTls | None = None,
        kinds: Sequence[Kind] = tuple(METRICS),
        leads: Sequence[str] = tuple(LEADS),
        rate_hz: float = 250.0,
        units: Mapping[Kind, str] | None = None,
        discoverable: bool = False,
        demo: bool = False,
        epr: uuid.UUID | None = None,
    ) -> None:
        self.kinds, self.leads, self.rate_hz = tuple(kinds), tuple(leads), rate_hz
        self._units = dict(units or {})
        self._host, self._tls, self._demo = host, tls, demo
        self._epr = epr or uuid.uuid4()
        self._lock = threading.RLock()
        self._discovery = WSDiscovery(host) if discoverable else None
        if self._discovery is not None:
            self._discovery.start()
        self._start(port)

    @property
    def epr(self) -> str:
        """The endpoint reference by which discovery knows the device; it outlives a restart."""
        return str(self._epr.urn)

    @property
    def url(self) -> str:
        """Where the device answers now."""
        return str(self._provider.get_xaddrs()[0])

    @property
    def subscriptions(self) -> int:
        """How many valid subscriptions consumers hold."""
        managers = self._provider._subscriptions_managers.values()  # noqa: SLF001
        return sum(one.is_valid for manager in managers for one in manager._subscriptions.objects)  # noqa: SLF001

    def _start(self, port: int) -> None:
        self._mdib = ProviderMdib.from_string(self._description())
        self._provider = SdcProvider(
            self._discovery or _Undiscovered(self._host),
            ThisModelType("Edgeward", "urn:edgeward", "simulated monitor", "1", "urn:edgeward", "urn:edgeward"),
            ThisDeviceType("simulated monitor", "1", "0"),
            self._mdib,
            epr=self._epr,
            validate=False,
            ssl_context_container=self._tls,
            max_subscription_duration=_RENEW_S,
            socket_timeout=1,
        )
        self._server = _Server(self._host, port, self._tls)
        self._server.start()
        self._provider.start_all(start_rtsample_loop=False, shared_http_server=self._server)
        self._port = self._server.server_port
        if self._discovery is not None:
            self._provider.publish()

    def _stop(self, *, politely: bool) -> None:
        sender = self._provider._soap_client_pool.async_loop_subscr_mgr  # noqa: SLF001
        self._provider.stop_all(send_subscription_end=politely)
        sender.loop.close()  # the library stops the thread and leaves its loop open
        self._server.stop()

    def close(self, *, politely: bool = True) -> None:
        """Stop; ``politely`` says so to the consumers first (SubscriptionEnd)."""
        with self._lock:
            self._stop(politely=politely)
            if self._discovery is not None:
                self._discovery.stop()

    def restart(self, *, politely: bool = False, leads: Sequence[str] | None = None) -> None:
        """Stop and come back at the same address as a new run: new sequence, no values; other leads, if given."""
        with self._lock:
            self._stop(politely=politely)
            self.leads = self.leads if leads is None else tuple(leads)
            self._start(self._port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what it measures

    def set_numerics(
        self,
        values: Mapping[Kind, float | None],
        *,
        validity: str = "Vld",
        mode: str = "Real",
        at_s: float | None = None,
    ) -> None:
        """Report ``values`` (in the metric's own unit; None: no value) as determined at wall time ``at_s`` (now)."""
        with self._lock, self._mdib.metric_state_transaction(set_determination_time=False) as transaction:
            for kind, value in values.items():
                state = transaction.get_state(kind.value)
                if state.MetricValue is None:
                    state.mk_metric_value()
                state.MetricValue.Value = None if value is None else Decimal(str(value))
                state.MetricValue.DeterminationTime = time.time() if at_s is None else at_s
                state.MetricValue.MetricQuality.Validity = pm_types.MeasurementValidity(validity)
                state.MetricValue.MetricQuality.Mode = pm_types.GenerationMode(mode)

    def send_waves(
        self,
        samples: npt.NDArray[np.float32],
        *,
        at_s: float | None = None,
        validity: str = "Vld",
        leads: Sequence[str] | None = None,
    ) -> None:
        """Send ``samples`` (C, n) in mV of ``leads`` (all) whose first was taken at wall time ``at_s`` (now)."""
        with self._lock, self._mdib.rt_sample_state_transaction() as transaction:
            for lead, row in zip(self.leads if leads is None else leads, samples.tolist(), strict=True):
                state = transaction.get_state(f"ecg-{lead}")
                if state.MetricValue is None:
                    state.mk_metric_value()
                state.MetricValue.Samples = [Decimal(str(value)).quantize(_QUANTUM) for value in row]
                state.MetricValue.DeterminationTime = time.time() if at_s is None else at_s
                state.MetricValue.MetricQuality.Validity = pm_types.MeasurementValidity(validity)

    def set_unit(self, kind: Kind, unit: str) -> None:
        """Change the unit of a metric in mid-stream (a new version of its descriptor); its value goes."""
        with self._lock, self._mdib.descriptor_transaction() as transaction:
            transaction.get_descriptor(kind.value).Unit = pm_types.CodedValue(unit)
            transaction.get_state(kind.value).MetricValue = None

    # --- whose it is and where it stands

    def set_patient(
        self, extension: str, *, root: str = "urn:oid:1.2.3", born: str = "", sex: str = "", category: str = ""
    ) -> None:
        """Associate a patient; whoever was associated is so no more."""
        with self._lock, self._mdib.context_state_transaction() as transaction:
            transaction.disassociate_all("patient")
            state = transaction.mk_context_state("patient", set_associated=True)
            state.Identification = [pm_types.InstanceIdentifier(root, extension_string=extension)]
            core = pm_types.PatientDemographicsCoreData()
            core.set_birthdate(born)
            core.Sex = pm_types.Sex(sex) if sex else None
            core.PatientType = pm_types.PatientType(category) if category else None
            state.CoreData = core

    def set_location(self, *, poc: str = "", room: str = "", bed: str = "", facility: str = "") -> None:
        """Say where the device stands."""
        place = SdcLocation(fac=facility or None, poc=poc or None, rm=room or None, bed=bed or None)
        with self._lock:
            self._provider.set_location(place, publish_now=self._discovery is not None)

    # --- how it fails

    @contextlib.contextmanager
    def silent(self) -> Any:
        """Send no report, yet renew every subscription and answer every question, until the block ends."""
        managers = self._provider._subscriptions_managers.values()  # noqa: SLF001
        for manager in managers:
            manager.send_to_subscribers = lambda *_: None
        try:
            yield
        finally:
            for manager in managers:
                manager.__dict__.pop("send_to_subscribers", None)

    # --- its description

    def _description(self) -> bytes:
        numerics = "".join(
            f'<pm:Metric xsi:type="pm:NumericMetricDescriptor" Handle="{kind.value}" MetricCategory="Msrmt" '
            f'MetricAvailability="{available}" Resolution="0.1"><pm:Type Code="{code}"/>'
            f'<pm:Unit Code="{self._units.get(kind, unit)}"/></pm:Metric>'
            for kind, (code, unit, available) in METRICS.items()
            if kind in self.kinds
        )
        waves = "".join(
            f'<pm:Metric xsi:type="pm:RealTimeSampleArrayMetricDescriptor" Handle="ecg-{lead}" MetricCategory="Msrmt" '
            f'MetricAvailability="Cont" Resolution="0.001" SamplePeriod="PT{1 / self.rate_hz:.6f}S">'
            f'<pm:Type Code="{LEADS[lead]}"/><pm:Unit Code="{_MILLIVOLT}"/>'
            '<pm:TechnicalRange Lower="-10" Upper="10"/></pm:Metric>'
            for lead in self.leads
        )
        mode = "Dmo" if self._demo else "Nml"
        run = f'SequenceId="{uuid.uuid4().urn}"'
        return (
            f'<msg:GetMdibResponse xmlns:msg="{_MSG}" xmlns:pm="{_PM}" '
            f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {run}><msg:Mdib {run}><pm:MdDescription>'
            '<pm:Mds Handle="mds"><pm:Type Code="69837"/><pm:SystemContext Handle="system">'
            '<pm:PatientContext Handle="patient"/><pm:LocationContext Handle="location"/></pm:SystemContext>'
            '<pm:Clock Handle="clock"/><pm:Vmd Handle="vmd">'
            f'<pm:Channel Handle="numerics">{numerics}</pm:Channel><pm:Channel Handle="ecg">{waves}</pm:Channel>'
            "</pm:Vmd></pm:Mds></pm:MdDescription>"
            f'<pm:MdState><pm:State xsi:type="pm:MdsState" DescriptorHandle="mds" OperatingMode="{mode}"/></pm:MdState>'
            "</msg:Mdib></msg:GetMdibResponse>"
        ).encode()
