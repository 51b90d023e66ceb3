"""What the tests of ceremonies share: passphrases, a process that ends at a write, key holders with a machine each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import EdgewardError
from edgeward.trust import durable
from edgeward.trust.draft import Draft
from edgeward.trust.keys import Keys
from edgeward.trust.public import public_path, read_public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securesystemslib.signer import Key

WRITERS = ("keys", "repository", "draft", "first", "ceremony")
"""The modules of ``edgeward.trust`` that write in a ceremony."""


class Secrets:
    """Passphrases of a test: the same for every key; who was asked for what is kept."""

    def __init__(self, secret: str = "correct horse battery") -> None:
        self.secret = secret
        self.asked: list[str] = []

    def choose(self, key: str) -> str:
        return self.secret

    def ask(self, key: str) -> str:
        self.asked.append(key)
        return self.secret


class CutError(BaseException):
    """The process ends here."""


@contextmanager
def cut_at(write: int, when: str) -> Iterator[None]:
    """End the process "before" or "after" the ``write``-th durable write."""
    left = [write]

    def cut(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        left[0] -= 1
        if left[0] == 0:
            if when == "after":
                durable.write_durably(path, data, mode=mode)
            raise CutError
        durable.write_durably(path, data, mode=mode)

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITERS:
            patch.setattr(f"edgeward.trust.{name}.write_durably", cut)
        yield


class Holder:
    """A person with a machine of their own, on which their key was made."""

    def __init__(self, place: Path, name: str) -> None:
        self.machine = place / f"machine-of-{name}"
        self.machine.mkdir()
        self.private = self.machine / f"{name}.pem"
        self.key: Key = Keys(self.machine, passphrases=Secrets()).make_pair(self.private)

    @property
    def public(self) -> Path:
        """The file that is handed over."""
        return public_path(self.private)

    @property
    def brought(self) -> Key:
        """The key as others read it from that file."""
        return read_public(self.public)

    def sign(self, draft: Path) -> int:
        """Sign the draft that was carried here; how many signatures that added."""
        carried = Draft.read(draft)
        added = carried.sign([Keys(self.machine, passphrases=Secrets()).load(self.private)])
        carried.write()
        return added


def code_of(action: Callable[[], object]) -> str:
    """The code of the error that ``action`` raises."""
    with pytest.raises(EdgewardError) as caught:
        action()
    return caught.value.code
