"""What people read, in the console and by REST: one sentence for every word that a device or a rollout can say."""

from __future__ import annotations

from edgeward.exchange.words import Rung, UpdateState, Why
from edgeward.fleet.conduct.look import PROVEN, UNHEARD
from edgeward.fleet.rollout.words import Cause, Standing, Status

STATUS = {
    Status.DRAFT: "waits for approval",
    Status.APPROVED: "approved, begins in its next maintenance hours",
    Status.RUNNING: "running",
    Status.PAUSED: "paused: no device gets an order",
    Status.COMPLETED: "completed",
    Status.ABORTED: "aborted: every order is withdrawn",
    Status.HALTED: "halted by its gates: every order is withdrawn",
}
CAUSE = {
    Cause.BY_HAND: "by hand",
    Cause.SUPERSEDED: "a newer rollout of the family began",
    Cause.STAGE_EMPTY: "no device that the stage asks for could be reached",
    Cause.STAGE_ENDED: (
        "every device of the stage was revoked or called lost, so nothing can be judged; resumed, it takes others"
    ),
    Cause.STAGE_OVERDUE: "the stage did not reach its success share in its time",
    Cause.TOO_MANY_ERRORS: "more devices failed or fell silent than the stage allows",
    Cause.SUCCESS_UNREACHABLE: "so many failed or fell silent that the success share cannot be reached",
    Cause.CATCH_UP_ERRORS: "too many of the devices that follow later failed",
    Cause.COUNTS_BROKEN: "the counts do not add up, so no gate can be judged",
}
STANDING = {
    Standing.WORKING: "on the way",
    Standing.COMMITTED: "committed",
    Standing.FAILED: "failed, never served",
    Standing.ROLLED_BACK: "rolled back",
    Standing.UNPROVEN: "without proof",
    Standing.SILENT: "silent",
    Standing.WITHDRAWN: "withdrawn",
    Standing.OFFLINE: "offline before",
    Standing.ALREADY: "had it already",
    Standing.ENDED: "ended: revoked or lost",
    Standing.WAITING: "waits for its turn",
}
STATE = {
    UpdateState.IDLE: "idle",
    UpdateState.OFFERED: "offered",
    UpdateState.DOWNLOADING: "downloading",
    UpdateState.VERIFIED: "verified",
    UpdateState.STAGED: "runs as a shadow",
    UpdateState.ACTIVATED: "activated",
    UpdateState.SOAKING: "serves, watched",
    UpdateState.COMMITTED: "committed",
    UpdateState.ROLLED_BACK: "rolled back",
    UpdateState.FAILED: "failed",
}
RUNG = {
    Rung.LOCAL: "AI on the device",
    Rung.LOCAL_PREVIOUS: "previous AI on the device",
    Rung.CLOUD: "AI of the hospital's server",
    Rung.THRESHOLD_ONLY: "threshold alerts only",
    Rung.NO_AI: "no AI",
}
WHY = {
    Why.OTHER: "another reason: see the device's own log",
    Why.WINDOW_CLOSED: "waits for its maintenance window",
    Why.BED_IN_USE: "waits for a safe moment at its beds",
    Why.NO_INPUT: "waits for input to be compared on",
    Why.UNREACHABLE: "could not reach the repository",
    Why.NOT_SIGNED: "signed metadata do not name this bundle",
    Why.TRUST: "signatures were refused",
    Why.CLOCK: "the device's clock is wrong",
    Why.DOWNLOAD_HASH: "the downloaded bytes were not the signed ones",
    Why.DELTA_UNFIT: "the delta did not fit its bundle",
    Why.DISK_FULL: "the device's disk is full",
    Why.DISK_ERROR: "the device's disk failed",
    Why.BUNDLE_REFUSED: "the bundle is not fit for this device",
    Why.BUNDLE_OLDER: "the bundle is older than the one in use",
    Why.REFUSED_BEFORE: "the device refused this bundle before",
    Why.GOLDEN_FAILED: "golden vectors gave other scores on the device",
    Why.TOO_SLOW: "too slow on the device",
    Why.MEMORY: "too much memory on the device",
    Why.TRIAL_CRASHED: "its engine crashed in the trial",
    Why.SHADOW_DISAGREES: "as a shadow it disagreed too often",
    Why.SHADOW_FAILED: "as a shadow it failed",
    Why.NO_SAFE_MOMENT: "no safe moment came",
    Why.SOAK_FAILED: "it failed while it served and was watched",
    Why.WITHDRAWN: "the order was withdrawn",
    Why.INTERRUPTED: "cut short by reboots too often",
}
_MORE = {
    UNHEARD: "no check-in since it was chosen",
    PROVEN: "says committed, and its evidence is missing or breaks the plan",
    "": "no reason given",
}


def status_words(status: str) -> str:
    """Of a status."""
    return STATUS[Status(status)]


def cause_words(cause: str) -> str:
    """Of a cause; "" for none."""
    return CAUSE[Cause(cause)] if cause else ""


def standing_words(standing: str) -> str:
    """Of a standing."""
    return STANDING[Standing(standing)]


def state_words(state: str) -> str:
    """Of an update's state; "" where the device said nothing yet."""
    return STATE[UpdateState(state)] if state else "no word yet"


def rung_words(rung: str) -> str:
    """Of a rung."""
    return RUNG[Rung(rung)]


def why_words(why: str) -> str:
    """Of a reason."""
    return _MORE[why] if why in _MORE else WHY[Why(why)]
