"""The cases of theupdateframework/tuf-conformance by their names: rollback, key rotation, delegation graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import CryptoSigner
from simulated import TOP
from tuf.api.metadata import DelegatedRole

if TYPE_CHECKING:
    from simulated import Client, Repository

BOTH = pytest.mark.parametrize("with_hashes", [False, True], ids=["basic", "with hashes"])

# --- test_rollback.py


def test_simple_snapshot_rollback(client: Client, repo: Repository) -> None:
    """Another snapshot than the one the timestamp names is not asked for."""
    repo.publish("snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.publish("snapshot")
    assert client.refresh() == 0
    assert client.version("snapshot") == 2
    assert repo.asked[-1] == ("timestamp", None)


def test_new_timestamp_version_rollback(client: Client, repo: Repository) -> None:
    """An older timestamp than the one seen is refused."""
    repo.publish("timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.restart("timestamp")
    repo.publish("timestamp")
    assert client.refresh() == 1
    assert client.version("timestamp") == 2
    assert repo.asked[-1] == ("timestamp", None)


@BOTH
def test_snapshot_rollback(client: Client, repo: Repository, with_hashes: bool) -> None:
    """A new timestamp that names an older snapshot is refused before that snapshot is asked for."""
    repo.with_hashes = with_hashes
    repo.publish("snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.restart("snapshot")
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("timestamp"), client.version("snapshot")) == (2, 2)
    assert repo.asked[-1] == ("timestamp", None)


@BOTH
def test_targets_rollback(client: Client, repo: Repository, with_hashes: bool) -> None:
    """A new snapshot that names older targets is refused."""
    repo.with_hashes = with_hashes
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    repo.restart("targets")
    repo.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.version("snapshot"), client.version("targets")) == (2, 2)


def test_targets_role_removal(client: Client, repo: Repository) -> None:
    """A new snapshot that no longer names a role is refused: a role is not made to vanish (TUF 5.5.5)."""
    assert client.init() == 0
    repo.publish(*build(repo, [("targets", "delegated", {})]), "snapshot", "timestamp")
    assert client.refresh() == 0
    del repo.snapshot.meta["delegated.json"]
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.version("snapshot") == 2


def test_targets_fast_forward_recovery(client: Client, repo: Repository) -> None:
    """Targets driven to version 100 by a thief, and a role of theirs, go once the snapshot's key is another."""
    repo.publish(*build(repo, [("targets", "delegated", {})]))
    for _ in range(98):
        repo.publish("targets")
    repo.publish("snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    assert client.version("targets") == 100
    repo.rotate("snapshot")
    repo.restart("targets")
    del repo.snapshot.meta["delegated.json"]
    repo.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("targets") == 1


def test_new_snapshot_fast_forward_recovery(client: Client, repo: Repository) -> None:
    """A snapshot driven to version 100 comes down again once the keys of snapshot and timestamp are others."""
    for _ in range(99):
        repo.publish("snapshot")
    repo.publish("timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    assert client.version("snapshot") == 100
    repo.rotate("snapshot")
    repo.rotate("timestamp")
    repo.restart("snapshot")
    repo.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.version("snapshot") == 1


def test_new_timestamp_fast_forward_recovery(client: Client, repo: Repository) -> None:
    """A timestamp driven to version 100 comes down again once its key is another."""
    for _ in range(99):
        repo.publish("timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    assert client.version("timestamp") == 100
    repo.rotate("timestamp")
    repo.restart("timestamp")
    repo.publish("root", "timestamp")
    assert client.refresh() == 0
    assert client.version("timestamp") == 1


def test_new_snapshot_version_mismatch(client: Client, repo: Repository) -> None:
    """A new snapshot that the new timestamp does not name is not taken."""
    assert client.init() == 0
    repo.publish("snapshot")
    repo.timestamp.snapshot_meta.version = 1
    repo.publish("root", "timestamp")
    assert client.refresh() == 0
    assert client.trusted() == {"root": 2, "timestamp": 2, "snapshot": 1, "targets": 1}


# --- test_updater_key_rotations.py


@dataclass
class Signed:
    """One version of a role: which of ten keys it names, how many must sign, which do, and whether that is enough."""

    keys: list[int]
    threshold: int
    sigs: list[int]
    accepted: bool = True


ROOT_ROTATIONS = {
    "1-of-1-key-rotation": [Signed([1], 1, [1]), Signed([2], 1, [2, 1]), Signed([2], 1, [2])],
    "1-of-1-key-rotation-unused-signatures": [
        Signed([1], 1, [3, 1, 4]),
        Signed([2], 1, [3, 2, 1, 4]),
        Signed([2], 1, [3, 2, 4]),
    ],
    "3-of-5-sign-with-different-keycombos": [
        Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        Signed([0, 1, 2, 3, 4], 3, [0, 4, 1]),
        Signed([0, 1, 2, 3, 4], 3, [0, 1, 3]),
    ],
    "3-of-5-one-key-rotated": [Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]), Signed([0, 1, 3, 4, 5], 3, [0, 4, 1])],
    "3-of-5-one-key-rotated-with-intermediate-step": [
        Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        Signed([0, 1, 3, 4, 5], 3, [0, 2, 4, 5]),
        Signed([0, 1, 3, 4, 5], 3, [0, 4, 5]),
    ],
    "3-of-5-all-keys-rotated-with-intermediate-step": [
        Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        Signed([5, 6, 7, 8, 9], 3, [0, 2, 4, 5, 6, 7]),
        Signed([5, 6, 7, 8, 9], 3, [5, 6, 7]),
    ],
    "1-of-3-threshold-increase-to-2-of-3": [Signed([1, 2, 3], 1, [1]), Signed([1, 2, 3], 2, [1, 2])],
    "2-of-3-threshold-decrease-to-1-of-3": [
        Signed([1, 2, 3], 2, [1, 2]),
        Signed([1, 2, 3], 1, [1, 2]),
        Signed([1, 2, 3], 1, [1]),
    ],
    "1-of-2-threshold-increase-to-2-of-2": [Signed([1], 1, [1]), Signed([1, 2], 2, [1, 2])],
    "1-of-1-key-rotation-fail-not-signed-with-old-key": [Signed([1], 1, [1]), Signed([2], 1, [2, 3, 4], False)],
    "1-of-1-key-rotation-fail-not-signed-with-new-key": [Signed([1], 1, [1]), Signed([2], 1, [1, 3, 4], False)],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys": [
        Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        Signed([0, 1, 3, 4, 5], 3, [0, 2, 4], False),
    ],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys": [
        Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
        Signed([0, 1, 3, 4, 5], 3, [0, 4, 5], False),
    ],
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached": [
        Signed([1, 2, 3], 1, [1]),
        Signed([1, 2, 3], 2, [2], False),
    ],
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached": [
        Signed([1, 2, 3], 2, [1, 2]),
        Signed([1, 2, 3], 1, [1], False),
    ],
}

OTHER_ROTATIONS = {
    "1-of-1-key-rotation": Signed([2], 1, [2]),
    "1-of-1-key-rotation-unused-signatures": Signed([1], 1, [3, 1, 4]),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": Signed([2], 1, [1, 3, 4], False),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": Signed([0, 1, 3, 4, 5], 3, [0, 2, 4], False),
    "2-of-5-one-key-signature-mising-threshold-not-reached": Signed([0, 1, 3, 4, 5], 3, [0, 4], False),
    "3-of-5-sign-first-combo": Signed([0, 1, 2, 3, 4], 3, [0, 2, 4]),
    "3-of-5-sign-second-combo": Signed([0, 1, 2, 3, 4], 3, [0, 4, 1]),
    "3-of-5-sign-third-combo": Signed([0, 1, 2, 3, 4], 3, [0, 1, 3]),
    "3-of-5-sign-fourth-combo": Signed([0, 1, 2, 3, 4], 3, [1, 2, 3]),
    "3-of-5-sign-fifth-combo": Signed([0, 1, 2, 3, 4], 3, [2, 3, 4]),
}


def set_keys(repo: Repository, role: str, signers: list[CryptoSigner], version: Signed) -> None:
    repo.root.roles[role].keyids.clear()
    repo.root.roles[role].threshold = version.threshold
    for number in version.keys:
        repo.root.add_key(signers[number].public_key, role)
    repo.signers[role] = {signers[number].public_key.keyid: signers[number] for number in version.sigs}


@pytest.mark.parametrize("versions", ROOT_ROTATIONS.values(), ids=ROOT_ROTATIONS)
def test_root_rotation(client: Client, repo: Repository, versions: list[Signed]) -> None:
    """A new root needs enough signatures of the old root's keys and of its own (TUF 5.3.4); the last good one stays."""
    signers = [CryptoSigner.generate_ed25519() for _ in range(10)]
    repo.restart("root")
    for version in versions:
        set_keys(repo, "root", signers, version)
        repo.publish("root")
    client.trusted_root = repo.published["root"][0]
    assert client.init() == 0
    accepted = versions[-1].accepted
    assert client.refresh() == (0 if accepted else 1)
    assert (client.metadata / "root.json").read_bytes() == repo.published["root"][-1 if accepted else -2]


@pytest.mark.parametrize("version", OTHER_ROTATIONS.values(), ids=OTHER_ROTATIONS)
def test_non_root_rotations(client: Client, repo: Repository, version: Signed) -> None:
    """Timestamp, snapshot and targets each need enough signatures of the keys that the newest root names."""
    signers = [CryptoSigner.generate_ed25519() for _ in range(10)]
    assert client.init() == 0
    for role in ("timestamp", "snapshot", "targets"):
        set_keys(repo, role, signers, version)
        repo.publish("root", "targets", "snapshot", "timestamp")
        assert client.refresh() == (0 if version.accepted else 1)
        if version.accepted:
            assert (client.metadata / f"{role}.json").read_bytes() == repo.published[role][-1]


# --- test_updater_delegation_graphs.py


@dataclass
class Graph:
    """Delegations (delegator, role, and what differs from the rest), and the order in which they are visited."""

    delegations: list[tuple[str, str, dict[str, object]]]
    visited: list[str]


def graph(*delegations: str, visited: str, **special: dict[str, object]) -> Graph:
    """``"A>C"``: A delegates everything to C; ``T`` is targets; ``special`` by ``A_C``."""
    made = []
    for pair in delegations:
        parent, child = pair.split(">")
        made.append(("targets" if parent == "T" else parent, child, special.get(f"{parent}_{child}", {})))
    return Graph(made, list(visited))


ENDS: dict[str, object] = {"terminating": True}
PY: dict[str, object] = {"paths": ["*.py"]}
GRAPHS = {
    "basic-delegation": graph("T>A", visited="A"),
    "single-level-delegations": graph("T>A", "T>B", visited="AB"),
    "two-level-delegations": graph("T>A", "T>B", "B>C", visited="ABC"),
    "two-level-test-DFS-order-of-traversal": graph("T>A", "T>B", "A>C", "A>D", visited="ACDB"),
    "three-level-delegation-test-DFS-order-of-traversal": graph("T>A", "T>B", "A>C", "C>D", visited="ACDB"),
    "two-level-terminating-ignores-all-but-roles-descendants": graph(
        "T>A", "T>B", "A>C", "A>D", visited="AC", A_C=ENDS
    ),
    "three-level-terminating-ignores-all-but-roles-descendants": graph(
        "T>A", "T>B", "A>C", "C>D", visited="ACD", A_C=ENDS
    ),
    "two-level-ignores-all-branches-not-matching-paths": graph("T>A", "T>B", "A>C", visited="B", T_A=PY),
    "three-level-ignores-all-branches-not-matching-paths": graph("T>A", "T>B", "A>C", "C>D", visited="AB", A_C=PY),
    "cyclic-graph": graph("T>A", "T>B", "B>C", "C>D", "D>B", visited="ABCD"),
    "two-roles-delegating-to-a-third": graph("T>A", "T>B", "B>C", "A>C", visited="ACB"),
    "two-roles-delegating-to-a-third-different-paths": graph("T>A", "T>B", "B>C", "A>C", visited="ABC", A_C=PY),
}


def build(repo: Repository, delegations: list[tuple[str, str, dict[str, object]]]) -> list[str]:
    """Make the delegations; returns every role that is to be published."""
    changed = []
    for delegator, name, special in delegations:
        fields = {"terminating": False, "paths": ["*"], **special}
        repo.delegate(delegator, DelegatedRole(name, [], 1, **fields))  # type: ignore[arg-type]
        changed += [name, delegator]
    return list(dict.fromkeys(changed))


@pytest.mark.parametrize("case", GRAPHS.values(), ids=GRAPHS)
def test_graph_traversal(client: Client, repo: Repository, case: Graph) -> None:
    """Delegated roles are visited depth first in the order in which they are named (TUF 5.6.7)."""
    assert client.init() == 0
    repo.publish(*build(repo, case.delegations), "snapshot", "timestamp")
    assert client.download("missingpath") == 1
    assert [role for role, _ in repo.asked[4:]] == case.visited


@dataclass
class Search:
    """A signed path, the roles visited on the way to it, and whether it is found."""

    path: str
    visited: list[str] = field(default_factory=list)
    found: bool = True


SEARCHES = {
    "no delegations": Search("targetfile"),
    "targetpath matches wildcard": Search("README.md", ["A"]),
    "targetpath with separators x": Search("releases/x/x_v1", ["B", "C"]),
    "targetpath with separators y": Search("releases/y/y_v1.zip", ["B", "D"]),
    "targetpath is not delegated by all roles in the chain": Search("releases/z/z_v1.zip", ["B"], found=False),
    "wildcard does not match path separator": Search("releases/README.md", found=False),
    "targetpath matches question mark wildcard": Search("foo-1.tgz", ["A"]),
    "targetpath does not match question mark wildcard": Search("foo-alpha.tgz", found=False),
    "targetpath matching is case sensitive": Search("README.MD", found=False),
}


@pytest.mark.parametrize("case", SEARCHES.values(), ids=SEARCHES)
def test_targetfile_search(client: Client, repo: Repository, case: Search) -> None:
    """A file is found by way of the roles to which its path is delegated, and by no other."""
    assert client.init() == 0
    roles = build(
        repo,
        [
            ("targets", "A", {"paths": ["*.doc", "*.md", "foo-?.tgz"]}),
            ("targets", "B", {"paths": ["releases/*/*"]}),
            ("B", "C", {"paths": ["releases/x/*"]}),
            ("B", "D", {"paths": ["releases/y/*.zip"]}),
        ],
    )
    for role, path in (
        ("targets", "targetfile"),
        ("A", "README.md"),
        ("A", "releases/README.md"),
        ("A", "foo-1.tgz"),
        ("A", "foo-alpha.tgz"),
        ("C", "releases/x/x_v1"),
        ("D", "releases/y/y_v1.zip"),
        ("D", "releases/z/z_v1.zip"),
    ):
        repo.add_file(role, path, f"{path} by {role}".encode())
    repo.publish(*roles, "snapshot", "timestamp")
    assert client.download(case.path) == (0 if case.found else 1)
    assert client.downloaded() == ([repo.files[case.path]] if case.found else [])
    assert [role for role, _ in repo.asked[4:]] == case.visited


def test_cached_role_is_verified_against_current_delegator(client: Client, repo: Repository) -> None:
    """What one delegator's key signed says nothing where another delegates to the same name with its own key."""
    assert client.init() == 0
    for team in ("a", "b"):
        own = {"paths": [f"team-{team}/*"]}
        build(repo, [("targets", f"parent-{team}", own), (f"parent-{team}", "release", own)])
        repo.add_file("release", f"team-{team}/model", f"of team {team}".encode())
    other = repo.mds["parent-b"].signed.delegations.roles["release"].keyids
    assert len(other) == 1
    del repo.signers["release"][other[0]]
    repo.publish("release", "parent-a", "parent-b", "targets", "snapshot", "timestamp")
    assert client.download("team-a/model", "team-b/model") == 1
    assert client.downloaded() == [b"of team a"]


def test_delegation_not_in_snapshot(client: Client, repo: Repository) -> None:
    """A role that is delegated to and that the snapshot does not name is neither asked for nor kept."""
    assert client.init() == 0
    repo.publish(*build(repo, [("targets", "delegated", {"paths": ["delegatedpath/*"]})]))
    del repo.snapshot.meta["delegated.json"]
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repo.asked.clear()
    assert client.download("delegatedpath/foo") == 1
    assert repo.asked == [("root", 2), ("timestamp", None)]
    assert client.version("delegated") is None


@pytest.mark.parametrize(
    ("bit_length", "path", "name"),
    [
        (1, "boo", "bin-0"),
        (1, "too", "bin-1"),
        (2, "foo", "bin-0"),
        (2, "doo", "bin-1"),
        (2, "too", "bin-2"),
        (2, "bar", "bin-3"),
        (8, "bar", "bin-fc"),
    ],
)
def test_succinct_roles_graph_traversal(
    client: Client, repo: Repository, bit_length: int, path: str, name: str
) -> None:
    """Of hash bins only the one that a path falls into is asked for and kept."""
    repo.delegate_bins(bit_length)
    repo.publish("targets", "snapshot", "timestamp")
    assert (client.init(), client.refresh()) == (0, 0)
    assert set(client.trusted()) == set(TOP)
    repo.asked.clear()
    assert client.download(path) == 1
    assert repo.asked[2:] == [(name, 1)]
    assert set(client.trusted()) == {*TOP, name}
