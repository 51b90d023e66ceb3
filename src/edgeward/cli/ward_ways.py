"""A ward's ways in and out, as the settings file has them: ``[fhir]``, ``[[sdc]]``, ``[out]``. No table, no such way.

Files that a table names (certificates, tokens) are opened when the ward starts, not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import edgeward
from edgeward.bedside.output.fhir import FhirOutSettings
from edgeward.bedside.output.hl7 import Hl7OutSettings
from edgeward.bedside.source.fhir import FhirSettings
from edgeward.bedside.source.sdc_link import SdcAddress, sdc_address
from edgeward.cli.settings import document, require_tls_whole, rows_of, table_of, typed, within, words_of, zone_of
from edgeward.kernel.errors import ConfigError
from edgeward.wire.entries import PREFER
from edgeward.wire.fhir_out import Author
from edgeward.wire.hl7v2_encode import Sender
from edgeward.wire.hl7v2_out import Letterhead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEVICE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: our certificate, its key, and the authority of those who may connect ("" where anybody may)."""

    certificate: str
    key: str
    authority: str = ""


@dataclass(frozen=True, slots=True)
class FhirIn:
    """The FHIR endpoint: ``settings`` without its TLS, which ``tls`` names."""

    settings: FhirSettings
    tls: TlsFiles | None


@dataclass(frozen=True, slots=True)
class SdcIn:
    """SDC devices that are reached, and report, in one way."""

    addresses: tuple[SdcAddress, ...]
    host: str
    port: int
    tls: TlsFiles | None


@dataclass(frozen=True, slots=True)
class Ways:
    """Every way that the site has configured besides ``[hl7]`` in."""

    fhir: FhirIn | None = None
    sdc: tuple[SdcIn, ...] = ()
    hl7_out: Hl7OutSettings | None = None
    fhir_out: FhirOutSettings | None = None


@dataclass(frozen=True, slots=True)
class _FhirTable:
    """``[fhir]`` as it is written, without its tokens."""

    host: str = "127.0.0.1"
    port: int = 8090
    rate_hz: float = 50.0
    burst: int = 200
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""


@dataclass(frozen=True, slots=True)
class _SdcTable:
    """One ``[[sdc]]`` as it is written, without its devices."""

    host: str = "0.0.0.0"  # noqa: S104  # whichever interface a device is reached by; TLS says who may
    port: int = 0
    tls_certificate: str = ""
    tls_key: str = ""
    tls_authority: str = ""


@dataclass(frozen=True, slots=True)
class _OutTable:
    """``[out]`` as it is written: what holds for every destination."""

    device: str = ""
    scores_every_s: float = 900.0
    prefer: tuple[str, ...] = field(default=PREFER)


@dataclass(frozen=True, slots=True)
class _Hl7OutTable:
    """``[out.hl7]`` as it is written."""

    host: str = ""
    port: int = 0
    plain_text: bool = False
    tls_authority: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    application: str = "EDGEWARD"
    facility: str = ""
    receiver: str = ""
    receiver_facility: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class _FhirOutTable:
    """``[out.fhir]`` as it is written, without its systems."""

    url: str = ""
    token_file: str = ""
    tls_authority: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    own: str = "urn:edgeward"


def load_ways(path: Path | None) -> Ways:
    """The ways of the TOML file. Raises ``ConfigError``, which names table and key."""
    found = document(path)
    sdc = tuple(_sdc(row) for row in rows_of(found.get("sdc", []), "sdc"))
    named = [address.name for one in sdc for address in one.addresses]
    if len(set(named)) < len(named):
        raise ConfigError("sdc-devices", "[[sdc]] devices: a device is named twice; name each once")
    hl7_out, fhir_out = _out(found)
    fhir = _fhir(dict(table_of(found["fhir"], "fhir"))) if "fhir" in found else None
    return Ways(fhir, sdc, hl7_out, fhir_out)


def _fhir(table: dict[str, Any]) -> FhirIn:
    tokens = table_of(table.pop("tokens", {}), "fhir.tokens")
    for name, digest in tokens.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ConfigError(
                "fhir-token",
                f"[fhir.tokens] {name}: write the SHA-256 of the sender's token in 64 small hex digits "
                "(printf %s TOKEN | sha256sum)",
            )
    plain = typed(_FhirTable(), table, "fhir")
    tls = _tls(plain.tls_certificate, plain.tls_key, plain.tls_client_ca, "fhir", "tls_client_ca")
    with within("[fhir]"):
        return FhirIn(FhirSettings(plain.host, plain.port, None, tokens, plain.rate_hz, plain.burst), tls)


def _sdc(row: Mapping[str, Any]) -> SdcIn:
    table = dict(row)
    devices = words_of(table.pop("devices", []), "sdc", "devices")
    plain = typed(_SdcTable(), table, "sdc")
    if not devices:
        raise ConfigError("sdc-devices", "[[sdc]] devices: name at least one device")
    if not 0 <= plain.port <= 65_535:
        raise ConfigError("setting-invalid", "[[sdc]] port must lie between 0 (any free port) and 65535")
    tls = _tls(plain.tls_certificate, plain.tls_key, plain.tls_authority, "sdc", "tls_authority")
    if tls is not None and not tls.authority:
        raise ConfigError("setting-incomplete", "[[sdc]] tls_authority: both sides show a certificate; name its file")
    with within("[[sdc]] devices:"):
        addresses = tuple(sdc_address(device) for device in devices)
    secure = [address.url.startswith("https:") for address in addresses if address.url]
    if any(secure) and tls is None:
        raise ConfigError("setting-incomplete", "[[sdc]] tls_certificate: devices at https:// need our certificate")
    if tls is not None and not all(secure):
        raise ConfigError("setting-invalid", "[[sdc]] devices: one at http:// has no TLS; give it a [[sdc]] of its own")
    return SdcIn(addresses, plain.host, plain.port, tls)


def _tls(certificate: str, key: str, authority: str, where: str, name: str) -> TlsFiles | None:
    require_tls_whole(certificate, key, authority, where, name)
    return TlsFiles(certificate, key, authority) if certificate else None


def _out(found: Mapping[str, Any]) -> tuple[Hl7OutSettings | None, FhirOutSettings | None]:
    if "out" not in found:
        return None, None
    table = dict(table_of(found["out"], "out"))
    hl7, fhir = table.pop("hl7", None), table.pop("fhir", None)
    prefer = words_of(table.pop("prefer", list(PREFER)), "out", "prefer")
    common = typed(_OutTable(prefer=prefer), table, "out")
    if not _DEVICE.fullmatch(common.device):
        raise ConfigError(
            "setting-incomplete",
            "[out] device: name this device as no other of the hospital is named, in up to 32 letters, digits, . _ -",
        )
    return (
        None if hl7 is None else _hl7_out(table_of(hl7, "out.hl7"), common, found),
        None if fhir is None else _fhir_out(dict(table_of(fhir, "out.fhir")), common),
    )


def _hl7_out(table: dict[str, Any], common: _OutTable, found: Mapping[str, Any]) -> Hl7OutSettings:
    plain = typed(_Hl7OutTable(), table, "out.hl7")
    zone = plain.zone or str(table_of(found.get("hl7", {}), "hl7").get("zone", "UTC"))
    sender = Sender(
        plain.application, plain.facility, receiver=plain.receiver, receiver_facility=plain.receiver_facility
    )
    with within("[out.hl7]"):
        return Hl7OutSettings(
            plain.host,
            plain.port,
            Letterhead(common.device, sender, zone_of(zone, "out.hl7"), common.prefer),
            plain.plain_text,
            plain.tls_authority,
            plain.tls_certificate,
            plain.tls_key,
            common.scores_every_s,
        )


def _fhir_out(table: dict[str, Any], common: _OutTable) -> FhirOutSettings:
    systems = table_of(table.pop("systems", {}), "out.fhir.systems")
    if not all(isinstance(system, str) for system in systems.values()):
        raise ConfigError("setting-invalid", "[out.fhir.systems] each authority has a URI, as a text")
    plain = typed(_FhirOutTable(), table, "out.fhir")
    with within("[out.fhir]"):
        return FhirOutSettings(
            plain.url,
            Author(common.device, edgeward.__version__, plain.own, systems, common.prefer),
            plain.token_file,
            plain.tls_authority,
            plain.tls_certificate,
            plain.tls_key,
            common.scores_every_s,
        )
