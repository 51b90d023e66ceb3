"""What a fleet server is told: where it keeps things, where it listens, whom it believes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgeward.kernel.errors import ConfigError
from edgeward.kernel.hosts import LOOPBACK


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Signing in by an identity provider.

    ``issuer``: its URL, whose discovery document says the rest; ``client_id`` and ``secret_file`` (one line) as it
    gave them; ``redirect_url``: this server's ``/oidc/callback`` as browsers reach it; ``claim``: the one that holds
    groups or roles, read against ``roles`` (value → role; the first that matches); ``name_claim``: the one that names
    the user, which the provider must never give to somebody else.
    """

    issuer: str
    client_id: str
    secret_file: Path | None = None
    redirect_url: str = ""
    claim: str = "groups"
    name_claim: str = "preferred_username"
    roles: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """One fleet server, or one of several on the same PostgreSQL.

    ``folder`` holds the authority, the server's certificate and, by default, the SQLite file; ``store``: a database
    URL, empty for that file; ``names``: DNS names and addresses by which devices and browsers know the server;
    ``certificate`` and ``key``: the server's own, else made by the authority; ``tls`` false is for loopback and for a
    proxy that ends TLS; ``trusted_proxies``: addresses whose ``proxy_header`` names a client certificate by its
    SHA-256; ``repository``: folder or ``s3://BUCKET/PREFIX`` of the signed repository, with its first root in
    ``trusted_root``; ``online_keys``: folder of snapshot's and timestamp's keys and of prepared returns (by default
    ``online-keys`` in the folder; without keys in it a return is put in force by hand); ``check_in_s``: how often
    devices come; ``days``: life of a device's certificate; ``session_s``: how long a browser stays signed in.
    """

    folder: Path
    name: str = "hospital"
    store: str = ""
    host: str = "127.0.0.1"
    port: int = 8470
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    tls: bool = True
    certificate: str = ""
    key: str = ""
    authority_certificate: str = ""
    authority_key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    proxy_header: str = "x-client-certificate-sha256"
    repository: str = ""
    trusted_root: str = ""
    online_keys: str = ""
    check_in_s: int = 60
    days: int = 45
    session_s: int = 43_200
    workers: int = 1
    oidc: OidcSettings | None = field(default=None)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535 or not 1 <= self.workers <= 64:
            raise ConfigError("setting-invalid", "port must lie between 0 and 65535, workers between 1 and 64")
        if not 1 <= self.check_in_s <= 3_600 or not 1 <= self.days <= 398 or not 300 <= self.session_s <= 604_800:
            raise ConfigError(
                "setting-invalid",
                "check_in_s must lie between 1 and 3600, days between 1 and 398, session_s between 300 and 604800",
            )
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("setting-incomplete", "certificate and key belong together")
        if bool(self.authority_certificate) != bool(self.authority_key):
            raise ConfigError("setting-incomplete", "authority_certificate and authority_key belong together")
        if not self.names:
            raise ConfigError("setting-incomplete", "names must hold at least the server's own name")
        if not self.tls and self.host not in LOOPBACK and not self.trusted_proxies:
            raise ConfigError(
                "fleet-open",
                "without TLS a fleet server listens on loopback, or behind a proxy that trusted_proxies names",
            )

    @property
    def store_url(self) -> str:
        """The database's URL."""
        return self.store or f"sqlite:///{self.folder / 'fleet.db'}"

    @property
    def online_keys_folder(self) -> Path:
        """Where the repository's online keys lie, if they are on this machine."""
        return Path(self.online_keys).expanduser() if self.online_keys else self.folder / "online-keys"

    @property
    def authority_files(self) -> tuple[Path, Path]:
        """The authority's certificate and key."""
        if self.authority_certificate:
            return Path(self.authority_certificate), Path(self.authority_key)
        return self.folder / "ca.pem", self.folder / "ca-key.pem"

    @property
    def server_files(self) -> tuple[Path, Path]:
        """The server's certificate chain and key."""
        if self.certificate:
            return Path(self.certificate), Path(self.key)
        return self.folder / "server.pem", self.folder / "server-key.pem"
