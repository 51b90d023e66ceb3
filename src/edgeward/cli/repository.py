"""The client of a signed repository, put together from what a command was given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from edgeward.trust.fetch import TrustClient


def trust_client(repository: str, trusted_root: str | Path, folder: Path, ca: str = "") -> TrustClient:
    """The client of ``repository`` (folder or URL) that trusts the first root in a file; ``folder``: what it proves.

    ``ca``: PEM file of the authority of an https server of its own. Raises ``ConfigError`` (``root-unreadable``).
    """
    from edgeward.trust.fetch import TrustClient

    try:
        root = Path(trusted_root).read_bytes()
    except OSError as error:
        raise ConfigError("root-unreadable", f"cannot read {trusted_root}: {error.strerror}") from error
    return TrustClient(repository, folder, root=root, ca=ca)
