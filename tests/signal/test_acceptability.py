"""Features and classifier of the 12-lead acceptability question."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from edgeward.kernel.errors import BundleError, InputError
from edgeward.signal.acceptability import RATE_HZ, acceptable, feature_names, features, load_model
from edgeward.signal.trees import Trees


def model_bytes() -> bytes:
    return resources.files("edgeward.signal").joinpath("acceptability.json").read_bytes()


def recording(seed: int = 1, *, noise_mv: float = 0.01, seconds: float = 10.0) -> np.ndarray:
    """Twelve leads (12, n) in mV of one simulated heart: two sources seen from twelve sides."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    phase = time_s % 0.85
    sources = np.zeros((2, time_s.size))
    shapes = ((0.25, 0.025, 0.15, 0.1), (0.40, 0.010, 1.2, 0.3), (0.42, 0.012, -0.2, -0.8), (0.65, 0.045, 0.3, 0.25))
    for centre, width, first, second in shapes:
        wave = np.exp(-0.5 * ((phase - centre) / width) ** 2)
        sources += np.outer((first, second), wave)
    angle = np.linspace(0.0, np.pi, 8, endpoint=False)
    eight = np.stack((np.cos(angle), np.sin(angle)), axis=1) @ sources
    eight += noise_mv * rng.standard_normal(eight.shape) + 0.05 * np.sin(2 * np.pi * 0.2 * time_s)
    one, two, chest = eight[0], eight[1], eight[2:]
    limb = (one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
    return np.vstack((np.stack(limb), chest))


def value(ecg_mv: np.ndarray, name: str) -> float:
    return float(features(ecg_mv, RATE_HZ)[feature_names().index(name)])


def test_a_clean_recording_is_acceptable() -> None:
    """Twelve clean leads of one heart pass."""
    assert acceptable(recording(), RATE_HZ, load_model(model_bytes())) > 0.9


@pytest.mark.parametrize("fault", ["flat", "railed", "all zero", "noise"])
def test_a_spoilt_recording_is_not_acceptable(fault: str) -> None:
    """Dead leads, railed leads and noise do not pass."""
    ecg = recording()
    rng = np.random.default_rng(5)
    if fault == "flat":
        ecg[7:9] = 0.0
    elif fault == "railed":
        ecg[8:10] = 80.0
    elif fault == "all zero":
        ecg[:] = 0.0
    else:
        ecg += 3.0 * rng.standard_normal(ecg.shape).cumsum(axis=1) / 10
    assert acceptable(ecg, RATE_HZ, load_model(model_bytes())) < 0.5


@pytest.mark.parametrize("content", [0.0, 80.0, np.nan])
def test_features_are_numbers_whatever_comes(content: float) -> None:
    """Dead, railed and missing recordings give finite features."""
    ecg = np.full((12, 5000), content)
    assert np.isfinite(features(ecg, RATE_HZ)).all()
    assert features(ecg, RATE_HZ).shape == (len(feature_names()),)


def test_missing_values_count_as_flat() -> None:
    """A lead that stops arriving is flat from there on."""
    ecg = recording()
    ecg[3, 2000:] = np.nan
    assert value(ecg, "flat_share:max") == pytest.approx(0.6, abs=0.02)


def test_bad_leads_are_counted() -> None:
    """A flat lead and a railed lead are two bad leads."""
    ecg = recording()
    assert value(ecg, "leads_bad") == 0
    ecg[6], ecg[11, :200] = 0.0, 20.0
    assert value(ecg, "leads_bad") == 2


def test_leads_of_one_heart_agree_and_a_stranger_stands_out() -> None:
    """A lead replaced by noise loses agreement of beats, of shape and with the other leads."""
    ecg, strange = recording(), recording()
    strange[9] = np.random.default_rng(2).standard_normal(ecg.shape[1])
    for name in ("reference_agreement:min", "template_median:min", "explained_by_others:min"):
        assert value(ecg, name) > 0.9
        assert value(strange, name) < 0.7
    assert value(ecg, "beats_per_s") == pytest.approx(1 / 0.85, rel=0.1)


def test_the_order_of_the_chest_leads_does_not_matter() -> None:
    """Leads are ranked, so that swapping two chest leads changes nothing."""
    ecg = recording()
    swapped = ecg[[0, 1, 2, 3, 4, 5, 9, 7, 8, 6, 10, 11]]
    np.testing.assert_allclose(features(ecg, RATE_HZ), features(swapped, RATE_HZ), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "rate_hz", "code"),
    [
        ((12, 5000), 250, "acceptability-rate"),
        ((8, 5000), 500, "acceptability-shape"),
        ((12, 900), 500, "acceptability-shape"),
    ],
)
def test_another_rate_or_shape_is_refused(shape: tuple[int, int], rate_hz: int, code: str) -> None:
    """The model is asked only what it was trained for."""
    with pytest.raises(InputError) as caught:
        features(np.zeros(shape), rate_hz)
    assert caught.value.code == code


# --- the model file


def edited(**changes: object) -> bytes:
    return json.dumps({**json.loads(model_bytes()), **changes}).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "acceptability-malformed"),
        (b"[]", "acceptability-malformed"),
        (b"\xff\xfe", "acceptability-malformed"),
        (edited(features=["other"]), "trees-malformed"),
        (edited(features=[*reversed(feature_names())]), "acceptability-features"),
        (edited(trees={}), "trees-malformed"),
        (edited(trees=None), "acceptability-malformed"),
    ],
)
def test_a_damaged_model_is_refused(data: bytes, code: str) -> None:
    """A file that is damaged or made for other features never judges anything."""
    with pytest.raises(BundleError) as caught:
        load_model(data)
    assert caught.value.code == code


def stump(**changes: object) -> dict[str, object]:
    lists: dict[str, object] = {
        "feature": [1, 0, 0],
        "threshold": [0.5, 0.0, 0.0],
        "left": [1, 1, 2],
        "right": [2, 1, 2],
        "value": [0.0, -1.0, 2.0],
        "root": [0],
    }
    return {**lists, **changes}


def test_trees_go_left_up_to_the_threshold() -> None:
    """The threshold itself belongs to the left."""
    trees = Trees.from_dict(stump(), 2)
    assert trees.score(np.array([9.0, 0.5])) == -1.0
    assert trees.score(np.array([9.0, 0.500001])) == 2.0
    assert Trees.from_dict(trees.to_dict(), 2).score(np.array([0.0, 1.0])) == 2.0
    with pytest.raises(ValueError):
        trees.score(np.zeros(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"left": [0, 1, 2]},  # would walk for ever
        {"right": [3, 1, 2]},
        {"feature": [2, 0, 0]},
        {"feature": [0.5, 0, 0]},
        {"feature": [-1, 0, 0]},
        {"value": [0.0, float("nan"), 2.0]},
        {"value": [0.0, 1.0]},
        {"value": ["a", "b", "c"]},
        {"root": []},
        {"root": [3]},
        {"root": 0},
        {"threshold": [True, 0.0, 0.0]},
        {"left": [float("nan"), 1, 2]},
    ],
)
def test_trees_that_cannot_be_walked_are_refused(changes: dict[str, object]) -> None:
    """No index outside the lists, no loop, no value that is not a number."""
    with pytest.raises(BundleError) as caught:
        Trees.from_dict(stump(**changes), 2)
    assert caught.value.code == "trees-malformed"
