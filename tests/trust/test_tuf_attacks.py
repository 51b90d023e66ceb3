"""Every attack that the TUF specification names (1.5.2), tried on a device of a hospital's repository, by its name.

The repository is one of a ceremony: 2 of 3 root keys, a role for each family, consistent snapshots. The attacker holds
what each test says and no more. ``scenario/test_attacks.py`` has the small misfortunes beside them.
"""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from edgeward.bundle.manifest import Manifest
from edgeward.kernel.errors import BundleError, EdgewardError, TrustError
from edgeward.testing.repository import FaultyServer, RepositoryLab, tiny_bundle
from edgeward.trust.ceremony import Ceremony
from edgeward.trust.keys import Keys
from edgeward.trust.repository import RepositoryFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ECG, SEPSIS = "ecg-beat", "sepsis-risk"
TEN_YEARS = timedelta(days=3653)


@pytest.fixture
def lab(tmp_path: Path) -> RepositoryLab:
    """A repository with both families published, which this device has seen."""
    made = RepositoryLab(tmp_path, families=(ECG, SEPSIS))
    made.publish("1.0.0")
    made.publish("1.0.0", name=SEPSIS)
    assert made.client().latest(ECG).version == made.client().latest(SEPSIS).version == "1.0.0"
    return made


def refusal(action: Callable[[], object]) -> str:
    """The code with which ``action`` is refused; whatever it is, the bundle in use stays in use."""
    with pytest.raises(TrustError) as caught:
        action()
    return caught.value.code


def asked(lab: RepositoryLab, name: str = ECG, url: str | Path | None = None) -> str:
    """What a device's question comes to: the version on offer, or the code of the refusal."""
    try:
        return lab.client(url).latest(name).version
    except EdgewardError as error:
        return error.code


class Attacker:
    """Writes into the repository with the stolen keys of ``roles`` and of nobody else."""

    def __init__(self, lab: RepositoryLab, *roles: str) -> None:
        self.lab = lab
        keys = Keys(lab.folder / "keys")
        self._signers = {role: keys.signers(role) for role in roles}
        self.state = lab.publisher.folder.current()

    def write(self, role: str, signed: Any, name: str) -> bytes:
        """Sign with the stolen keys, or with one of the attacker's own where the role's was not stolen."""
        metadata: Metadata[Any] = Metadata(signed)
        for signer in self._signers.get(role, [CryptoSigner.generate_ed25519()]):
            metadata.sign(signer, append=True)
        raw = metadata.to_bytes()
        (self.lab.repo / "metadata" / name).write_bytes(raw)
        return raw

    def publish(self, *changed: str) -> None:
        """Publish the state with new versions of ``changed`` families or targets, and all above them."""
        state = self.state
        for role in changed:
            holder = state.holders()[role]
            holder.version += 1
            raw = self.write(role, holder, f"{holder.version}.{role}.json")
            state.snapshot.meta[f"{role}.json"] = MetaFile.from_data(holder.version, raw, ["sha256"])
        self.publish_snapshot()

    def publish_snapshot(self) -> None:
        state = self.state
        state.snapshot.version += 1
        raw = self.write("snapshot", state.snapshot, f"{state.snapshot.version}.snapshot.json")
        state.timestamp.snapshot_meta = MetaFile.from_data(state.snapshot.version, raw, ["sha256"])
        state.timestamp.version += 1
        self.write("timestamp", state.timestamp, "timestamp.json")

    def offer_evil(self, holder_role: str, name: str = ECG) -> bytes:
        """Name a bundle of the attacker's as ``name`` in ``holder_role``, and lay it where readers look."""
        raw = tiny_bundle("6.6.6", name=name, filler=b"evil")
        digest = sha256(raw).hexdigest()
        custom = {"custom": {"name": name, "version": "6.6.6", "sha256": digest}}
        path = f"{name}.ewb"
        self.state.holders()[holder_role].targets[path] = TargetFile(len(raw), {"sha256": digest}, path, custom)
        (self.lab.repo / "targets" / f"{digest}.{path}").write_bytes(raw)
        return raw


# --- arbitrary software installation


@pytest.mark.parametrize("stolen", [(), ("timestamp",), ("timestamp", "snapshot")])
def test_arbitrary_software_installation(lab: RepositoryLab, stolen: tuple[str, ...]) -> None:
    """Without a family's key nobody offers a bundle of it, whatever online keys he holds besides the server."""
    thief = Attacker(lab, *stolen)
    thief.offer_evil(ECG)
    thief.publish(ECG)
    assert asked(lab) == "signature-invalid"


def test_arbitrary_software_in_place_of_the_signed_file(lab: RepositoryLab, tmp_path: Path) -> None:
    """Other bytes under the signed name are thrown away and never reach the place of a bundle."""
    client = lab.client()
    offer = client.latest(ECG)
    (lab.repo / "targets" / f"{offer.sha256}.{offer.path}").write_bytes(b"e" * offer.length)
    assert refusal(lambda: client.download(offer, tmp_path / "in" / "x.ewb")) == "download-hash"
    assert list((tmp_path / "in").iterdir()) == []


# --- rollback


def test_rollback_of_the_whole_repository(lab: RepositoryLab) -> None:
    """An older state, every signature of it good, is refused once a newer one was seen."""
    old = lab.snapshot_to("old")
    lab.publish("1.1.0")
    assert asked(lab) == "1.1.0"
    assert asked(lab, url=old) == "repository-rolled-back"
    assert asked(lab) == "1.1.0"


def test_rollback_of_a_family_by_stolen_online_keys(lab: RepositoryLab) -> None:
    """Snapshot and timestamp keys together cannot bring an older version of a family's metadata back."""
    old = lab.publisher.folder.current().snapshot.meta[f"{ECG}.json"]
    lab.publish("1.1.0")
    assert asked(lab) == "1.1.0"
    thief = Attacker(lab, "snapshot", "timestamp")
    thief.state.snapshot.meta[f"{ECG}.json"] = old
    thief.publish_snapshot()
    assert asked(lab) == "repository-rolled-back"


def test_rollback_of_the_root(lab: RepositoryLab) -> None:
    """A device that knows a newer root never takes an older one's keys again."""
    stolen = Attacker(lab, "timestamp", "snapshot")
    exchange(lab, "timestamp", "snapshot")
    assert asked(lab) == "1.0.0"
    (lab.repo / "metadata" / "2.root.json").unlink()
    stolen.publish_snapshot()
    assert asked(lab) == "signature-invalid"


# --- fast-forward


def exchange(lab: RepositoryLab, *roles: str) -> None:
    """Exchange the keys of ``roles`` as an operator does."""
    ceremony = Ceremony(RepositoryFolder(lab.repo, Keys(lab.folder / "keys"), wall=lab.wall))
    ceremony.publish_root(ceremony.rotate(roles, lab.folder / "draft.json"))


def test_fast_forward_of_the_timestamp_and_recovery(lab: RepositoryLab) -> None:
    """A timestamp driven far ahead by its stolen key shuts the device out until that key is exchanged."""
    honest = lab.snapshot_to("honest")
    thief = Attacker(lab, "timestamp")
    thief.state.timestamp.version = 2_000_000_000
    thief.write("timestamp", thief.state.timestamp, "timestamp.json")
    assert asked(lab) == "1.0.0"
    shutil.rmtree(lab.repo)
    shutil.copytree(honest, lab.repo)
    lab.publish("1.1.0")
    assert asked(lab) == "repository-rolled-back"
    exchange(lab, "timestamp")
    assert asked(lab) == "1.1.0"


@pytest.mark.parametrize("role", ["snapshot", ECG])
def test_fast_forward_of_other_roles_and_recovery(lab: RepositoryLab, role: str) -> None:
    """Exchanging the keys of snapshot and timestamp brings a driven snapshot or family down again."""
    honest = lab.snapshot_to("honest")
    thief = Attacker(lab, "snapshot", "timestamp", ECG)
    if role == "snapshot":
        thief.state.snapshot.version = 2_000_000_000
        thief.publish_snapshot()
    else:
        thief.state.families[ECG].version = 2_000_000_000
        thief.publish(ECG)
    assert asked(lab) == "1.0.0"
    shutil.rmtree(lab.repo)
    shutil.copytree(honest, lab.repo)
    for _ in range(5):  # past the thief's timestamp version, which alone would be refused
        lab.publisher.refresh()
    lab.publish("1.1.0")
    assert asked(lab) == "repository-rolled-back"
    exchange(lab, "snapshot", "timestamp")
    assert asked(lab) == "1.1.0"


# --- indefinite freeze


@pytest.mark.parametrize("days", [8, 3653])
def test_indefinite_freeze(lab: RepositoryLab, days: float) -> None:
    """A repository that stands still is refused when its timestamp expires, a week later at most."""
    lab.wall.advance(days=days)
    assert asked(lab) == "repository-expired"


def test_indefinite_freeze_of_a_family_by_stolen_online_keys(lab: RepositoryLab) -> None:
    """Fresh online metadata over a family's old ones hold devices back until that family's expire, no longer."""
    thief = Attacker(lab, "snapshot", "timestamp")
    lab.wall.advance(days=89)
    for signed in (thief.state.snapshot, thief.state.timestamp):
        signed.expires = lab.wall.now + timedelta(days=300)
    thief.publish_snapshot()
    assert asked(lab) == "1.0.0"
    lab.wall.advance(days=2)
    assert asked(lab) == "repository-expired"


# --- endless data


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", ECG, "root"])
def test_endless_data_in_metadata(lab: RepositoryLab, role: str) -> None:
    """Metadata that do not end are given up at the length that was signed, or at a fixed one."""
    state = lab.publisher.folder.current()
    versions = {"snapshot": state.snapshot.version, "targets": state.targets.version, ECG: state.families[ECG].version}
    name = {"timestamp": "timestamp.json", "root": "2.root.json"}.get(role, f"{versions.get(role)}.{role}.json")
    path = lab.repo / "metadata" / name
    path.write_bytes((path.read_bytes() if path.exists() else b"{") + b" " * (6 << 20))
    shutil.rmtree(lab.trust)
    assert asked(lab) == "metadata-too-large"


def test_endless_data_in_a_bundle(lab: RepositoryLab, tmp_path: Path) -> None:
    """A bundle that does not end is given up at its signed length and leaves nothing on the disk."""
    with FaultyServer(lab.repo) as server:
        client = lab.client(server.url)
        offer = client.latest(ECG)
        server.faults.replace = tiny_bundle("1.0.0") + b"\0" * (4 << 20)
        assert refusal(lambda: client.download(offer, tmp_path / "in" / "x.ewb")) == "download-too-long"
    assert list((tmp_path / "in").iterdir()) == []


# --- extraneous dependencies


def test_extraneous_dependencies() -> None:
    """Does not apply: a bundle depends on nothing, and a manifest that names a dependency is refused."""
    from edgeward.bundle.archive import read_bundle

    manifest = json.loads(read_bundle(tiny_bundle()).manifest.to_json())
    assert not [key for key in manifest if "depend" in key or "require" in key]
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps({**manifest, "requires": ["other-bundle"]}).encode())
    assert caught.value.code == "manifest-malformed"


# --- mix-and-match


def test_mix_and_match_of_two_states(lab: RepositoryLab) -> None:
    """Metadata of two states, each signed well, do not pass for one."""
    old = lab.snapshot_to("old")
    before = lab.publisher.folder.current()
    lab.publish("1.1.0")
    after = lab.publisher.folder.current()
    names = {
        f"{after.snapshot.version}.snapshot.json": f"{before.snapshot.version}.snapshot.json",
        f"{after.families[ECG].version}.{ECG}.json": f"{before.families[ECG].version}.{ECG}.json",
    }
    for now, then in names.items():
        path = lab.repo / "metadata" / now
        kept = path.read_bytes()
        path.write_bytes((old / "metadata" / then).read_bytes())
        assert asked(lab) == "repository-mixed"
        path.write_bytes(kept)
    assert asked(lab) == "1.1.0"


# --- wrong software installation


def test_wrong_software_of_another_family(lab: RepositoryLab) -> None:
    """A family's stolen key, with all online keys, cannot name a bundle of another family."""
    thief = Attacker(lab, SEPSIS, "snapshot", "timestamp")
    thief.offer_evil(SEPSIS, name=ECG)
    thief.publish(SEPSIS)
    assert asked(lab) == "1.0.0"
    assert asked(lab, SEPSIS) == "1.0.0"


def test_wrong_software_under_the_right_name(lab: RepositoryLab) -> None:
    """An entry whose signed fields speak of another bundle is offer-malformed, even by the family's own key."""
    thief = Attacker(lab, ECG, "snapshot", "timestamp")
    thief.offer_evil(ECG)
    thief.state.families[ECG].targets[f"{ECG}.ewb"].custom["name"] = SEPSIS
    thief.publish(ECG)
    assert asked(lab) == "offer-malformed"


# --- malicious mirrors preventing updates


def test_malicious_mirrors_preventing_updates(lab: RepositoryLab, tmp_path: Path) -> None:
    """Whatever a bad mirror shows, the same device is served by a good one right after it, and resumes what it had."""
    frozen = lab.snapshot_to("frozen")
    lab.publish("1.1.0")
    garbage = lab.snapshot_to("garbage")
    for path in (garbage / "metadata").iterdir():
        path.write_bytes(b"<html>captive portal</html>")
    empty = tmp_path / "empty"
    (empty / "metadata").mkdir(parents=True)
    assert asked(lab) == "1.1.0"
    codes = [asked(lab, url=mirror) for mirror in (frozen, garbage, empty)]
    assert codes == ["repository-rolled-back", "metadata-malformed", "repository-unreachable"]
    assert asked(lab) == "1.1.0"
    dest = tmp_path / "in" / "x.ewb"
    with FaultyServer(lab.repo) as bad:
        bad.faults.cut_after = 200
        client = lab.client(bad.url)
        offer = client.latest(ECG)
        assert refusal(lambda: client.download(offer, dest)) == "repository-unreachable"
    assert lab.client().download(offer, dest).resumed_bytes >= 200
    assert dest.read_bytes() == tiny_bundle("1.1.0")


# --- key compromise below the threshold


def test_key_compromise_of_one_root_key(lab: RepositoryLab) -> None:
    """One of three root keys makes no root: the device refuses it and keeps the one it has."""
    keys = Keys(lab.folder / "keys")
    root = lab.publisher.folder.root().signed
    root.version = 2
    mine = CryptoSigner.generate_ed25519()
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.roles[role].keyids.clear()
        root.add_key(mine.public_key, role)
    root.roles["root"].threshold = 1
    forged: Metadata[Any] = Metadata(root)
    for signer in (mine, keys.load(lab.folder / "keys" / "root-1.pem")):
        forged.sign(signer, append=True)
    path = lab.repo / "metadata" / "2.root.json"
    path.write_bytes(forged.to_bytes())
    assert asked(lab) == "signature-invalid"
    path.unlink()
    assert asked(lab) == "1.0.0"


def test_key_compromise_of_the_timestamp(lab: RepositoryLab) -> None:
    """The timestamp's key alone can hold a device back and offer nothing: an older snapshot is refused."""
    state = lab.publisher.folder.current()
    lab.publish("1.1.0")
    assert asked(lab) == "1.1.0"
    thief = Attacker(lab, "timestamp")
    thief.state.timestamp.snapshot_meta = state.timestamp.snapshot_meta
    thief.state.timestamp.version += 1
    thief.write("timestamp", thief.state.timestamp, "timestamp.json")
    assert asked(lab) == "repository-rolled-back"


def test_key_compromise_of_the_fleet_server(lab: RepositoryLab) -> None:
    """A taken-over server with both online keys can at most withhold: a hidden family is refused, not replaced."""
    thief = Attacker(lab, "snapshot", "timestamp")
    del thief.state.snapshot.meta[f"{ECG}.json"]
    thief.publish_snapshot()
    assert asked(lab) == "metadata-malformed"  # a role once named may not vanish (TUF 5.5.5)
    shutil.rmtree(lab.trust)
    assert asked(lab) == "metadata-malformed"  # nor may it for a device that sees the repository first


def test_key_compromise_of_targets_without_the_server(lab: RepositoryLab) -> None:
    """Targets' key without the online keys changes nothing that a device accepts."""
    thief = Attacker(lab, "targets")
    thief.offer_evil("targets")
    thief.publish("targets")
    assert asked(lab) == "signature-invalid"


def test_key_compromise_is_ended_by_exchange(lab: RepositoryLab) -> None:
    """After a family's key was exchanged, the stolen one offers nothing, even with both online keys."""
    old = Keys(lab.folder / "keys").signers(ECG)
    Ceremony(RepositoryFolder(lab.repo, Keys(lab.folder / "keys"), wall=lab.wall)).rotate_family(ECG)
    thief = Attacker(lab, "snapshot", "timestamp")
    thief._signers[ECG] = old
    thief.offer_evil(ECG)
    thief.publish(ECG)
    assert asked(lab) == "signature-invalid"


# --- the device's clock, ten years off


@pytest.mark.parametrize("fresh", [False, True], ids=["known device", "new device"])
@pytest.mark.parametrize(
    ("off", "code"), [(-TEN_YEARS, "clock-behind"), (TEN_YEARS, "repository-expired")], ids=["behind", "ahead"]
)
def test_clock_ten_years_off(lab: RepositoryLab, off: timedelta, code: str, fresh: bool) -> None:
    """A clock ten years off stops new bundles only, and leaves no trace once it is right again."""
    if fresh:
        shutil.rmtree(lab.trust)
    lab.wall.now += off
    assert asked(lab) == code
    lab.wall.now -= off
    assert asked(lab) == "1.0.0"
    lab.publish("1.1.0")
    assert asked(lab) == "1.1.0"
