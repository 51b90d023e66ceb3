"""A tiny task for the line's tests: two classes that the height of a bump tells apart, trained in a second."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edgeward.bundle.manifest import TensorSpec
from edgeward.kernel.errors import ConfigError
from edgeward.workshop.compress.prune import fit_to_state
from edgeward.workshop.task import Source, Trained, TrainingData, TrainOptions
from edgeward.workshop.windows import LabelledWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgeward.workshop.scorer import FloatArray

SAMPLES = 40
FEATURES = 3
PATIENTS = tuple("abcdef")


class ToyNet(nn.Module):
    """Convolutions with a residual connection, flattened, beside a rhythm branch: the shape of the real network."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(2, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.conv = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Sequential(nn.Linear(width * SAMPLES // 2, 16), nn.ReLU())
        self.rhythm = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU())
        self.head = nn.Linear(24, 5)

    def forward(self, wave: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        x = self.stem(wave)
        x = torch.relu(x + self.norm(self.conv(x)))
        return self.head(torch.cat([self.out(x.flatten(1)), self.rhythm(rhythm)], dim=1))


def toy_network(seed: int = 0, width: int = 16) -> ToyNet:
    """A network with statistics of batch normalisation that are not trivial."""
    torch.manual_seed(seed)
    network = ToyNet(width)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)
    return network.eval()


def toy_windows(count: int = 240, seed: int = 0) -> LabelledWindows:
    """Windows of six patients; class N or V by the sign of a bump, S by the first rhythm feature."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2], count).astype(np.int64)
    wave = 0.1 * rng.standard_normal((count, 2, SAMPLES))
    rhythm = 0.1 * rng.standard_normal((count, FEATURES))
    wave[:, :, 15:25] += np.where(labels == 2, -1.0, 1.0)[:, None, None]
    rhythm[:, 0] += np.where(labels == 1, 1.0, -1.0)
    patients = np.array(PATIENTS)[np.arange(count) % len(PATIENTS)]
    inputs = {"wave": wave.astype(np.float32), "rhythm": rhythm.astype(np.float32)}
    return LabelledWindows(inputs, labels, patients)


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, wave: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(wave, rhythm), dim=1)


MADE_UP = Source("Made-up windows", "CC0-1.0", "nobody", "https://example.org/")


class ToyTask:
    """``ModelTask`` of the toy network."""

    name = "ecg-beat"
    task = "ecg-beat-aami"
    classes = ("N", "S", "V", "F", "Q")
    spared = MappingProxyType({"V": ("F", "Q"), "S": ("Q",)})
    f1_drop_max = MappingProxyType({"V": 0.5, "S": 1.0})
    inputs = (TensorSpec("wave", (-1, 2, SAMPLES)), TensorSpec("rhythm", (-1, FEATURES)))
    outputs = (TensorSpec("scores", (-1, 5)),)
    fp32_inputs = ("rhythm",)
    feature_input = "rhythm"
    feature_names = ("one", "two", "three")
    preprocessing = "beat-window-2"
    preprocessing_params = MappingProxyType({})
    deadline_ms = 1000.0
    intended_use = "Tests."
    limits = ("It knows nothing.",)
    baseline = "None."

    def __init__(self) -> None:
        self.prepared = 0
        self.trained = 0

    def prepare(self, options: TrainOptions, cache: Path) -> TrainingData:
        self.prepared += 1
        if not options.data.is_dir():
            raise ConfigError("data-missing", "no such folder")
        whole = toy_windows()
        held = () if options.fold is None else (PATIENTS[options.fold[0] - 1],)
        training = whole.of_patients(set(PATIENTS) - set(held))
        return TrainingData(training, whole.of_patients(held), held, whole.sha256(), whole, (MADE_UP,))

    def train(
        self, data: TrainingData, options: TrainOptions, on_epoch: Callable[[int, Mapping[str, float]], None]
    ) -> Trained:
        self.trained += 1
        network = toy_network(options.seed or 0).train()
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        inputs = [torch.from_numpy(array) for array in data.training.floats().values()]
        labels = torch.from_numpy(data.training.labels)
        for number in range(options.epochs or 30):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(network(*inputs), labels)
            loss.backward()
            optimiser.step()
            on_epoch(number + 1, {"loss": loss.item()})
        return Trained(network.eval(), {"settings": {"epochs": options.epochs}})

    def save(self, network: nn.Module, path: Path) -> None:
        torch.save(network.state_dict(), path)

    def load(self, path: Path) -> nn.Module:
        return fit_to_state(ToyNet(), torch.load(path, weights_only=True)).eval()

    def deployed(self, network: nn.Module) -> nn.Module:
        return _Probabilities(network).eval()

    def decision(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        return {"log_offsets": list(figures.get("log_offsets", [0.0] * 5))}

    def synthetic(self, count: int, seed: int) -> dict[str, FloatArray]:
        return toy_windows(count, seed + 100).floats()
