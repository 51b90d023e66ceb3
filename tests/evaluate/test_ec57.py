"""EC57 by hand: every rule on a sequence small enough to count on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.evaluate.ec57 import Confusion, Figures, compare, is_paced
from edgeward.wire.wfdb import Annotations, read_annotations

if TYPE_CHECKING:
    from pathlib import Path

RATE = 1000.0  # one sample is one millisecond: the window is 150 samples


def _at(*beats: tuple[int, str]) -> Annotations:
    return Annotations.of([at for at, _ in beats], [symbol for _, symbol in beats])


def _pairs(confusion: Confusion) -> dict[str, int]:
    """``Nn`` 3: three normal beats detected as normal; ``O`` rows are extra, ``o`` columns are missed."""
    rows, columns = np.nonzero(confusion.counts)
    return {"NSVFQO"[r] + "nsvfqo"[c]: int(confusion.counts[r, c]) for r, c in zip(rows, columns, strict=True)}


def _compare(reference: Annotations, test: Annotations, *, start_s: float = 0.0) -> dict[str, int]:
    return _pairs(compare(reference, test, RATE, start_s=start_s))


def test_every_pair_is_counted_under_its_classes() -> None:
    """Symbols fall in their AAMI classes; what marks no beat is passed over."""
    reference = _at(
        (1000, "N"), (1500, "+"), (2000, "L"), (3000, "A"), (4000, "V"), (5000, "F"), (6000, "/"), (7000, "e")
    )
    test = _at((1010, "N"), (2010, "V"), (2990, "S"), (4020, "V"), (4500, "~"), (5000, "N"), (6000, "Q"), (7000, "S"))
    assert _compare(reference, test) == {"Nn": 1, "Nv": 1, "Ss": 1, "Vv": 1, "Fn": 1, "Qq": 1, "Ns": 1}


@pytest.mark.parametrize("off", [150, -150])
def test_a_pair_matches_at_exactly_150_ms(off: int) -> None:
    """The window is inclusive on both sides; one sample more is a miss and an extra detection."""
    assert _compare(_at((1000, "N")), _at((1000 + off, "N"))) == {"Nn": 1}
    further = 1000 + off + (1 if off > 0 else -1)
    assert _compare(_at((1000, "N")), _at((further, "N"))) == {"No": 1, "On": 1}


@pytest.mark.parametrize(("rate_hz", "samples"), [(360.0, 54), (250.0, 38), (500.0, 75), (128.0, 19)])
def test_the_window_in_samples_is_bxbs(rate_hz: float, samples: int) -> None:
    """150 ms is rounded to samples half up, as strtim does."""
    at = int(10 * rate_hz)
    inside = compare(_at((at, "N")), _at((at + samples, "N")), rate_hz, start_s=0)
    outside = compare(_at((at, "N")), _at((at + samples + 1, "N")), rate_hz, start_s=0)
    assert (_pairs(inside), _pairs(outside)) == ({"Nn": 1}, {"No": 1, "On": 1})


def test_one_to_one() -> None:
    """Two detections of one beat: the nearer is paired, the other is extra; and the other way round."""
    assert _compare(_at((1000, "V")), _at((900, "N"), (1010, "V"))) == {"Vv": 1, "On": 1}
    assert _compare(_at((1000, "V")), _at((990, "V"), (1100, "N"))) == {"Vv": 1, "On": 1}
    assert _compare(_at((900, "N"), (1010, "V")), _at((1000, "V"))) == {"Vv": 1, "No": 1}


def test_a_tie_goes_to_the_later_one() -> None:
    """Of two detections equally far from a beat bxb takes the later, and of two beats the later."""
    assert _compare(_at((1000, "N")), _at((900, "V"), (1100, "N"))) == {"Nn": 1, "Ov": 1}
    assert _compare(_at((900, "V"), (1100, "N")), _at((1000, "N"))) == {"Nn": 1, "Vo": 1}


def test_scoring_starts_at_five_minutes() -> None:
    """Beats before 5:00 do not count; the beat at 5:00 does."""
    reference = _at((299_000, "V"), (300_000, "N"), (301_000, "N"))
    assert _pairs(compare(reference, reference, RATE)) == {"Nn": 2}


def test_a_detection_just_before_the_start_may_match_the_first_beat() -> None:
    """The first beat after the start is not missed because its detection fell before it."""
    assert _compare(_at((5010, "N"), (6000, "N")), _at((4990, "N"), (6000, "N")), start_s=5.0) == {"Nn": 2}


def test_a_detection_just_after_the_start_of_a_beat_before_it_is_not_extra() -> None:
    """Within one window after the start, a detection whose successor fits the first beat better is passed over."""
    reference, test = _at((4990, "N"), (5800, "N")), _at((5010, "N"), (5805, "N"))
    assert _compare(reference, test, start_s=5.0) == {"Nn": 1}
    late = _at((5151, "N"), (5805, "N"))
    assert _compare(reference, late, start_s=5.0) == {"Nn": 1, "On": 1}


def test_flutter_and_fibrillation_are_left_out() -> None:
    """Between [ and ] beats are no misses and detections no extras; outside they are."""
    reference = _at((1000, "N"), (2000, "["), (2500, "!"), (2600, "N"), (3000, "]"), (4000, "N"))
    test = _at((1000, "N"), (2000, "V"), (2400, "V"), (3000, "V"), (3001, "V"), (4000, "N"))
    assert _compare(reference, test) == {"Nn": 2, "Ov": 1}


def test_an_unfinished_fibrillation_lasts_to_the_end() -> None:
    """Without ] nothing after [ counts."""
    assert _compare(_at((1000, "N"), (2000, "[")), _at((1000, "N"), (9000, "V"))) == {"Nn": 1}


def test_a_detection_in_fibrillation_may_still_match_the_beat_beside_it() -> None:
    """As in bxb, matching comes before exclusion."""
    assert _compare(_at((1000, "N"), (1020, "["), (3000, "]")), _at((1050, "N"))) == {"Nn": 1}


def test_nothing_detected_and_nothing_there() -> None:
    """Empty files are compared, not refused."""
    none = Annotations.of([], "")
    assert _compare(_at((1000, "N")), none) == {"No": 1}
    assert _compare(none, _at((1000, "S"))) == {"Os": 1}
    assert _compare(none, none) == {}


def test_what_lies_after_the_end_does_not_count() -> None:
    """``stop_s`` is the record's end, inclusive."""
    both = _at((1000, "N"), (2000, "N"), (2001, "N"))
    assert _pairs(compare(both, both, RATE, start_s=0, stop_s=2.0)) == {"Nn": 2}


def test_files_out_of_order_are_sorted() -> None:
    """An annotation file may go back in time."""
    assert _compare(_at((2000, "V"), (1000, "N")), _at((1000, "N"), (2000, "V"))) == {"Nn": 1, "Vv": 1}


# One of each, so that every cell's place in every figure can be told apart: row r, column c holds 2^(6 r + c).
_CELLS = Confusion(np.array([[1 << (6 * r + c) for c in range(6)] for r in range(6)], dtype=np.int64))


def _cells(*names: str) -> int:
    return sum(1 << (6 * "NSVFQO".index(n[0]) + "nsvfqo".index(n[1])) for n in names)


def _every(rows: str, columns: str) -> int:
    return _cells(*(r + c for r in rows for c in columns))


def test_qrs_figures_by_cell() -> None:
    """Any beat detected as any class is a true positive; there are no true negatives."""
    assert _CELLS.qrs == Figures(_every("NSVFQ", "nsvfq"), _every("NSVFQ", "o"), _every("O", "nsvfq"), None)
    assert _CELLS.qrs.fpr is None


def test_veb_figures_by_cell() -> None:
    """F or Q called V is neither false positive nor true negative; V called F or Q is a miss."""
    assert _CELLS.veb == Figures(
        tp=_cells("Vv"), fn=_every("V", "nsfqo"), fp=_cells("Nv", "Sv", "Ov"), tn=_every("NSFQO", "nsfq")
    )


def test_sveb_figures_by_cell() -> None:
    """Q called S is neither false positive nor true negative; F called S is a false positive."""
    assert _CELLS.sveb == Figures(
        tp=_cells("Ss"), fn=_every("S", "nvfqo"), fp=_cells("Ns", "Vs", "Fs", "Os"), tn=_every("NVFQO", "nvfq")
    )


def test_fractions() -> None:
    """Se, PPV and FPR are fractions; without a denominator there is none."""
    figures = Figures(tp=3, fn=1, fp=2, tn=98)
    assert (figures.beats, figures.se, figures.ppv, figures.fpr) == (4, 0.75, 0.6, 0.02)
    assert (Confusion.empty().veb.se, Confusion.empty().veb.ppv, Confusion.empty().veb.fpr) == (None, None, None)


def test_confusions_add_up() -> None:
    """Gross figures come from a sum."""
    a = compare(_at((1000, "V")), _at((1000, "V")), RATE, start_s=0)
    b = compare(_at((1000, "V")), _at((1000, "N")), RATE, start_s=0)
    assert Confusion.total([a, b]).veb.se == 0.5
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert a != b


def test_paced_records_are_known_by_their_beats() -> None:
    """One paced beat is enough."""
    assert is_paced(_at((1, "N"), (2, "/")))
    assert not is_paced(_at((1, "N"), (2, "f")))


_BEATS = st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from("NSVFQ")), max_size=30, unique_by=lambda b: b[0])


@given(_BEATS, _BEATS)
def test_no_beat_is_lost_or_counted_twice(reference: list[tuple[int, str]], test: list[tuple[int, str]]) -> None:
    """Every reference beat stands in one cell of its row, every detection in one of its column."""
    counts = compare(_at(*reference), _at(*test), RATE, start_s=0).counts
    for k, symbol in enumerate("NSVFQ"):
        assert counts[k].sum() == sum(s == symbol for _, s in reference)
    detected = int(counts[:, :5].sum())
    early = min((at for at, _ in test), default=10**9) <= 150  # the entry rule may pass over the first detection
    assert detected == len(test) or (early and detected == len(test) - 1)


def test_a_record_agrees_with_itself(mitdb: Path) -> None:
    """The reference of every record against itself is perfect, and every figure has its beats."""
    for header in sorted(mitdb.glob("*.hea")):
        reference = read_annotations(header.stem, "atr", lambda name: (mitdb / name).read_bytes(), rate_hz=360.0)
        confusion = compare(reference, reference, 360.0)
        assert (confusion.qrs.fn, confusion.qrs.fp) == (0, 0)
        assert confusion.qrs.tp > 1000
        assert {confusion.veb.se, confusion.sveb.se} <= {1.0, None}
