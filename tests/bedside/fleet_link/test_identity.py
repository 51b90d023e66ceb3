"""A device's key and certificate: together or not at all, whatever moment the power goes."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward.bedside.fleet_link.identity import Identity
from edgeward.exchange.enrol import grouped
from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.testing.files import After, MemoryFiles, PowerCut
from edgeward.testing.fleet.authority import BEGINS, Issuer

FOLDER = Path("/identity")
ISSUER = Issuer()


def _enrolled(files: MemoryFiles) -> Identity:
    identity = Identity(FOLDER, files)
    with identity:
        identity.accept(ISSUER.certificate(identity.request()))
    return identity


def test_the_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Key and certificate lie in files of mode 0600, and TLS takes them as they are."""
    with Identity(tmp_path / "me") as identity:
        csr = identity.request()
        assert (tmp_path / "me" / "next.pem").stat().st_mode & 0o777 == 0o600
        identity.accept(ISSUER.certificate(csr))
    assert identity.pem.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(identity.pem)
    found = identity.look()
    assert found is not None
    assert found.device == "d-0123456789abcdef"


def test_a_request_is_for_p256_and_names_nobody() -> None:
    with Identity(FOLDER, MemoryFiles()) as identity:
        csr = x509.load_pem_x509_csr(identity.request().encode())
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert (key.curve.name, len(csr.subject), csr.is_signature_valid) == ("secp256r1", 0, True)


def test_the_same_question_is_asked_until_it_is_answered() -> None:
    """A lost answer, or a restart, asks again for the same key; a new application is another one."""
    files = MemoryFiles()
    with Identity(FOLDER, files) as identity:
        first, mark = identity.request(), identity.asked_for()
    files.reboot()
    with Identity(FOLDER, files) as identity:
        assert identity.request() == first
        assert identity.request(anew=True) != first
        assert identity.asked_for() != mark


def test_a_certificate_for_another_key_is_not_taken() -> None:
    files = MemoryFiles()
    identity = _enrolled(files)
    before = identity.look()
    with identity:
        identity.request()
        other = Identity(Path("/other"), files)
        for wrong in (
            ISSUER.certificate(other.request()),
            "no certificate",
            ISSUER.certificate(identity.request(), "x"),
        ):
            with pytest.raises(TrustError) as caught:
                identity.accept(wrong)
            assert caught.value.code == "certificate-refused"
    assert identity.look() == before


@pytest.mark.parametrize("after", list(After))
def test_a_power_cut_at_any_step_of_a_renewal_leaves_a_whole_pair(after: After) -> None:
    """Old pair or new pair, each time one that TLS could use, and the renewal can be finished."""
    base = MemoryFiles(after=after)
    old = _enrolled(base).look()
    assert old is not None
    steps_before, step, ends = base.steps, 0, set()
    while True:
        step += 1
        files = base.copy()
        files.cut_at = steps_before + step
        identity = Identity(FOLDER, files)
        try:
            with identity:
                identity.accept(ISSUER.certificate(identity.request()))
        except PowerCut:
            files.reboot()
        else:
            break
        with Identity(FOLDER, files) as again:
            found = again.look()
            assert found is not None
            ends.add(found.fingerprint == old.fingerprint)
            assert again.asked_for() != found.fingerprint
            made = again.accept(ISSUER.certificate(again.request()))
            assert again.look() == made
            assert made.fingerprint != old.fingerprint
    assert step > 8
    assert ends == {True, False}


def test_renewal_is_due_after_a_third_of_the_life() -> None:
    """By the device's own clock; expiry is told, and nothing else comes of it here."""
    found = _enrolled(MemoryFiles()).look()
    assert found is not None
    assert not found.renewal_due(BEGINS + timedelta(days=14, hours=23))
    assert found.renewal_due(BEGINS + timedelta(days=15))
    assert not found.expired(BEGINS + timedelta(days=44))
    assert found.expired(datetime(2036, 1, 1, tzinfo=UTC))


def test_a_damaged_pair_is_said_and_another_is_applied_for() -> None:
    files = MemoryFiles()
    identity = _enrolled(files)
    files.put(identity.pem, files.read(identity.pem)[:200])
    with pytest.raises(TrustError) as caught:
        identity.look()
    assert caught.value.code == "identity-damaged"
    with identity:
        identity.accept(ISSUER.certificate(identity.request()))
    assert identity.look() is not None


def test_a_key_without_its_certificate_is_damage() -> None:
    files = MemoryFiles()
    identity = _enrolled(files)
    other = Identity(Path("/other"), files)
    with other:
        other.accept(ISSUER.certificate(other.request()))
    mixed = files.read(identity.pem).partition(b"-----BEGIN CERTIFICATE")[0]
    mixed += b"-----BEGIN CERTIFICATE" + files.read(other.pem).partition(b"-----BEGIN CERTIFICATE")[2]
    files.put(identity.pem, mixed)
    with pytest.raises(TrustError):
        identity.look()


def test_two_at_a_time_do_not_exchange_keys(tmp_path: Path) -> None:
    with Identity(tmp_path), pytest.raises(ConfigError) as caught, Identity(tmp_path):
        pass
    assert caught.value.code == "identity-in-use"
    with Identity(tmp_path):
        pass


def test_a_full_disk_keeps_the_pair_in_use() -> None:
    files = MemoryFiles()
    identity = _enrolled(files)
    before = identity.look()
    with identity:
        csr = identity.request()
        files.full_from = files.steps
        with pytest.raises(ConfigError) as caught:
            identity.accept(ISSUER.certificate(csr))
    assert caught.value.code == "disk-full"
    assert identity.look() == before


def test_a_fingerprint_is_shown_in_groups() -> None:
    assert grouped("0123456789ab" * 2) == "0123 4567 89ab 0123 4567 89ab"
