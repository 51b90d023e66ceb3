"""What leaves for a scoring server is numbers and a hash, and both ends refuse anything else."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeward.exchange.scoring import (
    ScoreRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from edgeward.kernel.errors import EngineError, InputError

SHA = "ab" * 32
_ARRAYS = array_shapes(max_dims=3, max_side=6).flatmap(
    lambda shape: arrays(np.float32, (1, *shape), elements=st.floats(width=32, allow_infinity=False))
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), _ARRAYS, min_size=1, max_size=4))
def test_inputs_arrive_bit_for_bit(inputs: dict[str, np.ndarray]) -> None:
    """Missing values included."""
    heard = decode_request(encode_request(ScoreRequest(SHA, inputs)))
    assert heard.sha256 == SHA
    assert heard.inputs.keys() == inputs.keys()
    for name, array in inputs.items():
        np.testing.assert_array_equal(heard.inputs[name], array)


def test_a_request_holds_nothing_but_numbers_and_a_hash() -> None:
    """The minimum data set, by its own bytes."""
    whole = json.loads(encode_request(ScoreRequest(SHA, {"features": np.zeros((1, 2), np.float32)})))
    assert set(whole) == {"bundle", "inputs"}
    assert set(whole["inputs"]["features"]) == {"shape", "data"}


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """Nothing but the stated errors comes out."""
    with contextlib.suppress(InputError):
        decode_request(body)
    with contextlib.suppress(EngineError):
        decode_answer(body)


def _changed(**fields: object) -> bytes:
    whole = json.loads(encode_request(ScoreRequest(SHA, {"features": np.zeros((1, 2), np.float32)})))
    return json.dumps({**whole, **fields}).encode()


@pytest.mark.parametrize(
    "body",
    [
        _changed(patient="x"),
        _changed(bundle="latest"),
        _changed(inputs={}),
        _changed(inputs={"../x": {"shape": [1, 1], "data": "AAAAAA=="}}),
        _changed(inputs={"a": {"shape": [2, 1], "data": "AAAAAAAAAAA="}}),
        _changed(inputs={"a": {"shape": [1, 2], "data": "AAAAAA=="}}),
        _changed(inputs={"a": {"shape": [1, 1 << 30], "data": ""}}),
        _changed(inputs={"a": {"shape": [1, 1], "data": "AACAfw=="}}),
        _changed(inputs={"a": {"shape": [1, 1], "data": "not base64"}}),
    ],
)
def test_what_is_no_score_request_is_refused(body: bytes) -> None:
    """Other fields, other shapes, infinities, lengths that do not fit."""
    with pytest.raises(InputError) as refused:
        decode_request(body)
    assert refused.value.code == "score-request"


@pytest.mark.parametrize("body", [b'{"scores":[]}', b'{"scores":[[1]]}', b'{"scores":[NaN]}', b'{"scores":["x"]}'])
def test_scores_are_finite_numbers(body: bytes) -> None:
    """An answer that is not can only be a fault of the server."""
    with pytest.raises(EngineError):
        decode_answer(body)
    np.testing.assert_array_equal(decode_answer(encode_answer(np.array([0.25, 1], np.float32))), [0.25, 1])
