"""Training of the beat model: one fold or everything, the same code, the same result for the same seed."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeward.kernel.errors import ConfigError
from edgeward.signal.beat import BeatClass
from edgeward.workshop.ecg_beat_trees import grow
from edgeward.workshop.models.ecg_beat import EcgBeatCommittee, EcgBeatConfig, EcgBeatNet

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.workshop.ecg_beat_data import BeatData

FloatArray = npt.NDArray[np.float32]

CLASSES = len(BeatClass)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What was used for the shipped weights; every figure chosen by leave-patients-out cross-validation on DS1."""

    seed: int = 20
    epochs: int = 6
    batch: int = 256
    draws_per_epoch: int = 24000
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.02
    class_share: tuple[float, ...] = (0.58, 0.14, 0.2, 0.03, 0.05)
    """Share of each class N, S, V, F, Q among the draws of an epoch."""
    patient_power: float = 0.5
    """A patient with n beats of a class gets a share of that class in proportion to n to this power."""
    synthetic_share: float = 0.5
    """Share of draws, within each class that has both, from synthetic and PTB-XL strips."""
    ema: float = 0.995
    lead_dropout: float = 0.12
    polarity: float = 0.1
    rhythm_noise: float = 0.1
    rhythm_dropout: float = 0.08
    """Share of features that are replaced by their mean in training."""
    opinion_weight: float = 0.25
    network: EcgBeatConfig = field(default_factory=EcgBeatConfig)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Figures of one epoch, for tracking."""

    number: int
    loss: float
    val_loss: float | None
    val_sveb_f1: float | None
    val_veb_f1: float | None


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The trained model in evaluation mode, and how it came about."""

    network: EcgBeatCommittee
    config: TrainConfig
    epochs: tuple[Epoch, ...]


def fit(
    train: BeatData,
    val: BeatData | None,
    config: TrainConfig,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainedModel:
    """Train on ``train``; ``val`` is only measured, never learnt from or used to choose an epoch.

    Deterministic by ``config.seed`` for one thread. Raises ``ConfigError`` for an empty training set.
    """
    if len(train) == 0:
        raise ConfigError("training-set-empty", "there are no beats to train on; check the records and their patients")
    torch.manual_seed(config.seed)
    whole = EcgBeatCommittee(config.network)
    odds = draw_odds(train, config)
    done: list[Epoch] = []
    for number, member in enumerate(whole.members):
        assert isinstance(member, EcgBeatNet)

        def told(epoch: Epoch, before: int = number * config.epochs) -> None:
            done.append(replace(epoch, number=before + epoch.number))
            if on_epoch is not None:
                on_epoch(done[-1])

        trained = _fit_member(member, train, val, replace(config, seed=config.seed + number), odds, told)
        member.load_state_dict(trained.state_dict())
    if config.network.trees:
        whole.trees = grow(train, odds, config.network.trees, config.seed)
    return TrainedModel(whole.eval(), config, tuple(done))


def _fit_member(
    network: EcgBeatNet,
    train: BeatData,
    val: BeatData | None,
    config: TrainConfig,
    odds: npt.NDArray[np.float64],
    on_epoch: Callable[[Epoch], None],
) -> EcgBeatNet:
    """One network trained on draws by ``odds``: the running average of its weights."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network.standardise_by(torch.from_numpy(train.rhythm))
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    loss_of = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    per_epoch = max(1, config.draws_per_epoch // config.batch)
    total = per_epoch * config.epochs
    step = 0
    for number in range(1, config.epochs + 1):
        network.train()
        rows = rng.choice(len(train), size=per_epoch * config.batch, p=odds)
        losses = []
        for start in range(0, rows.size, config.batch):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _schedule(step / total)
            wave, rhythm, label = _batch(train, rows[start : start + config.batch])
            augment(wave, rhythm, network, config)
            optimiser.zero_grad(set_to_none=True)
            opinions = network.opinions(wave, rhythm)
            loss = loss_of(sum(opinions[1:], opinions[0]) / 3, label)
            loss = loss + config.opinion_weight * sum(loss_of(opinion, label) for opinion in opinions)
            loss.backward()
            optimiser.step()
            step += 1
            _average(average, network, min(config.ema, (1 + step) / (10 + step)))
            losses.append(float(loss.detach()))
        on_epoch(_measured(number, float(np.mean(losses)), average, val))
    return average


def logits_of(network: nn.Module, data: BeatData, batch: int = 1024) -> FloatArray:
    """Logits (n, 5) of every beat."""
    network.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(data), batch):
            wave, rhythm, _ = _batch(data, np.arange(start, min(start + batch, len(data))))
            out.append(network(wave, rhythm).numpy())
    return np.concatenate(out) if out else np.zeros((0, CLASSES), dtype=np.float32)


def draw_odds(data: BeatData, config: TrainConfig) -> npt.NDArray[np.float64]:
    """Probability of each beat to be drawn: classes by share, patients within a class by a power of their number."""
    odds = np.zeros(len(data), dtype=np.float64)
    made = np.char.find(data.source, "+") >= 0
    for cls in range(CLASSES):
        of_class = data.label == cls
        both = of_class.any() and (of_class & made).any() and (of_class & ~made).any()
        for synthetic in (False, True):
            rows = np.flatnonzero(of_class & (made == synthetic))
            if rows.size == 0:
                continue
            share = config.class_share[cls]
            if both:
                share *= config.synthetic_share if synthetic else 1 - config.synthetic_share
            _, inverse, counts = np.unique(data.source[rows], return_inverse=True, return_counts=True)
            weight = counts[inverse] ** (config.patient_power - 1.0) * data.weight[rows]
            odds[rows] = share * weight / weight.sum()
    total: float = odds.sum()
    return np.asarray(odds / total)


def augment(wave: Tensor, rhythm: Tensor, network: EcgBeatNet, config: TrainConfig) -> None:
    """Change a batch in place: gain, polarity, a missing lead, noise, drift, shifts; noise and gaps in the vector."""
    b, _, t = wave.shape
    gain = torch.exp(0.12 * torch.randn(b, 2, 1))
    gain = torch.where(torch.rand(b, 2, 1) < config.polarity, -gain, gain)
    wave *= gain.repeat(1, 2, 1)
    phase, cycles = 2 * math.pi * torch.rand(b, 2, 1), 0.3 + 1.7 * torch.rand(b, 2, 1)
    drift = torch.sin(phase + cycles * 2 * math.pi * torch.arange(t) / t)
    wave[:, :2] += 0.06 * torch.rand(b, 2, 1) * drift + 0.05 * torch.rand(b, 2, 1) ** 2 * torch.randn(b, 2, t)
    shift = int(torch.randint(-3, 4, (1,)))
    wave.copy_(torch.roll(wave, shift, dims=2))
    gone = torch.rand(b) < config.lead_dropout
    wave[gone, 1] = 0.0
    wave[gone, 3] = 0.0
    rhythm += config.rhythm_noise * torch.randn_like(rhythm) / network.inverse_sd
    unknown = torch.rand_like(rhythm) < config.rhythm_dropout
    rhythm.copy_(torch.where(unknown, network.mean, rhythm))


def _schedule(done: float) -> float:
    """Warm-up over the first 5 %, then a cosine to 1 %."""
    if done < 0.05:
        return 0.05 + 0.95 * done / 0.05
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))


def _batch(data: BeatData, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(data.wave[rows].astype(np.float32)),
        torch.from_numpy(data.rhythm[rows]),
        torch.from_numpy(data.label[rows]),
    )


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, keep: float) -> None:
    for old, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1.0 - keep)
        else:
            old.copy_(new)


def _measured(number: int, loss: float, network: EcgBeatNet, val: BeatData | None) -> Epoch:
    if val is None or len(val) == 0:
        return Epoch(number, loss, None, None, None)
    logits = torch.from_numpy(logits_of(network, val))
    label = torch.from_numpy(val.label)
    called = logits.argmax(dim=1).numpy()
    return Epoch(
        number,
        loss,
        float(functional.cross_entropy(logits, label)),
        f1(val.label, called, BeatClass.S),
        f1(val.label, called, BeatClass.V),
    )


def f1(label: npt.NDArray[np.int64], called: npt.NDArray[np.int64], cls: BeatClass) -> float:
    """F1 of a class by the EC57 rules: for V, F or Q called V is no false positive; for S, Q called S is none."""
    spared = (BeatClass.F, BeatClass.Q) if cls is BeatClass.V else (BeatClass.Q,)
    hit = int(np.sum((label == cls) & (called == cls)))
    missed = int(np.sum((label == cls) & (called != cls)))
    false = int(np.sum((label != cls) & (called == cls) & ~np.isin(label, spared)))
    return 2 * hit / max(1, 2 * hit + missed + false)
