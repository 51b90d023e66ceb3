"""``edgeward bundle diff`` and ``bundle patch``: the new file whole, or the old state and a sentence."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from edgeward.cli.main import main
from edgeward.testing.repository import tiny_bundle
from edgeward.trust import durable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two bundles and the delta between them."""
    (tmp_path / "old.ewb").write_bytes(tiny_bundle("1.0.0", filler=bytes(range(256)) * 40))
    (tmp_path / "new.ewb").write_bytes(tiny_bundle("1.0.1", filler=bytes(range(256)) * 40))
    assert diff(tmp_path) == 0
    return tmp_path


def diff(folder: Path) -> int:
    return main(["bundle", "diff", str(folder / "old.ewb"), str(folder / "new.ewb"), "--out", str(folder / "d.ewd")])


def patch(folder: Path, old: str = "old.ewb", *more: str) -> int:
    return main(["bundle", "patch", str(folder / old), str(folder / "d.ewd"), "--out", str(folder / "made.ewb"), *more])


def test_diff_and_patch_give_the_new_bundle(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The patched file is the new bundle, and diff says what it saves."""
    assert diff(files) == 0
    assert "ecg-beat 1.0.0 → ecg-beat 1.0.1" in capsys.readouterr().out
    assert patch(files) == 0
    assert (files / "made.ewb").read_bytes() == (files / "new.ewb").read_bytes()
    assert (files / "d.ewd").stat().st_size < (files / "new.ewb").stat().st_size / 10


def test_the_installed_file_may_be_replaced_in_place(files: Path) -> None:
    """The draft stands beside it until it is whole."""
    new = (files / "new.ewb").read_bytes()
    assert (
        main(["bundle", "patch", *(str(files / n) for n in ("old.ewb", "d.ewd")), "--out", str(files / "old.ewb")]) == 0
    )
    assert (files / "old.ewb").read_bytes() == new


def test_wrong_base_and_damage_leave_nothing_behind(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each refusal has its code, exit code 5, and no file."""
    names = sorted(path.name for path in files.iterdir())
    assert patch(files, "new.ewb") == 5
    assert "[delta-wrong-base]" in capsys.readouterr().err
    assert patch(files, "old.ewb", "--sha256", "0" * 64) == 5
    assert "[delta-other-bundle]" in capsys.readouterr().err
    raw = bytearray((files / "d.ewd").read_bytes())
    (files / "d.ewd").write_bytes(raw[:-1])
    assert patch(files) == 5
    assert "[delta-damaged]" in capsys.readouterr().err
    (files / "d.ewd").write_bytes(b"x" * 500)
    assert patch(files) == 5
    assert "[delta-not-delta]" in capsys.readouterr().err
    (files / "d.ewd").unlink()
    assert patch(files) == 5
    assert "[bundle-unreadable]" in capsys.readouterr().err
    assert patch(files, "old.ewb", "--sha256", "xyz") == 2
    assert sorted(path.name for path in files.iterdir()) == [name for name in names if name != "d.ewd"]


def test_file_that_is_no_bundle_is_refused_by_diff(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A delta is made between bundles that a device would install, and nothing else."""
    (files / "new.ewb").write_bytes((files / "new.ewb").read_bytes()[:-1])
    assert diff(files) == 5
    assert "[bundle-" in capsys.readouterr().err


def test_full_disk_keeps_what_was_there(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills while the new bundle is written leaves the file of that name as it was, and no draft."""
    (files / "made.ewb").write_bytes(b"before")
    names = sorted(path.name for path in files.iterdir())

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable.os, "write", full)
    assert patch(files) == 2
    assert "[disk-full]" in capsys.readouterr().err
    assert (files / "made.ewb").read_bytes() == b"before"
    assert sorted(path.name for path in files.iterdir()) == names
    assert diff(files) == 2
