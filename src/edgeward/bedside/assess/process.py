"""``python -m edgeward.bedside.assess.process``: the process that assesses every stay, started by the rim.

Its settings name, per task, the bundle in its slot, the one before, and, where the site allows it, a scoring server. A
bundle that cannot be what it should be is told to the rim (``refused``), which returns to the one before.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.assess.engines import Cloud, Engines
from edgeward.bedside.assess.plans import NoBundle, plan_of
from edgeward.bedside.behind import MEMORY, TICK_MS, run
from edgeward.bedside.cloud import CloudClient, CloudSettings
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import Admitted, Discharged
from edgeward.bedside.system import SystemClock
from edgeward.bedside.verdict import Reason
from edgeward.bundle.archive import read_bundle
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import BundleError, EdgewardError
from edgeward.kernel.limits import ENGINE_LOOK_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bedside.assess.core import Effect
    from edgeward.bedside.assess.port import Plan
    from edgeward.bedside.feed import Feed
    from edgeward.bedside.messages import Message
    from edgeward.bundle.archive import Bundle

assert TICK_MS <= ENGINE_LOOK_MS, "every tick looks after the engines"
MEMORY_EVERY_NS = 60 * NS_PER_S
"""How much of a stay's history a restart has to take from the rim again, at most."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """One task. ``bundle`` and ``previous``: files with their SHA-256 ("" where there is none)."""

    task: str
    bundle: str = ""
    sha256: str = ""
    previous: str = ""
    previous_sha256: str = ""


@dataclass(frozen=True, slots=True)
class AssessSettings:
    """The process: its tasks, the climb's dwell, threads of a model, and the scoring server where one is allowed."""

    tasks: tuple[TaskSettings, ...] = ()
    dwell_s: float = 60.0
    threads: int = 1
    cloud: CloudSettings | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``SideProcess``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AssessSettings:
        """What ``to_json`` gave."""
        tasks = tuple(TaskSettings(**item) for item in values["tasks"])
        cloud = CloudSettings(**values["cloud"]) if values["cloud"] is not None else None
        return cls(tasks, float(values["dwell_s"]), int(values["threads"]), cloud)


@dataclass(slots=True)
class Task:
    """A task at work: its pure core and its engines."""

    core: Assessor
    engines: Engines
    local: Mapping[Mode, EngineHost]
    told: tuple[str, ...] = ()


class Assessment:
    """The core behind the rim (``behind.Core``): every task over every stay."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._memory_due: dict[int, int] = {}

    def take(self, message: Feed, now_ns: int) -> list[Message]:
        """Take one message of the rim."""
        if isinstance(message, Admitted):
            self._memory_due[message.stay] = now_ns + MEMORY_EVERY_NS
        elif isinstance(message, Discharged):
            self._memory_due.pop(message.stay, None)
        told: list[Message] = []
        for task in self._tasks:
            told += self._carried(task, task.core.take(message, now_ns), now_ns)
        return told

    def tick(self, now_ns: int) -> list[Message]:
        """Look after the engines, score whoever is due, and give what a restart would need."""
        told: list[Message] = []
        for task in self._tasks:
            told += self._carried(task, task.engines.look(now_ns), now_ns)
            told += _engine_news(task)
            told += self._carried(task, task.core.tick(now_ns), now_ns)
        for stay in [stay for stay, due_ns in self._memory_due.items() if now_ns >= due_ns]:
            self._memory_due[stay] = now_ns + MEMORY_EVERY_NS
            kept = {task.core.task: task.core.memory(stay) for task in self._tasks}
            told.append((MEMORY, {"stay": stay, "memory": kept}))
        return told

    def close(self) -> None:
        """Stop the engines."""
        for task in self._tasks:
            task.engines.close()

    @staticmethod
    def _carried(task: Task, effects: list[Effect], now_ns: int) -> list[Message]:
        """Carry out what follows; local engines answer at once, so their answers are followed up here too."""
        told: list[Message] = []
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            if not isinstance(effect, Ask):
                told.append((effect.kind, effect.data))
                continue
            answer = task.engines.ask(effect, now_ns)
            if answer is not None:
                scores, why = answer
                waiting += task.core.answered(effect.sequence, scores, why, now_ns)
        return told


def _engine_news(task: Task) -> list[Message]:
    """Who serves, whenever that changes; and a bundle that cannot run here, once."""
    news: list[Message] = []
    state = tuple(
        f"{rung.value}:{engine.worker_pid}:{engine.state.readiness.value}:{engine.state.restarts}"
        for rung, engine in task.local.items()
    )
    if state == task.told:
        return news
    task.told = state
    for rung, engine in task.local.items():
        held = engine.state
        data = {"task": task.core.task, "rung": rung.value, "pid": engine.worker_pid, "state": held.readiness.value}
        news.append(("engine", {**data, "restarts": held.restarts, "last_exit": held.last_exit}))
        error = engine.start_error
        if (
            rung is Mode.LOCAL
            and error is not None
            and (isinstance(error, BundleError) or error.code == "golden-failed")
        ):
            news.append(("refused", {"task": task.core.task, "code": error.code}))
    return news


def make(values: Any) -> Assessment:
    """The core for settings that ``AssessSettings.to_json`` gave; trouble with one task leaves the others at work."""
    settings = AssessSettings.from_json(values)
    return Assessment([_task(told, settings) for told in settings.tasks])


def _task(told: TaskSettings, settings: AssessSettings) -> Task:
    climb = Climb(dwell_ns=round(settings.dwell_s * NS_PER_S))
    clock = SystemClock()
    plan, bundle = _planned(told.task, told.bundle, told.sha256)
    local: dict[Mode, EngineHost] = {}
    if bundle is not None:
        _start(local, Mode.LOCAL, told.bundle, settings.threads, standby=True)
    before, previous = _planned(told.task, told.previous, told.previous_sha256)
    if bundle is not None and previous is not None and before.sees_as(plan):
        _start(local, Mode.LOCAL_PREVIOUS, told.previous, settings.threads, standby=False)
    cloud = None
    if settings.cloud is not None and bundle is not None:
        with contextlib.suppress(EdgewardError):
            cloud = Cloud(CloudClient(settings.cloud, clock), bundle.sha256, read_golden(bundle))
    others = [rung for rung in local if rung is not Mode.LOCAL] + ([Mode.CLOUD] if cloud is not None else [])
    budget_ns = {Mode.CLOUD: round(settings.cloud.budget_s * NS_PER_S) + NS_PER_S} if settings.cloud else {}
    core = Assessor(
        plan,
        version=bundle.manifest.version if bundle is not None else "-",
        others=others,
        budget_ns=budget_ns,
        climb=climb,
        why_down=Reason.ENGINE_NOT_READY if Mode.LOCAL in local else Reason.NO_BUNDLE,
        now_ns=clock.monotonic_ns(),
    )
    return Task(core, Engines(core, local, cloud), local)


def _planned(task: str, name: str, sha256: str) -> tuple[Plan, Bundle | None]:
    """The plan of the bundle in a slot; that of no bundle where there is none, or it is not the one that was named."""
    if name:
        with contextlib.suppress(OSError, EdgewardError):
            bundle = read_bundle(Path(name).read_bytes())
            if bundle.sha256 == sha256:
                return plan_of(bundle.manifest, task), bundle
    return NoBundle(task), None


def _start(local: dict[Mode, EngineHost], rung: Mode, name: str, threads: int, *, standby: bool) -> None:
    engine = EngineHost(Path(name), threads=threads, standby=standby)
    with contextlib.suppress(EdgewardError):
        engine.start(wait=False)  # the rim must not wait for a model to load
        local[rung] = engine


if __name__ == "__main__":
    sys.exit(run(make, sys.argv[1:]))
