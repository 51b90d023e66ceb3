"""The device's own feed: what goes in one end comes out the other, and nonsense is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.feed import (
    Acknowledged,
    Admitted,
    Discharged,
    Feed,
    Measured,
    Moved,
    Population,
    Resumed,
    Suspended,
    TaskSettings,
    decode,
    encode,
)
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import Kind, Numeric

_STAY = st.integers(1, 2**53)
_AT = st.integers(0, 2**63 - 1)
_BED = st.text(min_size=1, max_size=20)
_VALUE = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
_NUMERIC = st.builds(Numeric, st.sampled_from(Kind), _VALUE, _AT)
_FEED = st.one_of(
    st.builds(
        Admitted,
        _STAY,
        _BED,
        _AT,
        st.sampled_from(Population),
        st.one_of(st.none(), st.floats(0, 120)),
        st.sampled_from([None, "f", "m"]),
        st.sampled_from([1, 2]),
        st.booleans(),
    ),
    st.builds(Moved, _STAY, _BED, _AT),
    st.builds(Discharged, _STAY, _AT),
    st.builds(Measured, _STAY, st.lists(_NUMERIC, max_size=5).map(tuple)),
    st.builds(Acknowledged, _STAY, _BED, _AT),
    st.builds(Suspended, _STAY, _AT, _AT),
    st.builds(TaskSettings, _BED, *[_BED] * 6, st.booleans(), _STAY),
    st.builds(Resumed, _STAY, st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)),
)


@given(_FEED)
def test_what_is_told_is_heard(message: Feed) -> None:
    """encode, then decode, gives the same message, on one line."""
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


@given(st.one_of(st.binary(max_size=60), st.just(b'["measured",1,[["hr",NaN,3]]]'), st.just(b'["measured"]')))
def test_nonsense_is_refused_by_name(line: bytes) -> None:
    """No exception but an InputError comes out of a line that nobody wrote."""
    with pytest.raises(InputError) as refused:
        decode(line)
    assert refused.value.code == "feed-malformed"
