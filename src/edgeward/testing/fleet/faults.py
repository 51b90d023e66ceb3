"""What goes wrong on which simulated device: drawn once per device from the seed, so that a run can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from edgeward.kernel.errors import ConfigError

TEN_YEARS_S = 10 * 365 * 86_400


class Stage(StrEnum):
    """Where a bad model shows on a device: at this gate or, if that one is not asked for, at the next that is."""

    GOLDEN = "golden"
    """Its golden vectors do not give the expected scores there."""
    SLOW = "slow"
    SHADOW = "shadow"
    """It disagrees with the one in use on live inputs."""
    SOAK = "soak"
    """It fails when it serves: it was in charge of beds."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares are from 0 to 1, of all devices.

    ``bad``: on which the bundles in ``bad_versions`` fail their health gates, evenly at each of ``stages``; ``silent``:
    that never check in again once they have taken an order up; ``slow``: whose link gives ``slow_kib_s``, the others
    ``link_kib_s``; ``reboots``: power cuts per device and hour; ``wrong_clocks``: whose clock jumps ten years, forward
    or back, so that no certificate is valid any more by it; ``lost`` and ``doubled``: of all messages, answers that
    never arrive and check-ins that arrive twice.
    """

    bad: float = 0.0
    bad_versions: frozenset[str] = frozenset()
    stages: tuple[Stage, ...] = tuple(Stage)
    silent: float = 0.0
    slow: float = 0.0
    reboots: float = 0.0
    wrong_clocks: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    link_kib_s: int = 2_048
    slow_kib_s: int = 16
    seed: int = 1

    def __post_init__(self) -> None:
        shares = (self.bad, self.silent, self.slow, self.wrong_clocks, self.lost, self.doubled)
        if not all(0 <= share <= 1 for share in shares) or not 0 <= self.reboots <= 3_600 or not self.stages:
            raise ConfigError("setting-invalid", "shares lie between 0 and 1, reboots between 0 and 3600 an hour")
        if self.link_kib_s < 1 or self.slow_kib_s < 1:
            raise ConfigError("setting-invalid", "a link gives at least 1 KiB/s")


@dataclass(frozen=True, slots=True)
class Lot:
    """What one device drew. ``bad_at``: None where every model is good; ``dice``: for all that comes later."""

    bad_at: Stage | None
    silent: bool
    kib_s: int
    clock_off_s: int
    reboots: float
    dice: random.Random


def draw(faults: Faults, number: int) -> Lot:
    """The lot of device ``number``: the same for the same seed, however many devices there are."""
    dice = random.Random(f"{faults.seed}/{number}")
    bad, silent, slow, wrong = (dice.random() for _ in range(4))
    stage, sign = dice.choice(faults.stages), dice.choice((-1, 1))
    return Lot(
        bad_at=stage if bad < faults.bad else None,
        silent=silent < faults.silent,
        kib_s=faults.slow_kib_s if slow < faults.slow else faults.link_kib_s,
        clock_off_s=sign * TEN_YEARS_S if wrong < faults.wrong_clocks else 0,
        reboots=faults.reboots,
        dice=dice,
    )
