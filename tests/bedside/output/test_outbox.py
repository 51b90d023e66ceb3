"""What waits for other systems: kept through power cuts, full disks and restarts; bounded; never sent too late."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.bedside.output import outbox as outbox_module
from edgeward.bedside.output.courier import Courier, Later, Outcome, Refused, Sent
from edgeward.bedside.output.outbox import HELD_MAX, Item, Outbox
from edgeward.bedside.output.outbox_store import Row, Store
from edgeward.bedside.system import SystemClock
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"SECRET-PATIENT-NAME"


def _item(number: int, *, lives_s: float | None = None, to: str = "ehr", payload: bytes = b"") -> Item:
    lives = None if lives_s is None else round(lives_s * NS_PER_S)
    return Item(to, f"id-{number}", "score", payload or f"payload {number}".encode(), lives)


@contextlib.contextmanager
def _open(path: Path, clock: ManualClock | None = None, **options: int | str) -> Iterator[Outbox]:
    outbox = Outbox(path / "out.db", clock or ManualClock(), **options)  # type: ignore[arg-type]
    try:
        yield outbox
    finally:
        outbox.close()


def _drain(outbox: Outbox, to: str = "ehr") -> list[str]:
    found = []
    while (item := outbox.take(to, 0.0)) is not None:
        found.append(item.id)
        outbox.done((item.destination, item.id))
    return found


def _until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.005)


def test_items_come_out_in_order_and_once(tmp_path: Path) -> None:
    """Per destination; the same id twice is one item; what is done does not come back."""
    with _open(tmp_path) as outbox:
        for number in (1, 2, 2, 3):
            outbox.put(_item(number))
        outbox.put(_item(9, to="lab"))
        assert outbox.flush()
        first = outbox.take("ehr", 0.0)
        assert first is not None
        assert (first.id, first.kind, first.payload) == ("id-1", "score", b"payload 1")
        assert _drain(outbox) == ["id-1", "id-2", "id-3"]
        assert _drain(outbox, "lab") == ["id-9"]
        assert outbox.state().waiting == 0


def test_items_survive_a_restart(tmp_path: Path) -> None:
    """In their order, to the last byte."""
    payload = bytes(range(256)) * 100
    with _open(tmp_path) as outbox:
        outbox.put(_item(1, payload=payload))
        outbox.put(_item(2))
    with _open(tmp_path, boot="another") as outbox:
        item = outbox.take("ehr", 0.0)
        assert item is not None
        assert item.payload == payload
        assert _drain(outbox) == ["id-1", "id-2"]


def test_items_survive_a_kill(tmp_path: Path) -> None:
    """Whatever was reported as saved is there after SIGKILL in the middle of writing."""
    script = (
        "import sys; from pathlib import Path\n"
        "from edgeward.bedside.output.outbox import Item, Outbox\n"
        "from edgeward.bedside.system import SystemClock\n"
        "outbox = Outbox(Path(sys.argv[1]), SystemClock())\n"
        "for number in range(10**9):\n"
        "    outbox.put(Item('ehr', str(number), 'score', b'x' * 500))\n"
        "    if outbox.flush(): print(number, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(outbox_module.__file__).parents[3])}
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out.db")], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    saved = -1
    with writer, writer.stdout:
        for line in writer.stdout:
            saved = int(line)
            if saved >= 20:
                writer.send_signal(signal.SIGKILL)
                break
        saved = max([saved, *map(int, writer.stdout.read().split())])
    with _open(tmp_path) as outbox:
        found = _drain(outbox)
    assert [int(number) for number in found[: saved + 1]] == list(range(saved + 1))


def test_every_commit_reaches_the_disk_before_it_counts(tmp_path: Path) -> None:
    """WAL with a full sync at each commit, and removed data overwritten."""
    store = Store(tmp_path / "out.db")
    pragmas = ("journal_mode", "synchronous", "secure_delete")
    assert [store._database.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas] == ["wal", 2, 1]
    store.close()


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1))
def test_a_log_cut_short_anywhere_is_a_prefix(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    """Power cut while the log was being written: what is there is what was committed first, whole and in order."""
    folder = tmp_path_factory.mktemp("cut")
    store = Store(folder / "out.db")
    for number in range(12):
        store.add([Row("ehr", str(number), "score", bytes([number]) * 700, 0, "b")])
    cut = folder / "cut"
    cut.mkdir()
    for name in ("out.db", "out.db-wal"):
        shutil.copy(folder / name, cut / name)
    store.close()
    log = (cut / "out.db-wal").read_bytes()
    (cut / "out.db-wal").write_bytes(log[: round(share * len(log))])
    found = Store(cut / "out.db")
    assert not found.set_aside
    kept = list(found._database.execute("SELECT id, payload FROM item ORDER BY number"))
    assert kept == [(str(number), bytes([number]) * 700) for number in range(len(kept))]
    assert len(kept) == 12 or share < 1
    found.close()


def test_notes_survive_a_restart(tmp_path: Path) -> None:
    """The latest under each key; what was forgotten is gone."""
    with _open(tmp_path) as outbox:
        assert outbox.notes == {}
        for key, payload in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("c", b"4"), ("c", None)):
            outbox.note(key, payload)
            if key == "b":
                assert outbox.flush()
    with _open(tmp_path) as outbox:
        assert outbox.notes == {"a": b"2", "b": b"3"}
        assert outbox.state().waiting == 0


# --- what is worth sending


def test_what_expires_is_not_sent_after_its_time(tmp_path: Path) -> None:
    """A score goes, an advisory stays and is sent late."""
    clock = ManualClock()
    with _open(tmp_path, clock) as outbox:
        outbox.put(_item(1, lives_s=30))
        outbox.put(_item(2))
        outbox.put(_item(3, lives_s=90))
        outbox.flush()
        clock.advance(31)
        assert _drain(outbox) == ["id-2", "id-3"]
        assert outbox.state().expired == 1


@pytest.mark.parametrize(("passed_s", "alive"), [(10, True), (31, False), (-10, False)])
def test_after_a_restart_the_wall_clock_decides(tmp_path: Path, passed_s: float, alive: bool) -> None:
    """And where it stands before the item was made, nobody knows: it is not sent."""
    with _open(tmp_path, ManualClock(1_000 * NS_PER_S), boot="one") as outbox:
        outbox.put(_item(1, lives_s=30))
        outbox.flush()
    later = ManualClock(round((1_000 + passed_s) * NS_PER_S))
    with _open(tmp_path, later, boot="two") as outbox:
        assert (outbox.take("ehr", 0.0) is not None) == alive


def test_the_least_worth_goes_first(tmp_path: Path) -> None:
    """Beyond the ceilings: what expires, oldest first; then the oldest. All of it is counted."""
    with _open(tmp_path, count_max=3) as outbox:
        for number, lives_s in ((1, None), (2, 60), (3, 60), (4, None), (5, None), (6, None)):
            outbox.put(_item(number, lives_s=lives_s))
            outbox.flush()
        assert _drain(outbox) == ["id-4", "id-5", "id-6"]
        assert outbox.state().dropped == 3
    with _open(tmp_path, bytes_max=1000) as outbox:
        for number in range(5):
            outbox.put(_item(10 + number, payload=b"x" * 400))
        outbox.flush()
        assert _drain(outbox) == ["id-13", "id-14"]
        outbox.put(_item(20, payload=b"x" * (outbox_module.PAYLOAD_BYTES_MAX + 1)))
        assert outbox.state().dropped == 4


# --- a disk that refuses


def _refuse(outbox: Outbox, pages: int) -> None:
    with outbox._file:
        outbox._store._database.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_costs_neither_time_nor_messages(tmp_path: Path) -> None:
    """It is told; what is put meanwhile is sent from memory, and saved once there is room."""
    with _open(tmp_path) as outbox:
        outbox.put(_item(1))
        outbox.flush()
        _refuse(outbox, 1)
        for number in range(2, 12):
            outbox.put(_item(number, payload=b"x" * 4000))
        _until(lambda: outbox.state().fault == "disk-full")
        state = outbox.state()
        assert (state.waiting, state.unsaved, state.dropped) == (11, 10, 0)
        assert _drain(outbox) == [f"id-{number}" for number in range(1, 12)]
        outbox.put(_item(12, payload=b"x" * 4000))
        _until(lambda: outbox.state().unsaved == 1)
        _refuse(outbox, 100_000)
        assert outbox.flush(10)
        assert outbox.state().fault == ""
        assert _drain(outbox) == ["id-12"]


def test_put_never_waits_for_the_disk(tmp_path: Path) -> None:
    """A disk that hangs holds up nobody but itself; memory is bounded."""
    with _open(tmp_path) as outbox:
        hang = threading.Event()
        add = outbox._store.add

        def stuck(rows: object) -> None:
            hang.wait(20)
            add(rows)  # type: ignore[arg-type]

        outbox._store.add = stuck  # type: ignore[method-assign,assignment]
        for number in range(HELD_MAX + 50):
            outbox.put(_item(number, lives_s=None if number else 60))
        assert not hang.is_set()
        assert outbox.state().dropped == 50
        outbox._store.add = add  # type: ignore[method-assign]
        hang.set()


def test_what_was_sent_while_it_was_being_saved_is_not_sent_again(tmp_path: Path) -> None:
    """Done in the middle of its own saving."""
    with _open(tmp_path) as outbox:
        add = outbox._store.add

        def slow(rows: object) -> None:
            outbox._gone.add(("ehr", "id-1"))  # what `done` does from another thread at this moment
            add(rows)  # type: ignore[arg-type]

        outbox._store.add = slow  # type: ignore[method-assign,assignment]
        outbox.put(_item(1))
        outbox.flush()
        assert _drain(outbox) == []
        outbox._store.add = add  # type: ignore[method-assign]
        outbox.put(_item(1))
        outbox.flush()
        assert _drain(outbox) == ["id-1"]


# --- the file


def test_only_the_device_reads_it(tmp_path: Path) -> None:
    """0600, log and index included, whatever the umask."""
    before = os.umask(0)
    try:
        with _open(tmp_path) as outbox:
            outbox.put(_item(1))
            outbox.flush()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"out.db", "out.db-wal", "out.db-shm", "out.db.lock"}
    assert set(modes.values()) == {0o600}


def test_what_was_sent_is_overwritten(tmp_path: Path) -> None:
    """No file holds a patient's data once nothing waits; while it waits it is there."""
    with _open(tmp_path) as outbox:
        for number in range(30):
            outbox.put(_item(number, payload=SECRET * 50))
        outbox.flush()
        assert any(SECRET in path.read_bytes() for path in tmp_path.iterdir())
        _drain(outbox)
        assert not any(SECRET in path.read_bytes() for path in tmp_path.iterdir())
        assert SECRET.decode() not in repr(_item(1, payload=SECRET))


def test_a_second_device_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """Two couriers would send everything twice."""
    with _open(tmp_path):
        with pytest.raises(ConfigError) as refused:
            Outbox(tmp_path / "out.db", ManualClock())
        assert refused.value.code == "outbox-in-use"
    with _open(tmp_path):
        pass


@pytest.mark.parametrize("damage", ["foreign", "torn", "newer"])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, damage: str) -> None:
    """The device starts, says so, and keeps the file for whoever looks into it."""
    path = tmp_path / "out.db"
    with _open(tmp_path) as outbox:
        for number in range(200):
            outbox.put(_item(number))
    if damage == "foreign":
        path.write_bytes(b"this is no database" * 100)
    elif damage == "torn":
        data = bytearray(path.read_bytes())
        data[2000:12_000] = os.urandom(10_000)
        path.write_bytes(data)
    else:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
    with _open(tmp_path) as outbox:
        assert outbox.state().fault == "set-aside"
        outbox.put(_item(1))
        outbox.flush()
        assert _drain(outbox) == ["id-1"]
    assert (tmp_path / "out.db.unreadable").exists()


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    """With a word of what refused."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError):
        Outbox(tmp_path / "file" / "out.db", ManualClock())


# --- couriers


class _Script:
    """A sender that answers as it is told, then with Sent."""

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes = list(outcomes)
        self.tried: list[str] = []
        self.closed = 0

    def send(self, item: Item) -> Outcome:
        self.tried.append(item.id)
        outcome = self.outcomes.pop(0) if self.outcomes else Sent()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed += 1


@contextlib.contextmanager
def _courier(outbox: Outbox, sender: _Script, **options: float) -> Iterator[Courier]:
    courier = Courier(outbox, "ehr", sender, jitter=lambda: 0.0, wait_s_min=0.01, **options)
    try:
        yield courier
    finally:
        courier.close()
        assert sender.closed


def test_a_courier_takes_everything_in_order(tmp_path: Path) -> None:
    """Through failures of all kinds; what is refused does not hold up the rest."""
    sender = _Script(Later("unreachable"), Later("busy", after_s=0.01), Sent(), Refused("http-422"), ValueError("x"))
    outbox = Outbox(tmp_path / "out.db", SystemClock())
    with _courier(outbox, sender) as courier:
        for number in (1, 2, 3):
            outbox.put(_item(number))
        _until(lambda: courier.state.sent + courier.state.refused == 3)
        state = courier.state
        assert outbox.state().waiting == 0
    outbox.close()
    assert sender.tried == ["id-1", "id-1", "id-1", "id-2", "id-3", "id-3"]
    assert (state.sent, state.refused, state.failures, state.code) == (2, 1, 3, "")


def test_an_item_that_makes_the_receiver_fail_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many attempts; a receiver that is merely away is waited for without end."""
    monkeypatch.setattr("edgeward.bedside.output.courier.ITEM_ATTEMPTS_MAX", 3)
    sender = _Script(*[Later("unreachable")] * 5, *[Later("http-500", at_item=True)] * 3)
    outbox = Outbox(tmp_path / "out.db", SystemClock())
    outbox.put(_item(1))
    outbox.put(_item(2))
    with _courier(outbox, sender) as courier:
        _until(lambda: courier.state.sent + courier.state.refused == 2)
        assert (courier.state.sent, courier.state.refused) == (1, 1)
    outbox.close()
    assert sender.tried == ["id-1"] * 8 + ["id-2"]


def test_pauses_grow_to_a_ceiling_and_heed_the_receiver(tmp_path: Path) -> None:
    """Doubling, halved at most by chance, at least what was asked for, and never beyond an hour."""
    with _open(tmp_path) as outbox:
        courier = Courier(outbox, "ehr", _Script(), jitter=lambda: 1.0)
        assert [courier._pause_s(failures, 0.0) for failures in (1, 2, 3, 9, 99)] == [1.0, 2.0, 4.0, 256.0, 300.0]
        courier._jitter = lambda: 0.0
        assert courier._pause_s(1, 0.0) == 0.5
        assert courier._pause_s(1, 120.0) == 120.0
        assert courier._pause_s(1, 1e9) == 3600.0
        courier.close()


def test_a_courier_that_is_closed_while_it_waits_leaves_the_item(tmp_path: Path) -> None:
    """For the next start."""
    sender = _Script(*[Later("unreachable", after_s=3000)] * 2)
    with _open(tmp_path) as outbox:
        outbox.put(_item(1))
        with _courier(outbox, sender):
            _until(lambda: len(sender.tried) == 1)
    with _open(tmp_path) as outbox:
        assert _drain(outbox) == ["id-1"]
