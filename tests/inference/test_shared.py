"""The shared memory: both sides see one request, and only a whole answer to it is taken."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.inference import shared
from edgeward.inference.shared import Operation, SharedMemory, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.backend import Array


@pytest.fixture
def sides(bundle: Bundle) -> Iterator[tuple[SharedMemory, SharedMemory]]:
    fd = shared.create(bundle.manifest)
    yield SharedMemory(fd, bundle.manifest), SharedMemory(fd, bundle.manifest)
    os.close(fd)


def test_a_request_and_its_answer_cross(sides: tuple[SharedMemory, SharedMemory], window: dict[str, Array]) -> None:
    """The worker reads what the host wrote, and the host reads the worker's scores, status and time."""
    host, worker = sides
    host.buffers.fill(window)
    host.ask(7, Operation.INFER)
    assert worker.asked() == (7, Operation.INFER)
    assert np.array_equal(worker.buffers.inputs["wave"][0], window["wave"])
    assert np.array_equal(worker.buffers.inputs["rhythm"][0], window["rhythm"])
    worker.buffers.scores[0] = [0.1, 0.2, 0.3, 0.4, 0.0]
    worker.answer(7, Status.OK, 1_234, {"passed": True})
    answer, scores = host.answered(7)
    assert (answer.status, answer.run_ns, answer.whole) == (Status.OK, 1_234, True)
    assert scores == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.0])
    assert host.report() == {"passed": True}


def test_an_answer_to_another_request_is_not_taken(sides: tuple[SharedMemory, SharedMemory]) -> None:
    """An answer that was left from request 7 is not whole for request 8."""
    host, worker = sides
    worker.answer(7, Status.OK)
    assert host.answered(7)[0].whole
    assert not host.answered(8)[0].whole


def test_a_torn_answer_is_not_taken(sides: tuple[SharedMemory, SharedMemory]) -> None:
    """Scores that changed after they were sealed, by a single bit, are not whole."""
    host, worker = sides
    worker.buffers.scores[0] = 0.2
    worker.answer(7, Status.OK)
    worker.buffers.scores.view(np.uint32)[0, 4] ^= 1
    assert not host.answered(7)[0].whole


def test_a_status_that_does_not_exist_is_not_taken(sides: tuple[SharedMemory, SharedMemory], bundle: Bundle) -> None:
    """A worker gone mad cannot make the host raise: unknown status and report are a bad answer."""
    host, worker = sides
    worker.answer(7, 99)  # type: ignore[arg-type]
    worker._map[128:132] = b"\xff{{{"
    assert not host.answered(7)[0].whole
    assert host.report() == {}


def test_the_memory_cannot_be_shrunk(bundle: Bundle) -> None:
    """A worker cannot truncate the memory under its host, which would be a bus error there."""
    fd = shared.create(bundle.manifest)
    try:
        with pytest.raises(OSError) as raised:
            os.ftruncate(fd, 0)
        assert raised.value.errno == errno.EPERM
    finally:
        os.close(fd)


def test_every_array_starts_at_a_cache_line(sides: tuple[SharedMemory, SharedMemory]) -> None:
    """Inputs and outputs are aligned to 64 bytes, so that no array shares a line with another."""
    for buffers in (side.buffers for side in sides):
        for array in (*buffers.inputs.values(), *buffers.outputs.values()):
            assert array.ctypes.data % 64 == 0
