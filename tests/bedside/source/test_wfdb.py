"""WFDB records from disk and their replay."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bedside.source.base import RECORD_GAP_S, Pace, block_samples
from edgeward.bedside.source.wfdb import WfdbSource, find_records, load_annotations, load_record, source_groups
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.testing.clock import ManualClock
from edgeward.wire.wfdb import Annotations, Record, encode_annotations, encode_record

if TYPE_CHECKING:
    from pathlib import Path


def _write(
    folder: Path, name: str, *, leads: tuple[str, ...] = ("II", "V1"), rate_hz: float = 250.0, count: int = 1000
) -> np.ndarray:
    samples = np.random.default_rng(len(name) + count).normal(0, 1, (len(leads), count)).round(3).astype(np.float32)
    record = Record(name, leads, rate_hz, samples, ((-32.0, 32.0),) * len(leads))
    for file, data in encode_record(record).items():
        (folder / file).write_bytes(data)
    return samples


def _replay(source: WfdbSource) -> tuple[np.ndarray, list[int]]:
    blocks = list(source.blocks())
    return np.concatenate([b.samples for b in blocks], axis=1), [b.start for b in blocks]


def test_a_record_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    """With and without suffix; its annotations beside it."""
    samples = _write(tmp_path, "r1")
    (tmp_path / "r1.atr").write_bytes(encode_annotations(Annotations.of([10, 20], "NV")))
    for path in (tmp_path / "r1", tmp_path / "r1.hea", tmp_path / "r1.dat"):
        np.testing.assert_allclose(load_record(path).samples, samples, atol=1e-6)
        assert find_records(path) == [tmp_path / "r1"]
    assert load_annotations(tmp_path / "r1", rate_hz=250.0).symbol == ("N", "V")


def test_what_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    """A missing record, signal file or annotation file says which kind of file it was."""
    with pytest.raises(InputError, match=r"\.hea"):
        load_record(tmp_path / "none")
    _write(tmp_path, "r1")
    with pytest.raises(InputError, match=r"\.atr"):
        load_annotations(tmp_path / "r1", rate_hz=250.0)
    (tmp_path / "r1.dat").unlink()
    with pytest.raises(InputError) as caught:
        load_record(tmp_path / "r1")
    assert caught.value.code == "file-missing"
    (tmp_path / "r1.dat").mkdir()
    with pytest.raises(InputError) as caught:
        load_record(tmp_path / "r1")
    assert caught.value.code == "file-unreadable"
    for path in (tmp_path / "none", tmp_path / "r1.dat"):
        with pytest.raises(InputError) as caught:
            find_records(path / "deeper")
        assert caught.value.code == "no-records"


def test_a_header_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    """The classic traversal is refused before any file is opened."""
    (tmp_path / "secret.dat").write_bytes(bytes(8))
    inner = tmp_path / "records"
    inner.mkdir()
    (inner / "r.hea").write_text("r 1 250 4\n../secret.dat 16 200 12 0 0 0 0 II\n")
    with pytest.raises(InputError) as caught:
        load_record(inner / "r")
    assert caught.value.code == "wfdb-file-name"


@pytest.mark.parametrize("block_ms", [4.0, 20.0, 37.0, 100.0, 5000.0])
def test_the_replay_gives_every_sample_once(tmp_path: Path, block_ms: float) -> None:
    """Whatever the block length, the samples are those of the record."""
    samples = _write(tmp_path, "r1")
    got, starts = _replay(WfdbSource([tmp_path / "r1"], ManualClock(), speed=0, block_ms=block_ms))
    np.testing.assert_allclose(got, samples, atol=1e-6)
    assert starts[0] == 0
    assert starts == sorted(starts)


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 4.0), (4.0, 1.0), (0.5, 8.0), (0.0, 0.0)])
def test_the_replay_keeps_time(tmp_path: Path, speed: float, seconds: float) -> None:
    """Four seconds of record take four seconds, or as much less as the speed says."""
    _write(tmp_path, "r1")
    clock = ManualClock()
    began = clock.monotonic_ns()
    source = WfdbSource([tmp_path / "r1"], clock, speed=speed, sleep=clock.sleep)
    last = [block.received_ns for block in source.blocks()][-1]
    assert (last - began) / 1e9 == pytest.approx(seconds, abs=1e-6)


def test_a_slow_consumer_is_caught_up_with(tmp_path: Path) -> None:
    """Blocks that are due come without waiting; the replay does not fall behind for good."""
    _write(tmp_path, "r1")
    clock = ManualClock()
    began = clock.monotonic_ns()
    source = WfdbSource([tmp_path / "r1"], clock, sleep=clock.sleep)
    for k, block in enumerate(source.blocks()):
        if k == 10:
            clock.advance(2.0)
        last = block.received_ns
    assert (last - began) / 1e9 == pytest.approx(4.0, abs=1e-6)


def test_history_never_crosses_records(tmp_path: Path) -> None:
    """Between two records the index jumps by more than any gap that is filled."""
    first, second = _write(tmp_path, "a", count=1003), _write(tmp_path, "b", count=500)
    blocks = list(WfdbSource([tmp_path / "a", tmp_path / "b"], ManualClock(), speed=0).blocks())
    jumps = [b.start - (a.start + a.samples.shape[1]) for a, b in itertools.pairwise(blocks)]
    assert [j for j in jumps if j] == [round(RECORD_GAP_S * 250)]
    got = np.concatenate([b.samples for b in blocks], axis=1)
    np.testing.assert_allclose(got, np.concatenate((first, second), axis=1), atol=1e-6)


def test_records_of_another_kind_are_not_mixed(tmp_path: Path) -> None:
    """Other leads or another rate end the replay with an error; ``source_groups`` keeps them apart."""
    _write(tmp_path, "a")
    _write(tmp_path, "b", leads=("V5", "V2"))
    _write(tmp_path, "c", leads=("V5", "V2"))
    _write(tmp_path, "d", leads=("V5", "V2"), rate_hz=500.0)
    paths = find_records(tmp_path)
    groups = source_groups(paths)
    assert [[path.name for path in group] for group in groups] == [["a"], ["b", "c"], ["d"]]
    stream = WfdbSource(paths, ManualClock(), speed=0).blocks()
    with pytest.raises(InputError) as caught:
        list(stream)
    assert caught.value.code == "leads-changed"
    for group in groups:
        assert list(WfdbSource(group, ManualClock(), speed=0).blocks())


def test_a_record_in_segments_is_replayed_once(tmp_path: Path) -> None:
    """Its segments lie in the same folder and are not records beside it."""
    first, second = _write(tmp_path, "s1", count=600), _write(tmp_path, "s2", count=400)
    (tmp_path / "r.hea").write_text("r/2 2 250 1000\ns1 600\ns2 400\n")
    _write(tmp_path, "z")
    paths = find_records(tmp_path)
    assert [[path.name for path in group] for group in source_groups(paths)] == [["r"], ["z"]]
    got, _ = _replay(WfdbSource([tmp_path / "r"], ManualClock(), speed=0))
    np.testing.assert_allclose(got, np.concatenate((first, second), axis=1), atol=1e-6)


def test_a_truncated_record_is_refused_or_ends_in_a_gap(tmp_path: Path) -> None:
    """By choice the replay goes on with what is there, and the rest is missing, never invented."""
    samples = _write(tmp_path, "r1")
    whole = (tmp_path / "r1.dat").read_bytes()
    (tmp_path / "r1.dat").write_bytes(whole[: 600 * 4])
    with pytest.raises(InputError, match="600 of 1000"):
        WfdbSource([tmp_path / "r1"], ManualClock())
    got, _ = _replay(WfdbSource([tmp_path / "r1"], ManualClock(), speed=0, block_ms=100, allow_truncated=True))
    np.testing.assert_allclose(got[:, :600], samples[:, :600], atol=1e-6)
    assert got.shape == samples.shape
    assert np.isnan(got[:, 600:]).all()


def test_wrong_settings_are_the_operators(tmp_path: Path) -> None:
    """Speed and block length outside the limits are ConfigErrors."""
    _write(tmp_path, "r1")
    for wrong in ({"speed": -1.0}, {"speed": float("nan")}, {"block_ms": 0.0}, {"block_ms": 1e9}):
        with pytest.raises(ConfigError):
            WfdbSource([tmp_path / "r1"], ManualClock(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        WfdbSource([], ManualClock())
    assert block_samples(1.0, 250.0) == 1  # a block is never shorter than a sample


def test_a_wait_ends_when_the_source_is_closed() -> None:
    """Closing does not wait for the next sample."""
    clock = ManualClock()
    began = clock.monotonic_ns()
    pace = Pace(clock, 250.0, 1.0, clock.sleep)
    pace.wait(250 * 60, lambda: clock.monotonic_ns() > began + 2_000_000_000)
    assert clock.monotonic_ns() - began < 3_000_000_000


def test_an_unreadable_file_names_no_path(tmp_path: Path) -> None:
    """Messages carry no path, for a path may hold a name."""
    if os.geteuid() == 0:
        (tmp_path / "r1.hea").mkdir()
    else:
        (tmp_path / "r1.hea").write_text("x")
        (tmp_path / "r1.hea").chmod(0)
    with pytest.raises(InputError) as caught:
        load_record(tmp_path / "r1")
    assert str(tmp_path) not in str(caught.value)


def test_the_real_records_replay(mitdb: Path) -> None:
    """A real record comes out as it is on disk, at its own rate and with its converter's rails."""
    path = find_records(mitdb)[0]
    source = WfdbSource([path], ManualClock(), speed=0, block_ms=1000.0)
    assert source.info.rate_hz == 360.0
    assert source.info.limits_mv == ((-5.12, 5.115),) * 2
    got, _ = _replay(source)
    np.testing.assert_array_equal(got, load_record(path).samples)
