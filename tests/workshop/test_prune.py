# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
"""Structured pruning: whole channels go, the function of what stays is the same."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from torch import nn
from toy_task import FEATURES, SAMPLES, ToyNet, toy_network, toy_windows

from edgeward.kernel.errors import ConfigError
from edgeward.workshop.compress.distil import distil
from edgeward.workshop.compress.prune import fit_to_state, prune

pytestmark = pytest.mark.workshop
EXAMPLE = (torch.zeros(2, 2, SAMPLES), torch.zeros(2, FEATURES))


def _inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 2, SAMPLES, generator=generator), torch.randn(9, FEATURES, generator=generator)


def _silence(network: ToyNet, channels: list[int]) -> None:
    """Make channels of the residual stage give exactly zero."""
    for conv, norm in ((network.stem[0], network.stem[1]), (network.conv, network.norm)):
        conv.weight.data[channels] = 0.0
        for values in (norm.bias.data, norm.running_mean, norm.weight.data):
            values[channels] = 0.0


def test_channels_that_give_zero_are_taken_and_nothing_changes() -> None:
    """With half the residual stage silent, pruning half of it leaves the outputs as they were."""
    network = toy_network()
    _silence(network, [0, 3, 4, 7, 9, 10, 12, 15])
    pruned = prune(network, EXAMPLE, 0.0).network
    assert sum(p.numel() for p in pruned.parameters()) == sum(p.numel() for p in network.parameters())
    smaller = prune(network, EXAMPLE, 0.5)
    assert smaller.channels["conv"] == (16, 8)
    only_stage = toy_network()
    _silence(only_stage, [0, 3, 4, 7, 9, 10, 12, 15])
    with torch.no_grad():
        stage = torch.relu(only_stage.stem(_inputs()[0]))
        kept = [1, 2, 5, 6, 8, 11, 13, 14]
        assert torch.equal(smaller.network.stem(_inputs()[0]), stage[:, kept])


def test_zero_channels_of_every_layer_leave_the_scores_alone() -> None:
    """When the silent channels are all that is taken, the scores of the whole network do not change."""
    network = toy_network()
    _silence(network, [0, 3, 4, 7, 9, 10, 12, 15])
    for layer in (network.out[0], network.rhythm[0]):
        half = len(layer.weight) // 2
        layer.weight.data[:half] = 0.0
        layer.bias.data[:half] = 0.0
    # The rhythm layer has 8 units and keeps a multiple of 8 only above 8: 4 of 8 go.
    smaller = prune(network, EXAMPLE, 0.5)
    assert smaller.channels == {
        "stem.0": (16, 8), "stem.1": (16, 8), "conv": (16, 8), "norm": (16, 8), "out.0": (16, 8), "rhythm.0": (8, 4)
    }  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(smaller.network(*_inputs()), network(*_inputs()), rtol=0, atol=1e-6)


def test_the_smaller_network_is_dense_and_the_given_one_untouched() -> None:
    """Weights really shrink, inputs and outputs keep their size, the original keeps its weights."""
    network = toy_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pruned = prune(network, EXAMPLE, 0.5)
    assert pruned.network.stem[0].weight.shape == (8, 2, 5)
    assert pruned.network.conv.weight.shape == (8, 8, 3)
    assert pruned.network.out[0].weight.shape == (8, 8 * SAMPLES // 2)
    assert pruned.network.head.weight.shape == (5, 12)
    assert pruned.weights_after < 0.5 * pruned.weights_before
    assert pruned.network(*_inputs()).shape == (9, 5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_pruned_network_is_restored_from_its_weights() -> None:
    """``fit_to_state`` gives the pruned network back from the shapes of its weights."""
    pruned = prune(toy_network(), EXAMPLE, 0.3).network
    restored = fit_to_state(ToyNet(), pruned.state_dict()).eval()
    with torch.no_grad():
        assert torch.equal(restored(*_inputs()), pruned(*_inputs()))


def test_foreign_weights_are_refused() -> None:
    """Weights of another network are the operator's error."""
    with pytest.raises(ConfigError) as caught:
        fit_to_state(ToyNet(), nn.Linear(3, 4).state_dict())
    assert caught.value.code == "weights-foreign"
    with pytest.raises(ConfigError):
        fit_to_state(ToyNet(), toy_network(width=32).state_dict())


class _Grouped(nn.Module):
    """Depthwise, grouped and twice-used convolutions, a pooled concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 16, 3, padding=1)
        self.depth = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.side = nn.Conv1d(2, 16, 3, padding=1)
        self.shared = nn.Conv1d(32, 32, 1)
        self.out = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([torch.relu(self.depth(torch.relu(self.first(x)))), torch.relu(self.side(x))], 1)
        x = torch.relu(self.shared(torch.relu(self.shared(x))))
        return self.out(x.mean(-1))


def test_depthwise_concatenation_and_shared_layers_are_followed() -> None:
    """A depthwise layer shrinks with its input; a layer used twice stays whole, and so do those that feed it."""
    torch.manual_seed(0)
    network = _Grouped().eval()
    pruned = prune(network, (torch.zeros(2, 2, 12),), 0.5)
    assert pruned.channels == {}
    assert pruned.network(torch.zeros(3, 2, 12)).shape == (3, 5)

    class Single(_Grouped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.cat([torch.relu(self.depth(torch.relu(self.first(x)))), torch.relu(self.side(x))], 1)
            return self.out(torch.relu(self.shared(x)).mean(-1))

    single = prune(Single().eval(), (torch.zeros(2, 2, 12),), 0.5)
    assert single.network.depth.weight.shape == (8, 1, 3)
    assert single.network.depth.groups == 8
    assert single.network.shared.weight.shape == (16, 16, 1)
    assert single.network(torch.zeros(3, 2, 12)).shape == (3, 5)


@pytest.mark.parametrize("fraction", [-0.1, 0.95, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    """Less than nothing, or nearly everything, is the operator's error."""
    with pytest.raises(ConfigError, match="--prune"):
        prune(toy_network(), EXAMPLE, fraction)


def test_distilling_brings_a_pruned_network_back() -> None:
    """After distilling, the pruned network's scores lie nearer to the whole network's than before."""
    whole, windows = toy_network(), toy_windows()
    student = prune(whole, EXAMPLE, 0.5).network
    inputs = [torch.from_numpy(array) for array in windows.floats().values()]

    def divergence() -> float:
        with torch.no_grad():
            wanted = torch.softmax(whole(*inputs), dim=1)
            return float(nn.functional.kl_div(torch.log_softmax(student(*inputs), 1), wanted, reduction="batchmean"))

    before = divergence()
    distil(student, whole, windows, steps=40)
    assert not student.training
    assert divergence() < 0.5 * before
