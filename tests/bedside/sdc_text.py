"""SDC messages as bytes, written by hand after ISO/IEEE 11073-10207, independent of the library that tests use."""

from __future__ import annotations

_NS = (
    'xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:msg="http://standards.ieee.org/downloads/11073/11073-10207-2017/message" '
    'xmlns:pm="http://standards.ieee.org/downloads/11073/11073-10207-2017/participant" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:wse="http://schemas.xmlsoap.org/ws/2004/08/eventing"'
)


def envelope(body: str) -> bytes:
    """A SOAP 1.2 envelope around ``body``."""
    return f"<s:Envelope {_NS}><s:Header/><s:Body>{body}</s:Body></s:Envelope>".encode()


def _run(number: int, sequence: str) -> str:
    return f'MdibVersion="{number}" SequenceId="{sequence}"'


def report(name: str, states: str, number: int = 1, sequence: str = "urn:uuid:1") -> bytes:
    """A report called ``name`` whose one part holds ``states``."""
    return envelope(f"<msg:{name} {_run(number, sequence)}><msg:ReportPart>{states}</msg:ReportPart></msg:{name}>")


def waveforms(states: str, number: int = 1, sequence: str = "urn:uuid:1") -> bytes:
    """A WaveformStream."""
    return envelope(f"<msg:WaveformStream {_run(number, sequence)}>{states}</msg:WaveformStream>")


def numeric(
    handle: str,
    value: str,
    *,
    version: int = 1,
    descriptor: int = 0,
    validity: str = "Vld",
    at_ms: int | None = 1000,
    mode: str = "Real",
    active: str = "On",
    tag: str = "msg:MetricState",
) -> str:
    """A NumericMetricState; an empty ``value`` leaves it out."""
    stamp = "" if at_ms is None else f' DeterminationTime="{at_ms}"'
    number = f' Value="{value}"' if value else ""
    return (
        f'<{tag} xsi:type="pm:NumericMetricState" DescriptorHandle="{handle}" StateVersion="{version}" '
        f'DescriptorVersion="{descriptor}" ActivationState="{active}"><pm:MetricValue{number}{stamp}>'
        f'<pm:MetricQuality Validity="{validity}" Mode="{mode}"/></pm:MetricValue></{tag}>'
    )


def wave(handle: str, samples: str, *, version: int = 1, validity: str = "Vld", at_ms: int = 1000) -> str:
    """A RealTimeSampleArrayMetricState of a WaveformStream."""
    return (
        f'<msg:State DescriptorHandle="{handle}" StateVersion="{version}"><pm:MetricValue Samples="{samples}" '
        f'DeterminationTime="{at_ms}"><pm:MetricQuality Validity="{validity}"/></pm:MetricValue></msg:State>'
    )


def patient(
    handle: str,
    association: str = "Assoc",
    *,
    version: int = 0,
    descriptor: str = "pc",
    root: str = "urn:oid:1.2.3",
    extension: str = "P1",
    core: str = "",
    tag: str = "msg:ContextState",
) -> str:
    """A PatientContextState; an empty ``extension`` leaves its identification out."""
    known = f'<pm:Identification Root="{root}" Extension="{extension}"/>' if extension else ""
    return (
        f'<{tag} xsi:type="pm:PatientContextState" DescriptorHandle="{descriptor}" Handle="{handle}" '
        f'StateVersion="{version}" ContextAssociation="{association}">{known}<pm:CoreData>{core}</pm:CoreData></{tag}>'
    )


def location(
    handle: str,
    bed: str,
    association: str = "Assoc",
    *,
    version: int = 0,
    descriptor: str = "lc",
    tag: str = "msg:ContextState",
) -> str:
    """A LocationContextState."""
    return (
        f'<{tag} xsi:type="pm:LocationContextState" DescriptorHandle="{descriptor}" Handle="{handle}" '
        f'StateVersion="{version}" ContextAssociation="{association}">'
        f'<pm:LocationDetail PoC="ICU" Bed="{bed}" Facility="H"/></{tag}>'
    )


def metric(handle: str, code: str, unit: str, *, version: int = 0, name: str = "") -> str:
    """A NumericMetricDescriptor."""
    symbol = f' SymbolicCodeName="{name}"' if name else ""
    return (
        f'<pm:Metric xsi:type="pm:NumericMetricDescriptor" Handle="{handle}" DescriptorVersion="{version}">'
        f'<pm:Type Code="{code}"{symbol}/><pm:Unit Code="{unit}"/></pm:Metric>'
    )


def lead(handle: str, code: str, *, unit: str = "266418", period: str = "PT0.004S", inner: str = "") -> str:
    """A RealTimeSampleArrayMetricDescriptor."""
    return (
        f'<pm:Metric xsi:type="pm:RealTimeSampleArrayMetricDescriptor" Handle="{handle}" SamplePeriod="{period}" '
        f'Resolution="0.001"><pm:Type Code="{code}"/><pm:Unit Code="{unit}"/>{inner}</pm:Metric>'
    )


def mds(metrics: str, handle: str = "mds", suffix: str = "") -> str:
    """An MDS with contexts and one channel of ``metrics``; ``suffix`` tells the handles of several apart."""
    return (
        f'<pm:Mds Handle="{handle}"><pm:SystemContext Handle="sc{suffix}"><pm:PatientContext Handle="pc{suffix}"/>'
        f'<pm:LocationContext Handle="lc{suffix}"/></pm:SystemContext><pm:Vmd Handle="vmd{suffix}">'
        f'<pm:Channel Handle="ch{suffix}">{metrics}</pm:Channel></pm:Vmd></pm:Mds>'
    )


def mdib(description: str, states: str = "", number: int = 1, sequence: str = "urn:uuid:1") -> bytes:
    """An answer to GetMdib."""
    run = _run(number, sequence)
    return envelope(
        f"<msg:GetMdibResponse {run}><msg:Mdib {run}><pm:MdDescription>{description}</pm:MdDescription>"
        f"<pm:MdState>{states}</pm:MdState></msg:Mdib></msg:GetMdibResponse>"
    )


def md_state(states: str, number: int = 1, sequence: str = "urn:uuid:1") -> bytes:
    """An answer to GetMdState."""
    return envelope(
        f"<msg:GetMdStateResponse {_run(number, sequence)}><msg:MdState>{states}</msg:MdState></msg:GetMdStateResponse>"
    )
