"""What a corrupt or malicious delta of a large bundle costs a device: memory and time until it is refused.

python bench/delta_hostile.py [--megabytes 896] [--forged]

Each is applied in a process of its own, and every one has to be refused. The first line is the honest delta of which
the corrupt ones are made: INT8, the slowest kind for its bytes. The malicious ones are forged: they hold together, and
make as many bytes as a bundle may have (1 GiB) in the dearest ways that the format has. ``--forged``: these alone, on
noise as installed bundle.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delta_memory import synthesise
from edgeward.bundle.delta.form import COPY, FILTERS, LITERAL, REPEAT, Header, Plan, Run, Step, compress, run_lengths
from edgeward.bundle.delta.rans import SCALE, lanes_of
from edgeward.bundle.delta.residual import CONTEXTS_MAX, FP32, INT8, KINDS
from edgeward.kernel.limits import BUNDLE_BYTES_MAX, DELTA_STEPS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MIB = 1 << 20
_LOW = 1 << 16  # the least state between symbols
_SLOW_BYTES = 8 * _MIB


def forge(steps: list[Step], old: Path, out: Path, literals: bytes = b"", *, noise: bool = False) -> None:
    """Write a delta of ``steps`` for ``old``: no residual is a change, or with ``noise``, any."""
    runs, tables, states = [], [], []
    for number, count in run_lengths(steps):
        kind = KINDS[number]
        table = np.zeros((CONTEXTS_MAX, kind.symbols), "<u2")
        table[:, :1] = SCALE
        if noise:
            table[:] = SCALE // kind.symbols
            table[:, 0] += SCALE % kind.symbols
        tables.append(compress(table.tobytes()))
        states.append(np.full(lanes_of(count), _LOW, "<u4").tobytes())  # a state that never needs a word
        words, bits = (count, 2 * count) if noise else (0, 0)  # 6 bits and 15 on average, for FP32
        runs.append(Run(0, CONTEXTS_MAX, len(tables[-1]), len(states[-1]) + words, bits))
    plan = Plan(tuple(steps), tuple(runs)).pack()
    packed = compress(plan)
    with old.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
    size = sum(step.length for step in steps)
    header = Header(old.stat().st_size, sha256, size, bytes(32), len(packed), len(plan), len(literals))
    some = np.random.default_rng(0).bytes(_MIB)
    with out.open("wb") as file:
        file.write(header.pack() + packed + literals)
        for run, table_packed, begun in zip(runs, tables, states, strict=True):
            file.write(table_packed + begun)
            left = run.words + run.bits - len(begun)
            while left:
                left -= file.write(some[:left])


def over(old: Path, kind: int) -> list[Step]:
    """Steps that make all of a bundle of the largest size from elements of ``old``."""
    whole = old.stat().st_size // 4 * 4
    lengths = [whole] * (BUNDLE_BYTES_MAX // whole) + [BUNDLE_BYTES_MAX % whole]
    return [Step(kind, length, 0) for length in lengths if length]


def every_step(old: Path, out: Path) -> None:
    """As many steps as there may be, of every kind in turn, then residuals; every table and LZMA at once."""
    kinds = [COPY, LITERAL, REPEAT, *range(len(KINDS))]
    steps, at = [Step(LITERAL, 1)], 1
    while len(steps) < DELTA_STEPS_MAX - 4:
        kind = kinds[len(steps) % len(kinds)]
        length = KINDS[kind].width if kind >= 0 else 1
        steps.append(Step(kind, length, 0 if kind in {LITERAL, REPEAT} else 4 * (len(steps) % 2)))
        at += length
    big = over(old, INT8)
    big[-1] = replace(big[-1], length=big[-1].length - at)
    literals = compress(bytes(sum(step.length for step in steps if step.kind == LITERAL)))
    forge(steps + big, old, out, literals)


def bomb(old: Path, out: Path) -> None:
    packer, literals = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=FILTERS), b""
    for _ in range(BUNDLE_BYTES_MAX // _MIB):
        literals += packer.compress(bytes(_MIB))
    forge([Step(LITERAL, BUNDLE_BYTES_MAX)], old, out, literals + packer.flush())


def slow_literals(old: Path, out: Path) -> None:
    """Bytes that LZMA codes one by one, bit by bit: one packed part, again and again, each with a new dictionary."""
    noise = np.random.default_rng(0).integers(0, 128, _SLOW_BYTES, dtype=np.uint8).tobytes()
    part = compress(noise)[:-1]  # without the mark of the end (LZMA2's byte 0)
    forge([Step(LITERAL, BUNDLE_BYTES_MAX)], old, out, part * (BUNDLE_BYTES_MAX // _SLOW_BYTES) + b"\0")


def doubled(old: Path, out: Path) -> None:
    """One byte, repeated, and all of that again: read back from the disk."""
    steps = [Step(LITERAL, 1)] + [Step(REPEAT, 1 << power, 0) for power in range(30)]
    forge(steps, old, out, compress(b"x"))


FORGED: dict[str, Callable[[Path, Path], None]] = {
    "1 GiB of INT8, no change": lambda old, out: forge(over(old, INT8), old, out),
    "1 GiB of FP32, no change": lambda old, out: forge(over(old, FP32), old, out),
    "1 GiB of FP32, noise": lambda old, out: forge(over(old, FP32), old, out, noise=True),
    "all 65,536 steps, every kind": every_step,
    "LZMA that swells to 1 GiB": bomb,
    "1 GiB of dear LZMA": slow_literals,
    "1 byte doubled 30 times": doubled,
}


def corrupted(old: Path, delta: Path, bad: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, installed bundle and delta of each corruption."""
    yield "honest", old, delta
    raw = bytearray(delta.read_bytes())
    bad.write_bytes(raw[:-1])
    yield "cut by a byte", old, bad
    raw[-1] ^= 0x80
    bad.write_bytes(raw)
    yield "flipped bit at the end", old, bad
    raw[-1] ^= 0x80
    raw[len(raw) // 3] ^= 0x80
    bad.write_bytes(raw)
    yield "flipped bit at a third", old, bad
    shutil.copy(old, bad)
    with bad.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    yield "installed bundle damaged", bad, delta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=896)
    parser.add_argument("--forged", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        old, delta, bad, new = (Path(scratch, name) for name in ("old", "delta", "bad", "new"))
        if arguments.forged:
            old.write_bytes(np.random.default_rng(0).bytes(arguments.megabytes << 20))
        else:
            synthesise(old, delta, arguments.megabytes << 20, np.dtype(np.int8))
            for name, base, given in corrupted(old, delta, bad):
                show(name, base, given, new)
        for name, make in FORGED.items():
            make(old, bad)
            show(name, old, bad, new)


def show(name: str, old: Path, delta: Path, new: Path) -> None:
    command = [
        sys.executable,
        str(Path(__file__).with_name("delta_memory.py")),
        "--apply",
        *map(str, (old, delta, new)),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ("delta-" in done.stdout) == (name != "honest"), f"{name} was not refused"
    print(f"{name:30} delta {delta.stat().st_size / 1e6:8.2f} MB  {done.stdout}", end="", flush=True)


if __name__ == "__main__":
    main()
