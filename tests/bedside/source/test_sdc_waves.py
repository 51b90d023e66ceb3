"""The ECG of real SDC devices on loopback: every sample once and exactly, or missing; never another patient's."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import trustme
from slow_clock import SlowClock

from edgeward.bedside.source import sdc_link
from edgeward.bedside.source.base import RECORD_GAP_S
from edgeward.bedside.source.sdc_link import sdc_address
from edgeward.bedside.source.sdc_session import SdcTls, sdc_tls
from edgeward.bedside.source.sdc_waves import SdcWaves
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import InputError
from edgeward.testing.checks import check_source
from edgeward.testing.sdc_provider import SdcMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from edgeward.bedside.source.base import Block

CLOCK = SystemClock()
PATIENCE_S = 60.0
RATE_HZ = 250.0
PIECE = 25


def _ecg(leads: int, count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Samples of whole microvolts, so that every one of them can be held to."""
    return (np.random.default_rng(seed).integers(-3000, 3000, (leads, count)) / 1000).astype(np.float32)


@contextlib.contextmanager
def _source(monitor: SdcMonitor, tls: SdcTls | None = None, clock: SystemClock = CLOCK) -> Iterator[SdcWaves]:
    source = SdcWaves(sdc_address(monitor.url), clock, host="127.0.0.1", tls=tls)
    try:
        source.open(PATIENCE_S)
        yield source
    finally:
        source.close()


class _Taking:
    """Takes blocks on a thread of its own, as a bed does."""

    def __init__(self, source: SdcWaves) -> None:
        self.blocks: list[Block] = []
        self.error: InputError | None = None
        self._source = source
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for block in self._source.blocks():
                self.blocks.append(block)
        except InputError as error:
            self.error = error

    def wait(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < until, "it did not come about"
            time.sleep(0.01)

    def present(self) -> list[Block]:
        """Blocks in which something was measured."""
        return [block for block in list(self.blocks) if not np.isnan(block.samples).all()]

    def samples(self) -> npt.NDArray[np.float32]:
        return np.concatenate([block.samples for block in self.present()] or [np.empty((1, 0), np.float32)], axis=1)

    def indices(self) -> npt.NDArray[np.int64]:
        """The index of every sample of ``samples``."""
        blocks = self.present()
        return np.concatenate([np.arange(b.samples.shape[1]) + b.start for b in blocks] or [np.empty(0, np.int64)])

    def wait_for(self, count: int) -> None:
        """Wait until so many samples have come, in however many blocks."""
        self.wait(lambda: self.samples().shape[1] >= count)

    def placed(self) -> npt.NDArray[np.float32]:
        """Samples by index, from the first that was measured on; missing where none came."""
        blocks = self.present()
        first = blocks[0].start if blocks else 0
        end = max((block.start + block.samples.shape[1] for block in blocks), default=0)
        placed = np.full((len(self._source.info.leads), end - first), np.nan, dtype=np.float32)
        for block in blocks:
            placed[:, block.start - first : block.start - first + block.samples.shape[1]] = block.samples
        return placed


def _play(monitor: SdcMonitor, ecg: npt.NDArray[np.float32]) -> None:
    """Send in pieces of 100 ms as they would be taken, four times as fast."""
    at_s = time.time()
    for start in range(0, ecg.shape[1], PIECE):
        monitor.send_waves(ecg[:, start : start + PIECE], at_s=at_s + start / RATE_HZ)
        time.sleep(PIECE / RATE_HZ / 4)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_twelve_leads_arrive_sample_by_sample(tmp_path: Path, secure: bool) -> None:
    """All that was sent, exactly and in order; with TLS on both ways and without."""
    authority, tls = trustme.CA(), []
    for who in ("device", "monitor"):
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{who}.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        own = str(tmp_path / f"{who}.pem")
        tls.append(sdc_tls(own, own, str(tmp_path / "ca.pem")) if secure else None)
    ecg = _ecg(12, 40 * PIECE)
    with SdcMonitor(tls=tls[1]) as monitor, _source(monitor, tls[0], SlowClock()) as source:
        info = source.info
        assert info.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
        assert (info.rate_hz, info.limits_mv, info.simulated) == (250.0, ((-10.0, 10.0),) * 12, False)
        taking = _Taking(source)
        _play(monitor, ecg)
        taking.wait_for(ecg.shape[1])
        np.testing.assert_array_equal(taking.samples(), ecg)
        present = taking.present()
        assert all(b.start == a.start + a.samples.shape[1] for a, b in itertools.pairwise(present))
        assert source.dropped == 0


def test_an_sdc_device_is_a_source() -> None:
    """The contract of every source."""
    with SdcMonitor(leads=["II", "V1"]) as monitor:
        ended = threading.Event()

        def play() -> None:
            while not ended.is_set():
                _play(monitor, _ecg(2, 4 * PIECE))

        player = threading.Thread(target=play)
        player.start()
        try:
            check_source(lambda: SdcWaves(sdc_address(monitor.url), CLOCK, host="127.0.0.1"), blocks=10)
        finally:
            ended.set()
            player.join()


def test_invalid_samples_and_lost_leads_are_missing() -> None:
    """What the device does not vouch for, and a lead that it does not send, are NaN; the other leads go on."""
    with SdcMonitor(leads=["II", "V1"]) as monitor, _source(monitor) as source:
        taking = _Taking(source)
        at_s, ecg = time.time(), _ecg(2, 4 * PIECE)
        for number, validity in enumerate(("Vld", "Inv", "Vld")):
            piece = ecg[:, number * PIECE : (number + 1) * PIECE]
            monitor.send_waves(piece, at_s=at_s + number * 0.1, validity=validity)
        monitor.send_waves(ecg[:1, 3 * PIECE :], at_s=at_s + 0.3, leads=["II"])
        taking.wait(lambda: taking.placed().shape[1] == 4 * PIECE)
        ecg[:, PIECE : 2 * PIECE] = np.nan
        ecg[1, 3 * PIECE :] = np.nan
        np.testing.assert_array_equal(taking.placed(), ecg)


def test_lost_samples_are_a_jump_of_the_index() -> None:
    """As long as what was lost."""
    with SdcMonitor(leads=["II"]) as monitor, _source(monitor) as source:
        taking = _Taking(source)
        at_s, ecg = time.time(), _ecg(1, PIECE)
        monitor.send_waves(ecg, at_s=at_s)
        with monitor.silent():
            monitor.send_waves(ecg, at_s=at_s + 0.1)
            time.sleep(0.2)
        monitor.send_waves(ecg, at_s=at_s + 0.2)
        taking.wait_for(2 * PIECE)
        before, after = taking.indices()[PIECE - 1 : PIECE + 1]
        assert after - before > PIECE  # more where this machine was slow, never less


def test_a_silent_device_is_missing_samples_and_a_new_connection() -> None:
    """Samples go by unreported: they are missing within half a second, and soon subscribed to anew."""
    with SdcMonitor(leads=["II"]) as monitor, _source(monitor) as source:
        taking = _Taking(source)
        _play(monitor, _ecg(1, 2 * PIECE))
        taking.wait_for(2 * PIECE)
        with monitor.silent():
            until = time.monotonic() + PATIENCE_S
            while source.last_error != "sdc-silent" and time.monotonic() < until:
                _play(monitor, _ecg(1, PIECE))
        assert source.last_error == "sdc-silent"
        assert np.isnan(taking.blocks[-1].samples).all()
        taking.wait(lambda: source.connections == 2)
        seen = taking.samples().shape[1]
        _play(monitor, _ecg(1, 2 * PIECE))
        taking.wait_for(seen + 2 * PIECE)


def test_a_restarted_device_goes_on_where_time_is() -> None:
    """The index follows the time that was lost, and only the exact samples of the new run come after it."""
    ecg = _ecg(1, 4 * PIECE, seed=2)
    with SdcMonitor(leads=["II"]) as monitor, _source(monitor) as source:
        taking = _Taking(source)
        _play(monitor, _ecg(1, 2 * PIECE))
        taking.wait_for(2 * PIECE)
        began = time.monotonic()
        monitor.restart()
        taking.wait(lambda: source.connections == 2)
        time.sleep(0.2)
        _play(monitor, ecg)
        taking.wait_for(6 * PIECE)
        np.testing.assert_array_equal(taking.samples()[:, 2 * PIECE :], ecg)
        before, after = taking.indices()[2 * PIECE - 1 : 2 * PIECE + 1]
        assert 0.5 < (after - before) / RATE_HZ < time.monotonic() - began + 0.5


def test_another_patient_has_no_common_history() -> None:
    """The index jumps by more than a minute between one patient's samples and the next one's."""
    with SdcMonitor(leads=["II"]) as monitor:
        monitor.set_patient("A")
        with _source(monitor) as source:
            taking = _Taking(source)
            _play(monitor, _ecg(1, PIECE))
            taking.wait_for(PIECE)
            monitor.set_patient("A")  # associated anew, and the same
            _play(monitor, _ecg(1, PIECE))
            taking.wait_for(2 * PIECE)
            monitor.set_patient("B")
            _play(monitor, _ecg(1, PIECE))
            taking.wait_for(3 * PIECE)
            first, second, third = taking.indices()[[0, PIECE, 2 * PIECE]]
            assert second - first < RECORD_GAP_S * RATE_HZ
            assert third - second >= RECORD_GAP_S * RATE_HZ


def test_other_leads_end_the_source() -> None:
    """The bed must begin anew, for its windows would mean something else."""
    with SdcMonitor(leads=["II", "V1"]) as monitor, _source(monitor) as source:
        taking = _Taking(source)
        monitor.restart(leads=["II", "V2"])
        taking.wait(lambda: taking.error is not None)
        assert taking.error is not None
        assert taking.error.code == "leads-changed"


def test_a_device_without_an_ecg_is_no_source() -> None:
    """It is said at once, and not after a time-out."""
    with SdcMonitor(leads=[]) as monitor:
        source = SdcWaves(sdc_address(monitor.url), CLOCK, host="127.0.0.1")
        with pytest.raises(InputError) as refused:
            source.open(PATIENCE_S)
        source.close()
    assert refused.value.code == "sdc-no-ecg"


def test_a_device_that_is_not_there_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is said, with the reason of the last attempt."""
    monkeypatch.setattr(sdc_link, "TICK_S", 0.05)
    source = SdcWaves(sdc_address("http://127.0.0.1:9/x"), CLOCK, host="127.0.0.1")
    with pytest.raises(InputError) as refused:
        source.open(1.0)
    with pytest.raises(InputError):
        _ = source.info
    source.close()
    assert refused.value.code == "source-silent"
    assert "sdc-connection-lost" in str(refused.value)
