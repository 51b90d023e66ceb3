"""Named ECG derivations, and which of them the beat model and the QRS detector look at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import LEADS_MAX, RATE_HZ_MAX, RATE_HZ_MIN

if TYPE_CHECKING:
    from collections.abc import Sequence

# Preference for the rhythm slot: the derivations along the heart's axis, where P and R stand clearest.
_RHYTHM_ORDER = ("II", "MLII", "MLI", "I", "V5", "V6", "V4", "MLIII", "III", "aVF", "aVL", "V3", "V2", "V1", "aVR")
# Preference for the chest slot: V1 first, because it separates left from right ventricular origin.
_CHEST_ORDER = (
    "V1",
    "MV1",
    "MCL1",
    "V2",
    "V3",
    "V4",
    "V5",
    "V6",
    "aVR",
    "III",
    "aVF",
    "I",
    "aVL",
    "MLIII",
    "II",
    "MLII",
)

_CANONICAL = {name.upper(): name for name in (*_RHYTHM_ORDER, *_CHEST_ORDER)}
_PREFIX = re.compile(r"^(ECG|EKG|LEAD|MDC_ECG_LEAD|MDC_ECG_ELEC_POTL)[\s_:-]*", re.IGNORECASE)


def normalise(name: str) -> str:
    """Canonical name of a lead: ``"ECG Lead II"`` → ``"II"``, ``"AVR"`` → ``"aVR"``; other names are only stripped."""
    bare = name.strip()
    previous = None
    while bare != previous:
        previous, bare = bare, _PREFIX.sub("", bare)
    return _CANONICAL.get(bare.upper(), bare)


def is_known(name: str) -> bool:
    """Whether ``name`` is a derivation that the slots have a preference for."""
    return normalise(name).upper() in _CANONICAL


def choose_slots(names: Sequence[str]) -> tuple[int, ...]:
    """Indices of the (rhythm, chest) leads among ``names``; one index where there is one lead.

    Known names come by preference, unknown names after them in the order given, so that any record can be read.
    Raises ``ValueError`` for an empty sequence.
    """
    if not names:
        raise ValueError("a wave without leads has no slots")
    canonical = [normalise(name) for name in names]
    rhythm = _first(canonical, _RHYTHM_ORDER, taken=None)
    if len(canonical) == 1:
        return (rhythm,)
    return (rhythm, _first(canonical, _CHEST_ORDER, taken=rhythm))


def _first(names: Sequence[str], order: Sequence[str], *, taken: int | None) -> int:
    for wanted in order:
        for index, name in enumerate(names):
            if name == wanted and index != taken:
                return index
    return next(index for index in range(len(names)) if index != taken)


def check_leads(leads: Sequence[str], rate_hz: float) -> None:
    """Whether an ECG source can be judged at all.

    Raises ``InputError``: ``rate-unsupported``, ``leads-unsupported``, ``leads-repeated``.
    """
    if not RATE_HZ_MIN <= rate_hz <= RATE_HZ_MAX:
        raise InputError(
            "rate-unsupported",
            f"the source samples at {rate_hz:g} Hz; Edgeward reads ECG at {RATE_HZ_MIN:g} to {RATE_HZ_MAX:g} Hz",
        )
    if not 1 <= len(leads) <= LEADS_MAX:
        raise InputError("leads-unsupported", f"the source has {len(leads)} ECG leads; Edgeward reads 1 to {LEADS_MAX}")
    names = [normalise(name) for name in leads]
    if len(set(names)) != len(names):
        raise InputError("leads-repeated", "two ECG leads of the source have the same name; name each lead once")
