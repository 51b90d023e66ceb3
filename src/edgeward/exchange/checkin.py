"""A device's check-in and the fleet's answer: ``POST /v1/check-in`` over mutual TLS.

The device is who its certificate says; a body names no device. A check-in carries the whole state, so one that is lost
costs nothing, one that comes twice says the same twice, and one that is overtaken is known by its ``boot`` and
``sequence``: the fleet keeps the greatest pair.

An answer orders nothing that signed metadata do not name: ``Order.sha256`` says which of the offers that a device can
prove by itself it shall take now. A fleet that was taken over can therefore withhold, and no more.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from edgeward.exchange.typed import Count, Family, Most, Range, Sha256, Version
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState, Why

PATH = "/v1/check-in"
CHECK_IN_BYTES_MAX = 1 << 16
ANSWER_BYTES_MAX = 1 << 16
FAMILIES_MAX = 16
NEXT_S_MAX = 86_400


@dataclass(frozen=True, slots=True)
class Held:
    """A bundle in a slot."""

    version: Version
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the device's own gates measured of a candidate. Zero where a gate was not reached.

    ``latency_us``: p99 on this device; ``memory_kib``: what its engine holds; ``shadow_windows`` scored by both, of
    which ``shadow_disagreed`` differed by more than the bound; ``soak_s``: how long it served and was watched.
    """

    golden_vectors: Count = 0
    latency_us: Count = 0
    deadline_us: Count = 0
    memory_kib: Count = 0
    shadow_windows: Count = 0
    shadow_disagreed: Count = 0
    soak_s: Count = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the candidate ``sha256`` of rollout ``rollout`` stands; ``attempt`` counts from 1."""

    rollout: Count
    sha256: Sha256
    state: UpdateState
    attempt: Annotated[int, Range(0, 1_000)]
    why: Why | None
    percent: Annotated[int, Range(0, 100)]
    """Of the download."""
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """One model family on the device. Counts are since the boot; ``latency_us``: p99 of the engine in use.

    ``progress`` is that of the newest order, kept until the next one, so that its end is told again and again.
    """

    family: Family
    current: Held | None
    previous: Held | None
    progress: Progress | None
    rung: Rung
    scores: Count = 0
    withheld: Count = 0
    fallbacks: Count = 0
    latency_us: Count = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device is: its inventory."""

    machine: Machine
    accelerator: Accelerator
    cores: Annotated[int, Range(1, 4_096)]
    memory_mib: Count
    disk_mib: Count
    beds: Annotated[int, Range(0, 64)]
    software: Version


@dataclass(frozen=True, slots=True)
class CheckIn:
    """The whole state of a device. ``boot`` counts starts and ``sequence`` check-ins since the boot, both from 1.

    ``clock_s``: the device's wall clock, seconds since 1970, however wrong.
    """

    boot: Annotated[int, Range(1, (1 << 31) - 1)]
    sequence: Annotated[int, Range(1, (1 << 53) - 1)]
    uptime_s: Count
    clock_s: Count
    free_mib: Count
    facts: Facts
    families: Annotated[tuple[FamilyReport, ...], Most(FAMILIES_MAX)]


class Deed(StrEnum):
    """What an order asks for."""

    INSTALL = "install"
    """Take the bundle that signed metadata name and that has this hash."""
    WITHDRAW = "withdraw"
    """Give the candidate up unless it is committed."""


@dataclass(frozen=True, slots=True)
class Order:
    """One family's order. It is repeated in every answer for as long as it stands; its absence ends nothing."""

    rollout: Annotated[int, Range(1, (1 << 53) - 1)]
    family: Family
    deed: Deed
    version: Version
    sha256: Sha256
    attempts: Annotated[int, Range(1, 100)] = 3
    """After so many failures that a later try could mend (network, disk), the device ends in FAILED."""
    shadow_s: Annotated[int, Range(0, 604_800)] = 0
    """How long the candidate runs beside the current one."""
    soak_s: Annotated[int, Range(0, 604_800)] = 0
    """How long it serves before it is committed."""
    disagree: Annotated[int, Range(0, 1_000_000)] = 20_000
    """Share of shadow windows that may differ beyond the bundle's bound, in millionths."""
    rate_kib_s: Count = 0
    """Most that a download may take; 0: what the device's own settings say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the fleet says: when to come again, what to take, and whether to renew the certificate now.

    ``sequence`` is that of the check-in answered.
    """

    sequence: Annotated[int, Range(1, (1 << 53) - 1)]
    next_s: Annotated[int, Range(1, NEXT_S_MAX)]
    renew: bool
    orders: Annotated[tuple[Order, ...], Most(FAMILIES_MAX)]
