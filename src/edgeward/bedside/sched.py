"""The scheduler's classes, where the system has them: which one a process is of (0: the caller's thread)."""

from __future__ import annotations

import os
import resource

Held = tuple[int, int]
"""Policy and priority."""
BATCH: Held = (getattr(os, "SCHED_BATCH", -1), 0)
"""For work that never takes the processor from a process that wakes up; the system refuses it where there is none."""
ORDINARY: Held = (getattr(os, "SCHED_OTHER", -1), 0)
LOWEST: Held = (getattr(os, "SCHED_RR", -1), 1)
"""The lowest of the real-time classes."""


def class_of(pid: int) -> Held:
    """The class of a process; ``BATCH`` where that cannot be known."""
    try:
        return os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority
    except (OSError, AttributeError):
        return BATCH


def is_realtime(held: Held) -> bool:
    """Whether processes of this class run before all that are not."""
    return held[1] > 0


def put(pid: int, held: Held) -> bool:
    """Put a process into a class; whether the system allowed it."""
    try:
        os.sched_setscheduler(pid, held[0], os.sched_param(held[1]))
    except (OSError, AttributeError):
        return False
    return True


def put_lowest(pid: int, run_ms: int) -> bool:
    """Put a process into the lowest real-time class, where it ends if it runs ``run_ms`` without ever waiting.

    So one that never ends does not keep the processor from the rest, however patient its caller is. False, and its
    class is what it was, where the system does not allow both.
    """
    return _end_after(pid, run_ms * 1000) and put(pid, LOWEST)


def put_back(pid: int, held: Held) -> bool:
    """Put a process that was ``put_lowest`` into another class, and let it run as long as the system does."""
    is_free = _end_after(pid, None)
    return put(pid, held) and is_free


def _end_after(pid: int, run_us: int | None) -> bool:
    """``RLIMIT_RTTIME`` of getrlimit(2): processor time in a real-time class since the last call that blocked."""
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
        resource.prlimit(pid, resource.RLIMIT_RTTIME, (hard if run_us is None else run_us, hard))
    except (AttributeError, OSError, ValueError):
        return False
    return True
