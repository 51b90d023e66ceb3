"""Sizes of deltas beside other tools', and what applying one costs a device.

python bench/delta.py [--networks ecg-beat resnet-18] [--without bsdiff4 …] [--limit 300]   the table
python bench/delta.py --coders                                  residuals alone, by every coder at hand

Needs the extras dev (bsdiff4, hdiffpatch, backports.zstd) and workshop (torch, onnx); says which tool is not there.
Every tool makes each delta in a process of its own, which is ended after ``--limit`` processor seconds; the
table then says so.
``delta_why.py`` tells why sizes are what they are, ``delta_memory.py`` what applying costs, ``delta_hostile.py`` the
same of deltas that mean harm.
The networks are fine-tuned for 100 steps of Adam at each rate. ``ecg-beat`` is the shipped bundle: its FP32 weights
take Adam's steps under gradients that are mostly noise, as they are near an optimum; its INT8 weights are quantised
anew from these. ``resnet-18`` has 11.2 million weights, is trained by PyTorch on made-up images, and has its batch
statistics frozen; INT8 is per channel with scales kept (``int8``) or taken anew (``int8 rescaled``). Hashes and
versions change as well.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import copy
import dataclasses
import io
import lzma
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import edgeward
from delta_memory import high_water_kib, packed
from edgeward.bundle.archive import Bundle, hash_members, read_bundle, write_bundle
from edgeward.bundle.delta.diff import _run, make_delta
from edgeward.bundle.delta.patch import apply_delta
from edgeward.bundle.delta.residual import FP32, INT8, KINDS, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHIPPED = Path(edgeward.__file__).parent / "bundle" / "shipped" / "ecg-beat.ewb"
RATES = (1e-6, 1e-5, 1e-4)
STEPS = 100
NOISE = 10.0
"""Standard deviation of a gradient's noise over its mean near an optimum."""


def adam(weights: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """``weights`` after ``STEPS`` of Adam under gradients of a fixed mean and ``NOISE`` times as much noise."""
    mean = rng.standard_normal(weights.shape)
    first, second, moved = np.zeros(weights.shape), np.zeros(weights.shape), weights.astype(np.float64)
    for step in range(1, STEPS + 1):
        gradient = mean + NOISE * rng.standard_normal(weights.shape)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        moved -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return moved.astype(np.float32)


def repacked(bundle: Bundle, members: dict[str, bytes]) -> bytes:
    return write_bundle(dataclasses.replace(bundle.manifest, version="1.0.1", hashes=hash_members(members)), members)


def ecg_beat() -> Iterator[tuple[str, bytes, bytes]]:
    """What changed, old bundle, new bundle."""
    from onnx import load_model_from_string, numpy_helper

    old = SHIPPED.read_bytes()
    bundle = read_bundle(old)

    def tuned(rate: float, chosen: Callable[[str], bool]) -> bytes:
        rng = np.random.default_rng(1)
        members, moved = dict(bundle.members), {}
        for member in ("models/fp32.onnx", "models/int8.onnx"):
            model = load_model_from_string(members[member])
            known = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
            for each in model.graph.initializer:
                name = each.name.removesuffix("_quantized")
                if not chosen(name) or not each.raw_data:
                    continue
                if each.data_type == 1 and each.name.endswith((".weight", ".bias", "_bias")):
                    if name not in moved:
                        moved[name] = adam(known[name], rate, rng)
                    each.raw_data = moved[name].tobytes()
                elif name in moved and each.data_type == 3:
                    scale = known[f"{name}_scale"].reshape(-1, *[1] * (moved[name].ndim - 1))
                    each.raw_data = np.clip(np.rint(moved[name] / scale), -127, 127).astype(np.int8).tobytes()
            members[member] = model.SerializeToString()
        assert moved, "no tensor of the shipped bundle has such a name"
        return repacked(bundle, members)

    for rate in RATES:
        yield f"ecg-beat {rate:g}", old, tuned(rate, lambda _: True)
    yield "ecg-beat last layer", old, tuned(1e-4, lambda name: ".joint.3." in name)


def layer() -> Iterator[tuple[str, bytes, bytes]]:
    """A quarter of ResNet-18's last convolution, 128 × 512 × 3 × 3, as initialised, moved as ``ecg-beat`` is."""
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(0, np.sqrt(2 / (512 * 9)), (128, 512, 3, 3)).astype(np.float32)}
    scales = quantised(base, {})
    for rate in RATES:
        moved = {"w": adam(base["w"], rate, rng)}
        for label, old, new in (("fp32", base, moved), ("int8", scales, quantised(moved, scales))):
            yield f"layer {label} {rate:g}", packed("1.0.0", old), packed("1.0.1", new)


def resnet_18() -> Any:
    """He et al., "Deep residual learning", 2016, with 10 classes; initialised and laid out as torchvision's."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(after)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(after)
            same = stride == 1 and before == after
            self.down = (
                nn.Identity()
                if same
                else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.down(x))

    widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
    blocks = [Block(widths[index], widths[index + 1], 2 if index in {2, 4, 6} else 1) for index in range(8)]
    network = nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def train(network: Any, rate: float, steps: int, seed: int) -> None:
    """Adam on made-up images: ten gratings under noise."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    adam_ = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], rate)
    place = torch.arange(64) / 64
    for _ in range(steps):
        label = torch.randint(0, 10, (8,), generator=rng)
        angle = label * torch.pi / 10
        grid = place[None, :, None] * angle.cos()[:, None, None] + place[None, None] * angle.sin()[:, None, None]
        image = torch.sin(40 * grid + 6.28 * torch.rand(8, 1, 1, generator=rng))[:, None]
        image = image.expand(-1, 3, -1, -1) + torch.randn(8, 3, 64, 64, generator=rng)
        loss = torch.nn.functional.cross_entropy(network(image), label)
        adam_.zero_grad()
        loss.backward()
        adam_.step()


def trained() -> dict[str, dict[str, np.ndarray]]:
    """ResNet-18's tensors by name: as trained (``base``), tuned from there at each rate, and its last layer alone."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    base = resnet_18()
    train(base, 1e-3, STEPS, 1)
    base.eval()  # batch statistics stay
    tuned = {f"{rate:g}": copy.deepcopy(base) for rate in RATES}
    for rate, network in zip(RATES, tuned.values(), strict=True):
        train(network, rate, STEPS, 2)
    tuned["last layer"] = copy.deepcopy(base)
    tuned["last layer"].requires_grad_(False)[-1].requires_grad_(True)
    train(tuned["last layer"], 1e-4, STEPS, 2)
    return {name: arrays(network) for name, network in {"base": base, **tuned}.items()}


def networks() -> Iterator[tuple[str, bytes, bytes]]:
    """ResNet-18 as FP32 and as INT8: what changed, old bundle, new bundle."""
    weights = trained()
    base, *tuned = weights
    scales = quantised(weights[base], {})
    for label, form in (
        ("int8", lambda given: quantised(given, scales)),
        ("int8 rescaled", lambda given: quantised(given, {})),
        ("fp32", lambda given: given),
    ):
        old = packed("1.0.0", form(weights[base]))
        for name in tuned:
            yield f"resnet-18 {label} {name}", old, packed("1.0.1", form(weights[name]))


def arrays(network: Any) -> dict[str, np.ndarray]:
    return {
        name: each.numpy()
        for name, each in network.state_dict().items()
        if each.is_floating_point() and each.numel() > 1
    }


def quantised(weights: dict[str, np.ndarray], scales: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Symmetric INT8 of every convolution and matrix per output channel; a scale of ``scales`` is kept."""
    made: dict[str, np.ndarray] = {}
    for name, each in weights.items():
        if each.ndim < 2:
            made[name] = each
            continue
        rows = each.reshape(len(each), -1)
        scale = scales.get(f"{name}_scale", (np.abs(rows).max(1) / 127).astype(np.float32))
        made[f"{name}_scale"] = scale
        made[name] = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8).reshape(each.shape)
    return made


def tools() -> dict[str, Callable[[bytes, bytes], bytes]]:
    """Name → what it makes of (old, new). A tool that is not there is left out, and said to be."""
    made: dict[str, Callable[[bytes, bytes], bytes]] = {
        "edgeward": make_delta,
        "full lzma -6": lambda _, new: lzma.compress(new, preset=6),
    }
    try:
        from backports import zstd

        made["full zstd -19"] = lambda _, new: zstd.compress(new, 19)
        made["zstd --patch-from"] = lambda old, new: patch_from(zstd, old, new)
    except ImportError:
        print("not available: backports.zstd", file=sys.stderr)
    try:
        import hdiffpatch

        made["hdiffpatch+zstd"] = lambda old, new: hdiffpatch.diff(old, new, compression="zstd")
    except ImportError:
        print("not available: hdiffpatch", file=sys.stderr)
    try:
        import bsdiff4

        made["bsdiff4"] = bsdiff4.diff
    except ImportError:
        print("not available: bsdiff4", file=sys.stderr)
    return made


def patch_from(zstd: Any, old: bytes, new: bytes) -> bytes:
    window = max(len(old) + len(new), 1024).bit_length()
    parameter = zstd.CompressionParameter
    options = {
        parameter.compression_level: 19,
        parameter.window_log: min(window, 30),
        parameter.enable_long_distance_matching: 1,
    }
    return bytes(zstd.compress(new, options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix))


@dataclasses.dataclass(frozen=True)
class Made:
    """What a tool made: bytes, seconds of a processor, MB of memory over the interpreter with both files."""

    size: int
    seconds: float
    megabytes: float


def make_with(tool: str, files: list[Path], limit: int) -> Made | None:
    """``tool`` makes ``files`` (old, new, out) in a process of its own; ``None`` when ``limit`` seconds do not do."""
    command = [sys.executable, __file__, "--limit", str(limit), "--make", tool, *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == -signal.SIGXCPU:
        return None
    done.check_returncode()
    size, seconds, megabytes = done.stdout.split()
    return Made(int(size), float(seconds), float(megabytes))


def make_here(tool: str, old_path: str, new_path: str, out_path: str, limit: int) -> None:
    make, old, new = tools()[tool], Path(old_path).read_bytes(), Path(new_path).read_bytes()
    before, begun = high_water_kib(anew=True), time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + limit, -1))
    out = make(old, new)
    print(len(out), time.process_time() - begun, (high_water_kib() - before) / 1024)
    Path(out_path).write_bytes(out)


def table(names: list[str], parts: list[str], without: list[str], limit: int) -> None:
    """Print size ÷ size of the new bundle for every tool, as the rows are made; then what each tool needed at most."""
    used = [name for name in tools() if name not in without]
    print(f"| {'delta ÷ new bundle':34} | MB | {' | '.join(used)} | edgeward ÷ full packed | make s | apply s |")
    print("|---" * (len(used) + 5) + "|", flush=True)
    rows = {"ecg-beat": ecg_beat, "layer": layer, "resnet-18": networks}
    needed: dict[str, list[Made | None]] = {tool: [] for tool in used}
    with tempfile.TemporaryDirectory() as scratch:
        old_path, new_path = Path(scratch, "old"), Path(scratch, "new")
        for name in names:
            for label, old, new in rows[name]():
                if parts and not any(part in label for part in parts):
                    continue
                old_path.write_bytes(old)
                new_path.write_bytes(new)
                made = {tool: make_with(tool, [old_path, new_path, Path(scratch, tool)], limit) for tool in used}
                for tool, each in made.items():
                    needed[tool].append(each)
                begun, out = time.perf_counter(), io.BytesIO()
                apply_delta(io.BytesIO(old), io.BytesIO(Path(scratch, "edgeward").read_bytes()), out)
                taken = time.perf_counter() - begun
                assert out.getvalue() == new
                print(f"| {label:34} | {row(made, len(new), limit)} | {taken:.2f} |", flush=True)
    for tool, all_made in needed.items():
        ended = [each for each in all_made if each]
        print(
            f"{tool}: {len(ended)} of {len(all_made)} within {limit} s; of these at most "
            f"{max((each.seconds for each in ended), default=0):.1f} s and "
            f"{max((each.megabytes for each in ended), default=0):.0f} MB"
        )


def row(made: dict[str, Made | None], size: int, limit: int) -> str:
    cells = [f"{each.size / size:.5f}" if each else f"over {limit} s" for each in made.values()]
    own, full = made["edgeward"], [each.size for tool, each in made.items() if each and tool.startswith("full")]
    assert own, "our own delta did not end in time"
    ratio = f"{own.size / min(full):.5f}" if full else ""
    return f"{size / 1e6:.1f} | {' | '.join(cells)} | {ratio} | {own.seconds:.1f}"


def coders() -> None:
    """Residuals of 4 million normal weights moved by 3e-5, by element kind and coder: size ÷ size of the weights."""
    rng = np.random.default_rng(0)
    old = rng.normal(0, 0.02, 1 << 22).astype(np.float32)
    new = (old + rng.normal(0, 3e-5, old.shape)).astype(np.float32)
    for label, kind, step in (("FP32", KINDS[FP32], 0.0), ("INT8", KINDS[INT8], 6e-4)):
        pair = [np.rint(each / step).clip(-127, 127).astype(np.int8) if step else each for each in (old, new)]
        bits = [each.view(kind.dtype) for each in pair]
        _, folded = split(kind, *bits)
        planes = folded.astype(kind.dtype).view(np.uint8).reshape(-1, kind.width).T.tobytes()
        run, _ = _run(kind, len(folded), iter([(bits[0], bits[1])]))
        sizes = {
            "rANS": run.size,
            "LZMA -6": len(lzma.compress(planes, preset=6)),
            "bzip2 -9": len(bz2.compress(planes)),
            "deflate -9": len(zlib.compress(planes, 9)),
        }
        with contextlib.suppress(ImportError):
            from backports import zstd

            sizes["zstd -19"] = len(zstd.compress(planes, 19))
        print(label, "  ".join(f"{name} {size / len(planes):.4f}" for name, size in sizes.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["ecg-beat", "layer", "resnet-18"])
    parser.add_argument("--rows", nargs="+", default=[], help="parts of rows' names; other rows are left out")
    parser.add_argument("--without", nargs="+", default=[], help="tools to leave out")
    parser.add_argument("--coders", action="store_true")
    parser.add_argument("--limit", type=int, default=600, help="processor seconds that a tool may take for one delta")
    parser.add_argument("--make", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_here(*arguments.make, arguments.limit)
    elif arguments.coders:
        coders()
    else:
        table(arguments.networks, arguments.rows, arguments.without, arguments.limit)


if __name__ == "__main__":
    main()
