"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Whoever starts the tests in the background lets them ignore Ctrl-C, and every process that they start would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run side by side, one process for each core: threads of torch that spin for each other's core would slow all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_TOGETHER = frozenset({"test_cloud"})
"""Scenarios whose tests share what is dear to set up."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the scenarios over the whole run: each waits for real processes, and none may be left for the end."""
    slow = [item for item in items if item.path.parent.name == "scenario" and item.path.stem not in _TOGETHER]
    if len(slow) < 2 or len(slow) * 4 > len(items):
        return  # somebody runs the scenarios themselves
    chosen = set(slow)
    rest = [item for item in items if item not in chosen]
    step = len(rest) * 9 // 10 // len(slow)
    for number, item in enumerate(slow):
        rest.insert(number * (step + 1), item)
    items[:] = rest


ROOT = Path(__file__).resolve().parents[1]


def shared_data_root() -> Path | None:
    """The folder of real data: ``EDGEWARD_DATA``, else ``../shared/data``; None where neither is."""
    named = os.environ.get("EDGEWARD_DATA")
    root = Path(named) if named else ROOT.parent / "shared" / "data"
    return root if root.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test is skipped, loudly, where it is not there."""
    root = shared_data_root()
    if root is None:
        pytest.skip("REAL DATA ABSENT: set EDGEWARD_DATA to the folder that holds mitdb/, cinc2011/ …")
    return root


@pytest.fixture(scope="session")
def mitdb(shared_data: Path) -> Path:
    """The MIT-BIH records that are there."""
    folder = shared_data / "mitdb"
    if not folder.is_dir():
        pytest.skip("REAL DATA ABSENT: no mitdb/ in the data folder")
    return folder
