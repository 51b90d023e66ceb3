"""What a signed entry of a repository says about a bundle: written by the publisher, read by the device."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bundle.archive import SUFFIX
from edgeward.kernel.errors import TrustError
from edgeward.kernel.limits import BUNDLE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Offer:
    """The bundle that signed metadata call current; ``length`` in bytes.

    ``is_return``: the publisher says that going back to an older version is meant.
    """

    name: str
    version: str
    sha256: str
    length: int
    is_return: bool = False

    @property
    def path(self) -> str:
        """The entry's path in the repository: one per bundle name."""
        return entry_path(self.name)

    def is_older_than(self, version: str) -> bool:
        """Whether this offer's version is lower than ``version``."""
        return version_key(self.version) < version_key(version)

    def to_custom(self) -> dict[str, Any]:
        """The custom fields of the signed entry."""
        custom: dict[str, Any] = {"name": self.name, "version": self.version, "sha256": self.sha256}
        return {**custom, "return": True} if self.is_return else custom

    @classmethod
    def from_entry(cls, name: str, length: int, hashes: Mapping[str, str], custom: object) -> Offer:
        """Read a signed entry strictly; ``TrustError`` ``offer-malformed`` when it is not one of ours."""
        fields = custom if isinstance(custom, dict) else {}
        digest, version = hashes.get("sha256", ""), fields.get("version")
        good = (
            fields.get("name") == name
            and fields.get("sha256") == digest
            and bool(_SHA256.fullmatch(digest))
            and isinstance(version, str)
            and bool(_VERSION.fullmatch(version))
            and 0 < length <= BUNDLE_BYTES_MAX
        )
        if not good:
            raise TrustError(
                "offer-malformed",
                f"the signed entry of bundle {name!r} is not one of Edgeward's; publish it again, "
                "the bundle in use stays in use",
            )
        return cls(name, str(version), digest, length, fields.get("return") is True)


def entry_path(name: str) -> str:
    """The path of the signed entry for the bundle ``name``."""
    return f"{name}{SUFFIX}"


def delta_path(old_sha256: str, new_sha256: str) -> str:
    """Where the delta between two bundles lies below ``targets/``: unsigned, since only the bundle it makes is trusted.

    One name is one content for ever, as with bundles.
    """
    return f"deltas/{old_sha256[:16]}-{new_sha256[:16]}.ewd"


def version_key(version: str) -> tuple[int, ...]:
    """``MAJOR.MINOR.PATCH`` as numbers, for comparing."""
    return tuple(int(part) for part in version.split("."))
