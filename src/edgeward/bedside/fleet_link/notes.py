"""What a device keeps of its dealings with the fleet: the count of its starts, how it stands, when it was last heard.

One small file, ``link.json``, replaced atomically; ``edgeward device status`` reads it beside a running device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from edgeward.bedside.files import replace_file
from edgeward.trust.durable import storage_error

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.bedside.files import FilePort

BOOT_MAX = (1 << 31) - 1
"""As ``exchange.checkin.CheckIn.boot`` allows."""


@dataclass(frozen=True, slots=True)
class Notes:
    """``boot``: starts so far; ``phase`` as ``core.Phase``; ``trouble``: the newest failure's code, "" after a success.

    ``heard_s``: the wall clock, in seconds since 1970, when the fleet last answered; 0 for never.
    """

    boot: int = 0
    phase: str = ""
    trouble: str = ""
    heard_s: int = 0


def read_notes(folder: Path, files: FilePort) -> Notes:
    """The notes, or those of a device that never started where there are none that can be read."""
    try:
        found = json.loads(files.read(folder / "link.json"))
        values = {one.name: found[one.name] for one in fields(Notes)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Notes()
    whole = all(isinstance(values[name], int) and not isinstance(values[name], bool) for name in ("boot", "heard_s"))
    words = all(isinstance(values[name], str) for name in ("phase", "trouble"))
    return Notes(**values) if whole and words and 0 <= values["boot"] < BOOT_MAX else Notes()


def write_notes(folder: Path, files: FilePort, notes: Notes) -> None:
    """Keep the notes. Raises ``ConfigError`` (``disk-full``, ``disk-error``)."""
    try:
        replace_file(files, folder / "link.json", json.dumps(asdict(notes)).encode())
    except OSError as error:
        raise storage_error(error, "keeping the notes of the fleet link") from error
