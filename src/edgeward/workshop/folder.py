"""The folder of one build: what each step made, and from what, so that unchanged steps are not repeated.

::

    DIR/cache/        windows read from the data
    DIR/train/        weights.pt      facts.json
    DIR/export/       fp32.onnx
    DIR/compress/     fp32.onnx       int8.onnx       calibration.json    weights.pt    pruning.json
    DIR/verify/       evidence.json   golden.npz      golden.json         reference.json
    DIR/pack/         NAME-VERSION.ewb    card.md
    DIR/STEP/done.json    hash of the step's inputs and of each file it made
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STEPS = ("train", "export", "compress", "verify", "pack")
_DONE = "done.json"


class BuildFolder:
    """Reads and writes the folder ``root``; every file appears whole, by rename.

    ``cache`` is where windows are kept between runs: several folders over the same data may share one.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = root
        self.cache = cache or root / "cache"

    def path(self, step: str, name: str, *, make: bool = False) -> Path:
        """Where ``name`` of ``step`` lies; ``make``: the step's folder is there afterwards."""
        if make:
            (self.root / step).mkdir(parents=True, exist_ok=True)
        return self.root / step / name

    def write(self, step: str, name: str, content: bytes) -> Path:
        """Write a file whole. Raises ``ConfigError`` (``build-folder``) when the disk refuses."""
        path = self.path(step, name)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(path)
        except OSError as error:
            raise ConfigError(
                "build-folder", "the build folder cannot be written; free the disk or choose another --out"
            ) from error
        return path

    def write_json(self, step: str, name: str, values: Mapping[str, Any]) -> Path:
        """Write plain values."""
        return self.write(step, name, (json.dumps(values, indent=1, sort_keys=True) + "\n").encode())

    def read(self, step: str, name: str) -> bytes:
        """A file of an earlier step; ``ConfigError`` (``step-missing``) tells which verb makes it."""
        try:
            return self.path(step, name).read_bytes()
        except OSError as error:
            raise ConfigError(
                "step-missing", f"{step}/{name} is not in the build folder; run `edgeward {step}` first"
            ) from error

    def read_json(self, step: str, name: str) -> dict[str, Any]:
        """Plain values of an earlier step."""
        try:
            values = json.loads(self.read(step, name))
        except ValueError as error:
            raise ConfigError("step-damaged", f"{step}/{name} is damaged; run `edgeward {step}` again") from error
        if not isinstance(values, dict):
            raise ConfigError("step-damaged", f"{step}/{name} is damaged; run `edgeward {step}` again")
        return values

    def is_done(self, step: str, inputs: Mapping[str, Any]) -> bool:
        """Whether ``step`` was finished with exactly these inputs and its files are as it left them."""
        try:
            done = json.loads(self.path(step, _DONE).read_bytes())
            files = dict(done["files"])
            if done["inputs"] != fingerprint(inputs):
                return False
            return all(_sha256(self.path(step, name)) == digest for name, digest in files.items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def finish(self, step: str, inputs: Mapping[str, Any], names: Sequence[str]) -> None:
        """Say that ``step`` is done; written last, so that a step that was cut off is done again."""
        files = {name: _sha256(self.path(step, name)) for name in names}
        self.write_json(step, _DONE, {"inputs": fingerprint(inputs), "files": files})

    def sha256(self, step: str, name: str) -> str:
        """Hash of a file of an earlier step."""
        return hashlib.sha256(self.read(step, name)).hexdigest()


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash of plain values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
