"""Contract suites: what every plug-in of a kind must do. A third party runs them on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.limits import BLOCK_SAMPLES_MAX, LEADS_MAX, RATE_HZ_MAX, RATE_HZ_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.bedside.source.base import Block, Source, SourceInfo


def check_source(make: Callable[[], Source], *, blocks: int = 50) -> None:
    """Run the source contract on fresh sources from ``make``; raises ``AssertionError`` saying what does not hold.

    ``blocks`` is how many blocks of each source are looked at; an endless source is closed after them.
    """
    _check_blocks(make, blocks)
    _check_close_ends_the_iterator(make)
    _check_close_before_use(make)
    _check_interrupt(make)


def check_source_info(info: SourceInfo) -> None:
    """Leads, rate and rails are within the limits of the device."""
    assert 1 <= len(info.leads) <= LEADS_MAX, "a source has 1 to 16 leads"
    assert all(name and name == name.strip() for name in info.leads), "a lead has a name"
    assert RATE_HZ_MIN <= info.rate_hz <= RATE_HZ_MAX, "the rate lies outside the limits"
    if info.limits_mv is not None:
        assert len(info.limits_mv) == len(info.leads), "rails are stated per lead"
        assert all(low < high for low, high in info.limits_mv), "the low rail lies below the high rail"


def _check_blocks(make: Callable[[], Source], blocks: int) -> None:
    source = make()
    try:
        stream = source.blocks()
        previous = _next(stream)
        assert previous is not None, "the source gives at least one block"
        check_source_info(source.info)
        assert previous.start >= 0, "the first index is not negative"
        _check_block(previous, len(source.info.leads))
        for _ in range(blocks - 1):
            block = _next(stream)
            if block is None:
                break
            _check_block(block, len(source.info.leads))
            assert block.start >= previous.start + previous.samples.shape[1], "the index never goes back or repeats"
            assert block.received_ns >= previous.received_ns, "the time of reception never goes back"
            previous = block
    finally:
        source.close()


def _check_block(block: Block, leads: int) -> None:
    assert block.samples.dtype == np.float32, "samples are float32"
    assert block.samples.ndim == 2, "samples are (C, n)"
    assert block.samples.shape[0] == leads, "one row per lead"
    assert 1 <= block.samples.shape[1] <= BLOCK_SAMPLES_MAX, "a block holds 1 to 65536 samples"
    assert not np.isinf(block.samples).any(), "a missing sample is NaN; nothing is infinite"


def _check_close_ends_the_iterator(make: Callable[[], Source]) -> None:
    source = make()
    stream = source.blocks()
    assert _next(stream) is not None
    source.close()
    assert _next(stream) is None, "a closed source gives no more blocks"
    source.close()


def _check_close_before_use(make: Callable[[], Source]) -> None:
    source = make()
    source.close()
    source.close()


def _check_interrupt(make: Callable[[], Source]) -> None:
    """Ctrl-C while the consumer holds a block leaves a source that can be closed."""
    source = make()
    stream = source.blocks()
    assert _next(stream) is not None
    throw = getattr(stream, "throw", None)
    if throw is not None:
        try:
            throw(KeyboardInterrupt)
        except (KeyboardInterrupt, StopIteration):
            pass
        else:
            raise AssertionError("an interrupt passes through the source")
    source.close()
    assert _next(stream) is None, "an interrupted source gives no more blocks"


def _next(stream: Iterator[Block]) -> Block | None:
    return next(stream, None)
