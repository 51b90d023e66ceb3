"""Durable writing: the old file or the new one, and a lock that says who holds it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import ConfigError
from edgeward.testing.repository import RepositoryLab
from edgeward.trust import durable
from edgeward.trust.durable import locked, storage_error, write_durably

if TYPE_CHECKING:
    from pathlib import Path

REAL_WRITE = os.write


def full_after(calls: int) -> object:
    """An ``os.write`` that finds the disk full after ``calls`` calls, half of the last one written."""
    left = [calls]

    def write(handle: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            REAL_WRITE(handle, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "full")
        return REAL_WRITE(handle, data)

    return write


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that does not fit leaves the old content and no draft."""
    path = tmp_path / "x"
    write_durably(path, b"old", mode=0o600)
    monkeypatch.setattr(durable.os, "write", full_after(0))
    with pytest.raises(OSError, match="full"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_draft_of_an_earlier_run_does_not_lend_its_permissions(tmp_path: Path) -> None:
    """A private file is private even where a readable draft of its name was left behind."""
    (tmp_path / ".x.new").write_bytes(b"left")
    (tmp_path / ".x.new").chmod(0o666)
    write_durably(tmp_path / "x", b"secret", mode=0o600)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_full_disk_at_each_write_of_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing on a disk that fills at any write is disk-full, readers see the old state, and it can be repeated."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    for calls in range(20):
        monkeypatch.setattr(durable.os, "write", full_after(calls))
        try:
            lab.publish("1.1.0")
        except ConfigError as error:
            code = error.code
        else:
            break
        finally:
            monkeypatch.setattr(durable.os, "write", REAL_WRITE)
        assert code == "disk-full"
        assert lab.client().latest("ecg-beat").version == "1.0.0"
    assert calls == 4  # bundle, targets, snapshot, timestamp
    assert lab.client().latest("ecg-beat").version == "1.1.0"


def test_full_disk_at_each_write_of_the_device_s_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose disk fills while it keeps metadata says disk-full, and asks again successfully later."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    for calls in range(20):
        monkeypatch.setattr(durable.os, "write", full_after(calls))
        try:
            lab.client().latest("ecg-beat")
        except ConfigError as error:
            code = error.code
        else:
            break
        finally:
            monkeypatch.setattr(durable.os, "write", REAL_WRITE)
        assert code == "disk-full"
    assert calls > 3
    assert lab.client().latest("ecg-beat").version == "1.0.0"


def test_lock_names_its_holder(tmp_path: Path) -> None:
    """A taken lock is the caller's code with the number of the process; a released one is free."""
    path = tmp_path / "lock"
    with locked(path, "x-in-use", "it"), pytest.raises(ConfigError) as caught, locked(path, "x-in-use", "it"):
        pass
    assert caught.value.code == "x-in-use"
    assert str(os.getpid()) in str(caught.value)
    with locked(tmp_path / "lock", "x-in-use", "the folder"):
        pass


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EROFS, "disk-error")])
def test_storage_error_says_which(number: int, code: str) -> None:
    """A full disk and a refusing one are told apart; the path is not repeated."""
    error = storage_error(OSError(number, "x", "/secret/path"), "testing")
    assert error.code == code
    assert "secret" not in str(error)
