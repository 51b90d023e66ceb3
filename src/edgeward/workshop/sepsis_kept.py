"""What is dear to compute, kept in a folder between runs: the features of a table's rows, and the scores of its folds.

Each file's name holds a hash of everything that it was computed from, the code included, so that nothing stale is ever
taken; a file is written beside its place and moved there, so that half a file is never taken either.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import lightgbm
import numpy as np
import numpy.typing as npt

from edgeward import signal
from edgeward.workshop.folder import fingerprint
from edgeward.workshop.stay_replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.workshop.sepsis_train import Recipe
    from edgeward.workshop.stay_table import StayTable

Array = npt.NDArray[np.float64]
_WORKSHOP = Path(__file__).parent
_SIGNAL = Path(signal.__file__).parent


def kept_features(
    table: StayTable,
    names: Sequence[str],
    folder: Path,
    *,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """An ``.npy`` in ``folder`` of the features ``names`` of each row of ``table`` (N, F), replayed where it is not."""
    files = [*sorted(_SIGNAL.glob("stay_*.py")), _SIGNAL / "history.py", _SIGNAL / "numeric.py"]
    code = _hash([*files, *sorted(_WORKSHOP.glob("stay_*.py"))])
    digest = fingerprint({"data": table.sha256(), "features": names, "code": code})
    path = folder / f"features-{digest[:16]}.npy"
    if not path.is_file():
        say(f"replaying {len(table.patients)} stays, {len(table)} hours")
        _save(path, replay(table, names, workers=workers))
    return path


def fold_path(matrix: Path, recipe: Recipe, number: int, folds: int, hours_in_max: float) -> Path:
    """Where the scores of a fold are kept, beside the ``matrix`` that ``kept_features`` gave."""
    told = {
        "features": matrix.name,
        "recipe": asdict(recipe),
        "fold": (number, folds),
        "hours_in_max": hours_in_max,
        "code": _hash([_WORKSHOP / "sepsis_train.py", _WORKSHOP / "sepsis_utility.py"]),
        "library": lightgbm.__version__,
    }
    return matrix.with_name(f"fold-{fingerprint(told)[:16]}.npy")


def kept_fold(path: Path) -> tuple[Array, Array] | None:
    """The two scores of each row of a fold; None where they are not kept."""
    if not path.is_file():
        return None
    charted, bedside = np.load(path, allow_pickle=False)
    return charted, bedside


def keep_fold(path: Path, scores: tuple[Array, Array]) -> None:
    """Keep the two scores of each row of a fold."""
    _save(path, np.stack(scores))


def _save(path: Path, array: npt.NDArray[np.floating]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, array)
    part.replace(path)


def _hash(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
