"""What rollouts ask of a real signed repository."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from edgeward.fleet.conduct.desk import FolderDesk, NoDesk
from edgeward.kernel.errors import ConfigError
from edgeward.testing.repository import RepositoryLab, tiny_bundle
from edgeward.trust.roles import wall_now

if TYPE_CHECKING:
    from pathlib import Path

FAMILY = "ecg-beat"
OLD = sha256(tiny_bundle("1.0.0")).hexdigest()
NEW = sha256(tiny_bundle("1.1.0")).hexdigest()


class Now(RepositoryLab):
    """A repository by the real clock, since the desk has no other: two versions, the return prepared."""

    def __init__(self, folder: Path, *, with_return: str | None = "") -> None:
        super().__init__(folder, families=(FAMILY,), wall=wall_now)  # type: ignore[arg-type]
        for version in ("1.0.0", "1.1.0"):
            path = folder / "bundle.ewb"
            path.write_bytes(tiny_bundle(version))
            self.publisher.add(path, with_return=with_return if version == "1.1.0" else None)

    def online(self, *, keys: bool = True) -> Path:
        """The fleet server's folder: online keys and prepared returns alone."""
        made = self.folder / "online"
        (made / "returns").mkdir(parents=True)
        made.chmod(0o700)
        for name in ("snapshot-1.pem", "timestamp-1.pem") if keys else ():
            (made / name).write_bytes((self.folder / "keys" / name).read_bytes())
            (made / name).chmod(0o600)
        for path in (self.folder / "keys" / "returns").glob("*.json"):
            (made / "returns" / path.name).write_bytes(path.read_bytes())
        return made


def code_of(desk: FolderDesk | NoDesk, digest: str = OLD) -> str:
    with pytest.raises(ConfigError) as caught:
        desk.go_back(FAMILY, digest)
    return caught.value.code


def test_return_is_put_in_force_once(tmp_path: Path) -> None:
    """Devices are offered the older bundle afterwards, and asking again changes nothing."""
    lab = Now(tmp_path)
    desk = FolderDesk(lab.repo, lab.online())
    assert [offer.sha256 for offer in desk.offers()] == [NEW]
    prepared = desk.prepared(FAMILY)
    assert prepared is not None
    assert prepared.sha256 == OLD
    desk.go_back(FAMILY, OLD)
    desk.go_back(FAMILY, OLD)
    offer = lab.client().latest(FAMILY)
    assert (offer.sha256, offer.is_return) == (OLD, True)


def test_what_needs_a_hand_is_said(tmp_path: Path) -> None:
    """No keys here, no return prepared, a return to something else, no repository at all."""
    assert code_of(FolderDesk(Now(tmp_path / "a").repo, tmp_path / "empty")) == "return-by-hand"
    bare = Now(tmp_path / "b", with_return=None)
    assert code_of(FolderDesk(bare.repo, bare.online())) == "return-missing"
    other = Now(tmp_path / "c")
    assert code_of(FolderDesk(other.repo, other.online()), "f" * 64) == "return-other"
    assert code_of(NoDesk()) == "return-by-hand"
    assert NoDesk().offers() == []
    assert NoDesk().prepared(FAMILY) is None
    assert code_of(FolderDesk(tmp_path / "none", tmp_path / "empty")) == "repository-missing"


def test_hand_that_put_the_return_in_force_is_seen(tmp_path: Path) -> None:
    """Where the keys lie elsewhere, the server sees that it was done, and needs no key for it."""
    lab = Now(tmp_path)
    desk = FolderDesk(lab.repo, lab.online(keys=False))
    assert code_of(desk) == "return-by-hand"
    lab.publisher.returns.release(FAMILY)
    desk.go_back(FAMILY, OLD)
