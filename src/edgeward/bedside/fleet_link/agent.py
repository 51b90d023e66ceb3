"""The fleet link at work: a thread of its own that applies, checks in, renews, and hands orders to the updates.

``core`` decides; this is its rim. Nothing that watches patients waits for it: it shares no lock with the beds, asks
them for counts they keep anyway, and whatever it meets (no network, a wrong clock, an expired or revoked certificate, a
full disk) is said once and tried again.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.files import RealFiles
from edgeward.bedside.fleet_link import core
from edgeward.bedside.fleet_link.facts import free_mib
from edgeward.bedside.fleet_link.link import Link, LinkError, Trouble
from edgeward.bedside.fleet_link.notes import Notes, read_notes, write_notes
from edgeward.exchange.checkin import ANSWER_BYTES_MAX, PATH, Answer, CheckIn
from edgeward.exchange.enrol import (
    ENROL_BYTES_MAX,
    ENROL_PATH,
    RENEW_PATH,
    Application,
    Credential,
    Renewal,
    Standing,
    grouped,
)
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import EdgewardError
from edgeward.trust.durable import locked, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.fleet_link.identity import Credentials, Identity
    from edgeward.exchange.checkin import Facts, FamilyReport, Order
    from edgeward.kernel.clock import Clock

HEARD_EVERY_S = 60
"""The moment of the newest answer is written down no oftener: flash wears."""
_LOOK_S = 1.0
_CLOSE_S = 2.0


class Updates(Protocol):
    """The model families of a device, as the fleet sees them. Called from the agent's thread alone."""

    def reports(self) -> tuple[FamilyReport, ...]:
        """Every family with its bundles, its update and its counts."""
        ...

    def obey(self, orders: tuple[Order, ...]) -> None:
        """What the newest answer orders; repeated with every answer."""
        ...


def apply_once(identity: Identity, link: Link, facts: Facts, token: str = "", *, anew: bool = False) -> Credential:
    """Ask once for a certificate, and put it in use when it is given. ``identity`` is held.

    Raises ``LinkError``, and what ``Identity.request`` and ``Identity.accept`` do.
    """
    application = Application(identity.request(anew=anew), facts, token)
    credential = link.post(ENROL_PATH, application, Credential, bytes_max=ENROL_BYTES_MAX)
    if credential.standing is Standing.ACCEPTED:
        identity.accept(credential.certificate)
    return credential


class FleetAgent:
    """Serves ``identity`` from construction until ``close``. Raises ``ConfigError`` ``identity-in-use``, ``disk-…``.

    ``link_of`` makes a ``Link`` with the given PEM file; ``facts`` gives the inventory, asked for with every check-in;
    ``dice`` gives 0 to 1; ``say`` tells the operator what changed.
    """

    def __init__(
        self,
        identity: Identity,
        link_of: Callable[[Path | None], Link],
        facts: Callable[[], Facts],
        updates: Updates,
        clock: Clock,
        *,
        dice: Callable[[], float],
        say: Callable[[str], None],
        policy: core.Policy | None = None,
    ) -> None:
        self._identity, self._link_of, self._facts, self._updates = identity, link_of, facts, updates
        self._clock, self._dice, self._say = clock, dice, say
        self._policy = policy or core.Policy()
        self._files = RealFiles(mode=0o600)
        self._alone = contextlib.ExitStack()
        self._hold()
        self._link: Link | None = None
        self._mark = 0
        self._shown = ""
        self._credentials = self._look()
        self._notes = self._started()
        self._began_ns = clock.monotonic_ns()
        self._state = core.begin(self._policy, member=self._credentials is not None, now_ns=self._began_ns, dice=dice())
        self._changed = threading.Event()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> Notes:
        """How it stands."""
        return self._notes

    def changed(self) -> None:
        """An update ended: check in soon. From any thread; never waits."""
        self._changed.set()
        self._wake.set()

    def close(self) -> None:
        """End; an exchange under way is left to its thread, which ends with the process."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSE_S)
        self._alone.close()

    # --- the thread

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  # the link may never end while the device runs
                self._trouble("internal", f"the fleet link stumbled ({type(error).__name__}) and goes on")
                self._step(core.Failed())
            self._wake.wait(self._wait_s())
            self._wake.clear()

    def _wait_s(self) -> float:
        """Until something is due; whoever was rejected only looks whether a person has applied again."""
        if self._state.phase is core.Phase.REJECTED:
            return _LOOK_S
        left_s = (self._state.due_ns - self._clock.monotonic_ns()) / NS_PER_S
        return min(max(left_s, 0.02), _LOOK_S)

    def _turn(self) -> None:
        if self._changed.is_set():
            self._changed.clear()
            self._step(core.Changed())
        if self._state.phase is not core.Phase.MEMBER and self._is_new():
            self._step(core.Enrolled())
        self._step(core.Tick())

    def _step(self, event: core.Event) -> None:
        self._state, effects = core.step(self._policy, self._state, event, self._clock.monotonic_ns(), self._dice())
        for effect in effects:
            self._do(effect)
        if self._state.phase.value != self._notes.phase:
            self._note(replace(self._notes, phase=self._state.phase.value))

    def _do(self, effect: core.Effect) -> None:
        match effect:
            case core.SendApplication():
                self._attempt(self._apply)
            case core.SendCheckIn(sequence):
                self._attempt(lambda: self._check_in(sequence))
            case core.Keep():
                self._use(self._look())
                self._say(f"fleet: accepted as {self._credentials.device if self._credentials else 'nobody'}")
            case core.Renew():
                self._renew()
            case core.Obey(orders):
                self._updates.obey(orders)

    def _attempt(self, exchange: Callable[[], core.Event]) -> None:
        try:
            event = exchange()
        except LinkError as error:
            self._trouble(error.code, str(error))
            event = core.Failed(error.after_s, shut_out=self._is_shut_out(error))
        except EdgewardError as error:
            self._trouble(error.code, str(error))
            event = core.Failed()
        else:
            self._heard()
        self._step(event)

    def _is_shut_out(self, error: LinkError) -> bool:
        """Some servers drop a connection whose certificate has expired without a word."""
        expired = self._credentials is not None and self._credentials.expired(self._clock.wall())
        return error.trouble is Trouble.NOT_TAKEN or (expired and error.trouble is Trouble.UNREACHABLE)

    # --- exchanges

    def _apply(self) -> core.Event:
        with self._identity:
            credential = apply_once(self._identity, self._link_of(None), self._facts())
        if credential.standing is Standing.PENDING and credential.fingerprint != self._shown:
            self._shown = credential.fingerprint
            self._say(f"fleet: waiting to be accepted; fingerprint {grouped(credential.fingerprint)}")
        if credential.standing is Standing.REJECTED:
            self._say("fleet: rejected; to apply again: edgeward device enrol --again")
        return core.Judged(credential)

    def _check_in(self, sequence: int) -> core.Event:
        self._is_new()
        now_ns = self._clock.monotonic_ns()
        message = CheckIn(
            boot=self._notes.boot,
            sequence=sequence,
            uptime_s=(now_ns - self._began_ns) // NS_PER_S,
            clock_s=max(int(self._clock.wall().timestamp()), 0),
            free_mib=free_mib(self._identity.folder),
            facts=self._facts(),
            families=self._updates.reports(),
        )
        answer = self._member_link().post(PATH, message, Answer, bytes_max=ANSWER_BYTES_MAX)
        due = self._credentials is not None and self._credentials.renewal_due(self._clock.wall())
        return core.Answered(answer, renewal_due=due)

    def _renew(self) -> None:
        try:
            with self._identity:
                renewal = Renewal(self._identity.request())
                credential = self._member_link().post(RENEW_PATH, renewal, Credential, bytes_max=ENROL_BYTES_MAX)
                if credential.standing is Standing.ACCEPTED:
                    self._use(self._identity.accept(credential.certificate))
        except EdgewardError as error:
            self._trouble(error.code, f"the certificate could not be renewed: {error}")

    def _member_link(self) -> Link:
        if self._link is None:
            self._link = self._link_of(self._identity.pem)
        return self._link

    # --- what is kept

    def _hold(self) -> None:
        folder = self._identity.folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._alone.enter_context(
                locked(folder / "agent.lock", "identity-in-use", f"the device's identity {folder}")
            )
        except OSError as error:
            raise storage_error(error, f"opening the device's identity {folder}") from error

    def _is_new(self) -> bool:
        """Whether another certificate lies there than the one in use, which is taken then."""
        try:
            mark = self._identity.pem.stat().st_mtime_ns
        except OSError:
            return False
        if mark == self._mark:
            return False
        self._mark = mark
        found, before = self._look(), self._credentials
        if found is None or (before is not None and found.fingerprint == before.fingerprint):
            return False
        self._use(found)
        return True

    def _look(self) -> Credentials | None:
        try:
            return self._identity.look()
        except EdgewardError as error:
            self._say(f"fleet: {error} [{error.code}]")
            return None

    def _use(self, credentials: Credentials | None) -> None:
        self._credentials, self._link = credentials, None

    def _started(self) -> Notes:
        before = read_notes(self._identity.folder, self._files)
        notes = replace(before, boot=before.boot + 1, trouble="")
        with contextlib.suppress(EdgewardError):  # a full disk must not silence a device
            write_notes(self._identity.folder, self._files, notes)
        return notes

    def _heard(self) -> None:
        now_s = max(int(self._clock.wall().timestamp()), 0)
        if self._notes.trouble:
            self._say("fleet: reached again")
        elif abs(now_s - self._notes.heard_s) < HEARD_EVERY_S:
            return
        self._note(replace(self._notes, heard_s=now_s, trouble=""))

    def _trouble(self, code: str, message: str) -> None:
        """Say it when it is new, not with every try."""
        if code != self._notes.trouble:
            self._say(f"fleet: {message} [{code}]")
            self._note(replace(self._notes, trouble=code))

    def _note(self, notes: Notes) -> None:
        self._notes = notes
        with contextlib.suppress(EdgewardError):
            write_notes(self._identity.folder, self._files, notes)
