"""Which hosts are this very machine: what goes no further needs neither TLS nor a password."""

from __future__ import annotations

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
