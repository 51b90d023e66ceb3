"""What the models learn from: causal windows, targets that lie ahead, folds by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypotension_stays import stay, stays

from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind
from edgeward.signal.vitals_grid import STEPS, VITALS, Grid
from edgeward.workshop.hypotension_data import (
    FORECAST,
    HORIZONS,
    NOT_ASKED,
    Examples,
    Stretches,
    asked_readings,
    cells_of,
    examples,
    fold_of,
    load,
    save,
    stretches,
    windows,
)
from edgeward.workshop.hypotension_points import Outcome, decision_points
from edgeward.workshop.vitals_long import NS_PER_MINUTE, Stay

if TYPE_CHECKING:
    from pathlib import Path

SCALE = {vital.name: vital for vital in VITALS}


def test_windows_are_those_of_a_bed_at_that_instant() -> None:
    """A grid fed live gives the very arrays that training sees."""
    one = stay(2, falls=True)
    grid = Grid(one.age_y)
    live = {}
    for numeric in one.numerics():
        grid.update(numeric)
        live[numeric.at_ns // NS_PER_MINUTE] = grid.window(numeric.at_ns)
    asked = sorted(live)[::7]
    for minute, found in zip(asked, windows(one, asked), strict=True):
        for name, array in found.items():
            assert np.array_equal(array, live[minute][name], equal_nan=True)


def test_targets_lie_after_the_window() -> None:
    """The first cell ahead holds the five minutes after the instant, and nothing measured at or before it."""
    one = stay(4)
    minutes, values = one.series(Kind.HR)
    now = int(minutes[10])
    cells = cells_of(one, now, STEPS + HORIZONS)
    hr = SCALE["hr"]
    assert cells[STEPS - 1, 0] == pytest.approx((values[10] - hr.mean) / hr.spread, rel=1e-5)
    assert np.isnan(cells[STEPS : STEPS + 2, 0]).all()
    assert cells[STEPS + 2, 0] == pytest.approx((values[11] - hr.mean) / hr.spread, rel=1e-5)


def test_examples_hold_the_task_s_points_and_every_reading_that_is_learned_at() -> None:
    """Outcomes are the task's; a reading that is no point of the task is marked so."""
    made = stays(6)
    found = examples(made)
    for position, one in enumerate(made):
        mine = found.take(found.stay == position)
        points = decision_points(*one.series(Kind.ABP_MEAN))
        asked, table = asked_readings(one)
        assert mine.decisions().minute.tolist() == points.minute.tolist()
        assert mine.decisions().outcome.tolist() == points.outcome.tolist()
        assert mine.minute[np.isfinite(mine.low)].tolist() == asked.tolist()
        assert mine.low[np.isfinite(mine.low)] == pytest.approx(table[:, 0])
    assert {Outcome.NONE, Outcome.AHEAD, Outcome.SOON} <= {Outcome(o) for o in found.decisions().outcome.tolist()}
    assert (found.outcome == NOT_ASKED).any()
    assert found.grid.shape[1:] == (STEPS, 16)
    assert found.after.shape[1:] == (HORIZONS, len(FORECAST))


def test_a_reading_is_learned_at_by_what_comes_30_to_75_minutes_later() -> None:
    """The share of low readings there; none is learned at within an hour of a low one, nor where nothing comes."""
    one = stay(2, falls=True)
    minute, pressure = one.series(Kind.ABP_MEAN)
    asked, table = asked_readings(one)
    for now, share in zip(asked.tolist(), table[:, 0].tolist(), strict=True):
        later = pressure[(minute >= now + 30) & (minute <= now + 75)]
        assert share == pytest.approx((later < 65).mean())
        assert (pressure[(minute >= now - 60) & (minute <= now)] >= 65).all()
    assert table[:, 0].max() > 0
    assert int(minute[-1]) not in asked.tolist()


def test_stretches_hold_what_was_seen_after_each_step() -> None:
    """The grid's own cells, and the twelve after: what is carried in the grid was measured in a cell before."""
    made = stretches(stays(4))
    assert made.seen.shape[1:] == (STEPS + HORIZONS, len(FORECAST))
    fresh = made.grid[:, :, 1] == 1.0
    assert np.array_equal(fresh, np.isfinite(made.seen[:, :STEPS, 0]))
    assert np.allclose(made.grid[:, :, 0][fresh], made.seen[:, :STEPS, 0][fresh], atol=1e-2)
    assert np.isfinite(made.low).any()
    assert ((made.weight > 0) == np.isfinite(made.low)).all()


def test_stays_without_vital_signs_teach_nothing() -> None:
    """They are passed over; where there are no others, the operator is told."""
    none = np.zeros(0)
    empty = Stay("0", none.astype(np.int64), none.astype(np.int8), none, 50.0)
    assert set(stretches([empty, *stays(2)]).stay.tolist()) == {1, 2}
    assert len(examples([empty])) == 0
    with pytest.raises(ConfigError):
        stretches([empty])


def test_folds_are_by_stay_whatever_the_order() -> None:
    """A stay keeps its fold when others come and go."""
    made = stays(30)
    folds = fold_of(made, 3)
    assert set(folds.tolist()) == {1, 2, 3}
    assert fold_of(made[::-1], 3).tolist() == folds[::-1].tolist()


def test_the_cache_gives_back_what_was_kept(tmp_path: Path) -> None:
    """NaN and half precision included."""
    made = stays(3)
    for kind, item in ((Examples, examples(made)), (Stretches, stretches(made))):
        save(tmp_path / "kept.npz", item)
        back = load(tmp_path / "kept.npz", kind)
        for name in kind.__slots__:
            assert np.array_equal(getattr(back, name), getattr(item, name), equal_nan=True)
