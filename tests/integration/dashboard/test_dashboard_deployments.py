"""The dashboard's deployments in a real browser: what serves, and changes that are confirmed.

The API behind it is the node's own, over declared things that exist in memory alone.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from support.admin_server import admin_server
from support.chromium import Page, find_chromium
from support.fake_view import FakeView
from support.page_checks import check, contrast_faults, nameless

pytestmark = [
    pytest.mark.needs_server("chromium"),
    pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed"),
]

NOW = 1_795_000_000.0
"""A day of November 2026, s: compatibility dates begin with that month."""

ROWS = "document.querySelectorAll('#deployment-table tbody tr').length"
OPEN = "document.getElementById('confirm-dialog').open"
GO = "document.getElementById('confirm-go').click()"


def text(selector: str) -> str:
    return f"document.querySelector({selector!r}).innerText.replaceAll('\\u00a0', ' ')"


def click(key: str) -> str:
    return f"document.querySelector('[data-key=\"{key}\"]').click()"


async def deploy(url: str, port: int, **content: Any) -> str:
    """Make a deployment of instances at a port; return its id."""
    order = {
        "compatibility_date": "2026-11-01",
        "instances": {"den": [f"10.0.0.1:{port}"]},
        **content,
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/projects/shop/deployments", json=order) as reply,
    ):
        body = await reply.json()
        assert reply.status == 201, body
        return str(body["id"])


async def environment(url: str, name: str = "production") -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/projects/shop/environments") as reply,
    ):
        rows = (await reply.json())["environments"]
        return next(row for row in rows if row["name"] == name)


async def three(view: FakeView, url: str) -> tuple[str, str, str]:
    """Make one that serves, one that waits, and one that failed."""
    view.releases.failing = frozenset({"broken"})
    first = await deploy(url, 9001, branch="main", commit="4f2a9c1", message="Cart in one query")
    waits = await deploy(url, 9002, branch="main", commit="8d10e77", promote=False)
    failed = await deploy(url, 9003, branch="broken", environment="production")
    return first, waits, failed


async def test_nothing_deployed_is_said(page: Page) -> None:
    async with admin_server(FakeView(now=NOW)) as url:
        await page.open(f"{url}/")
        await page.wait_for("document.querySelectorAll('.environment').length > 0")
        assert "Nothing was deployed" in await page.evaluate(text("#deployment-table"))
        assert "d3f9a1c serves 100 %" in await page.evaluate(text("#environments"))
        assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_serves_is_shown_and_what_failed_says_why(page: Page, scheme: str) -> None:
    view = FakeView(now=NOW, toggled_at=NOW - 600)
    async with admin_server(view) as url:
        first, waits, failed = await three(view, url)
        await page.open(f"{url}/", scheme=scheme)
        await page.wait_for(f"{ROWS} === 3")
        table = await page.evaluate(text("#deployment-table"))
        for part in (first, waits, failed, "main @ 4f2a9c1", "Cart in one query", "answers 500"):
            assert part in table
        assert f"{first}.shop.apps.example.com" in table
        assert f"{first} (main) serves 100 %" in await page.evaluate(text("#environments"))
        # Only what is ready and does not serve can be changed.
        buttons = "[...document.querySelectorAll('#deployment-table button')]"
        changes = f"{buttons}.map((b) => b.dataset.key)"
        assert await page.evaluate(changes) == [f"{waits} promote", f"{waits} share"]

        await page.evaluate(click(f"{waits} share"))
        await page.wait_for(OPEN)
        assert await contrast_faults(page) == []
        assert await nameless(page, least=10) == []
        assert await check(page, "targets") == []
        await page.press("Escape")
        await page.wait_for(f"!{OPEN}")
        assert (await environment(url))["candidate"] == ""
        await page.wait_for(f"document.activeElement.dataset.key === '{waits} share'")

        await page.resize(320, 1800)
        assert (await check(page, "structure"))["wide"] == 0
        assert page.errors == []


async def test_rollout_promotion_and_rollback_are_confirmed_and_made(page: Page) -> None:
    view = FakeView(now=NOW, toggled_at=NOW - 600)
    async with admin_server(view) as url:
        first, waits, _ = await three(view, url)
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 3")

        await page.evaluate(click(f"{waits} share"))
        assert f"stay with {first}" in await page.evaluate(text("#confirm-text"))
        await page.evaluate("document.getElementById('confirm-percent').value = '25'")
        await page.evaluate(GO)
        await page.wait_for("document.querySelectorAll('.share-bar').length === 1")
        found = await environment(url)
        assert (found["candidate"], found["share"]) == (waits, 0.25)
        assert f"serves 75 %, {waits} (main) 25 %" in await page.evaluate(text("#environments"))

        await page.evaluate(click("production promote"))
        assert "It gets all requests of production" in await page.evaluate(text("#confirm-text"))
        assert (await environment(url))["deployment"] == first, "nothing before it is confirmed"
        await page.evaluate(GO)
        await page.wait_for("document.querySelectorAll('.share-bar').length === 0")
        assert (await environment(url))["deployment"] == waits

        await page.evaluate(click("production back"))
        assert f"{first} serves all its requests again" in await page.evaluate(
            text("#confirm-text")
        )
        await page.evaluate(GO)
        await page.wait_for(f"{text('#environments')}.includes('{first} (main) serves')")
        assert (await environment(url))["deployment"] == first
        assert page.errors == []


async def test_change_that_is_refused_says_why_and_stays_open(page: Page) -> None:
    view = FakeView(now=NOW, toggled_at=NOW - 600)
    async with admin_server(view) as url:
        _, waits, _ = await three(view, url)
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 3")
        await page.evaluate(click(f"{waits} promote"))
        async with (
            aiohttp.ClientSession() as session,
            session.delete(f"{url}/v1/projects/shop/deployments/{waits}") as reply,
        ):
            assert reply.status == 204
        await page.evaluate(GO)
        await page.wait_for(
            f"document.getElementById('confirm-error').textContent.includes('{waits}')"
        )
        assert await page.evaluate(OPEN)
        await page.evaluate("document.getElementById('confirm-cancel').click()")
        assert not await page.evaluate(OPEN)
        assert [
            e for e in page.errors if "404" not in e and "409" not in e and "400" not in e
        ] == []
