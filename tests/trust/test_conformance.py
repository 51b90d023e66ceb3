"""The cases of theupdateframework/tuf-conformance by their names: refresh, expiry, keys, downloads, role names."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from simulated import TOP, in_days
from tuf.api.metadata import DelegatedRole, Key, Metadata, MetaFile

if TYPE_CHECKING:
    from simulated import Client, Repository

FIRST = [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
ALL_FIRST = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
FILE = "target_file.txt"


def with_field(key: Key, name: str, value: object) -> Key:
    """``key`` with one more field, and the key id that goes with it."""
    from hashlib import sha256

    fields = {**key.to_dict(), name: value}
    return Key.from_dict(sha256(encode_canonical(fields).encode()).hexdigest(), fields)


def edit_last(repo: Repository, role: str, edit: object) -> None:
    """Change the JSON last published of ``role`` without counting or signing."""
    document = json.loads(repo.published[role].pop())
    edit(document)  # type: ignore[operator]
    repo.published[role].append(json.dumps(document).encode())


# --- test_basic.py


def test_basic_refresh_requests(client: Client, repo: Repository) -> None:
    """A first refresh asks for the next root, timestamp, snapshot and targets, in this order and once each."""
    assert (client.init(), repo.asked) == (0, [])
    assert client.refresh() == 0
    assert repo.asked == FIRST


def test_basic_refresh_trusted_data(client: Client, repo: Repository) -> None:
    """After it, the metadata folder holds exactly what was published, under names without versions."""
    assert (client.init(), client.refresh()) == (0, 0)
    for role in TOP:
        assert (client.metadata / f"{role}.json").read_bytes() == repo.published[role][-1]
    assert client.trusted() == ALL_FIRST


def test_implicit_refresh(client: Client, repo: Repository) -> None:
    """A download right after init proves the metadata first, and fails on a name that nobody signed."""
    assert client.init() == 0
    assert client.download("nonexistent artifact") == 1
    assert repo.asked == FIRST
    assert client.trusted() == ALL_FIRST


def test_invalid_initial_root(client: Client, repo: Repository) -> None:
    """A root without a version is never trusted, and nothing is asked of the repository."""
    document = json.loads(client.trusted_root)
    del document["signed"]["version"]
    client.trusted_root = json.dumps(document).encode()
    client.init()
    assert client.refresh() == 1
    assert repo.asked == []


def test_unsigned_initial_root(client: Client, repo: Repository) -> None:
    """A root whose signature is another one is never trusted, and nothing is asked of the repository."""
    document = json.loads(client.trusted_root)
    document["signatures"][0]["sig"] = "ab" * 64
    client.trusted_root = json.dumps(document).encode()
    client.init()
    assert client.refresh() == 1
    assert repo.asked == []


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 1}),
        ("timestamp", {"root": 2}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "timestamp": 2, "snapshot": 2}),
    ],
    ids=TOP,
)
def test_unsigned_metadata(client: Client, repo: Repository, role: str, trusted: dict[str, int]) -> None:
    """A role without its signature is refused; the roles proven before it stay proven."""
    repo.signers[role].clear()
    repo.publish("root", "targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 1)
    assert client.trusted() == trusted


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 1}),
        ("snapshot", {"root": 2, "timestamp": 2}),
        ("targets", {"root": 2, "timestamp": 2, "snapshot": 2}),
    ],
    ids=["root", "snapshot", "targets"],
)
def test_url_and_metadata_version_mismatch(
    client: Client, repo: Repository, role: str, trusted: dict[str, int]
) -> None:
    """Metadata of version 3 at the address of version 2 are refused."""
    for each in ("root", "targets", "snapshot", "timestamp"):
        repo.mds[each].signed.version += each == role
        repo.publish(each)
        if each == role == "snapshot":
            repo.timestamp.snapshot_meta.version = 2
        if each == role == "targets":
            repo.snapshot.meta["targets.json"].version = 2
    assert repo.mds[role].signed.version == 3
    assert (client.init(), client.refresh()) == (0, 1)
    assert client.trusted() == trusted


def test_timestamp_content_changes(client: Client, repo: Repository) -> None:
    """Another timestamp under a version already seen is not kept and not followed."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.timestamp.snapshot_meta.version = 100
    repo.restart("timestamp")
    repo.publish("timestamp")
    assert client.refresh() == 0
    assert repo.asked[-1] == ("timestamp", None)
    kept = Metadata.from_bytes((client.metadata / "timestamp.json").read_bytes())
    assert kept.signed.snapshot_meta.version == 1


def test_basic_metadata_hash_support(client: Client, repo: Repository) -> None:
    """Hashes in snapshot and timestamp are honoured: right ones pass, a wrong one is refused."""
    repo.with_hashes = True
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.publish("targets")
    repo.snapshot.meta["targets.json"].hashes = {"sha256": "46" * 32}
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("snapshot"), client.version("targets")) == (3, 2)


def test_new_targets_hash_mismatch(client: Client, repo: Repository) -> None:
    """New targets under the old hash of the snapshot are refused."""
    repo.with_hashes = True
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    old = repo.snapshot.meta["targets.json"].hashes
    repo.publish("targets")
    repo.snapshot.meta["targets.json"].hashes = old
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("targets") == 2


def test_new_targets_version_mismatch(client: Client, repo: Repository) -> None:
    """New targets that no snapshot names are not looked at."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.publish("targets")
    assert client.refresh() == 0
    assert client.trusted() == ALL_FIRST


def test_metadata_bytes_match(client: Client, repo: Repository) -> None:
    """What is kept are the bytes that came, not a serialisation of our own."""
    repo.published["timestamp"][-1] += b" "
    assert (client.init(), client.refresh()) == (0, 0)
    assert (client.metadata / "timestamp.json").read_bytes() == repo.published["timestamp"][-1]


def test_custom_fields(client: Client, repo: Repository) -> None:
    """Fields that nobody knows are part of what is signed and hinder nothing (TUF 4)."""
    assert (client.init(), client.refresh()) == (0, 0)
    signer = CryptoSigner.generate_ed25519()
    signer = CryptoSigner(signer._private_key, with_field(signer.public_key, "extra-field", {"a": 1, "b": 2}))
    repo.root.unrecognized_fields["custom-field"] = "value"
    repo.add_key("root", signer)
    repo.root.roles["root"].unrecognized_fields["another-field"] = "value"
    repo.publish("root")
    assert client.refresh() == 0
    assert client.version("root") == 2


def test_deprecated_keyid_hash_algorithms(client: Client, repo: Repository) -> None:
    """A misleading ``keyid_hash_algorithms`` of a key means nothing."""
    assert client.init() == 0
    repo.root.roles["snapshot"].keyids.clear()
    repo.signers["snapshot"].clear()
    signer = CryptoSigner.generate_ed25519()
    key = with_field(signer.public_key, "keyid_hash_algorithms", ["md5"])
    repo.add_key("snapshot", CryptoSigner(signer._private_key, key))
    repo.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert (client.version("root"), client.version("snapshot")) == (2, 2)


def test_snapshot_404(client: Client, repo: Repository) -> None:
    """A snapshot that is named and missing fails the refresh; the timestamp is kept."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.timestamp.snapshot_meta.version += 1
    repo.publish("timestamp")
    assert client.refresh() == 1
    assert repo.asked[-1] == ("snapshot", 2)
    assert client.trusted() == {**ALL_FIRST, "timestamp": 2}


def test_targets_404(client: Client, repo: Repository) -> None:
    """Targets that are named and missing fail the refresh; timestamp and snapshot are kept."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.snapshot.meta["targets.json"].version += 1
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert repo.asked[-1] == ("targets", 2)
    assert client.trusted() == {**ALL_FIRST, "timestamp": 2, "snapshot": 2}


def test_timestamp_404(client: Client, repo: Repository) -> None:
    """Without a timestamp there is no refresh."""
    assert (client.init(), client.refresh()) == (0, 0)
    del repo.published["timestamp"]
    assert client.refresh() == 1
    assert repo.asked[-1] == ("timestamp", None)


def test_incorrect_metadata_type(client: Client, repo: Repository) -> None:
    """A snapshot that would do as a timestamp, signed by the timestamp's key too, is none."""
    assert client.init() == 0
    repo.add_key("snapshot", next(iter(repo.signers["timestamp"].values())))
    repo.snapshot.meta = {"snapshot.json": MetaFile(1)}
    repo.publish("root", "snapshot")
    repo.published["timestamp"].append(repo.published["snapshot"].pop())
    assert client.refresh() == 1
    assert client.trusted() == {"root": 2}


def test_faketime(client: Client, repo: Repository) -> None:
    """The client judges expiry by the clock it is given."""
    assert client.init() == 0
    repo.root.expires = in_days(7)
    repo.publish("root")
    assert client.refresh() == 0
    client.now = in_days(8)
    assert client.refresh() == 1


def test_as_a_process(client: Client, repo: Repository) -> None:
    """The same verbs as a process: exit codes 0 and 1, one line on stderr for a refusal, 2 for wrong arguments."""
    repo.add_file("targets", FILE, b"content")
    repo.publish("targets", "snapshot", "timestamp")
    assert client.init() == 0
    base = [sys.executable, "-m", "edgeward.cli.tuf_client", "--metadata-dir", str(client.metadata)]
    base += ["--metadata-url", f"{client.url}/metadata/"]
    more = ["--target-base-url", f"{client.url}/targets/", "--target-dir", str(client.files), "download"]
    runs = [
        subprocess.run([*base, *rest], capture_output=True, text=True)
        for rest in (["refresh"], ["--target-name", FILE, *more], ["--target-name", "none", *more], ["download"])
    ]
    assert [run.returncode for run in runs] == [0, 0, 1, 2]
    assert client.downloaded() == [b"content"]
    assert "[file-not-published]" in runs[2].stderr
    assert len(runs[2].stderr.splitlines()) == 1
    assert "--target-name" in runs[3].stderr


# --- test_expiration.py, test_delegated_expiration.py


def test_root_expired(client: Client, repo: Repository) -> None:
    """An expired root is kept, and nothing below it is (TUF 5.3.10)."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.publish("root")
    assert client.refresh() == 0
    repo.root.expires = in_days(-1)
    repo.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {**ALL_FIRST, "root": 3}


def test_timestamp_expired(client: Client, repo: Repository) -> None:
    """An expired timestamp is not kept."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.timestamp.expires = in_days(-5)
    repo.publish("timestamp")
    assert client.refresh() == 1
    assert client.version("timestamp") == 1


def test_snapshot_expired(client: Client, repo: Repository) -> None:
    """An expired snapshot is not kept."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.snapshot.expires = in_days(-5)
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == 1


def test_targets_expired(client: Client, repo: Repository) -> None:
    """Expired targets are not kept."""
    assert (client.init(), client.refresh()) == (0, 0)
    repo.targets.expires = in_days(-5)
    repo.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("targets") == 1


def test_expired_local_root(client: Client, repo: Repository) -> None:
    """A kept root that has expired since does not keep the client from a newer one that has not."""
    assert client.init() == 0
    repo.root.expires = in_days(7)
    repo.publish("root")
    assert client.refresh() == 0
    repo.root.expires = in_days(21)
    repo.publish("root")
    client.now = in_days(18)
    assert client.refresh() == 0
    assert client.version("root") == 3


def test_expired_local_timestamp(client: Client, repo: Repository) -> None:
    """A kept timestamp that has expired since does not keep the client from a newer one that has not."""
    assert client.init() == 0
    repo.timestamp.expires = in_days(7)
    repo.publish("timestamp")
    assert client.refresh() == 0
    repo.timestamp.expires = in_days(21)
    repo.publish("targets", "snapshot", "timestamp")
    client.now = in_days(18)
    assert client.refresh() == 0
    assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 2}


def delegate_for(repo: Repository, days: float) -> None:
    repo.delegate("targets", DelegatedRole("delegated", [], 1, False, ["delegatedpath/*"]), in_days(days))
    repo.add_file("delegated", "delegatedpath/first", b"first")
    repo.add_file("delegated", "delegatedpath/second", b"second")
    repo.publish("delegated", "targets", "snapshot", "timestamp")


def test_delegated_targets_expired(client: Client, repo: Repository) -> None:
    """A delegated role that has expired is not kept, and what it names is not downloaded."""
    assert client.init() == 0
    delegate_for(repo, -1)
    assert client.refresh() == 0
    assert client.download("delegatedpath/first") == 1
    assert client.downloaded() == []
    assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_expired_local_delegated_targets(client: Client, repo: Repository) -> None:
    """A delegated role that was good and has expired since names nothing more."""
    assert client.init() == 0
    delegate_for(repo, 7)
    assert client.download("delegatedpath/first") == 0
    client.now = in_days(18)
    assert client.download("delegatedpath/second") == 1
    assert client.downloaded() == [b"first"]


def test_expired_local_delegated_targets_updates(client: Client, repo: Repository) -> None:
    """Its newer version, which has not expired, is taken instead."""
    assert client.init() == 0
    delegate_for(repo, 7)
    assert client.download("delegatedpath/first") == 0
    repo.mds["delegated"].signed.expires = in_days(21)
    repo.publish("delegated", "snapshot", "timestamp")
    client.now = in_days(18)
    assert client.download("delegatedpath/second") == 0
    assert client.downloaded() == [b"first", b"second"]


# --- test_keys.py


def test_snapshot_does_not_meet_threshold(client: Client, repo: Repository) -> None:
    """Two signatures where three are wanted are not enough."""
    repo.root.roles["snapshot"].threshold = 3
    repo.add_key("snapshot")
    repo.add_key("snapshot")
    repo.publish("root", "targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.signers["snapshot"].popitem()
    repo.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == 2


def test_snapshot_has_too_few_keys(client: Client, repo: Repository) -> None:
    """A threshold above the number of keys can never be met."""
    assert client.init() == 0
    for _ in range(4):
        repo.add_key("snapshot")
    repo.root.roles["snapshot"].threshold = 6
    repo.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("root"), client.version("snapshot")) == (2, None)


def test_duplicate_keys(client: Client, repo: Repository) -> None:
    """One key named and signing many times counts once, or the metadata that name it so are refused."""
    assert client.init() == 0
    signer = repo.add_key("snapshot")
    repo.root.roles["snapshot"].threshold = 6
    repo.publish("root", "snapshot", "timestamp")
    document = json.loads(repo.published["root"].pop())
    document["signed"]["roles"]["snapshot"]["keyids"] += [signer.public_key.keyid] * 8
    signed = encode_canonical(document["signed"]).encode()
    document["signatures"] = [s.sign(signed).to_dict() for s in repo.signers["root"].values()]
    repo.published["root"].append(json.dumps(document).encode())
    edit_last(repo, "snapshot", lambda d: d["signatures"].extend(d["signatures"][-1:] * 8))
    assert client.refresh() == 1
    assert client.version("snapshot") is None


def test_duplicate_sig_keyids(client: Client, repo: Repository) -> None:
    """The same signature twice is not allowed, even where one would do (TUF 4.2.1)."""
    assert client.init() == 0
    edit_last(repo, "snapshot", lambda d: d["signatures"].append(d["signatures"][0]))
    assert client.refresh() == 1
    assert client.version("snapshot") is None


KEY_KINDS = {
    "rsa/rsassa-pss-sha256": (lambda: CryptoSigner.generate_rsa(), 512),
    "rsa/rsa-pkcs1v15-sha256": (lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"), 512),
    "ecdsa/ecdsa-sha2-nistp256": (lambda: CryptoSigner.generate_ecdsa(), 142),
    "ed25519/ed25519": (lambda: CryptoSigner.generate_ed25519(), 128),
}


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_keytype_and_scheme(client: Client, repo: Repository, kind: str) -> None:
    """Every key type of the specification is verified, and a wrong signature of its shape is refused."""
    make, digits = KEY_KINDS[kind]
    assert client.init() == 0
    signer = repo.add_key("root", make())
    repo.root.roles["root"].threshold += 1
    repo.publish("root")
    assert client.refresh() == 0
    repo.publish("root")
    edit_last(
        repo,
        "root",
        lambda d: [
            s.update(sig="3b" * (digits // 2)) for s in d["signatures"] if s["keyid"] == signer.public_key.keyid
        ],
    )
    assert client.refresh() == 1
    assert client.version("root") == 2


def test_invalid_sig_in_valid_metadata(client: Client, repo: Repository) -> None:
    """A wrong or empty signature beside enough good ones hinders nothing."""
    assert client.init() == 0
    old = next(iter(repo.mds["timestamp"].signatures.values()))
    repo.add_key("timestamp")
    for wrong in (old.signature, ""):
        repo.publish("root", "timestamp")
        edit_last(
            repo,
            "timestamp",
            lambda d, wrong=wrong: [s.update(sig=wrong) for s in d["signatures"] if s["keyid"] == old.keyid],
        )
        assert client.refresh() == 0


# --- test_file_download.py


def test_client_downloads_expected_file(client: Client, repo: Repository) -> None:
    """A refresh downloads no file; a download puts the signed one in its folder."""
    assert client.init() == 0
    repo.add_file("targets", FILE, b"target file contents")
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.refresh(), client.downloaded()) == (0, [])
    assert (client.download(FILE), client.downloaded()) == (0, [b"target file contents"])


def test_client_downloads_expected_file_in_sub_dir(client: Client, repo: Repository) -> None:
    """A signed path with folders is one file in the download folder."""
    assert client.init() == 0
    repo.add_file("targets", f"path/to/a/{FILE}", b"target file contents")
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.download(f"path/to/a/{FILE}"), client.downloaded()) == (0, [b"target file contents"])
    assert [p.is_file() for p in client.files.iterdir()] == [True]


@pytest.mark.parametrize("path", ["../escaped.txt", "a/../../escaped.txt", "/escaped.txt"])
def test_signed_path_leads_nowhere_else(client: Client, repo: Repository, path: str) -> None:
    """A signed path that climbs out of the download folder does not."""
    assert client.init() == 0
    repo.add_file("targets", path, b"content")
    repo.publish("targets", "snapshot", "timestamp")
    before = {p for p in client.folder.rglob("*") if not p.is_relative_to(client.metadata)}
    client.download(path)
    new = {p for p in client.folder.rglob("*") if not p.is_relative_to(client.metadata)} - before
    assert all(p.parent == client.files for p in new)
    assert not list(client.folder.parent.glob("escaped*"))


def test_artifact_cache(client: Client, repo: Repository) -> None:
    """A file that is there with its hash is not asked for again."""
    assert client.init() == 0
    repo.add_file("targets", FILE, b"target file contents")
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.download(FILE), client.download(FILE)) == (0, 0)
    assert len(repo.fetched) == 1


def test_files_of_one_run_follow_in_order_up_to_the_first_that_fails(client: Client, repo: Repository) -> None:
    """What came before it stays; nothing after it is asked for."""
    assert client.init() == 0
    for path in ("z", "a", "m"):
        repo.add_file("targets", path, path.encode())
    repo.publish("targets", "snapshot", "timestamp")
    assert client.download("z", "a") == 0
    assert [path for path, _ in repo.fetched] == ["z", "a"]
    repo.fetched.clear()
    assert client.download("a", "nobody signs this", "m") == 1
    assert (repo.fetched, client.downloaded()) == ([], [b"z", b"a"])


def test_repository_substitutes_target_file(client: Client, repo: Repository) -> None:
    """Other bytes than the signed ones never get into the download folder."""
    assert client.init() == 0
    repo.add_file("targets", FILE, b"target file contents")
    repo.add_file("targets", "another.txt", b"content")
    repo.publish("targets", "snapshot", "timestamp")
    assert client.download(FILE) == 0
    repo.files = dict.fromkeys(repo.files, b"malicious data - should not download")
    client.download(FILE)
    assert client.downloaded() == [b"target file contents"]
    assert client.download("another.txt") == 1
    assert client.downloaded() == [b"target file contents"]


def test_multiple_changes_to_target(client: Client, repo: Repository) -> None:
    """Through many honest changes and dishonest ones between them, the file is always the signed one."""
    assert client.init() == 0
    for number in range(11):
        good = f"modified file contents {number}".encode()
        repo.add_file("targets", FILE, good)
        repo.add_file("targets", f"new-target-{number}", b"new")
        repo.publish("targets", "snapshot", "timestamp")
        if number % 5 == 0:  # the client sees some versions only
            assert (client.download(FILE), client.download(f"new-target-{number}")) == (0, 0)
            assert client.downloaded()[-2:] == [good, b"new"]
            repo.files[FILE] = b"malicious"
            repo.publish("targets", "snapshot", "timestamp")
            client.download(FILE)
            assert (client.files / FILE).read_bytes() == good


@pytest.mark.parametrize("hashes", [("sha256",), ("sha512",), ("sha256", "sha512")])
def test_download_with_hash_algorithms(client: Client, repo: Repository, hashes: tuple[str, ...]) -> None:
    """SHA-256, SHA-512 or both: the file is asked for once, under a hash that was signed."""
    entry = repo.add_file("targets", FILE, b"target file contents", hashes)
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.download(FILE)) == (0, 0)
    assert len(repo.fetched) == 1
    assert repo.fetched[0] in [(FILE, digest) for digest in entry.hashes.values()]
    assert client.downloaded() == [b"target file contents"]
    repo.files[FILE] = b"target file CONTENTS"
    (client.files / FILE).unlink()
    assert (client.download(FILE), client.downloaded()) == (1, [])


def test_download_with_unknown_hash_algorithm(client: Client, repo: Repository) -> None:
    """A file signed with a hash that nobody knows is not taken."""
    entry = repo.add_file("targets", FILE, b"target file contents", ("sha512",))
    entry.hashes = {"unknown-hash": entry.hashes["sha512"]}
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.download(FILE), client.downloaded()) == (0, 1, [])


# --- test_quoting_issues.py


@pytest.mark.parametrize("role", ["?", "#", "/delegatedrole", "../delegatedrole"])
def test_unusual_role_name(client: Client, repo: Repository, role: str) -> None:
    """A role's name is quoted in addresses and in file names: it leads nowhere else."""
    repo.delegate("targets", DelegatedRole(role, [], 1, False, ["*"]))
    repo.publish(role, "targets", "snapshot", "timestamp")
    assert client.init() == 0
    assert client.download("nonexistent target") == 1
    assert (quote(role, ""), 1) in repo.asked
    assert len(client.trusted()) == 5
