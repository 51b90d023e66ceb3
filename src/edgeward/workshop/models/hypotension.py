"""The hypotension network: an LSTM over the grid that forecasts vitals, boosted trees over the features, joined.

The LSTM reads every step and tells at each the next hour of five vitals (10th, 50th and 90th percentile, every five
minutes) and log odds of the event; a device asks it at the last step alone. The trees were grown by LightGBM and are
walked here with plain tensor operations, so that one graph holds all and one check of parity covers it. ``scores``
(B, 181): percentiles × horizons × vitals in standard units (``signal.vitals_grid``), then the event's log odds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeward.signal.vitals_grid import CHANNELS

if TYPE_CHECKING:
    from edgeward.signal.trees import Trees

QUANTILES = (0.1, 0.5, 0.9)
DEPTH_MAX = 32


@dataclass(frozen=True, slots=True)
class ForecasterConfig:
    """Size of the LSTM; about 2 million weights as it stands. ``carried``: channels of the forecast vitals."""

    channels: int = len(CHANNELS)
    hidden: int = 400
    layers: int = 2
    dropout: float = 0.25
    horizons: int = 12
    carried: tuple[int, ...] = tuple(CHANNELS.index(name) for name in ("hr", "rr", "sys", "dia", "mean"))


class Forecaster(nn.Module):
    """``forward(grid (B, T, 16)) -> quantiles (B, T, 3, 12, 5), log odds (B, T)``: each step knows its past alone."""

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(config.channels, config.hidden, config.layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, len(QUANTILES) * config.horizons * len(config.carried) + 1)

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Every step's forecast and log odds."""
        steps, _ = self.lstm(grid)
        return self.read(steps, grid)

    def last(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, of the last step alone: (B, 3, 12, 5) and (B,)."""
        steps, _ = self.lstm(grid)
        quantiles, odds = self.read(steps[:, -1:], grid[:, -1:])
        return quantiles[:, 0], odds[:, 0]

    def read(self, steps: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """What the hidden states (B, t, hidden) tell; the middle percentile is a step away from the carried value.

        The outer percentiles lie on their sides of the middle one by construction.
        """
        out = self.head(self.drop(steps)).float()
        vitals = len(self.config.carried)
        shape = (out.shape[0], out.shape[1], len(QUANTILES), self.config.horizons, vitals)
        raw = out[..., :-1].reshape(shape)
        carried = grid[..., list(self.config.carried)].float().unsqueeze(2)  # (B, t, 1, V)
        middle = carried + raw[:, :, 1]
        low = middle - functional.softplus(raw[:, :, 0])
        high = middle + functional.softplus(raw[:, :, 2])
        return torch.stack([low, middle, high], dim=2), out[..., -1]


class Forest(nn.Module):
    """Boosted trees over features (B, F), NaN where missing: log odds (B,)."""

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    root: Tensor

    def __init__(self, trees: Trees) -> None:
        super().__init__()
        assert trees.missing_left is not None
        self.depth = depth_of(trees)
        for name in ("feature", "left", "right", "root"):
            self.register_buffer(name, torch.from_numpy(getattr(trees, name).copy()))
        self.register_buffer("threshold", float32_below(torch.from_numpy(trees.threshold.copy())))
        self.register_buffer("missing_left", torch.from_numpy(trees.missing_left.copy()))
        self.register_buffer("value", torch.from_numpy(trees.value.copy()).float())

    def forward(self, features: Tensor) -> Tensor:
        """Log odds (B,)."""
        node = self.root.unsqueeze(0).expand(features.shape[0], -1)  # (B, trees)
        for _ in range(self.depth):
            asked = torch.gather(features, 1, _at(self.feature, node))
            left = (asked <= _at(self.threshold, node)) | (torch.isnan(asked) & _at(self.missing_left, node))
            node = torch.where(left, _at(self.left, node), _at(self.right, node))
        return _at(self.value, node).sum(dim=1)


def _at(column: Tensor, node: Tensor) -> Tensor:
    """``column[node]``, written so that it exports as one Gather from one stored column."""
    return torch.index_select(column, 0, node.flatten()).reshape(node.shape)


class HypotensionNet(nn.Module):
    """Both, joined: log odds = ``bias`` + ``weights``[0] · LSTM + ``weights``[1] · trees, clipped to ±12."""

    weights: Tensor
    bias: Tensor

    def __init__(self, forecaster: Forecaster, forest: Forest, weights: tuple[float, float], bias: float) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.forest = forest
        self.register_buffer("weights", torch.tensor(weights))
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, grid: Tensor, features: Tensor) -> Tensor:
        """Scores (B, 181)."""
        quantiles, odds = self.forecaster.last(grid)
        joined = self.bias + self.weights[0] * odds + self.weights[1] * self.forest(features)
        return torch.cat([quantiles.flatten(1), joined.clamp(-12.0, 12.0).unsqueeze(1)], dim=1)


def depth_of(trees: Trees) -> int:
    """Most steps from a root to a leaf. Raises ``ValueError`` beyond ``DEPTH_MAX``."""
    node, depth = trees.root, 0
    while True:
        inner = node[trees.left[node] != node]
        if not len(inner):
            return depth
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError(f"trees deeper than {DEPTH_MAX} are not walked here")
        node = torch.cat([torch.from_numpy(trees.left[inner]), torch.from_numpy(trees.right[inner])]).numpy()


def float32_below(threshold: Tensor) -> Tensor:
    """The greatest float32 at or below each float64: x ≤ t then holds for exactly the same float32 x."""
    near = threshold.float()
    over = near.double() > threshold
    return torch.where(over, torch.nextafter(near, torch.full_like(near, -torch.inf)), near)
