"""The engines of one task: who stands on which rung, asked and looked after.

Local rungs answer at once, within their budget, through ``EngineHost``; the cloud answers later. Before the cloud is
trusted it must give the golden scores of this device's own bundle: whoever answers there must run the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.cloud import CloudFailure
from edgeward.bedside.fallback import Mode
from edgeward.bedside.verdict import Reason
from edgeward.exchange.scoring import ScoreRequest
from edgeward.inference.host import Failure
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import ENGINE_HANG_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.assess.core import Ask, Assessor, Effect
    from edgeward.bedside.cloud import CloudClient, Heard
    from edgeward.inference.golden import GoldenVectors
    from edgeward.inference.host import EngineHost

REASON_OF = {
    Failure.CRASHED: Reason.ENGINE_CRASHED,
    Failure.HUNG: Reason.ENGINE_HUNG,
    Failure.BAD_OUTPUT: Reason.BAD_SCORES,
    Failure.NOT_READY: Reason.ENGINE_NOT_READY,
}
GOLDEN_EVERY_NS = 10 * NS_PER_S
"""How often a cloud that is needed and not proven is asked for golden scores."""


@dataclass(slots=True)
class Cloud:
    """The scoring server as a rung: which bundle it must run, and the golden vectors that prove it."""

    client: CloudClient
    sha256: str
    vectors: GoldenVectors
    next_golden_ns: int = 0


class Engines:
    """Carries out an assessor's ``Ask``s. ``local``: LOCAL and LOCAL_PREVIOUS, where they exist."""

    def __init__(self, core: Assessor, local: Mapping[Mode, EngineHost], cloud: Cloud | None = None) -> None:
        self._core = core
        self._local = dict(local)
        self._cloud = cloud
        self._golden_key = 0  # keys of asks are positive sequences; golden requests take the negative ones

    def arrange(self, local: Mapping[Mode, EngineHost], cloud: Cloud | None) -> None:
        """Other engines stand on the rungs from now on; those that left belong to the caller again."""
        self._local = dict(local)
        self._cloud = cloud

    def ask(self, ask: Ask, now_ns: int) -> tuple[np.ndarray | None, Reason | None] | None:
        """Scores or why there are none; None where the answer comes later."""
        if ask.rung is Mode.CLOUD:
            if self._cloud is None:
                return None, Reason.CLOUD_DOWN
            self._cloud.client.ask(ask.sequence, ScoreRequest(self._cloud.sha256, ask.inputs))
            return None
        engine = self._local.get(ask.rung)
        if engine is None:
            return None, Reason.NO_BUNDLE
        budget_ns = min(ENGINE_HANG_MS * 1_000_000, ask.deadline_ns - now_ns)
        try:
            result = engine.infer(dict(ask.inputs), budget_s=budget_ns / NS_PER_S)
        except InputError:  # the window is not what the model takes: a fault of ours, and the score says so
            return None, Reason.BAD_SCORES
        if result.scores is None:
            return None, REASON_OF[result.failure or Failure.BAD_OUTPUT]
        return np.asarray(result.scores, dtype=np.float32).reshape(-1), None

    def look(self, now_ns: int) -> list[Effect]:
        """Notice engines that failed between two asks, golden vectors that passed, and answers of the cloud."""
        effects: list[Effect] = []
        for rung, engine in self._local.items():
            failure = engine.check()
            starting = failure is Failure.NOT_READY and not self._core.ladder.trust(rung).golden
            if failure is not None and not starting:
                effects += self._core.rung_failed(rung, REASON_OF[failure], now_ns)
            if not self._core.ladder.trust(rung).golden and engine.ready:
                effects += self._core.golden_passed(rung, now_ns)  # a worker reports ready after its golden vectors
        if self._cloud is not None:
            effects += self._look_at_cloud(self._cloud, now_ns)
        return effects

    def close(self) -> None:
        """Stop every engine of this device; the cloud's client belongs to whoever made it."""
        for engine in self._local.values():
            engine.stop()

    def heard(self, heard: Heard, now_ns: int) -> list[Effect]:
        """An answer of the cloud, to an ask or to a golden request."""
        if heard.key < 0:
            return self._golden(heard, now_ns)
        why = None if heard.failure is None else _reason(heard.failure)
        return self._core.answered(heard.key, heard.scores, why, now_ns)

    def _look_at_cloud(self, cloud: Cloud, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        for heard in cloud.client.heard():
            effects += self.heard(heard, now_ns)
        if self._core.ladder.cloud_to_prove and now_ns >= cloud.next_golden_ns:
            cloud.next_golden_ns = now_ns + GOLDEN_EVERY_NS
            self._golden_key -= 1
            inputs = {name: array[:1] for name, array in cloud.vectors.inputs.items()}
            cloud.client.ask(self._golden_key, ScoreRequest(cloud.sha256, inputs))
        return effects

    def _golden(self, heard: Heard, now_ns: int) -> list[Effect]:
        assert self._cloud is not None
        if heard.scores is None:
            return []
        if not self._cloud.vectors.agrees(0, heard.scores):
            return self._core.rung_failed(Mode.CLOUD, Reason.BAD_SCORES, now_ns)
        return self._core.golden_passed(Mode.CLOUD, now_ns)


def _reason(failure: CloudFailure) -> Reason:
    match failure:
        case CloudFailure.LATE:
            return Reason.LATE
        case CloudFailure.BAD_ANSWER:
            return Reason.BAD_SCORES
        case _:
            return Reason.CLOUD_DOWN
