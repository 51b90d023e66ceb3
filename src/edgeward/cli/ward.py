"""``edgeward ward``: one device over the beds of a ward."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.system import SystemClock
from edgeward.cli.arguments import page_arguments, repository_arguments
from edgeward.cli.lines_out import lines_out
from edgeward.cli.say import say
from edgeward.cli.ward_parts import PageFeed, hello_of, page_of, records_out, streams, ways_in
from edgeward.cli.ward_settings import WardSettings, load_link, load_ward
from edgeward.cli.ward_updates import updating

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.bedside.ward_run import WardLoop
    from edgeward.cli.ward_parts import Way


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
    repository_arguments(run)
    run.add_argument("--fleet", metavar="URL", help="the fleet that this device belongs to, as https://HOST[:PORT]")
    run.add_argument("--fleet-ca", metavar="FILE", help="PEM file of the fleet's authority, brought by hand")
    page_arguments(run)
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
    known = set(WardSettings.__dataclass_fields__) - {"ecg", "fleet"}
    given = {key: value for key, value in vars(arguments).items() if key in known}
    fleet = {name: value for name, value in (("url", arguments.fleet), ("ca", arguments.fleet_ca)) if value}
    if fleet:
        given["fleet"] = load_link(arguments.settings, fleet)
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
        stack.enter_context(_alone(settings.state_dir))
        bundles = stack.enter_context(
            WardBundles(
                settings.state_dir,
                settings.tasks,
                say,
                clock,
                ecg=tuple(settings.ecg),
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
        outputs = stack.enter_context(lines_out(settings.json_lines, clock))
        records = stack.enter_context(records_out(settings, beds, clock))
        outputs += records.outputs
        ward = Ward(
            beds,
            sides,
            outputs,
            audit,
            clock,
            tasks=settings.tasks,
            ecg=settings.ecg,
            thresholds=settings.thresholds,
            hello=lambda plans, pages: hello_of(settings, plans, pages, bundles),
            updates=bundles.lives,
        )
        ways = ways_in(settings, arguments.settings, arguments.hl7_port, ward, clock)
        loop = WardLoop(
            ward,
            sides,
            streams(settings, clock, bundles.lives),
            [way.listener for way in ways],
            clock,
            end_after(clock, settings.run_for_s),
            bundles.refused,
            bundles.lives,
            records.news,
        )
        if settings.page:
            page = page_of(settings, loop, bundles)
            stack.callback(page.close)
            outputs.append(PageFeed(page))
            say(f"page: {page.url}")
        asyncio.run(_serve(loop, ways, settings, bundles))
    return 0


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Hold the state folder. ``ConfigError``: ``ward-in-use``, or the disk refuses to make the folder."""
    from edgeward.trust.durable import locked, storage_error

    with contextlib.ExitStack() as stack:
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(state_dir / "ward.lock", "ward-in-use", f"the state folder {state_dir}"))
        except OSError as error:
            raise storage_error(error, f"opening the state folder {state_dir}") from error
        yield


async def _serve(loop: WardLoop, ways: list[Way], settings: WardSettings, bundles: WardBundles) -> None:
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, loop.stop)
    with contextlib.ExitStack() as stack:

        def started() -> None:
            say("; ".join(["watching: threshold alerts run", *filter(None, (way.says() for way in ways))]))
            if settings.repository:
                stack.enter_context(updating(settings, bundles, loop.clock))

        await loop.run(started)
