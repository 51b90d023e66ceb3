"""Deltas beside bundles: published where they save bytes, used where they fit, trusted with nothing."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from edgeward.bundle.delta.diff import make_delta
from edgeward.kernel.errors import ConfigError
from edgeward.testing.repository import FaultyServer, RepositoryLab
from edgeward.trust import publish as publishing
from edgeward.trust.download import StoppedError
from edgeward.trust.offer import delta_path

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ecg-beat"
FILLER = random.Random(5).randbytes(60_000)


def two_versions(folder: Path) -> tuple[RepositoryLab, Path, str, Path]:
    """A lab with 1.0.0 and 1.1.0, the installed 1.0.0 with its hash, and the delta between them."""
    lab = RepositoryLab(folder)
    old = lab.publish("1.0.0", filler=FILLER)
    new = lab.publish("1.1.0", filler=FILLER)
    installed = folder / "installed.ewb"
    installed.write_bytes(old)
    old_sha, new_sha = (hashlib.sha256(raw).hexdigest() for raw in (old, new))
    return lab, installed, old_sha, lab.repo / "targets" / delta_path(old_sha, new_sha)


def test_publishing_writes_the_delta_from_the_version_before(tmp_path: Path) -> None:
    """It lies at targets/deltas/FROM16-TO16.ewd and is a fraction of the bundle."""
    lab, _, _, delta = two_versions(tmp_path)
    assert delta.stat().st_size < 3_000
    assert [path.name for path in (lab.repo / "targets" / "deltas").iterdir()] == [delta.name]


def test_no_delta_is_written_where_the_whole_bundle_packed_is_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a delta needs no bundle before and saves nothing over the whole file: it is not published."""
    monkeypatch.setattr(publishing, "make_delta", lambda old, new: make_delta(b"", new))
    _, _, _, delta = two_versions(tmp_path)
    assert not delta.exists()


def test_delta_that_cannot_be_made_keeps_nothing_from_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for it: the bundle is published all the same."""

    def none(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(publishing, "make_delta", none)
    lab, _, _, delta = two_versions(tmp_path)
    assert not delta.exists()
    assert lab.client().latest(NAME).version == "1.1.0"


def test_device_makes_the_new_bundle_from_the_delta_over_http(tmp_path: Path) -> None:
    """No byte of the whole file is asked for, and the download finds it in place."""
    lab, installed, old_sha, _ = two_versions(tmp_path)
    with FaultyServer(lab.repo) as server:
        client = lab.client(server.url)
        offer, dest = client.latest(NAME), tmp_path / "new.ewb"
        assert client.patch(offer, installed, old_sha, dest)
        assert client.download(offer, dest).fetched_bytes == 0
        assert server.faults.requests == []
    assert hashlib.sha256(dest.read_bytes()).hexdigest() == offer.sha256
    assert sorted(path.name for path in tmp_path.glob("*.ewb*")) == ["installed.ewb", "new.ewb", "to-publish.ewb"]


@pytest.mark.parametrize("harm", ["missing", "flipped", "cut", "swollen", "another", "wrong base"])
def test_delta_that_does_not_fit_is_left_for_the_whole_file(tmp_path: Path, harm: str) -> None:
    """Whatever a server does to a delta costs the device a download of the whole bundle, and leaves nothing."""
    lab, installed, old_sha, delta = two_versions(tmp_path)
    raw = delta.read_bytes()
    if harm == "missing":
        delta.unlink()
    elif harm == "flipped":
        delta.write_bytes(raw[:200] + bytes([raw[200] ^ 1]) + raw[201:])
    elif harm == "cut":
        delta.write_bytes(raw[: len(raw) // 2])
    elif harm == "swollen":
        delta.write_bytes(raw + bytes(1 << 20))
    elif harm == "another":
        lab.publish("1.2.0", filler=FILLER)
        lab.publish("1.1.5", filler=FILLER, allow_return=True)
        other = max(delta.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        delta.write_bytes(other.read_bytes())
    else:
        installed.write_bytes(installed.read_bytes()[:-1] + b"!")
    client = lab.client()
    offer, dest = client.latest(NAME), tmp_path / "new.ewb"
    assert not client.patch(offer, installed, old_sha, dest)
    assert not [path.name for path in tmp_path.iterdir() if "new.ewb" in path.name]
    client.download(offer, dest)
    assert hashlib.sha256(dest.read_bytes()).hexdigest() == offer.sha256


def test_download_under_way_is_not_begun_anew_as_a_delta(tmp_path: Path) -> None:
    """Bytes of the whole file that are here already are gone on with."""
    lab, installed, old_sha, _ = two_versions(tmp_path)
    client = lab.client()
    offer, dest = client.latest(NAME), tmp_path / "new.ewb"

    def stop(held: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        client.download(offer, dest, progress=stop)
    assert not client.patch(offer, installed, old_sha, dest)
    assert client.download(offer, dest).resumed_bytes > 0


def test_stop_in_a_delta_passes_through_and_leaves_nothing(tmp_path: Path) -> None:
    """A device that stops while it fetches a delta has no half of one."""
    lab, installed, old_sha, _ = two_versions(tmp_path)
    client = lab.client()

    def stop(held: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        client.patch(client.latest(NAME), installed, old_sha, tmp_path / "new.ewb", progress=stop)
    assert not list(tmp_path.glob("new.ewb*"))


def test_full_disk_while_patching_is_left_for_the_download_to_say(tmp_path: Path) -> None:
    """A delta has no errors of its own: the whole file's download says what is wrong with the disk."""
    lab, installed, old_sha, _ = two_versions(tmp_path)
    client = lab.client()
    offer = client.latest(NAME)
    nowhere = tmp_path / "file"
    nowhere.write_bytes(b"")
    assert not client.patch(offer, installed, old_sha, nowhere / "new.ewb")
    with pytest.raises(ConfigError) as caught:
        client.download(offer, nowhere / "new.ewb")
    assert caught.value.code == "disk-error"
