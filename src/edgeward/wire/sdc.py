"""IEEE 11073 SDC messages: SOAP bytes to typed values. Pure.

Read are the answers to GetMdib, GetMdState and GetContextStates, and the reports of metrics, waveforms, contexts,
components and descriptions. What a device's description says (``Descriptor``) and what its state says (``State``) are
given as they stand in the message; nothing is converted here and nothing kept.

Sources: ISO/IEEE 11073-10207:2017 (BICEPS: participant and message model), 11073-20702:2016 (MDPWS), 11073-20701:2018
(SDC glue); SOAP 1.2; WS-Eventing 2004-08. Implied values are those of 11073-10207.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import BLOCK_SAMPLES_MAX
from edgeward.wire.xml import Node, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DoubleArray = npt.NDArray[np.float64]

PM = "http://standards.ieee.org/downloads/11073/11073-10207-2017/participant}"
MSG = "http://standards.ieee.org/downloads/11073/11073-10207-2017/message}"
_SOAP = "http://www.w3.org/2003/05/soap-envelope}"
_EVENTING = "http://schemas.xmlsoap.org/ws/2004/08/eventing}"
MDC = "urn:oid:1.2.840.10004.1.1.1.0.0.1"
"""ISO/IEEE 11073-10101, the coding system that is implied where none is named (11073-10207, CodedValue)."""
CODES_MAX = 16
"""Equivalent codes of one thing that are looked at."""
TEXT_MAX = 256
"""Characters of a handle, a code or a name; a longer one is no such thing."""

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_SAMPLES = re.compile(r"[-+.0-9eE\s]*", re.ASCII)
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,19}")


class Validity(StrEnum):
    """11073-10207, MeasurementValidity."""

    VALID = "Vld"
    VALIDATED = "Vldated"
    ONGOING = "Ong"
    QUESTIONABLE = "Qst"
    CALIBRATING = "Calib"
    INVALID = "Inv"
    OVERFLOW = "Oflw"
    UNDERFLOW = "Uflw"
    NOT_AVAILABLE = "NA"

    @property
    def measured(self) -> bool:
        """Whether a value that comes with it was measured on a patient; questionable ones were."""
        return self in {Validity.VALID, Validity.VALIDATED, Validity.QUESTIONABLE}


class Association(StrEnum):
    """11073-10207, ContextAssociation."""

    NO = "No"
    PRE = "Pre"
    ASSOCIATED = "Assoc"
    DISASSOCIATED = "Dis"


@dataclass(frozen=True, slots=True)
class Coded:
    """A code of a coding system (its URI), with its symbolic name where the device gives one."""

    code: str
    system: str = MDC
    name: str = ""


@dataclass(frozen=True, slots=True)
class MdibVersion:
    """Which state of which run of a device's MDIB: ``sequence`` changes when it starts anew."""

    sequence: str
    instance: int | None
    number: int

    def same_run(self, other: MdibVersion) -> bool:
        """Whether both count in one run."""
        return (self.sequence, self.instance) == (other.sequence, other.instance)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a device says it has.

    ``what``: "NumericMetric", "RealTimeSampleArrayMetric", "Mds", "PatientContext" and the like; ``codes`` and
    ``units`` hold the code and its translations; ``period_ns``: of a sample array; ``limits``: its technical range, in
    its unit.
    """

    handle: str
    parent: str
    mds: str
    what: str
    version: int
    codes: tuple[Coded, ...] = ()
    units: tuple[Coded, ...] = ()
    period_ns: int = 0
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What every state has: whose (``descriptor``), its own version and that of the descriptor it was made for."""

    descriptor: str
    version: int
    descriptor_version: int


@dataclass(frozen=True, slots=True)
class NumericState(State):
    """A numeric metric. ``validity`` None: it holds no metric value at all. ``determined_ms``: since 1970, UTC."""

    value: float | None = field(default=None, repr=False)
    validity: Validity | None = None
    determined_ms: int | None = None
    active: bool = True
    real: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class WaveState(State):
    """A sample array: ``samples`` (n,) float64 in the descriptor's unit; ``determined_ms`` is that of the first."""

    samples: DoubleArray = field(default_factory=lambda: np.empty(0), repr=False)
    validity: Validity | None = None
    determined_ms: int | None = None
    active: bool = True
    real: bool = True


@dataclass(frozen=True, slots=True)
class ContextState(State):
    """Where a device is, or whose it is. ``handle`` tells several states of one descriptor apart.

    ``identifiers``: (root, extension, type code), the most relevant first. All but versions is PHI, or may be.
    """

    handle: str = ""
    association: Association = Association.NO
    identifiers: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class PatientState(ContextState):
    """Whose the device is: ``born`` "YYYY[-MM[-DD…]]", ``sex`` "M" or "F", ``category`` "Ad", "Ped", "Neo", "Inf"."""

    born: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    category: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class LocationState(ContextState):
    """Where the device is."""

    point_of_care: str = ""
    room: str = ""
    bed: str = ""
    facility: str = ""
    building: str = ""
    floor: str = ""


@dataclass(frozen=True, slots=True)
class MdsState(State):
    """How a whole medical device works: ``demo`` where it says that it demonstrates."""

    active: bool = True
    demo: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``name``: the body's local name ("EpisodicMetricReport", "GetMdibResponse", "SubscriptionEnd" …).

    ``states`` in the order of the message; ``descriptors``: of GetMdibResponse, parents before children; ``refused``:
    how many states could not be read.
    """

    name: str
    version: MdibVersion | None = None
    states: tuple[State, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    refused: int = 0


def decode(data: bytes) -> Message:
    """The message of one SOAP envelope.

    Raises ``InputError``: what ``wire.xml.parse`` raises, ``sdc-not-soap`` for another document, ``sdc-malformed`` for
    a message of the MDIB without its version or with a descriptor that cannot be read.
    """
    envelope = parse(data)
    body = envelope.child(_SOAP + "Body")
    if envelope.tag != _SOAP + "Envelope" or body is None:
        raise InputError("sdc-not-soap", "a message is no SOAP 1.2 envelope; it is dropped")
    if not body.children:
        return Message("")
    node = body.children[0]
    space, _, name = node.tag.rpartition("}")
    if space + "}" == _EVENTING and name == "SubscriptionEnd":
        return Message(name)
    if space + "}" != MSG:
        return Message(f"{space}:{name}"[:TEXT_MAX])
    version = _version(node)
    descriptors: list[Descriptor] = []
    if name == "GetMdibResponse":
        descriptors = list(_descriptors(node))
    states, refused = _states(_state_nodes(node))
    return Message(name, version, tuple(states), tuple(descriptors), refused)


def _malformed(what: str) -> InputError:
    return InputError("sdc-malformed", f"{what} (11073-10207); the message is dropped, look at the device")


def _version(node: Node) -> MdibVersion:
    sequence = node.attributes.get("SequenceId", "")
    if not sequence or len(sequence) > TEXT_MAX:
        raise _malformed("a message has no SequenceId")
    instance = node.attributes.get("InstanceId")
    return MdibVersion(sequence, None if instance is None else _count(node, "InstanceId"), _count(node, "MdibVersion"))


def _count(node: Node, name: str) -> int:
    """A version counter; 0 where it is not given (the implied value)."""
    text = node.attributes.get(name)
    if text is None:
        return 0
    if not _INTEGER.fullmatch(text.strip()):
        raise _malformed(f"a {name} is not a counter")
    return int(text)


def _handle(node: Node, name: str) -> str:
    text = node.attributes.get(name, "")
    if not text or len(text) > TEXT_MAX:
        raise _malformed(f"a {name} is missing or too long")
    return text


# --- descriptors


def _descriptors(response: Node) -> Iterable[Descriptor]:
    mdib = response.child(MSG + "Mdib")
    if mdib is None:
        raise _malformed("an answer to GetMdib holds no MDIB")
    description = mdib.child(PM + "MdDescription")
    if description is None:
        return
    for node in description.all(PM + "Mds"):
        yield from _subtree(node, "", _handle(node, "Handle"))


def _subtree(node: Node, parent: str, mds: str) -> Iterable[Descriptor]:
    descriptor = _descriptor(node, parent, mds)
    yield descriptor
    for child in node.children:
        if "Handle" in child.attributes:
            yield from _subtree(child, descriptor.handle, mds)


def _descriptor(node: Node, parent: str, mds: str) -> Descriptor:
    # A type of another namespace is a vendor's own: it keeps its whole name, and so is known to nobody.
    what = node.type.removeprefix(PM) if node.type else node.tag.removeprefix(PM)
    period = node.attributes.get("SamplePeriod")
    return Descriptor(
        handle=_handle(node, "Handle"),
        parent=parent,
        mds=mds,
        what=what.removesuffix("Descriptor"),
        version=_count(node, "DescriptorVersion"),
        codes=_codes(node.child(PM + "Type")),
        units=_codes(node.child(PM + "Unit")),
        period_ns=0 if period is None else _duration_ns(period),
        limits=_limits(node.child(PM + "TechnicalRange")),
    )


def _codes(node: Node | None) -> tuple[Coded, ...]:
    if node is None:
        return ()
    found = []
    for one in (node, *node.all(PM + "Translation")):
        code = one.attributes.get("Code", "").strip()
        system = one.attributes.get("CodingSystem", "").strip() or MDC
        name = one.attributes.get("SymbolicCodeName", "").strip()
        if code and max(len(code), len(system), len(name)) <= TEXT_MAX:
            found.append(Coded(code, system, name))
    return tuple(found[:CODES_MAX])


def _limits(node: Node | None) -> tuple[float, float] | None:
    if node is None:
        return None
    low, high = _decimal(node.attributes.get("Lower")), _decimal(node.attributes.get("Upper"))
    return None if low is None or high is None or not low < high else (low, high)


def _duration_ns(text: str) -> int:
    """An xsd:duration of days and less; 0 (no period) for anything else."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or len(text) > TEXT_MAX:
        return 0
    days, hours, minutes, seconds = (float(part or 0.0) for part in found.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return round(total * 1e9) if math.isfinite(total) and total < 1e6 else 0


def _decimal(text: str | None) -> float | None:
    """A finite decimal; None where there is none, or something else."""
    if text is None or len(text) > TEXT_MAX or not _DECIMAL.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


# --- states


def _state_nodes(message: Node) -> Iterable[tuple[Node, str]]:
    """State elements of any message, each with the type that its place implies."""
    for node in message.children:
        local = node.tag.removeprefix(MSG)
        if local in {"State", "ContextState"}:  # WaveformStream, GetContextStatesResponse
            yield node, "RealTimeSampleArrayMetricState" if local == "State" else ""
        elif local == "MdState":  # GetMdStateResponse
            yield from ((state, "") for state in node.all(PM + "State"))
        elif local == "Mdib":
            inner = node.child(PM + "MdState")
            if inner is not None:
                yield from ((state, "") for state in inner.all(PM + "State"))
        elif local == "ReportPart":
            for state in node.children:
                if state.tag in {MSG + "MetricState", MSG + "ContextState", MSG + "ComponentState"}:
                    yield state, ""


def _states(nodes: Iterable[tuple[Node, str]]) -> tuple[list[State], int]:
    states: list[State] = []
    refused = 0
    for node, implied in nodes:
        reader = _READERS.get(node.type.removeprefix(PM) if node.type else implied)
        if reader is None:
            continue  # an operation, a limit, a component: nothing that is measured
        try:
            states.append(reader(node))
        except (InputError, ValueError):
            refused += 1  # one state that cannot be read does not cost its neighbours
    return states, refused


def _heads(node: Node) -> tuple[str, int, int]:
    return _handle(node, "DescriptorHandle"), _count(node, "StateVersion"), _count(node, "DescriptorVersion")


def _active(node: Node) -> bool:
    return node.attributes.get("ActivationState", "On") == "On"


def _measure(node: Node) -> tuple[Node | None, Validity | None, int | None, bool]:
    """Metric value, its validity, determination time, and whether a real patient was measured."""
    value = node.child(PM + "MetricValue")
    if value is None:
        return None, None, None, True
    quality = value.child(PM + "MetricQuality")
    if quality is None:
        raise _malformed("a metric value has no quality")
    determined = _count(value, "DeterminationTime") if "DeterminationTime" in value.attributes else None
    real = quality.attributes.get("Mode", "Real") == "Real"
    return value, Validity(quality.attributes.get("Validity", "")), determined, real


def _numeric(node: Node) -> NumericState:
    value, validity, determined, real = _measure(node)
    number = None
    if value is not None and "Value" in value.attributes:
        number = _decimal(value.attributes["Value"])
        if number is None:
            raise _malformed("the value of a numeric is no decimal")
    return NumericState(*_heads(node), number, validity, determined, _active(node), real)


def _wave(node: Node) -> WaveState:
    value, validity, determined, real = _measure(node)
    text = value.attributes.get("Samples", "") if value is not None else ""
    words = text.split()
    if len(words) > BLOCK_SAMPLES_MAX or not _SAMPLES.fullmatch(text):
        raise _malformed(f"a sample array is no list of decimals, or of more than {BLOCK_SAMPLES_MAX}")
    samples = np.array([float(word) for word in words], dtype=np.float64)
    samples[~np.isfinite(samples)] = np.nan
    return WaveState(*_heads(node), samples, validity, determined, _active(node), real)


def _mds(node: Node) -> MdsState:
    return MdsState(*_heads(node), _active(node), node.attributes.get("OperatingMode", "Nml") == "Dmo")


def _context(node: Node) -> tuple[str, int, int, str, Association, tuple[tuple[str, str, str], ...]]:
    identifiers = []
    for one in node.all(PM + "Identification"):
        kind = _codes(one.child(PM + "Type"))
        root, extension = one.attributes.get("Root", ""), one.attributes.get("Extension", "")
        if (root or extension) and len(root) <= TEXT_MAX and len(extension) <= TEXT_MAX:
            identifiers.append((root, extension, kind[0].code if kind else ""))
    association = Association(node.attributes.get("ContextAssociation", "No"))
    return (*_heads(node), _handle(node, "Handle"), association, tuple(identifiers[:CODES_MAX]))


def _patient(node: Node) -> PatientState:
    core = node.child(PM + "CoreData")

    def text(name: str) -> str:
        found = core.child(PM + name) if core is not None else None
        return "" if found is None else found.text.strip()[:TEXT_MAX]

    return PatientState(*_context(node), text("DateOfBirth"), text("Sex"), text("PatientType"))


def _location(node: Node) -> LocationState:
    detail = node.child(PM + "LocationDetail")
    parts = ("PoC", "Room", "Bed", "Facility", "Building", "Floor")
    texts = ["" if detail is None else detail.attributes.get(part, "")[:TEXT_MAX] for part in parts]
    return LocationState(*_context(node), *texts)


_READERS: dict[str, Callable[[Node], State]] = {
    "NumericMetricState": _numeric,
    "RealTimeSampleArrayMetricState": _wave,
    "PatientContextState": _patient,
    "LocationContextState": _location,
    "MdsState": _mds,
}
