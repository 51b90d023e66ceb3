"""What the fleet asks of the signed repository: which bundle is current, and to put a prepared return in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgeward.kernel.errors import ConfigError
from edgeward.trust.publish import Publisher

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.trust.offer import Offer


class Desk(Protocol):
    """The repository, as far as rollouts need it."""

    def offers(self) -> list[Offer]:
        """What it names now. ``ConfigError`` when it cannot be read."""
        ...

    def prepared(self, family: str) -> Offer | None:
        """What the family's prepared return says; None where there is none that fits."""
        ...

    def go_back(self, family: str, sha256: str) -> None:
        """Make the bundle ``sha256`` the family's current one by its prepared return; again: nothing changes.

        ``ConfigError`` says what a person must do instead.
        """
        ...


class FolderDesk:
    """A repository in a folder, with the online keys (and the prepared returns) in another, where the site has them."""

    def __init__(self, repository: Path, online_keys: Path) -> None:
        self._repository = repository
        self._keys = online_keys

    def offers(self) -> list[Offer]:
        """As ``Desk``."""
        return Publisher(self._repository, self._keys).published()

    def prepared(self, family: str) -> Offer | None:
        """As ``Desk``."""
        return Publisher(self._repository, self._keys).returns.prepared(family)

    def go_back(self, family: str, sha256: str) -> None:
        """As ``Desk``."""
        publisher = Publisher(self._repository, self._keys)
        if any(offer.name == family and offer.sha256 == sha256 for offer in publisher.published()):
            return
        if not publisher.folder.keys.paths("timestamp") or not publisher.folder.keys.paths("snapshot"):
            raise ConfigError(
                "return-by-hand",
                "the keys of snapshot and timestamp are not on this server; where they are, run edgeward publish "
                f"--release-return {family}: the return goes on by itself afterwards",
            )
        prepared = publisher.returns.prepared(family)
        if prepared is not None and prepared.sha256 != sha256:
            raise ConfigError(
                "return-other",
                f"the prepared return of {family} names version {prepared.version}, not the bundle that this rollout "
                "goes back to; with the family's key run edgeward publish OLD-BUNDLE --allow-return",
            )
        publisher.returns.release(family)


class NoDesk:
    """No repository that this server could write: every return is put in force by hand."""

    def offers(self) -> list[Offer]:
        """None that it knows of."""
        return []

    def prepared(self, family: str) -> Offer | None:  # noqa: ARG002
        """None that it knows of."""
        return None

    def go_back(self, family: str, sha256: str) -> None:  # noqa: ARG002
        """Always by hand."""
        raise ConfigError(
            "return-by-hand",
            "this server does not keep the repository; where its keys are, run edgeward publish --release-return "
            f"{family}: the return goes on by itself afterwards",
        )
