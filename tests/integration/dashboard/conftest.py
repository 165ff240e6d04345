"""One browser for all tests of the dashboard; each has a tab of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from support.chromium import Page, open_tab, run_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[int]:
    """Run a browser; give the port of its protocol."""
    with run_chromium() as port:
        yield port


@pytest.fixture
async def page(chromium: int) -> AsyncIterator[Page]:
    """Give a tab with storage of its own."""
    async with open_tab(chromium) as page:
        yield page
