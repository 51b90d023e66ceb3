"""Attacks on a repository, and plain misfortunes that look like one: each is refused by its own code."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.testing.repository import FaultyServer, RepositoryLab, tiny_bundle
from edgeward.trust import client as client_module
from edgeward.trust.fetch import TrustClient, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "ecg-beat"


@pytest.fixture
def lab(tmp_path: Path) -> RepositoryLab:
    made = RepositoryLab(tmp_path)
    made.publish("1.0.0")
    return made


def refusal(client: TrustClient) -> str:
    with pytest.raises(TrustError) as caught:
        client.latest(NAME)
    assert "the bundle in use stays in use" in str(caught.value)
    return caught.value.code


def test_good_repository_is_served_from_folder_and_http(lab: RepositoryLab, tmp_path: Path) -> None:
    """The same signed bundle arrives from a folder, a file URL and a server."""
    raw = tiny_bundle("1.0.0")
    with FaultyServer(lab.repo) as server:
        for number, url in enumerate((lab.repo, lab.repo.as_uri(), server.url)):
            dest = tmp_path / f"{number}.ewb"
            offer = fetch(url, lab.trust, NAME, dest, root=lab.root, wall=lab.wall)
            assert (dest.read_bytes(), offer.version) == (raw, "1.0.0")


def test_expired_repository_is_refused(lab: RepositoryLab) -> None:
    """A timestamp past its expiry is repository-expired (freeze attack), and good again once refreshed."""
    lab.wall.advance(days=8)
    assert refusal(lab.client()) == "repository-expired"
    lab.publisher.refresh()
    assert lab.client().latest(NAME).version == "1.0.0"


@pytest.mark.parametrize("days", [15, 91])
def test_refresh_signs_deeper_roles_anew_when_they_need_it(lab: RepositoryLab, days: int) -> None:
    """Past snapshot's and past targets' expiry one refresh makes the repository good again."""
    lab.client().latest(NAME)
    lab.wall.advance(days=days)
    assert refusal(lab.client()) == "repository-expired"
    lab.publisher.refresh()
    assert lab.client().latest(NAME).version == "1.0.0"


@pytest.mark.parametrize("role", ["targets", "snapshot", "root"])
def test_expired_role_under_a_fresh_timestamp_is_refused(lab: RepositoryLab, role: str) -> None:
    """A fresh timestamp does not make up for another role's expiry."""
    if role == "root":
        lab.wall.advance(days=366)
        lab.publisher.refresh()
    else:
        folder = lab.publisher.folder
        state = folder.current()
        lab.wall.advance(days=-100)
        state.targets.version += role == "targets"
        folder.commit(state)
        lab.wall.advance(days=100)
        if role == "targets":
            folder.commit(state)
        else:
            state.timestamp.version += 1
            folder.write("timestamp", state.timestamp, "timestamp.json")
    assert refusal(lab.client()) == "repository-expired"


def test_rolled_back_repository_is_refused(lab: RepositoryLab) -> None:
    """A whole older repository, validly signed, is repository-rolled-back once a newer one was seen."""
    old = lab.snapshot_to("old")
    lab.publish("1.1.0")
    assert lab.client().latest(NAME).version == "1.1.0"
    assert refusal(lab.client(old)) == "repository-rolled-back"
    assert lab.client().latest(NAME).version == "1.1.0"


def test_rolled_back_targets_under_a_fresh_timestamp_are_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """Online keys alone cannot bring old targets back: snapshot may not lower a version."""
    lab.publish("1.1.0")
    lab.client().latest(NAME)
    folder = lab.publisher.folder
    state = folder.current()
    state.targets = folder.load("2.targets.json").signed
    state.snapshot.meta["targets.json"].version = 99
    folder.commit(state)
    assert refusal(lab.client()) == "repository-rolled-back"


def test_other_publishers_repository_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """A repository signed by keys this device does not know is signature-invalid."""
    (tmp_path / "evil").mkdir()
    evil = RepositoryLab(tmp_path / "evil", wall=lab.wall)
    evil.publish("6.6.6")
    assert refusal(lab.client(evil.repo)) == "signature-invalid"


def test_wrong_root_file_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """Another root file than the pinned one is root-changed; no file at all at first use is root-missing."""
    lab.client().latest(NAME)
    (tmp_path / "other").mkdir()
    other = RepositoryLab(tmp_path / "other", wall=lab.wall)
    assert refusal(TrustClient(lab.repo, lab.trust, root=other.root, wall=lab.wall)) == "root-changed"
    with pytest.raises(TrustError) as caught:
        TrustClient(lab.repo, tmp_path / "fresh", wall=lab.wall).latest(NAME)
    assert caught.value.code == "root-missing"


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[1]"])
def test_root_file_that_is_none_is_refused(lab: RepositoryLab, raw: bytes) -> None:
    """Anything that is not self-signed root metadata is root-unreadable and is not pinned."""
    assert refusal(TrustClient(lab.repo, lab.trust, root=raw, wall=lab.wall)) == "root-unreadable"
    assert lab.client().latest(NAME).version == "1.0.0"


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_other_role_s_metadata_is_no_root(lab: RepositoryLab, name: str) -> None:
    """Metadata of another role, though validly signed, cannot be pinned as root."""
    raw = (lab.repo / "metadata" / name).read_bytes()
    assert refusal(TrustClient(lab.repo, lab.trust, root=raw, wall=lab.wall)) == "root-unreadable"


def test_damaged_pinned_root_is_said(lab: RepositoryLab) -> None:
    """A flipped byte in the pinned root is root-unreadable, not a hint at an attack on the repository."""
    lab.client().latest(NAME)
    path = lab.trust / "pinned-root.json"
    path.write_bytes(path.read_bytes().replace(b"2027", b"2028", 1))
    assert refusal(lab.client()) == "root-unreadable"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("timestamp.json", "signature-invalid"),
        ("2.snapshot.json", "repository-mixed"),
        ("2.targets.json", "repository-mixed"),
    ],
)
def test_edited_metadata_are_refused(lab: RepositoryLab, name: str, code: str) -> None:
    """A changed field under an unchanged signature is refused at every role."""
    path = lab.repo / "metadata" / name
    path.write_bytes(re.sub(rb'("expires": ?")2026', rb"\g<1>2099", path.read_bytes()))
    assert b"2099" in path.read_bytes()
    assert refusal(lab.client()) == code


def test_mix_and_match_is_refused(lab: RepositoryLab) -> None:
    """Snapshot of one state under the timestamp of another is repository-mixed, though each is validly signed."""
    old = lab.snapshot_to("old")
    lab.publish("1.1.0")
    shutil.copy(old / "metadata" / "2.snapshot.json", lab.repo / "metadata" / "3.snapshot.json")
    assert refusal(lab.client()) == "repository-mixed"


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json"])
def test_endless_metadata_are_refused(lab: RepositoryLab, name: str) -> None:
    """A metadata file that does not end is given up at its signed or highest allowed length."""
    path = lab.repo / "metadata" / name
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" " * (6 << 20))
    assert refusal(lab.client()) == "metadata-too-large"


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json"])
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"signed": {}, "signatures": []}', b"[" * 16_000, b"\xff\xfe"])
def test_metadata_that_are_none_are_refused(lab: RepositoryLab, name: str, raw: bytes) -> None:
    """Anything that is not metadata is metadata-malformed, never a crash."""
    (lab.repo / "metadata" / name).write_bytes(raw)
    assert refusal(lab.client()) == "metadata-malformed"


def test_unreachable_repository_is_said(lab: RepositoryLab, tmp_path: Path) -> None:
    """No server, no folder, a server without the repository: repository-unreachable."""
    with FaultyServer(lab.repo) as server:
        gone = server.url
    for url in (gone, tmp_path / "nowhere"):
        assert refusal(lab.client(url)) == "repository-unreachable"
    (tmp_path / "empty" / "metadata").mkdir(parents=True)
    assert refusal(lab.client(tmp_path / "empty")) == "repository-unreachable"


def test_metadata_that_drip_are_given_up(lab: RepositoryLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that take longer than their limit are repository-unreachable (slow-retrieval attack)."""
    monkeypatch.setattr(client_module, "METADATA_S_MAX", -1.0)
    assert refusal(lab.client()) == "repository-unreachable"


def test_unknown_bundle_name_is_said(lab: RepositoryLab) -> None:
    """A name that the repository does not sign is bundle-not-published."""
    with pytest.raises(TrustError) as caught:
        lab.client().latest("ecg-rhythm")
    assert caught.value.code == "bundle-not-published"


@pytest.mark.parametrize("url", ["ftp://host/repo", "javascript://x", "data://,"])
def test_foreign_scheme_is_refused(lab: RepositoryLab, url: str) -> None:
    """Only folders, file, http and https are asked."""
    with pytest.raises(ConfigError) as caught:
        lab.client(url)
    assert caught.value.code == "repository-url"


def test_swapped_bundle_is_refused_and_thrown_away(lab: RepositoryLab, tmp_path: Path) -> None:
    """A bundle of the signed length with other bytes never reaches its destination."""
    client = lab.client()
    offer = client.latest(NAME)
    blob = next((lab.repo / "targets").iterdir())
    blob.write_bytes(b"\0" * offer.length)
    dest = tmp_path / "in" / "x.ewb"
    with pytest.raises(TrustError) as caught:
        client.download(offer, dest)
    assert caught.value.code == "download-hash"
    assert list(dest.parent.iterdir()) == []


def test_signed_entry_of_another_kind_is_refused(lab: RepositoryLab) -> None:
    """A signed entry without Edgeward's fields is offer-malformed."""
    folder = lab.publisher.folder
    state = folder.current()
    state.targets.targets[f"{NAME}.ewb"].unrecognized_fields = {}
    state.targets.version += 1
    folder.commit(state)
    assert refusal(lab.client()) == "offer-malformed"


# --- the device's clock


def test_clock_set_back_is_refused_and_forgiven_when_set_right(lab: RepositoryLab) -> None:
    """A clock before the last proven time is clock-behind; a small correction is not."""
    lab.client().latest(NAME)
    lab.wall.advance(hours=-2)
    assert lab.client().latest(NAME).version == "1.0.0"
    lab.wall.advance(days=-30)
    assert refusal(lab.client()) == "clock-behind"
    lab.wall.advance(days=31)
    assert lab.client().latest(NAME).version == "1.0.0"


def test_clock_set_back_a_little_cannot_revive_expired_metadata(lab: RepositoryLab) -> None:
    """Within the tolerance, expiry is judged at the proven time, not at the device's."""
    lab.wall.advance(days=6.9)
    lab.client().latest(NAME)
    floor = lab.trust / "clock-floor.json"
    proven = json.loads(floor.read_bytes())["proven"]
    floor.write_text(json.dumps({"proven": proven + 43_200}))
    assert refusal(lab.client()) == "repository-expired"


def test_clock_that_was_never_set_is_refused(lab: RepositoryLab) -> None:
    """A device that believes it is 1970 installs nothing."""
    lab.wall.now = datetime(1970, 1, 2, tzinfo=UTC)
    assert refusal(lab.client()) == "clock-behind"


def test_clock_far_ahead_does_not_poison_the_floor(lab: RepositoryLab) -> None:
    """A clock years ahead refuses new bundles while it is wrong, and nothing remains once it is right."""
    lab.client().latest(NAME)
    lab.wall.advance(days=4000)
    assert refusal(lab.client()) == "repository-expired"
    lab.wall.advance(days=-4000)
    assert lab.client().latest(NAME).version == "1.0.0"


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"proven": "soon"}', b'{"proven": 1e30}'])
def test_damaged_clock_floor_is_no_obstacle(lab: RepositoryLab, raw: bytes) -> None:
    """A floor that cannot be read is taken for the earliest one."""
    lab.client().latest(NAME)
    (lab.trust / "clock-floor.json").write_bytes(raw)
    assert lab.client().latest(NAME).version == "1.0.0"


# --- what the device keeps


def every_kept_file(lab: RepositoryLab) -> Iterator[Path]:
    yield from (p for p in (lab.trust / "metadata").rglob("*.json"))


def test_damaged_kept_metadata_are_fetched_again(lab: RepositoryLab) -> None:
    """Whichever kept metadata file is torn or emptied, the next refresh heals it."""
    lab.client().latest(NAME)
    kept = list(every_kept_file(lab))
    assert len(kept) == 5
    for path in kept:
        good = path.read_bytes()
        for bad in (b"", good[: len(good) // 2], b"\0" * len(good)):
            path.write_bytes(bad)
            assert lab.client().latest(NAME).version == "1.0.0"
            assert path.read_bytes() == good


def test_second_process_on_the_trust_folder_is_refused(lab: RepositoryLab) -> None:
    """Two clients at once on one trust folder: the second gets trust-in-use."""
    from edgeward.trust.durable import locked

    lab.trust.mkdir()
    with locked(lab.trust / ".lock", "x", "x"), pytest.raises(ConfigError) as caught:
        lab.client().latest(NAME)
    assert caught.value.code == "trust-in-use"


def test_flipped_byte_in_metadata_changes_nothing_or_is_refused(lab: RepositoryLab) -> None:
    """Whichever byte of the repository's metadata flips, the device gets the true offer or a TrustError."""
    truth = lab.client().latest(NAME)
    refused = 0
    for name in ("timestamp.json", "2.snapshot.json", "2.targets.json"):
        path = lab.repo / "metadata" / name
        good = path.read_bytes()
        for index in range(0, len(good), 41):
            shutil.rmtree(lab.trust)
            path.write_bytes(good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :])
            try:
                assert lab.client().latest(NAME) == truth
            except TrustError:
                refused += 1
        path.write_bytes(good)
    assert refused > 15
