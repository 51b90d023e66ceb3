"""Heart-rate limits: delay, hysteresis, asystole, and silence about what is not known."""

from __future__ import annotations

from edgeward.bedside.thresholds import HeartRateAlerts


def _codes(changed: list) -> list[tuple[str, bool]]:
    return [(alert.code, alert.active) for alert in changed]


def test_a_limit_needs_its_delay_and_clears_with_hysteresis() -> None:
    """130/min raises after 3 s, holds at 118/min, clears below 117/min."""
    alerts = HeartRateAlerts()
    assert alerts.passed(0, 130.0, 10) == []
    assert alerts.passed(700, 130.0, 10) == []
    assert _codes(alerts.passed(750, 130.0, 10)) == [("hr-high", True)]
    assert alerts.passed(1000, 118.0, 10) == []
    assert _codes(alerts.passed(1250, 116.0, 10)) == [("hr-high", False)]


def test_nothing_is_concluded_without_a_usable_lead() -> None:
    """Asystole is not raised, and a raised alert is not cleared, while no lead can be judged."""
    alerts = HeartRateAlerts()
    assert alerts.passed(5000, None, None) == []
    assert _codes(alerts.passed(6000, None, 1000)) == [("asystole", True)]
    assert alerts.passed(9000, None, None) == []
    assert _codes(alerts.passed(9500, 60.0, 20)) == [("asystole", False)]


def test_only_a_beat_ends_asystole() -> None:
    """Leads that come back without a beat do not clear a raised asystole; the beat does."""
    alerts = HeartRateAlerts()
    assert _codes(alerts.passed(6000, None, 1000)) == [("asystole", True)]
    assert alerts.passed(7000, None, 5, beat_since=False) == []
    assert _codes(alerts.passed(7100, None, 5, beat_since=True)) == [("asystole", False)]


def test_the_delay_counts_only_time_at_a_known_rate() -> None:
    """A low rate seen before the rate was lost does not shorten the delay after it is known again."""
    alerts = HeartRateAlerts()
    assert alerts.passed(0, 45.0, 10) == []
    assert alerts.passed(500, None, 10) == []
    assert alerts.passed(5000, 45.0, 10) == []
    assert _codes(alerts.passed(5750, 45.0, 10)) == [("hr-low", True)]
