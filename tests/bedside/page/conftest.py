"""The browser, a tab and a ward, for the tests that look at pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from page_chromium import Chromium, Page, find_chromium
from ward_messages import hello
from ward_speaking import Ward

from edgeward.bedside.page import WardServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("NO CHROMIUM: the pages were not looked at; apt-get install chromium")
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Page]:
    page = chromium.page()
    page.size(1280, 800)
    yield page
    page.close()


@pytest.fixture
def ward() -> Iterator[Ward]:
    made: list[Ward] = []
    with WardServer(hello=hello(), act=lambda *deed: made[0].act(*deed)) as server:
        made.append(Ward(server))
        yield made[0]
