"""Teaching a pruned network what the whole one knows: short training towards the whole network's probabilities.

Hinton et al. 2015 (arXiv:1503.02531) at temperature 1, on training windows only; classes are drawn alike so that rare
ones are not forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.workshop.windows import LabelledWindows

BATCH = 256
LEARNING_RATE = 5e-4


def distil(
    student: torch.nn.Module,
    teacher: torch.nn.Module,
    windows: LabelledWindows,
    *,
    steps: int,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> torch.nn.Module:
    """Train ``student`` in place for ``steps`` batches and give it back in evaluation mode.

    Both networks take the windows' inputs in order and give logits. Same seed, one thread → same weights.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    counts = np.bincount(windows.labels)
    odds = 1.0 / np.sqrt(counts[windows.labels])
    odds /= odds.sum()
    optimiser = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    teacher.eval()
    student.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1.0 - step / steps)
        rows = rng.choice(len(windows), size=min(BATCH, len(windows)), p=odds)
        inputs = [torch.from_numpy(array) for array in windows.take(rows).floats().values()]
        with torch.no_grad():
            wanted = torch.softmax(teacher(*inputs), dim=1)
        optimiser.zero_grad(set_to_none=True)
        loss = functional.kl_div(torch.log_softmax(student(*inputs), dim=1), wanted, reduction="batchmean")
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if on_step is not None and (step + 1) % 50 == 0:
            on_step(step + 1, float(loss.detach()))
    return student.eval()
