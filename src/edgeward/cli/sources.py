"""Source addresses of the command line, and the simulator's named scenarios."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from edgeward.bedside.source.sdc_link import sdc_address
from edgeward.bedside.source.sdc_waves import SdcWaves
from edgeward.bedside.source.simulator import Episode, SimulatorSource
from edgeward.bedside.source.tcp import TcpAddress, TcpSource
from edgeward.bedside.source.wfdb import WfdbSource, find_records, source_groups
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.source.base import Source
    from edgeward.kernel.clock import Clock

SOURCE_HELP = (
    "where samples come from: sim:[normal|ectopy|artefacts|demo][?seed=1&rate=250], wfdb:FOLDER or wfdb:RECORD, "
    "tcp://HOST:PORT (a monitor to connect to), tcp-listen://HOST:PORT, "
    "sdc:http://HOST:PORT/PATH, sdc:https://HOST:PORT/PATH or sdc:urn:uuid:ID?adapter=OUR-ADDRESS (an IEEE 11073 SDC "
    "monitor, see docs/sdc-fhir.md) (default: sim:)"
)
_HOUR_S = 3600.0
_LOST_WITH_RIGHT_ARM = ("I", "II", "III", "aVR", "aVL", "aVF", "V1")
"""What a monitor blanks when the right-arm electrode falls off, and V1 with it."""
WAIT_S = 30.0
"""How long a monitor is waited for before a word is said."""


def scenario(name: str, length_s: float) -> list[Episode]:
    """The episodes of a named scenario, for an hour; ``length_s`` is that of the demo's story.

    Raises ``ConfigError`` (``scenario-unknown``) for an unknown name.
    """
    made: dict[str, Callable[[], list[Episode]]] = {
        "": list,
        "normal": list,
        "ectopy": _ectopy,
        "artefacts": _artefacts,
        "demo": lambda: demo_scenario(length_s),
    }
    if name not in made:
        known = ", ".join(word for word in made if word)
        raise ConfigError("scenario-unknown", f"the simulator knows no scenario {name!r}; known: {known}")
    return made[name]()


def demo_scenario(seconds: float) -> list[Episode]:
    """What ``make demo`` shows, laid out over its length: ectopic beats, then all leads off, then a fast run."""
    beats = [Episode(at, "pvc") for at in _steps(0.10, 0.36, 0.045, seconds)]
    early = [Episode(at, "pac") for at in _steps(0.12, 0.36, 0.09, seconds)]
    off_s = min(4.0, 0.1 * seconds)
    off = Episode(0.45 * seconds, "lead_off", off_s, _LOST_WITH_RIGHT_ARM)
    again = [] if seconds >= _HOUR_S else [Episode(at, "pvc") for at in range(round(seconds) + 5, 3600, 9)]
    return sorted([*beats, *early, off, *again], key=lambda episode: episode.at_s)


def _steps(first: float, last: float, step: float, seconds: float) -> list[float]:
    count = round((last - first) / step) + 1
    return [(first + k * step) * seconds for k in range(count)]


def _ectopy() -> list[Episode]:
    pvc = [Episode(float(at), "pvc") for at in range(7, 3600, 11)]
    pac = [Episode(float(at), "pac") for at in range(12, 3600, 17)]
    runs = [Episode(float(at), "vt", 4.0) for at in range(60, 3600, 300)]
    return sorted([*pvc, *pac, *runs], key=lambda episode: episode.at_s)


def _artefacts() -> list[Episode]:
    kinds = ("lead_off", "noise", "saturated", "flat", "gap")
    return [Episode(15.0 + 20.0 * k, kinds[k % len(kinds)], 5.0) for k in range(170)]


def parts(address: str) -> int:
    """How many sources stand behind an address, one after the other: records whose leads differ cannot be one."""
    scheme, _, rest = address.partition(":")
    return len(source_groups(find_records(Path(rest)))) if scheme == "wfdb" else 1


def open_source(address: str, clock: Clock, speed: float, *, part: int = 0, wait_s: float = WAIT_S) -> Source:
    """The ``part``-th source behind an address; a monitor over TCP is waited for, for ``wait_s``, to introduce itself.

    Raises ``ConfigError`` for a malformed address, ``InputError`` for a source that cannot be read.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "sim":
        return _simulator(rest, clock, speed)
    if scheme == "wfdb":
        groups = source_groups(find_records(Path(rest)))
        return WfdbSource(groups[part], clock, speed=speed, allow_truncated=True)
    if scheme in {"tcp", "tcp-listen"}:
        source = TcpSource(_tcp_address(address), clock)
        source.open(wait_s)
        return source
    if scheme == "sdc":
        return _sdc(rest, clock, wait_s)
    raise ConfigError("source-unknown", f"cannot read the source {address!r}; {SOURCE_HELP}")


def _simulator(rest: str, clock: Clock, speed: float) -> SimulatorSource:
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = set(options) - {"seed", "rate", "seconds", "length"}
    try:
        seed = int(options.get("seed", "1"))
        rate_hz = float(options.get("rate", "250"))
        seconds = float(options["seconds"]) if "seconds" in options else None
        length_s = float(options.get("length", "60"))
    except ValueError as error:
        raise ConfigError("source-malformed", "seed, rate, seconds and length of the simulator are numbers") from error
    if seed < 0 or not 0 < length_s < math.inf or (seconds is not None and not 0 < seconds < math.inf):
        raise ConfigError("source-malformed", "the simulator's seed is 0 or more, its seconds and length more than 0")
    if unknown:
        raise ConfigError(
            "source-malformed", f"the simulator takes seed, rate, seconds and length, not {', '.join(unknown)}"
        )
    return SimulatorSource(
        clock,
        rate_hz=rate_hz,
        seed=seed,
        scenario=scenario(name, length_s),
        duration_s=seconds,
        speed=speed,
        block_ms=4.0,
    )


def _sdc(rest: str, clock: Clock, wait_s: float) -> Source:
    """An SDC monitor; behind ``#``: certificate, key and authority (PEM files), and mds, host and port."""
    plain, _, more = rest.partition("#")
    options = dict(parse_qsl(more))
    files = [options.pop(name, "") for name in ("certificate", "key", "authority")]
    unknown = set(options) - {"mds", "host", "port"}
    if unknown or any(files) != all(files) or not options.get("port", "0").isdecimal():
        raise ConfigError(
            "source-malformed",
            "behind # an SDC source takes certificate, key and authority, all three or none, and mds, host, port",
        )
    address = sdc_address(plain)
    tls = None
    if all(files):
        from edgeward.bedside.source.sdc_session import sdc_tls  # the library is needed for SDC alone

        tls = sdc_tls(*files)
    where = {"host": options["host"]} if "host" in options else {}
    source = SdcWaves(address, clock, mds=options.get("mds", ""), tls=tls, port=int(options.get("port", "0")), **where)
    try:
        source.open(wait_s)
    except BaseException:
        source.close()
        raise
    return source


def _tcp_address(address: str) -> TcpAddress:
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None or parts.path not in {"", "/"}:
        raise ConfigError(
            "source-malformed", f"write {parts.scheme}://HOST:PORT, such as {parts.scheme}://127.0.0.1:9750"
        )
    return TcpAddress(parts.hostname, port, listen=parts.scheme == "tcp-listen")
