"""The health gate: what a candidate must show on this device before it serves, and while it does. Pure.

Golden vectors, latency and memory come from ``bedside.trial``; here stands what every finding means for the update,
and how much a shadow or a soak may differ or fail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.bedside.updating.happening import Compared, Fails, Held, Serves, Waits
from edgeward.exchange.words import Why
from edgeward.kernel.errors import BundleError, EdgewardError, TrustError

if TYPE_CHECKING:
    from edgeward.bedside.slot import Slot
    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.updating.live import Serving, Shadow
    from edgeward.exchange.checkin import Evidence, Order
    from edgeward.trust.offer import Offer

SHADOW_WINDOWS_MIN = 50
"""Fewer windows say nothing about a bound of some percent."""
ACTIVATE_S_MAX = 300
"""A candidate that was put in charge and has not taken charge by then is not waited for: its moment passed."""
DOWN_S_MAX = 20
"""A candidate in charge whose rung does not serve for so long after its probation does not come back. Going back sooner
would help no bed: the rung of the bundle before has the same probation to pass."""
FAILURES_FREE = 1
FAILURES_PER = 100
"""A candidate may fail once, and once more for every so many windows."""

_TRIAL = {
    "golden-failed": Why.GOLDEN_FAILED,
    "trial-too-slow": Why.TOO_SLOW,
}
_WHY = {
    "repository-unreachable": Why.UNREACHABLE,
    "download-refused": Why.UNREACHABLE,
    "bundle-not-published": Why.NOT_SIGNED,
    "clock-behind": Why.CLOCK,
    "download-hash": Why.DOWNLOAD_HASH,
    "download-too-long": Why.DOWNLOAD_HASH,
    "disk-full": Why.DISK_FULL,
    "disk-error": Why.DISK_ERROR,
}


def why_of(error: EdgewardError) -> Why:
    """The word for what kept a bundle from being asked for, fetched or staged."""
    if error.code in _WHY:
        return _WHY[error.code]
    if isinstance(error, TrustError):
        return Why.TRUST
    return Why.BUNDLE_REFUSED if isinstance(error, BundleError) else Why.OTHER


def fails_of(error: EdgewardError) -> Fails:
    """That ``error`` happened; all but a bundle that is none may be mended by time."""
    return Fails(why_of(error), not isinstance(error, BundleError), error.code, str(error))


def judge_offer(offer: Offer, order: Order, active: Slot | None, refused: str) -> Fails | None:
    """Why what is signed is not what was ordered, or not for this device; None when it is.

    ``refused``: why this device refused that bundle before, or empty.
    """
    if (offer.sha256, offer.version) != (order.sha256, order.version):
        told = (
            f"version {order.version} was ordered and signed metadata name another bundle ({offer.version}); "
            "publish it, or withdraw the order"
        )
        return Fails(Why.NOT_SIGNED, True, Why.NOT_SIGNED.value, told)  # the metadata may only be late
    if refused:
        told = f"version {offer.version} was refused on this device before ({refused}); publish a better one"
        return Fails(Why.REFUSED_BEFORE, code=refused, message=told)
    if active is None or active.name != offer.name or offer.is_return or not offer.is_older_than(active.version):
        return None
    told = (
        f"version {offer.version} is older than {active.version} in use, and the publisher did not say that a return "
        "is meant; publish it as a return"
    )
    return Fails(Why.BUNDLE_OLDER, code=Why.BUNDLE_OLDER.value, message=told)


def judge_trial(result: TrialResult, memory_kib_max: int = 0) -> Fails | None:
    """What a trial that did not pass means; None for one that did, within ``memory_kib_max`` (0: any).

    A device that is busy for a minute must not bar a bundle for ever: only a latency is measured again.
    """
    evidence = result.evidence
    if result.passed and 0 < memory_kib_max < evidence.memory_kib:
        return Fails(Why.MEMORY, False, Why.MEMORY.value, _too_much(evidence.memory_kib, memory_kib_max), evidence)
    if result.passed and evidence.golden_vectors:
        return None
    code = result.code or "trial-failed"
    why = _TRIAL.get(code, Why.TRIAL_CRASHED)
    return Fails(why, why is Why.TOO_SLOW, code, result.message, evidence)


def judge_shadow(
    shadow: Shadow, order: Order, evidence: Evidence, elapsed_s: float, *, ran: bool, memory_kib_max: int
) -> Compared | Waits | Fails | None:
    """Whether the candidate that runs beside the current one for ``elapsed_s`` agrees; None while it has time.

    It needs its time and ``SHADOW_WINDOWS_MIN`` windows; failures, and memory over ``memory_kib_max`` (0: any), end it
    sooner. ``ran``: its engine has run before; one that never came to run is waited for, since that may be the device's
    fault.
    """
    evidence = replace(
        evidence,
        shadow_windows=shadow.windows,
        shadow_disagreed=shadow.disagreed,
        latency_us=max(evidence.latency_us, shadow.latency_us),
        memory_kib=max(evidence.memory_kib, shadow.memory_kib),
    )
    if not shadow.running and ran:
        return _shadow_fails(Why.SHADOW_FAILED, "its engine ended beside the current one", evidence)
    if _too_many(shadow.failed, shadow.windows + shadow.failed):
        told = f"it failed on {shadow.failed} windows that the current one scored"
        return _shadow_fails(Why.SHADOW_FAILED, told, evidence)
    if 0 < memory_kib_max < shadow.memory_kib:
        told = _too_much(shadow.memory_kib, memory_kib_max)
        return Fails(Why.MEMORY, False, Why.MEMORY.value, told, evidence)
    if elapsed_s < order.shadow_s:
        return None
    if shadow.windows < SHADOW_WINDOWS_MIN:
        told = f"it waits for patients: fewer than the {SHADOW_WINDOWS_MIN} windows that are needed were compared"
        return Waits(Why.NO_INPUT, told)
    if shadow.latency_us > evidence.deadline_us:
        limit_us = evidence.deadline_us
        told = f"scoring takes {shadow.latency_us} µs beside the current one, its deadline is {limit_us} µs"
        return _shadow_fails(Why.TOO_SLOW, told, evidence)
    if shadow.disagreed * 1_000_000 > order.disagree * shadow.windows:
        told = f"it differs beyond its bound on {shadow.disagreed} of {shadow.windows} windows"
        return _shadow_fails(Why.SHADOW_DISAGREES, told, evidence)
    return Compared(evidence)


def judge_start(serving: Serving, order: Order, elapsed_s: float) -> Serves | Fails | None:
    """Whether the candidate took charge; None while it may still."""
    if serving.sha256 == order.sha256:
        return Serves()
    if elapsed_s < ACTIVATE_S_MAX:
        return None
    told = "it was put in charge and found no moment to take it; the bundle before stays in use"
    return Fails(Why.NO_SAFE_MOMENT, False, Why.NO_SAFE_MOMENT.value, told)


def judge_soak(
    serving: Serving, order: Order, evidence: Evidence, elapsed_s: float, down_s: float, dwell_s: float
) -> Held | Fails | None:
    """Whether the candidate that has been in charge for ``elapsed_s`` may be committed; None while it is soaking.

    ``down_s``: how long its rung has not served without a break; ``dwell_s``: its probation after a failure.
    """
    if serving.sha256 != order.sha256:
        return _soak_fails("another bundle took its place")
    if down_s >= dwell_s + DOWN_S_MAX:
        return _soak_fails("it does not serve any more")
    if _too_many(serving.failures, serving.scores + serving.failures):
        return _soak_fails(f"it failed {serving.failures} times and gave {serving.scores} scores")
    if elapsed_s < order.soak_s or serving.down:
        return None
    return Held(replace(evidence, soak_s=int(elapsed_s)))


def _too_many(failures: int, of: int) -> bool:
    return failures > FAILURES_FREE + of // FAILURES_PER


def _too_much(memory_kib: int, memory_kib_max: int) -> str:
    return (
        f"its engine holds {memory_kib >> 10} MiB on this device, the limit is {memory_kib_max >> 10} MiB; the bundle "
        "in use stays in use, publish a smaller model for such devices, or raise the device's limit"
    )


def _shadow_fails(why: Why, told: str, evidence: Evidence) -> Fails:
    message = f"{told}; the bundle in use stays in use, publish a better one"
    return Fails(why, False, why.value, message, evidence)


def _soak_fails(told: str) -> Fails:
    message = f"{told}; the bundle before serves again, publish a better one"
    return Fails(Why.SOAK_FAILED, False, Why.SOAK_FAILED.value, message)
