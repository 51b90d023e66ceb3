"""How a device listens for HL7: plain values, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path
    from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Hl7Tls:
    """TLS for the listener, PEM files. ``client_ca``: who may connect; None: anybody who can reach the port."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> SSLContext:
        """A server context of TLS 1.2 or newer. Raises ``ConfigError`` (``hl7-tls``)."""
        import ssl  # loaded where TLS is asked for

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "hl7-tls", f"the HL7 listener's certificate, key or client CA cannot be used: {error.strerror or error}"
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class Hl7Settings:
    """How to listen. ``zone``: of stamps without one; ``codec``: of messages that name no character set.

    ``mute_s``: a connection that never said anything is dropped; ``half_s``: one that leaves a message half.
    """

    host: str = "127.0.0.1"
    port: int = 2575
    connections_max: int = 128
    mute_s: float = 60.0
    half_s: float = 30.0
    zone: tzinfo = UTC
    codec: str = "utf-8"
    tls: Hl7Tls | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535 or not 1 <= self.connections_max <= 1_024:
            raise ConfigError(
                "setting-invalid",
                "the HL7 port lies between 0 (any free port) and 65535, connections_max from 1 to 1024",
            )
        # Comparisons are written so that a NaN fails them.
        if not 1 <= self.mute_s <= 86_400 or not 1 <= self.half_s <= 600:
            raise ConfigError("setting-invalid", "mute_s lies between 1 and 86400 seconds, half_s between 1 and 600")
