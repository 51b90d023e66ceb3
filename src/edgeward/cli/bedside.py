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
from typing import IO, TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.system import SystemClock
from edgeward.cli.arguments import page_arguments, repository_arguments
from edgeward.cli.settings import BedsideSettings, load_bedside
from edgeward.cli.sources import SOURCE_HELP, WAIT_S, open_source, parts
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError, InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from edgeward.bedside.bed_alerts import BedAlerts
    from edgeward.bedside.fallback import Ladder
    from edgeward.bedside.model import Served
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.output.jsonl import JsonLines
    from edgeward.bedside.side import SideProcess
    from edgeward.bedside.slot import SlotStore
    from edgeward.bedside.source.base import Source, SourceInfo

_UPDATE_END_S = 5.0
_HANG_UP_S = 10.0
"""How long an orderly end may take when nobody waits for it."""


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
    run.add_argument("--settings", type=Path, help="TOML file with a [bedside] table")
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
    run.add_argument("--hang-up", action="store_true", help="end when standard input does, as a ward's streams do")
    run.add_argument("--for", type=float, dest="run_for_s", metavar="S", help="end after this many seconds")
    run.set_defaults(run=run_bedside)
    slots = subjects.add_parser("slots", help="show which bundles lie in this device's slots")
    slots.add_argument("--state-dir", type=Path, help="where slots and trust live")
    slots.set_defaults(run=show_slots)


def settings_of(arguments: argparse.Namespace) -> BedsideSettings:
    """Arguments over the settings file over the defaults."""
    known = set(BedsideSettings.__dataclass_fields__)
    given = {key: value for key, value in vars(arguments).items() if key in known}
    return load_bedside(arguments.settings, given)


def run_bedside(arguments: argparse.Namespace) -> int:
    """The verb ``bedside run``."""
    from edgeward.bedside.device import quiet_interpreter
    from edgeward.bedside.model import serve
    from edgeward.bedside.side import Place, SideProcess
    from edgeward.bedside.slot import SlotStore
    from edgeward.bedside.thresholds.process import MODULE

    settings = settings_of(arguments)
    if arguments.hang_up:
        _end_with_stdin()
    update = _updater(settings)
    slots = SlotStore(settings.state_dir / "slots")
    opening = slots.open()
    with contextlib.ExitStack() as stack:
        stack.callback(slots.close)
        if opening.code:
            say(f"slots: {opening.message} [{opening.code}]")
        granted = stack.enter_context(quiet_interpreter(realtime=settings.realtime))
        say("real-time priority: " + ("granted" if granted else "not granted; other jobs may delay a window"))
        clock = SystemClock()
        # First of all and apart from everything: it waits for no bundle, no update and no engine.
        side = SideProcess("thresholds", MODULE, settings.limits.to_json(), clock, place=Place(realtime=granted))
        stack.enter_context(side)
        if update is not None and slots.active() is None:
            say(update(slots))
            update = None
        served = serve(slots, threads=settings.threads)
        if served.engine is None:
            say(f"no bundle can be served ({served.why}): heart rate and its limits are watched without a model")
        else:
            stack.callback(served.stop)
        if update is not None:
            # A bed is never left unwatched while a network is slow: what is installed runs now, what is new is fetched
            # and tried behind it and runs from the next start.
            stack.callback(_in_background(lambda: say(f"{update(slots)} (from the next start)")))
        end_ns = None
        if settings.run_for_s is not None:
            end_ns = clock.monotonic_ns() + round(settings.run_for_s * NS_PER_S)
        device = _Device(settings, served, clock, side, end_ns)
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
    """What outlives a stream. ``ladder``: the trust that the engine has; ``stays``: how many there were."""

    settings: BedsideSettings
    served: Served
    clock: SystemClock
    side: SideProcess
    end_ns: int | None
    ladder: Ladder | None = None
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

    settings, served, clock = device.settings, device.served, device.clock
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        source = _patiently(settings, clock, part, device.end_ns)
        if source is None:
            return _Ended.STOPPED
        stack.callback(source.close)
        warm_up(source.info, served)
        outputs = stack.enter_context(_outputs(settings, source.info, served, clock))
        bed, latency = bed_of(
            source.info,
            served,
            outputs,
            clock,
            dwell_s=settings.dwell_s,
            alerts=device.alerts(source.info),
            ladder=device.ladder,
        )
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
            device.ladder = bed.ladder
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


def _end_with_stdin() -> None:
    """End in order once nobody holds the other end of standard input: whoever started this is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_HANG_UP_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="hang-up", daemon=True).start()


def _updater(settings: BedsideSettings) -> Callable[[SlotStore], str] | None:
    """A function that asks the repository once and says what came of it; None without a repository.

    Raises ``ConfigError`` (``root-unreadable``) now rather than behind a running stream.
    """
    from edgeward.bedside.model import try_bundle
    from edgeward.bedside.updating.local import update_now
    from edgeward.trust.fetch import TrustClient

    if not settings.repository:
        return None
    try:
        root = Path(settings.trusted_root).read_bytes()
    except OSError as error:
        raise ConfigError("root-unreadable", f"cannot read {settings.trusted_root}: {error.strerror}") from error
    client = TrustClient(settings.repository, settings.state_dir / "trust", root=root)

    def update(slots: SlotStore) -> str:
        outcome = update_now(
            client, slots, settings.bundle, lambda path: try_bundle(path, settings.threads), SystemClock()
        )
        return f"update: {outcome.told}"

    return update


def _in_background(work: Callable[[], None]) -> Callable[[], None]:
    """Run ``work`` in a thread of ordinary priority; the function returned waits for it, for a bounded time."""
    from edgeward.bedside.device import yield_to_stream

    def run() -> None:
        yield_to_stream()
        work()

    thread = threading.Thread(target=run, name="update", daemon=True)
    thread.start()
    return lambda: thread.join(_UPDATE_END_S)


@contextlib.contextmanager
def _outputs(settings: BedsideSettings, info: SourceInfo, served: Served, clock: SystemClock) -> Iterator[list[Output]]:
    from edgeward.bedside.output.jsonl import JsonLines
    from edgeward.bedside.output.page import PageOutput
    from edgeward.bedside.page.server import PageServer

    with contextlib.ExitStack() as stack:
        outputs: list[Output] = []
        if settings.json_lines:
            stream = json_lines(settings.json_lines)
            stack.callback(stream.close)
            lines = JsonLines(stream, clock)
            stack.callback(say_lost, lines)
            outputs.append(lines)
        if settings.page:
            server = PageServer(
                settings.page_host,
                settings.page_port,
                hello_of(settings, info, served),
                names=settings.page_names,
            )
            for output in outputs:  # a ward links to it
                output.write("page", {"url": server.url})
            outputs.append(PageOutput(server))
            say(f"page: {server.url}")
        for output in outputs:
            stack.callback(output.close)
        yield outputs


def json_lines(name: str) -> IO[str]:
    """The stream that JSON lines go to; "-" is standard output. ``ConfigError`` (``output-unwritable``)."""
    from edgeward.bedside.output.jsonl import unbuffered

    try:
        return unbuffered(_descriptor(name))
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {name}: {error.strerror}") from error


def say_lost(lines: JsonLines) -> None:
    """Tell the operator of lines that could not be written."""
    if lines.dropped:
        say(f"{lines.dropped} JSON lines could not be written")


def _descriptor(name: str) -> int:
    if name == "-":
        if sys.stdout is None:
            raise ConfigError("output-unwritable", "standard output is closed; name a file for --json-lines")
        return os.dup(sys.stdout.fileno())
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def hello_of(settings: BedsideSettings, info: SourceInfo, served: Served) -> dict[str, Any]:
    """What the page says of itself."""
    from edgeward.bedside.device import NO_PLAN
    from edgeward.signal.lead import choose_slots

    slot = served.slot
    return {
        "site": settings.site,
        "bed": settings.bed,
        "leads": [info.leads[index] for index in choose_slots(info.leads)],
        "rate_hz": 250,
        "bundle": {
            "name": slot.name if slot else "none",
            "version": slot.version if slot else "-",
            "hash8": slot.sha256[:8] if slot else "-",
        },
        "budget_ms": (served.plan or NO_PLAN).deadline_ms,
        "simulated": info.simulated,
    }


def show_slots(arguments: argparse.Namespace) -> int:
    """The verb ``bedside slots``."""
    from edgeward.bedside.slot import SlotStore
    from edgeward.bedside.updating.journal import Journal
    from edgeward.cli.settings import default_state_dir

    root = (arguments.state_dir or default_state_dir()) / "slots"
    if not root.is_dir():
        raise ConfigError("slots-missing", f"no device has run on {root} yet; start one with 'edgeward bedside run'")
    # Only a look: a running device keeps its lock, and an interrupted trial is the device's own to go on with.
    for label, slot in SlotStore(root).look().items():
        print(f"{label:9}", f"slot {slot.key}: {slot.name} {slot.version} {slot.sha256[:16]}" if slot else "-")
    record = Journal(root).read()
    if record.order is not None:
        why = f": {record.message or record.why} [{record.code or record.why}]" if record.why is not None else ""
        print(f"{'update':9} {record.order.family} {record.order.version} {record.state}{why}")
    return 0


def say(text: str) -> None:
    """A word for the operator, on standard error."""
    if sys.stderr is None:  # closed before the start
        return
    with contextlib.suppress(OSError):  # a log that nobody reads any more must not end the stream
        sys.stderr.write(f"edgeward: {text}\n")
        sys.stderr.flush()
