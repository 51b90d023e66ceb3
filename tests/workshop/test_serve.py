"""The repository's small HTTP server."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from edgeward.kernel.errors import ConfigError
from edgeward.workshop.serve import RepositoryServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA = "ab" * 32


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RepositoryServer]:
    for folder in ("metadata", "targets"):
        (tmp_path / "repo" / folder).mkdir(parents=True)
    (tmp_path / "repo" / "targets" / f"{SHA}.x.ewb").write_bytes(b"0123456789")
    (tmp_path / "repo" / "metadata" / "timestamp.json").write_bytes(b"{}")
    (tmp_path / "repo" / "metadata" / ".hidden").write_bytes(b"no")
    (tmp_path / "secret").write_bytes(b"no")
    (tmp_path / "repo" / "metadata" / "link").symlink_to(tmp_path / "secret")
    with RepositoryServer(tmp_path / "repo") as running:
        yield running


def ask(server: RepositoryServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=5)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


BUNDLE = f"/targets/{SHA}.x.ewb"


def test_whole_file_carries_its_etag(server: RepositoryServer) -> None:
    """A bundle's ETag is the hash in its name, and it may be cached for ever."""
    status, headers, body = ask(server, BUNDLE)
    assert (status, body, headers["etag"]) == (200, b"0123456789", f'"{SHA}"')
    assert "immutable" in headers["cache-control"]
    assert ask(server, "/metadata/timestamp.json")[1]["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=4-", 206, b"456789"),
        ("bytes=4-5", 206, b"45"),
        ("bytes=4-99", 206, b"456789"),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=99-100", 416, b""),
        ("bytes=-3", 200, b"0123456789"),
        ("bytes=1-2,4-5", 200, b"0123456789"),
        ("lines=1-", 200, b"0123456789"),
    ],
)
def test_one_range_is_answered(server: RepositoryServer, asked: str, status: int, body: bytes) -> None:
    """A range from a byte on is 206, one past the end 416, and a form it does not speak is the whole file."""
    found = ask(server, BUNDLE, Range=asked)
    assert (found[0], found[2]) == (status, body)


def test_range_of_another_content_is_the_whole_file(server: RepositoryServer) -> None:
    """If-Range with another ETag gives 200 and everything."""
    assert ask(server, BUNDLE, Range="bytes=4-", If_Range='"other"')[::2] == (200, b"0123456789")
    assert ask(server, BUNDLE, Range="bytes=4-", If_Range=f'"{SHA}"')[::2] == (206, b"456789")


@pytest.mark.parametrize(
    "path",
    ["/", "/metadata/", "/metadata/.hidden", "/metadata/link", "/../secret", "/metadata/..%2f..%2fsecret",
     "/metadata/%2e%2e/secret", "/other/x", "/metadata/timestamp.json/x"],
)  # fmt: skip
def test_nothing_else_is_served(server: RepositoryServer, path: str) -> None:
    """No listing, no hidden file, no link or path that leads out."""
    assert ask(server, path)[::2] == (404, b"")


def test_head_gives_headers_only(server: RepositoryServer) -> None:
    """HEAD tells the length without the bytes; other methods are refused."""
    status, headers, body = ask(server, BUNDLE, "HEAD")
    assert (status, headers["content-length"], body) == (200, "10", b"")
    assert ask(server, BUNDLE, "PUT")[0] == 501


def test_taken_port_is_said(server: RepositoryServer, tmp_path: Path) -> None:
    """A port in use is serve-address."""
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(ConfigError) as caught:
        RepositoryServer(tmp_path, port=port)
    assert caught.value.code == "serve-address"
