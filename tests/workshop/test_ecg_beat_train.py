"""Training: repeatable by seed, fair draws, and a network that learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeward.kernel.errors import ConfigError
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.workshop.ecg_beat_data import BeatData, Strip, build
from edgeward.workshop.ecg_beat_train import (
    Epoch,
    TrainConfig,
    augment,
    draw_odds,
    f1,
    fit,
    logits_of,
)
from edgeward.workshop.golden_wave import golden_wave
from edgeward.workshop.models.ecg_beat import EcgBeatCommittee, EcgBeatConfig, EcgBeatNet

SPEC = BeatWindowSpec()
SMALL = EcgBeatConfig(widths=(8, 8, 12, 12, 16), wave_out=16, rhythm_hidden=24, head_hidden=16, members=2, trees=20)
QUICK = TrainConfig(epochs=2, draws_per_epoch=512, batch=64, network=SMALL)


@pytest.fixture(scope="module")
def data() -> BeatData:
    parts = []
    for seed, source in enumerate(("a", "b", "made+c")):
        wave, beats, labels = golden_wave(120, seed)
        parts.append(build(Strip(source, wave, beats, labels), SPEC))
    return BeatData.joined(parts)


def test_the_shipped_size_is_about_half_a_million() -> None:
    """The default networks fit the window and have between 0.4 and 0.6 million weights together."""
    network = EcgBeatCommittee(EcgBeatConfig())
    assert 400_000 < sum(p.numel() for p in network.parameters()) < 600_000
    out = network.eval()(torch.zeros(3, *SPEC.wave_shape), torch.zeros(3, SPEC.rhythm_len))
    assert out.shape == (3, len(BeatClass))


def test_the_same_seed_gives_the_same_weights(data: BeatData) -> None:
    """Two trainings by one seed agree bit for bit; another seed differs."""
    first, again = fit(data, None, QUICK), fit(data, None, QUICK)
    other = fit(data, None, replace(QUICK, seed=21))
    assert np.array_equal(logits_of(first.network, data), logits_of(again.network, data))
    assert not np.array_equal(logits_of(first.network, data), logits_of(other.network, data))


def test_training_learns_and_reports_every_epoch(data: BeatData) -> None:
    """On easy made-up beats the loss falls and most ventricular beats are found."""
    seen: list[Epoch] = []
    model = fit(data, data, replace(QUICK, epochs=4, draws_per_epoch=1024), on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert seen[3].loss < seen[0].loss
    assert seen[-1].val_veb_f1 is not None
    assert seen[-1].val_veb_f1 > 0.8
    assert model.epochs == tuple(seen)


def test_members_differ_and_are_averaged(data: BeatData) -> None:
    """Each member has its own weights; the committee's logits are their mean, and the trees' by their share."""
    network = fit(data, None, QUICK).network
    wave, rhythm = torch.from_numpy(data.wave[:9].astype(np.float32)), torch.from_numpy(data.rhythm[:9])
    with torch.no_grad():
        first, second = (member(wave, rhythm) for member in network.members)
        assert network.trees is not None
        wanted = 0.5 * (first + second) * (1 - SMALL.trees_share) + network.trees(rhythm) * SMALL.trees_share
        torch.testing.assert_close(network(wave, rhythm), wanted)
    assert not torch.equal(first, second)


def test_trees_can_be_left_out(data: BeatData) -> None:
    """With no trees the members decide alone."""
    alone = replace(QUICK, epochs=1, draws_per_epoch=128, network=replace(SMALL, trees=0, members=1))
    network = fit(data, None, alone).network
    wave, rhythm = torch.from_numpy(data.wave[:9].astype(np.float32)), torch.from_numpy(data.rhythm[:9])
    with torch.no_grad():
        assert torch.equal(network(wave, rhythm), network.members[0](wave, rhythm))


def test_nothing_to_train_on_is_the_operators_error(data: BeatData) -> None:
    """An empty training set raises ConfigError."""
    with pytest.raises(ConfigError):
        fit(data.take(np.zeros(len(data), dtype=np.bool_)), None, QUICK)


def test_draws_share_out_classes_and_patients(data: BeatData) -> None:
    """Classes are drawn by their share, and within a class the made beats have theirs."""
    odds = draw_odds(data, QUICK)
    assert odds.sum() == pytest.approx(1.0)
    present = [c for c in range(5) if np.any(data.label == c)]
    total = sum(QUICK.class_share[c] for c in present)
    for c in present:
        assert odds[data.label == c].sum() == pytest.approx(QUICK.class_share[c] / total)
    made = np.char.find(data.source, "+") >= 0
    of_n = data.label == BeatClass.N
    assert odds[of_n & made].sum() / odds[of_n].sum() == pytest.approx(QUICK.synthetic_share)


def test_augmentation_can_take_the_second_lead_away() -> None:
    """With certainty of loss, lead and average of the second slot are zero and the rest is kept."""
    config = replace(QUICK, lead_dropout=1.0, rhythm_noise=0.0, rhythm_dropout=0.0)
    wave, rhythm = torch.ones(4, *SPEC.wave_shape), torch.ones(4, SPEC.rhythm_len)
    augment(wave, rhythm, EcgBeatNet(SMALL), config)
    assert not wave[:, (1, 3)].any()
    assert wave[:, (0, 2)].abs().min() > 0.1
    assert torch.equal(rhythm, torch.ones_like(rhythm))


def test_f1_spares_what_ec57_spares() -> None:
    """Fusion called V is no false positive of V; fusion called S is one of S, unclassifiable called S is none."""
    label = np.array([2, 2, 3, 4, 0, 1, 1])
    assert f1(label, np.array([2, 2, 2, 2, 0, 1, 1]), BeatClass.V) == 1.0
    assert f1(label, np.array([2, 2, 2, 2, 2, 1, 1]), BeatClass.V) == pytest.approx(4 / 5)
    assert f1(label, np.array([2, 2, 1, 4, 0, 1, 1]), BeatClass.S) == pytest.approx(4 / 5)
    assert f1(label, np.array([2, 2, 3, 1, 0, 1, 1]), BeatClass.S) == 1.0
