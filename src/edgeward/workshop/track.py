"""Tracking with MLflow: settings, figures per epoch, data-set hash, commit and environment of a training run.

Kept in MLflow's local file store (``./mlruns``) unless ``MLFLOW_TRACKING_URI`` names another;
``mlflow-skinny`` is enough. MLflow 3 asks for consent before it writes a file store and sends usage data by default;
both are settled here, and either variable that is already set wins. Tracking never fails a training run: the first
trouble is logged, once, and the run goes on untracked.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

EXPERIMENT = "edgeward"
_LOG = logging.getLogger("edgeward.workshop.track")
_VALUE_CHARS_MAX = 500


class Tracker:
    """A context around one training run: settings and tags at its start, then figures per epoch by ``metrics``."""

    def __init__(
        self, run_name: str, settings: Mapping[str, Any], tags: Mapping[str, str], *, uri: str | None = None
    ) -> None:
        self._run_name = run_name
        self._settings = settings
        self._tags = tags
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").resolve().as_uri()
        self._client: Any = None
        self._run_id = ""

    @property
    def tracking(self) -> bool:
        """Whether figures are being kept."""
        return self._client is not None

    def __enter__(self) -> Tracker:
        self._safely(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED"
        self._safely(lambda client: client.set_terminated(self._run_id, status=status))

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Figures of one epoch; None and NaN are left out."""

        def log(client: Any) -> None:
            for name, value in values.items():
                if value is not None and value == value:  # NaN is not equal to itself
                    client.log_metric(self._run_id, name, float(value), step=step)

        self._safely(log)

    def facts(self, name: str, values: Mapping[str, Any]) -> None:
        """A JSON file beside the run."""
        text = json.dumps(values, indent=1, sort_keys=True, default=str)
        self._safely(lambda client: client.log_text(self._run_id, text, f"{name}.json"))

    def _start(self, _: Any) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        identity = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        tags = {"mlflow.runName": self._run_name, **{key: str(value) for key, value in self._tags.items()}}
        commit = git_commit()
        if commit:
            tags["mlflow.source.git.commit"] = commit
        self._run_id = client.create_run(identity, tags=tags).info.run_id
        for key, value in flat(self._settings).items():
            client.log_param(self._run_id, key, str(value)[:_VALUE_CHARS_MAX])
        client.log_text(self._run_id, json.dumps(environment(), indent=1, sort_keys=True), "environment.json")
        self._client = client

    def _safely(self, act: Callable[[Any], object]) -> None:
        """Run ``act``; at the first trouble say so once and track no more."""
        starting = act == self._start
        if self._client is None and not starting:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                act(self._client)
        except Exception as error:  # noqa: BLE001 - tracking is a convenience and must never stop a training run
            self._client = None
            _LOG.warning("tracking is off for this run (%s); training goes on", type(error).__name__)


def git_commit() -> str | None:
    """The commit of the working folder, with ``-dirty`` when files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def environment() -> dict[str, str]:
    """Python, processor architecture and the versions of what shapes a model; no host or user name."""
    names = ("edgeward", "lightgbm", "numpy", "onnx", "onnxruntime", "onnxscript", "scipy", "torch", "wfdb")
    found = {"python": platform.python_version(), "platform": sys.platform, "architecture": platform.machine()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if hasattr(value, "items"):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
