"""``ecg-beat`` on the line: its data, training, decision and words for the card."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeward import signal
from edgeward.bundle.manifest import BATCH, TensorSpec
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import ECG_BUDGET_MS
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.wire.wfdb import patient_of
from edgeward.workshop.compress.prune import fit_to_state
from edgeward.workshop.ecg_beat_data import BeatData, Strip, windows
from edgeward.workshop.ecg_beat_set import SetConfig, training_set
from edgeward.workshop.ecg_beat_train import Epoch, TrainConfig, fit
from edgeward.workshop.golden_wave import golden_wave
from edgeward.workshop.models.ecg_beat import EcgBeatCommittee, EcgBeatConfig
from edgeward.workshop.task import Source, Trained, TrainingData, TrainOptions
from edgeward.workshop.windows import LabelledWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgeward.workshop.scorer import FloatArray

MITDB = Source(
    "MIT-BIH Arrhythmia Database 1.0.0",
    "ODC-By-1.0",
    "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng Med Biol 20(3):45-50, 2001.",
    "https://physionet.org/content/mitdb/1.0.0/",
)
PTBXL = Source(
    "PTB-XL 1.0.3",
    "CC-BY-4.0",
    "Wagner P, Strodthoff N, Bousseljot RD, et al. PTB-XL, a large publicly available electrocardiography dataset. "
    "Scientific Data 7:154, 2020.",
    "https://physionet.org/content/ptb-xl/1.0.3/",
)
OTHER = Source(
    "Annotated WFDB records that are none of the MIT-BIH Arrhythmia Database",
    "not known to the workshop",
    "Known to whoever trained the model.",
    "none",
)
_MITDB_RECORDS = frozenset(
    str(number)
    for number in (*range(100, 125), *range(200, 235))
    if number not in {110, 120, 204, 206, 211, 216, 218, 224, 225, 226, 227, 229}
)

LOG_OFFSETS = (0.0, -1.25, -0.25, -0.5, -0.5)
"""Decision offsets of the shipped model, chosen on out-of-fold scores of the training patients (ADR 7): S must be three
and a half times as likely before it wins, for training draws it far more often than a bed sees it."""
_NOT_OF_DATA = frozenset({"ecg_beat_task.py", "ecg_beat_train.py", "ecg_beat_trees.py", "ecg_beat_offsets.py"})


class _Probabilities(torch.nn.Module):
    """The network with a softmax behind it: what is exported gives probabilities."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, wave: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 5)."""
        return torch.softmax(self.network(wave, rhythm), dim=1)


class EcgBeatTask:
    """``ModelTask`` of the AAMI beat classifier."""

    name = "ecg-beat"
    task = "ecg-beat-aami"
    classes = tuple(item.name for item in BeatClass)
    spared: Mapping[str, Sequence[str]] = MappingProxyType({"V": ("F", "Q"), "S": ("Q",)})
    f1_drop_max: Mapping[str, float] = MappingProxyType({"V": 0.5, "S": 1.0})
    fp32_inputs = ("rhythm",)
    feature_input = "rhythm"
    preprocessing = "beat-window-2"
    deadline_ms = ECG_BUDGET_MS
    intended_use = (
        "Names the AAMI EC57 class (N, S, V, F, Q) of each detected beat of a continuous adult ECG with one or two "
        "leads, beside a monitor whose own functions stay in force. Research and demonstration."
    )
    limits = (
        "Its labelled beats come from few patients of one country, on ambulatory recorders of 1975-1979; adults.",
        "Q is almost only paced beats; F is rare and often taken for V or N.",
        "Atrial fibrillation and other irregular rhythms hide supraventricular beats: more misses and false calls.",
        "It says nothing of ischaemia, of ventricular fibrillation or of rhythms as such; it needs detected beats.",
        "Figures on windows are not figures on the stream: see `edgeward evaluate ecg-beat` for those.",
    )
    baseline = (
        "Gradient boosting on beat shape, inter-patient: VEB sensitivity 96.6 %, PPV 93.3 %; SVEB 15.8 %, 28.7 %. "
        "Published inter-patient results lie at SVEB sensitivity 80-90 % with PPV 50-75 %, VEB 93-97 %."
    )

    def __init__(self) -> None:
        spec = BeatWindowSpec()
        self.inputs = (
            TensorSpec(
                "wave", (BATCH, *spec.wave_shape), meaning="two leads, then the patient's usual beat in both leads"
            ),
            TensorSpec("rhythm", (BATCH, spec.rhythm_len), meaning="the features that preprocessing_params names"),
        )
        self.outputs = (
            TensorSpec("scores", (BATCH, len(self.classes)), meaning="probability of N, S, V, F, Q (AAMI EC57)"),
        )
        self.feature_names = tuple(spec.rhythm_names)
        self.preprocessing_params: Mapping[str, Any] = spec.to_params()

    def prepare(self, options: TrainOptions, cache: Path) -> TrainingData:
        """Windows of the records in ``options.data`` (and, for training, what is made of them and of PTB-XL)."""
        names = record_names(options.data, options.records)
        digest = _digest(options, names)
        kept = cache / f"windows-{digest[:16]}.npz"
        if kept.is_file():
            whole = BeatData.load(kept)
        else:
            whole = _read(options, names)
            cache.mkdir(parents=True, exist_ok=True)
            whole.save(kept)
        held = held_out_patients(names, options.fold)
        return TrainingData(
            training=labelled(_real(whole.without(set(held)), names)),
            held_out=labelled(whole.take(np.isin(whole.source, list(held)))),
            held_out_patients=held,
            sha256=digest,
            whole=whole,
            sources=sources_read(options, names),
        )

    def train(
        self,
        data: TrainingData,
        options: TrainOptions,
        on_epoch: Callable[[int, Mapping[str, float]], None],
    ) -> Trained:
        """Train on everybody but the held-out patients, who are only measured."""
        config = _config(options)
        held = set(data.held_out_patients)
        validation = data.whole.take(np.isin(data.whole.source, sorted(held))) if held else None

        def report(epoch: Epoch) -> None:
            values = {key: value for key, value in dataclasses.asdict(epoch).items() if key != "number"}
            on_epoch(epoch.number, {key: value for key, value in values.items() if value is not None})

        model = fit(data.whole.without(held), validation, config, on_epoch=report)
        return Trained(model.network, {"settings": dataclasses.asdict(config)})

    def save(self, network: torch.nn.Module, path: Path) -> None:
        """Weights and the size of the network."""
        assert isinstance(network, EcgBeatCommittee)
        size = dataclasses.asdict(network.config)
        torch.save({"state": network.state_dict(), "config": {"network": size}}, path)

    def load(self, path: Path) -> torch.nn.Module:
        """The network in ``path``; only tensors and plain values are read."""
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            size = dict(held["config"]["network"])
            size["widths"] = tuple(size["widths"])
            network = EcgBeatCommittee(EcgBeatConfig(**size))
            state = held["state"]
        except Exception as error:  # torch.load raises whatever its unpickler meets in a damaged file
            raise ConfigError(
                "weights-unreadable", "the weights file is missing, damaged or not an ecg-beat's; train again"
            ) from error
        return fit_to_state(network, state).eval()

    def deployed(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with its softmax."""
        return _Probabilities(network).eval()

    def decision(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """``{"log_offsets": five numbers}``: the class is the arg max of log-probability plus offset."""
        offsets = figures.get("log_offsets", list(LOG_OFFSETS))
        if (
            set(figures) - {"log_offsets"}
            or not isinstance(offsets, list)
            or len(offsets) != len(self.classes)
            or not all(isinstance(x, int | float) and np.isfinite(x) for x in offsets)
        ):
            raise ConfigError(
                "decision-malformed", f"the decision must be log_offsets with {len(self.classes)} finite numbers"
            )
        return {"log_offsets": [float(x) for x in offsets]}

    def synthetic(self, count: int, seed: int) -> dict[str, FloatArray]:
        """Windows of a made-up ECG, through the same windower as a patient's."""
        wave, beats, labels = golden_wave(count, seed)
        found = windows(Strip("made-up", wave, beats, labels), BeatWindowSpec())
        return {
            "wave": np.stack([item.wave for item in found]).astype(np.float32),
            "rhythm": np.stack([item.rhythm for item in found]).astype(np.float32),
        }


def record_names(folder: Path, wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Names of the annotated WFDB records in ``folder``. ``ConfigError`` (``data-missing``) when there are none."""
    found = sorted(path.stem for path in folder.glob("*.hea") if path.with_suffix(".atr").is_file())
    if wanted is not None:
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise ConfigError(
                "records-missing", f"{len(missing)} of the records named are not in --data; check the names"
            )
        found = sorted(set(wanted))
    if not found:
        raise ConfigError(
            "data-missing",
            "the folder given by --data holds no annotated WFDB record (.hea with .atr); name the folder of the "
            "MIT-BIH Arrhythmia Database, or add --download to fetch it from PhysioNet into that folder",
        )
    return tuple(found)


FOLDS = (
    ("101", "102", "115", "116", "119", "209"),
    ("104", "106", "108", "112", "201"),
    ("107", "109", "124", "207", "208"),
    ("114", "118", "122", "203", "217", "230"),
    ("205", "215", "220", "223"),
)
"""The MIT-BIH patients of DS1 and the paced ones in five folds, laid so that each has its share of S and V beats: half
of all S beats are one patient's, and a fold without any would measure nothing."""


def held_out_patients(names: tuple[str, ...], fold: tuple[int, int] | None) -> tuple[str, ...]:
    """The patients of fold (k, K), 1 ≤ k ≤ K; none without a fold.

    Five folds of patients that ``FOLDS`` knows are those of ``FOLDS``; any other choice takes every K-th patient in the
    order of their names.
    """
    if fold is None:
        return ()
    k, folds = fold
    patients = sorted({patient_of(name) for name in names})
    if not 1 <= k <= folds <= len(patients):
        raise ConfigError("fold-range", f"--fold k/K needs 1 <= k <= K <= {len(patients)} patients")
    if folds == len(FOLDS) and set(patients) <= {name for group in FOLDS for name in group}:
        return tuple(patient for patient in patients if patient in FOLDS[k - 1])
    return tuple(patients[k - 1 :: folds])


def sources_read(options: TrainOptions, names: tuple[str, ...]) -> tuple[Source, ...]:
    """What training by ``options`` on ``names`` reads; the MIT-BIH database is known by the names of its records."""
    found = [
        source
        for source, there in ((MITDB, set(names) & _MITDB_RECORDS), (OTHER, set(names) - _MITDB_RECORDS))
        if there
    ]
    return (*found, PTBXL) if options.extra is not None else tuple(found)


def labelled(data: BeatData) -> LabelledWindows:
    """The windows as the line's other steps take them."""
    return LabelledWindows({"wave": data.wave, "rhythm": data.rhythm}, data.label, data.source)


def _real(data: BeatData, names: tuple[str, ...]) -> BeatData:
    """Windows of recorded, not of made strips."""
    return data.take(np.isin(data.source, sorted({patient_of(name) for name in names})))


def _config(options: TrainOptions) -> TrainConfig:
    changes: dict[str, Any] = {}
    if options.seed is not None:
        changes["seed"] = options.seed
    if options.epochs is not None:
        changes["epochs"] = options.epochs
    return dataclasses.replace(TrainConfig(), **changes)


def _read(options: TrainOptions, names: tuple[str, ...]) -> BeatData:
    return training_set(options.data, names, BeatWindowSpec(), ptbxl=options.extra)


def _digest(options: TrainOptions, names: tuple[str, ...]) -> str:
    """Hash of every file read and of the code that cuts and makes windows from them."""
    digest = hashlib.sha256(repr((SetConfig(), BeatWindowSpec())).encode())
    code = sorted(Path(signal.__file__).parent.glob("*.py"))
    code += sorted(Path(__file__).parent.glob("ecg_beat_*.py"))
    files = [path for path in code if path.name not in _NOT_OF_DATA]
    files += [path for name in names for path in sorted(options.data.glob(f"{name}.*"))]
    if options.extra is not None:
        files += sorted(path for path in options.extra.rglob("*") if path.suffix in {".hea", ".dat", ".csv"})
    for path in files:
        digest.update(f"{path.name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


TASK = EcgBeatTask()
