"""What a device has told of itself so far: its MDIB, kept by the version rules of 11073-10207. Pure.

Reports may be lost, doubled and overtaken by answers to questions. A state is taken when its own version is newer than
the one known; a report of another run (sequence or instance), of an unknown descriptor or for another version of a
descriptor cannot be read with what is known, and says what is needed: a fresh MDIB, or a fresh connection.

Contexts are kept per medical device system (MDS): one provider may serve several beds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from edgeward.wire.sdc import (
    Association,
    ContextState,
    Descriptor,
    LocationState,
    MdibVersion,
    MdsState,
    Message,
    PatientState,
    State,
    WaveState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WAITING_MAX = 1_024
"""Reports kept while a fresh MDIB is on its way."""
CONTEXTS_MAX = 256
"""Context states kept; of those no longer associated the oldest go first."""


class Need(Enum):
    """What must be done before reports can be read again."""

    NOTHING = auto()
    RELOAD = auto()
    """Ask for the MDIB again: the device's description has changed."""
    RECONNECT = auto()
    """The device runs anew: what was subscribed to is gone."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a message changed: fresh states, the MDSs whose contexts or mode differ now, and what is needed next.

    ``skipped``: versions of states that never arrived; ``refused``: states that cannot be read as things stand.
    """

    states: tuple[State, ...] = ()
    contexts: frozenset[str] = frozenset()
    need: Need = Need.NOTHING
    skipped: int = 0
    refused: int = 0


class Mdib:
    """One device's MDIB. ``load`` it, then give it every ``report`` and the answers to ``poll``s."""

    def __init__(self) -> None:
        self._version: MdibVersion | None = None
        self._descriptors: dict[str, Descriptor] = {}
        self._states: dict[str, State] = {}
        self._waiting: list[Message] = []
        self._asked = True
        self._reported: dict[str, int] = {}
        self._polled: dict[str, int] = {}
        self._heard = False  # a report since the latest poll

    @property
    def loaded(self) -> bool:
        """Whether there is an MDIB to read reports with."""
        return self._version is not None

    @property
    def descriptors(self) -> Mapping[str, Descriptor]:
        """All descriptors by handle, in the order of the description."""
        return self._descriptors

    def ask(self) -> None:
        """A fresh MDIB is being asked for: reports from now on are kept for it, and still taken with what is known."""
        self._asked = True
        self._waiting.clear()

    def load(self, answers: Sequence[Message]) -> Taken:
        """Take the answers to GetMdib and, where it held no contexts, GetContextStates; then what came meanwhile.

        Every state of it counts as fresh.
        """
        first, *further = answers
        before = {mds: self._contexts_of(mds) for mds in self._mds_handles()}
        self._version = first.version
        self._descriptors = {one.handle: one for one in first.descriptors}
        self._states = {}
        self._reported, self._polled = {}, {}
        refused = sum(answer.refused for answer in answers)
        for state in (state for answer in (first, *further) for state in answer.states):
            if state.descriptor in self._descriptors:
                self._states[_key(state)] = state
                self._reported[_key(state)] = state.version
            else:
                refused += 1
        waiting, self._waiting, self._asked = self._waiting, [], False
        later = [self.report(message) for message in waiting if not _covered(message, first)]
        changed = frozenset(mds for mds in self._mds_handles() if self._contexts_of(mds) != before.get(mds))
        return Taken(
            tuple(self._states.values()),
            changed | frozenset(handle for one in later for handle in one.contexts),
            max((one.need for one in later), key=lambda need: need.value, default=Need.NOTHING),
            sum(one.skipped for one in later),
            refused + sum(one.refused for one in later),
        )

    def report(self, message: Message) -> Taken:
        """Take a report."""
        if self._asked:
            self._waiting.append(message)
            del self._waiting[:-WAITING_MAX]
        if self._version is None:
            return Taken()
        self._heard = True
        taken = self._take(message)
        for state in message.states:
            self._reported[_key(state)] = max(state.version, self._reported.get(_key(state), 0))
        return taken

    def poll(self, message: Message) -> tuple[Taken, bool]:
        """Take an answer to GetMdState. The second: a subscription that looks alive is silent.

        That is so when a state that a poll showed was not reported by the next poll, and nothing else was either: a
        device may leave single states to be asked for (11073-20701, Retrievability).
        """
        if self._version is None:
            return Taken(), False
        unreported = any(version > self._reported.get(key, -1) for key, version in self._polled.items())
        silent, self._heard = unreported and not self._heard, False
        taken = self._take(message)
        self._polled = {_key(state): state.version for state in message.states}
        return taken, silent

    # --- contexts

    def patients(self, mds: str) -> tuple[PatientState, ...]:
        """The patients associated with an MDS: one at most, if the device keeps the standard."""
        return tuple(state for state in self._associated(mds) if isinstance(state, PatientState))

    def location(self, mds: str) -> LocationState | None:
        """Where an MDS is; None where it does not say, or says it in two ways."""
        found = [state for state in self._associated(mds) if isinstance(state, LocationState)]
        return found[0] if len(found) == 1 else None

    def demo(self, mds: str) -> bool:
        """Whether an MDS says that it only demonstrates."""
        state = self._states.get(mds)
        return isinstance(state, MdsState) and state.demo

    def _associated(self, mds: str) -> Iterable[ContextState]:
        for state in self._states.values():
            if isinstance(state, ContextState) and state.association is Association.ASSOCIATED:
                descriptor = self._descriptors.get(state.descriptor)
                if descriptor is not None and descriptor.mds == mds:
                    yield state

    def _mds_handles(self) -> Iterable[str]:
        return (one.handle for one in self._descriptors.values() if one.what == "Mds")

    def _contexts_of(self, mds: str) -> list[State]:
        """What ``patients``, ``location`` and ``demo`` of an MDS rest on."""
        return [*self._associated(mds), *((self._states[mds],) if self.demo(mds) else ())]

    # --- versions

    def _take(self, message: Message) -> Taken:
        version = message.version
        assert self._version is not None
        if version is None:
            return Taken(refused=message.refused)
        if not version.same_run(self._version):
            return Taken(need=Need.RECONNECT)
        need = Need.RELOAD if message.name == "DescriptionModificationReport" else Need.NOTHING
        fresh: list[State] = []
        contexts: set[str] = set()
        skipped, refused = 0, message.refused
        for state in message.states:
            descriptor = self._descriptors.get(state.descriptor)
            if descriptor is None or descriptor.version != state.descriptor_version:
                refused += 1
                need = Need.RELOAD
                continue
            known = self._states.get(_key(state))
            if known is not None and not _newer(state, known):
                continue
            if known is not None and state.version > known.version + 1:
                skipped += state.version - known.version - 1
            self._states[_key(state)] = state
            fresh.append(state)
            if isinstance(state, ContextState | MdsState):
                contexts.add(descriptor.mds)
        if contexts:
            self._trim()
        return Taken(tuple(fresh), frozenset(contexts), need, skipped, refused)

    def _trim(self) -> None:
        held = [state for state in self._states.values() if isinstance(state, ContextState)]
        gone = [state for state in held if state.association is not Association.ASSOCIATED]
        for state in gone[: max(0, len(held) - CONTEXTS_MAX)]:
            del self._states[_key(state)]


def _covered(message: Message, answer: Message) -> bool:
    """Whether what a report says stands already in the MDIB of ``answer``."""
    if message.version is None or answer.version is None:
        return message.version is None
    return message.version.same_run(answer.version) and message.version.number <= answer.version.number


def _newer(state: State, known: State) -> bool:
    """Whether a state says something that the one known does not.

    A device that forgets to count is heard as well: the same version with another content is news. Samples are not
    compared: a sample array comes under each version once.
    """
    if state.version != known.version:
        return state.version > known.version
    return not isinstance(state, WaveState) and state != known


def _key(state: State) -> str:
    return state.handle if isinstance(state, ContextState) else state.descriptor
