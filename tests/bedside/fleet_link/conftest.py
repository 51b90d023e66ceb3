"""A small fleet on loopback, with TLS 1.3, that answers as a test wants it to."""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from edgeward.testing.fleet.authority import Issuer
from edgeward.testing.fleet.endpoint import Asked, Endpoint, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class StubFleet:
    """``answer`` gets path, body and whether a client certificate was shown; what arrived stands in ``heard``."""

    issuer: Issuer
    endpoint: Endpoint
    url: str
    answer: Callable[[str, bytes, bool], Reply] = lambda path, body, known: (404, b"{}", {})

    def __post_init__(self) -> None:
        self.endpoint.answer = lambda asked: self.answer(asked.path, asked.body, bool(asked.shown))

    @property
    def ca(self) -> Path:
        return self.endpoint.ca

    @property
    def heard(self) -> list[Asked]:
        return self.endpoint.heard


@contextmanager
def serving(folder: Path, begins: datetime) -> Iterator[StubFleet]:
    """Serve; ``begins``: of the server's certificate, which lives for a month."""
    issuer = Issuer()
    ca, pem = folder / "ca.pem", folder / "server.pem"
    ca.write_text(issuer.pem)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem.write_bytes(issuer.server(names, begins=begins, life=timedelta(days=30)))
    with Endpoint(pem, ca) as endpoint:
        yield StubFleet(issuer, endpoint, endpoint.url)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[StubFleet]:
    """A fleet with a good certificate."""
    with serving(tmp_path, datetime.now(UTC) - timedelta(days=1)) as made:
        yield made


@pytest.fixture
def fleet_of_another_time(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StubFleet]:
    """A fleet whose certificate is valid ``request.param`` away from now."""
    with serving(tmp_path, datetime.now(UTC) + request.param) as made:
        yield made
