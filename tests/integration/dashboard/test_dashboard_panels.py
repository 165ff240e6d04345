"""The dashboard's panels in a real browser: waterfall, histogram, table, events as they happen."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from support.admin_server import admin_server
from support.chromium import Page, find_chromium
from support.fake_view import PLACES, FakeView

pytestmark = [
    pytest.mark.needs_server("chromium"),
    pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed"),
]

ROWS = "document.querySelectorAll('#route-table tbody tr').length"
TYPE = """(id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event('input'));
}"""
ASKED = "performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname)"


def click(key: str) -> str:
    return f"document.querySelector('[data-key=\"{key}\"]').click()"


def text(selector: str) -> str:
    return f"document.querySelector({selector!r}).innerText"


async def open_page(page: Page, url: str, **options: str) -> None:
    await page.open(f"{url}/", **options)  # type: ignore[arg-type]
    await page.wait_for(f"{ROWS} === 15 && document.querySelectorAll('.share').length > 2")


async def test_waterfall_has_a_bar_for_each_trip_to_one_scale(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await open_page(page, url)
        bars = "[...document.querySelectorAll('.side .steps')].map((s) => [...s.querySelectorAll('rect')].map((r) => [r.getAttribute('class'), parseFloat(r.getAttribute('x')), parseFloat(r.getAttribute('width'))]))"  # noqa: E501
        before, after = await page.evaluate(bars)
        kinds = [kind for kind, _, _ in before]
        assert kinds == ["compute", *["trip-0"] * 11]
        assert [kind for kind, _, _ in after] == ["edge", "compute", *["trip-0"] * 11]
        starts = [start for _, start, _ in before]
        assert starts == sorted(starts)
        # Both sides are drawn to one scale: a trip over the ocean is as long on either.
        assert after[0][2] == pytest.approx(before[1][2], rel=0.01)
        assert before[-1][1] + before[-1][2] == pytest.approx(100, abs=0.1)
        table = await page.evaluate(text("#explain .terms"))
        assert re.search(r"orders-db\s+11 × 229 = 2,519\s+11 × 0.5 = 5.5\s+−2,514", table)
        assert re.search(r"Score\s+2,522\s+238\s+−2,285", table)
        assert "predicted saving exceeds the least gain" in await page.evaluate(text("#explain"))

        await page.evaluate(click("production|read|/search|den"))
        await page.wait_for("document.querySelectorAll('#explain .waiting').length === 1")
        assert "needs 14 more requests from den" in await page.evaluate(text("#explain .waiting"))
        assert await page.evaluate("document.querySelector('.side') === null")
        assert page.errors == []


async def test_histogram_is_of_what_the_interval_is_of(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await open_page(page, url)
        said = await page.evaluate(text("#histogram .verdict"))
        assert re.match(r"Saves 2,285 ± \d+ ms a request", said)
        assert "95 % interval, n = 1,272 placed vs 12 control" in said
        cells = "[...document.querySelectorAll('#histogram tbody tr')].map((r) => [r.cells[0].textContent, Number(r.cells[3].textContent.replace(',', ''))])"  # noqa: E501
        counted: dict[str, int] = {}
        for arm, requests in await page.evaluate(cells):
            counted[arm] = counted.get(arm, 0) + requests
        assert counted == {"control": 12, "placed": 1272}
        # Placed is left of control: the scale is one of latency.
        at = "Math.min(...[...document.querySelectorAll('.share.{}')].map((r) => Number(r.getAttribute('x'))))"  # noqa: E501
        placed, control = [
            await page.evaluate(at.replace("{}", arm)) for arm in ("placed", "control")
        ]
        assert placed < control
        assert await page.evaluate("document.querySelectorAll('#histogram .band').length") == 2

        await page.evaluate(click("edges true"))
        await page.wait_for(
            "document.querySelector('#histogram').innerText.includes('den and fra')"
        )
        assert "n = 2,544 placed vs 24 control" in await page.evaluate(text("#histogram .verdict"))
        await page.evaluate(click("production|read|/about|den"))
        await page.wait_for(
            "document.querySelector('#histogram').innerText.includes('nothing to compare')"
        )
        assert page.errors == []


async def test_table_is_sorted_and_filtered(page: Page) -> None:
    savings = "[...document.querySelectorAll('#route-table tbody tr')].map((r) => r.cells[8].innerText.split('\\n')[0])"  # noqa: E501
    async with admin_server(FakeView()) as url:
        await open_page(page, url)
        await page.evaluate(click("sort saving"))
        assert (await page.evaluate(savings))[:5] == ["2,285", "1,207", "1,165", "489", "–"]
        await page.evaluate(click("sort saving"))
        assert (await page.evaluate(savings))[:5] == ["489", "1,165", "1,207", "2,285", "–"]
        row = await page.evaluate("document.querySelector('#route-table tbody tr').innerText")
        assert re.search(r"± \d+, 95 %", row)
        assert "p95" in row

        await page.evaluate(f"({TYPE})('route-filter', 'FRA placed')")
        assert await page.evaluate(ROWS) == 2
        assert await page.evaluate(text("#routes-count")) == "2 of 15 rows"
        await page.evaluate(f"({TYPE})('route-filter', 'nowhere')")
        assert "No route matches" in await page.evaluate(text("#route-table"))
        assert page.errors == []


async def test_events_arrive_by_the_stream_and_wait_while_paused(page: Page) -> None:
    view = FakeView()
    async with admin_server(view) as url:
        await open_page(page, url)
        await page.wait_for("document.getElementById('live-text').textContent === 'live'")
        lists = f"{ASKED}.filter((path) => path === '/v1/events').length"
        asked = await page.evaluate(lists)
        shown = "document.querySelector('#events').innerText.includes('{}')"
        view.happen("probe.failed", "orders-db", "first news")
        await page.wait_for(shown.format("first news"))
        await page.wait_for(
            "document.getElementById('announce').textContent.includes('first news')"
        )

        await page.evaluate("document.getElementById('events-pause').click()")
        view.happen("probe.recovered", "orders-db", "second news")
        await page.wait_for("document.getElementById('events-pause').textContent.includes('1 new')")
        assert not await page.evaluate(shown.format("second news"))
        await page.evaluate("document.getElementById('events-pause').click()")
        assert await page.evaluate(shown.format("second news"))

        await page.evaluate(
            "document.getElementById('event-filter').value = 'recovered orders'; "
            "document.getElementById('event-filter').dispatchEvent(new Event('input'))"
        )
        assert await page.evaluate(shown.format("second news"))
        assert not await page.evaluate(shown.format("first news"))
        # None of it was polled for.
        assert await page.evaluate(lists) == asked
        assert page.errors == []


async def test_page_that_gets_no_stream_polls(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetrip.control.stream.MAX_STREAMS", 0)
    view = FakeView()
    async with admin_server(view) as url:
        await open_page(page, url)
        await page.wait_for("document.getElementById('live-text').textContent === 'polling'")
        view.happen("probe.failed", "orders-db", "late news")
        await page.wait_for("document.querySelector('#events').innerText.includes('late news')")
        assert await page.evaluate(f"{ASKED}.filter((p) => p === '/v1/stream').length") == 1
        assert [e for e in page.errors if "503" not in e] == []


async def test_nothing_comes_from_elsewhere_and_nothing_is_inline(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await open_page(page, url)
        found = await page.evaluate(
            "performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)"
        )
        assert len(found) > 20
        assert set(found) == {url}
        inline = "document.querySelectorAll('script:not([src]), style, [onclick], main [style]:not(path)').length"  # noqa: E501
        assert await page.evaluate(inline) == 0
        # The policy would have stopped it, and said so.
        assert page.errors == []
        script = "Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'})"
        await page.evaluate(f"document.body.append({script})")
        assert await page.evaluate("window.hit === undefined")
        assert any("Content Security Policy" in error for error in page.errors)


async def test_many_regions_and_projects_are_bounded(page: Page) -> None:
    places = {f"r{n:02}": (f"City {n}", (60.0 - 2 * n, 9.0 * n - 170)) for n in range(36)}
    places = {"den": PLACES["den"], "bom": PLACES["bom"], "fra": PLACES["fra"], **places}
    rtts = {(a, b): 0.1 for a in places for b in places if a < b}
    view = FakeView(places=places, rtts=rtts)
    shop = view.catalog.projects["shop"]
    many = {f"p{n:04}": replace(shop, name=f"p{n:04}") for n in range(300)}
    view.catalog = replace(view.catalog, projects={**view.catalog.projects, **many})
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for("document.querySelectorAll('.project').length === 20")
        assert "283 more projects" in await page.evaluate(text("#projects"))
        await page.evaluate(f"({TYPE})('project-filter', 'P0290')")
        assert await page.evaluate("document.querySelectorAll('.project').length") == 1
        await page.wait_for("document.querySelectorAll('.matrix tbody tr').length === 16")
        assert "16 of 39 regions" in await page.evaluate(text("#matrix"))
        await page.evaluate(
            "document.querySelector('[data-key=\"region r30\"]')"
            ".dispatchEvent(new Event('click', {bubbles: true}))"
        )
        await page.wait_for("document.querySelector('.matrix tr.focus').innerText.includes('r30')")
        assert page.errors == []
