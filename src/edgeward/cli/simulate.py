"""``edgeward simulate``: monitors for a device that has no patient, and devices for a fleet that has none."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from edgeward.bedside.system import SystemClock
from edgeward.cli import simulate_fleet
from edgeward.cli.sources import open_source
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import BEDS_MAX

if TYPE_CHECKING:
    import argparse
    from urllib.parse import SplitResult

    from edgeward.bedside.source.base import Source
    from edgeward.testing.gateway import SimulatedBed

_PATIENTS = "patients:"
_STAYS = "stays:"
_STAYS_KNOWN = {"beds": "8", "first": "0", "begin": "0", "unit": "ICU"}
_KNOWN = {"beds": "0", "onset": "60", "ramp": "900", "seed": "1", "unit": "ICU", "held-out": "0", "past": "0"}
PAST_MIN_MAX = 600
STAYS_MAX = 10_000
_SOURCE_HELP = (
    "who is played: an ECG as sim:[normal|ectopy|artefacts|demo][?seed=1&rate=250] or wfdb:FOLDER; vital signs as "
    "patients:COURSE[,COURSE …][?beds=8&onset=60&ramp=900&seed=1&unit=ICU&held-out=0&past=0] with the courses stable, "
    "sepsis, haemorrhage, hypoxia, opioid, hypotension, artefacts, disconnections, and so many minutes of their past "
    "brought along; recorded stays of PhysioNet/CinC 2012 or 2019 as "
    "stays:FILE.parquet[?beds=8&first=0&begin=0&unit=ICU], from the stay numbered first and its minute begin on "
    "(default: sim:)"
)


def register(verbs: Any) -> None:
    """Add ``simulate`` to the command line."""
    parser = verbs.add_parser("simulate", help="play monitors for a device, or devices for a fleet")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    monitor = subjects.add_parser(
        "monitor",
        help="send a simulated or recorded ECG over TCP or SDC, or vital signs of a ward as HL7 v2 or SDC",
        epilog="Examples: edgeward simulate monitor --source sim:ectopy --port 9750; "
        "edgeward simulate monitor --source 'patients:stable,sepsis?beds=8' --to hl7://127.0.0.1:2575; "
        "edgeward simulate monitor --source patients:sepsis --to sdc://127.0.0.1:6464; "
        "edgeward simulate monitor --source 'stays:set_a.parquet?beds=16' --speed 60 --to hl7://127.0.0.1:2575",
    )
    monitor.add_argument("--source", default="sim:", help=_SOURCE_HELP)
    monitor.add_argument(
        "--to",
        help="how it is sent: vital signs to hl7://HOST:PORT (MLLP), or as SDC monitors that listen from "
        "sdc://HOST[:PORT] on, one port for each bed; an ECG as an SDC monitor, or, without --to, over TCP",
    )
    monitor.add_argument("--host", default="127.0.0.1", help="address to listen on with an ECG (default: 127.0.0.1)")
    monitor.add_argument("--port", type=int, default=9750, help="port to listen on, 0 for any free one (default: 9750)")
    monitor.add_argument("--speed", type=float, default=1.0, help="1 is real time; 60 plays an hour in a minute")
    monitor.add_argument("--period", type=float, default=1.0, metavar="S", help="vital signs: seconds between messages")
    monitor.add_argument("--for", type=float, dest="seconds", metavar="S", help="vital signs: end after S seconds")
    monitor.add_argument("--once", action="store_true", help="end when one device has got the whole ECG")
    monitor.set_defaults(run=run_monitor)
    simulate_fleet.register(subjects)
    stays = subjects.add_parser(
        "stays",
        help="write stays of simulated patients as a table that 'build hypotension' trains on",
        description="Writes a parquet file of the shape of PhysioNet/CinC 2012 (record, minute, parameter, value) with "
        "a value of each vital sign a minute, from the half of the patients' figures that 'evaluate hypotension "
        "--simulated' does not draw from. The file says that its patients are made up, and so does a bundle made of "
        "it. Needs the extra: pip install 'edgeward[workshop]'.",
        epilog="Example: edgeward simulate stays --patients 1500 --out simulated.parquet",
    )
    stays.add_argument("--patients", type=int, default=600, metavar="N", help="how many (default: 600)")
    stays.add_argument("--seed", type=int, default=0, help="of the first; the others follow (default: 0)")
    stays.add_argument("--out", type=Path, required=True, metavar="FILE", help="the parquet file")
    stays.set_defaults(run=run_stays)


def run_monitor(arguments: argparse.Namespace) -> int:
    """The verb ``simulate monitor``."""
    for name in ("speed", "period"):
        if not 0 < getattr(arguments, name) < math.inf:
            raise ConfigError("setting-invalid", f"--{name} must be a number above 0")
    ward = arguments.source.startswith((_PATIENTS, _STAYS))
    if not ward and not arguments.to:
        return _serve_ecg(arguments)
    parts = _target(arguments.to)
    with contextlib.suppress(KeyboardInterrupt):
        if parts.scheme == "sdc":
            return _play_ward_sdc(arguments, parts) if ward else _play_ecg_sdc(arguments, parts)
        if ward:
            return _play_ward_hl7(arguments, parts)
        raise ConfigError("target-malformed", "an ECG goes to --to sdc://HOST[:PORT]; HL7 v2 carries vital signs here")
    return 0


def run_stays(arguments: argparse.Namespace) -> int:
    """The verb ``simulate stays``."""
    from edgeward.testing.vitals_table import STAY_MIN, write_simulated

    if not 1 <= arguments.patients <= STAYS_MAX or arguments.seed < 0:
        raise ConfigError("setting-invalid", f"--patients must be 1 to {STAYS_MAX}, --seed 0 or more")
    rows = write_simulated(arguments.out, arguments.patients, arguments.seed)
    print(f"{arguments.out}: {arguments.patients} simulated stays of {STAY_MIN // 60} h, {rows} values")
    return 0


def _serve_ecg(arguments: argparse.Namespace) -> int:
    from edgeward.testing.monitor import MonitorServer

    clock = SystemClock()

    def make_source() -> Source:
        return open_source(arguments.source, clock, arguments.speed)

    make_source().close()  # a wrong address is an error now, not when the first device connects
    server = MonitorServer(make_source, host=arguments.host, port=arguments.port)
    try:
        _say(f"tcp://{server.host}:{server.port}")
        server.serve(once=arguments.once)
    finally:
        server.close()
    return 0


def _play_ward_hl7(arguments: argparse.Namespace, target: SplitResult) -> int:
    from edgeward.testing.gateway import Gateway

    host, port = str(target.hostname), target.port or 0
    beds = _beds(arguments.source)

    def tell(text: str) -> None:
        sys.stderr.write(f"monitor: {text}\n")

    gateway = Gateway(beds, host, port, SystemClock(), period_s=arguments.period, speed=arguments.speed, told=tell)
    _say(f"{len(beds)} beds as HL7 v2 to {host}:{port}: {', '.join(bed.place for bed in beds)}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(gateway.run(arguments.seconds))
    answers = ", ".join(f"{code} {count}" for code, count in sorted(gateway.acks.items())) or "none"
    _say(f"{gateway.sent} messages with vital signs; acknowledgements: {answers}")
    return 0


def _play_ward_sdc(arguments: argparse.Namespace, target: SplitResult) -> int:
    from edgeward.testing.sdc_ward import SdcWard

    beds = _beds(arguments.source)
    host, port = str(target.hostname), target.port or 0
    speed, period_s = arguments.speed, arguments.period
    with SdcWard(beds, SystemClock(), host=host, port=port, period_s=period_s, speed=speed) as ward:
        for bed, url in zip(beds, ward.urls, strict=True):
            _say(f"{bed.place} as SDC at {url}")
        with contextlib.suppress(KeyboardInterrupt):
            ward.run(arguments.seconds)
        _say(f"{ward.sent} reports with vital signs")
    return 0


def _play_ecg_sdc(arguments: argparse.Namespace, target: SplitResult) -> int:
    from edgeward.testing.sdc_ward import SdcEcg

    source = open_source(arguments.source, SystemClock(), arguments.speed)
    with SdcEcg(source, host=str(target.hostname), port=target.port or 0) as monitor:
        _say(f"{len(source.info.leads)} leads as SDC at {monitor.url}")
        monitor.run()
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"monitor: {text}\n")
    sys.stdout.flush()


def _target(address: str | None) -> SplitResult:
    parts = urlsplit(address or "")
    try:
        known = parts.scheme == "sdc" or (parts.scheme == "hl7" and parts.port is not None)
    except ValueError:
        known = False
    if not known or not parts.hostname:
        raise ConfigError(
            "target-malformed",
            "--to is hl7://HOST:PORT, such as hl7://127.0.0.1:2575, or sdc://HOST[:PORT], such as sdc://127.0.0.1:6464",
        )
    return parts


def _beds(source: str) -> list[SimulatedBed]:
    return _stays(source) if source.startswith(_STAYS) else _patients(source)


def _patients(source: str) -> list[SimulatedBed]:
    """``patients:stable,sepsis?beds=4`` → beds, the courses in turn."""
    from edgeward.testing.gateway import SimulatedBed
    from edgeward.testing.patients import Course, Patient, Plan

    names, _, query = source.removeprefix(_PATIENTS).partition("?")
    options = _options(query, _KNOWN)
    try:
        courses = [Course(name) for name in names.split(",") if name] or list(Course)
    except ValueError as error:
        known = ", ".join(course.value for course in Course)
        raise ConfigError("scenario-unknown", f"there is no such course; known: {known}") from error
    count = _whole(options["beds"]) or len(courses)
    onset_s, ramp_s, seed = float(options["onset"]), float(options["ramp"]), _whole(options["seed"])
    past_s = 60.0 * _whole(options["past"])
    if past_s > PAST_MIN_MAX * 60:
        raise ConfigError("source-malformed", f"past must be 0 to {PAST_MIN_MAX} minutes")
    if not 1 <= count <= BEDS_MAX or not 0 <= onset_s < math.inf or not 0 < ramp_s < math.inf:
        raise ConfigError(
            "source-malformed", f"beds must be 1 to {BEDS_MAX}, onset 0 or more, ramp more than 0 seconds"
        )
    beds = []
    for number in range(count):
        course = courses[number % len(courses)]
        plan = Plan(
            seed + number,
            course,
            onset_s=past_s + onset_s,
            ramp_s=ramp_s,
            arterial=number % 3 != 2,
            capnography=course is Course.OPIOID,
            held_out=options["held-out"] == "1",
        )
        place = f"{options['unit']}^^{number + 1}"
        beds.append(SimulatedBed(place, Patient(plan), f"SIM{seed + number}", begin_s=past_s, past_s=past_s))
    return beds


def _stays(source: str) -> list[SimulatedBed]:
    """``stays:FILE.parquet?beds=4&first=100`` → a bed for each of four recorded stays, the 100th first."""
    from edgeward.testing.gateway import SimulatedBed, replay
    from edgeward.workshop.recorded import recorded

    name, _, query = source.removeprefix(_STAYS).partition("?")
    options = _options(query, _STAYS_KNOWN)
    count, first, begin_s = _whole(options["beds"]), _whole(options["first"]), 60.0 * _whole(options["begin"])
    if not 1 <= count <= BEDS_MAX:
        raise ConfigError("source-malformed", f"beds must be 1 to {BEDS_MAX}; correct --source")
    return [
        SimulatedBed(f"{options['unit']}^^{number}", replay(rows), f"CINC{record}", begin_s)
        for number, (record, rows) in enumerate(recorded(Path(name), first, count), 1)
    ]


def _options(query: str, known: dict[str, str]) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    if set(given) - set(known):
        raise ConfigError("source-malformed", f"known options are {', '.join(known)}; correct --source")
    options = {**known, **given}
    for name, value in options.items():
        if name != "unit":
            try:
                float(value)
            except ValueError as error:
                raise ConfigError("source-malformed", f"the option {name} is a number; correct --source") from error
    if not options["unit"].isalnum():
        raise ConfigError("source-malformed", "the option unit is a word of letters and digits; correct --source")
    return options


def _whole(text: str) -> int:
    number = float(text)
    if not number.is_integer() or number < 0:
        raise ConfigError("source-malformed", "beds, seed, first and begin are whole numbers from 0; correct --source")
    return int(number)
