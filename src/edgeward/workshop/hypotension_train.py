"""Training of the hypotension models: the LSTM forecaster, the boosted trees, and how both are joined.

Nothing here looks at held-out patients; joining uses scores on patients that the parts have not seen.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from edgeward.signal.vitals_features import FEATURES
from edgeward.workshop.hypotension_data import HORIZONS
from edgeward.workshop.hypotension_points import Outcome
from edgeward.workshop.models.hypotension import QUANTILES, Forecaster, ForecasterConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.workshop.hypotension_data import Examples, Stretches

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ForecasterTraining:
    """What was used for the shipped weights; chosen by patient-wise cross-validation on set a of CinC 2012."""

    seed: int = 7
    epochs: int = 6
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: float = 0.1
    event_share: float = 0.5
    """Weight of the event's loss beside the forecast's."""
    skipped: int = 12
    """First steps of a stretch that are not learned at: a stretch before covers them with more past."""
    vital_dropout: float = 0.08
    """Share of stretches × vitals that are taken for never measured."""
    average: float = 0.99
    bfloat16: bool = True
    """Matrix products in bfloat16 while training: three times faster where the processor has them."""
    network: ForecasterConfig = field(default_factory=ForecasterConfig)


@dataclass(frozen=True, slots=True)
class TreesTraining:
    """LightGBM's settings, chosen as above."""

    seeds: tuple[int, ...] = (1, 2)
    rounds: int = 250
    learning_rate: float = 0.03
    leaves: int = 16
    leaf_rows: int = 60
    feature_share: float = 0.3
    row_share: float = 0.7
    ridge: float = 10.0


def fit_forecaster(
    stretches: Stretches, config: ForecasterTraining, on_epoch: Callable[[int, dict[str, float]], None]
) -> Forecaster:
    """Train on all of ``stretches``; the weights returned are a running average. Same seed, same weights."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = Forecaster(config.network)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )
    halves = np.arange(len(stretches)) % 2  # every other stretch each epoch: neighbours tell much the same
    per_epoch = max(1, math.ceil(int((halves == 0).sum()) / config.batch))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, config.epochs * per_epoch, config.warm_up)
    )
    for epoch in range(config.epochs):
        network.train()
        order = rng.permutation(np.flatnonzero(halves == epoch % 2))
        told = {"forecast": 0.0, "event": 0.0}
        for start in range(0, per_epoch * config.batch, config.batch):
            chosen = np.sort(order[start : start + config.batch])
            if not len(chosen):
                continue
            forecast, event = _losses(network, stretches.take(chosen), config, rng)
            optimiser.zero_grad(set_to_none=True)
            (forecast + config.event_share * event).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for mean, now in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - config.average)
            told["forecast"] += float(forecast.detach()) / per_epoch
            told["event"] += float(event.detach()) / per_epoch
        on_epoch(epoch + 1, told)
    return average


def _rate(step: int, steps: int, warm_up: float) -> float:
    share = step / max(1, steps)
    return share / warm_up if share < warm_up else 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def _losses(
    network: Forecaster, batch: Stretches, config: ForecasterTraining, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    grid = batch.grid.astype(np.float32)
    for channel in (*range(0, 12, 2), 14):  # a vital and its freshness
        grid[rng.random(len(grid)) < config.vital_dropout, :, channel : channel + 2] = 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        quantiles, odds = network(torch.from_numpy(grid))
    seen = torch.from_numpy(batch.seen.astype(np.float32))
    ahead = seen.unfold(1, HORIZONS, 1)[:, 1:].transpose(2, 3)  # (B, 60, 12, 5): cells after each step
    first = config.skipped
    forecast = pinball(quantiles[:, first:], ahead[:, first:])
    low = torch.from_numpy(batch.low.astype(np.float32))[:, first:]
    weight = torch.from_numpy(batch.weight.astype(np.float32))[:, first:]
    asked = torch.isfinite(low)
    each = functional.binary_cross_entropy_with_logits(odds[:, first:][asked], low[asked], reduction="none")
    event = (each * weight[asked]).sum() / weight[asked].sum().clamp(min=1.0)
    return forecast, event


def pinball(quantiles: Tensor, ahead: Tensor) -> Tensor:
    """Mean pinball loss of ``quantiles`` (B, T, 3, H, V) over what was measured of ``ahead`` (B, T, H, V).

    Each vital counts alike, however often it is measured (Koenker & Bassett 1978).
    """
    there = torch.isfinite(ahead).unsqueeze(2)  # (B, T, 1, H, V)
    off = torch.where(there, torch.nan_to_num(ahead).unsqueeze(2) - quantiles, torch.zeros(()))
    levels = torch.tensor(QUANTILES).view(1, 1, -1, 1, 1)
    loss = torch.maximum(levels * off, (levels - 1.0) * off)
    count = there.sum(dim=(0, 1, 2, 3))
    per_vital = loss.sum(dim=(0, 1, 2, 3)) / (len(QUANTILES) * count.clamp(min=1))
    return per_vital.sum() / (count > 0).sum().clamp(min=1)


def forecast(network: Forecaster, grid: npt.NDArray[np.floating], *, batch: int = 512) -> tuple[Any, FloatArray]:
    """Quantiles (N, 3, 12, 5) in standard units and log odds (N,) at the last step of each grid (N, 60, 16)."""
    network.eval()
    parts, odds = [], []
    with torch.no_grad():
        for start in range(0, len(grid), batch):
            one, two = network.last(torch.from_numpy(grid[start : start + batch].astype(np.float32)))
            parts.append(one.numpy())
            odds.append(two.double().numpy())
    return np.concatenate(parts), np.concatenate(odds)


def fit_trees(examples: Examples, config: TreesTraining, *, rows: npt.NDArray[Any] | None = None) -> list[Any]:
    """LightGBM boosters, one per seed, on the readings at which the event is learned (``rows``: only of these)."""
    import lightgbm

    chosen = np.isfinite(examples.low) if rows is None else np.isfinite(examples.low) & rows
    data = examples.features[chosen]
    made = []
    for seed in config.seeds:
        settings = {
            "objective": "cross_entropy",
            "learning_rate": config.learning_rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.leaf_rows,
            "feature_fraction": config.feature_share,
            "bagging_fraction": config.row_share,
            "bagging_freq": 1,
            "lambda_l2": config.ridge,
            "seed": seed,
            "num_threads": 1,
            "deterministic": True,
            "verbose": -1,
        }
        table = lightgbm.Dataset(
            data, examples.low[chosen], weight=examples.weight[chosen], feature_name=list(FEATURES)
        )
        made.append(lightgbm.train(settings, table, config.rounds))
    return made


def trees_odds(boosters: Sequence[Any], features: npt.NDArray[np.float32]) -> FloatArray:
    """Mean log odds (N,) of the boosters."""
    odds: FloatArray = np.mean([booster.predict(features, raw_score=True) for booster in boosters], axis=0)
    return odds


@dataclass(frozen=True, slots=True)
class Joined:
    """Log odds = ``bias`` + Σ ``weights`` · parts: calibrated to the task's own outcomes."""

    weights: tuple[float, ...]
    bias: float

    def odds(self, parts: FloatArray) -> FloatArray:
        """Log odds (N,) of parts (N, k)."""
        joined: FloatArray = self.bias + parts @ np.array(self.weights)
        return joined


def join(parts: FloatArray, outcome: npt.NDArray[np.int64], *, ridge: float = 1.0) -> Joined:
    """Logistic regression of an episode ahead (or not) on the parts' log odds (N, k), weights not negative.

    Fit where the outcome is known and not too soon; ``ridge`` draws the weights to an equal share of one. With a single
    part this is Platt's calibration (Platt 1999).
    """
    from scipy.optimize import minimize

    known = (outcome == Outcome.NONE) | (outcome == Outcome.AHEAD)
    x, y = parts[known], (outcome[known] == Outcome.AHEAD).astype(np.float64)
    share = 1.0 / parts.shape[1]

    def loss(figures: FloatArray) -> float:
        odds = figures[0] + x @ figures[1:]
        return float(np.logaddexp(0.0, odds).sum() - (y * odds).sum() + ridge * ((figures[1:] - share) ** 2).sum())

    start = np.full(parts.shape[1] + 1, share)
    bounds = [(-20.0, 20.0), *[(0.0, 4.0)] * parts.shape[1]]
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    return Joined(tuple(float(w) for w in found[1:]), float(found[0]))
