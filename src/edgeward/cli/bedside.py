"""``edgeward bedside``: the device beside the patient."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.system import SystemClock
from edgeward.cli.arguments import page_arguments, repository_arguments
from edgeward.cli.bedside_bundles import client_of, own_bundles, updating
from edgeward.cli.lines_out import lines_out
from edgeward.cli.say import say
from edgeward.cli.settings import BedsideSettings, load_bedside
from edgeward.cli.sources import SOURCE_HELP, WAIT_S, open_source, parts
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError, InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from edgeward.bedside.bed import Bed
    from edgeward.bedside.bed_alerts import BedAlerts
    from edgeward.bedside.bed_charge import BedCharge
    from edgeward.bedside.fallback import Climb, Ladder
    from edgeward.bedside.health import StageLatency
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.side import SideProcess
    from edgeward.bedside.source.base import Source, SourceInfo

_HANG_UP_S = 10.0
"""How long an orderly end may take when nobody waits for it."""
_TOLD_S = 5.0
"""A ward says which bundles its stream has as soon as it has started it."""


def register(verbs: Any) -> None:
    """Add ``bedside`` to the command line."""
    parser = verbs.add_parser("bedside", help="run the device beside the patient")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    run = subjects.add_parser(
        "run",
        help="fetch the bundle, try it, then stream: beats, verdicts, advisories, alerts",
        description="Fetches the current bundle through its signed repository, installs it in the free slot, tries it "
        "on this very device, and streams. Without a repository the installed bundle runs; without any bundle the "
        "heart rate and its limits are watched all the same.",
        epilog="Example: edgeward bedside run --source tcp://127.0.0.1:9750 --repository https://fleet.example/ecg "
        "--trusted-root root.json",
    )
    run.add_argument("--source", help=SOURCE_HELP)
    repository_arguments(run)
    run.add_argument("--bundle", help="name of the bundle to run (default: ecg-beat)")
    run.add_argument("--state-dir", type=Path, help="where slots and trust live (default: ~/.local/state/edgeward)")
    run.add_argument("--settings", type=Path, help="TOML file with the tables [bedside] and [updates]")
    run.add_argument("--bed", help="the bed's name on the page")
    page_arguments(run)
    run.add_argument(
        "--json-lines", metavar="FILE", help="write verdicts and notices as JSON lines; - for standard output"
    )
    run.add_argument("--speed", type=float, help="replay speed: 1 real time, 0 as fast as possible")
    run.add_argument(
        "--dwell", type=float, dest="dwell_s", metavar="S", help="seconds before a failed engine is trusted again"
    )
    run.add_argument("--threads", type=int, help="threads of the model (default: 1)")
    run.add_argument(
        "--no-realtime", dest="realtime", action="store_const", const=False, help="ask for no real-time priority"
    )
    run.add_argument(
        "--of-ward",
        action="store_true",
        help="be a ward's stream: standard input says which bundles are in charge; when it ends, so does the stream",
    )
    run.add_argument("--for", type=float, dest="run_for_s", metavar="S", help="end after this many seconds")
    run.set_defaults(run=run_bedside)
    slots = subjects.add_parser("slots", help="show which bundles lie in the slots of this device, or of a ward")
    slots.add_argument("--state-dir", type=Path, help="where slots and trust live")
    slots.set_defaults(run=show_slots)


def settings_of(arguments: argparse.Namespace) -> BedsideSettings:
    """Arguments over the settings file over the defaults."""
    known = set(BedsideSettings.__dataclass_fields__)
    given = {key: value for key, value in vars(arguments).items() if key in known}
    return load_bedside(arguments.settings, given)


def run_bedside(arguments: argparse.Namespace) -> int:
    """The verb ``bedside run``."""
    from edgeward.bedside.bed_charge import BedCharge, start
    from edgeward.bedside.device import quiet_interpreter
    from edgeward.bedside.fallback import Climb
    from edgeward.bedside.of_ward import OfWard
    from edgeward.bedside.side import Place, SideProcess
    from edgeward.bedside.thresholds.process import MODULE

    settings = settings_of(arguments)
    clock = SystemClock()
    ward = OfWard(settings.bundle, sys.stdin.fileno(), _end) if arguments.of_ward else None
    with contextlib.ExitStack() as stack:
        client = None if ward is not None else client_of(settings)
        own = None if ward is not None else stack.enter_context(own_bundles(settings, client, clock))
        granted = stack.enter_context(quiet_interpreter(realtime=settings.realtime))
        say("real-time priority: " + ("granted" if granted else "not granted; other jobs may delay a window"))
        # First of all and apart from everything: it waits for no bundle, no update and no engine.
        side = SideProcess("thresholds", MODULE, settings.limits.to_json(), clock, place=Place(realtime=granted))
        stack.enter_context(side)
        lines = stack.enter_context(lines_out(settings.json_lines, clock))
        if ward is not None:
            told = ward.first(_TOLD_S)
            started, orders = start(told, settings.threads), ward.due
        else:
            assert own is not None
            told, started = own.start(settings.threads)
            orders = own.due

        def tell(kind: str, data: dict[str, Any]) -> None:
            for output in lines:
                output.write(kind, data)
            if own is not None:
                own.heard(kind, data)

        if started.why:
            say(f"no bundle can be served ({started.why}): heart rate and its limits are watched without a model")
        climb = Climb(dwell_ns=round(settings.dwell_s * NS_PER_S))
        charge = BedCharge(told, started, orders, tell, clock, climb, threads=settings.threads)
        stack.enter_context(charge.at_work())
        if own is not None:
            # A bed is never left unwatched while a network is slow: what is installed runs now, what is new is fetched,
            # tried and compared behind it.
            stack.enter_context(updating(settings, client, own, clock))
        end_ns = None
        if settings.run_for_s is not None:
            end_ns = clock.monotonic_ns() + round(settings.run_for_s * NS_PER_S)
        device = _Device(settings, charge, climb, clock, side, lines, end_ns)
        part, last = 0, parts(settings.source)
        while part < last:
            match _stream(device, part):
                case _Ended.SOURCE:
                    part += 1
                case _Ended.STOPPED:
                    break
                case _Ended.CHANGED:
                    pass
    return 0


class _Ended(Enum):
    """Why a stream ended: the source did, somebody or the time stopped it, the monitor came back as something else."""

    SOURCE = 0
    STOPPED = 1
    CHANGED = 2


@dataclass(slots=True)
class _Device:
    """What outlives a stream. ``lines``: the JSON lines, where they are asked for; ``stays``: how many there were."""

    settings: BedsideSettings
    charge: BedCharge
    climb: Climb
    clock: SystemClock
    side: SideProcess
    lines: Sequence[Output]
    end_ns: int | None
    stays: int = 0

    def alerts(self, info: SourceInfo) -> BedAlerts:
        """The threshold alerts of a new stay: another stream is another patient until somebody says otherwise."""
        from edgeward.bedside.bed_alerts import BedAlerts

        self.stays += 1
        return BedAlerts(
            self.side,
            self.stays,
            self.settings.bed,
            self.clock.monotonic_ns(),
            population=Population(self.settings.population),
            age_y=self.settings.age_y,
            simulated=info.simulated,
        )


def _stream(device: _Device, part: int) -> _Ended:
    """Carry one source to its end; says why it ended."""
    from edgeward.bedside.device import bed_of, run, stopped_by_signals, warm_up

    settings, charge, clock = device.settings, device.charge, device.clock
    stop = threading.Event()
    latency: StageLatency
    with contextlib.ExitStack() as stack:
        source = _patiently(settings, clock, part, device.end_ns)
        if source is None:
            return _Ended.STOPPED
        stack.callback(source.close)
        charge.warmed(lambda plan, rungs: warm_up(source.info, plan, rungs))
        outputs = [*device.lines, *stack.enter_context(_page(device, source.info))]

        def made(ladder: Ladder) -> Bed:
            nonlocal latency
            bed, latency = bed_of(
                source.info,
                charge.plan,
                charge.rungs,
                outputs,
                clock,
                climb=device.climb,
                alerts=device.alerts(source.info),
                ladder=ladder,
                charged=charge,
            )
            return bed

        bed = stack.enter_context(charge.beside(made))
        stack.enter_context(stopped_by_signals(source, stop))
        try:
            exhausted = run(source, bed, clock, stop, device.end_ns)
        except InputError as error:
            if error.code != "leads-changed":
                raise
            say(f"{error}: the bed begins anew")
            return _Ended.CHANGED
        finally:
            bed.end()
            for output in outputs:  # nothing is judged until another source is there
                output.write("ended", {})
        total = latency.histogram("total").snapshot()
        say(
            f"ended: {bed.counts['accepted']} windows accepted, {bed.counts['withheld']} withheld, "
            f"{bed.counts['fallback']} fallback; last sample to scores p50 {total.p50_us:.0f} µs, "
            f"p99 {total.p99_us:.0f} µs, max {total.max_us:.0f} µs"
        )
    return _Ended.SOURCE if exhausted else _Ended.STOPPED


def _patiently(settings: BedsideSettings, clock: SystemClock, part: int, end_ns: int | None) -> Source | None:
    """Open the source; a monitor that is not there yet is waited for, with a word every half minute, until ``end_ns``.

    None when that time has come.
    """
    while True:
        left_s = WAIT_S if end_ns is None else min(WAIT_S, (end_ns - clock.monotonic_ns()) / NS_PER_S)
        try:
            return open_source(settings.source, clock, settings.speed, part=part, wait_s=max(0.0, left_s))
        except InputError as error:
            if error.code != "source-silent":
                raise
            if end_ns is not None and clock.monotonic_ns() >= end_ns:
                say(f"{error} [{error.code}]")
                return None
            say(f"{error}; still waiting [{error.code}]")


def _end() -> None:
    """The ward is gone: end in order, or else at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_HANG_UP_S)
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _page(device: _Device, info: SourceInfo) -> Iterator[list[Output]]:
    from edgeward.bedside.output.page import PageOutput
    from edgeward.bedside.page.server import PageServer

    settings = device.settings
    if not settings.page:
        yield []
        return

    def hello() -> dict[str, Any]:
        return hello_of(settings, info, device.charge)

    server = PageServer(settings.page_host, settings.page_port, hello(), names=settings.page_names)
    with contextlib.closing(PageOutput(server)) as page:
        for output in device.lines:  # a ward links to it
            output.write("page", {"url": server.url})
        say(f"page: {server.url}")
        device.charge.swapped = lambda: page.write("hello", hello())
        try:
            yield [page]
        finally:
            device.charge.swapped = lambda: None


def hello_of(settings: BedsideSettings, info: SourceInfo, charge: BedCharge) -> dict[str, Any]:
    """What the page says of itself."""
    from edgeward.signal.lead import choose_slots

    model = charge.charge.current
    serves = model.engine is not None
    return {
        "site": settings.site,
        "bed": settings.bed,
        "leads": [info.leads[index] for index in choose_slots(info.leads)],
        "rate_hz": 250,
        "bundle": {
            "name": settings.bundle if serves else "none",
            "version": model.version if serves else "-",
            "hash8": model.sha256[:8] if serves else "-",
        },
        "budget_ms": model.plan.deadline_ms,
        "simulated": info.simulated,
    }


def show_slots(arguments: argparse.Namespace) -> int:
    """The verb ``bedside slots``."""
    from edgeward.cli.settings import default_state_dir

    root = (arguments.state_dir or default_state_dir()) / "slots"
    if not root.is_dir():
        raise ConfigError("slots-missing", f"no device has run on {root} yet; start one with 'edgeward bedside run'")
    families = sorted(folder.parent for folder in root.glob("*/incoming"))  # a ward's, each with slots of its own
    for number, folder in enumerate(families or [root]):
        if families:
            print("\n" * bool(number) + folder.name)
        _show_slots(folder)
    return 0


def _show_slots(root: Path) -> None:
    from edgeward.bedside.slot import SlotStore
    from edgeward.bedside.updating.journal import Journal

    # Only a look: a running device keeps its lock, and an interrupted trial is the device's own to go on with.
    for label, slot in SlotStore(root).look().items():
        print(f"{label:9}", f"slot {slot.key}: {slot.name} {slot.version} {slot.sha256[:16]}" if slot else "-")
    record = Journal(root).read()
    if record.order is not None:
        why = f": {record.message or record.why} [{record.code or record.why}]" if record.why is not None else ""
        print(f"{'update':9} {record.order.family} {record.order.version} {record.state}{why}")
