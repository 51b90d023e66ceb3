"""Keys that their holders bring: no machine holds two root keys, and a family's team signs with a key of its own."""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
from ceremony_support import CutError, Holder, Secrets, code_of, cut_at
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from tuf.api.metadata import Metadata, Root

from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.testing.repository import FakeWall, RepositoryLab, tiny_bundle
from edgeward.trust.ceremony import Ceremony
from edgeward.trust.draft import Draft
from edgeward.trust.fetch import TrustClient
from edgeward.trust.keys import Keys
from edgeward.trust.public import public_path, read_public, read_publics
from edgeward.trust.publish import Publisher
from edgeward.trust.repository import RepositoryFolder

if TYPE_CHECKING:
    from pathlib import Path

ECG, SEPSIS, HYPOTENSION = "ecg-beat", "sepsis-risk", "hypotension"


class Site:
    """The machine on which publishing runs, three root holders with machines of their own, and one device."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.repo, self.online, self.offline = place / "repo", place / "online", place / "offline"
        self.draft = place / "root-draft.json"
        self.wall = FakeWall()
        self.holders = [Holder(place, name) for name in ("ada", "ben", "cem")]

    def ceremony(self) -> Ceremony:
        """The ceremony of a new process."""
        return Ceremony(RepositoryFolder(self.repo, Keys(self.online, self.offline, Secrets()), wall=self.wall))

    def begin(self, *families: str, threshold: int = 2) -> Draft:
        """What ``trust init --root-key …`` does."""
        brought = [holder.brought for holder in self.holders]
        return self.ceremony().begin(brought, self.draft, families=families, root_threshold=threshold)

    def put_in_force(self) -> int:
        """What ``trust sign DRAFT --repo --keys`` does."""
        return self.ceremony().publish_root(Draft.read(self.draft))

    def make(self, *families: str) -> None:
        """A whole ceremony."""
        self.begin(*families)
        for holder in self.holders[:2]:
            holder.sign(self.draft)
        assert self.put_in_force() == 1

    def publisher(self, offline: Path | None = None) -> Publisher:
        """The publisher with the offline keys in ``offline``."""
        return Publisher(
            self.repo, self.online, offline_keys=offline or self.offline, passphrases=Secrets(), wall=self.wall
        )

    def publish(self, version: str, *, name: str = ECG, offline: Path | None = None) -> None:
        """Publish a tiny bundle with the offline keys in ``offline``."""
        path = self.place / "bundle.ewb"
        path.write_bytes(tiny_bundle(version, name=name))
        self.publisher(offline).add(path)

    def device(self, trust: str = "trust") -> TrustClient:
        """A device that was given the first root by hand."""
        root = (self.repo / "metadata" / "1.root.json").read_bytes()
        return TrustClient(self.repo, self.place / trust, root=root, wall=self.wall)

    def keep(self, *names: str) -> None:
        """Remember what lies at ``names``, to have it back by ``back``."""
        for name in names:
            path = self.place / name
            if path.is_dir():
                shutil.copytree(path, self.place / "kept" / name)
            elif path.exists():
                (self.place / "kept").mkdir(exist_ok=True)
                shutil.copy2(path, self.place / "kept" / name)

    def back(self, *names: str) -> None:
        """Put everything back as it was kept; what was not there is removed."""
        for name in names:
            path, kept = self.place / name, self.place / "kept" / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if kept.is_dir():
                shutil.copytree(kept, path)
            elif kept.exists():
                shutil.copy2(kept, path)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # these tests are of who may sign, not of durability
    return Site(tmp_path)


@pytest.fixture
def team(tmp_path: Path) -> Holder:
    return Holder(tmp_path, "team")


# --- a holder's own key


def test_holder_makes_a_key_and_hands_over_its_public_half(tmp_path: Path) -> None:
    """The private key is encrypted and its owner's alone; the file that is handed over holds the public key only."""
    ada = Holder(tmp_path, "ada")
    assert stat.S_IMODE(ada.private.stat().st_mode) == 0o600
    assert ada.private.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    raw = ada.public.read_bytes()
    assert raw.startswith(b"-----BEGIN PUBLIC KEY-----")
    assert b"PRIVATE" not in raw
    assert ada.brought == ada.key
    assert Keys(ada.machine, passphrases=Secrets()).load(ada.private).public_key == ada.key


def test_holders_key_is_never_written_over_and_never_short(tmp_path: Path) -> None:
    """A second key of the same name is key-exists, a short passphrase passphrase-short, a wrong name key-name."""
    ada = Holder(tmp_path, "ada")
    before = ada.private.read_bytes(), ada.public.read_bytes()
    keys = Keys(ada.machine, passphrases=Secrets())
    assert code_of(lambda: keys.make_pair(ada.private)) == "key-exists"
    assert (ada.private.read_bytes(), ada.public.read_bytes()) == before
    short = Keys(tmp_path, passphrases=Secrets("too short"))
    assert code_of(lambda: short.make_pair(tmp_path / "ben.pem")) == "passphrase-short"
    assert code_of(lambda: keys.make_pair(tmp_path / "ben.pub.pem")) == "key-name"
    assert code_of(lambda: keys.make_pair(tmp_path / "ben")) == "key-name"
    assert code_of(lambda: keys.make_pair(tmp_path / "nowhere" / "ben.pem")) == "disk-error"


@pytest.mark.parametrize(("cut", "when"), [(1, "before"), (1, "after"), (2, "before"), (2, "after")])
def test_making_a_key_that_is_cut_is_gone_on_with(tmp_path: Path, cut: int, when: str) -> None:
    """After a cut the same command gives one whole pair; a private key that was written is kept."""
    private = tmp_path / "ada.pem"
    with cut_at(cut, when), pytest.raises(CutError):
        Keys(tmp_path, passphrases=Secrets()).make_pair(private)
    kept = private.read_bytes() if private.exists() else None
    if (cut, when) != (2, "after"):
        Keys(tmp_path, passphrases=Secrets()).make_pair(private)
    assert kept is None or private.read_bytes() == kept
    assert read_public(public_path(private)) == Keys(tmp_path, passphrases=Secrets()).load(private).public_key


# --- public key files that are refused


def _pem(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | x25519.X25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """RSA, ECDSA and X25519 keys are public-key-kind."""
    path = tmp_path / "other.pub.pem"
    for private in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        x25519.X25519PrivateKey.generate(),
    ):
        path.write_bytes(_pem(private.public_key()))
        assert code_of(lambda: read_public(path)) == "public-key-kind"


def test_malformed_public_key_file_is_refused(tmp_path: Path) -> None:
    """Nothing, noise, half a key, two keys, a text around it, a certificate's frame: public-key-malformed."""
    good = Holder(tmp_path, "ada").public.read_bytes()
    body = good.splitlines()[1]
    path = tmp_path / "x.pub.pem"
    for raw in (
        b"",
        b"\xff" * 40,
        good[:60],
        good + good,
        b"this is the key\n" + good,
        good.replace(b"PUBLIC KEY", b"CERTIFICATE"),
        good.replace(body, body[:-8]),
        good.replace(body, b"A" * len(body)),
        good.replace(body, body + b"AAAA"),
        good + b" " * 9000,
    ):
        path.write_bytes(raw)
        assert code_of(lambda: read_public(path)) == "public-key-malformed", raw[:80]
    assert code_of(lambda: read_public(tmp_path / "absent.pub.pem")) == "public-key-unreadable"
    assert code_of(lambda: read_public(tmp_path)) == "public-key-unreadable"


@pytest.mark.parametrize("secret", ["correct horse battery", ""])
def test_private_key_in_place_of_a_public_one_is_refused_loudly(tmp_path: Path, secret: str) -> None:
    """Whether it has a passphrase or not, it is said that a private key must not be here, and what to do."""
    private = tmp_path / "ada.pem"
    Keys(tmp_path, passphrases=Secrets(secret)).make_pair(private)
    both = tmp_path / "both.pem"
    both.write_bytes(public_path(private).read_bytes() + private.read_bytes())
    for path in (private, both):
        with pytest.raises(ConfigError, match=r"STOP: .* PRIVATE key.*let its holder make another") as caught:
            read_public(path)
        assert caught.value.code == "key-is-private"


def test_public_key_signs_nothing(site: Site) -> None:
    """Signing with the public key file is key-is-public."""
    ada = site.holders[0]
    assert code_of(lambda: Keys(ada.machine).load(ada.public)) == "key-is-public"


def test_same_key_twice_is_refused(site: Site) -> None:
    """One key cannot hold two places among the root's, by one file or by a copy of it; nothing is made."""
    ada, ben, _ = site.holders
    copy = shutil.copy2(ada.public, site.place / "copy.pub.pem")
    assert code_of(lambda: read_publics([ada.public, ben.public, copy])) == "key-twice"
    twice = [ada.brought, ben.brought, ada.brought]
    assert code_of(lambda: site.ceremony().begin(twice, site.draft)) == "key-twice"
    assert not site.online.exists()


# --- the first root, from hand to hand


def test_no_machine_holds_two_root_keys(site: Site) -> None:
    """The root comes from three machines with one key each; a device trusts it and installs what is published."""
    site.make(ECG, SEPSIS)
    assert not site.draft.exists()
    assert [path.name for path in site.place.rglob("root-*.pem")] == []
    assert {path.stem for place in (site.online, site.offline) for path in place.glob("*.pem")} == {
        "targets-1",
        "snapshot-1",
        "timestamp-1",
        f"{ECG}-1",
        f"{SEPSIS}-1",
    }
    rows = {row.role: row for row in site.ceremony().status()}
    assert rows["root"].keys == ("root-1", "root-2", "root-3")
    assert rows["root"].ids == tuple(holder.key.keyid for holder in site.holders)
    assert (rows["root"].threshold, rows["root"].version) == (2, 1)
    assert {row.version for row in rows.values()} == {1}
    site.publish("1.0.0")
    assert site.device().latest(ECG).version == "1.0.0"


def test_putting_it_in_force_needs_the_online_keys_alone(site: Site) -> None:
    """Targets' and the families' keys may have left for their safes on the day they were made."""
    site.begin(ECG)
    shutil.move(site.offline, site.place / "safe")
    for holder in site.holders[1:]:
        holder.sign(site.draft)
    assert (
        Ceremony(RepositoryFolder(site.repo, Keys(site.online), wall=site.wall)).publish_root(Draft.read(site.draft))
        == 1
    )
    site.publish("1.0.0", offline=site.place / "safe")
    assert site.device().latest(ECG).version == "1.0.0"


def test_nothing_is_published_before_the_root_is_in_force(site: Site) -> None:
    """Publishing, delegating, exchanging and making another repository there are refused with what lacks."""
    site.begin(ECG)
    site.holders[0].sign(site.draft)
    with pytest.raises(ConfigError, match=r"2 of its 3 key holders must sign the draft") as caught:
        site.publish("1.0.0")
    assert caught.value.code == "root-not-in-force"
    ceremony = site.ceremony()
    for action in (
        site.publisher().refresh,
        site.publisher().init,
        ceremony.status,
        ceremony.init,
        lambda: ceremony.delegate(SEPSIS),
        lambda: ceremony.rotate_family(ECG),
        lambda: ceremony.rotate(["root"], site.place / "other.json"),
    ):
        assert code_of(action) == "root-not-in-force"
    assert code_of(site.put_in_force) == "signatures-missing"
    assert not (site.repo / "metadata" / "1.root.json").exists()
    assert not (site.repo / "metadata" / "timestamp.json").exists()


def test_holder_sees_every_key_and_threshold_before_signing(site: Site) -> None:
    """The draft tells the whole first root; a key that is not of it adds no signature."""
    site.begin(ECG)
    told = Draft.read(site.draft).changes()
    assert "FIRST of a new repository" in told[0]
    for number, holder in enumerate(site.holders, 1):
        assert f"root: with root-{number} (id {holder.key.keyid})" in told
    assert "root: 2 of 3 signatures needed" in told
    assert sum(": with " in line for line in told) == 6
    assert Holder(site.place, "eve").sign(site.draft) == 0
    assert site.holders[2].sign(site.draft) == 1
    have = Draft.read(site.draft).signatures()
    assert (have.old_needed, have.new, have.new_needed, have.is_enough) == (0, 1, 2, False)


def test_draft_that_was_exchanged_on_its_way_is_refused(site: Site) -> None:
    """A whole first root of an attacker's, signed by his own keys, is not taken for the one that was begun here."""
    site.begin(ECG)
    eve = [Holder(site.place, name) for name in ("eve", "eva")]
    root = Draft.read(site.draft).following.signed
    for holder in eve:
        root.add_key(holder.key, "root")
    forged = Draft(site.draft, None, Metadata(root))
    forged.write()
    for holder in eve:
        assert holder.sign(site.draft) == 1
    assert Draft.read(site.draft).signatures().is_enough
    assert code_of(site.put_in_force) == "draft-foreign"
    assert not (site.repo / "metadata" / "1.root.json").exists()


def test_draft_of_a_first_root_elsewhere_is_refused(site: Site, tmp_path: Path) -> None:
    """A machine that began no root, or has one in force, does not take the draft of another's."""
    site.begin(ECG)
    for holder in site.holders:
        holder.sign(site.draft)
    (tmp_path / "elsewhere").mkdir()
    lab = RepositoryLab(tmp_path / "elsewhere", families=(ECG,))
    for keys in (Keys(tmp_path / "elsewhere" / "keys"), Keys(tmp_path / "no-keys")):
        other = Ceremony(RepositoryFolder(lab.repo, keys))
        assert code_of(lambda other=other: other.publish_root(Draft.read(site.draft))) == "draft-foreign"
    assert lab.client().latest is not None
    assert site.put_in_force() == 1


@pytest.mark.parametrize("how", ["another version", "a key under an id of its choice"])
def test_forged_draft_of_a_first_root_is_refused(site: Site, how: str) -> None:
    """A first root is version 1, and every key stands under its own id."""
    site.begin(ECG)
    document = json.loads(site.draft.read_bytes())
    following = document["next"]["signed"]
    if how == "another version":
        following["version"] = 2
    else:
        key = following["keys"].pop(following["roles"]["root"]["keyids"][0])
        following["keys"]["ab" * 32] = key
        following["roles"]["root"]["keyids"][0] = "ab" * 32
    site.draft.write_text(json.dumps(document))
    assert code_of(lambda: Draft.read(site.draft)) == "draft-forged"


def test_metadata_that_were_changed_meanwhile_are_refused(site: Site) -> None:
    """What init signed of targets is proved again before the root comes into force."""
    site.begin(ECG)
    for holder in site.holders:
        holder.sign(site.draft)
    path = site.repo / "metadata" / "1.targets.json"
    document = json.loads(path.read_bytes())
    document["signed"]["delegations"]["roles"] = []
    path.write_text(json.dumps(document))
    assert code_of(site.put_in_force) == "repository-unreadable"
    assert not (site.repo / "metadata" / "1.root.json").exists()


def test_init_is_run_again_as_it_was_or_not_at_all(site: Site) -> None:
    """Again, it keeps the signatures given and makes nothing anew; with other arguments it is init-unfinished."""
    site.begin(ECG)
    site.holders[0].sign(site.draft)
    before = {path: path.read_bytes() for path in site.place.rglob("*") if path.is_file() and path.name != ".lock"}
    site.begin(ECG)
    assert {path: path.read_bytes() for path in before} == before
    assert code_of(lambda: site.begin(ECG, SEPSIS)) == "init-unfinished"
    assert code_of(lambda: site.begin(ECG, threshold=3)) == "init-unfinished"
    site.draft.unlink()  # it was lost on its way: another is written, and the signing begins anew
    site.begin(ECG)
    assert Draft.read(site.draft).signatures().new == 0
    for holder in site.holders:
        holder.sign(site.draft)
    site.put_in_force()
    assert code_of(lambda: site.begin(ECG)) == "repository-exists"
    assert code_of(lambda: site.ceremony().init()) == "repository-exists"


def test_init_that_a_person_gives_up_is_gone_on_with(site: Site) -> None:
    """Stopped while a passphrase is asked for, it keeps the keys made so far, and asks for those again to use them."""

    class Gone(Secrets):
        def choose(self, key: str) -> str:
            if key == f"{ECG}-1":
                raise KeyboardInterrupt
            return self.secret

    brought = [holder.brought for holder in site.holders]
    given_up = Keys(site.online, site.offline, Gone())
    with pytest.raises(KeyboardInterrupt):
        Ceremony(RepositoryFolder(site.repo, given_up, wall=site.wall)).begin(brought, site.draft, families=[ECG])
    kept = (site.offline / "targets-1.pem").read_bytes()
    secrets = Secrets()
    again = Keys(site.online, site.offline, secrets)
    Ceremony(RepositoryFolder(site.repo, again, wall=site.wall)).begin(brought, site.draft, families=[ECG])
    assert (site.offline / "targets-1.pem").read_bytes() == kept
    assert secrets.asked == ["targets-1"]
    for holder in site.holders[1:]:
        holder.sign(site.draft)
    assert site.put_in_force() == 1


def test_first_root_makes_nothing_where_keys_or_a_draft_are(site: Site) -> None:
    """Keys, a draft or a holder's private key that lie there are never written over, nor mixed with new ones."""
    site.draft.write_bytes(b"{}")
    assert code_of(lambda: site.begin(ECG)) == "draft-exists"
    site.draft.unlink()
    shutil.rmtree(site.offline)
    site.offline.mkdir()
    shutil.copy2(site.holders[0].public, site.offline)
    shutil.copy2(site.holders[0].private, site.offline)
    assert code_of(lambda: site.begin(ECG)) == "keys-exist"
    (site.offline / "ada.pem").unlink()
    site.begin(ECG)  # a public key file is in nobody's way
    assert (site.offline / "ada.pub.pem").exists()


@pytest.mark.parametrize(("count", "threshold", "code"), [(0, 2, "root-keys"), (3, 4, "root-threshold")])
def test_senseless_numbers_of_brought_keys_are_refused(site: Site, count: int, threshold: int, code: str) -> None:
    """None at all, or a threshold that can never be met."""
    brought = [holder.brought for holder in site.holders[:count]]
    assert code_of(lambda: site.ceremony().begin(brought, site.draft, root_threshold=threshold)) == code
    assert not site.online.exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_ceremony_that_is_cut_is_gone_on_with_by_the_last_command(site: Site, when: str) -> None:
    """Cut before or after any write from init to the root in force; the command that was cut, run again, goes on."""
    cuts = 0
    for cut in range(1, 40):
        site.back("repo", "online", "offline", "root-draft.json", "trust")
        was_cut = 0
        with cut_at(cut, when):
            for step in (
                lambda: site.begin(ECG, SEPSIS),
                lambda: site.holders[0].sign(site.draft),
                lambda: site.holders[2].sign(site.draft),
                site.put_in_force,
            ):
                try:
                    step()
                except CutError:
                    was_cut += 1
                    step()
        cuts += was_cut
        assert site.ceremony().status()[0].ids == tuple(holder.key.keyid for holder in site.holders)
        assert not site.draft.exists()
        assert not (site.online / "first-root.json").exists()
        site.publish("1.0.0")
        site.publish("1.0.0", name=SEPSIS)
        assert site.device().latest(ECG).version == "1.0.0"
        if not was_cut:
            break
    # plan, 5 keys, targets and two families, what was made, draft; two signatures; root, 3 + snapshot, timestamp
    assert cuts == 19


# --- root and targets exchanged for keys that are brought


def test_root_key_is_exchanged_for_one_that_its_holder_brings(site: Site) -> None:
    """Two holders make the newcomer the third; devices follow, and the one who left signs nothing more."""
    site.make(ECG)
    site.publish("1.0.0")
    assert site.device().latest(ECG).version == "1.0.0"
    dora = Holder(site.place, "dora")
    ada, ben, cem = site.holders
    draft = site.ceremony().rotate(["root"], site.draft, replace=["root-2"], brought=[dora.brought])
    assert draft.changes()[1:] == [
        f"root: without root-2 (id {ben.key.keyid})",
        f"root: with root-4 (id {dora.key.keyid})",
    ]
    for holder in (ada, cem):
        assert holder.sign(site.draft) == 1
    assert site.put_in_force() == 2
    assert site.device().latest(ECG).version == "1.0.0"
    assert site.device("new").latest(ECG).version == "1.0.0"
    assert set(site.ceremony().status()[0].ids) == {holder.key.keyid for holder in (ada, cem, dora)}
    site.ceremony().rotate(["root"], site.draft)
    assert [holder.sign(site.draft) for holder in (ben, dora, ada)] == [0, 1, 1]
    assert site.put_in_force() == 3
    site.publish("1.1.0")
    assert site.device().latest(ECG).version == "1.1.0"


def test_repository_of_one_machine_comes_to_the_holders_way(site: Site) -> None:
    """All three root keys that were made on one machine are exchanged for keys of holders; devices follow."""
    site.ceremony().init(families=[ECG])
    site.publish("1.0.0")
    assert site.device().latest(ECG).version == "1.0.0"
    gone = ["root-1", "root-2", "root-3"]
    brought = [holder.brought for holder in site.holders]
    draft = site.ceremony().rotate(["root"], site.draft, replace=gone, brought=brought)
    assert (draft.signatures().old, draft.signatures().new) == (3, 0)
    for holder in site.holders[:2]:
        holder.sign(site.draft)
    assert site.put_in_force() == 2
    assert site.ceremony().status()[0].ids == tuple(holder.key.keyid for holder in site.holders)
    assert list(site.offline.glob("root-*.pem")) == []
    assert site.device().latest(ECG).version == "1.0.0"


@pytest.mark.parametrize("when", ["before", "after"])
def test_exchange_of_a_root_key_that_is_cut_is_gone_on_with(site: Site, when: str) -> None:
    """Cut at any write of it, a device is served before and after going on."""
    site.make(ECG)
    site.publish("1.0.0")
    dora = Holder(site.place, "dora")
    site.keep("repo", "online", "offline")
    steps = (
        lambda: site.ceremony().rotate(["root"], site.draft, replace=["root-1"], brought=[dora.brought]),
        lambda: site.holders[1].sign(site.draft),
        lambda: site.holders[2].sign(site.draft),
        site.put_in_force,
    )
    cuts = 0
    for cut in range(1, 20):
        site.back("repo", "online", "offline", "root-draft.json", "trust")
        was_cut = False
        with cut_at(cut, when):
            for step in steps:
                try:
                    step()
                except CutError:
                    was_cut = True
                    assert site.device().latest(ECG).version == "1.0.0"
                    if step is not steps[0] or not site.draft.exists():
                        step()
        cuts += was_cut
        assert site.ceremony().status()[0].version == 2
        assert site.device().latest(ECG).version == "1.0.0"
        if not was_cut:
            break
    assert cuts == 4  # draft, two signatures, root


def test_new_keys_are_one_for_each_exchanged_and_new(site: Site) -> None:
    """Too many or too few, an online role's, one that is a root key already, or a family's: refused."""
    site.make(ECG)
    ada, ben, _ = site.holders
    dora = Holder(site.place, "dora")
    rotate, other = site.ceremony().rotate, site.place / "other.json"
    assert code_of(lambda: rotate(["root"], other, brought=[dora.brought])) == "key-count"
    two = [dora.brought, Holder(site.place, "emil").brought]
    assert code_of(lambda: rotate(["root"], other, replace=["root-1"], brought=two)) == "key-count"
    assert code_of(lambda: rotate(["snapshot"], other, brought=[dora.brought])) == "key-online"
    assert code_of(lambda: rotate(["root"], other, replace=["root-2"], brought=[ada.brought])) == "key-twice"
    assert code_of(lambda: rotate(["root"], other, replace=["root-2"], brought=[ben.brought])) == "key-twice"
    family = Keys(site.offline, passphrases=Secrets()).signers(ECG)[0].public_key
    assert code_of(lambda: rotate(["targets"], other, brought=[family])) == "key-twice"
    same = [dora.brought, dora.brought]
    assert code_of(lambda: rotate(["root"], other, replace=["root-1", "root-2"], brought=same)) == "key-twice"
    assert not other.exists()


def test_key_that_was_exchanged_does_not_come_back(site: Site, team: Holder) -> None:
    """A key that lost its place once is key-twice, whoever brings it."""
    site.make(ECG)
    dora = Holder(site.place, "dora")
    site.ceremony().rotate(["root"], site.draft, replace=["root-1"], brought=[dora.brought])
    for holder in site.holders[1:]:
        holder.sign(site.draft)
    site.put_in_force()
    gone = site.holders[0].brought
    rotate = site.ceremony().rotate
    assert code_of(lambda: rotate(["root"], site.draft, replace=["root-2"], brought=[gone])) == "key-twice"
    assert code_of(lambda: site.ceremony().delegate(SEPSIS, gone)) == "key-twice"
    site.ceremony().delegate(SEPSIS, team.brought)
    site.ceremony().rotate_family(SEPSIS)
    assert code_of(lambda: site.ceremony().hand_over_family(SEPSIS, team.brought)) == "key-twice"


def test_targets_pass_to_a_key_that_is_brought(site: Site) -> None:
    """Both keys of targets sign while the root changes, found by their ids; afterwards the new one alone delegates."""
    site.make(ECG)
    site.publish("1.0.0")
    assert site.device().latest(ECG).version == "1.0.0"
    safe = Holder(site.place, "safe")
    site.ceremony().rotate(["targets"], site.draft, brought=[safe.brought])
    for holder in site.holders[:2]:
        holder.sign(site.draft)
    assert code_of(site.put_in_force) == "key-missing"
    assert site.device().latest(ECG).version == "1.0.0"
    for path in (safe.private, safe.public):
        shutil.copy2(path, site.offline / path.name)
    assert site.put_in_force() == 2
    assert (site.offline / "targets-1.pem.retired").exists()
    assert site.device().latest(ECG).version == "1.0.0"
    assert site.device("new").latest(ECG).version == "1.0.0"
    assert site.ceremony().delegate(SEPSIS) is True
    site.publish("1.0.0", name=SEPSIS)
    assert site.device().latest(SEPSIS).version == "1.0.0"


# --- families whose teams bring a key


def test_family_is_signed_by_the_key_that_its_team_brought(site: Site, team: Holder) -> None:
    """Until the team publishes nothing of it is there; its key is found by its id, and no other signs for it."""
    site.make(ECG)
    site.publish("1.0.0")
    assert site.ceremony().delegate(SEPSIS, team.brought) is False
    assert list(site.offline.glob(f"{SEPSIS}*")) == []
    assert code_of(lambda: site.device().latest(SEPSIS)) == "bundle-not-published"
    assert site.device().latest(ECG).version == "1.0.0"
    assert {row.role: row.version for row in site.ceremony().status()}[SEPSIS] == 0
    assert site.publisher(team.machine / "nothing-here").refresh() == []
    assert code_of(lambda: site.publish("1.0.0", name=SEPSIS)) == "key-missing"
    site.publish("1.0.0", name=SEPSIS, offline=team.machine)
    assert site.device().latest(SEPSIS).version == "1.0.0"
    assert code_of(lambda: site.publish("1.1.0", offline=team.machine)) == "key-missing"
    assert code_of(lambda: site.ceremony().delegate(SEPSIS, team.brought)) == "family-exists"
    site.wall.advance(days=50)
    assert site.publisher(team.machine).refresh() == ["targets", ECG]
    assert site.device().latest(SEPSIS).version == "1.0.0"


def test_family_that_does_not_wait_for_its_team_cannot_be_hidden(site: Site, team: Holder) -> None:
    """Only of families that targets say wait does a device believe that nothing is published."""
    site.make(ECG)
    site.ceremony().delegate(SEPSIS, team.brought)
    site.publish("1.0.0", name=SEPSIS, offline=team.machine)

    def hidden(name: str) -> str:
        folder = site.publisher().folder
        state = folder.current()
        del state.snapshot.meta[f"{name}.json"]
        state.families.pop(name)
        folder.commit(state)
        trust = f"trust-{len(list(site.place.glob('trust*')))}"
        return code_of(lambda: site.device(trust).latest(name))

    site.keep("repo")
    assert hidden(ECG) == "metadata-malformed"
    site.back("repo")
    assert hidden(SEPSIS) == "bundle-not-published"  # as long as targets are those of the day it was delegated
    site.back("repo")
    site.wall.advance(days=50)
    site.publisher(team.machine).refresh()
    site.publisher().refresh()
    assert hidden(SEPSIS) == "metadata-malformed"


def test_key_without_its_public_file_is_found_where_it_has_no_passphrase(site: Site, tmp_path: Path) -> None:
    """With a passphrase its public key file must lie beside it: no passphrase of another key is asked for."""
    site.make()
    bare = tmp_path / "bare"
    bare.mkdir()
    site.ceremony().delegate(ECG, Keys(bare).make_pair(bare / "x.pem"))
    public_path(bare / "x.pem").unlink()
    site.publish("1.0.0", offline=bare)
    assert site.device().latest(ECG).version == "1.0.0"
    team = Holder(tmp_path, "team")
    site.ceremony().delegate(SEPSIS, team.brought)
    kept = team.public.rename(tmp_path / "kept.pub.pem")
    with pytest.raises(ConfigError, match=r"public key file \(\.pub\.pem\) beside it") as caught:
        site.publish("1.0.0", name=SEPSIS, offline=team.machine)
    assert caught.value.code == "key-missing"
    kept.rename(team.public)
    site.publish("1.0.0", name=SEPSIS, offline=team.machine)


def test_public_file_that_belongs_to_another_key_publishes_nothing(site: Site, team: Holder) -> None:
    """A public key file beside the wrong private key is key-wrong, and the repository stays as it was."""
    site.make()
    site.ceremony().delegate(ECG, team.brought)
    shutil.copy2(site.holders[0].private, team.private)
    assert code_of(lambda: site.publish("1.0.0", offline=team.machine)) == "key-wrong"
    assert code_of(lambda: site.device().latest(ECG)) == "bundle-not-published"


def test_family_is_handed_over_without_a_gap(site: Site, team: Holder) -> None:
    """While the team has not signed, both keys may; once it has, the same command ends the one before."""
    site.make(ECG, SEPSIS)
    site.publish("1.0.0")
    device = site.device()
    assert site.ceremony().hand_over_family(ECG, team.brought) is False
    assert {row.role: row.keys for row in site.ceremony().status()}[ECG] == (f"{ECG}-1", f"{ECG}-2")
    assert (device.latest(ECG).version, site.device("new-1").latest(ECG).version) == ("1.0.0", "1.0.0")
    before = (site.repo / "metadata" / "timestamp.json").read_bytes()
    assert site.ceremony().hand_over_family(ECG, team.brought) is False  # again, too early: nothing changes
    assert (site.repo / "metadata" / "timestamp.json").read_bytes() == before
    site.publish("1.1.0")  # the old key still may
    assert site.ceremony().hand_over_family(ECG, team.brought) is False
    site.publish("1.2.0", offline=team.machine)
    assert (device.latest(ECG).version, site.device("new-2").latest(ECG).version) == ("1.2.0", "1.2.0")
    assert site.ceremony().hand_over_family(ECG, team.brought) is True
    assert {row.role: row.keys for row in site.ceremony().status()}[ECG] == (f"{ECG}-2",)
    assert (site.offline / f"{ECG}-1.pem.retired").exists()
    assert (device.latest(ECG).version, site.device("new-3").latest(ECG).version) == ("1.2.0", "1.2.0")
    assert code_of(lambda: site.publish("1.3.0")) == "key-missing"
    (site.offline / f"{ECG}-1.pem.retired").rename(site.offline / f"{ECG}-1.pem")
    assert code_of(lambda: site.publish("1.3.0")) == "key-wrong"  # the key before is worth nothing
    site.publish("1.3.0", offline=team.machine)
    assert device.latest(ECG).version == "1.3.0"
    assert code_of(lambda: site.ceremony().hand_over_family(HYPOTENSION, team.brought)) == "role-unknown"


def test_family_is_handed_over_at_once_where_the_team_is_there(site: Site, team: Holder) -> None:
    """With the team's private key at hand it signs in the same step, and the key before is ended by it."""
    site.make(ECG)
    site.publish("1.0.0")
    for path in (team.private, team.public):
        shutil.copy2(path, site.offline / path.name)
    assert site.ceremony().hand_over_family(ECG, team.brought) is True
    assert {row.role: row.keys for row in site.ceremony().status()}[ECG] == (f"{ECG}-2",)
    assert site.device().latest(ECG).version == "1.0.0"
    site.publish("1.1.0", offline=team.machine)
    assert site.device().latest(ECG).version == "1.1.0"


def test_brought_key_is_kept_whatever_its_file_is_called(site: Site) -> None:
    """A file that looks like an older key of the family's is not retired when its key is the one that was brought."""
    site.make(ECG)
    private = site.offline / f"{ECG}-7.pem"
    key = Keys(site.offline, passphrases=Secrets()).make_pair(private)
    assert site.ceremony().hand_over_family(ECG, key) is True
    assert private.exists()
    assert (site.offline / f"{ECG}-1.pem.retired").exists()
    site.publish("1.0.0")
    assert site.device().latest(ECG).version == "1.0.0"


def test_team_signs_for_its_family_without_a_new_bundle(site: Site, team: Holder) -> None:
    """A refresh with the team's key at hand is the signature that ends the key before; the next one signs no more."""
    site.make(ECG)
    site.publish("1.0.0")
    assert site.ceremony().hand_over_family(ECG, team.brought) is False
    site.publisher().refresh()  # the key before renews nothing
    assert site.ceremony().hand_over_family(ECG, team.brought) is False
    assert site.publisher(team.machine).refresh() == []
    version = {row.role: row.version for row in site.ceremony().status()}[ECG]
    site.publisher(team.machine).refresh()
    assert {row.role: row.version for row in site.ceremony().status()}[ECG] == version
    assert site.ceremony().hand_over_family(ECG, team.brought) is True
    assert site.device().latest(ECG).version == "1.0.0"


@pytest.mark.parametrize("when", ["before", "after"])
def test_handing_over_that_is_cut_leaves_devices_served(site: Site, team: Holder, when: str) -> None:
    """Cut at any write of naming the new key, signing by it and ending the old, devices are served; again goes on."""
    site.make(ECG)
    site.publish("1.0.0")
    site.keep("repo", "online", "offline")

    cuts = 0
    for cut in range(1, 20):
        site.back("repo", "online", "offline", "trust")
        was_cut = False
        with cut_at(cut, when):
            for step in (
                lambda: site.ceremony().hand_over_family(ECG, team.brought),
                site.publisher(team.machine).refresh,
                lambda: site.ceremony().hand_over_family(ECG, team.brought),
            ):
                try:
                    step()
                except CutError:
                    was_cut = True
                    assert site.device().latest(ECG).version == "1.0.0"
                    shutil.rmtree(site.place / "trust")
                    assert site.device().latest(ECG).version == "1.0.0"
                    step()
        cuts += was_cut
        assert site.ceremony().hand_over_family(ECG, team.brought) is True
        assert {row.role: row.keys for row in site.ceremony().status()}[ECG] == (f"{ECG}-2",)
        assert site.device().latest(ECG).version == "1.0.0"
        if not was_cut:
            break
    assert cuts == 9  # three times: targets or family, snapshot, timestamp


def test_small_repository_moves_a_family_to_a_brought_key_only_with_it_at_hand(tmp_path: Path, team: Holder) -> None:
    """What targets say of the family moves to its role, which must be signed at once; without the key it stays."""
    (tmp_path / "small").mkdir()
    small = RepositoryLab(tmp_path / "small")
    small.publish("1.0.0")
    keys = small.folder / "keys"
    ceremony = Ceremony(RepositoryFolder(small.repo, Keys(keys, passphrases=Secrets()), wall=small.wall))
    assert code_of(lambda: ceremony.delegate(ECG, team.brought)) == "key-missing"
    assert small.client().latest(ECG).version == "1.0.0"
    for path in (team.private, team.public):
        shutil.copy2(path, keys / path.name)
    assert ceremony.delegate(ECG, team.brought) is True
    assert small.client().latest(ECG).version == "1.0.0"
    with pytest.raises(TrustError, match="another content"):
        small.publish("1.0.0", filler=b"other", allow_return=True)


def test_first_root_of_a_ceremony_reads_as_root_metadata(site: Site) -> None:
    """Devices are given the very bytes that the holders signed: 1.root.json verifies by its own keys."""
    site.make(ECG)
    metadata = Metadata[Root].from_bytes((site.repo / "metadata" / "1.root.json").read_bytes())
    metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    assert {*metadata.signatures} == {holder.key.keyid for holder in site.holders[:2]}
