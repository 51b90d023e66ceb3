"""What happens to a rollout, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.exchange.checkin import CheckIn, Order
    from edgeward.fleet.rollout.state import Candidate, Member, Rollout


@dataclass(frozen=True, slots=True)
class Approve:
    """A second person vouches for it."""

    by: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody gets an order until it is resumed."""

    by: str


@dataclass(frozen=True, slots=True)
class Resume:
    """It goes on."""

    by: str


@dataclass(frozen=True, slots=True)
class Abort:
    """It ends, and every order is withdrawn."""

    by: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer rollout of the family began."""

    by: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """All devices that it concerns, as the fleet knows them now: asked for by ``Choose``."""

    devices: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Came:
    """A device that it concerns and that is not in it, or offline or ended in it, checked in."""

    device: Candidate
    member: Member | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A device in it checked in."""

    member: Member
    report: CheckIn


@dataclass(frozen=True, slots=True)
class Unheard:
    """It is to be seen whether a device in it was silent for too long."""

    member: Member


@dataclass(frozen=True, slots=True)
class Ended:
    """An operator revoked a device in it, or called it lost: nothing more will be heard of it."""

    member: Member


Happening = Approve | Pause | Resume | Abort | Superseded | Tick | Scope | Came | Heard | Unheard | Ended


@dataclass(frozen=True, slots=True)
class Supersede:
    """Tell every other rollout of the family that this one began."""


@dataclass(frozen=True, slots=True)
class Choose:
    """A stage opens: give ``Scope``. It is asked again at every tick until that came."""


@dataclass(frozen=True, slots=True)
class Return:
    """Devices that committed must go back: put the prepared return in force and begin its rollout."""


Effect = Supersede | Choose | Return


@dataclass(frozen=True, slots=True)
class Step:
    """What came of it: the rollout now, the devices in it that changed, what is to be done, and the answer's order.

    ``order``: what the device that was heard shall do for this rollout; None: nothing.
    """

    rollout: Rollout
    members: tuple[Member, ...] = ()
    effects: tuple[Effect, ...] = ()
    order: Order | None = None
