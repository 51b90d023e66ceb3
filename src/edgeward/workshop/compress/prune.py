"""Structured pruning: whole channels are taken out, and what is left is a smaller dense network.

torch.fx traces the network. Every channel of every tensor gets an identity; additions make the identities of their two
sides one (a residual connection must lose the same channel on both sides), concatenations line them up, and whatever
cannot be followed is left whole. Channels are ranked within the layers that share them, by the L1 norm of the filters
that write them times the scale of the batch normalisation that follows (Li et al. 2017, arXiv:1608.08710; Liu et al.
2017, arXiv:1708.06519).
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IntArray = npt.NDArray[np.int64]

KEEP_MULTIPLE = 8
"""Kept channels are rounded up to a multiple of this: the width of the kernels' inner loops."""
FRACTION_MAX = 0.9
"""Beyond it so little is left that distilling cannot bring it back."""

_PASS_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Tanh,
    nn.Dropout,
    nn.Dropout1d,
    nn.Identity,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
)
_PASS_FUNCTIONS = frozenset(
    {"relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "dropout", "clamp", "mean", "amax", "max_pool1d"}
    | {"avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "squeeze", "unsqueeze", "contiguous", "leaky_relu"}
)
_JOIN_FUNCTIONS = frozenset({"add", "sub", "mul", "iadd", "imul", "add_", "mul_", "maximum"})


@dataclass(frozen=True, slots=True)
class Pruned:
    """A smaller network and what was taken: layer → (channels before, channels after)."""

    network: nn.Module
    channels: Mapping[str, tuple[int, int]]
    weights_before: int
    weights_after: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values for the evidence."""
        return {
            "weights_before": self.weights_before,
            "weights_after": self.weights_after,
            "channels": {name: list(pair) for name, pair in sorted(self.channels.items())},
        }


@dataclass(slots=True)
class _Channels:
    """Channel identities (union–find) and, per layer, which identities it reads and writes."""

    parent: list[int] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    reads: dict[str, IntArray] = field(default_factory=dict)
    writes: dict[str, IntArray] = field(default_factory=dict)

    def fresh(self, count: int, *, frozen: bool = False) -> IntArray:
        """New identities; ``frozen`` ones are never taken out."""
        start = len(self.parent)
        ids = np.arange(start, start + count, dtype=np.int64)
        self.parent.extend(int(i) for i in ids)
        if frozen:
            self.freeze(ids)
        return ids

    def freeze(self, ids: IntArray | None) -> None:
        """Keep these channels whatever they weigh."""
        if ids is not None:
            self.frozen.update(int(i) for i in ids)

    def root(self, i: int) -> int:
        """The identity that stands for all that were joined with ``i``."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def roots(self, ids: IntArray) -> IntArray:
        """``root`` of each."""
        return np.array([self.root(int(i)) for i in ids], dtype=np.int64)

    def join(self, a: IntArray, b: IntArray) -> IntArray:
        """Make the channels of two tensors one, position by position."""
        if len(a) != len(b):  # a broadcast over channels: leave both whole
            self.freeze(a)
            self.freeze(b)
            return a if len(a) > len(b) else b
        for x, y in zip(a, b, strict=True):
            self.parent[self.root(int(y))] = self.root(int(x))
        return a


def prune(network: nn.Module, example: Sequence[torch.Tensor], fraction: float) -> Pruned:
    """Take out ``fraction`` of the channels of every layer group whose channels can be followed.

    ``example``: one batch of inputs, for the shapes. The network given is left as it is. Raises ``ConfigError`` for a
    fraction outside [0, 0.9] and for a network that torch.fx cannot trace.
    """
    if not 0.0 <= fraction <= FRACTION_MAX:
        raise ConfigError("prune-fraction", f"--prune must lie between 0 and {FRACTION_MAX}")
    smaller = copy.deepcopy(network).eval()
    channels = _follow(smaller, example)
    keep = _choose(smaller, channels, fraction)
    before = _weights(smaller)
    changed: dict[str, tuple[int, int]] = {}
    for name, module in smaller.named_modules():
        if name not in channels.writes and name not in channels.reads:
            continue
        ins = _kept(channels, channels.reads.get(name), keep)
        outs = _kept(channels, channels.writes.get(name), keep)
        if outs is not None and len(outs) < len(channels.writes[name]):
            changed[name] = (len(channels.writes[name]), len(outs))
        _shrink(module, ins, outs)
    return Pruned(smaller, changed, before, _weights(smaller))


def fit_to_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of ``network`` whose layers have the shapes of ``state`` and hold it: how a pruned network is restored.

    Raises ``ConfigError`` when the names differ: the state is another network's.
    """
    fitted = copy.deepcopy(network)
    for name, module in fitted.named_modules():
        weight = state.get(f"{name}.weight")
        if weight is None or not isinstance(module, nn.Conv1d | nn.Linear | nn.BatchNorm1d):
            continue
        outs = np.arange(min(len(weight), len(module.weight)))
        if isinstance(module, nn.BatchNorm1d):
            _shrink(module, None, outs)
        elif isinstance(module, nn.Conv1d) and module.groups > 1:
            _shrink(module, outs, outs)
        else:
            _shrink(module, np.arange(min(weight.shape[1], module.weight.shape[1])), outs)
    try:
        fitted.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ConfigError(
            "weights-foreign", "the weights do not fit this network; train again or name the right model"
        ) from error
    return fitted


def _follow(network: nn.Module, example: Sequence[torch.Tensor]) -> _Channels:
    try:
        traced = fx.symbolic_trace(network)
    except Exception as error:  # tracing may fail with anything the network's code raises
        raise ConfigError(
            "prune-untraceable", "torch.fx cannot trace this network, so its channels cannot be followed; leave --prune"
        ) from error
    ShapeProp(traced).propagate(*example)
    channels = _Channels()
    modules = dict(traced.named_modules())
    ids: dict[fx.Node, IntArray | None] = {}
    seen: set[str] = set()
    for node in traced.graph.nodes:
        given = [ids[source] for source in node.all_input_nodes]
        if node.op == "call_module" and str(node.target) in seen:
            for name in (str(node.target),):  # one layer used twice: leave it whole
                channels.freeze(channels.reads.get(name))
                channels.freeze(channels.writes.get(name))
            ids[node] = _opaque(channels, node, given)
        elif node.op == "call_module":
            seen.add(str(node.target))
            ids[node] = _through_module(channels, node, modules[str(node.target)], given)
        elif node.op in {"call_function", "call_method"}:
            ids[node] = _through_function(channels, node, given, ids)
        else:
            ids[node] = _opaque(channels, node, given)
    return channels


def _width(node: fx.Node) -> int | None:
    """Size of axis 1, the channel axis; None where there is none."""
    shape = _shape(node)
    return shape[1] if len(shape) > 1 else None


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(int(n) for n in getattr(node.meta.get("tensor_meta"), "shape", ()))


def _opaque(channels: _Channels, node: fx.Node, given: Sequence[IntArray | None]) -> IntArray | None:
    for ids in given:
        channels.freeze(ids)
    width = _width(node)
    return None if width is None else channels.fresh(width, frozen=True)


def _through_module(
    channels: _Channels, node: fx.Node, module: nn.Module, given: Sequence[IntArray | None]
) -> IntArray | None:
    name, ids = str(node.target), given[0] if given else None
    if ids is None:
        return _opaque(channels, node, given)
    shape = _shape(node)
    if isinstance(module, nn.Conv1d) and module.groups == module.in_channels == module.out_channels:
        channels.reads[name] = channels.writes[name] = ids
        return ids
    if (isinstance(module, nn.Conv1d) and module.groups == 1) or (isinstance(module, nn.Linear) and len(shape) == 2):
        channels.reads[name] = ids
        channels.writes[name] = channels.fresh(len(module.weight))
        return channels.writes[name]
    if isinstance(module, nn.BatchNorm1d):
        channels.writes[name] = ids
        return ids
    if isinstance(module, nn.Flatten) and module.start_dim == 1 and len(shape) == 2:
        return np.repeat(ids, shape[1] // len(ids))
    if isinstance(module, _PASS_MODULES) and _width(node) == len(ids):
        return ids
    return _opaque(channels, node, given)


def _through_function(
    channels: _Channels, node: fx.Node, given: Sequence[IntArray | None], ids: Mapping[fx.Node, IntArray | None]
) -> IntArray | None:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    tensors = [item for item in given if item is not None]
    if node.target is operator.getitem or not tensors or len(tensors) != len(given):
        return _opaque(channels, node, given)
    if name in {"cat", "concat"}:
        arguments = list(node.args)
        parts, axis = arguments[0], node.kwargs.get("dim", arguments[1] if len(arguments) > 1 else 0)
        ndim = len(_shape(node))
        if isinstance(parts, list | tuple) and axis in {1, 1 - ndim}:
            pieces = [ids[part] for part in parts if isinstance(part, fx.Node)]
            if all(piece is not None for piece in pieces):
                return np.concatenate([piece for piece in pieces if piece is not None])
        return _opaque(channels, node, given)
    if name in _JOIN_FUNCTIONS:
        result = tensors[0]
        for other in tensors[1:]:
            result = channels.join(result, other)
        return result if _width(node) == len(result) else _opaque(channels, node, given)
    if name == "flatten" and (node.args[1:2] or (node.kwargs.get("start_dim", 0),)) == (1,):
        width = _width(node) or 0
        return np.repeat(tensors[0], width // len(tensors[0]))
    if name in _PASS_FUNCTIONS and _width(node) == len(tensors[0]):
        return tensors[0]
    return _opaque(channels, node, given)


def _choose(network: nn.Module, channels: _Channels, fraction: float) -> set[int]:
    """Roots of the channels that stay."""
    modules = dict(network.named_modules())
    frozen = {channels.root(i) for i in channels.frozen}
    norm: dict[int, float] = defaultdict(float)
    scale: dict[int, list[float]] = defaultdict(list)
    writers: dict[int, set[str]] = defaultdict(set)
    for name, ids in channels.writes.items():
        module = modules[name]
        weight = module.weight.detach().numpy()
        for position, root in enumerate(channels.roots(ids)):
            if isinstance(module, nn.BatchNorm1d):
                scale[int(root)].append(abs(float(weight[position])))
            else:
                norm[int(root)] += float(np.abs(weight[position]).mean())
                writers[int(root)].add(name)
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for root, names in writers.items():
        if root not in frozen:
            groups[frozenset(names)].append(root)
    drop: set[int] = set()
    for group in groups.values():
        wanted = len(group) - int(fraction * len(group))
        kept = min(len(group), -(-wanted // KEEP_MULTIPLE) * KEEP_MULTIPLE if len(group) > KEEP_MULTIPLE else wanted)
        ranked = sorted(group, key=lambda root: (norm[root] * float(np.mean(scale[root] or [1.0])), root))
        drop.update(ranked[: len(group) - max(kept, 1)])
    return {channels.root(i) for i in range(len(channels.parent))} - drop


def _kept(channels: _Channels, ids: IntArray | None, keep: set[int]) -> IntArray | None:
    if ids is None:
        return None
    return np.array([i for i, root in enumerate(channels.roots(ids)) if int(root) in keep], dtype=np.int64)


def _shrink(module: nn.Module, ins: IntArray | None, outs: IntArray | None) -> None:
    """Keep the inputs ``ins`` and outputs ``outs`` of one layer."""
    if isinstance(module, nn.BatchNorm1d):
        assert outs is not None
        for name in ("weight", "bias"):
            _cut_parameter(module, name, outs, 0)
        for name in ("running_mean", "running_var"):
            buffer = getattr(module, name)
            if buffer is not None:
                setattr(module, name, buffer[outs].clone())
        module.num_features = len(outs)
        return
    if not isinstance(module, nn.Conv1d | nn.Linear):
        return
    depthwise = isinstance(module, nn.Conv1d) and module.groups > 1
    if outs is not None:
        _cut_parameter(module, "weight", outs, 0)
        _cut_parameter(module, "bias", outs, 0)
    if ins is not None and not depthwise:
        _cut_parameter(module, "weight", ins, 1)
    count_out, count_in = len(module.weight), module.weight.shape[1]
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = count_out, count_in
    else:
        module.out_channels, module.in_channels = count_out, count_out if depthwise else count_in
        module.groups = count_out if depthwise else 1


def _cut_parameter(module: nn.Module, name: str, keep: IntArray, axis: int) -> None:
    old = getattr(module, name, None)
    if isinstance(old, nn.Parameter):
        index = torch.from_numpy(np.ascontiguousarray(keep))
        setattr(module, name, nn.Parameter(old.detach().index_select(axis, index).clone()))


def _weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())
