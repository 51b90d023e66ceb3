"""Every error of Edgeward, grouped by who must act.

::

    EdgewardError
    ├── InputError     a wave, file or message cannot be judged: drop this window, look at the source   exit 3
    ├── TrustError     signed metadata or a hash does not hold: keep the slot, tell the fleet operator  exit 4
    ├── BundleError    a bundle is malformed or made for something else: refuse the bundle              exit 5
    ├── EngineError    inference failed: fall back, then return to the previous slot                    exit 6
    ├── RolloutError   a rollout may not go on: pause                                                   exit 7
    └── ConfigError    the operator's settings or arguments are wrong                                   exit 2

A message says what happened, which limit or clause it broke, and what to do next. It never holds payload: no
sample, no patient identifier, no text taken from a clinical message. ``code`` is a stable kebab-case word that logs,
reports and tests may rely on. Exit code 1 is kept for "the measurement was made and a gate or bound does not hold".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


class EdgewardError(Exception):
    """Base of every error raised on purpose.

    ``code`` is a stable kebab-case word; ``str(error)`` is the sentence for the person who must act.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Callable[..., EdgewardError], tuple[object, ...]]:
        """How it crosses to another process: an exception is made anew from ``args`` there, which lack ``code``."""
        return _restored, (type(self), self.code, *self.args)


def _restored(kind: type[EdgewardError], code: str, *arguments: object) -> EdgewardError:
    error = kind.__new__(kind, *arguments)
    error.args, error.code = arguments, code
    return error


class InputError(EdgewardError):
    """A wave, file or message that cannot be judged: drop it and look at the source."""

    exit_code = 3


class TrustError(EdgewardError):
    """Signed metadata or a hash does not hold: keep the slot in use, tell the fleet operator."""

    exit_code = 4


class BundleError(EdgewardError):
    """A bundle is malformed or made for something else: refuse it."""

    exit_code = 5


class EngineError(EdgewardError):
    """Inference failed: fall back, then return to the previous slot."""

    exit_code = 6


class RolloutError(EdgewardError):
    """A rollout may not go on: pause it."""

    exit_code = 7


class ConfigError(EdgewardError):
    """The operator's settings or arguments are wrong."""

    exit_code = 2
