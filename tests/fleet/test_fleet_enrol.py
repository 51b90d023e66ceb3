"""Who becomes a device, and what ends it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from fleet_support import DeviceKeys, FleetKit, certificate_fingerprint, report

from edgeward.exchange.checkin import Answer
from edgeward.exchange.enrol import Application, Renewal, Standing
from edgeward.exchange.typed import encode
from edgeward.fleet import devices
from edgeward.fleet.authority import DAY_S
from edgeward.fleet.checkin import Heard, take
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.ports import NoRollouts
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import AuditEntry, Device, DeviceTag
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from edgeward.exchange.enrol import Credential


def heard(kit: FleetKit, credential: Credential, sequence: int = 1, boot: int = 1) -> Answer | RefusedError:
    """A check-in with that certificate."""
    said = report(sequence, boot)
    with kit.store.writing() as session:
        shown = Heard(certificate_fingerprint(credential), said, encode(said).decode())
        (answer,) = take(session, [shown], NoRollouts(), now_s=kit.now_s, check_in_s=60)
        return answer


def code_of(answer: Answer | RefusedError) -> str:
    return answer.code if isinstance(answer, RefusedError) else "answered"


def test_a_device_waits_until_an_operator_accepts_its_fingerprint(kit: FleetKit) -> None:
    keys = DeviceKeys()
    asked = kit.enrolments.apply(keys.application(), kit.now_s)
    assert (asked.standing, asked.fingerprint, asked.certificate) == (Standing.PENDING, keys.fingerprint, "")
    device = kit.enrolments.accept(
        keys.fingerprint, Vouch("by the window", "icu", ("cuda",)), actor="user:o", now_s=kit.now_s
    )
    answer = kit.enrolments.apply(keys.application(), kit.now_s)
    assert (answer.standing, answer.device) == (Standing.ACCEPTED, device)
    assert code_of(heard(kit, answer)) == "answered"
    with kit.store.reading() as session:
        row = session.get_one(Device, device)
        assert (row.label, row.group, row.software, row.sequence) == ("by the window", "icu", "0.1.0", 1)
        assert session.get(DeviceTag, (device, "cuda")) is not None


def test_the_same_application_is_answered_with_the_same_certificate(kit: FleetKit) -> None:
    keys, first = kit.enrolled()
    assert kit.enrolments.apply(keys.application(), kit.now_s) == first


def test_a_replayed_application_changes_nothing_after_a_renewal(kit: FleetKit) -> None:
    """Whoever recorded the first application gets no certificate, and the device goes on with its own."""
    keys, first = kit.enrolled()
    newer = kit.enrolments.renew(certificate_fingerprint(first), DeviceKeys().renewal(), kit.now_s)
    assert code_of(heard(kit, newer)) == "answered"
    replayed = kit.enrolments.apply(keys.application(), kit.now_s)
    assert (replayed.standing, replayed.certificate) == (Standing.PENDING, "")
    assert code_of(heard(kit, newer, 2)) == "answered"


def test_a_rejected_device_is_told_so_and_may_be_accepted_later(kit: FleetKit) -> None:
    keys = DeviceKeys()
    kit.enrolments.apply(keys.application(), kit.now_s)
    kit.enrolments.reject(keys.fingerprint, actor="user:o", now_s=kit.now_s)
    assert kit.enrolments.apply(keys.application(), kit.now_s).standing is Standing.REJECTED
    kit.enrolments.accept(keys.fingerprint, Vouch(), actor="user:o", now_s=kit.now_s)
    assert kit.enrolments.apply(keys.application(), kit.now_s).standing is Standing.ACCEPTED


def test_of_two_operators_at_once_one_decides(kit: FleetKit) -> None:
    keys = DeviceKeys()
    kit.enrolments.apply(keys.application(), kit.now_s)
    results: list[str] = []
    together = threading.Barrier(2)

    def decide(name: str) -> None:
        together.wait()
        try:
            results.append(kit.enrolments.accept(keys.fingerprint, Vouch(), actor=f"user:{name}", now_s=kit.now_s))
        except RefusedError as error:
            results.append(error.code)

    threads = [threading.Thread(target=decide, args=(name,)) for name in ("anna", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result[:2] for result in results) == ["d-", "en"]
    assert "enrolment-decided" in results
    with kit.store.reading() as session:
        assert len(devices.find(session, devices.Filter()).devices) == 1
        audit.verify(session)


def test_a_token_takes_in_one_device_once(kit: FleetKit) -> None:
    token, _ = kit.enrolments.make_token(Vouch(group="icu", tags=("a",)), days=1, actor="user:o", now_s=kit.now_s)
    first = DeviceKeys()
    answer = kit.enrolments.apply(first.application(token), kit.now_s)
    assert answer.standing is Standing.ACCEPTED
    assert kit.enrolments.apply(first.application(token), kit.now_s) == answer, "the same question, the same answer"
    with pytest.raises(RefusedError, match="used") as refused:
        kit.enrolments.apply(DeviceKeys().application(token), kit.now_s)
    assert (refused.value.status, refused.value.code) == (403, "token-refused")
    with kit.store.reading() as session:
        assert session.get_one(Device, answer.device).group == "icu"


def test_of_two_devices_with_one_token_at_once_one_is_taken_in(kit: FleetKit) -> None:
    token, _ = kit.enrolments.make_token(Vouch(), days=1, actor="user:o", now_s=kit.now_s)
    results: list[str] = []
    together = threading.Barrier(2)

    def ask() -> None:
        keys = DeviceKeys()
        together.wait()
        try:
            results.append(kit.enrolments.apply(keys.application(token), kit.now_s).standing.value)
        except RefusedError as error:
            results.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["accepted", "token-refused"]


def test_an_old_or_ended_token_takes_in_nobody(kit: FleetKit) -> None:
    old, _ = kit.enrolments.make_token(Vouch(), days=1, actor="user:o", now_s=kit.now_s - DAY_S)
    ended, number = kit.enrolments.make_token(Vouch(), days=1, actor="user:o", now_s=kit.now_s)
    kit.enrolments.revoke_token(number, actor="user:o", now_s=kit.now_s)
    for token in (old, ended, "never-made"):
        with pytest.raises(RefusedError, match="token"):
            kit.enrolments.apply(DeviceKeys().application(token), kit.now_s)


def test_a_certificate_is_renewed_from_a_third_of_its_life_and_the_old_one_ends_when_the_new_is_shown(
    kit: FleetKit,
) -> None:
    _, first = kit.enrolled()
    early = heard(kit, first, 1)
    assert isinstance(early, Answer)
    assert not early.renew
    kit.now_s += 15 * DAY_S
    due = heard(kit, first, 2)
    assert isinstance(due, Answer)
    assert due.renew
    newer_keys = DeviceKeys()
    newer = kit.enrolments.renew(certificate_fingerprint(first), newer_keys.renewal(), kit.now_s)
    assert kit.enrolments.renew(certificate_fingerprint(first), newer_keys.renewal(), kit.now_s) == newer
    assert code_of(heard(kit, first, 3)) == "answered", "the device may have lost the answer"
    assert code_of(heard(kit, newer, 4)) == "answered"
    assert code_of(heard(kit, first, 5)) == "certificate-superseded"


def test_revocation_works_at_the_next_request(kit: FleetKit) -> None:
    keys, credential = kit.enrolled()
    assert code_of(heard(kit, credential, 1)) == "answered"
    with kit.store.writing() as session:
        devices.end(session, NoRollouts(), str(credential.device), "revoked", actor="user:o", now_s=kit.now_s)
    assert code_of(heard(kit, credential, 2)) == "certificate-revoked"
    assert kit.enrolments.apply(keys.application(), kit.now_s).standing is Standing.REJECTED
    with pytest.raises(RefusedError, match="revoked"):
        kit.enrolments.renew(certificate_fingerprint(credential), DeviceKeys().renewal(), kit.now_s)


def test_an_expired_certificate_is_refused_and_its_device_waits_to_be_accepted_again(kit: FleetKit) -> None:
    keys, credential = kit.enrolled()
    kit.now_s += 46 * DAY_S
    assert code_of(heard(kit, credential)) == "certificate-expired"
    assert kit.enrolments.apply(keys.application(), kit.now_s).standing is Standing.PENDING
    kit.enrolments.accept(keys.fingerprint, Vouch(), actor="user:o", now_s=kit.now_s)
    again = kit.enrolments.apply(keys.application(), kit.now_s)
    assert again.device == credential.device
    assert code_of(heard(kit, again)) == "answered"


def test_a_device_that_lost_its_key_comes_back_as_itself_and_its_old_certificate_ends(kit: FleetKit) -> None:
    _, credential = kit.enrolled(vouch=Vouch(label="bed 4"))
    assert code_of(heard(kit, credential, 9, boot=3)) == "answered"
    keys = DeviceKeys()
    kit.enrolments.apply(keys.application(), kit.now_s)
    kit.enrolments.accept(keys.fingerprint, Vouch(device_id=credential.device), actor="user:o", now_s=kit.now_s)
    again = kit.enrolments.apply(keys.application(), kit.now_s)
    assert again.device == credential.device
    assert code_of(heard(kit, credential, 10, boot=3)) == "certificate-superseded"
    assert code_of(heard(kit, again, 1, boot=1)) == "answered"
    with kit.store.reading() as session:
        row = session.get_one(Device, credential.device)
        assert (row.label, row.boot, row.sequence) == ("bed 4", 1, 1)


def test_a_stranger_s_certificate_is_unknown(kit: FleetKit) -> None:
    _, credential = kit.enrolled()
    with kit.store.writing() as session:
        said = report()
        (answer,) = take(session, [Heard("f" * 64, said, "{}")], NoRollouts(), now_s=kit.now_s, check_in_s=60)
    assert code_of(answer) == "certificate-unknown"
    assert code_of(heard(kit, credential)) == "answered"


def test_a_request_that_is_not_signed_by_its_own_p256_key_is_refused(kit: FleetKit) -> None:
    keys = DeviceKeys()
    broken = keys.csr.replace(keys.csr.splitlines()[2][:8], "AAAAAAAA")
    for csr in ("", "no request", broken):
        with pytest.raises(InputError) as refused:
            kit.enrolments.apply(Application(csr, keys.application().facts), kit.now_s)
        assert refused.value.code == "csr-unfit"
    _, credential = kit.enrolled()
    with pytest.raises(InputError):
        kit.enrolments.renew(certificate_fingerprint(credential), Renewal(broken), kit.now_s)


def test_an_application_that_arrives_several_times_at_once_is_one(kit: FleetKit) -> None:
    keys = DeviceKeys()
    answers: list[Standing] = []
    together = threading.Barrier(5)

    def ask() -> None:
        together.wait()
        answers.append(kit.enrolments.apply(keys.application(), kit.now_s).standing)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [Standing.PENDING] * 5
    with kit.store.reading() as session:
        assert [entry.action for entry in session.query(AuditEntry)] == ["enrolment.asked"]
