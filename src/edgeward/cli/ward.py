"""``edgeward ward``: one device over the beds of a ward."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.page.ward import WARD_KINDS
from edgeward.bedside.system import SystemClock
from edgeward.cli.bedside import json_lines, say, say_lost
from edgeward.cli.settings import load_hl7
from edgeward.cli.ward_settings import WardSettings, load_ward

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from edgeward.bedside.assign import BedPlan
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.page.server import WardServer
    from edgeward.bedside.stream import EcgStream
    from edgeward.bedside.ward import Ward
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.bedside.ward_run import Listener, WardLoop


def register(verbs: Any) -> None:
    """Add ``ward`` to the command line."""
    parser = verbs.add_parser("ward", help="run one device over the beds of a ward")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    run = subjects.add_parser(
        "run",
        help="monitors in, threshold alerts, scores every 15 s, the ward's page",
        description="Listens for monitors (HL7 v2 over MLLP), watches every numeric with threshold alerts in a process "
        "of their own, assesses every stay in another, and shows the ward. Beds with an ECG are streams of their own.",
        epilog="Example: edgeward ward run --settings ward.toml; to try it: edgeward ward run --hl7-port 2575, then "
        "edgeward simulate monitor --source 'patients:stable,sepsis?beds=6' --to hl7://127.0.0.1:2575",
    )
    run.add_argument("--settings", type=Path, help="TOML file with [ward], [[beds]], [thresholds], [hl7], [cloud] …")
    run.add_argument("--name", help="the ward's name on the page (default: Ward)")
    run.add_argument("--state-dir", type=Path, help="where slots, trust, audit and outbox live")
    run.add_argument("--hl7-port", type=int, help="port for HL7 v2 over MLLP, 0 for any free one (default: 2575)")
    run.add_argument(
        "--ecg", action="append", default=[], metavar="BED=SOURCE", help="an ECG for a bed; may be repeated"
    )
    run.add_argument("--repository", help="folder or URL of the signed repository")
    run.add_argument("--trusted-root", help="the repository's root.json, brought by hand at first use")
    run.add_argument("--page-host", help="address of the page (default: 127.0.0.1)")
    run.add_argument("--page-port", type=int, help="port of the page, 0 for any free one (default: 8080)")
    run.add_argument("--no-page", dest="page", action="store_const", const=False, help="do not serve the page")
    run.add_argument(
        "--no-actions",
        dest="actions",
        action="store_const",
        const=False,
        help="the page may neither acknowledge nor suspend",
    )
    run.add_argument("--json-lines", metavar="FILE", help="write every message as JSON lines; - for standard output")
    run.add_argument(
        "--dwell", type=float, dest="dwell_s", metavar="S", help="seconds before a failed engine is trusted again"
    )
    run.add_argument("--for", type=float, dest="run_for_s", metavar="S", help="end after this many seconds")
    run.set_defaults(run=run_ward)


def settings_of(arguments: argparse.Namespace) -> WardSettings:
    """Arguments over the settings file over the defaults."""
    known = set(WardSettings.__dataclass_fields__) - {"ecg"}
    given = {key: value for key, value in vars(arguments).items() if key in known}
    return load_ward(arguments.settings, given, arguments.ecg)


def run_ward(arguments: argparse.Namespace) -> int:
    """The verb ``ward run``."""
    from edgeward.bedside.assign import Beds
    from edgeward.bedside.audit import Audit
    from edgeward.bedside.side import Place, SideProcess
    from edgeward.bedside.thresholds.process import MODULE as THRESHOLDS_MODULE
    from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.bedside.ward_run import WardLoop, end_after

    settings = settings_of(arguments)
    clock = SystemClock()
    with contextlib.ExitStack() as stack:
        bundles = stack.enter_context(
            WardBundles(
                settings.state_dir,
                settings.tasks,
                say,
                dwell_s=settings.dwell_s,
                threads=settings.threads,
                cloud=settings.cloud,
            )
        )
        audit = Audit(settings.state_dir / "audit.jsonl", clock)
        stack.callback(audit.close)
        beds = Beds(settings.beds, automatic=settings.automatic_beds, first_stay=audit.first_stay)
        audit.record("start", {"tasks": list(settings.tasks)})
        place = Place(niceness=5, oom_score_more=300)
        sides = {
            THRESHOLDS: SideProcess(THRESHOLDS, THRESHOLDS_MODULE, settings.thresholds.to_json(), clock),
            ASSESS: SideProcess(ASSESS, "edgeward.bedside.assess.process", bundles.settings(), clock, place=place),
        }
        outputs = stack.enter_context(_outputs(settings, clock))
        ward = Ward(
            beds,
            sides,
            outputs,
            audit,
            clock,
            tasks=settings.tasks,
            thresholds=settings.thresholds,
            hello=lambda plans: _hello(settings, plans, bundles),
        )
        loop = WardLoop(
            ward,
            sides,
            _streams(settings, clock),
            _listeners(arguments, ward, clock),
            clock,
            end_after(clock, settings.run_for_s),
            bundles.refused,
            say,
        )
        if settings.page:
            page = _page(settings, loop, bundles)
            stack.callback(page.close)
            outputs.append(_PageFeed(page))
            say(f"page: {page.url}")
        asyncio.run(_serve(loop, settings, bundles))
    return 0


async def _serve(loop: WardLoop, settings: WardSettings, bundles: WardBundles) -> None:
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, loop.stop)

    def started() -> None:
        say("watching: threshold alerts run" + _heard_at(loop))
        if settings.repository:
            bundles.update(settings.repository, Path(settings.trusted_root), changed)

    def changed(values: dict[str, Any]) -> None:
        running.call_soon_threadsafe(loop.sides["assess"].restart, values)

    await loop.run(started)


def _heard_at(loop: WardLoop) -> str:
    ports = [f"; HL7 v2 at port {listener.port}" for listener in loop.listeners if hasattr(listener, "port")]
    return "".join(ports)


def _listeners(arguments: argparse.Namespace, ward: Ward, clock: SystemClock) -> list[Listener]:
    from edgeward.bedside.source.hl7 import Hl7Listener
    from edgeward.wire.codes import CodeTable

    hl7, codes = load_hl7(arguments.settings)
    if arguments.hl7_port is not None:
        hl7 = replace(hl7, port=arguments.hl7_port)
    return [Hl7Listener(ward, clock, hl7, CodeTable(codes))]


def _streams(settings: WardSettings, clock: SystemClock) -> list[EcgStream]:
    """One stream per bed with an ECG: the single-bed device with folders and a page of its own."""
    from edgeward.bedside.stream import EcgStream

    streams = []
    for number, (bed, source) in enumerate(settings.ecg.items()):
        command = [sys.executable, "-P", "-m", "edgeward.cli.main", "bedside", "run", "--source", source, "--bed", bed]
        command += ["--json-lines", "-", "--state-dir", str(settings.state_dir / "ecg" / str(number))]
        command += ["--dwell", f"{settings.dwell_s:g}", "--page-host", settings.page_host]
        command += ["--page-port", str(_ecg_port(settings, number))] if settings.page else ["--no-page"]
        if settings.repository:
            command += ["--repository", settings.repository, "--trusted-root", settings.trusted_root]
        streams.append(EcgStream(bed, command, clock))
    return streams


def _ecg_port(settings: WardSettings, number: int) -> int:
    return settings.ecg_page_port + number if settings.ecg_page_port else 0


def _page(settings: WardSettings, loop: WardLoop, bundles: WardBundles) -> WardServer:
    from edgeward.bedside.page.server import WardServer

    minutes = [choice for choice in (1, 2, 3, 5, 10) if choice * 60 <= settings.thresholds.suspend_s_max] or [1]
    act = loop.act if settings.actions else None
    return WardServer(
        settings.page_host,
        settings.page_port,
        _hello(settings, settings.beds, bundles),
        act=act,
        suspend_minutes=minutes,
    )


def _hello(settings: WardSettings, plans: Sequence[BedPlan], bundles: WardBundles) -> dict[str, Any]:
    beds = []
    for plan in plans:
        number = list(settings.ecg).index(plan.name) if plan.name in settings.ecg else None
        port = _ecg_port(settings, number) if number is not None else 0
        ecg = f"http://{settings.page_host}:{port}/" if port else None
        population = (plan.population or Population.ADULT).value
        beds.append({"bed": plan.name, "population": population, "ecg": ecg})
    simulated = bool(plans) and all(plan.simulated for plan in plans)
    return {"ward": settings.name, "beds": beds, "tasks": bundles.shown(), "simulated": simulated}


class _PageFeed:
    """An ``Output`` over the ward's page."""

    def __init__(self, page: WardServer) -> None:
        self._page = page

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Publish what the page knows."""
        if kind in WARD_KINDS:
            self._page.publish(kind, data)

    def close(self) -> None:
        """The page is closed by whoever made it."""


@contextlib.contextmanager
def _outputs(settings: WardSettings, clock: SystemClock) -> Iterator[list[Output]]:
    from edgeward.bedside.output.jsonl import JsonLines

    with contextlib.ExitStack() as stack:
        outputs: list[Output] = []
        if settings.json_lines:
            stream = stack.enter_context(contextlib.closing(json_lines(settings.json_lines)))
            lines = JsonLines(stream, clock)
            stack.callback(say_lost, lines)
            stack.callback(lines.close)
            outputs.append(lines)
        yield outputs
