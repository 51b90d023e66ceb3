"""One family over the ECG streams of a ward: what is true of it is true of all its beds together."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.bedside.lives import Lives
from edgeward.bedside.slot import Slot
from edgeward.bedside.streams_live import StreamsLive
from edgeward.bedside.updating.live import Live, Serving

S = 1_000_000_000
FAMILY = "ecg-beat"
BEDS = ("A", "B", "C")


@dataclass
class FakeClock:
    now: int = 1000 * S

    def monotonic_ns(self) -> int:
        return self.now


def slot(key: str, version: str) -> Slot:
    return Slot(key, FAMILY, version, key * 64, 10, Path(f"/slots/{key}/bundle.ewb"))


OLDER, OLD, NEW = slot("0", "0.9.0"), slot("a", "1.0.0"), slot("b", "2.0.0")


class Ward:
    """Three streams that do as they are told, at once, unless a test keeps one from it."""

    def __init__(self, before: Slot | None = OLDER) -> None:
        self.clock = FakeClock()
        self.lives = Lives(self.clock)  # type: ignore[arg-type]
        self.lives.add_streams(FAMILY, BEDS, OLD, before)
        live = self.lives.of(FAMILY)
        assert isinstance(live, StreamsLive)
        self.live = live
        self.charge = dict.fromkeys(BEDS, OLD.sha256)
        self.turn = dict.fromkeys(BEDS, 0)
        self.shadow: dict[str, str] = dict.fromkeys(BEDS, "")
        self.counts: dict[str, dict[str, int]] = {bed: {"windows": 10, "disagreed": 1, "failed": 0} for bed in BEDS}
        self.audited: list[tuple[str, str]] = []

    def hear(self, bed: str, *, obeys: bool = True, safe: bool = True, **more: Any) -> None:
        """The stream of a bed takes what it is told and says how it is."""
        live = self.lives.stream(bed)
        told = live.due()
        if told is not None:
            self.turn[bed] = told.turn
            if obeys:
                self.charge[bed] = told.sha256
            self.shadow[bed] = told.shadow_sha256
        shadow = None
        if self.shadow[bed]:
            shadow = {"running": True, "code": "", "latency_us": 100, "memory_kib": 50, **self.counts[bed]}
        said = {"turn": self.turn[bed], "sha256": self.charge[bed], "scores": 5, "failures": 0, "served": True}
        said |= {"down": False, "safe": safe, "shadow": shadow, **more}
        self.audited += [(bed, swap["reason"]) for swap in live.heard(said)]

    def all(self, **more: Any) -> None:
        for bed in BEDS:
            self.hear(bed, **more)

    def restart(self, bed: str) -> None:
        """The stream's process is replaced: it starts with what it is told then."""
        live = self.lives.stream(bed)
        live.lost(failed=True)
        told = live.present()
        self.charge[bed], self.turn[bed], self.shadow[bed] = told.sha256, told.turn, ""


def test_windows_are_summed_and_the_shadow_runs_while_it_runs_in_any() -> None:
    """An empty bed brings no window and keeps nobody waiting."""
    ward = Ward()
    port: Live = ward.live
    port.begin_shadow(NEW)
    assert not port.shadow().running
    ward.counts["C"] = {"windows": 0, "disagreed": 0, "failed": 0}
    ward.all()
    shadow = port.shadow()
    assert (shadow.windows, shadow.disagreed, shadow.running) == (20, 2, True)
    assert (shadow.latency_us, shadow.memory_kib) == (100, 50)
    port.end_shadow()
    ward.all()
    assert ward.shadow == dict.fromkeys(BEDS, "")


def test_a_stream_that_was_replaced_is_given_the_candidate_again_and_its_loss_counts() -> None:
    """What it had compared before is not forgotten."""
    ward = Ward()
    ward.live.begin_shadow(NEW)
    ward.all()
    ward.restart("B")
    ward.live.shadow()
    ward.all()
    shadow = ward.live.shadow()
    assert ward.shadow["B"] == NEW.sha256
    assert (shadow.windows, shadow.failed) == (40, 1)
    ward.restart("B")
    ward.live.shadow()
    ward.all()
    assert ward.live.shadow().failed == 2


def test_a_stream_in_which_the_candidate_never_ran_says_nothing_against_it() -> None:
    """A monitor that cannot be read ends its stream again and again: that bed holds up nobody, and no bundle."""
    ward = Ward()
    for bed in ("A", "B"):
        ward.hear(bed)
    ward.live.begin_shadow(NEW)
    for _ in range(5):
        ward.lives.stream("C").lost(failed=True)
        ward.hear("A")
        ward.hear("B")
        shadow = ward.live.shadow()
        assert (shadow.failed, shadow.windows) == (0, 20)
    assert ward.live.safe()
    ward.live.activate(NEW)
    ward.hear("A")
    ward.hear("B")
    assert ward.live.serving() == Serving(NEW.sha256, 10, 0, down=False)
    assert ward.lives.stream("C").present().sha256 == NEW.sha256, "it starts with what is in charge by then"
    ward.live.go_back()
    assert ward.lives.stream("C").present().sha256 == OLD.sha256


def test_the_only_stream_s_restart_is_one_failure_and_not_the_end() -> None:
    """The candidate is on its way there again."""
    ward = Ward()
    for bed in ("B", "C"):
        ward.lives.stream(bed).lost(failed=True)
    ward.hear("A")
    ward.live.begin_shadow(NEW)
    ward.hear("A")
    ward.restart("A")
    shadow = ward.live.shadow()
    assert (shadow.running, shadow.windows, shadow.failed) == (True, 10, 1)
    ward.hear("A")
    assert ward.live.shadow().running
    ward.counts["A"] = {**ward.counts["A"], "failed": 0}
    ward.restart("A")
    ward.live.shadow()
    told = ward.lives.stream("A").due()
    assert told is not None
    assert told.shadow_sha256 == NEW.sha256
    data = {"turn": told.turn, "sha256": OLD.sha256, "scores": 0, "failures": 0, "served": True, "down": False}
    shadow_data = {"running": False, "code": "start-failed", "windows": 0, "disagreed": 0, "failed": 0}
    ward.lives.stream("A").heard({**data, "safe": True, "shadow": {**shadow_data, "latency_us": 0, "memory_kib": 0}})
    assert not ward.live.shadow().running, "it cannot run there any more"


def test_whoever_asks_how_it_serves_never_undoes_a_return() -> None:
    """The fleet's reports come from another thread than the updater's words."""
    ward = Ward()
    ward.all()
    over = threading.Event()
    troubles: list[Exception] = []

    def ask() -> None:
        while not over.is_set():
            try:
                ward.live.serving()
            except Exception as error:  # noqa: BLE001
                troubles.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(200):
        ward.live.activate(NEW)
        ward.live.go_back()
        assert [ward.lives.stream(bed).present().sha256 for bed in BEDS] == [OLD.sha256] * 3
    over.set()
    asking.join(10)
    assert not troubles


def test_it_is_safe_when_every_bed_is_and_serves_when_every_bed_does() -> None:
    """Each swaps in its own moment; until the last one has, the family has the bundle before."""
    ward = Ward()
    ward.all(safe=False)
    assert not ward.live.safe()
    for bed in BEDS:  # one after the other is enough: each swaps in a moment of its own
        ward.all(safe=False)
        ward.hear(bed)
        assert ward.live.safe() is (bed == BEDS[-1])
    ward.all(safe=False)
    ward.clock.now += 61 * S
    assert not ward.live.safe()
    ward.all()
    ward.live.activate(NEW)
    ward.hear("A")
    ward.hear("B")
    ward.hear("C", obeys=False, safe=False)
    assert ward.live.serving().sha256 == OLD.sha256
    turn = ward.lives.stream("C").settings().turn
    assert ward.live.serving().sha256 == OLD.sha256
    assert ward.lives.stream("C").settings().turn == turn, "asking again tells nothing anew"
    ward.charge["C"] = NEW.sha256
    ward.hear("C")
    assert ward.live.serving() == Serving(NEW.sha256, 15, 0, down=False)
    assert ward.live.charge == NEW
    assert ward.audited == [("A", "update"), ("B", "update"), ("C", "update")]


def test_a_stream_that_was_replaced_on_the_way_is_told_again_and_counts_as_a_failure() -> None:
    """It starts with the bundle before, and goes on to the one that was activated."""
    ward = Ward()
    ward.all()
    ward.live.activate(NEW)
    ward.hear("A")
    ward.hear("C")
    ward.restart("B")
    assert ward.charge["B"] == OLD.sha256
    ward.live.serving()
    ward.hear("B")
    ward.hear("B")
    serving = ward.live.serving()
    assert serving.sha256 == NEW.sha256
    assert serving.failures <= 1


def test_going_back_takes_back_only_those_that_took_over() -> None:
    """A bed that had not yet, or whose process forgot it, keeps the bundle it has: never the one before that."""
    ward = Ward()
    ward.all()
    ward.live.activate(NEW)
    ward.hear("A")
    ward.hear("B", obeys=False)
    ward.restart("C")
    ward.live.go_back()
    ward.all()
    assert ward.charge == dict.fromkeys(BEDS, OLD.sha256)
    assert ward.live.serving().sha256 == OLD.sha256
    assert ("A", "returned") in ward.audited


def test_one_bed_that_is_down_is_the_family_down() -> None:
    """In a soak that is the end of the candidate: the safe side."""
    ward = Ward()
    ward.all()
    ward.hear("B", down=True)
    assert ward.live.serving().down


def test_other_bundles_in_the_slots_are_told_to_every_stream_at_once() -> None:
    """After a refusal each takes what lies there now, without waiting for a moment."""
    ward = Ward()
    ward.all()
    ward.live.placed(OLDER, None)
    for bed in BEDS:
        told = ward.lives.stream(bed).due()
        assert told is not None
        assert (told.sha256, told.at_once) == (OLDER.sha256, True)
    assert ward.live.charge == OLDER
