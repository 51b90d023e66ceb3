"""Lead time: who was up first before the onset, at the same burden; what nobody could see is left out."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.evaluate.lead_time import WINDOW_H, events_of, first_up, lead_over, weighted_median
from edgeward.workshop.ranking import PatientDraws
from edgeward.workshop.stay_table import StayTable


def table_of(*labels: list[int]) -> StayTable:
    lengths = [len(stay) for stay in labels]
    starts = np.cumsum([0, *lengths])[:-1].astype(np.int64)
    hour = np.concatenate([np.arange(length) for length in lengths])
    flat = np.concatenate([np.array(stay, np.int8) for stay in labels])
    return StayTable(tuple("abcdefgh"[: len(labels)]), starts, hour, np.zeros((len(flat), 1), np.float32), {}, flat, ())


SEPTIC = [0] * 20 + [1] * 10
"""Onset in row 26; the window begins in row 14."""


def test_onsets_that_the_table_does_not_show_are_counted_apart() -> None:
    """Labelled from the first row on, or ended before the onset: no lead can be told."""
    table = table_of(SEPTIC, [1] * 10, [0] * 20 + [1] * 4, [0] * 30)
    events = events_of(table)
    assert events.patient.tolist() == [0]
    assert events.onset.tolist() == [26]
    assert events.first.tolist() == [26 - WINDOW_H]
    assert events.unseen == 2


def test_the_first_hour_up_counts_within_the_window_only() -> None:
    """An advisory long before the onset is false; one that is still up when the window begins counts from there."""
    table = table_of(SEPTIC, SEPTIC, SEPTIC)
    events = events_of(table)
    active = np.zeros(len(table), dtype=bool)
    active[2:6] = True
    active[30 + 10 : 30 + 17] = True
    active[60 + 22] = True
    np.testing.assert_array_equal(first_up(active, events), [np.nan, 12, 4])


def test_lead_is_against_the_rule_or_else_the_onset() -> None:
    """Earlier than the rule, later than it, and missed; where the rule is silent the onset stands for it."""
    table = table_of(SEPTIC, SEPTIC, SEPTIC, SEPTIC, [0] * 40)
    events = events_of(table)
    scores = np.zeros(len(table))
    rule = np.zeros(len(table), dtype=bool)
    for patient, (model_at, rule_at) in enumerate([(16, 20), (22, 18), (None, 20), (21, None)]):
        if model_at is not None:
            scores[30 * patient + model_at : 30 * patient + 28] = 1.0
        if rule_at is not None:
            rule[30 * patient + rule_at : 30 * patient + 28] = True
    lead = lead_over(rule, scores, table, events, PatientDraws(5, draws=50))
    assert lead.threshold == 1.0
    assert lead.burden == pytest.approx(3 * 24 / 160)
    assert lead.missed.value == 0.25
    assert lead.rule_missed.value == 0.25
    assert lead.ahead.value == 0.5
    assert lead.minutes.value == 240.0
    shown = lead.to_dict()
    assert shown["share_30_min_ahead"] == shown["share_60_min_ahead"]


def test_weighted_medians() -> None:
    """Drawn twice counts twice; drawn never, not at all."""
    values = np.array([1.0, 2.0, 10.0])
    assert weighted_median(values, np.array([1.0, 1.0, 1.0])) == 2.0
    assert weighted_median(values, np.array([0.0, 1.0, 3.0])) == 10.0
    assert np.isnan(weighted_median(values, np.zeros(3)))
