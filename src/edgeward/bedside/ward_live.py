"""The rim's end of an update while beds are watched: what is in charge, what shall be, and what was heard of it.

``WardLive`` is the port ``updating.live.Live`` of one task. Whoever updates calls it from a thread of its own: every
call sets what shall be, or reads what was heard, and never waits. The loop takes what is new with ``due``, tells the
process that runs the task, and gives back what that says with ``heard``. What the rim knows of this is what the process
is started with should it die: a shadow ends with the process, what is in charge stays in charge.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import TaskSettings
from edgeward.bedside.updating.live import Serving, Shadow
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeward.bedside.slot import Slot
    from edgeward.kernel.clock import Clock

BACK_NS_MAX = 10 * NS_PER_S
"""A process that was not heard to have gone back by then cannot: what is asked for since is its way out."""
HEARD_NS_MAX = 3 * NS_PER_S
"""A process that has not said for so long which bundle is in charge cannot vouch for a safe moment."""


class WardLive:
    """One task; see ``updating.live.Live`` for what each call of the first group means.

    ``charge`` and ``before``: the bundles in the slots at the start; ``wake``: called when there is something to tell.
    """

    def __init__(
        self, task: str, charge: Slot | None, before: Slot | None, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self.task = task
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._charge, self._before = charge, before
        self._candidate: Slot | None = None
        self._wanted: Slot | None = None
        """What shall take over from ``_charge`` and was not yet heard to have done so."""
        self._returning_ns: int | None = None
        """Since when the process was not heard to have gone back: what is asked for meanwhile waits until it has, or
        cannot."""
        self._turn = 0
        self._untold = False
        self._unaudited: dict[str, Any] | None = None
        self._swapped = False
        """The bundle that was activated last took over: there is something to go back from."""
        self._shadow = self._past = Shadow()
        """How the candidate compares, and did in processes before this one."""
        self._again = False
        """The candidate ran in a process that is gone, and is to run in the next one."""
        self._gone = True
        """No process has been heard since the last one was lost."""
        self._serving = Serving(charge.sha256 if charge is not None else "", down=True)
        self._counted = (0, 0)
        """Scores and failures of processes before this one, since the bundle took charge."""
        self._lost = charge is not None
        """The bundle in charge has not served since the start, or since its process failed."""
        self._served = False
        """It has served in this process."""
        self._safe = False
        self._heard_ns: int | None = None

    # --- from the thread that updates

    def begin_shadow(self, candidate: Slot, *, again: bool = False) -> None:
        """Start the candidate's engine and let it score what the current one scores, its scores shown to nobody.

        ``again``: in a new process, because the one before is gone; what was compared is kept.
        """
        with self._lock:
            self._call_off()
            self._candidate = candidate
            if not again:
                self._shadow, self._again = Shadow(), False
            self._past = self._shadow
            self._say()
        self._wake()

    @property
    def shadowed(self) -> bool:
        """Whether a candidate shall run: a process that is lost ends it."""
        with self._lock:
            return self._candidate is not None

    def shadow(self) -> Shadow:
        """How it compares since ``begin_shadow``."""
        with self._lock:
            return self._shadow

    @property
    def runs_again(self) -> bool:
        """Whether the candidate ran in a process that is gone, and was not heard of in the next one yet."""
        with self._lock:
            return self._again

    @property
    def gone(self) -> bool:
        """Whether no process has been heard since the start, or since the last one was lost."""
        with self._lock:
            return self._gone

    def end_shadow(self) -> None:
        """Stop the candidate's engine, if one runs that is not in charge; call off a takeover that did not come."""
        with self._lock:
            if self._candidate is None and self._wanted is None:
                return
            self._call_off()
            self._shadow = replace(self._shadow, running=False)
            self._say()
        self._wake()

    def safe(self) -> bool:
        """Whether a swap now would take nothing from a bed, as far as the process has said in the last seconds."""
        with self._lock:
            heard_ns = self._heard_ns
            return self._safe and heard_ns is not None and self._clock.monotonic_ns() - heard_ns <= HEARD_NS_MAX

    def activate(self, candidate: Slot, *, at_rest: bool = False) -> None:
        """Put the candidate in charge at the next safe moment; ``serving`` tells when it is.

        ``at_rest``: now, for there is no process that has another: the next one starts with it.
        """
        with self._lock:
            if any(slot is not None and slot.sha256 == candidate.sha256 for slot in (self._charge, self._wanted)):
                return
            if at_rest:
                self._unaudited = swap_facts(self.task, self._charge, candidate, "update")
                self._before, self._charge, self._swapped = self._charge, candidate, True
                self._wanted = self._candidate = None
                self._take_count(candidate)
            else:
                self._undo()
                self._wanted, self._swapped = candidate, False
            self._say()
        self._wake()

    def serving(self) -> Serving:
        """What is in charge now, and how it did since it took charge."""
        with self._lock:
            return self._serving

    def go_back(self) -> None:
        """Put the one before in charge again, at once, and stop the candidate; a takeover under way is undone.

        Where there was none before, none is in charge again.
        """
        with self._lock:
            if self._wanted is None:
                if not self._swapped:  # it never took over: a process that died forgot it
                    return
                self._unaudited = swap_facts(self.task, self._charge, self._before, "returned")
                self._charge, self._before, self._swapped = self._before, None, False
            self._candidate = self._wanted = None
            self._shadow = replace(self._shadow, running=False)
            self._go_back()
        self._wake()

    # --- from the rim's loop

    def due(self) -> TaskSettings | None:
        """What the process has to be told, once."""
        with self._lock:
            if not self._untold:
                return None
            self._untold = False
            return self._present()

    def present(self) -> TaskSettings:
        """What the process has to be told now, whether it was or not: a stream's starts with it."""
        with self._lock:
            self._untold = False
            return self._present()

    def settings(self) -> TaskSettings:
        """What a new process is started with: what is in charge, and the one before."""
        with self._lock:
            return self._settings(None)

    def placed(self, charge: Slot | None, before: Slot | None, *, tell: bool = False) -> None:
        """Other bundles are in charge: the process is started anew with them, or with ``tell`` takes them at once."""
        with self._lock:
            self._charge, self._before, self._swapped = charge, before, False
            self._take_count(charge)
            self._lost = charge is not None
            self._begin_anew()
            if tell:
                self._go_back()

    @property
    def charge(self) -> Slot | None:
        """The bundle that is in charge."""
        with self._lock:
            return self._charge

    def heard(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a ``serving`` message; what is to be audited: a bundle took over."""
        sha256, turn = str(data["sha256"]), int(data["turn"])
        scores, failures, served, down, safe = (data[name] for name in ("scores", "failures", "served", "down", "safe"))
        with self._lock:
            if turn != self._turn:
                return []  # it answers what was told before
            self._heard_ns, self._safe, self._gone = self._clock.monotonic_ns(), bool(safe), False
            told = []
            if self._wanted is not None and sha256 == self._wanted.sha256:
                told.append(swap_facts(self.task, self._charge, self._wanted, "update"))
                self._before, self._charge, self._swapped = self._charge, self._wanted, True
                self._wanted = self._candidate = None
                self._counted, self._lost = (0, 0), False
                self._shadow = replace(self._shadow, running=False)
            is_charge = sha256 == ("" if self._charge is None else self._charge.sha256)
            if self._unaudited is not None and is_charge:
                told.append(self._unaudited)
                self._unaudited, self._counted = None, (0, 0)
            since_ns = self._returning_ns
            if since_ns is not None and (is_charge or self._heard_ns - since_ns > BACK_NS_MAX):
                self._returning_ns = None
                if self._wanted is not None or self._candidate is not None:
                    self._say()
            self._served = bool(served)
            self._lost = self._lost and not served
            before, down = self._counted, bool(down) or self._lost
            self._serving = Serving(sha256, before[0] + int(scores), before[1] + int(failures), down)
            if data["shadow"] is not None and self._candidate is not None:
                self._shadow = _together(self._past, _shadow(data["shadow"]))
                self._again = self._again and not (self._shadow.running or data["shadow"]["code"])
            return told

    def lost(self, *, failed: bool) -> None:
        """The process is gone, and with it the shadow; one that ``failed`` counts against what is in charge."""
        with self._lock:
            ran, served = self._shadow.running, self._served
            self._again |= ran
            if ran and failed:
                self._shadow = replace(self._shadow, failed=self._shadow.failed + 1)
            self._begin_anew()
            self._say()  # the next one may have been started before this was known
            self._served, self._gone = False, True
            failed = failed and served  # one that had not served says nothing of the bundle
            self._lost |= failed
            now = self._serving
            self._serving = replace(now, failures=now.failures + failed, down=now.down or failed)
            self._counted = (self._serving.scores, self._serving.failures)

    # --- inside, with the lock held

    def _go_back(self) -> None:
        self._returning_ns = self._clock.monotonic_ns()
        self._say()

    def _call_off(self) -> None:
        """Neither a shadow nor a takeover is wanted any more; one under way may just have come about."""
        self._undo()
        self._candidate = self._wanted = None

    def _undo(self) -> None:
        if self._wanted is not None:
            self._returning_ns = self._clock.monotonic_ns()

    def _begin_anew(self) -> None:
        self._candidate = self._wanted = None
        self._shadow = replace(self._shadow, running=False)
        self._safe = self._untold = False
        self._returning_ns = None

    def _take_count(self, charge: Slot | None) -> None:
        """Another bundle is in charge: it has neither scored nor failed yet."""
        self._counted, self._lost = (0, 0), False
        self._serving = Serving("" if charge is None else charge.sha256)

    def _present(self) -> TaskSettings:
        if self._returning_ns is not None:
            return self._settings(None)
        if self._wanted is None:
            return self._settings(self._candidate)
        return replace(self._settings(None), bundle=str(self._wanted.path), sha256=self._wanted.sha256)

    def _say(self) -> None:
        self._turn += 1
        self._untold = True

    def _settings(self, shadow: Slot | None) -> TaskSettings:
        named = {
            **_named(self._charge, "bundle", "sha256"),
            **_named(self._before, "previous", "previous_sha256"),
            **_named(shadow, "shadow", "shadow_sha256"),
        }
        return TaskSettings(self.task, at_once=self._returning_ns is not None, turn=self._turn, **named)


def _named(slot: Slot | None, path: str, sha256: str) -> dict[str, str]:
    return {} if slot is None else {path: str(slot.path), sha256: slot.sha256}


def swap_facts(task: str, before: Slot | None, after: Slot | None, why: str) -> dict[str, Any]:
    """The audit's facts of a takeover: ``why`` is update, returned or refused."""
    old, new = [("", "") if slot is None else (slot.version, slot.sha256) for slot in (before, after)]
    return {
        "task": task,
        "version": new[0],
        "sha256": new[1],
        "from": old[0],
        "from_sha256": old[1],
        "reason": why,
    }


def _together(past: Shadow, now: Shadow) -> Shadow:
    """What one candidate came to in processes of the past and in this one."""
    return replace(
        now,
        windows=past.windows + now.windows,
        disagreed=past.disagreed + now.disagreed,
        failed=past.failed + now.failed,
        latency_us=max(past.latency_us, now.latency_us),
        memory_kib=max(past.memory_kib, now.memory_kib),
    )


def _shadow(data: Mapping[str, Any]) -> Shadow:
    failed = int(data["failed"]) + bool(data["code"])
    return Shadow(
        bool(data["running"]),
        int(data["windows"]),
        int(data["disagreed"]),
        failed,
        int(data["latency_us"]),
        int(data["memory_kib"]),
    )
