"""The only place that reads TOML and the environment; everything below gets frozen dataclasses.

Order, later wins: defaults here, the TOML file (``--settings`` or ``EDGEWARD_SETTINGS``), arguments. An unknown key is
an error that names the known ones, because a misspelt limit at the bedside must not be ignored.
"""

from __future__ import annotations

import contextlib
import math
import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from edgeward.bedside.feed import Population
from edgeward.bedside.source.hl7_settings import Hl7Settings, Hl7Tls
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.bedside.updating.settings import UpdateSettings
from edgeward.kernel.errors import ConfigError
from edgeward.wire.codes import SiteCode, site_codes
from edgeward.wire.hl7v2_charset import site_codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_T = TypeVar("_T")
_TABLES = {
    "bedside": "[bedside]",
    "ward": "[ward]",
    "beds": "[[beds]]",
    "thresholds": "[thresholds]",
    "cloud": "[cloud]",
    "fleet_client": "[fleet_client]",
    "hl7": "[hl7]",
    "codes": "[[codes]]",
    "fhir": "[fhir]",
    "sdc": "[[sdc]]",
    "out": "[out]",
    "fleet": "[fleet]",
    "updates": "[updates]",
}
_DWELL_S_MAX = 86_400.0
_RUN_S_MAX = 1e9
_AGE_Y_MAX = 130.0


def default_state_dir() -> Path:
    """``$EDGEWARD_STATE``, else ``$XDG_STATE_HOME/edgeward``, else ``~/.local/state/edgeward``."""
    named = os.environ.get("EDGEWARD_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "edgeward"


@dataclass(frozen=True, slots=True)
class BedsideSettings:
    """One device at one bed.

    ``repository``: folder or URL of the signed repository; ``trusted_root``: its first root.json, brought by hand; both
    empty: no updates, the installed slot is used. ``population`` and ``age_y`` (years) choose the limits of the
    threshold alerts, which ``[bedside.limits]`` changes by name. ``page_names``: names and addresses by which browsers
    may ask for the page, besides ``page_host`` and loopback; any other is refused, so that no foreign page can be it.
    """

    source: str = "sim:"
    bed: str = "bed-1"
    site: str = "Edgeward"
    bundle: str = "ecg-beat"
    repository: str = ""
    trusted_root: str = ""
    state_dir: Path = field(default_factory=default_state_dir)
    page_host: str = "127.0.0.1"
    page_port: int = 8080
    page: bool = True
    page_names: tuple[str, ...] = ()
    json_lines: str = ""
    speed: float = 1.0
    dwell_s: float = 60.0
    threads: int = 1
    realtime: bool = True
    run_for_s: float | None = None
    population: str = Population.ADULT.value
    age_y: float | None = None
    limits: ThresholdSettings = field(default_factory=lambda: _limits(Population.ADULT, {}))
    updates: UpdateSettings = field(default_factory=UpdateSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.page_port <= 65_535:
            raise ConfigError("setting-invalid", "page_port must lie between 0 (any free port) and 65535")
        # Comparisons are written so that a NaN fails them.
        if not 0 <= self.speed < math.inf:
            raise ConfigError("setting-invalid", "speed must be 0 (as fast as possible) or more; 1 is real time")
        if not 0 <= self.dwell_s <= _DWELL_S_MAX or not 1 <= self.threads <= 64:
            raise ConfigError("setting-invalid", "dwell_s must lie between 0 and 86400, threads between 1 and 64")
        if self.run_for_s is not None and not 0 < self.run_for_s <= _RUN_S_MAX:
            raise ConfigError("setting-invalid", "run_for_s (--for) must be more than 0 seconds; leave it out for ever")
        if self.age_y is not None and not 0 <= self.age_y <= _AGE_Y_MAX:
            raise ConfigError("setting-invalid", f"age_y must lie between 0 and {_AGE_Y_MAX:g} years")
        if bool(self.repository) != bool(self.trusted_root):
            raise ConfigError(
                "setting-incomplete",
                "repository and trusted_root belong together: name the first root.json that this device shall trust",
            )


def load_bedside(path: Path | None, arguments: dict[str, Any]) -> BedsideSettings:
    """Defaults, then the tables ``[bedside]`` and ``[updates]`` of the TOML file, then ``arguments`` not None.

    Raises ``ConfigError`` for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    found = document(path)
    table = table_of(found.get("bedside", {}), "bedside")
    changes = table_of(table.pop("limits", {}), "bedside.limits")
    names = words_of(table.pop("page_names", []), "bedside", "page_names")
    settings = replace(typed(BedsideSettings(), table, "bedside"), page_names=names)
    given = {key: value for key, value in arguments.items() if value is not None}
    limits = _limits(_population(settings.population), changes)
    return replace(settings, limits=limits, updates=updates_of(found), **given)


def _population(name: str) -> Population:
    try:
        return Population(name)
    except ValueError as error:
        known = ", ".join(Population)
        raise ConfigError("setting-invalid", f"[bedside] population must be one of {known}") from error


def _limits(population: Population, changes: dict[str, Any]) -> ThresholdSettings:
    """An ECG bed's threshold alerts: nothing latches, because its page has nothing to acknowledge with; no NEWS2."""
    return ThresholdSettings({population: changes}, latch=Latch.NONE, news2=False)


def load_hl7(path: Path | None) -> tuple[Hl7Settings, tuple[SiteCode, ...]]:
    """The tables ``[hl7]`` and ``[[codes]]`` of the TOML file.

    Raises ``ConfigError`` for a file that cannot be read, an unknown key, zone, character set or kind.
    """
    found = document(path)
    table = table_of(found.get("hl7", {}), "hl7")
    plain = typed(_Hl7Table(), table, "hl7")
    certificate, key, ca = plain.tls_certificate, plain.tls_key, plain.tls_client_ca
    require_tls_whole(certificate, key, ca, "hl7", "tls_client_ca")
    tls = Hl7Tls(Path(certificate), Path(key), Path(ca) if ca else None) if certificate else None
    with within("[hl7]"):
        settings = Hl7Settings(
            host=plain.host,
            port=plain.port,
            connections_max=plain.connections_max,
            mute_s=plain.mute_s,
            half_s=plain.half_s,
            zone=zone_of(plain.zone, "hl7"),
            codec=site_codec(plain.charset),
            tls=tls,
        )
    return settings, site_codes(rows_of(found.get("codes", []), "codes"))


_HL7 = Hl7Settings()


@dataclass(frozen=True, slots=True)
class _Hl7Table:
    """``[hl7]`` as it is written."""

    host: str = _HL7.host
    port: int = _HL7.port
    connections_max: int = _HL7.connections_max
    mute_s: float = _HL7.mute_s
    half_s: float = _HL7.half_s
    zone: str = "UTC"
    charset: str = "UNICODE UTF-8"
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""


def zone_of(name: str, where: str) -> tzinfo:
    """The time zone that ``[where] zone`` names; ``ConfigError`` (``zone-unknown``, ``zone-data-missing``)."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not available_timezones():
            raise ConfigError(
                "zone-data-missing",
                f"[{where}] zone: this device has no time zone data, so {name!r} means nothing here; install the "
                "system's tzdata package",
            ) from error
        raise ConfigError(
            "zone-unknown", f"[{where}] zone: no time zone {name!r}; write one such as Europe/Berlin"
        ) from error


def updates_of(found: Mapping[str, Any]) -> UpdateSettings:
    """The table ``[updates]``. Raises ``ConfigError``."""
    table = table_of(found.get("updates", {}), "updates")
    windows = words_of(table.pop("windows", []), "updates", "windows")
    settings = typed(UpdateSettings(), table, "updates")
    zone_of(settings.zone, "updates")
    with within("[updates] windows:"):
        return replace(settings, windows=windows)


def document(path: Path | None) -> dict[str, Any]:
    """The TOML file that is named, or that ``EDGEWARD_SETTINGS`` names; empty where neither does."""
    named = path or (Path(os.environ["EDGEWARD_SETTINGS"]) if os.environ.get("EDGEWARD_SETTINGS") else None)
    if named is None:
        return {}
    found = toml_of(named, "settings")
    unknown = set(found) - set(_TABLES)
    if unknown:
        known = ", ".join(_TABLES.values())
        raise ConfigError("setting-unknown", f"{named}: unknown table {sorted(unknown)}; known: {known}")
    return found


def toml_of(path: Path, what: str) -> dict[str, Any]:
    """A TOML file; ``ConfigError`` (``settings-unreadable``) says ``what`` it was to be."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("settings-unreadable", f"cannot read the {what} file {path}: {error}") from error


def environment(name: str) -> str:
    """A variable of the environment, "" where it is not set."""
    return os.environ.get(name, "")


def table_of(value: object, where: str) -> dict[str, Any]:
    """A table of the document; ``ConfigError`` where something else stands."""
    if not isinstance(value, dict):
        raise ConfigError("setting-invalid", f"{where} must be a table: write [{where}] and its settings below")
    return value


def require_tls_whole(certificate: str, key: str, authority: str, where: str, name: str) -> None:
    """``ConfigError`` where files of TLS are named without those they need; ``name``: the authority's key."""
    if bool(certificate) != bool(key) or (authority and not certificate):
        raise ConfigError(
            "setting-incomplete", f"[{where}] tls_certificate and tls_key belong together, {name} to them"
        )


def words_of(value: object, where: str, name: str) -> tuple[str, ...]:
    """A list of texts; ``ConfigError`` where ``[where] name`` is something else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError("setting-invalid", f"[{where}] {name} must be a list of texts")
    return tuple(value)


def rows_of(value: object, name: str) -> list[dict[str, Any]]:
    """A list of tables; ``ConfigError`` where ``[[name]]`` is something else."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ConfigError("setting-invalid", f"{name} must be a list of tables: write [[{name}]] before each of them")
    return value


def typed(defaults: _T, table: dict[str, Any], where: str) -> _T:
    """``defaults`` with the fields that ``table`` names, each of the type that it has there; ``ConfigError`` else."""
    known = {item.name: getattr(defaults, item.name) for item in fields(defaults)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError("setting-unknown", f"[{where}] has no setting {key!r}; known: {', '.join(sorted(known))}")
        default = known[key]
        wanted = float if default is None else type(default)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(default, Path) and isinstance(value, str):
            value = Path(value).expanduser()
        right = isinstance(value, Path if isinstance(default, Path) else wanted)
        if not right or (isinstance(value, bool) and wanted is not bool):  # to Python a bool is an int
            raise ConfigError("setting-invalid", f"[{where}] {key} must be of type {wanted.__name__}")
        changes[key] = value
    with within(f"[{where}]"):
        return replace(defaults, **changes)  # type: ignore[type-var]


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """Put ``where`` (table, and key) before what is wrong there, unless that begins with a table itself."""
    try:
        yield
    except ConfigError as error:
        if str(error).startswith("["):
            raise
        raise ConfigError(error.code, f"{where} {error}") from error
