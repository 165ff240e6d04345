"""The dashboard for everybody: both colour schemes, small screens, the keyboard, screen readers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from support.admin_server import admin_server
from support.chromium import Page, find_chromium
from support.fake_view import FakeView
from support.page_checks import check, contrast_faults, nameless, tab_stops

pytestmark = [
    pytest.mark.needs_server("chromium"),
    pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed"),
]

ROWS = "document.querySelectorAll('#route-table tbody tr').length"
DRAWN = "document.querySelectorAll('#histogram .share, #history path').length > 2"
NOT_DECIDED = "document.querySelector('[data-key=\"production|read|/search|den\"]').click()"
SWITCH_OFF = "document.querySelector('[data-key=\"switch shop\"]').click()"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SHOWN_OFF = "!document.getElementById('whatif-card').hidden"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_can_be_read_named_and_hit(page: Page, scheme: str) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/", scheme=scheme)
        await page.wait_for(f"{ROWS} === 15 && {DRAWN}")
        await page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.open = true })"
        )
        for step, shown in (
            ("0", "true"),
            (NOT_DECIDED, "document.querySelector('#explain .waiting')"),
            (SWITCH_OFF, SHOWN_OFF),
        ):
            await page.evaluate(step)
            await page.wait_for(f"Boolean({shown})")
            assert await contrast_faults(page) == []
            assert await nameless(page) == []
            assert await check(page, "targets") == []
            found = await check(page, "structure")
            assert found == {"twice": [], "jumps": [], "dangling": [], "tables": 0, "wide": 0}
        assert page.errors == []


@pytest.mark.skipif("ONETRIP_AXE" not in os.environ, reason="axe-core is not installed")
async def test_axe_finds_nothing(page: Page) -> None:
    axe = await asyncio.to_thread(Path(os.environ["ONETRIP_AXE"]).read_text, encoding="utf-8")
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15 && {DRAWN}")
        await page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.open = true })"
        )
        for step, shown in (("0", "true"), (SWITCH_OFF, SHOWN_OFF)):
            await page.evaluate(step)
            await page.wait_for(f"Boolean({shown})")
            found = await page.evaluate(f"{axe}\n;axe.run(document, {{runOnly: {AXE_RULES}}})")
            assert len(found["passes"]) > 30
            faults = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]]
            assert faults == []


async def test_contrast_check_sees_a_fault(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        await page.evaluate("document.getElementById('routes-title').style.color = '#999'")
        (fault,) = await contrast_faults(page)
        assert "Routes of shop" in fault


async def test_small_screen_needs_no_sideways_scrolling(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/", width=320)
        await page.wait_for(f"{ROWS} === 15 && {DRAWN}")
        await page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.open = true })"
        )
        for step, shown in (("0", "true"), (SWITCH_OFF, SHOWN_OFF)):
            await page.evaluate(step)
            await page.wait_for(f"Boolean({shown})")
            assert (await check(page, "structure"))["wide"] == 0
            assert await check(page, "targets") == []
        assert page.errors == []


async def test_keyboard_reaches_everything_and_is_never_trapped(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15 && {DRAWN}")
        stops = await tab_stops(page)
        assert stops[0].startswith("A Skip to the routes")
        wanted = await page.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, [role=button]')]"
            ".filter((e) => e.checkVisibility()).map((e) => e.dataset.key || e.id)"
        )
        assert len(wanted) > 40
        assert set(wanted) <= set(stops)

        await page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        await page.press("Tab")
        await page.press("Enter", "\r")
        await page.wait_for("document.activeElement.id === 'routes'")

        # A table that is drawn again keeps the focus on the control that was used.
        await page.evaluate("document.querySelector('[data-key=\"sort saving\"]').focus()")
        await page.press("Enter", "\r")
        await page.wait_for(
            "document.querySelectorAll('th[aria-sort=\"descending\"]').length === 1"
        )
        assert await page.evaluate("document.activeElement.dataset.key") == "sort saving"
        await page.wait_for(
            "document.getElementById('announce').textContent.includes('sorted by Saving')"
        )
        assert page.errors == []


async def test_nothing_moves_for_those_who_want_that(page: Page) -> None:
    moving = "document.getAnimations().filter((a) => a.playState === 'running').length"
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        assert await page.evaluate(moving) > 0
        await page.open(f"{url}/?still", motion="reduce")
        await page.wait_for(f"{ROWS} === 15")
        assert await page.evaluate(moving) == 0


async def test_colours_are_chosen_and_kept(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    name = "document.querySelector('#theme .theme-name').textContent"
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/", scheme="light")
        light = await page.evaluate(ground)
        assert await page.evaluate(name) == "System"
        for wanted in ("Light", "Dark"):
            await page.evaluate("document.getElementById('theme').click()")
            assert await page.evaluate(name) == wanted
        dark = await page.evaluate(ground)
        assert dark != light
        await page.evaluate("location.reload()")
        await page.wait_for(f"{ROWS} === 15")
        assert (await page.evaluate(name), await page.evaluate(ground)) == ("Dark", dark)
        await page.evaluate("document.getElementById('theme').click()")
        assert (await page.evaluate(name), await page.evaluate(ground)) == ("System", light)
        assert await page.evaluate("localStorage.length") == 0
        assert page.errors == []
