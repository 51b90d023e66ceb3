"""One task of the assessment: its pure core, the bundle in charge, the one before, and a candidate in their shadow.

The rim tells which bundle shall be in charge (``TaskSettings``); the task brings itself there between two scores. A
candidate takes over once its engine is warm and the moment is safe; the bundle before stays warm, and takes over again
at once when it is told to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.core import Ask
from edgeward.bedside.assess.engines import Cloud
from edgeward.bedside.assess.model import Model
from edgeward.bedside.assess.plans import NoBundle
from edgeward.bedside.assess.shadow import Candidate, Sight
from edgeward.bedside.charge.charge import Charge
from edgeward.bedside.fallback import Ladder, Mode, Trust, promoted, returned
from edgeward.bedside.feed import TaskSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.assess.core import Assessor, Effect
    from edgeward.bedside.assess.engines import Engines
    from edgeward.bedside.assess.port import Array, Plan
    from edgeward.bedside.charge.warm import Warm
    from edgeward.bedside.cloud import CloudClient
    from edgeward.bedside.feed import Feed, Message
    from edgeward.inference.host import EngineHost


class Task:
    """A task at work. ``before``: the bundle to go back to, warm; ``warm``: starts an engine beside the one in charge.

    ``client``: the scoring server, where one is allowed; whichever bundle is in charge, it must run the same.
    """

    def __init__(
        self,
        core: Assessor,
        engines: Engines,
        current: Model,
        before: Model | None = None,
        *,
        told: TaskSettings | None = None,
        warm: Callable[[str, str], Warm[Plan]] | None = None,
        client: CloudClient | None = None,
    ) -> None:
        self.core = core
        self.engines = engines
        self._before_sight: Sight | None = None
        self._client = client
        wanted = told or TaskSettings(core.task, sha256=current.sha256)
        rehearse = None if warm is None else lambda name, sha256: Candidate(sha256, warm(name, sha256))
        self.charge: Charge[Plan, Candidate] = Charge(
            current, before, wanted, self, rehearse, nothing=Model(NoBundle(core.task))
        )

    @property
    def local(self) -> dict[Mode, EngineHost]:
        """The engines of this device that stand on rungs."""
        current, before = self.charge.current, self.charge.before
        stands: dict[Mode, EngineHost] = {}
        if current.engine is not None:
            stands[Mode.LOCAL] = current.engine
        if before is not None and before.engine is not None and before.plan.sees_as(current.plan):
            stands[Mode.LOCAL_PREVIOUS] = before.engine
        return stands

    @property
    def safe(self) -> bool:
        """Whether another bundle could take over now and take nothing from a bed."""
        return self.core.quiet

    # --- what comes in

    def take(self, message: Feed, now_ns: int) -> list[Message]:
        """Take one message of the rim."""
        if isinstance(message, TaskSettings):
            if message.task != self.core.task:
                return []
            self.charge.take(message)
            return [*self.charge.settle(now_ns, lambda: self.safe), *self._serving(now_ns)]
        self.charge.rehearsed(lambda candidate: candidate.take(message))
        if self._before_sight is not None:
            self._before_sight.take(message)
        return self._carried(self.core.take(message, now_ns), now_ns)

    def look(self, now_ns: int) -> list[Message]:
        """Look after the engines."""
        before = self._trust
        told = self._carried(self.engines.look(now_ns), now_ns)
        self.charge.failed(before, self._trust)
        behind = self.charge.before
        if self._before_sight is not None and behind is not None and behind.engine is not None:
            behind.engine.check()
        return told

    def tick(self, now_ns: int) -> list[Message]:
        """Score whoever is due; become what was told, when that can be; say which bundle is in charge."""
        told = self._carried(self.core.tick(now_ns), now_ns)
        return [*told, *self.charge.settle(now_ns, lambda: self.safe), *self._serving(now_ns)]

    def afterwards(self, next_due_ns: int | None, now_ns: int) -> None:
        """Everything of this moment is on its way: the candidate's turn."""
        period_ns = self.core.plan.period_ns
        self.charge.rehearsed(lambda candidate: candidate.afterwards(self.core, next_due_ns, period_ns, now_ns))

    def close(self) -> None:
        """Stop the engines."""
        self.engines.close()
        self.charge.close()

    # --- scoring

    def _carried(self, effects: list[Effect], now_ns: int) -> list[Message]:
        """Carry out what follows; local engines answer at once, so their answers are followed up here too."""
        told: list[Message] = []
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            if not isinstance(effect, Ask):
                told.append((effect.kind, effect.data))
                continue
            answer = self.engines.ask(effect, now_ns)
            if answer is None:
                continue
            scores, why = answer
            before = self._trust
            waiting += self.core.answered(effect.sequence, scores, why, now_ns)
            if effect.rung is Mode.LOCAL:
                self._count(effect, scores, before, now_ns)
        return told

    def _count(self, ask: Ask, scores: Array | None, before: Trust, now_ns: int) -> None:
        """An answer of LOCAL, or why there was none."""
        self.charge.failed(before, self._trust)
        if scores is not None:
            self.charge.scored()
            self.charge.rehearsed(lambda candidate: candidate.saw(ask, scores, now_ns))

    @property
    def _trust(self) -> Trust:
        return self.core.ladder.trust(Mode.LOCAL)

    # --- which bundle is in charge

    def took_over(self, candidate: Candidate, old: Model, now_ns: int) -> list[Message]:
        """The candidate is in charge: every stay goes on with what the candidate saw of it."""
        sees_as_old = old.plan.sees_as(self.charge.current.plan)
        self._before_sight = None if sees_as_old else Sight.of(old.plan, self.core.stays())
        return self._adopt(promoted, candidate.sight.states if candidate.sight is not None else {}, now_ns)

    def went_back(self, now_ns: int) -> list[Message]:
        """The bundle before is in charge again, and has seen every stay meanwhile."""
        sight, self._before_sight = self._before_sight, None
        down = self.charge.down
        states = sight.states if sight is not None else {}
        return self._adopt(lambda ladder, others, now_ns: returned(ladder, others, now_ns, down), states, now_ns)

    def _adopt(
        self, exchange: Callable[[Ladder, tuple[Mode, ...], int], Ladder], states: Any, now_ns: int
    ) -> list[Message]:
        local, cloud, model = self.local, None, self.charge.current
        if self._client is not None and model.vectors is not None:
            cloud = Cloud(self._client, model.sha256, model.vectors)
        others = tuple(rung for rung in local if rung is not Mode.LOCAL) + ((Mode.CLOUD,) if cloud is not None else ())
        self.engines.arrange(local, cloud)
        effects = self.core.adopt(
            model.plan, model.version, states, lambda ladder: exchange(ladder, others, now_ns), now_ns
        )
        return self._carried(effects, now_ns)

    def _serving(self, now_ns: int) -> list[Message]:
        serves = self.core.ladder.serving is Mode.LOCAL
        return self.charge.serving(self.core.task, now_ns, serves=serves, safe=self.safe)
