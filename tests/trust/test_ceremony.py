"""The key ceremony: what init makes, how roots and keys change hands, and what devices see meanwhile."""

from __future__ import annotations

import json
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
from ceremony_support import CutError, Secrets, code_of, cut_at
from tuf.api.metadata import Metadata

from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.testing.repository import FakeWall, RepositoryLab, tiny_bundle
from edgeward.trust.ceremony import Ceremony
from edgeward.trust.draft import Draft
from edgeward.trust.keys import Keys
from edgeward.trust.repository import RepositoryFolder

if TYPE_CHECKING:
    from pathlib import Path

ECG, SEPSIS = "ecg-beat", "sepsis-risk"


@pytest.fixture
def lab(tmp_path: Path) -> RepositoryLab:
    made = RepositoryLab(tmp_path, families=(ECG, SEPSIS))
    made.publish("1.0.0")
    return made


def fresh(lab: RepositoryLab) -> Ceremony:
    """The ceremony of a new process."""
    return Ceremony(RepositoryFolder(lab.repo, Keys(lab.folder / "keys"), wall=lab.wall))


def served(lab: RepositoryLab) -> str:
    """What a device is told: the version that is current, or the error's code."""
    try:
        return lab.client().latest(ECG).version
    except TrustError as error:
        return error.code


def key_names(lab: RepositoryLab, role: str) -> list[str]:
    return [path.stem for path in Keys(lab.folder / "keys").paths(role)]


def rotate(lab: RepositoryLab, *roles: str, replace: tuple[str, ...] = ()) -> None:
    ceremony = fresh(lab)
    ceremony.publish_root(ceremony.rotate(roles, lab.folder / "draft.json", replace=replace))


def test_init_makes_two_of_three_and_a_role_for_each_family(lab: RepositoryLab) -> None:
    """Root needs two of three keys, each family one of its own; snapshots are consistent and devices are served."""
    rows = {row.role: row for row in fresh(lab).status()}
    assert (len(rows["root"].keys), rows["root"].threshold) == (3, 2)
    assert rows["root"].keys == ("root-1", "root-2", "root-3")
    assert set(rows) == {"root", "targets", "snapshot", "timestamp", ECG, SEPSIS}
    root = Metadata.from_bytes(lab.root).signed
    assert root.consistent_snapshot is True
    assert lab.client().latest(ECG).version == "1.0.0"
    assert list(lab.publisher.folder.current().targets.targets) == []


def test_family_is_signed_by_its_own_key_alone(lab: RepositoryLab, tmp_path: Path) -> None:
    """Publishing needs neither root's nor targets' nor another family's key."""
    for name in ("root-1", "root-2", "root-3", "targets-1", f"{SEPSIS}-1"):
        (tmp_path / "keys" / f"{name}.pem").unlink()
    lab.publish("1.1.0")
    assert lab.client().latest(ECG).version == "1.1.0"
    assert code_of(lambda: lab.publish("1.0.0", name=SEPSIS)) == "key-missing"


def test_family_without_a_role_is_refused_with_what_to_do(lab: RepositoryLab) -> None:
    """A bundle of a family that has no role is family-unknown; after delegating it is published."""
    with pytest.raises(ConfigError, match="edgeward trust delegate hypotension") as caught:
        lab.publish("1.0.0", name="hypotension")
    assert caught.value.code == "family-unknown"
    fresh(lab).delegate("hypotension")
    lab.publish("1.0.0", name="hypotension")
    assert lab.client().latest("hypotension").version == "1.0.0"
    assert code_of(lambda: fresh(lab).delegate("hypotension")) == "family-exists"


@pytest.mark.parametrize("name", ["root", "timestamp", "Has Space", "../x", ""])
def test_senseless_family_names_are_refused(lab: RepositoryLab, name: str) -> None:
    """A family is named as bundles are, and not as a top-level role."""
    assert code_of(lambda: fresh(lab).delegate(name)) == "family-name"


def test_small_repository_grows_families(tmp_path: Path) -> None:
    """A repository made without families stays readable, and delegating moves what targets said, with its history."""
    small = RepositoryLab(tmp_path)
    small.publish("1.0.0")
    small.publish("1.1.0")
    assert small.client().latest(ECG).version == "1.1.0"
    fresh(small).delegate(ECG)
    assert small.client().latest(ECG).version == "1.1.0"
    assert list(small.publisher.folder.current().targets.targets) == []
    with pytest.raises(TrustError, match="another content"):
        small.publish("1.0.0", filler=b"other", allow_return=True)
    small.publish("1.2.0")
    assert small.client().latest(ECG).version == "1.2.0"


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_small_repository_exchanges_its_keys(tmp_path: Path, role: str) -> None:
    """A repository whose root names no key files exchanges any role's key, root's by the beginning of its id."""
    small = RepositoryLab(tmp_path)
    small.publish("1.0.0")
    assert small.client().latest(ECG).version == "1.0.0"
    (old,) = {row.role: row for row in fresh(small).status()}[role].keys
    rotate(small, role, replace=(old,) if role == "root" else ())
    assert {row.role: row for row in fresh(small).status()}[role].keys == (f"{role}-2",)
    assert key_names(small, role) == [f"{role}-2"]
    small.publish("1.1.0")
    assert small.client().latest(ECG).version == "1.1.0"


def test_second_init_makes_nothing(lab: RepositoryLab, tmp_path: Path) -> None:
    """A repository and keys that are there are never written over."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert code_of(fresh(lab).init) == "repository-exists"
    other = Ceremony(RepositoryFolder(tmp_path / "other", Keys(tmp_path / "keys")))
    assert code_of(other.init) == "keys-exist"
    assert all(path.read_bytes() == raw for path, raw in before.items())


@pytest.mark.parametrize(("keys", "threshold"), [(1, 2), (2, 0), (0, 0), (10, 1)])
def test_senseless_root_threshold_is_refused(tmp_path: Path, keys: int, threshold: int) -> None:
    """A threshold that can never or always be met, or too many keys, is a ConfigError and makes no key."""
    ceremony = Ceremony(RepositoryFolder(tmp_path / "repo", Keys(tmp_path / "keys")))
    assert code_of(lambda: ceremony.init(root_keys=keys, root_threshold=threshold)) in {"root-keys", "root-threshold"}
    assert not (tmp_path / "keys").exists()


def test_keys_have_passphrases_and_are_their_owners_alone(tmp_path: Path) -> None:
    """Offline keys are encrypted and online ones not; all have mode 0600, in folders of mode 0700."""
    keys = Keys(tmp_path / "online", tmp_path / "offline", Secrets())
    Ceremony(RepositoryFolder(tmp_path / "repo", keys)).init(families=[ECG])
    files = {path.stem: path for place in ("online", "offline") for path in (tmp_path / place).glob("*.pem")}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert {stat.S_IMODE((tmp_path / place).stat().st_mode) for place in ("online", "offline")} == {0o700}
    assert {name for name, path in files.items() if b"ENCRYPTED" not in path.read_bytes()} == {
        "snapshot-1",
        "timestamp-1",
    }
    assert {path.parent.name for name, path in files.items() if name in {"snapshot-1", "timestamp-1"}} == {"online"}
    assert len(files) == 7
    place = tmp_path / "offline"
    assert code_of(lambda: Keys(place).signers("targets")) == "key-locked"
    assert code_of(lambda: Keys(place, passphrases=Secrets("something else")).signers("targets")) == "passphrase-wrong"
    secrets = Secrets()
    opened = Keys(place, passphrases=secrets)
    opened.signers("targets")
    opened.signers("targets")
    assert secrets.asked == ["targets-1"]
    short = Keys(tmp_path / "short", passphrases=Secrets("short"))
    short.make_folders()
    assert code_of(lambda: short.make("targets")) == "passphrase-short"


def test_init_that_a_person_gives_up_leaves_no_keys(tmp_path: Path) -> None:
    """Stopped while a passphrase is asked for, init leaves nothing, and the next one begins afresh."""

    class Gone(Secrets):
        def choose(self, key: str) -> str:
            if key == "root-3":
                raise KeyboardInterrupt
            return self.secret

    folder = tmp_path / "repo"
    with pytest.raises(KeyboardInterrupt):
        Ceremony(RepositoryFolder(folder, Keys(tmp_path / "keys", passphrases=Gone()))).init()
    assert list(tmp_path.rglob("*.pem")) == []
    Ceremony(RepositoryFolder(folder, Keys(tmp_path / "keys", passphrases=Secrets()))).init()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rotation_of_a_top_level_role(lab: RepositoryLab, role: str) -> None:
    """A device that knew the old key follows to the new one, which alone signs from then on."""
    lab.client().latest(ECG)
    rotate(lab, role)
    assert key_names(lab, role) == [f"{role}-2"]
    assert lab.client().latest(ECG).version == "1.0.0"
    lab.publish("1.1.0")
    lab.wall.advance(days=50)
    lab.publisher.refresh()
    assert lab.client().latest(ECG).version == "1.1.0"
    assert not (lab.folder / "draft.json").exists()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("role", "writes"), [("timestamp", 3), ("snapshot", 3), ("targets", 4)])
def test_lost_key_of_a_top_level_role_is_exchanged_without_it(
    tmp_path: Path, role: str, writes: int, when: str
) -> None:
    """The new key alone signs, right after the new root; cut in between, devices keep what they have meanwhile."""
    for cut in range(1, writes + 2):
        place = tmp_path / str(cut)
        place.mkdir()
        lab = RepositoryLab(place, families=(ECG,))
        lab.publish("1.0.0")
        lab.client().latest(ECG)
        (place / "keys" / f"{role}-1.pem").unlink()
        path = fresh(lab).rotate([role], place / "draft.json").path
        if cut <= writes:
            with cut_at(cut, when), pytest.raises(CutError):
                fresh(lab).publish_root(Draft.read(path))
            assert served(lab) in {"1.0.0", "signature-invalid"}
        with cut_at(writes + 1, when):  # as many writes are all there are
            assert fresh(lab).publish_root(Draft.read(path)) == 2
        assert lab.client().latest(ECG).version == "1.0.0"
        assert key_names(lab, role) == [f"{role}-2"]
        lab.publish("1.1.0")
        assert lab.client().latest(ECG).version == "1.1.0"


def test_new_key_that_is_not_at_hand_leaves_the_root_as_it_was(lab: RepositoryLab, tmp_path: Path) -> None:
    """Without the new private key nothing is signed or written, whether the old one is there or not."""
    path = fresh(lab).rotate(["snapshot"], tmp_path / "draft.json").path
    (tmp_path / "keys" / "snapshot-2.pem").rename(tmp_path / "snapshot-2.pem")
    before = {p: p.read_bytes() for p in (lab.repo / "metadata").iterdir()}
    assert code_of(lambda: fresh(lab).publish_root(Draft.read(path))) == "key-missing"
    (tmp_path / "keys" / "snapshot-1.pem").unlink()
    assert code_of(lambda: fresh(lab).publish_root(Draft.read(path))) == "key-missing"
    assert {p: p.read_bytes() for p in (lab.repo / "metadata").iterdir()} == before


def test_rotation_of_all_online_roles_at_once(lab: RepositoryLab) -> None:
    """One draft exchanges several roles' keys: what follows a theft of the server."""
    lab.client().latest(ECG)
    rotate(lab, "snapshot", "timestamp")
    lab.publish("1.1.0")
    assert lab.client().latest(ECG).version == "1.1.0"
    assert fresh(lab).status()[0].version == 2


def test_rotation_of_a_family_needs_no_root(lab: RepositoryLab, tmp_path: Path) -> None:
    """A family's key is exchanged by targets; the old key is retired and signs nothing more."""
    lab.client().latest(ECG)
    for number in (1, 2, 3):
        (tmp_path / "keys" / f"root-{number}.pem").unlink()
    assert fresh(lab).rotate_family(ECG) == f"{ECG}-2"
    assert key_names(lab, ECG) == [f"{ECG}-2"]
    assert (tmp_path / "keys" / f"{ECG}-1.pem.retired").exists()
    assert {row.role: row.keys for row in fresh(lab).status()}[ECG] == (f"{ECG}-2",)
    lab.publish("1.1.0")
    assert lab.client().latest(ECG).version == "1.1.0"
    assert fresh(lab).rotate_family(ECG) == f"{ECG}-3"
    assert code_of(lambda: fresh(lab).rotate_family("hypotension")) == "role-unknown"


def test_rotation_of_a_root_key_goes_from_hand_to_hand(lab: RepositoryLab, tmp_path: Path) -> None:
    """Each holder signs the draft with one key only; below the threshold nothing comes into force."""
    lab.client().latest(ECG)
    apart = {}
    for number in (1, 2, 3):
        (tmp_path / f"holder-{number}").mkdir()
        path = tmp_path / f"holder-{number}" / f"root-{number}.pem"
        apart[number] = shutil.move(tmp_path / "keys" / f"root-{number}.pem", path)
    draft = fresh(lab).rotate(["root"], tmp_path / "draft.json", replace=["root-2"])
    assert (draft.signatures().old, draft.signatures().new) == (0, 1)  # the new key is at hand
    told = [line.partition(" (id ")[0] for line in draft.changes()]
    assert told[1:] == ["root: without root-2", "root: with root-4"]
    assert code_of(lambda: fresh(lab).publish_root(draft)) == "signatures-missing"
    for number in (1, 3):
        carried = Draft.read(tmp_path / "draft.json")
        keys = Keys(tmp_path / f"holder-{number}")
        assert carried.sign([keys.load(apart[number])]) == 1
        carried.write()
    ready = Draft.read(tmp_path / "draft.json")
    assert ready.signatures().is_enough
    assert fresh(lab).publish_root(ready) == 2
    assert set(fresh(lab).status()[0].keys) == {"root-1", "root-3", "root-4"}
    assert lab.client().latest(ECG).version == "1.0.0"


def test_lost_root_key_is_replaced_without_it(lab: RepositoryLab, tmp_path: Path) -> None:
    """Two of three are enough to replace the third, and the lost one is worth nothing afterwards."""
    lost = (tmp_path / "keys" / "root-2.pem").read_bytes()
    (tmp_path / "keys" / "root-2.pem").unlink()
    rotate(lab, "root", replace=("root-2",))
    names = fresh(lab).status()[0].keys
    assert "root-2" not in names
    assert len(names) == 3
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "root-2.pem").write_bytes(lost)
    (tmp_path / "found" / "root-2.pem").chmod(0o600)
    draft = fresh(lab).rotate(["root"], tmp_path / "draft.json")
    assert draft.sign(Keys(tmp_path / "found").signers("root")) == 0


def test_root_is_renewed_with_the_same_keys(lab: RepositoryLab) -> None:
    """Rotating root with nothing to replace only renews its time."""
    lab.wall.advance(days=360)
    rotate(lab, "root")
    lab.wall.advance(days=30)
    lab.publisher.refresh()
    assert lab.client().latest(ECG).version == "1.0.0"
    assert fresh(lab).status()[0].keys == ("root-1", "root-2", "root-3")


def test_draft_that_is_stale_or_there_already_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """A draft is never written over, and one that began from an older root is draft-stale."""
    stale = fresh(lab).rotate(["root"], tmp_path / "stale.json")
    assert code_of(lambda: fresh(lab).rotate(["root"], tmp_path / "stale.json")) == "draft-exists"
    rotate(lab, "timestamp")
    assert code_of(lambda: fresh(lab).publish_root(stale)) == "draft-stale"
    assert code_of(lambda: fresh(lab).rotate(["root"], tmp_path / "x.json", replace=["root-9"])) == "key-unknown"
    assert code_of(lambda: fresh(lab).rotate([ECG], tmp_path / "x.json")) == "role-unknown"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"previous": {}, "next": {}}', b"\xff", b"{" * 9])
def test_file_that_is_no_draft_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Anything else than a draft is draft-unreadable."""
    path = tmp_path / "draft.json"
    path.write_bytes(raw)
    assert code_of(lambda: Draft.read(path)) == "draft-unreadable"


def test_draft_whose_root_in_force_is_forged_is_refused(lab: RepositoryLab, tmp_path: Path) -> None:
    """The root that a draft claims to be in force must be signed by its own keys."""
    fresh(lab).rotate(["root"], tmp_path / "draft.json")
    document = json.loads((tmp_path / "draft.json").read_bytes())
    document["previous"]["signed"]["version"] = 7
    (tmp_path / "draft.json").write_text(json.dumps(document))
    assert code_of(lambda: Draft.read(tmp_path / "draft.json")) == "draft-unreadable"


@pytest.mark.parametrize("how", ["under a known id", "under an id of its choice", "far ahead"])
def test_draft_that_hides_what_it_changes_is_refused(lab: RepositoryLab, tmp_path: Path, how: str) -> None:
    """A key may not stand under another's id, nor under one that is not its hash, nor a version be skipped."""
    fresh(lab).rotate(["timestamp"], tmp_path / "draft.json")
    document = json.loads((tmp_path / "draft.json").read_bytes())
    following = document["next"]["signed"]
    evil = json.loads(json.dumps(document["previous"]["signed"]["keys"][following["roles"]["targets"]["keyids"][0]]))
    evil["keyval"]["public"] = "ee" * 32
    if how == "far ahead":
        following["version"] = 7
    elif how == "under a known id":
        following["keys"][following["roles"]["targets"]["keyids"][0]] = evil
    else:
        following["keys"]["ab" * 32] = evil
        following["roles"]["targets"]["keyids"].append("ab" * 32)
    (tmp_path / "draft.json").write_text(json.dumps(document))
    assert code_of(lambda: Draft.read(tmp_path / "draft.json")) == "draft-forged"


def test_wrong_key_publishes_nothing(lab: RepositoryLab, tmp_path: Path) -> None:
    """With keys that the repository does not name nothing is published, so nobody finds it broken."""
    (tmp_path / "elsewhere").mkdir()
    other = RepositoryLab(tmp_path / "elsewhere", families=(ECG,))
    for name in (f"{ECG}-1", "snapshot-1"):
        shutil.copy(other.folder / "keys" / f"{name}.pem", tmp_path / "keys" / f"{name}.pem")
    before = {p: p.read_bytes() for p in (lab.repo / "metadata").iterdir()}
    assert code_of(lambda: lab.publish("1.1.0")) == "key-wrong"
    assert {p: p.read_bytes() for p in (lab.repo / "metadata").iterdir()} == before


def test_refresh_without_offline_keys_says_what_waits(lab: RepositoryLab, tmp_path: Path) -> None:
    """Online keys alone keep a repository fresh until targets and families expire, and say so in time."""
    for name in ("targets-1", f"{ECG}-1", f"{SEPSIS}-1"):
        shutil.move(tmp_path / "keys" / f"{name}.pem", tmp_path / f"{name}.pem")
    lab.wall.advance(days=40)
    assert lab.publisher.refresh() == []
    lab.wall.advance(days=10)
    assert lab.publisher.refresh() == ["targets", ECG, SEPSIS]
    assert lab.client().latest(ECG).version == "1.0.0"
    for name in ("targets-1", f"{ECG}-1", f"{SEPSIS}-1"):
        shutil.move(tmp_path / f"{name}.pem", tmp_path / "keys" / f"{name}.pem")
    assert lab.publisher.refresh() == []
    lab.wall.advance(days=60)
    lab.publisher.refresh()
    assert lab.client().latest(ECG).version == "1.0.0"


@pytest.mark.parametrize("when", ["before", "after"])
def test_rotation_that_is_cut_leaves_devices_served(tmp_path: Path, when: str) -> None:
    """Cut before or after any write of a rotation, devices old and new are served, and it can be gone on with."""
    lab = RepositoryLab(tmp_path, families=(ECG,), wall=FakeWall())
    lab.publish("1.0.0")
    lab.client().latest(ECG)
    draft = fresh(lab).rotate(["targets", "snapshot", "timestamp"], tmp_path / "draft.json").path
    for part in ("repo", "keys", "trust"):
        shutil.copytree(tmp_path / part, tmp_path / "start" / part)
    kept = draft.read_bytes()
    cuts = 0
    for cut in range(1, 20):
        for part in ("repo", "keys", "trust"):
            shutil.rmtree(tmp_path / part)
            shutil.copytree(tmp_path / "start" / part, tmp_path / part)
        draft.write_bytes(kept)
        try:
            with cut_at(cut, when):
                fresh(lab).publish_root(Draft.read(draft))
        except CutError:
            cuts += 1
        else:
            break
        assert lab.client().latest(ECG).version == "1.0.0"
        shutil.rmtree(tmp_path / "trust")
        assert lab.client().latest(ECG).version == "1.0.0"
        if draft.exists():
            assert fresh(lab).publish_root(Draft.read(draft)) == 2
        lab.publish("1.1.0")
        assert lab.client().latest(ECG).version == "1.1.0"
        assert key_names(lab, "timestamp") == ["timestamp-2"]
    assert cuts == 4  # targets, snapshot, timestamp, root


def test_bundle_of_the_family_arrives(lab: RepositoryLab, tmp_path: Path) -> None:
    """What a delegated role names is downloaded as what targets names."""
    client = lab.client()
    client.download(client.latest(ECG), tmp_path / "got.ewb")
    assert (tmp_path / "got.ewb").read_bytes() == tiny_bundle("1.0.0")
