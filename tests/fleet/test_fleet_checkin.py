"""Check-ins: the newest wins, nothing is answered before it is durable, one bad apple spoils no batch."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fleet_support import NOW_S, SHA_B, DeviceKeys, FleetKit, certificate_fingerprint, family, progress, report
from sqlalchemy.exc import OperationalError

from edgeward.exchange.checkin import ANSWER_BYTES_MAX, Answer, Deed, Held, Order
from edgeward.exchange.typed import decode, encode
from edgeward.exchange.words import Rung, UpdateState
from edgeward.fleet import devices
from edgeward.fleet.checkin import ANEW_S, CheckIns, Heard, take
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Device, DeviceFamily
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeward.exchange.checkin import CheckIn

ORDER = Order(7, "ecg-beat", Deed.INSTALL, "2.0.0", SHA_B)


class Recording:
    """Rollouts that write down what they hear."""

    def __init__(self, watched: frozenset[str] = frozenset()) -> None:
        self.families = watched
        self.heard_of: list[tuple[str, int]] = []
        self.fails_at = -1

    def watched(self, session: Session) -> frozenset[str]:
        return self.families

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:
        if report.sequence == self.fails_at:
            raise ValueError("a fault of the rollouts")
        self.heard_of.append((device_id, report.sequence))
        return [ORDER]


def said(kit: FleetKit, shown: str, one: CheckIn) -> Answer | RefusedError:
    with kit.store.writing() as session:
        heard = [Heard(shown, one, encode(one).decode())]
        (answer,) = take(session, heard, kit.fleet.rollouts, now_s=kit.now_s, check_in_s=60)
    return answer


def row_of(kit: FleetKit, device: str) -> Device:
    with kit.store.reading() as session:
        return session.get_one(Device, device)


def test_the_greatest_boot_and_sequence_win(kit: FleetKit) -> None:
    _, credential = kit.enrolled()
    device, shown = str(credential.device), certificate_fingerprint(credential)
    for boot, sequence, free in ((1, 5, 500), (1, 4, 400), (1, 5, 999), (2, 1, 100), (1, 6, 600)):
        answer = said(kit, shown, report(sequence, boot, free_mib=free))
        assert isinstance(answer, Answer)
        assert answer.sequence == sequence
    row = row_of(kit, device)
    assert (row.boot, row.sequence, row.free_mib) == (2, 1, 100)
    assert json.loads(row.report)["free_mib"] == 100


def test_a_device_that_lost_its_count_is_heard_again_after_a_silence(kit: FleetKit) -> None:
    _, credential = kit.enrolled()
    device, shown = str(credential.device), certificate_fingerprint(credential)
    said(kit, shown, report(900, 7))
    kit.now_s += ANEW_S
    said(kit, shown, report(1, 1))
    assert (row_of(kit, device).boot, row_of(kit, device).sequence) == (1, 1)
    with kit.store.reading() as session:
        assert audit.verify(session).seq > 0


def test_families_rungs_and_skew_are_kept_for_filters(kit: FleetKit) -> None:
    _, credential = kit.enrolled()
    device, shown = str(credential.device), certificate_fingerprint(credential)
    kit.now_s = NOW_S + 30
    said(kit, shown, report(1, clock_s=NOW_S - 3_600))
    assert row_of(kit, device).skew_s == -3_630
    changed = family(current=Held("2.0.0", SHA_B), rung=Rung.THRESHOLD_ONLY, progress=progress(UpdateState.SOAKING))
    said(kit, shown, report(2, families=(changed,)))
    with kit.store.reading() as session:
        row = session.get_one(DeviceFamily, (device, "ecg-beat"))
        assert (row.version, row.rung, row.update_state, row.rollout) == ("2.0.0", "THRESHOLD_ONLY", "soaking", 7)
        found = devices.find(session, devices.Filter(rung="THRESHOLD_ONLY", family="ecg-beat"))
        assert [one.id for one in found.devices] == [device]
        assert not devices.find(session, devices.Filter(version="1.0.0")).devices
    said(kit, shown, report(3, families=()))
    with kit.store.reading() as session:
        assert session.get(DeviceFamily, (device, "ecg-beat")) is None


def test_rollouts_hear_of_watched_families_and_of_news_alone(kit: FleetKit) -> None:
    rollouts = Recording()
    kit.with_rollouts(rollouts)
    _, credential = kit.enrolled()
    device, shown = str(credential.device), certificate_fingerprint(credential)
    quiet = said(kit, shown, report(1))
    assert isinstance(quiet, Answer)
    assert (quiet.orders, rollouts.heard_of) == ((), [])
    moving = family(progress=progress(UpdateState.DOWNLOADING, percent=10))
    answer = said(kit, shown, report(2, families=(moving,)))
    assert isinstance(answer, Answer)
    assert answer.orders == (ORDER,)
    said(kit, shown, report(3, families=(moving,)))
    assert rollouts.heard_of == [(device, 2)], "the same progress again is no news"
    rollouts.families = frozenset({"ecg-beat"})
    said(kit, shown, report(4, families=(moving,)))
    said(kit, shown, report(4, families=(moving,)))
    assert rollouts.heard_of == [(device, 2), (device, 4)], "what is sent twice is heard once"


def test_many_at_once_share_transactions_and_each_gets_its_own_answer(kit: FleetKit) -> None:
    shown = [certificate_fingerprint(kit.enrolled()[1]) for _ in range(12)]

    async def all_at_once() -> list[Any]:
        bodies = [encode(report(number + 1)) for number in range(len(shown))]
        stranger = kit.fleet.check_ins.hear("f" * 64, encode(report(99)))
        calls = [kit.fleet.check_ins.hear(one, body) for one, body in zip(shown, bodies, strict=True)]
        return await asyncio.gather(*calls, stranger, return_exceptions=True)

    *answers, refused = asyncio.run(all_at_once())
    assert [decode(Answer, one, bytes_max=ANSWER_BYTES_MAX).sequence for one in answers] == list(range(1, 13))
    assert isinstance(refused, RefusedError)
    assert refused.code == "certificate-unknown"


def test_one_that_fails_in_its_transaction_fails_alone(kit: FleetKit) -> None:
    rollouts = Recording(frozenset({"ecg-beat"}))
    rollouts.fails_at = 2
    kit.with_rollouts(rollouts)
    enrolled = [kit.enrolled()[1] for _ in range(4)]

    async def all_at_once() -> list[Any]:
        calls = [
            kit.fleet.check_ins.hear(certificate_fingerprint(one), encode(report(number)))
            for number, one in enumerate(enrolled, 1)
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(all_at_once())
    assert [isinstance(one, bytes) for one in answers] == [True, False, True, True]
    assert [row_of(kit, str(one.device)).sequence for one in enrolled] == [1, 0, 3, 4]


def test_a_database_that_is_gone_is_asked_once_for_all_that_wait(
    kit: FleetKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def gone(_: object) -> None:
        asked.append(1)
        raise OperationalError("BEGIN", {}, Exception("no route to the database"))

    shown = [certificate_fingerprint(kit.enrolled()[1]) for _ in range(4)]
    monkeypatch.setattr(type(kit.store), "writing", gone)

    async def all_at_once() -> list[Any]:
        calls = [kit.fleet.check_ins.hear(one, encode(report())) for one in shown]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert {type(one) for one in asyncio.run(all_at_once())} == {OperationalError}
    assert len(asked) <= 2, "the first may have gone alone"


def test_old_and_new_certificate_in_one_transaction_keep_their_order(kit: FleetKit) -> None:
    _, first = kit.enrolled()
    newer = kit.enrolments.renew(certificate_fingerprint(first), DeviceKeys().renewal(), kit.now_s)
    batch = [(first, 1), (newer, 2), (first, 3)]
    with kit.store.writing() as session:
        heard = [Heard(certificate_fingerprint(one), report(number), "{}") for one, number in batch]
        answers = take(session, heard, kit.fleet.rollouts, now_s=kit.now_s, check_in_s=60)
    codes = [one.code if isinstance(one, RefusedError) else "answered" for one in answers]
    assert codes == ["answered", "answered", "certificate-superseded"]
    assert row_of(kit, str(first.device)).sequence == 2


def test_a_body_that_is_not_a_check_in_is_refused_before_it_waits(kit: FleetKit) -> None:
    for body in (b"", b"{}", b"[" * 50_000, encode(report()) + b"x"):
        with pytest.raises(InputError) as refused:
            asyncio.run(kit.fleet.check_ins.hear("f" * 64, body))
        assert refused.value.code == "message-unfit"


def test_lists_are_paged_and_filtered(kit: FleetKit) -> None:
    made = sorted(
        str(
            kit.enrolled(vouch=Vouch(f"bed {number}", "icu" if number % 2 else "ward", ("x",) * (number % 2)))[1].device
        )
        for number in range(7)
    )
    with kit.store.reading() as session:
        first = devices.find(session, devices.Filter(), count=4)
        assert (first.total, [one.id for one in first.devices]) == (7, made[:4])
        rest = devices.find(session, devices.Filter(), after=str(first.next), count=4)
        assert ([one.id for one in rest.devices], rest.next) == (made[4:], None)
        assert devices.find(session, devices.Filter(group="icu", tag="x")).total == 3
        assert devices.find(session, devices.Filter(text="BED 3")).total == 1
        assert devices.find(session, devices.Filter(text="%")).total == 0
        assert devices.find(session, devices.Filter(silent_since_s=kit.now_s)).total == 7
        counts = devices.counts(session, kit.now_s, 60)
    assert (counts["devices"], counts["waiting"]) == ({"active": 7}, {"silent": 7, "pending": 0})


class Auditing(Recording):
    """Rollouts whose every word is audited: the audit's lock and those of devices meet."""

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:
        audit.record(session, actor="server", action="test.heard", subject=device_id, now_s=now_s)
        return super().heard(session, device_id, report, now_s)


def test_workers_that_hear_the_same_devices_at_once_wait_in_one_order(kit: FleetKit) -> None:
    """Three workers, eight devices, each check-in told to one of them at random: all are answered, one chain."""
    shown = [certificate_fingerprint(kit.enrolled()[1]) for _ in range(8)]
    with kit.store.reading() as session:
        before = audit.head(session).seq
    rollouts = Auditing(frozenset({"ecg-beat"}))
    workers = [CheckIns(kit.store, rollouts, kit.clock, check_in_s=60) for _ in range(3)]
    answered: list[int] = []

    def work(number: int) -> None:
        rng = random.Random(number)

        async def all_at_once() -> None:
            calls = [
                workers[number].hear(device, encode(report(sequence, boot=number + 1)))
                for sequence in range(1, 6)
                for device in rng.sample(shown, len(shown))
            ]
            answers = await asyncio.gather(*calls)
            answered.extend(decode(Answer, one, bytes_max=ANSWER_BYTES_MAX).sequence for one in answers)

        asyncio.run(all_at_once())
        workers[number].close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 3 * 5 * 8
    with kit.store.reading() as session:
        assert audit.verify(session).seq == before + len(rollouts.heard_of)
        rows = devices.find(session, devices.Filter()).devices
    assert {(row.boot, row.sequence) for row in rows} == {(3, 5)}
