"""The words of a rollout: where it stands, where one device stands in it, and why it stopped."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a rollout stands.

    ::

        DRAFT → APPROVED (a second person) → RUNNING ⇄ PAUSED → COMPLETED → (catching up, may still be HALTED)
          ╰────────────┴──────────────────────┴────────┴─→ ABORTED (by hand, or a newer one)
                                              ╰─→ HALTED (by its own gates)
    """

    DRAFT = "draft"
    APPROVED = "approved"
    """It begins at its next maintenance hours."""
    RUNNING = "running"
    PAUSED = "paused"
    """Nobody gets an order; a device that has one goes on."""
    COMPLETED = "completed"
    """Every device that could be reached is judged; those that come later are caught up."""
    ABORTED = "aborted"
    HALTED = "halted"
    """A gate closed: every order is withdrawn, and devices that had committed go back."""


CLOSED = frozenset({Status.ABORTED, Status.HALTED})
"""Orders are withdrawn."""


class Standing(StrEnum):
    """Where one device stands in one rollout. Every device is in exactly one, and counted there."""

    WORKING = "working"
    """Its turn has come, and it is not at an end: it may wait for its bed, download, run as a shadow, soak."""
    COMMITTED = "committed"
    """It says so, with evidence that keeps to the plan."""
    FAILED = "failed"
    """The candidate never served."""
    ROLLED_BACK = "rolled-back"
    UNPROVEN = "unproven"
    """It says committed, and its evidence is missing or does not keep to the plan: an error."""
    SILENT = "silent"
    """No check-in for the limit since it was chosen: an error until it is heard again."""
    WITHDRAWN = "withdrawn"
    OFFLINE = "offline"
    """Silent before its stage opened: counted apart, caught up later."""
    ALREADY = "already"
    """It ran the release before it was chosen: counted apart, proves nothing."""
    ENDED = "ended"
    """Revoked or called lost by an operator while it was on its way: counted apart, it says nothing of the release."""
    WAITING = "waiting"
    """Chosen, and its turn comes when more have committed: no order, and in no share yet."""


ERRORS = (Standing.FAILED, Standing.ROLLED_BACK, Standing.UNPROVEN, Standing.SILENT)
APART = (Standing.WITHDRAWN, Standing.OFFLINE, Standing.ALREADY, Standing.ENDED, Standing.WAITING)
"""Neither success nor error."""


class Cause(StrEnum):
    """Why a rollout is paused, aborted or halted."""

    BY_HAND = "by-hand"
    SUPERSEDED = "superseded"
    """A newer rollout of the family began."""
    STAGE_EMPTY = "stage-empty"
    """No device that the stage asks for could be reached."""
    STAGE_ENDED = "stage-ended"
    """Every device of the stage was revoked or called lost, so there is nothing to judge it by."""
    STAGE_OVERDUE = "stage-overdue"
    """The stage did not reach its success share in the time it has."""
    TOO_MANY_ERRORS = "too-many-errors"
    SUCCESS_UNREACHABLE = "success-unreachable"
    """So many devices failed or fell silent that the success share cannot be reached any more."""
    CATCH_UP_ERRORS = "catch-up-errors"
    COUNTS_BROKEN = "counts-broken"
    """The counts do not add up, so no gate can be judged."""
