"""What the conformance tests share: one server for all, and a fresh repository with its client for each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from simulated import Client, Repository, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


@pytest.fixture
def repo() -> Repository:
    return Repository()


@pytest.fixture
def client(server: Server, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(
        os, "fsync", lambda _: None
    )  # these tests are of trust, not of durability; it doubles their time
    return Client(server.add(repo), tmp_path, repo.published["root"][0])
