"""Every source keeps the source contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bedside.source.base import Block, SourceInfo
from edgeward.bedside.source.simulator import Episode, SimulatorSource
from edgeward.bedside.source.tcp import TcpAddress, TcpSource
from edgeward.bedside.source.wfdb import WfdbSource
from edgeward.bedside.system import SystemClock
from edgeward.testing.checks import check_source
from edgeward.testing.clock import ManualClock
from edgeward.testing.monitor import MonitorServer
from edgeward.wire.wfdb import Record, encode_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_the_simulator_is_a_source() -> None:
    """The simulator keeps the contract, artefacts and gaps included."""
    script = [Episode(0.2, "lead_off", 0.1, ("V1",)), Episode(0.4, "gap", 0.2)]
    clock = ManualClock()
    check_source(lambda: SimulatorSource(clock, scenario=script, sleep=clock.sleep))


def test_a_wfdb_replay_is_a_source(tmp_path: Path) -> None:
    """Two records one after the other keep the contract."""
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        samples = rng.normal(0, 1, (2, 777)).astype(np.float32)
        record = Record(name, ("II", "V1"), 360.0, samples, ((-32.0, 32.0),) * 2)
        for file, data in encode_record(record).items():
            (tmp_path / file).write_bytes(data)
    clock = ManualClock()
    paths = [tmp_path / "one", tmp_path / "two"]
    check_source(lambda: WfdbSource(paths, clock, sleep=clock.sleep), blocks=1000)


def test_tcp_is_a_source() -> None:
    """A monitor over TCP keeps the contract."""
    clock = SystemClock()
    with MonitorServer(lambda: SimulatorSource(clock, speed=20.0)) as monitor:
        check_source(lambda: TcpSource(TcpAddress("127.0.0.1", monitor.port), clock))


class _Broken:
    """A source that gives what it is told to."""

    def __init__(self, blocks: list[Block]) -> None:
        self._blocks = blocks
        self.info = SourceInfo(("II",), 250.0, "broken")

    def blocks(self) -> Iterator[Block]:
        yield from self._blocks

    def close(self) -> None:
        self._blocks = []


def _block(start: int, dtype: type = np.float32, shape: tuple[int, int] = (1, 5)) -> Block:
    return Block(np.zeros(shape, dtype=dtype), start, 0)


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [_block(0, np.float64)],
        [_block(0, shape=(2, 5))],
        [_block(0, shape=(1, 0))],
        [_block(0), _block(4)],
        [_block(-1)],
        [_block(0), _block(5)],  # keeps the contract of a block, and goes on after close
    ],
)
def test_the_contract_refuses_what_is_not_a_source(blocks: list[Block]) -> None:
    """The suite can fail: each of these breaks one clause."""
    with pytest.raises(AssertionError):
        check_source(lambda: _Broken(list(blocks)))
