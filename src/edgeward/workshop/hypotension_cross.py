"""Models for patients that they have not seen: K folds of stays, each judged by parts that the others trained.

Each fold's parts are kept, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from edgeward import signal
from edgeward.kernel.errors import ConfigError
from edgeward.workshop.hypotension_data import Examples, Stretches, examples, fold_of, load, save, stretches
from edgeward.workshop.hypotension_points import Outcome
from edgeward.workshop.hypotension_train import (
    ForecasterTraining,
    TreesTraining,
    fit_forecaster,
    fit_trees,
    forecast,
    join,
    trees_odds,
)
from edgeward.workshop.models.hypotension import Forecaster
from edgeward.workshop.vitals_long import digest_of, read_long

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgeward.workshop.vitals_long import Stay

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FOLDS = 3
JOINED: Mapping[str, tuple[int, ...]] = MappingProxyType({"trees": (1,), "LSTM": (0,), "both": (0, 1)})
"""Ways to score the event, and the columns of ``Parts.odds`` that each rests on; simpler ones first."""
_CODE = ("vitals_long.py", "hypotension_data.py", "hypotension_points.py")
_SIGNAL_CODE = ("history.py", "hypotension.py", "numeric.py", "vitals_grid.py")


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Stays with everything cut from them; ``sha256`` of the data and of the code that cuts."""

    stays: tuple[Stay, ...]
    stretches: Stretches
    examples: Examples
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """An LSTM and boosted trees, trained on the same patients."""

    forecaster: Forecaster
    boosters: tuple[Any, ...]

    def odds(self, found: Examples) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """Forecast (P, 3, 12, 5) in standard units, and log odds (P, 2) of LSTM and trees."""
        quantiles, odds = forecast(self.forecaster, found.grid)
        return quantiles, np.stack([odds, trees_odds(self.boosters, found.features)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """Parts of every fold; ``fold`` (S,) 1 … K of each stay. A stay is judged by what its own fold did not train."""

    fold: IntArray
    parts: tuple[Parts, ...]

    def odds(self, found: Examples) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """As ``Parts.odds``, each point by the parts that have not seen its patient."""
        mine = self.fold[found.stay]
        quantiles: npt.NDArray[np.float32] | None = None
        odds = np.zeros((len(found), 2))
        for k, part in enumerate(self.parts, 1):
            rows = np.flatnonzero(mine == k)
            if not len(rows):
                continue
            one, two = part.odds(found.take(rows))
            if quantiles is None:
                quantiles = np.zeros((len(found), *one.shape[1:]), np.float32)
            quantiles[rows], odds[rows] = one, two
        if quantiles is None:
            raise ConfigError("points-missing", "there is no decision point to judge")
        return quantiles, odds

    def joined(self, odds: FloatArray, found: Examples, columns: Sequence[int]) -> FloatArray:
        """Calibrated log odds (P,) of the parts named by ``columns``: of each fold by what the others' outcomes say."""
        mine = self.fold[found.stay]
        out = np.zeros(len(found))
        for k in range(1, len(self.parts) + 1):
            rows = mine == k
            rule = join(odds[~rows][:, list(columns)], found.outcome[~rows])
            out[rows] = rule.odds(odds[rows][:, list(columns)])
        return out


def choose(scores: Mapping[str, FloatArray], outcome: IntArray) -> str:
    """Of ``JOINED``, the calibrated log odds with the least log loss out of fold: the LSTM must earn its part."""
    known = (outcome == Outcome.NONE) | (outcome == Outcome.AHEAD)
    came = (outcome[known] == Outcome.AHEAD).astype(np.float64)

    def loss(name: str) -> float:
        odds = scores[name][known]
        return float((np.logaddexp(0.0, odds) - came * odds).mean())

    return min(scores, key=loss)


def prepare(paths: Sequence[Path], cache: Path, say: Callable[[str], None]) -> Prepared:
    """Read the files and cut stretches and examples, or take them from ``cache``. Raises as ``read_long``."""
    stays = tuple(read_long(paths))
    digest = hashlib.sha256(digest_of(stays).encode())
    code = [Path(__file__).parent / file for file in _CODE]
    for path in code + [Path(signal.__file__).parent / file for file in _SIGNAL_CODE]:
        digest.update(path.name.encode() + path.read_bytes())
    name = digest.hexdigest()
    kept = [cache / f"{kind}-{name[:16]}.npz" for kind in ("stretches", "examples")]
    if not kept[0].is_file():
        say(f"cutting stretches of {len(stays)} stays")
        save(kept[0], stretches(stays))
    if not kept[1].is_file():
        say(f"cutting decision points of {len(stays)} stays")
        save(kept[1], examples(stays))
    return Prepared(stays, load(kept[0], Stretches), load(kept[1], Examples), name)


def fit_parts(
    data: Prepared,
    allowed: npt.NDArray[np.bool_],
    settings: tuple[ForecasterTraining, TreesTraining],
    on_epoch: Callable[[int, dict[str, float]], None],
    kept: Path,
) -> Parts:
    """Train on the stays that ``allowed`` (S,) marks, or take what was trained so before from the folder ``kept``."""
    made = _made_of(data, allowed, settings)
    noted = kept / "made.json"
    if noted.is_file() and json.loads(noted.read_bytes()) == made:
        return read_parts(kept, settings[0])
    mine = data.stretches.take(np.flatnonzero(allowed[data.stretches.stay]))
    forecaster = fit_forecaster(mine, settings[0], on_epoch)
    boosters = fit_trees(data.examples, settings[1], rows=allowed[data.examples.stay])
    parts = Parts(forecaster, tuple(boosters))
    write_parts(kept, parts)
    noted.write_text(json.dumps(made))
    return parts


def write_parts(kept: Path, parts: Parts) -> None:
    """Keep parts in the folder ``kept``, for ``read_parts``."""
    kept.mkdir(parents=True, exist_ok=True)
    torch.save(parts.forecaster.state_dict(), kept / "forecaster.pt")
    for number, booster in enumerate(parts.boosters):
        (kept / f"trees-{number}.txt").write_text(booster.model_to_string())


def read_parts(kept: Path, training: ForecasterTraining) -> Parts:
    """What ``fit_parts`` kept. Raises ``ConfigError`` (``weights-unreadable``)."""
    import lightgbm

    try:
        forecaster = Forecaster(training.network)
        forecaster.load_state_dict(torch.load(kept / "forecaster.pt", map_location="cpu", weights_only=True))
        paths = sorted(kept.glob("trees-*.txt"))
        boosters = tuple(lightgbm.Booster(model_str=path.read_text()) for path in paths)
    except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
        raise ConfigError("weights-unreadable", f"the parts in {kept.name} are damaged; delete that folder") from error
    return Parts(forecaster.eval(), boosters)


def cross(
    data: Prepared,
    work: Path,
    *,
    folds: int = FOLDS,
    settings: tuple[ForecasterTraining, TreesTraining] | None = None,
    on_epoch: Callable[[int, int, dict[str, float]], None],
) -> Crossed:
    """Train each fold's parts on the other folds' stays. ``on_epoch``: fold, epoch, figures.

    Raises ``ConfigError`` (``fold-range``) for fewer than two folds, or a fold without stays.
    """
    fold = fold_of(data.stays, folds) if folds > 1 else np.zeros(0, np.int64)
    if folds < 2 or len(np.unique(fold)) < folds:
        raise ConfigError("fold-range", f"folds must lie between 2 and what {len(data.stays)} stays allow")
    used = settings or (ForecasterTraining(), TreesTraining())
    parts = []
    for k in range(1, folds + 1):

        def told(epoch: int, values: dict[str, float], k: int = k) -> None:
            on_epoch(k, epoch, values)

        parts.append(fit_parts(data, fold != k, used, told, work / f"fold-{k}-of-{folds}"))
    return Crossed(fold, tuple(parts))


def _made_of(
    data: Prepared, allowed: npt.NDArray[np.bool_], settings: tuple[ForecasterTraining, TreesTraining]
) -> dict[str, Any]:
    stays = hashlib.sha256(np.packbits(allowed).tobytes()).hexdigest()
    told = json.loads(json.dumps([asdict(one) for one in settings]))
    return {"data": data.sha256, "stays": stays, "settings": told}
