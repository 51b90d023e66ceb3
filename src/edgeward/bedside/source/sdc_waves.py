"""The ECG of one IEEE 11073 SDC monitor as a source of samples (``Source``): sample arrays in, blocks out.

The source connects by itself, beside the one that reads numerics (``sdc``): it lives in the process that judges the
ECG. What the device can do, and what the bed then sees:

* leads arrive apart, late, twice or never: see ``wave_track``;
* samples that the device calls invalid, or not measured on a patient, are missing;
* the device is silent or away: missing samples as time passes, and a new connection in the background;
* another patient is associated, or nobody any more: the index jumps by ``RECORD_GAP_S``, so that no history crosses;
* the description changes to other leads or another rate: ``InputError`` (``leads-changed``); the bed must begin anew.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.source.base import RECORD_GAP_S, Block, Silence, SourceInfo
from edgeward.bedside.source.sdc_hub import SdcHub
from edgeward.bedside.source.sdc_link import Listener, SdcAddress, SdcLink
from edgeward.bedside.source.sdc_mdib import Mdib, Need, Taken
from edgeward.bedside.source.wave_track import WaveTrack
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import ECG_ABS_MAX_MV, LEADS_MAX, RATE_HZ_MAX, RATE_HZ_MIN
from edgeward.kernel.units import millivolts_per
from edgeward.signal.lead import normalise
from edgeward.wire.sdc import MDC, Coded, Descriptor, WaveState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edgeward.bedside.source.sdc_session import SdcTls
    from edgeward.kernel.clock import Clock
    from edgeward.wire.sdc import Message

WANTED = (
    "Waveform",
    "EpisodicContextReport",
    "PeriodicContextReport",
    "EpisodicComponentReport",
    "DescriptionModificationReport",
)
_TICK_S = 0.05
_BLOCKS_MAX = 1_024
# MDC_ECG_ELEC_POTL and the lead's number (ISO/IEEE 11073-10101, annex A; the numbers are those of SCP-ECG).
_POTENTIAL = 131_328
_LEADS = {1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6"}
_LEADS |= {61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 67: "V", 0: "ECG"}


@dataclass(frozen=True, slots=True)
class _Lead:
    """One ECG sample array; ``mv``: millivolts per unit."""

    handle: str
    name: str
    rate_hz: float
    mv: float
    limits_mv: tuple[float, float] | None


class SdcWaves:
    """ECG of the device at ``address``. ``open`` waits for its description; ``info`` is known from then on.

    ``mds``: which of several medical device systems of one provider. ``host``, ``port``: where the device reaches this
    one. ``ConfigError``: ``sdc-not-installed``, ``sdc-address``, ``http-address``.
    """

    def __init__(
        self,
        address: SdcAddress,
        clock: Clock,
        *,
        mds: str = "",
        tls: SdcTls | None = None,
        host: str = "0.0.0.0",  # noqa: S104  # whichever interface the device is reached by; TLS says who may
        port: int = 0,
    ) -> None:
        from edgeward.bedside.source import sdc_session  # noqa: F401  # says at once that the library is missing

        self._clock = clock
        self._device = _Device(mds)
        self._hub = SdcHub(clock, host=host, port=port, tls=tls)
        self._link = SdcLink(address, self._device, self._hub, clock, wanted=WANTED, tls=tls)
        self._device.link = self._link
        self._closed = False
        self._started = False

    @property
    def info(self) -> SourceInfo:
        """Who sends; raises ``InputError`` (``source-not-open``) before ``open()`` has succeeded."""
        if self._device.info is None:
            raise InputError("source-not-open", "the SDC device has not described itself yet; open the source first")
        return self._device.info

    @property
    def connections(self) -> int:
        """How many connections came to stand so far."""
        return self._link.connections

    @property
    def last_error(self) -> str:
        """Code of the latest failure of a connection."""
        return self._link.last_error

    @property
    def dropped(self) -> int:
        """Samples that came twice or too late, or were not taken in time."""
        return self._device.dropped

    def open(self, timeout_s: float = 30.0) -> SourceInfo:
        """Connect and wait for the device's description.

        Raises ``InputError``: ``source-silent`` after ``timeout_s``, ``sdc-no-ecg`` where the device has none,
        ``sdc-several-mds`` where it is not said of which system.
        """
        if not self._started and not self._closed:
            self._started = True
            self._hub.start()
            self._link.start()
        deadline = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        with self._device.changed:
            while self._device.info is None and not self._closed:
                self._device.check()
                if self._clock.monotonic_ns() >= deadline:
                    last = f" (last failure: {self.last_error})" if self.last_error else ""
                    raise InputError("source-silent", f"the SDC device did not answer within {timeout_s:g} s{last}")
                self._device.changed.wait(_TICK_S)
            self._device.opened(self._clock.monotonic_ns())
        return self.info

    def blocks(self) -> Iterator[Block]:
        """Blocks as they arrive, and blocks of missing samples while nothing does. Opens the source if needed."""
        if self._device.info is None:
            self.open()
        while not self._closed:
            with self._device.changed:
                found = self._device.gather(self._clock.monotonic_ns())
                if not found:
                    self._device.changed.wait(_TICK_S)
                    found = self._device.gather(self._clock.monotonic_ns())
            for block in found:
                if self._closed:
                    return
                yield block

    def close(self) -> None:
        """End the connection and both threads. Any thread, any number of times."""
        self._closed = True
        with self._device.changed:
            self._device.changed.notify_all()
        if self._started:
            self._link.close()
        self._hub.close()


class _Device(Listener):
    """What the device says (on the hub's thread), kept for whoever takes it; ``changed`` guards all of it."""

    link: SdcLink

    def __init__(self, mds: str) -> None:
        self.changed = threading.Condition()
        self.info: SourceInfo | None = None
        self._wanted_mds = mds
        self._mds = mds
        self._mdib = Mdib()
        self._failure: InputError | None = None
        self._leads: dict[str, tuple[int, float]] = {}  # handle → channel, millivolts per unit
        self._patient: dict[str, frozenset[tuple[str, str, str]]] | None = None  # association → identifiers
        self._track: WaveTrack | None = None
        self._silence: Silence | None = None
        self._ready: deque[Block] = deque(maxlen=_BLOCKS_MAX)
        self._resumed = False  # a connection stands anew: the next samples follow a gap of unknown length
        self._gap = 0  # samples by which the index jumps before the next ones

    # --- for the consumer, under the lock

    @property
    def dropped(self) -> int:
        """See ``SdcWaves.dropped``."""
        return 0 if self._track is None else self._track.dropped

    def check(self) -> None:
        """Raise what has gone wrong for good."""
        if self._failure is not None:
            raise self._failure

    def opened(self, now_ns: int) -> None:
        """The consumer counts time from now on."""
        if self._silence is None and self.info is not None:
            self._silence = Silence(len(self.info.leads), self.info.rate_hz)
            self._silence.broken(now_ns)

    def gather(self, now_ns: int) -> list[Block]:
        """What has come, in order; else, after a silence, that nothing did."""
        self.check()
        track, silence = self._track, self._silence
        if track is None or silence is None:
            return []
        blocks = list(self._ready)
        self._ready.clear()
        blocks += [Block(samples, start, now_ns) for start, samples in track.take(now_ns)]
        if blocks:
            silence.broken(now_ns)
            return blocks
        missing = silence.block(track.next, now_ns)
        if missing is None:
            return []
        track.skip(missing[1])
        return [missing[0]]

    # --- what the link says, on the hub's thread

    def asked(self) -> None:
        """The MDIB is about to be asked for."""
        with self.changed:
            self._mdib.ask()

    def loaded(self, answers: Sequence[Message], received_ns: int) -> None:
        """A fresh MDIB: which leads there are; its states are those of before, and no samples are taken from them."""
        with self.changed:
            taken = self._mdib.load(answers)
            try:
                self._describe(any(isinstance(state, WaveState) and not state.real for state in taken.states))
            except InputError as error:
                self._failure = error
            self._follow(taken, received_ns)
            self.changed.notify_all()

    def reported(self, message: Message, received_ns: int) -> None:
        """A report."""
        with self.changed:
            taken = self._mdib.report(message)
            self._follow(taken, received_ns)
            self._waves(taken, received_ns)
            self.changed.notify_all()

    def answered(self, message: Message, received_ns: int) -> None:
        """An answer to a question for states: it shows whether reports fail to come; samples come in reports alone."""
        with self.changed:
            taken, silent = self._mdib.poll(message)
            self._follow(taken, received_ns)
        if silent:
            self.link.renew("sdc-silent")

    def lost(self, code: str) -> None:  # noqa: ARG002
        """The connection is given up."""
        with self.changed:
            self._mdib = Mdib()
            self._resumed = True

    def unreadable(self, code: str) -> None:
        """A report that cannot be read is a gap like any other."""

    def of_interest(self) -> Sequence[str]:
        """One lead, to see whether samples go by unreported; and whose they are."""
        contexts = [one.handle for one in self._mdib.descriptors.values() if one.what == "PatientContext"]
        return [*list(self._leads)[:1], *contexts]

    # --- leads

    def _describe(self, simulated: bool) -> None:
        descriptors = self._mdib.descriptors.values()
        leads, self._mds = _leads(descriptors, self._wanted_mds)
        names = tuple(lead.name for lead in leads)
        if self.info is None:
            limits = [lead.limits_mv for lead in leads if lead.limits_mv is not None]
            self.info = SourceInfo(
                names,
                leads[0].rate_hz,
                "SDC monitor",
                tuple(limits) if len(limits) == len(leads) else None,
                simulated or self._mdib.demo(self._mds),
            )
            self._track = WaveTrack(len(leads), leads[0].rate_hz)
        elif (sorted(names), leads[0].rate_hz) != (sorted(self.info.leads), self.info.rate_hz):
            raise InputError(
                "leads-changed", "the SDC device has other leads or another rate now; start it as a new source"
            )
        self._leads = {lead.handle: (self.info.leads.index(lead.name), lead.mv) for lead in leads}

    def _follow(self, taken: Taken, received_ns: int) -> None:
        """What follows from a message but its samples."""
        if self._mdib.loaded and (self._mds in taken.contexts or self._patient is None):
            self._whose(received_ns)
        if taken.need is Need.RELOAD:
            self.link.reload()
        elif taken.need is Need.RECONNECT:
            self.link.renew("sdc-restarted")

    def _whose(self, received_ns: int) -> None:
        now = {state.handle: frozenset(state.identifiers) for state in self._mdib.patients(self._mds)}
        before, self._patient = self._patient, now
        if before is None or self.info is None or _same_patient(before, now):
            return
        self._flush(received_ns)
        self._gap = round(RECORD_GAP_S * self.info.rate_hz)

    # --- samples

    def _waves(self, taken: Taken, received_ns: int) -> None:
        waves = [state for state in taken.states if isinstance(state, WaveState) and state.descriptor in self._leads]
        if not waves or self._track is None or self.info is None:
            return
        if self._resumed or self._gap:
            longest = max(len(state.samples) for state in waves)
            self._resume(longest, received_ns)
        demo = self._mdib.demo(self._mds)
        for state in waves:
            channel, mv = self._leads[state.descriptor]
            samples = state.samples * mv
            on_patient = (state.real and not demo) or self.info.simulated
            if not (state.active and on_patient and state.validity is not None and state.validity.measured):
                samples = np.full_like(samples, np.nan)
            samples[~(np.abs(samples) <= ECG_ABS_MAX_MV)] = np.nan
            self._track.put(
                channel,
                samples.astype(np.float32),
                version=state.version,
                stamped_ms=state.determined_ms,
                received_ns=received_ns,
            )

    def _resume(self, count: int, received_ns: int) -> None:
        """The next ``count`` samples follow a gap: the time since the last ones but their own length, or more."""
        assert self._track is not None
        self._flush(received_ns)
        owed = 0 if self._silence is None or not self._track.next else self._silence.owed(received_ns) - count
        self._track.begin_anew()
        self._track.skip(self._track.next + max(0, owed) + self._gap)
        self._resumed, self._gap = False, 0

    def _flush(self, received_ns: int) -> None:
        if self._track is not None:
            pieces = self._track.take(received_ns, everything=True)
            self._ready.extend(Block(samples, start, received_ns) for start, samples in pieces)


def _same_patient(
    before: dict[str, frozenset[tuple[str, str, str]]], now: dict[str, frozenset[tuple[str, str, str]]]
) -> bool:
    """Whether one and the same patient is associated before and now; nobody twice is no change either."""
    if len(before) != 1 or len(now) != 1:
        return before == now
    (old, old_names), (new, new_names) = *before.items(), *now.items()
    return bool(old_names & new_names) or (old == new and not old_names)


def _leads(descriptors: Iterable[Descriptor], mds: str) -> tuple[list[_Lead], str]:
    """The ECG leads of an MDS, in the order of the description, of the rate that most of them have; and which MDS."""
    found: dict[str, list[_Lead]] = {}
    for descriptor in descriptors:
        if descriptor.what == "RealTimeSampleArrayMetric" and mds in {"", descriptor.mds}:
            lead = _lead(descriptor)
            if lead is not None and all(other.name != lead.name for other in found.setdefault(descriptor.mds, [])):
                found[descriptor.mds].append(lead)
    found = {handle: leads for handle, leads in found.items() if leads}
    if len(found) > 1:
        raise InputError("sdc-several-mds", "several systems of the SDC device have an ECG; name one of them (mds)")
    if not found:
        raise InputError("sdc-no-ecg", "the SDC device has no ECG whose code, unit and rate can be read")
    ((of, leads),) = found.items()
    rates = Counter(lead.rate_hz for lead in leads)
    rate_hz = rates.most_common(1)[0][0]
    return [lead for lead in leads if lead.rate_hz == rate_hz][:LEADS_MAX], of


def _lead(descriptor: Descriptor) -> _Lead | None:
    name = next((name for name in map(_lead_name, descriptor.codes) if name), "")
    rate_hz = NS_PER_S / descriptor.period_ns if descriptor.period_ns else 0.0
    if not name or not RATE_HZ_MIN <= rate_hz <= RATE_HZ_MAX:
        return None
    for unit in descriptor.units:
        with contextlib.suppress(InputError):
            mv = millivolts_per(unit.code)
            limits = descriptor.limits
            return _Lead(
                descriptor.handle, name, rate_hz, mv, None if limits is None else (limits[0] * mv, limits[1] * mv)
            )
    return None


def _lead_name(coded: Coded) -> str:
    """The lead that a code names, else an empty word."""
    if coded.system == MDC and coded.code.isdecimal():
        return _LEADS.get(int(coded.code) - _POTENTIAL, "")
    word = coded.name or coded.code
    return normalise(word) if word.startswith("MDC_ECG_") else ""
