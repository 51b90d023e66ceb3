"""The engine of a bundle that is not in charge, behind a thread: loaded, warmed and asked without anybody waiting.

``WarmEngine`` reads the bundle, starts its engine and answers one window after another, all in a thread of its own. It
loads in the scheduler's class for batch work, which never takes the processor from a process that wakes up, and the
engine stays there; where the caller is of a real-time class, the engine goes to the lowest of these once it is loaded,
so that its latency is one of service and still delays nobody of the caller's class. Its thread then is of the caller's
class: it does little, and the interpreter's lock must not wait behind other jobs. Whoever puts the bundle in charge
takes the engine over with ``release``, as warm as it is.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgeward.bedside.sched import BATCH, class_of, is_realtime, put, put_back, put_lowest
from edgeward.bedside.trial import resident_kib
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import EdgewardError, InputError
from edgeward.kernel.limits import CANDIDATE_HANG_MS, ENGINE_HANG_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward.bedside.charge.model import Model

Array = npt.NDArray[np.float32]


P_co = TypeVar("P_co", covariant=True)
T = TypeVar("T")

LOOK_S = 0.1
_STANDBY_NS = 60_000_000_000
MEMORY_EVERY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Scores (n,), or None where the engine gave none; ``infer_ns``: the whole call."""

    scores: Array | None
    infer_ns: int


class Warm(Protocol[P_co]):
    """The engine of one bundle, warm beside the one in charge. No call waits."""

    @property
    def model(self) -> Model[P_co] | None:
        """The bundle with its engine, once it was read."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the engine passed its golden vectors and can be asked."""
        ...

    @property
    def error(self) -> str:
        """The code of what keeps it from running; "" for nothing."""
        ...

    @property
    def idle(self) -> bool:
        """Whether it may be asked now."""
        ...

    @property
    def in_class(self) -> bool:
        """Whether its engine runs in a class like that of the caller, so that its latency says how it would serve."""
        ...

    @property
    def memory_kib(self) -> int:
        """Resident set of the engine's process; 0 while there is none."""
        ...

    def ask(self, inputs: Mapping[str, Array]) -> None:
        """Please score ``inputs``; only while it is ``idle``."""
        ...

    def answer(self) -> Answer | None:
        """What it answered since the last call, once."""
        ...

    def release(self) -> bool:
        """Let go of the engine, which belongs to the caller from now on; False while it is being asked."""
        ...

    def stop(self) -> None:
        """Stop the engine, behind the caller."""
        ...


class WarmEngine(Generic[T]):
    """The bundle in the file ``name``, which ``read`` reads, in a thread of its own; see ``Warm``."""

    def __init__(self, read: Callable[[], Model[T]], name: str, threads: int = 1) -> None:
        self._read, self._name = read, name
        self._threads = threads
        self._changed = threading.Condition()
        self._asked: Mapping[str, Array] | None = None
        self._answer: Answer | None = None
        self._at_work = True
        self._released = self._stopping = False
        self._classed: int | None = None
        self._memory_at_ns = 0
        self.model: Model[T] | None = None
        self.ready = self.in_class = False
        self.error = ""
        self.memory_kib = 0
        self._class = class_of(0)
        threading.Thread(target=self._run, name="shadow", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether it may be asked now."""
        with self._changed:
            return self.ready and self._asked is None and self._answer is None

    def ask(self, inputs: Mapping[str, Array]) -> None:
        """Please score ``inputs``; only while it is ``idle``."""
        with self._changed:
            self._asked = inputs
            self._changed.notify()

    def answer(self) -> Answer | None:
        """What it answered since the last call, once."""
        with self._changed:
            answer, self._answer = self._answer, None
            return answer

    def release(self) -> bool:
        """Let go of the engine, which belongs to the caller from now on; False while it is being asked."""
        with self._changed:
            engine = self.model.engine if self.model is not None else None
            if self._at_work or not self.ready or self._stopping or engine is None or engine.probing:
                return False
            self._released = True
            self._changed.notify()
        return True

    def stop(self) -> None:
        """Stop the engine, behind the caller."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    # --- the thread

    def _run(self) -> None:
        put(0, BATCH)  # this thread and every process that it starts
        try:
            model = self._read()
            engine = EngineHost(Path(self._name), threads=self._threads, standby=False)
            engine.hang_ms = CANDIDATE_HANG_MS
            engine.start(wait=False)
        except EdgewardError as error:
            self.error = error.code
        except OSError:
            self.error = "bundle-unreadable"
        except Exception:  # noqa: BLE001  (a bundle that breaks its reader must not be taken for one that loads for ever)
            self.error = "shadow-crashed"
        else:
            self.model = replace(model, engine=engine)
            self._serve(engine)

    def _serve(self, engine: EngineHost) -> None:
        if is_realtime(self._class):
            policy, priority = self._class
            put(0, (policy | os.SCHED_RESET_ON_FORK, priority))  # a process that it starts is not of it
        else:
            put(0, self._class)
        while True:
            self._look(engine)
            with self._changed:
                self._at_work = False
                if self._asked is None and not (self._stopping or self._released):
                    self._changed.wait(LOOK_S)
                if self._released:
                    return
                if self._stopping:
                    break
                asked, self._at_work = self._asked, True
            if asked is not None:
                answer = _infer(engine, asked)
                with self._changed:
                    self._asked, self._answer = None, answer
        engine.stop()

    def _look(self, engine: EngineHost) -> None:
        engine.check()
        error = engine.start_error
        self.error = error.code if error is not None else ""
        pid = engine.worker_pid
        self.ready = pid is not None
        if pid is not None and pid != self._classed:
            self._classed = pid
            self.in_class = is_realtime(self._class) and put_lowest(pid, ENGINE_HANG_MS)
            if not self.in_class:
                put(pid, BATCH)
        now_ns = time.monotonic_ns()
        if pid is None:
            self.memory_kib = 0
        elif now_ns - self._memory_at_ns >= MEMORY_EVERY_NS or not self.memory_kib:
            self._memory_at_ns = now_ns
            self.memory_kib = resident_kib(pid)


def _infer(engine: EngineHost, inputs: Mapping[str, Array]) -> Answer:
    """One that is late is no failure, but slow, which its latency says."""
    try:
        result = engine.infer(inputs, budget_s=CANDIDATE_HANG_MS / 1000.0)
    except InputError:  # the window is not what the model takes
        return Answer(None, 0)
    scores = None if result.scores is None else np.asarray(result.scores, dtype=np.float32).reshape(-1)
    return Answer(scores, result.infer_ns)


def take_charge(engine: EngineHost) -> None:
    """Put an engine that was warm beside the one in charge into the caller's class, and have a standby beside it.

    The standby loads in the class for batch work, behind the caller, and comes into the caller's when it is ready.
    """
    engine.hang_ms = ENGINE_HANG_MS
    held = class_of(0)
    if engine.worker_pid is not None:
        put_back(engine.worker_pid, held)

    def stand_by() -> None:
        put(0, BATCH)  # this thread and the process that it starts
        engine.stand_by(True)
        until_ns = time.monotonic_ns() + _STANDBY_NS
        while not engine.state.standby and time.monotonic_ns() < until_ns:
            time.sleep(LOOK_S)
            engine.check()
        for pid in (engine.worker_pid, engine.standby_pid):
            if pid is not None:
                put(pid, held)

    try:
        threading.Thread(target=stand_by, name="standby", daemon=True).start()
    except RuntimeError:  # the system gives no thread now
        engine.stand_by(True)
