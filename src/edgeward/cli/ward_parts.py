"""What a ward is put together from, by its settings: ways in, ways out, ECG streams, the page."""

from __future__ import annotations

import contextlib
import random
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population, encode
from edgeward.bedside.page.ward import WARD_KINDS
from edgeward.cli.settings import load_hl7, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeward.bedside.assign import BedPlan, Beds
    from edgeward.bedside.lives import Lives
    from edgeward.bedside.messages import Message
    from edgeward.bedside.output.courier import Sender
    from edgeward.bedside.output.record_output import RecordOutput
    from edgeward.bedside.page.server import WardServer
    from edgeward.bedside.source.reading import Rim
    from edgeward.bedside.stream import EcgStream
    from edgeward.bedside.system import SystemClock
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.bedside.ward_live import WardLive
    from edgeward.bedside.ward_run import Listener, WardLoop
    from edgeward.cli.ward_settings import WardSettings
    from edgeward.cli.ward_ways import FhirIn, SdcIn
    from edgeward.wire.codes import CodeTable


# --- ways in


@dataclass(frozen=True, slots=True)
class Way:
    """A listener and, where it has one, what is said of its port once it listens."""

    listener: Listener
    says: Callable[[], str] = lambda: ""


def ways_in(settings: WardSettings, file: Path | None, hl7_port: int | None, rim: Rim, clock: SystemClock) -> list[Way]:
    """Every listener that the site has configured; HL7 always. Raises ``ConfigError`` for files that are no use."""
    from edgeward.bedside.source.hl7 import Hl7Listener
    from edgeward.wire.codes import CodeTable

    hl7, rows = load_hl7(file)
    codes = CodeTable(rows)
    if hl7_port is not None:
        hl7 = replace(hl7, port=hl7_port)
    ways = [_sdc(one, rim, clock, codes) for one in settings.ways.sdc]
    if settings.ways.fhir is not None:
        ways.append(_fhir(settings.ways.fhir, rim, clock, codes))
    listener = Hl7Listener(rim, clock, hl7, codes)
    return [*ways, Way(listener, lambda: f"HL7 v2 at port {listener.port}")]


def _fhir(one: FhirIn, rim: Rim, clock: SystemClock, codes: CodeTable) -> Way:
    from edgeward.bedside.source.fhir import FhirSource
    from edgeward.bedside.source.http import server_tls

    settings = one.settings
    if one.tls is not None:
        with within("[fhir] tls_certificate, tls_key, tls_client_ca:"):
            tls = server_tls(one.tls.certificate, one.tls.key, client_ca=one.tls.authority)
        settings = replace(settings, tls=tls)
    source = FhirSource(rim, clock, settings, codes=codes)
    return Way(source, lambda: f"FHIR at port {source.port}")


def _sdc(one: SdcIn, rim: Rim, clock: SystemClock, codes: CodeTable) -> Way:
    from edgeward.bedside.source.sdc import SdcSource

    with within("[[sdc]]"):
        tls = None
        if one.tls is not None:
            from edgeward.bedside.source.sdc_session import sdc_tls  # the library is needed for SDC alone

            tls = sdc_tls(one.tls.certificate, one.tls.key, one.tls.authority)
        source = SdcSource(one.addresses, rim, clock, codes=codes, tls=tls, host=one.host, port=one.port)
    return Way(source, lambda: f"SDC devices: {len(one.addresses)}")


def streams(settings: WardSettings, clock: SystemClock, lives: Lives) -> list[EcgStream]:
    """One stream per bed with an ECG: the single-bed device with a page of its own and the ward's bundles."""
    from edgeward.bedside.stream import EcgStream

    made = []
    for number, (bed, source) in enumerate(settings.ecg.items()):
        command = [sys.executable, "-P", "-m", "edgeward.cli.main", "bedside", "run", "--source", source, "--bed", bed]
        command += ["--json-lines", "-", "--of-ward", "--threads", str(settings.threads)]
        command += ["--dwell", f"{settings.dwell_s:g}", "--page-host", settings.page_host]
        command += ["--page-port", str(_ecg_port(settings, number))] if settings.page else ["--no-page"]
        for name in settings.page_names:
            command += ["--page-name", name]
        made.append(EcgStream(bed, command, clock, partial(_told, lives.stream(bed))))
    return made


def _told(live: WardLive) -> bytes:
    return encode(live.present())


def _ecg_port(settings: WardSettings, number: int) -> int:
    return settings.ecg_page_port + number if settings.ecg_page_port else 0


# --- ways out


@dataclass(frozen=True, slots=True)
class Records:
    """What fills the outbox, and what tells of it; both empty where nothing leaves."""

    outputs: Sequence[RecordOutput] = ()
    news: Sequence[Callable[[int], list[Message]]] = ()


@contextlib.contextmanager
def records_out(settings: WardSettings, beds: Beds, clock: SystemClock) -> Iterator[Records]:
    """The outbox with an output and a courier for each destination of ``[out]``."""
    ways = settings.ways
    if ways.hl7_out is None and ways.fhir_out is None:
        yield Records()
        return
    from edgeward.bedside.output.courier import Courier
    from edgeward.bedside.output.fhir import FhirOutput, FhirSender
    from edgeward.bedside.output.hl7 import Hl7Output, Hl7Sender
    from edgeward.bedside.output.outbox import Outbox
    from edgeward.bedside.output.outbox_news import OutboxNews

    senders: list[Sender] = []
    if ways.hl7_out is not None:
        with within("[out.hl7]"):
            senders.append(Hl7Sender(ways.hl7_out))
    if ways.fhir_out is not None:
        with within("[out.fhir]"):
            senders.append(FhirSender(ways.fhir_out, clock))
    with contextlib.ExitStack() as stack:
        outbox = Outbox(settings.state_dir / "outbox.db", clock)
        stack.callback(outbox.close)
        outputs: list[RecordOutput] = []
        if ways.hl7_out is not None:
            outputs.append(Hl7Output(outbox, clock, beds.whose, ways.hl7_out))
        if ways.fhir_out is not None:
            outputs.append(FhirOutput(outbox, clock, beds.whose, ways.fhir_out))
        couriers = []
        for output, sender in zip(outputs, senders, strict=True):
            couriers.append(Courier(outbox, output.destination, sender, jitter=random.random))
            stack.callback(couriers[-1].close)
        yield Records(outputs, [OutboxNews(outbox, couriers, outputs).tell])


# --- the page


def page_of(settings: WardSettings, loop: WardLoop, bundles: WardBundles) -> WardServer:
    """The ward's page."""
    from edgeward.bedside.page.server import WardServer

    minutes = [choice for choice in (1, 2, 3, 5, 10) if choice * 60 <= settings.thresholds.suspend_s_max] or [1]
    act = loop.act if settings.actions else None
    return WardServer(
        settings.page_host,
        settings.page_port,
        hello_of(settings, settings.beds, {}, bundles),
        names=settings.page_names,
        act=act,
        suspend_minutes=minutes,
    )


def hello_of(
    settings: WardSettings, plans: Sequence[BedPlan], pages: Mapping[str, str], bundles: WardBundles
) -> dict[str, Any]:
    """What the ward says of itself. ``pages``: addresses of ECG pages that their streams told, by bed."""
    beds = []
    for plan in plans:
        ecg = pages.get(plan.name)
        if ecg is None and settings.page and settings.ecg_page_port and plan.name in settings.ecg:
            ecg = f"http://{settings.page_host}:{_ecg_port(settings, list(settings.ecg).index(plan.name))}/"
        population = (plan.population or Population.ADULT).value
        beds.append({"bed": plan.name, "population": population, "ecg": ecg})
    simulated = bool(plans) and all(plan.simulated for plan in plans)
    return {"ward": settings.name, "beds": beds, "tasks": bundles.shown(), "simulated": simulated}


class PageFeed:
    """An ``Output`` over the ward's page."""

    def __init__(self, page: WardServer) -> None:
        self._page = page

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Publish what the page knows."""
        if kind in WARD_KINDS:
            self._page.publish(kind, data)

    def close(self) -> None:
        """The page is closed by whoever made it."""
