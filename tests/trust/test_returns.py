"""The prepared return: who can put it in force, what it can say, and when it is void."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import ConfigError
from edgeward.testing.repository import RepositoryLab, tiny_bundle
from edgeward.trust.publish import Publisher

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ecg-beat"


@pytest.fixture(params=["families", "small"])
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> RepositoryLab:
    return RepositoryLab(tmp_path, families=(NAME,) if request.param == "families" else ())


def publish(lab: RepositoryLab, version: str, *, with_return: str | None = None, name: str = NAME) -> None:
    path = lab.folder / "bundle.ewb"
    path.write_bytes(tiny_bundle(version, name=name))
    lab.publisher.add(path, with_return=with_return)


def unattended(lab: RepositoryLab, tmp_path: Path) -> Publisher:
    """The fleet's machine: the online keys and what was kept beside them, and nothing else."""
    keys = tmp_path / "online"
    keys.mkdir(mode=0o700)
    for name in ("snapshot-1.pem", "timestamp-1.pem"):
        (keys / name).write_bytes((tmp_path / "keys" / name).read_bytes())
        (keys / name).chmod(0o600)
    kept = tmp_path / "keys" / "returns"
    (keys / "returns").mkdir()
    for path in kept.iterdir() if kept.exists() else ():
        (keys / "returns" / path.name).write_bytes(path.read_bytes())
    return Publisher(lab.repo, keys, wall=lab.wall)


def code_of(action: object, *arguments: object, **named: object) -> str:
    with pytest.raises(ConfigError) as caught:
        action(*arguments, **named)  # type: ignore[operator]
    return caught.value.code


def test_return_is_put_in_force_without_the_familys_key(lab: RepositoryLab, tmp_path: Path) -> None:
    """A device that took the newer version is offered the older one, as a return that is meant."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    client = lab.client()
    assert client.latest(NAME).version == "1.1.0"
    fleet = unattended(lab, tmp_path)
    prepared = fleet.returns.prepared(NAME)
    assert prepared is not None
    assert (prepared.version, prepared.is_return) == ("1.0.0", True)
    fleet.returns.release(NAME)
    offer = client.latest(NAME)
    assert (offer.version, offer.is_return) == ("1.0.0", True)
    client.download(offer, tmp_path / "got.ewb")
    assert (tmp_path / "got.ewb").read_bytes() == tiny_bundle("1.0.0")
    assert code_of(fleet.returns.release, NAME) == "return-missing"


def test_prepared_return_is_not_served_and_offers_nothing(lab: RepositoryLab) -> None:
    """Until it is put in force no device can learn of it, and the online keys alone cannot make one."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    assert not [path for path in lab.repo.rglob("*") if "return" in path.name]
    assert lab.client().latest(NAME).version == "1.1.0"


def test_online_keys_cannot_change_what_a_return_says(lab: RepositoryLab, tmp_path: Path) -> None:
    """Whoever holds the online keys can put in force what the family signed, and nothing made from it."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    fleet = unattended(lab, tmp_path)
    (kept,) = (tmp_path / "online" / "returns").iterdir()
    before = kept.read_bytes()
    kept.write_bytes(before.replace(b'"return":true', b'"return":false'))
    assert kept.read_bytes() != before
    assert code_of(fleet.returns.release, NAME) == "return-void"
    assert lab.client().latest(NAME).version == "1.1.0"


def test_whatever_is_published_later_makes_it_void(lab: RepositoryLab) -> None:
    """A return fits the state that it was signed for, and no other."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    publish(lab, "1.2.0")
    assert lab.publisher.returns.prepared(NAME) is None
    assert code_of(lab.publisher.returns.release, NAME) == "return-void"
    publish(lab, "1.2.0", with_return="1.0.0")
    prepared = lab.publisher.returns.prepared(NAME)
    assert prepared is not None
    assert prepared.version == "1.0.0"


def test_refreshing_keeps_it_fit(lab: RepositoryLab) -> None:
    """Signing a family anew at half its time signs its return anew; left alone both expire."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    lab.wall.advance(days=50)
    lab.publisher.refresh()
    prepared = lab.publisher.returns.prepared(NAME)
    assert prepared is not None
    assert prepared.version == "1.0.0"
    lab.wall.advance(days=89)
    lab.publisher.returns.release(NAME)
    assert lab.client().latest(NAME).version == "1.0.0"


def test_expired_return_is_said(lab: RepositoryLab) -> None:
    """After the family's time nothing can be put in force any more."""
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    lab.wall.advance(days=91)
    assert code_of(lab.publisher.returns.release, NAME) == "return-expired"


def test_nothing_to_go_back_to_is_said_before_anything_is_published(lab: RepositoryLab) -> None:
    """A first version has no return, a version that was never here neither."""
    assert code_of(publish, lab, "1.0.0", with_return="") == "return-version"
    assert lab.publisher.published() == []
    publish(lab, "1.0.0")
    assert code_of(publish, lab, "1.1.0", with_return="0.9.0") == "return-version"
    assert lab.client().latest(NAME).version == "1.0.0"
    assert code_of(lab.publisher.returns.release, NAME) == "return-missing"


def test_exchanged_key_makes_it_void(tmp_path: Path) -> None:
    """A return signed with a key that the family has no more is refused here, as devices would refuse it."""
    lab = RepositoryLab(tmp_path, families=(NAME,))
    publish(lab, "1.0.0")
    publish(lab, "1.1.0", with_return="")
    lab.ceremony.rotate_family(NAME)
    assert code_of(lab.publisher.returns.release, NAME) == "return-void"
    assert lab.client().latest(NAME).version == "1.1.0"
