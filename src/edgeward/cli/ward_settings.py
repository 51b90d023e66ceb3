"""What a site says of its ward: ``[ward]``, ``[[beds]]``, ``[thresholds]``, ``[cloud]``, ``[fleet]`` and ``[updates]``.

The ways in and out (``[hl7]``, ``[fhir]``, ``[[sdc]]``, ``[out]``) are read in ``settings`` and ``ward_ways``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assign import BedPlan, Beds
from edgeward.bedside.cloud import CloudSettings
from edgeward.bedside.feed import Population
from edgeward.bedside.fleet_link.settings import LinkSettings
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.bedside.updating.settings import UpdateSettings
from edgeward.cli.settings import default_state_dir, document, rows_of, table_of, typed, updates_of, within, words_of
from edgeward.cli.ward_ways import Ways, load_ways
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TASKS = ("sepsis-risk", "hypotension")
_DWELL_S_MAX = 86_400.0
_MOVED = frozenset({"windows", "zone", "rate_kib_s"})
"""What once stood in ``[fleet]``."""
_POPULATIONS = {population.value: population for population in Population}


@dataclass(frozen=True, slots=True)
class WardSettings:
    """One device over a ward.

    ``tasks``: whose bundles are assessed; ``repository`` and ``trusted_root`` as for a single bed; ``automatic_beds``:
    a place that nobody configured becomes a bed when a monitor names it; ``actions``: the page may acknowledge and
    suspend; ``page_names`` as for a single bed; ``ecg_page_port``: of the first ECG bed's page, the next ones follow
    (0: any free one).
    """

    name: str = "Ward"
    state_dir: Path = field(default_factory=lambda: default_state_dir() / "ward")
    page: bool = True
    page_host: str = "127.0.0.1"
    page_port: int = 8080
    page_names: tuple[str, ...] = ()
    actions: bool = True
    ecg_page_port: int = 0
    json_lines: str = ""
    repository: str = ""
    trusted_root: str = ""
    tasks: tuple[str, ...] = TASKS
    automatic_beds: bool = True
    dwell_s: float = 60.0
    threads: int = 1
    run_for_s: float | None = None
    beds: tuple[BedPlan, ...] = ()
    ecg: Mapping[str, str] = field(default_factory=dict)
    """Bed → source address of its ECG."""
    thresholds: ThresholdSettings = field(default_factory=ThresholdSettings)
    cloud: CloudSettings | None = None
    ways: Ways = field(default_factory=Ways)
    fleet: LinkSettings | None = None
    updates: UpdateSettings = field(default_factory=UpdateSettings)

    def __post_init__(self) -> None:
        for name in ("page_port", "ecg_page_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise ConfigError("setting-invalid", f"{name} must lie between 0 (any free port) and 65535")
        # Comparisons are written so that a NaN fails them.
        if not 0 <= self.dwell_s <= _DWELL_S_MAX or not 1 <= self.threads <= 64:
            raise ConfigError("setting-invalid", "dwell_s must lie between 0 and 86400, threads between 1 and 64")
        if self.run_for_s is not None and not 0 < self.run_for_s < math.inf:
            raise ConfigError("setting-invalid", "run_for_s (--for) must be more than 0 seconds; leave it out for ever")
        if bool(self.repository) != bool(self.trusted_root):
            raise ConfigError(
                "setting-incomplete",
                "repository and trusted_root belong together: name the first root.json that this device shall trust",
            )
        if self.fleet is not None and not self.repository:
            raise ConfigError(
                "setting-incomplete",
                "a fleet orders bundles from a signed repository: name repository and trusted_root, too",
            )
        unknown = sorted(set(self.tasks) - set(TASKS))
        if unknown:
            raise ConfigError("setting-invalid", f"tasks knows {', '.join(TASKS)}, not {', '.join(unknown)}")
        strange = sorted(set(self.ecg) - {plan.name for plan in self.beds})
        if strange:
            raise ConfigError("setting-invalid", f"an ECG is named for a bed that is not there: {', '.join(strange)}")

    @property
    def fleet_folder(self) -> Path:
        """Where the device's key and certificate lie."""
        named = self.fleet.folder if self.fleet is not None else ""
        return Path(named) if named else self.state_dir / "fleet"


@dataclass(frozen=True, slots=True)
class _BedTable:
    """One ``[[beds]]`` as it is written."""

    name: str = ""
    population: str = ""
    spo2_scale: int = 1
    ecg: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class _ThresholdTable:
    """``[thresholds]`` as it is written, without its limits."""

    latch: str = Latch.HIGH.value
    reminder_s: float = 180.0
    suspend_s_max: float = 180.0


def load_ward(path: Path | None, arguments: Mapping[str, Any], ecg: Sequence[str] = ()) -> WardSettings:
    """Defaults, then the settings file, then ``arguments`` that are not None; ``ecg``: "BED=SOURCE" of the arguments.

    Raises ``ConfigError`` for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    found = document(path)
    table = table_of(found.get("ward", {}), "ward")
    tasks = words_of(table.pop("tasks", list(TASKS)), "ward", "tasks")
    names = words_of(table.pop("page_names", []), "ward", "page_names")
    settings = replace(typed(WardSettings(), table, "ward"), page_names=names)
    plans, sources, bed_limits = _beds(found.get("beds", []))
    for item in ecg:
        bed, mark, source = item.partition("=")
        if not mark or not bed or not source:
            raise ConfigError("setting-invalid", "--ecg takes BED=SOURCE, such as 'Bed 1=tcp://10.0.0.7:9750'")
        sources[bed] = source
        if all(plan.name != bed for plan in plans):
            plans.append(BedPlan(bed, places=(bed,)))
    given = {key: value for key, value in arguments.items() if value is not None}
    thresholds = _thresholds(table_of(found.get("thresholds", {}), "thresholds"), bed_limits)
    cloud, ways, fleet, updates = _cloud(found), load_ways(path), load_link(path, {}), updates_of(found)
    with within("[ward]"):
        return replace(
            settings,
            tasks=tasks,
            beds=tuple(plans),
            ecg=sources,
            thresholds=thresholds,
            cloud=cloud,
            ways=ways,
            updates=updates,
            **{"fleet": fleet, **given},
        )


def _beds(
    rows: object,
) -> tuple[list[BedPlan], dict[str, str], dict[str, Mapping[Population, Mapping[str, float]]]]:
    """Plans, ECG sources and limits of the ``[[beds]]``."""
    plans: list[BedPlan] = []
    sources: dict[str, str] = {}
    limits: dict[str, Mapping[Population, Mapping[str, float]]] = {}
    for row in rows_of(rows, "beds"):
        table = dict(row)
        places = words_of(table.pop("places", []), "beds", "places")
        peers = words_of(table.pop("peers", []), "beds", "peers")
        changed = table_of(table.pop("limits", {}), "beds.limits")
        bed = typed(_BedTable(), table, "beds")
        if not bed.name or bed.spo2_scale not in {1, 2}:
            raise ConfigError("setting-invalid", "a bed needs a name, and spo2_scale is 1 or 2 (NEWS2)")
        population = _population(bed.population, bed.name) if bed.population else None
        plans.append(BedPlan(bed.name, places or (bed.name,), peers, population, bed.spo2_scale, bed.simulated))
        if bed.ecg:
            sources[bed.name] = bed.ecg
        if changed:
            limits[bed.name] = {population or Population.ADULT: changed}
    with within("[[beds]]"):
        Beds(plans)  # checks names, places and peers
    return plans, sources, limits


def _thresholds(
    table: dict[str, Any], beds: Mapping[str, Mapping[Population, Mapping[str, float]]]
) -> ThresholdSettings:
    limits = {
        _population(name, "thresholds"): table_of(table.pop(name), f"thresholds.{name}")
        for name in list(table)
        if name in _POPULATIONS
    }
    plain = typed(_ThresholdTable(), table, "thresholds")
    try:
        latch = Latch(plain.latch)
    except ValueError as error:
        raise ConfigError("setting-invalid", f"[thresholds] latch must be one of {', '.join(Latch)}") from error
    for population, changed in limits.items():
        with within(f"[thresholds.{population.value}]"):
            ThresholdSettings({population: changed})
    for bed, changes in beds.items():
        with within(f"[[beds]] {bed}, limits:"):
            ThresholdSettings(limits, {bed: changes})
    with within("[thresholds]"):
        return ThresholdSettings(limits, beds, latch, plain.reminder_s, plain.suspend_s_max)


def _cloud(found: Mapping[str, Any]) -> CloudSettings | None:
    """``[cloud]``: only a site that writes it allows anything to leave for a scoring server."""
    if "cloud" not in found:
        return None
    table = table_of(found["cloud"], "cloud")
    with within("[cloud]"):
        return typed(CloudSettings(str(table.get("url", ""))), table, "cloud")


def load_link(path: Path | None, given: Mapping[str, Any]) -> LinkSettings | None:
    """``[fleet]`` with ``given`` over it; None where neither says anything: such a device belongs to no fleet."""
    found = document(path)
    table = table_of(found.get("fleet", {}), "fleet")
    if not table and not given:
        return None
    moved = sorted(_MOVED & set(table))
    if moved:
        raise ConfigError(
            "setting-moved",
            f"[fleet] {', '.join(moved)}: what a site says of its updates stands in a table of its own; move it to "
            "[updates], where it holds with a fleet and without one",
        )
    whole = {**table, **given}
    with within("[fleet]"):
        return typed(LinkSettings(str(whole.get("url", "")), str(whole.get("ca", ""))), whole, "fleet")


def _population(name: str, where: str) -> Population:
    if name not in _POPULATIONS:
        raise ConfigError("setting-invalid", f"{where}: population must be one of {', '.join(_POPULATIONS)}")
    return _POPULATIONS[name]
