"""One update, from the question "is there a new bundle?" to its commit or the return to the one before.

::

    ask (TUF) → already active, or refused before? → older? → room? → download → stage → read → trial → commit
                                                                                               ↘ revert

Whatever fails, wherever, the active bundle stays active, and the outcome says why in one code.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.trial import TrialResult
from edgeward.kernel.errors import BundleError, EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.slot import Slot, SlotStore
    from edgeward.trust.download import DownloadReport
    from edgeward.trust.offer import Offer


class Fetcher(Protocol):
    """Where bundles come from; ``trust.fetch.TrustClient`` is one."""

    def latest(self, name: str) -> Offer:
        """The current bundle of ``name``, proven by signed metadata."""
        ...

    def download(self, offer: Offer, dest: Path) -> DownloadReport:
        """Put the offered bundle at ``dest``, checked against the signed hash."""
        ...


class UpdateKind(StrEnum):
    """What an update came to."""

    INSTALLED = "installed"
    UNCHANGED = "unchanged"
    """Nothing new."""
    REFUSED = "refused"
    """The bundle on offer is not for this device: older, damaged, mismatched or refused before."""
    RETURNED = "returned"
    """The bundle failed its trial on this device; the one before runs on."""
    FAILED = "failed"
    """It could not be asked for, fetched or written now; a later run may succeed."""


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """The end of one update; ``active`` is what runs now, ``code`` is empty for installed and unchanged."""

    kind: UpdateKind
    active: Slot | None
    code: str = ""
    message: str = ""
    offered: str = ""
    """The version on offer, empty when none was seen."""


def check_and_install(
    fetcher: Fetcher,
    slots: SlotStore,
    name: str,
    trial: Callable[[Path], TrialResult],
    *,
    retry_refused: bool = False,
) -> UpdateOutcome:
    """Install the current bundle of ``name`` if it is new and passes ``trial`` on this device.

    ``trial`` gets the staged bundle's path and runs the golden vectors and the latency check on the device's own
    engine; an exception from it is a failed trial. ``slots`` must be open. Never raises for an ``EdgewardError``: it
    becomes the outcome. ``KeyboardInterrupt`` and other ``BaseException`` pass through after the trial was abandoned.
    """
    offer: Offer | None = None
    try:
        offer = fetcher.latest(name)
        standing = _standing(slots, offer, retry_refused=retry_refused)
        if standing is not None:
            return standing
        return _install(fetcher, slots, offer, trial)
    except EdgewardError as error:
        _abandon(slots)
        kind = UpdateKind.REFUSED if isinstance(error, BundleError) else UpdateKind.FAILED
        return _outcome(slots, kind, offer, error.code, str(error))
    except BaseException:
        _abandon(slots)
        raise


def _abandon(slots: SlotStore) -> None:
    with contextlib.suppress(EdgewardError):  # when even this fails, opening the slots again undoes the trial
        slots.abandon()


def _standing(slots: SlotStore, offer: Offer, *, retry_refused: bool) -> UpdateOutcome | None:
    """The outcome when there is nothing to install, else None."""
    active = slots.active()
    if active is not None and active.sha256 == offer.sha256:
        return _outcome(slots, UpdateKind.UNCHANGED, offer)
    refused = slots.refused(offer.sha256)
    if refused and not retry_refused:
        return _outcome(
            slots,
            UpdateKind.REFUSED,
            offer,
            refused,
            f"version {offer.version} was refused on this device before ({refused}); publish a better one, "
            "or ask for a new trial",
        )
    if active is not None and active.name == offer.name and offer.is_older_than(active.version) and not offer.is_return:
        return _outcome(
            slots,
            UpdateKind.REFUSED,
            offer,
            "bundle-older",
            f"version {offer.version} is older than {active.version} in use, and the publisher did not say that a "
            "return is meant; publish it as a return",
        )
    return None


def _install(fetcher: Fetcher, slots: SlotStore, offer: Offer, trial: Callable[[Path], TrialResult]) -> UpdateOutcome:
    path = slots.incoming / f"{offer.sha256[:16]}.ewb"
    slots.collect(keep=path.name)
    slots.room_for(offer.length, download=path)
    fetcher.download(offer, path)
    try:
        slot = slots.stage(path)
        _require_match(slots, slot, offer)
        result = _try(trial, slot.path)
        if result.passed:
            slots.commit(slot)
        else:
            slots.refuse(slot.sha256, result.code)
    except BundleError:
        slots.collect()
        raise
    slots.collect()
    kind = UpdateKind.INSTALLED if result.passed else UpdateKind.RETURNED
    return _outcome(slots, kind, offer, result.code, result.message)


def _require_match(slots: SlotStore, slot: Slot, offer: Offer) -> None:
    if (slot.name, slot.version, slot.sha256) != (offer.name, offer.version, offer.sha256):
        slots.refuse(slot.sha256, "bundle-mismatch")
        raise BundleError(
            "bundle-mismatch", "the bundle is not the one that its signed entry describes; publish it again"
        )


def _try(trial: Callable[[Path], TrialResult], path: Path) -> TrialResult:
    try:
        result = trial(path)
        return TrialResult(True) if result.passed else replace(result, code=result.code or "trial-failed")
    except EdgewardError as error:
        return TrialResult(False, error.code, str(error))
    except Exception as error:  # noqa: BLE001  (a trial that breaks is a trial that failed, whatever broke)
        return TrialResult(
            False, "trial-crashed", f"the trial broke ({type(error).__name__}); look at the device's log"
        )


def _outcome(
    slots: SlotStore, kind: UpdateKind, offer: Offer | None, code: str = "", message: str = ""
) -> UpdateOutcome:
    return UpdateOutcome(kind, slots.active(), code, message, offer.version if offer else "")
