"""A real server on loopback: TLS 1.3, certificates shown and refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fleet_support import PASSWORD, DeviceKeys, FleetKit, Served, report

from edgeward.exchange.checkin import ANSWER_BYTES_MAX, PATH, Answer
from edgeward.exchange.enrol import ENROL_BYTES_MAX, ENROL_PATH, RENEW_PATH, Credential, Standing
from edgeward.exchange.typed import decode, encode
from edgeward.fleet.authority import DAY_S, Authority, read_request, write_new
from edgeward.fleet.blobs import FolderBlobs
from edgeward.fleet.parts import wall_s
from edgeward.fleet.serve import Certificate, listen, tls_context
from edgeward.fleet.settings import FleetSettings
from edgeward.fleet.setup import make_fleet, renew_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def edgeward(*arguments: str | Path) -> str:
    """Run the command; what it printed."""
    command = [sys.executable, "-m", "edgeward.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``edgeward fleet serve`` as a process, and its port; stopped by SIGTERM."""
    command = [
        sys.executable,
        "-m",
        "edgeward.cli.main",
        "fleet",
        "serve",
        "--folder",
        str(folder),
        "--port",
        "0",
        *more,
    ]
    with (
        (folder / "log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment()) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("fleet: http"), (folder / "log").read_text()
            yield process, int(line.rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()


def client(folder: Path, certificate: tuple[Path, Path] | None = None) -> httpx.Client:
    """A client that trusts the fleet's authority and shows ``certificate``."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return httpx.Client(verify=context, timeout=20)


def saved(folder: Path, name: str, certificate: str, keys: DeviceKeys) -> tuple[Path, Path]:
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_text(certificate)
    key.write_bytes(keys.key_pem)
    return chain, key


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A fleet of its own, served, with an operator's API token."""
    folder = tmp_path_factory.mktemp("fleet")
    edgeward("fleet", "init", "--folder", folder, "--name", "localhost", "--name", "127.0.0.1")
    (folder / "password").write_text(PASSWORD)
    edgeward(
        "fleet", "user", "add", "olga", "--role", "operator", "--password-file", folder / "password", "--folder", folder
    )
    token = edgeward("fleet", "user", "token", "olga", "--folder", folder)
    with serving(folder) as (_, port):
        (folder / "port").write_text(str(port))
        (folder / "token").write_text(token)
        yield folder, f"https://127.0.0.1:{port}"


def enrolled(folder: Path, url: str, name: str) -> tuple[DeviceKeys, Credential, tuple[Path, Path]]:
    """A device that an operator accepted over the REST interface."""
    keys = DeviceKeys()
    bearer = {"authorization": f"Bearer {(folder / 'token').read_text()}"}
    with client(folder) as plain:
        asked = plain.post(url + ENROL_PATH, content=encode(keys.application()))
        assert decode(Credential, asked.content, bytes_max=ENROL_BYTES_MAX).standing is Standing.PENDING
        accept = plain.post(f"{url}/api/v1/enrolments/{keys.fingerprint}/accept", json={"label": name}, headers=bearer)
        assert accept.status_code == 200, accept.text
        answer = plain.post(url + ENROL_PATH, content=encode(keys.application()))
    credential = decode(Credential, answer.content, bytes_max=ENROL_BYTES_MAX)
    return keys, credential, saved(folder, name, credential.certificate, keys)


def test_a_device_enrols_checks_in_and_renews_over_tls(made: tuple[Path, str]) -> None:
    folder, url = made
    _, credential, files = enrolled(folder, url, "one")
    with client(folder, files) as device:
        answer = device.post(url + PATH, content=encode(report(1)))
        assert answer.status_code == 200, answer.text
        assert decode(Answer, answer.content, bytes_max=ANSWER_BYTES_MAX).sequence == 1
        newer_keys = DeviceKeys()
        renewed = device.post(url + RENEW_PATH, content=encode(newer_keys.renewal()))
        newer = decode(Credential, renewed.content, bytes_max=ENROL_BYTES_MAX)
        assert newer.device == credential.device
    with client(folder, saved(folder, "newer", newer.certificate, newer_keys)) as device:
        assert device.post(url + PATH, content=encode(report(2))).status_code == 200
    with client(folder, files) as device:
        refused = device.post(url + PATH, content=encode(report(3)))
        assert (refused.status_code, refused.json()["code"]) == (403, "certificate-superseded")


def test_a_revoked_device_is_refused_on_the_connection_it_has(made: tuple[Path, str]) -> None:
    folder, url = made
    _, credential, files = enrolled(folder, url, "two")
    bearer = {"authorization": f"Bearer {(folder / 'token').read_text()}"}
    with client(folder, files) as device, client(folder) as operator:
        assert device.post(url + PATH, content=encode(report(1))).status_code == 200
        done = operator.post(f"{url}/api/v1/devices/{credential.device}/revoke", headers=bearer)
        assert done.status_code == 204
        refused = device.post(url + PATH, content=encode(report(2)))
        assert (refused.status_code, refused.json()["code"]) == (403, "certificate-revoked")


def test_an_expired_certificate_is_refused_by_the_handshake(made: tuple[Path, str]) -> None:
    folder, url = made
    keys = DeviceKeys()
    authority = Authority.load(folder / "ca.pem", folder / "ca-key.pem")
    old = authority.issue_device(read_request(keys.csr), "d-0000000000000001", wall_s() - 50 * DAY_S)
    with client(folder, saved(folder, "old", old.pem, keys)) as device, pytest.raises(httpx.TransportError):
        device.post(url + PATH, content=encode(report()))


def test_another_authority_s_certificate_is_refused_by_the_handshake(made: tuple[Path, str]) -> None:
    folder, url = made
    keys = DeviceKeys()
    foreign = Authority.make("elsewhere", wall_s()).issue_device(read_request(keys.csr), "d-0000000000000001", wall_s())
    with client(folder, saved(folder, "foreign", foreign.pem, keys)) as device, pytest.raises(httpx.TransportError):
        device.post(url + PATH, content=encode(report()))


def test_a_certificate_that_the_database_does_not_know_is_refused(made: tuple[Path, str]) -> None:
    """Signed by the right authority is not enough."""
    folder, url = made
    keys = DeviceKeys()
    authority = Authority.load(folder / "ca.pem", folder / "ca-key.pem")
    unknown = authority.issue_device(read_request(keys.csr), "d-0000000000000001", wall_s())
    with client(folder, saved(folder, "unknown", unknown.pem, keys)) as device:
        refused = device.post(url + PATH, content=encode(report()))
    assert (refused.status_code, refused.json()["code"]) == (403, "certificate-unknown")


def test_a_check_in_without_a_certificate_is_refused_whatever_its_headers_say(made: tuple[Path, str]) -> None:
    folder, url = made
    with client(folder) as plain:
        headers = {"x-client-certificate-sha256": "a" * 64}
        refused = plain.post(url + PATH, content=encode(report()), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "certificate-missing")


def test_a_session_s_cookie_is_for_this_host_and_tls_alone(made: tuple[Path, str]) -> None:
    folder, url = made
    with client(folder) as browser:
        signed = browser.post(f"{url}/api/v1/session", json={"name": "olga", "password": PASSWORD})
        cookie = signed.headers["set-cookie"]
        assert cookie.startswith("__Host-edgeward=")
        for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
            assert word in cookie
        assert browser.get(f"{url}/api/v1/me").json()["name"] == "olga"
        assert "max-age" in signed.headers["strict-transport-security"]


def test_tls_1_2_is_refused(made: tuple[Path, str]) -> None:
    folder, url = made
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1/check-in HT", b"POST /v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"]
)
def test_a_client_that_stalls_is_dropped(kit: FleetKit, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr("edgeward.fleet.serve.STALLED_S", 0.2)
    listener = listen(kit.settings)
    served = Served(kit, listener)
    try:
        with socket.create_connection(listener.getsockname(), timeout=20) as stalled:
            stalled.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert stalled.recv(1_000) == b""
        assert served.client.get("/healthz").status_code == 200
    finally:
        served.close()


def test_a_reader_that_takes_nothing_is_dropped_and_a_slow_one_is_served(
    kit: FleetKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeward.fleet.serve.STALLED_S", 0.5)
    name, size = f"{'a' * 64}.big.ewb", 64 << 20
    (tmp_path / "targets").mkdir()
    with (tmp_path / "targets" / name).open("wb") as file:
        file.truncate(size)
    kit.fleet = replace(kit.fleet, blobs=FolderBlobs(tmp_path))
    listener = listen(kit.settings)
    served = Served(kit, listener)
    ask = f"GET /repository/targets/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    try:
        got = 0
        with socket.create_connection(listener.getsockname(), timeout=20) as slow:
            slow.sendall(ask)
            while block := slow.recv(1 << 20):
                got += len(block)
                if got < 8 << 20:
                    time.sleep(0.2)
        assert got > size
        with socket.create_connection(listener.getsockname(), timeout=20) as stalled:
            stalled.sendall(ask)
            time.sleep(3)
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while block := stalled.recv(1 << 20):
                    got += len(block)
        assert got < size
    finally:
        served.close()


def shaken(there: ssl.SSLContext, here: ssl.SSLContext) -> tuple[bytes, bytes]:
    """A handshake in memory: the certificate that each side saw of the other, empty for none."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = there.wrap_bio(to_server, to_client, server_side=True)
    client_ = here.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (client_, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client_.getpeercert(binary_form=True) or b"", server.getpeercert(binary_form=True) or b""


def test_an_authority_below_the_hospital_s_own_root_vouches_for_devices(tmp_path: Path) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("root", "fleet")]
    now = datetime.fromtimestamp(wall_s(), UTC)
    below = (
        x509.CertificateBuilder(names[0], names[1], key.public_key(), 7, now - timedelta(1), now + timedelta(9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    authority = Authority(below, key)
    write_new(tmp_path / "own.pem", authority.pem.encode(), mode=0o644)
    write_new(tmp_path / "own.key", authority.key_pem, mode=0o600)
    settings = FleetSettings(
        tmp_path / "fleet",
        authority_certificate=str(tmp_path / "own.pem"),
        authority_key=str(tmp_path / "own.key"),
    )
    for _ in make_fleet(settings, wall_s()):
        pass
    keys = DeviceKeys()
    issued = authority.issue_device(read_request(keys.csr), "d-0000000000000001", wall_s())
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    here.load_verify_locations(tmp_path / "own.pem")
    here.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    here.load_cert_chain(*saved(tmp_path, "device", issued.pem, keys))
    _, seen = shaken(tls_context(settings), here)
    assert sha256(seen).hexdigest() == issued.fingerprint


def test_a_certificate_that_was_exchanged_is_shown_to_new_connections(tmp_path: Path) -> None:
    settings = FleetSettings(tmp_path)
    for _ in make_fleet(settings, wall_s() - 380 * DAY_S):
        pass
    watched = Certificate(settings)

    def shown() -> bytes:
        return shaken(watched.context, ssl.create_default_context(cafile=tmp_path / "ca.pem"))[0]

    before = shown()
    asyncio.run(watched.look())
    assert shown() == before
    assert renew_server(settings, Authority.load(*settings.authority_files), wall_s())
    asyncio.run(watched.look())
    assert shown() not in {before, b""}
    (tmp_path / "server.pem").write_text("damaged")
    asyncio.run(watched.look())
    assert shown() not in {before, b""}, "what cannot be used is not put in use"


def test_workers_whose_supervisor_is_killed_stop_too(tmp_path: Path) -> None:
    edgeward("fleet", "init", "--folder", tmp_path)
    command = [sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--folder", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        [*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with client(tmp_path) as plain:
            assert plain.get(f"https://localhost:{port}/healthz").status_code == 200
        process.kill()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.1)
    pytest.fail("the port is still held")


def test_several_workers_share_one_socket_and_stop_together(tmp_path: Path) -> None:
    edgeward("fleet", "init", "--folder", tmp_path)
    with serving(tmp_path, "--workers", "2") as (_, port), client(tmp_path) as plain:
        answers: list[Any] = [
            plain.get(f"https://localhost:{port}/readyz", headers={"connection": "close"}) for _ in range(8)
        ]
        assert {answer.status_code for answer in answers} == {200}
        assert b"edgeward_fleet_requests_total" in plain.get(f"https://localhost:{port}/metrics").content


def test_a_database_of_an_older_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    edgeward("fleet", "init", "--folder", tmp_path)
    (tmp_path / "fleet.db").unlink()
    command = [sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--folder", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 2
    assert "store-empty" in done.stderr
