"""What a fleet server does not do for somebody, with the HTTP status that says so."""

from __future__ import annotations

from edgeward.kernel.errors import InputError


class RefusedError(InputError):
    """A request that cannot be granted. ``status``: of HTTP; code and message stand in the answer's body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = status
