"""The publisher: what a reader sees, what is refused, and what a cut leaves."""

from __future__ import annotations

import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import BundleError, ConfigError, EdgewardError, TrustError
from edgeward.testing.repository import RepositoryLab, tiny_bundle
from edgeward.trust import durable, repository
from edgeward.trust.durable import locked
from edgeward.trust.publish import Publisher
from edgeward.trust.roles import Expiry

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ecg-beat"


class CutError(BaseException):
    """The process ends here."""


@pytest.fixture
def lab(tmp_path: Path) -> RepositoryLab:
    return RepositoryLab(tmp_path)


def files_of(lab: RepositoryLab) -> dict[str, bytes]:
    return {str(p.relative_to(lab.repo)): p.read_bytes() for p in sorted(lab.repo.rglob("*")) if p.is_file()}


def test_keys_are_private_and_outside(lab: RepositoryLab, tmp_path: Path) -> None:
    """Key files are for their owner only, one per role, and never inside what is served."""
    keys = sorted((tmp_path / "keys").glob("*.pem"))
    assert [k.name for k in keys] == ["root-1.pem", "snapshot-1.pem", "targets-1.pem", "timestamp-1.pem"]
    assert {stat.S_IMODE(k.stat().st_mode) for k in keys} == {0o600}
    assert not [name for name in files_of(lab) if "pem" in name]
    with pytest.raises(ConfigError) as caught:
        Publisher(lab.repo, lab.repo / "metadata" / "keys")
    assert caught.value.code == "keys-inside-repository"


def test_key_that_others_may_read_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """A key with loose permissions is key-permissions; a damaged one key-unreadable; a lost one key-missing."""
    key = tmp_path / "keys" / "targets-1.pem"
    key.chmod(0o644)
    codes = [code_of(lab.publish)]
    key.chmod(0o600)
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n")
    codes.append(code_of(lab.publish))
    key.unlink()
    codes.append(code_of(lab.publish))
    assert codes == ["key-permissions", "key-unreadable", "key-missing"]


def code_of(action: object, *arguments: object) -> str:
    with pytest.raises(EdgewardError) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_second_init_is_refused(lab: RepositoryLab) -> None:
    """Initialising a repository again is repository-exists and changes nothing."""
    before = files_of(lab)
    assert code_of(lab.publisher.init) == "repository-exists"
    assert files_of(lab) == before


def test_same_bundle_twice_changes_nothing(lab: RepositoryLab, tmp_path: Path) -> None:
    """Publishing what is already published leaves every file as it is."""
    lab.publish()
    before = files_of(lab)
    path = tmp_path / "to-publish.ewb"
    assert lab.publisher.add(path).changed is False
    assert files_of(lab) == before
    assert [o.version for o in lab.publisher.published()] == ["1.0.0"]


def test_unreadable_bundle_is_not_published(lab: RepositoryLab, tmp_path: Path) -> None:
    """A damaged bundle is a BundleError, a missing one a ConfigError, and the repository stays as it was."""
    before = files_of(lab)
    bad = tmp_path / "bad.ewb"
    bad.write_bytes(tiny_bundle()[:-1])
    with pytest.raises(BundleError):
        lab.publisher.add(bad)
    assert code_of(lab.publisher.add, tmp_path / "none.ewb") == "bundle-unreadable"
    assert files_of(lab) == before


def test_older_bundle_is_published_only_as_a_return(lab: RepositoryLab) -> None:
    """An older version needs the word; then devices read that it is meant."""
    lab.publish("1.0.0")
    lab.publish("1.1.0")
    assert code_of(lab.publish, "1.0.0") == "bundle-older"
    lab.publish("1.0.0", allow_return=True)
    offer = lab.client().latest(NAME)
    assert (offer.version, offer.is_return) == ("1.0.0", True)
    lab.publish("1.1.0")
    assert lab.client().latest(NAME).is_return is False


def test_version_names_one_content_forever(lab: RepositoryLab) -> None:
    """Other bytes under a version that was ever published are version-taken, also after newer ones."""
    lab.publish("1.0.0")
    lab.publish("1.1.0")
    with pytest.raises(TrustError) as caught:
        lab.publish("1.0.0", filler=b"other", allow_return=True)
    assert caught.value.code == "version-taken"
    assert lab.client().latest(NAME).version == "1.1.0"


def test_bundles_of_other_names_stand_beside(lab: RepositoryLab, tmp_path: Path) -> None:
    """Each name has its own current bundle."""
    lab.publish("1.0.0")
    path = tmp_path / "other.ewb"
    path.write_bytes(tiny_bundle("7.0.0", name="ecg-other"))
    lab.publisher.add(path)
    assert [(o.name, o.version) for o in lab.publisher.published()] == [("ecg-beat", "1.0.0"), ("ecg-other", "7.0.0")]
    assert lab.client().latest("ecg-other").version == "7.0.0"


def test_publishing_without_a_repository_is_said(tmp_path: Path) -> None:
    """Adding to a folder that holds no repository is repository-missing, a damaged one repository-unreadable."""
    lab = RepositoryLab(tmp_path)
    (lab.repo / "metadata" / "timestamp.json").write_bytes(b"{")
    assert code_of(lab.publish) == "repository-unreadable"
    shutil.rmtree(lab.repo)
    assert code_of(lab.publish) == "repository-missing"


def test_second_publisher_at_once_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """Two writers at once: the second is repository-in-use."""
    with locked(tmp_path / "keys" / ".lock", "x", "x"):
        assert code_of(lab.publish) == "repository-in-use"


@pytest.mark.parametrize("expiry", [(0, 1, 1, 1), (3, 2, 5, 9), (1, 1, 9, 2)])
def test_expiry_out_of_order_is_refused(expiry: tuple[float, float, float, float]) -> None:
    """A role that outlives the one that vouches for it is expiry-order."""
    timestamp, snapshot, targets, root = expiry
    assert code_of(lambda: Expiry(root, targets, snapshot, timestamp)) == "expiry-order"


@pytest.mark.parametrize("when", ["before", "after"])
def test_reader_never_sees_half_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A publisher that ends before or after any of its writes leaves the old state or the new, and can go on."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    start = lab.snapshot_to("start")
    real = durable.write_durably
    cut_points = 0
    for cut in range(1, 20):
        shutil.rmtree(lab.repo)
        shutil.copytree(start, lab.repo)
        left = [cut]

        def write(path: Path, data: bytes, *, mode: int = 0o644, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                if when == "after":
                    real(path, data, mode=mode)
                raise CutError
            real(path, data, mode=mode)

        monkeypatch.setattr(repository, "write_durably", write)
        try:
            lab.publish("1.1.0")
        except CutError:
            cut_points += 1
        else:
            break
        finally:
            monkeypatch.setattr(repository, "write_durably", real)
        shutil.rmtree(lab.trust, ignore_errors=True)
        client = lab.client()
        offer = client.latest(NAME)
        client.download(offer, tmp_path / "got.ewb")
        assert (tmp_path / "got.ewb").read_bytes() == tiny_bundle(offer.version)
        lab.publish("1.1.0")
        lab.publish("1.2.0")
        assert lab.client().latest(NAME).version == "1.2.0"
    assert cut_points == 5  # bundle, delta, targets, snapshot, timestamp


def test_init_that_was_cut_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An init that ended before its timestamp is simply run again, with the keys it already made."""
    publisher = Publisher(tmp_path / "repo", tmp_path / "keys")
    real = durable.write_durably

    def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if path.name == "timestamp.json":
            raise CutError
        real(path, data, mode=mode)

    monkeypatch.setattr(repository, "write_durably", write)
    with pytest.raises(CutError):
        publisher.init()
    monkeypatch.setattr(repository, "write_durably", real)
    keys = {p.name: p.read_bytes() for p in (tmp_path / "keys").glob("*.pem")}
    assert not publisher.is_initialised
    publisher.init()
    assert publisher.is_initialised
    assert {p.name: p.read_bytes() for p in (tmp_path / "keys").glob("*.pem")} == keys
