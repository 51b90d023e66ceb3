"""``python -m edgeward.bedside.assess.process``: the process that assesses every stay, started by the rim.

Its settings name, per task, the bundle in its slot, the one before, and, where the site allows it, a scoring server. A
bundle that cannot be what it should be is told to the rim (``refused``), which returns to the one before.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.core import Assessor
from edgeward.bedside.assess.engines import Cloud, Engines
from edgeward.bedside.assess.model import model_or_none, read_model
from edgeward.bedside.assess.task import Task
from edgeward.bedside.behind import MEMORY, TICK_MS, run
from edgeward.bedside.charge.charge import REFUSED
from edgeward.bedside.charge.warm import WarmEngine
from edgeward.bedside.cloud import CloudClient, CloudSettings
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import Admitted, Discharged, TaskSettings
from edgeward.bedside.system import SystemClock
from edgeward.bedside.verdict import Reason
from edgeward.inference.host import EngineHost
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import BundleError, EdgewardError
from edgeward.kernel.limits import ENGINE_LOOK_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bedside.assess.model import Model
    from edgeward.bedside.feed import Feed
    from edgeward.bedside.messages import Message

assert TICK_MS <= ENGINE_LOOK_MS, "every tick looks after the engines"
MEMORY_EVERY_NS = 60 * NS_PER_S
"""How much of a stay's history a restart has to take from the rim again, at most."""


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


class Assessment:
    """The core behind the rim (``behind.Core``): every task over every stay."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._engines_told: dict[str, str] = {}
        self._memory_due: dict[int, int] = {}

    def take(self, message: Feed, now_ns: int) -> list[Message]:
        """Take one message of the rim."""
        if isinstance(message, Admitted):
            self._memory_due[message.stay] = now_ns + MEMORY_EVERY_NS
        elif isinstance(message, Discharged):
            self._memory_due.pop(message.stay, None)
        told: list[Message] = []
        for task in self._tasks:
            told += task.take(message, now_ns)
        return told

    def tick(self, now_ns: int) -> list[Message]:
        """Look after the engines, score whoever is due, and give what a restart would need."""
        told: list[Message] = []
        for task in self._tasks:
            told += task.look(now_ns)
            told += self._engine_news(task)
            told += task.tick(now_ns)
        for stay in [stay for stay, due_ns in self._memory_due.items() if now_ns >= due_ns]:
            self._memory_due[stay] = now_ns + MEMORY_EVERY_NS
            kept = {task.core.task: task.core.memory(stay) for task in self._tasks}
            told.append((MEMORY, {"stay": stay, "memory": kept}))
        return told

    def afterwards(self, now_ns: int) -> None:
        """Everything of this moment is on its way: the turn of the candidates (``behind.Unhurried``)."""
        due_ns = min((due for task in self._tasks if (due := task.core.due_ns()) is not None), default=None)
        for task in self._tasks:
            task.afterwards(due_ns, now_ns)

    def close(self) -> None:
        """Stop the engines."""
        for task in self._tasks:
            task.close()

    def _engine_news(self, task: Task) -> list[Message]:
        """Who serves, whenever that changes; and a bundle that cannot run here, once."""
        news: list[Message] = []
        local = task.local
        state = " ".join(
            f"{rung.value}:{engine.worker_pid}:{engine.state.readiness.value}:{engine.state.restarts}"
            for rung, engine in local.items()
        )
        if state == self._engines_told.get(task.core.task, ""):
            return news
        self._engines_told[task.core.task] = state
        for rung, engine in local.items():
            held = engine.state
            data = {"task": task.core.task, "rung": rung.value, "pid": engine.worker_pid, "state": held.readiness.value}
            news.append(("engine", {**data, "restarts": held.restarts, "last_exit": held.last_exit}))
            error = engine.start_error
            if (
                rung is Mode.LOCAL
                and error is not None
                and (isinstance(error, BundleError) or error.code == "golden-failed")
            ):
                sha256 = task.charge.current.sha256
                news.append((REFUSED, {"task": task.core.task, "code": error.code, "sha256": sha256}))
        return news


def make(values: Any) -> Assessment:
    """The core for settings that ``AssessSettings.to_json`` gave; trouble with one task leaves the others at work."""
    settings = AssessSettings.from_json(values)
    return Assessment([_task(told, settings) for told in settings.tasks])


def _task(told: TaskSettings, settings: AssessSettings) -> Task:
    clock = SystemClock()
    current = _started(model_or_none(told.task, told.bundle, told.sha256), told.bundle, settings.threads, standby=True)
    before = model_or_none(told.task, told.previous, told.previous_sha256)
    local: dict[Mode, EngineHost] = {} if current.engine is None else {Mode.LOCAL: current.engine}
    if current.sha256 and before.sha256 and before.plan.sees_as(current.plan):
        before = _started(before, told.previous, settings.threads, standby=False)
        if before.engine is not None:
            local[Mode.LOCAL_PREVIOUS] = before.engine
    client, cloud = None, None
    if settings.cloud is not None:
        with contextlib.suppress(EdgewardError):
            client = CloudClient(settings.cloud, clock)
    if client is not None and current.vectors is not None:
        cloud = Cloud(client, current.sha256, current.vectors)
    others = [rung for rung in local if rung is not Mode.LOCAL] + ([Mode.CLOUD] if cloud is not None else [])
    budget_ns = {Mode.CLOUD: round(settings.cloud.budget_s * NS_PER_S) + NS_PER_S} if settings.cloud else {}
    core = Assessor(
        current.plan,
        version=current.version,
        others=others,
        budget_ns=budget_ns,
        climb=Climb(dwell_ns=round(settings.dwell_s * NS_PER_S)),
        why_down=Reason.ENGINE_NOT_READY if Mode.LOCAL in local else Reason.NO_BUNDLE,
        now_ns=clock.monotonic_ns(),
    )
    return Task(
        core,
        Engines(core, local, cloud),
        current,
        before if before.engine is not None else None,
        told=told,
        warm=lambda name, sha256: WarmEngine(lambda: read_model(told.task, name, sha256), name, settings.threads),
        client=client,
    )


def _started(model: Model, name: str, threads: int, *, standby: bool) -> Model:
    """The model with its engine, which starts behind the caller: the rim must not wait for a model to load."""
    if model.sha256:
        engine = EngineHost(Path(name), threads=threads, standby=standby)
        with contextlib.suppress(EdgewardError):
            engine.start(wait=False)
            return replace(model, engine=engine)
    return model


if __name__ == "__main__":
    sys.exit(run(make, sys.argv[1:]))
