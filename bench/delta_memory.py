"""What applying a delta costs a device: memory over the interpreter, and time, whatever the network's size.

python bench/delta_memory.py [--megabytes 64 256 896] [--types float32 int8]

Each size is made up of tensors of 32 MB of normal weights, each moved as at rate 1e-5, and applied in a process of its
own. Making 896 MB takes minutes and 5 GB of memory (ONNX's copies). Needs the extra workshop (onnx).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import mmap
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bundle.delta.diff import _changes, _steps
from edgeward.bundle.delta.patch import apply_delta
from edgeward.kernel.errors import BundleError
from edgeward.testing.bundles import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator


def packed(version: str, weights: dict[str, np.ndarray]) -> bytes:
    """A bundle with an ONNX file of these weights."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph([], "weights", [], [], [numpy_helper.from_array(a, name) for name, a in weights.items()])
    return tiny_bundle(version=version, model=helper.make_model(graph).SerializeToString())


def memory(megabytes: list[int], types: list[str]) -> None:
    """Apply deltas of ever larger networks, each in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        for size in megabytes:
            for name in types:
                files = [Path(scratch) / file for file in ("old", "delta", "new")]
                delta_bytes = synthesise(files[0], files[1], size << 20, np.dtype(name))
                command = [sys.executable, __file__, "--apply", *map(str, files)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                print(
                    f"{size:5} MB {name:8} delta {delta_bytes / (size << 20):.3f}  {done.stdout}",
                    end="",
                    flush=True,
                )


def synthesise(old_path: Path, delta_path: Path, size: int, dtype: np.dtype[Any]) -> int:
    """An old file and a delta for it: tensors of 32 MB of normal weights, each moved as at rate 1e-5.

    Holds some copies of one bundle at a time: ONNX's, and the archive's. Does not pack the whole bundle to prove that
    it is longer: that takes minutes for a large one, and applying does not see it.
    """
    new_path = delta_path.with_suffix(".new")
    for path, version, by in ((old_path, "1.0.0", 0.0), (new_path, "1.0.1", 3e-5)):
        rng, tensors = np.random.default_rng(0), {}
        for index in range(size >> 25):
            weights = rng.standard_normal((1 << 25) // dtype.itemsize, dtype=np.float32) * np.float32(0.02)
            weights += rng.standard_normal(weights.shape, dtype=np.float32) * np.float32(by)
            if dtype == np.int8:
                weights = np.clip(np.rint(weights / 6e-4), -127, 127).astype(np.int8)
            tensors[f"w{index}"] = weights
        path.write_bytes(packed(version, tensors))
        del tensors, weights
    with mapped(old_path) as old, mapped(new_path) as new, memoryview(old) as before, memoryview(new) as after:
        steps, new_sha256 = _steps(old, new, before, after), hashlib.sha256(after).digest()
        delta = _changes(before, after, steps, lambda _done, _total: None, new_sha256)
    assert delta, "the plan is too long"
    delta_path.write_bytes(delta)
    new_path.unlink()
    return len(delta)


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def apply_here(old: str, delta: str, new: str) -> None:
    """In a process of its own: how much its memory grows over the interpreter with its imports, and the time."""
    before, begun, used = high_water_kib(anew=True), time.perf_counter(), time.process_time()
    with Path(old).open("rb") as base, Path(delta).open("rb") as given, Path(new).open("w+b") as out:
        refusal = ""
        try:
            apply_delta(base, given, out)
        except BundleError as error:
            refusal = f", {error.code} after {out.tell() / (1 << 20):.0f} MB"
    taken, used = time.perf_counter() - begun, time.process_time() - used
    grown = high_water_kib() - before
    print(
        f"apply {taken:6.2f} s ({used:.2f} s of a processor), "
        f"memory +{grown / 1024:.1f} MB over {before / 1024:.1f} MB{refusal}"
    )


def high_water_kib(*, anew: bool = False) -> int:
    """The most memory that this process has had; ``anew``: from here on (proc(5))."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", nargs="+", type=int, default=[64, 256, 896])
    parser.add_argument("--types", nargs="+", default=["float32", "int8"])
    parser.add_argument("--apply", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.apply:
        apply_here(*arguments.apply)
    else:
        memory(arguments.megabytes, arguments.types)


if __name__ == "__main__":
    main()
