"""The only place that reads TOML and the environment; everything below gets frozen dataclasses.

Order, later wins: defaults here, the TOML file (``--settings`` or ``EDGEWARD_SETTINGS``), arguments. An unknown key is
an error that names the known ones, because a misspelt limit at the bedside must not be ignored.
"""

from __future__ import annotations

import math
import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from edgeward.bedside.feed import Population
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.kernel.errors import ConfigError

_T = TypeVar("_T")
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
    threshold alerts, which ``[bedside.limits]`` changes by name.
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
    json_lines: str = ""
    speed: float = 1.0
    dwell_s: float = 60.0
    threads: int = 1
    realtime: bool = True
    run_for_s: float | None = None
    population: str = Population.ADULT.value
    age_y: float | None = None
    limits: ThresholdSettings = field(default_factory=lambda: _limits(Population.ADULT, {}))

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
    """Defaults, then the table ``[bedside]`` of the TOML file, then ``arguments`` that are not None.

    Raises ``ConfigError`` for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    named = path or (Path(os.environ["EDGEWARD_SETTINGS"]) if os.environ.get("EDGEWARD_SETTINGS") else None)
    table: dict[str, Any] = {}
    if named is not None:
        try:
            document = tomllib.loads(named.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError("settings-unreadable", f"cannot read the settings file {named}: {error}") from error
        unknown = set(document) - {"bedside"}
        if unknown:
            raise ConfigError("setting-unknown", f"{named}: unknown table {sorted(unknown)}; known: [bedside]")
        table = _table(document.get("bedside", {}), "bedside")
    changes = _table(table.pop("limits", {}), "bedside.limits")
    settings = _typed(BedsideSettings(), table, "bedside")
    given = {key: value for key, value in arguments.items() if value is not None}
    return replace(settings, limits=_limits(_population(settings.population), changes), **given)


def _population(name: str) -> Population:
    try:
        return Population(name)
    except ValueError as error:
        known = ", ".join(Population)
        raise ConfigError("setting-invalid", f"[bedside] population must be one of {known}") from error


def _limits(population: Population, changes: dict[str, Any]) -> ThresholdSettings:
    """An ECG bed's threshold alerts: nothing latches, because its page has nothing to acknowledge with; no NEWS2."""
    return ThresholdSettings({population: changes}, latch=Latch.NONE, news2=False)


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError("setting-invalid", f"{where} must be a table: write [{where}] and its settings below")
    return value


def _typed(defaults: _T, table: dict[str, Any], where: str) -> _T:
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
    return replace(defaults, **changes)  # type: ignore[type-var]
