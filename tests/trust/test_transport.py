"""Opening URLs: addresses, TLS, and nothing that was not asked for."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward.kernel.errors import ConfigError
from edgeward.trust.transport import UnreachableError, base_url, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("/srv/my repo", "file:///srv/my%20repo/"),
        (Path("/srv/repo"), "file:///srv/repo/"),
        ("http://host:8080/repo", "http://host:8080/repo/"),
        ("https://host/", "https://host/"),
    ],
)
def test_address_is_a_folder_or_a_url(given: str | Path, url: str) -> None:
    """A folder becomes a file URL, and every address ends in a slash."""
    assert base_url(given) == url


def test_file_with_a_strange_name_is_opened(tmp_path: Path) -> None:
    """Percent signs and spaces in a folder's name are no obstacle."""
    folder = tmp_path / "100% mine"
    folder.mkdir()
    (folder / "x").write_bytes(b"0123456789")
    url = base_url(folder) + "x"
    with opened(url) as answer:
        assert (answer.status, answer.read(99)) == (200, b"0123456789")
    with opened(url, {"Range": "bytes=7-"}) as answer:
        assert (answer.status, answer.read(99), answer.headers["content-range"]) == (206, b"789", "bytes 7-9/10")
    with opened(url, {"Range": "bytes=10-"}) as answer:
        assert answer.status == 416
    for missing in (base_url(folder) + "y", base_url(folder), url + "/z"):
        with opened(missing) as answer:
            assert answer.status == 404


@pytest.mark.parametrize("url", ["http://host:port/", "http://ho st/x", "http://[::1/x", "http://host/a b"])
def test_address_that_is_no_url_is_said(url: str) -> None:
    """A malformed URL is the operator's to correct."""
    with pytest.raises(ConfigError) as caught, opened(url, timeout_s=1.0):
        pass
    assert caught.value.code == "repository-url"


def test_closed_port_is_unreachable() -> None:
    """Nobody listening is repository-unreachable at once."""
    with pytest.raises(UnreachableError) as caught, opened("http://127.0.0.1:9/x", timeout_s=1.0):
        pass
    assert caught.value.code == "repository-unreachable"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An https server with a certificate of its own, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hospital")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "cert.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/", pem
    server.shutdown()
    server.server_close()
    thread.join()


def test_unknown_certificate_is_unreachable(tls: tuple[str, Path]) -> None:
    """A server whose certificate the system does not know is not spoken to."""
    with pytest.raises(UnreachableError, match="SSLCertVerificationError"), opened(tls[0], timeout_s=5.0):
        pass


def test_certificate_of_the_hospital_is_taken(tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority that the operator adds to the system's store is believed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with opened(tls[0], timeout_s=5.0) as answer:
        assert (answer.status, answer.read(9)) == (200, b"ok")


def test_the_authority_that_is_named_is_the_only_one_believed(
    tls: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet's own authority is given as a file; the system's store is not asked then."""
    with opened(tls[0], timeout_s=5.0, ca=str(tls[1])) as answer:
        assert (answer.status, answer.read(9)) == (200, b"ok")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(UnreachableError), opened(tls[0], timeout_s=5.0, ca=str(other)):
        pass
    with pytest.raises(ConfigError) as caught, opened(tls[0], timeout_s=5.0, ca=str(tmp_path / "none.pem")):
        pass
    assert caught.value.code == "repository-ca"
