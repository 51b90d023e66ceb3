"""The signed repository, served from a folder and from an S3-compatible store, and the releases it names."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import obstore
import pytest
from fleet_support import FleetKit, Served
from obstore.store import S3Store

from edgeward.fleet.accounts import Role
from edgeward.fleet.blobs import FolderBlobs, open_blobs
from edgeward.fleet.releases import Releases, listed
from edgeward.fleet.serve import listen, url_of
from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.testing.toy import TASK, toy_bundle
from edgeward.trust.ceremony import Ceremony
from edgeward.trust.fetch import TrustClient
from edgeward.trust.keys import Keys
from edgeward.trust.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeward.fleet.blobs import Blobs

BUCKET = "edgeward-test"
_KEYS = {"access_key_id": "x", "secret_access_key": "y", "region": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """An S3-compatible server on loopback: the options by which it is reached."""
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {**_KEYS, "endpoint": f"http://{host}:{port}"}
    import boto3

    boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        aws_access_key_id="x",
        aws_secret_access_key="y",
        region_name="us-east-1",
    ).create_bucket(Bucket=BUCKET)
    yield options
    server.stop()


class Published:
    """A repository with one bundle, in a folder, and perhaps in a bucket as well."""

    def __init__(self, folder: Path, options: dict[str, str] | None) -> None:
        self.repo = folder / "repo"
        self.publisher = Publisher(self.repo, folder / "keys")
        self.root = self.publisher.init()
        self.options = options
        self.prefix = folder.name
        self.add("1.0.0")

    def add(self, version: str) -> str:
        bundle = self.repo.parent / f"toy-{version}.ewb"
        bundle.write_bytes(toy_bundle(version))
        offer = self.publisher.add(bundle).offer
        self.copy()
        return offer.sha256

    def copy(self) -> None:
        if self.options is None:
            return
        store = S3Store(BUCKET, prefix=self.prefix, config=self.options, client_options={"allow_http": True})
        for path in sorted(self.repo.rglob("*")):
            if path.is_file():
                obstore.put(store, str(path.relative_to(self.repo)), path.read_bytes())

    @property
    def where(self) -> str:
        return str(self.repo) if self.options is None else f"s3://{BUCKET}/{self.prefix}"

    def blobs(self) -> Blobs:
        return open_blobs(self.where, self.options)


@pytest.fixture(params=["folder", "bucket"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Published:
    return Published(tmp_path, None if request.param == "folder" else request.getfixturevalue("s3"))


@pytest.fixture
def serving(kit: FleetKit, published: Published, tmp_path: Path) -> Iterator[Served]:
    blobs = published.blobs()
    releases = Releases(kit.store, blobs, published.where, published.root, tmp_path / "releases")
    kit.fleet = replace(kit.fleet, blobs=blobs, releases=releases)
    made = Served(kit, listen(kit.settings))
    yield made
    made.close()


def test_a_device_installs_from_it(kit: FleetKit, published: Published, serving: Served, tmp_path: Path) -> None:
    client = TrustClient(
        url_of(kit.settings, serving.listener) + "/repository/", tmp_path / "device", root=published.root.read_bytes()
    )
    offer = client.latest(TASK)
    client.download(offer, tmp_path / "got.ewb")
    assert sha256((tmp_path / "got.ewb").read_bytes()).hexdigest() == offer.sha256


def test_a_download_that_broke_goes_on(published: Published, serving: Served) -> None:
    (path,) = [one for one in (published.repo / "targets").iterdir() if one.is_file()]
    whole, address = path.read_bytes(), f"/repository/targets/{path.name}"
    plain = serving.client.get(address)
    assert (plain.status_code, plain.content) == (200, whole)
    tag = plain.headers["etag"]
    for asked, start, end in (
        ("bytes=10-", 10, len(whole)),
        ("bytes=0-0", 0, 1),
        ("bytes=-5", len(whole) - 5, len(whole)),
    ):
        part = serving.client.get(address, headers={"range": asked, "if-range": tag})
        assert (part.status_code, part.content) == (206, whole[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    other = serving.client.get(address, headers={"range": "bytes=10-", "if-range": '"another"'})
    assert (other.status_code, other.content) == (200, whole)
    beyond = serving.client.get(address, headers={"range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert serving.client.get(address, headers={"if-none-match": tag}).status_code == 304
    head = serving.client.head(address)
    assert (head.headers["content-length"], head.content) == (str(len(whole)), b"")


def test_a_delta_between_two_bundles_is_served_in_parts(published: Published, serving: Served) -> None:
    name = f"{'ab' * 8}-{'cd' * 8}.ewd"
    folder = published.repo / "targets" / "deltas"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"a delta of two bundles")
    published.copy()
    part = serving.client.get(f"/repository/targets/deltas/{name}", headers={"range": "bytes=2-6"})
    assert (part.status_code, part.content) == (206, b"delta")
    assert serving.client.get("/repository/targets/deltas/another.ewd").status_code == 404


def test_what_never_changes_may_be_kept_and_the_timestamp_may_not(published: Published, serving: Served) -> None:
    kept = {
        path: serving.client.get(f"/repository/{path}").headers["cache-control"]
        for path in ("metadata/timestamp.json", "metadata/1.root.json", f"targets/{_stored(published)}")
    }
    assert list(kept.values()) == ["no-cache", *["public, max-age=31536000, immutable"] * 2]


def _stored(published: Published) -> str:
    return next(one.name for one in (published.repo / "targets").iterdir() if one.is_file())


@pytest.mark.parametrize(
    "path", ["targets/none.ewb", "targets/..%2F..%2Fkeys", "metadata/none.json", f"targets/{'a' * 64}.toy.ewb"]
)
def test_nothing_else_is_served(serving: Served, path: str) -> None:
    assert serving.client.get(f"/repository/{path}").status_code in {404, 422}


def test_a_link_that_leads_out_of_the_folder_is_no_file_of_it(kit: FleetKit, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "targets").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    name = f"{'a' * 64}.x.ewb"
    (repo / "targets" / name).symlink_to(tmp_path / "secret")
    kit.fleet = replace(kit.fleet, blobs=FolderBlobs(repo))
    made = Served(kit, listen(kit.settings))
    assert made.client.get(f"/repository/targets/{name}").status_code == 404
    made.close()


def test_releases_are_what_signed_metadata_name(kit: FleetKit, published: Published, serving: Served) -> None:
    rights = {"authorization": f"Bearer {kit.token('olga', Role.OPERATOR)}"}
    look = serving.client.post("/api/v1/releases/look", headers=rights)
    assert look.json() == [TASK], look.text
    second = published.add("1.1.0")
    serving.client.post("/api/v1/releases/look", headers=rights)
    shown = serving.client.get(f"/api/v1/releases?family={TASK}", headers=rights).json()
    assert {(one["version"], one["current"]) for one in shown} == {("1.0.0", False), ("1.1.0", True)}
    assert [one["sha256"] for one in shown if one["current"]] == [second]


def test_a_repository_that_somebody_else_signed_adds_no_release(kit: FleetKit, tmp_path: Path) -> None:
    ours, theirs = Published(tmp_path / "a", None), Published(tmp_path / "b", None)
    releases = Releases(kit.store, theirs.blobs(), theirs.where, ours.root, tmp_path / "releases")
    with pytest.raises(TrustError):
        releases.look(kit.now_s)
    with kit.store.reading() as session:
        assert listed(session) == []


def test_a_family_that_waits_for_its_team_hides_no_release(kit: FleetKit, tmp_path: Path) -> None:
    published, team = Published(tmp_path / "a", None), tmp_path / "team"
    team.mkdir()
    Ceremony(published.publisher.folder).delegate("hypotension", Keys(team).make_pair(team / "team.pem"))
    releases = Releases(kit.store, published.blobs(), published.where, published.root, tmp_path / "releases")
    assert releases.look(kit.now_s) == [TASK]


def test_a_file_larger_than_a_piece_is_whole(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeward.fleet.blobs.PIECE_BYTES", 1_000)
    body = bytes(range(256)) * 40
    store = S3Store(BUCKET, prefix="large", config=s3, client_options={"allow_http": True})
    obstore.put(store, "targets/x", body)
    blobs = open_blobs(f"s3://{BUCKET}/large", s3)

    async def read(start: int, end: int) -> bytes:
        return b"".join([block async for block in blobs.read("targets/x", start, end)])

    for start, end in ((0, len(body)), (999, 1_001), (1_000, 3_000), (5, 5)):
        assert asyncio.run(read(start, end)) == body[start:end]
    assert asyncio.run(blobs.size("targets/none")) is None


def test_a_store_that_is_gone_is_said_to_be(kit: FleetKit) -> None:
    options = {**_KEYS, "endpoint": "http://127.0.0.1:1"}
    kit.fleet = replace(kit.fleet, blobs=open_blobs("s3://gone/x", options))
    made = Served(kit, listen(kit.settings))
    answer = made.client.get("/repository/metadata/timestamp.json", timeout=120)
    assert (answer.status_code, answer.json()["code"]) == (503, "repository-store")
    made.close()


@pytest.mark.parametrize("where", ["https://example.org/repo", "s3://", "s3://UPPER/x"])
def test_a_place_that_is_neither_folder_nor_bucket_is_refused(where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_blobs(where)
    assert refused.value.code == "repository-url"
