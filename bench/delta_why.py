"""Why a delta of the trained ResNet-18 is as large as it is: how far its weights moved, and what no coder can save.

python bench/delta_why.py

For each rate: the mean movement of a weight, the share of INT8 weights that changed, and the entropy of the residuals ÷
bytes of the weights. ``as coded`` is what our coder's frequencies could reach at best (INT8: all alike; FP32: by the
installed weight's exponent). ``by channel`` tells rows (output channels) and columns (input channel and place in the
kernel) apart by how far they moved, in classes that a delta would have to say: what better frequencies could save.
"""

from __future__ import annotations

import numpy as np

from delta import RATES, quantised, trained
from edgeward.bundle.delta.residual import CONTEXTS_MAX, FP32, INT8, KINDS, contexts_of, exponents, rest_bits, split

_TOP_SHARE = 0.999  # of weights lie below the exponent whose context is the first, as the coder has it


def entropy_bytes(symbols: np.ndarray, contexts: np.ndarray) -> float:
    """Of symbols (N,) below 512, each told by its context (N,), in bytes."""
    counts = np.bincount(contexts.astype(np.int64) << 9 | symbols)
    counts = np.pad(counts, (0, -len(counts) % 512)).reshape(-1, 512)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    return -float((counts * np.log2(np.where(share > 0, share, 1))).sum()) / 8


def classes(values: np.ndarray, count: int) -> np.ndarray:
    """The place (N,) of each among ``count`` groups of about the same size, by its value."""
    return np.searchsorted(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]), values)


def main() -> None:
    weights = trained()
    scales = quantised(weights["base"], {})
    names = [name for name, each in scales.items() if each.dtype == np.int8]
    for rate in (f"{rate:g}" for rate in RATES):
        new = quantised(weights[rate], scales)
        parts = [tensor(weights["base"][n], weights[rate][n], scales[n], new[n]) for n in names]
        moved, fp32, powers, rest, int8, far_int8, far_fp32 = (
            np.concatenate(each) for each in zip(*parts, strict=True)
        )
        count, none = len(moved), np.zeros(len(moved), np.int64)
        exponent = contexts_of(int(np.quantile(powers, _TOP_SHARE)), powers, CONTEXTS_MAX).astype(np.int64)
        low = float(rest.sum()) / 8
        by_int8, by_fp32 = classes(far_int8, 16), classes(far_fp32, 16) << 4 | exponent
        coded, better, low = (
            each / count / 4 for each in (low + entropy_bytes(fp32, exponent), low + entropy_bytes(fp32, by_fp32), low)
        )
        print(
            f"{rate}: moved by {moved.mean():.2g}; INT8 {np.mean(int8 != 0):.1%} changed, as coded "
            f"{entropy_bytes(int8, none) / count:.4f}, by channel {entropy_bytes(int8, by_int8) / count:.4f}; "
            f"FP32 as coded {coded:.4f}, by channel {better:.4f}, low bits alone {low:.4f}",
            flush=True,
        )


def tensor(old: np.ndarray, new: np.ndarray, old_int8: np.ndarray, new_int8: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of one tensor, all (N,): movement; FP32 symbols, exponents, low bits; INT8 symbols; how far each channel moved.

    The last twice: in INT8 steps, and in FP32.
    """
    before, after = (np.ascontiguousarray(each).reshape(-1).view("<u4") for each in (old, new))
    symbols, _ = split(KINDS[FP32], before, after)
    int8, _ = split(KINDS[INT8], *(each.reshape(-1).view(np.uint8) for each in (old_int8, new_int8)))
    moved = np.abs(new - old).reshape(len(old), -1)
    steps = np.abs(new_int8.astype(np.int16) - old_int8).reshape(len(old), -1)
    far = [np.outer(each.mean(1), each.mean(0)).reshape(-1) / max(each.mean(), 1e-30) for each in (steps, moved)]
    rest = rest_bits(KINDS[FP32], symbols)
    return moved.reshape(-1), symbols, exponents(KINDS[FP32], before), rest, int8, *far


if __name__ == "__main__":
    main()
