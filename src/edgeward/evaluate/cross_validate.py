"""Bundles for records that their model has not seen: K folds of patients, each through the workshop's own line.

Needs the workshop extra. Each fold's build folder is kept, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError
from edgeward.wire.wfdb import patient_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def fold_bundles(
    data: Path,
    records: Sequence[str],
    folds: int,
    work: Path,
    *,
    decision: Mapping[str, Any],
    extra_data: Path | None = None,
    weights: Mapping[int, Path] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Path]:
    """Record → the bundle of the fold that held its patient out.

    ``decision``: the manifest's, the same for every fold; the task's own where empty. ``weights``: fold (1 … ``folds``)
    → weights trained earlier on that fold's other patients, adopted instead of training.

    Raises ``ConfigError`` without the workshop extra, or when the folds do not fit the data.
    """
    from edgeward.workshop.task import find_task

    task = find_task("ecg-beat")
    from edgeward.workshop.folder import BuildFolder
    from edgeward.workshop.line import Line, LineOptions
    from edgeward.workshop.task import TrainOptions
    from edgeward.workshop.verify import Bounds

    tell = say or _tell
    # The folds measure the method: a fold whose INT8 model strays from its FP32 one shows it in the figures.
    anything = Bounds(agreement_min=0.0, macro_f1_drop_max=100.0, int8_bytes_max=10.0)
    chosen: dict[str, Path] = {}
    for fold in range(1, folds + 1):
        folder = BuildFolder(work / f"fold-{fold}-of-{folds}", cache=work / "cache")
        options = LineOptions(
            train=TrainOptions(data=data, extra=extra_data, fold=(fold, folds)),
            weights=(weights or {}).get(fold),
            decision=decision,
            bounds=anything,
        )
        line = Line(task, folder, options, partial(_tell_step, tell, fold))
        held = set(line.data.held_out_patients)
        mine = [record for record in records if patient_of(record) in held]
        if mine:
            chosen.update(dict.fromkeys(mine, line.build()))
    missing = sorted(set(records) - set(chosen))
    if missing:
        raise ConfigError("fold-range", f"no fold holds out {', '.join(missing)}; evaluate records of --data")
    return chosen


def _tell_step(tell: Callable[[str], None], fold: int, step: str, text: str) -> None:
    tell(f"fold {fold}: {step}: {text}")


def _tell(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
