"""What a device says of its update, judged against the plan: success is only what is committed and proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.exchange.words import UpdateState, Why
from edgeward.fleet.rollout.plan import WHOLE
from edgeward.fleet.rollout.words import Standing

if TYPE_CHECKING:
    from edgeward.exchange.checkin import CheckIn, Evidence, FamilyReport, Progress
    from edgeward.fleet.rollout.plan import Plan
    from edgeward.fleet.rollout.state import Rollout


def report_of(check_in: CheckIn, family: str) -> FamilyReport | None:
    """What a check-in says of one family."""
    return next((report for report in check_in.families if report.family == family), None)


def held_by(check_in: CheckIn, family: str) -> str:
    """The hash of the family's current bundle on the device, "" for none."""
    report = report_of(check_in, family)
    return report.current.sha256 if report is not None and report.current is not None else ""


def progress_in(rollout: Rollout, check_in: CheckIn) -> Progress | None:
    """What the device says of this very rollout and release, if it says anything."""
    report = report_of(check_in, rollout.release.family)
    progress = None if report is None else report.progress
    if progress is None or (progress.rollout, progress.sha256) != (rollout.id, rollout.release.sha256):
        return None
    return progress


def standing_of(rollout: Rollout, progress: Progress, held: str) -> Standing:
    """Where that puts the device. ``held``: hash of the bundle it says is in use."""
    if progress.why is Why.WITHDRAWN and progress.state is not UpdateState.COMMITTED and rollout.withdraws:
        return Standing.WITHDRAWN  # whether it served already or not; else nobody asked it to give up
    match progress.state:
        case UpdateState.COMMITTED:
            proven = held == rollout.release.sha256 and (
                bool(rollout.undoes) or is_proven(progress.evidence, rollout.plan)
            )
            return Standing.COMMITTED if proven else Standing.UNPROVEN
        case UpdateState.ROLLED_BACK:
            return Standing.ROLLED_BACK
        case UpdateState.FAILED:
            return Standing.FAILED
        case _:
            return Standing.WORKING


def is_proven(evidence: Evidence, plan: Plan) -> bool:
    """Whether the device's own gates measured enough, and well enough. A figure that is missing proves nothing."""
    return (
        evidence.golden_vectors >= 1
        and 1 <= evidence.latency_us <= evidence.deadline_us
        and evidence.soak_s >= plan.soak_s
        and evidence.shadow_windows >= plan.shadow_windows
        and evidence.shadow_disagreed * WHOLE <= plan.disagree * evidence.shadow_windows
    )
