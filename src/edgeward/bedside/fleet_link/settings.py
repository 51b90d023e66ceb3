"""Where a device's fleet is: the table ``[fleet]``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from edgeward.kernel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """``url``: https://HOST[:PORT] of the fleet; ``ca``: PEM file of its authority, brought by hand.

    ``folder``: where key and certificate lie, empty for ``fleet`` in the state folder; ``first_s``: the first check-in
    comes within so many seconds of the start. Raises ``ConfigError``.
    """

    url: str
    ca: str
    folder: str = ""
    first_s: float = 5.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            named = bool(parts.hostname) and (parts.port or 443) > 0
        except ValueError:
            named = False
        if not named or parts.scheme != "https" or parts.path not in {"", "/"} or parts.query or parts.username:
            raise ConfigError("fleet-url", "url must name the fleet as https://HOST or https://HOST:PORT")
        if not self.ca:
            raise ConfigError("setting-incomplete", "ca must name the PEM file of the fleet's authority")
        if not 0 <= self.first_s <= 3_600:
            raise ConfigError("setting-invalid", "first_s must lie between 0 and 3600")
