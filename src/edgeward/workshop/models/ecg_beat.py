"""The beat model: a few small networks and boosted trees, each of which errs on other patients, in one file.

A network is a convolutional tower over the wave, a small tower over the rhythm vector, and three opinions averaged.
Only operations that export to ONNX plainly and survive static INT8: Conv1d, BatchNorm (folded at export), ReLU,
addition, Linear. The rhythm vector is standardised inside the network by fixed figures of the training set and
clipped, so that its quantisation range is known. The trees see the rhythm vector only and stay FP32. Output: five
logits in the order N, S, V, F, Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.workshop.models.boosted import BoostedTrees

_SPEC = BeatWindowSpec()


@dataclass(frozen=True, slots=True)
class EcgBeatConfig:
    """Size of the model; 471,000 weights and 9,600 leaves as it stands."""

    wave_channels: int = _SPEC.wave_shape[0]
    wave_samples: int = _SPEC.wave_shape[1]
    rhythm_len: int = _SPEC.rhythm_len
    widths: tuple[int, ...] = (24, 32, 48, 64, 96)
    wave_out: int = 96
    rhythm_hidden: int = 96
    head_hidden: int = 64
    dropout: float = 0.3
    classes: int = 5
    members: int = 2
    """Networks whose logits are averaged."""
    trees: int = 600
    """Boosted trees, as many for each class; 0 for none."""
    trees_share: float = 0.8
    """Weight of the trees' scores against the networks' logits: on patients held out the trees err less, a fifth of
    the networks costs nothing and gains PPV."""


class _Down(nn.Module):
    """Halve the samples, then one residual convolution."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(c_in, c_out, kernel, stride=2, padding=kernel // 2, bias=False)
        self.norm1 = nn.BatchNorm1d(c_out)
        self.conv = nn.Conv1d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm1d(c_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.down(x)))
        return cast("Tensor", self.relu(x + self.norm2(self.conv(x))))


class EcgBeatNet(nn.Module):
    """``forward(wave (B, 4, T), rhythm (B, K)) -> logits (B, 5)``."""

    mean: Tensor
    inverse_sd: Tensor

    def __init__(self, config: EcgBeatConfig) -> None:
        super().__init__()
        self.config = config
        w = config.widths
        self.stem = nn.Sequential(
            nn.Conv1d(config.wave_channels, w[0], 9, stride=2, padding=4, bias=False), nn.BatchNorm1d(w[0]), nn.ReLU()
        )
        self.stages = nn.Sequential(*(_Down(a, b, 5 if i < 2 else 3) for i, (a, b) in enumerate(pairwise(w))))
        samples = config.wave_samples
        for _ in w:
            samples = (samples + 1) // 2
        self.wave_drop = nn.Dropout(config.dropout)
        self.wave_out = nn.Sequential(nn.Linear(w[-1] * samples, config.wave_out), nn.ReLU())
        hidden = config.rhythm_hidden
        self.rhythm = nn.Sequential(
            nn.Linear(config.rhythm_len, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout / 2),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.joint = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.wave_out + hidden, config.head_hidden),
            nn.ReLU(),
            nn.Linear(config.head_hidden, config.classes),
        )
        self.wave_head = nn.Linear(config.wave_out, config.classes)
        self.rhythm_head = nn.Linear(hidden, config.classes)
        self.register_buffer("mean", torch.zeros(config.rhythm_len))
        self.register_buffer("inverse_sd", torch.ones(config.rhythm_len))

    def standardise_by(self, rhythm: Tensor) -> None:
        """Fix the standardisation to the mean and spread of the training vectors ``rhythm`` (n, K)."""
        self.mean.copy_(rhythm.mean(dim=0))
        self.inverse_sd.copy_(1.0 / rhythm.std(dim=0).clamp_min(0.05))

    def forward(self, wave: Tensor, rhythm: Tensor) -> Tensor:
        """Logits (B, 5) of windows ``wave`` (B, 4, T) and vectors ``rhythm`` (B, K)."""
        joint, by_wave, by_rhythm = self.opinions(wave, rhythm)
        return (joint + by_wave + by_rhythm) * (1.0 / 3.0)

    def opinions(self, wave: Tensor, rhythm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, 5) of the joint head, of the wave alone and of the rhythm alone.

        Each is trained by itself: the mean of opinions with different blind spots errs less on strange patients.
        """
        x = self.stages(self.stem(wave)).flatten(1)
        x = self.wave_out(self.wave_drop(x))
        z = ((rhythm - self.mean) * self.inverse_sd).clamp(-4.0, 4.0)
        z = self.rhythm(z)
        return self.joint(torch.cat([x, z], dim=1)), self.wave_head(x), self.rhythm_head(z)


class EcgBeatCommittee(nn.Module):
    """``forward(wave (B, 4, T), rhythm (B, K)) -> logits (B, 5)``: mean of the members, then of those and the trees."""

    def __init__(self, config: EcgBeatConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(EcgBeatNet(config) for _ in range(config.members))
        self.trees = BoostedTrees(config.trees, config.classes) if config.trees else None

    def forward(self, wave: Tensor, rhythm: Tensor) -> Tensor:
        """Logits (B, 5); the softmax of the result is the geometric mean of what each says."""
        said = self.members[0](wave, rhythm)
        for member in list(self.members)[1:]:
            said = said + member(wave, rhythm)
        said = said * (1.0 / len(self.members))
        if self.trees is None:
            return cast("Tensor", said)
        share = self.config.trees_share
        return cast("Tensor", said * (1.0 - share) + self.trees(rhythm) * share)
