"""A small JSON file with its own checksum, so that a damaged one is not believed; ``files`` makes it durable."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seal(body: dict[str, Any]) -> bytes:
    """The file that says ``body``, which names its ``schema``."""
    return (json.dumps({**body, "check": _checksum(body)}, sort_keys=True, indent=1) + "\n").encode()


def unseal(raw: bytes, schema: int) -> dict[str, Any]:
    """What the file says. ``ValueError`` or ``KeyError`` for one that is damaged or of another ``schema``."""
    body: Any = json.loads(raw)
    if not isinstance(body, dict) or body.pop("check", "") != _checksum(body) or body["schema"] != schema:
        raise ValueError("not a whole file of this schema")
    return body


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
