"""One task of the assessment: its pure core, the bundle in charge, the one before, and a candidate in their shadow.

The rim tells which bundle shall be in charge (``TaskSettings``); the task brings itself there between two scores. A
candidate takes over once its engine is warm and the moment is safe; the bundle before stays warm, and takes over again
at once when it is told to.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.core import Ask
from edgeward.bedside.assess.engines import Cloud
from edgeward.bedside.assess.shadow import Candidate, Sight
from edgeward.bedside.assess.warm import take_charge
from edgeward.bedside.fallback import Ladder, Mode, Trust, promoted, returned
from edgeward.bedside.feed import TaskSettings
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.assess.core import Assessor, Effect
    from edgeward.bedside.assess.engines import Engines
    from edgeward.bedside.assess.model import Model
    from edgeward.bedside.assess.port import Array
    from edgeward.bedside.assess.warm import Warm
    from edgeward.bedside.cloud import CloudClient
    from edgeward.bedside.feed import Feed, Message
    from edgeward.inference.host import EngineHost

SERVING = "serving"
"""The kind of the message that tells which bundle is in charge."""
SERVING_EVERY_NS = NS_PER_S


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
        warm: Callable[[str, str], Warm] | None = None,
        client: CloudClient | None = None,
    ) -> None:
        self.core = core
        self.engines = engines
        self.current = current
        self.before = before
        self._before_sight: Sight | None = None
        self._wanted = told or TaskSettings(core.task, sha256=current.sha256)
        self._warm = warm
        self._client = client
        self.candidate: Candidate | None = None
        self._scores = self._failures = 0
        self._served = False
        self._took_ns: int | None = None
        self._told: tuple[Any, ...] = ()
        self._tell_ns = 0

    @property
    def local(self) -> dict[Mode, EngineHost]:
        """The engines of this device that stand on rungs."""
        stands: dict[Mode, EngineHost] = {}
        if self.current.engine is not None:
            stands[Mode.LOCAL] = self.current.engine
        if self.before is not None and self.before.engine is not None and self.before.plan.sees_as(self.current.plan):
            stands[Mode.LOCAL_PREVIOUS] = self.before.engine
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
            self._wanted = message
            return [*self._settle(now_ns), *self._serving(now_ns)]
        self._rehearsed(lambda candidate: candidate.take(message))
        if self._before_sight is not None:
            self._before_sight.take(message)
        return self._carried(self.core.take(message, now_ns), now_ns)

    def look(self, now_ns: int) -> list[Message]:
        """Look after the engines."""
        before = self._trust
        told = self._carried(self.engines.look(now_ns), now_ns)
        self._failures += before.golden and _failed(before, self._trust)
        if self._before_sight is not None and self.before is not None and self.before.engine is not None:
            self.before.engine.check()
        return told

    def tick(self, now_ns: int) -> list[Message]:
        """Score whoever is due; become what was told, when that can be; say which bundle is in charge."""
        told = self._carried(self.core.tick(now_ns), now_ns)
        return [*told, *self._settle(now_ns), *self._serving(now_ns)]

    def afterwards(self, next_due_ns: int | None, now_ns: int) -> None:
        """Everything of this moment is on its way: the candidate's turn."""
        period_ns = self.core.plan.period_ns
        self._rehearsed(lambda candidate: candidate.afterwards(self.core, next_due_ns, period_ns, now_ns))

    def close(self) -> None:
        """Stop the engines."""
        self._end_candidate()
        self.engines.close()
        if self.before is not None and self.before.engine is not None:
            self.before.engine.stop()

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
        """An answer of LOCAL, or why there was none; that an engine which only starts gives none is no failure."""
        if _failed(before, self._trust):
            self._failures += before.golden
        elif scores is not None:
            self._scores += 1
            self._rehearsed(lambda candidate: candidate.saw(ask, scores, now_ns))

    @property
    def _trust(self) -> Trust:
        return self.core.ladder.trust(Mode.LOCAL)

    # --- which bundle is in charge

    def _settle(self, now_ns: int) -> list[Message]:
        """Go a step towards what was told; nothing where that is how it is."""
        wanted = self._wanted
        told: list[Message] = []
        if wanted.sha256 and wanted.sha256 != self.current.sha256:
            if self.before is not None and self.before.sha256 == wanted.sha256:
                told = self._return(self.before, now_ns)
            else:
                candidate = self._rehearse(wanted.bundle, wanted.sha256)
                if candidate is not None and candidate.ready and (wanted.at_once or self.safe):
                    told = self._promote(candidate, now_ns)
        elif wanted.shadow_sha256 and wanted.shadow_sha256 != self.current.sha256:
            self._rehearse(wanted.shadow, wanted.shadow_sha256)
        else:
            self._end_candidate()
        return told

    def _rehearse(self, name: str, sha256: str) -> Candidate | None:
        """The candidate of this bundle; its engine is started, behind the caller, where there is none yet."""
        if self.candidate is None or self.candidate.sha256 != sha256:
            self._end_candidate()
            if self._warm is not None:
                self.candidate = Candidate(sha256, self._warm(name, sha256))
        return self.candidate

    def _rehearsed(self, act: Callable[[Candidate], None]) -> None:
        """Let the candidate do something: whatever that raises, the beds keep the process that scores them."""
        if self.candidate is not None:
            try:
                act(self.candidate)
            except Exception:  # noqa: BLE001
                self.candidate.broke()

    def _promote(self, candidate: Candidate, now_ns: int) -> list[Message]:
        """Put the candidate in charge; nothing where its engine is being asked: the next turn is soon."""
        model, old, older = candidate.warm.model, self.current, self.before
        if model is None or not candidate.warm.release():
            return []
        self.candidate = None
        self._before_sight = None if old.plan.sees_as(model.plan) else Sight.of(old.plan, self.core.stays())
        self.current, self.before = model, old if old.engine is not None else None
        if older is not None:
            _stop_behind(older.engine)
        if model.engine is not None:
            take_charge(model.engine)
        if old.engine is not None:
            old.engine.stand_by(False)
        states = candidate.sight.states if candidate.sight is not None else {}
        return self._adopt(promoted, states, now_ns)

    def _return(self, model: Model, now_ns: int) -> list[Message]:
        """Put the bundle before in charge again, and stop the one that was."""
        self._end_candidate()
        states = self._before_sight.states if self._before_sight is not None else {}
        gone, self.current, self.before, self._before_sight = self.current, model, None, None
        if model.engine is not None:
            model.engine.stand_by(True)
        told = self._adopt(returned, states, now_ns)
        _stop_behind(gone.engine)
        return told

    def _adopt(
        self, exchange: Callable[[Ladder, tuple[Mode, ...], int], Ladder], states: Any, now_ns: int
    ) -> list[Message]:
        local, cloud, model = self.local, None, self.current
        if self._client is not None and model.vectors is not None:
            cloud = Cloud(self._client, model.sha256, model.vectors)
        others = tuple(rung for rung in local if rung is not Mode.LOCAL) + ((Mode.CLOUD,) if cloud is not None else ())
        self.engines.arrange(local, cloud)
        self._scores = self._failures = 0
        self._served, self._took_ns = False, now_ns
        effects = self.core.adopt(
            model.plan, model.version, states, lambda ladder: exchange(ladder, others, now_ns), now_ns
        )
        return self._carried(effects, now_ns)

    def _end_candidate(self) -> None:
        if self.candidate is not None:
            self.candidate.warm.stop()
            self.candidate = None

    # --- what is said

    def _serving(self, now_ns: int) -> list[Message]:
        """Which bundle is in charge and how the candidate does: each second, and at once when that changes."""
        serves, safe = self.core.ladder.serving is Mode.LOCAL, self.safe
        self._served |= serves
        shadow = self.candidate.facts() if self.candidate is not None else None
        state = (self._wanted.turn, self.current.sha256, serves, safe, shadow and (shadow["running"], shadow["code"]))
        if state == self._told and now_ns < self._tell_ns:
            return []
        self._told, self._tell_ns = state, now_ns + SERVING_EVERY_NS
        data = {
            "task": self.core.task,
            "turn": self._wanted.turn,
            "version": self.current.version,
            "sha256": self.current.sha256,
            "scores": self._scores,
            "failures": self._failures,
            "served": self._served,
            "down": self._served and not serves,
            "since_ms": None if self._took_ns is None else (now_ns - self._took_ns) // NS_PER_MS,
            "safe": safe,
            "shadow": shadow,
        }
        return [(SERVING, data)]


def _failed(before: Trust, after: Trust) -> bool:
    """Whether an engine failed between two looks at its trust."""
    return after.failed_at_ns not in (None, before.failed_at_ns)


def _stop_behind(engine: EngineHost | None) -> None:
    """Stop an engine without waiting for its end."""
    if engine is not None:
        threading.Thread(target=engine.stop, name="stop", daemon=True).start()
