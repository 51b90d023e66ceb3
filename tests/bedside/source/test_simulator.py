"""The simulated heart: its leads obey physics, its script is followed, and its truth is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeward.bedside.source.physiology import LEADS, Rhythm
from edgeward.bedside.source.simulator import RAIL_MV, Episode, SimulatorSource
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock


def _run(seconds: float, **options: Any) -> tuple[np.ndarray, list[tuple[int, str]], SimulatorSource]:
    options = {"rate_hz": 250.0, "block_ms": 200.0, **options}
    source = SimulatorSource(ManualClock(), speed=0, duration_s=seconds, **options)
    samples = np.concatenate([b.samples for b in source.blocks()], axis=1)
    return samples, source.beats_until(samples.shape[1]), source


def _lead(samples: np.ndarray, name: str) -> np.ndarray:
    return samples[LEADS.index(name)]


def test_the_limb_leads_obey_einthoven_and_goldberger() -> None:
    """III = II − I, and the augmented leads follow from I and II, noise included."""
    samples, _, _ = _run(20.0, scenario=[Episode(5.0, "pvc"), Episode(8.0, "af", 5.0)])
    one, two = _lead(samples, "I"), _lead(samples, "II")
    np.testing.assert_allclose(_lead(samples, "III"), two - one, atol=1e-5)
    np.testing.assert_allclose(_lead(samples, "aVR"), -(one + two) / 2, atol=1e-5)
    np.testing.assert_allclose(_lead(samples, "aVL"), one - two / 2, atol=1e-5)
    np.testing.assert_allclose(_lead(samples, "aVF"), two - one / 2, atol=1e-5)


def test_a_seed_gives_the_same_samples_in_any_blocks() -> None:
    """The block length and a second reading change nothing; another seed does."""
    script = [Episode(3.0, "noise", 2.0, ("II",)), Episode(6.5, "gap", 1.0)]
    long, truth, source = _run(12.0, scenario=script, block_ms=500.0)
    short, same_truth, _ = _run(12.0, scenario=script, block_ms=4.0)
    np.testing.assert_array_equal(long, short)
    assert truth == same_truth
    np.testing.assert_array_equal(np.concatenate([b.samples for b in source.blocks()], axis=1), long)
    other, _, _ = _run(12.0, scenario=script, seed=2)
    assert not np.array_equal(long, other)


@pytest.mark.parametrize("rate_hz", [250.0, 500.0, 360.0])
def test_the_truth_is_where_the_r_peaks_are(rate_hz: float) -> None:
    """Each normal beat's lead II peaks within 20 ms of its stated index."""
    samples, truth, _ = _run(30.0, rate_hz=rate_hz)
    two = _lead(samples, "II")
    assert 25 <= len(truth) <= 45
    for at, symbol in truth:
        if 0.2 * rate_hz < at < two.size - 0.2 * rate_hz:
            assert symbol == "N"
            around = two[at - round(0.1 * rate_hz) : at + round(0.1 * rate_hz)]
            assert abs(int(np.argmax(around)) - round(0.1 * rate_hz)) <= 0.02 * rate_hz
            assert 0.5 < around.max() < 3.0


def test_the_heart_rate_is_what_was_asked_for() -> None:
    """Over two minutes the mean rate is within 5 %, and breathing moves the intervals."""
    _, truth, _ = _run(120.0, rhythm=Rhythm(heart_rate_bpm=90.0))
    rr = np.diff([at for at, _ in truth]) / 250.0
    assert 60.0 / rr.mean() == pytest.approx(90.0, rel=0.05)
    assert 0.02 < rr.std() / rr.mean() < 0.15


def test_single_ectopic_beats_come_when_ordered() -> None:
    """A PVC is early, wide and followed by a pause; a PAC is early and narrow."""
    samples, truth, _ = _run(30.0, scenario=[Episode(10.0, "pvc"), Episode(20.0, "pac")])
    symbols = [symbol for _, symbol in truth]
    assert (symbols.count("V"), symbols.count("A")) == (1, 1)
    at = [index for index, _ in truth]
    two = _lead(samples, "II")
    for symbol, after_s, wide in (("V", 10.0, True), ("A", 20.0, False)):
        k = symbols.index(symbol)
        assert after_s * 250 <= at[k] <= (after_s + 2.0) * 250
        assert at[k] - at[k - 1] < 0.8 * (at[k - 1] - at[k - 2])
        assert at[k + 1] - at[k] > 1.05 * (at[k - 1] - at[k - 2]) or symbol == "A"
        qrs = two[at[k] - 25 : at[k] + 25]
        assert bool(np.count_nonzero(np.abs(qrs) > 0.5 * np.abs(qrs).max()) > 12) is wide


def test_rhythms_follow_the_script() -> None:
    """VT is a run of fast V, AF is irregular, asystole is silent."""
    script = [Episode(10.0, "vt", 5.0), Episode(30.0, "af", 30.0), Episode(70.0, "asystole", 6.0)]
    samples, truth, _ = _run(90.0, scenario=script)
    at = np.array([index for index, _ in truth]) / 250.0
    symbols = np.array([symbol for _, symbol in truth])
    run = (at > 10.9) & (at < 15.0)
    assert set(symbols[run]) == {"V"}
    assert 60.0 / np.diff(at[run]).mean() == pytest.approx(170.0, rel=0.05)
    assert set(symbols[(at > 31) & (at < 60)]) == {"N"}
    af, sinus = np.diff(at[(at > 31) & (at < 60)]), np.diff(at[(at > 16) & (at < 30)])
    assert af.std() / af.mean() > 2 * sinus.std() / sinus.mean()
    assert not ((at > 71.0) & (at < 76.0)).any()
    silent = _lead(samples, "II")[72 * 250 : 75 * 250]
    assert np.ptp(silent) < 0.3


def test_chance_ectopy_has_the_rate_asked_for() -> None:
    """Six PVCs a minute over ten minutes are about sixty."""
    _, truth, _ = _run(600.0, rhythm=Rhythm(pvc_per_min=6.0, pac_per_min=3.0), leads=("II",))
    symbols = [symbol for _, symbol in truth]
    assert 40 <= symbols.count("V") <= 80
    assert 15 <= symbols.count("A") <= 45


def test_artefacts_are_what_they_say_on_the_leads_they_name() -> None:
    """Lead off and gap are missing, saturation stands at the rail, flat does not move, noise is rough."""
    script = [
        Episode(2.0, "lead_off", 1.0, ("V1",)),
        Episode(4.0, "saturated", 1.0, ("II",)),
        Episode(6.0, "flat", 1.0, ("V5",)),
        Episode(8.0, "noise", 1.0, ("I",)),
        Episode(10.0, "gap", 1.5),
    ]
    samples, _, source = _run(13.0, scenario=script)
    assert np.isnan(_lead(samples, "V1")[500:750]).all()
    assert np.isnan(samples[:, 500:750]).sum() == 250
    assert (_lead(samples, "II")[1000:1250] == RAIL_MV).all()
    assert np.ptp(_lead(samples, "V5")[1500:1750]) == 0
    rough = np.diff(_lead(samples, "I"))
    assert rough[2000:2249].std() > 5 * rough[1000:1249].std()
    assert np.isnan(samples[:, 2500:2875]).all()
    assert not np.isnan(samples[:, 2875:]).any()
    assert source.info.limits_mv == ((-RAIL_MV, RAIL_MV),) * 12
    assert source.info.simulated


def test_only_the_leads_asked_for_are_sent() -> None:
    """The leads are a choice of the twelve; the samples are the same."""
    both, _, source = _run(3.0, leads=("V1", "II"))
    every, _, _ = _run(3.0)
    assert source.info.leads == ("V1", "II")
    np.testing.assert_array_equal(both, every[[LEADS.index("V1"), LEADS.index("II")]])


def test_real_time_is_kept() -> None:
    """Ten seconds of monitor take ten seconds."""
    clock = ManualClock()
    began = clock.monotonic_ns()
    source = SimulatorSource(clock, rate_hz=250.0, duration_s=10.0, sleep=clock.sleep)
    stamps = [block.received_ns - began for block in source.blocks()]
    assert stamps[0] == pytest.approx(20e6, abs=1)
    assert stamps[-1] == pytest.approx(10e9, abs=1)


@pytest.mark.parametrize(
    "options",
    [
        {"scenario": [Episode(1.0, "earthquake", 1.0)]},
        {"scenario": [Episode(-1.0, "pvc")]},
        {"scenario": [Episode(1.0, "af")]},
        {"scenario": [Episode(1.0, "lead_off", 1.0, ("V9",))]},
        {"leads": ("II",), "scenario": [Episode(1.0, "lead_off", 1.0, ("V1",))]},
        {"leads": ()},
        {"leads": ("MLII",)},
        {"rate_hz": 10.0},
        {"rate_hz": 1e6},
        {"block_ms": -1.0},
        {"speed": -1.0},
    ],
)
def test_a_wrong_script_is_the_operators(options: dict[str, Any]) -> None:
    """What the simulator cannot do is refused before it starts."""
    with pytest.raises(ConfigError):
        SimulatorSource(ManualClock(), **options)
