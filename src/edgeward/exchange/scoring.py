"""What a device asks a scoring server, and what it answers: model inputs in, scores out, and nothing else.

The smallest data set that can be scored: the bundle's hash and the model's own input tensors (features, not numerics).
No identifier, no time, no place, no bed: two requests of one patient cannot be told to belong together. Everything is
numbers by type, so that nothing else can be sent by mistake. JSON with base64 of little-endian float32, because a
request is a few kilobytes and must be readable when something is wrong. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kernel.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[np.float32]

PATH = "/v1/score"
REQUEST_BYTES_MAX = 1 << 20
ANSWER_BYTES_MAX = 1 << 18
_INPUTS_MAX = 8
_DIMS_MAX = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """``sha256``: of the bundle that shall score; ``inputs``: name → float32 with a batch axis of 1; NaN: missing."""

    sha256: str
    inputs: Mapping[str, Array]


def encode_request(request: ScoreRequest) -> bytes:
    """The body of a POST to ``PATH``."""
    inputs = {name: {"shape": list(array.shape), "data": _packed(array)} for name, array in request.inputs.items()}
    return json.dumps({"bundle": request.sha256, "inputs": inputs}, separators=(",", ":")).encode()


def decode_request(body: bytes) -> ScoreRequest:
    """Read a request strictly; ``InputError`` (``score-request``) names the rule that it breaks."""
    if len(body) > REQUEST_BYTES_MAX:
        raise _refused(f"it is longer than {REQUEST_BYTES_MAX} bytes")
    try:
        whole = json.loads(body)
        sha256, inputs = whole.pop("bundle"), whole.pop("inputs")
        if whole or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _refused("it must hold 'bundle' (a SHA-256) and 'inputs', and nothing else")
        if not isinstance(inputs, dict) or not 1 <= len(inputs) <= _INPUTS_MAX:
            raise _refused(f"it must hold 1 to {_INPUTS_MAX} inputs")
        return ScoreRequest(sha256, {_named(name): _unpacked(**item) for name, item in inputs.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused("it is not the JSON of a score request") from error


def encode_answer(scores: Array) -> bytes:
    """The body of a good answer: ``scores`` (classes,)."""
    return json.dumps({"scores": [float(score) for score in scores]}, allow_nan=False, separators=(",", ":")).encode()


def decode_answer(body: bytes) -> Array:
    """``scores`` (classes,) float32; ``EngineError`` (``score-answer``) for anything that is not finite scores."""
    try:
        scores = np.array(json.loads(body)["scores"], dtype=np.float32)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError("score-answer", "the scoring server's answer is not scores; fall back") from error
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise EngineError("score-answer", "the scoring server gave scores that are not finite; fall back")
    return scores


def _packed(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def _unpacked(shape: Any, data: Any) -> Array:
    sizes = [int(size) for size in shape]
    if not 1 <= len(sizes) <= _DIMS_MAX or sizes[0] != 1 or min(sizes) < 1 or math.prod(sizes) > REQUEST_BYTES_MAX:
        raise _refused("an input's shape must be (1, positive sizes)")
    try:
        raw = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise _refused("an input's data is not base64") from error
    if len(raw) != 4 * math.prod(sizes):
        raise _refused("an input's data is not as long as its shape says")
    array = np.frombuffer(raw, dtype="<f4").reshape(sizes).astype(np.float32)
    if np.isinf(array).any():
        raise _refused("an input holds an infinity")
    return array


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refused("an input's name must be lower-case words")
    return name


def _refused(why: str) -> InputError:
    return InputError("score-request", f"the score request cannot be read: {why}; correct the sender")
