"""Bytes that are no tensors: what of them the installed bundle holds, found by hashing, as copies and literals."""

from __future__ import annotations

from edgeward.bundle.delta.form import COPY, LITERAL, Step

_KEY = 16
"""Bytes that must agree before a copy from elsewhere is worth its step."""
_HERE = 6
"""Bytes that must agree where the last copy would go on."""
_INDEX_MAX = 1 << 18
"""Places of the installed bytes that are indexed; more bytes are indexed more coarsely."""
_STRIDE_MIN = 2
_BYTES_MAX = 16 << 20
"""Bytes searched one by one; more are taken as they are unless they follow the installed ones."""


class Matcher:
    """Finds new bytes among ranges of the installed bundle ``old``."""

    def __init__(self, old: memoryview, ranges: list[tuple[int, int]]) -> None:
        """``ranges``: first and past-last bytes that may be copied from."""
        self._old = old
        total = sum(stop - start for start, stop in ranges)
        stride = max(_STRIDE_MIN, total // _INDEX_MAX)
        self._places: dict[bytes, int] = {}
        for start, stop in ranges:
            for place in range(start, stop - _KEY + 1, stride):
                self._places.setdefault(bytes(old[place : place + _KEY]), place)

    def steps(self, new: memoryview, here: int) -> list[Step]:
        """Steps that write ``new``, which probably follows the installed byte ``here``."""
        steps: list[Step] = []
        at = literal = 0
        searched = len(new) <= _BYTES_MAX
        while at < len(new):
            length = _common(new, at, self._old, here)
            place = here
            if length < min(_HERE, len(new) - at):
                length = 0
                found = self._places.get(bytes(new[at : at + _KEY])) if searched else None
                if found is not None:
                    place, length = found, _common(new, at, self._old, found)
            if not length:
                if not searched:
                    break
                at, here = at + 1, here + 1
                continue
            back = 0
            while at - back > literal and place > back and new[at - back - 1] == self._old[place - back - 1]:
                back += 1
            if at - back > literal:
                steps.append(Step(LITERAL, at - back - literal))
            steps.append(Step(COPY, length + back, place - back))
            at = literal = at + length
            here = place + length
        if len(new) > literal:
            steps.append(Step(LITERAL, len(new) - literal))
        return steps


def _common(new: memoryview, at: int, old: memoryview, place: int) -> int:
    """How many bytes agree from ``at`` and ``place`` on."""
    most = min(len(new) - at, len(old) - place)
    length, portion = 0, 16
    while length < most:
        portion = min(portion, most - length)
        if new[at + length : at + length + portion] == old[place + length : place + length + portion]:
            length += portion
            portion *= 8
        elif portion == 1:
            break
        else:
            portion = max(1, portion // 8)
    return length
