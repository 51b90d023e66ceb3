"""What was said of a task's bundles: which is in charge, since when, and which runs in its shadow. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import age_ms, words
from edgeward.bedside.page.stay import steady
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLES_TTL_MS = 15_000
"""A task's bundles are told of every second."""


@dataclass(frozen=True, slots=True)
class BundlesSaid:
    """The message ``serving`` as it was said at ``t_ms``.

    ``since_at_ms``: when the bundle took over while beds were watched, None where it did not; ``shadow``: the version
    beside it, "" for none; ``code``: what keeps that from running.
    """

    t_ms: float
    version: str
    since_at_ms: float | None
    shadow: str
    code: str

    @classmethod
    def read(cls, data: Mapping[str, Any], now_ms: float, before: BundlesSaid | None = None) -> BundlesSaid:
        """Read a message that follows ``before``. Raises ``InputError`` where a field is odd."""
        since, shadow = data.get("since_ms"), data.get("shadow")
        if not isinstance(shadow, dict | None):
            raise InputError("page-datum", "a shadow of a bundle is none; not shown")
        known = before.since_at_ms if before is not None else None
        return cls(
            now_ms,
            words(data["version"]),
            None if since is None else steady(known, now_ms - age_ms(since)),
            "" if shadow is None else words(shadow.get("version")) or "another",
            "" if shadow is None else words(shadow.get("code")),
        )
