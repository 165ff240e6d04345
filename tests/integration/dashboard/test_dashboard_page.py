"""The dashboard in a real browser: figures, toggle, token, and no stranger's code."""

from __future__ import annotations

import pytest

from onetrip.errors import ApiError, Kind
from onetrip.model.catalog import Mode, Policy
from onetrip.model.measure import MethodClass
from onetrip.model.replication import EndpointState, Role
from onetrip.model.status import EndpointStatus, PolicyChange
from support.admin_server import admin_server
from support.chromium import Page, find_chromium
from support.fake_view import ROUTES, FakeView, Route

pytestmark = [
    pytest.mark.needs_server("chromium"),
    pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed"),
]

ROWS = "document.querySelectorAll('#route-table tbody tr').length"
SWITCH = "document.querySelector('[data-key=\"switch shop\"]')"


async def text_of(page: Page, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector({selector!r}).innerText"))


def includes(selector: str, text: str) -> str:
    return f"document.querySelector({selector!r}).textContent.includes({text!r})"


async def test_page_shows_the_cluster_and_toggles_a_project(page: Page) -> None:
    view = FakeView()
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")

        assert "3 of 3 regions alive" in await text_of(page, "#cluster")
        assert await page.evaluate("document.querySelectorAll('#map .region').length") == 3
        assert await page.evaluate("document.querySelectorAll('#map .flow').length") == 2
        assert "229" in await text_of(page, "#matrix")
        assert "place.moved" in await text_of(page, "#events")
        assert "11 long trips at den become 1 in bom" in await text_of(page, "#explain")
        assert "needs 14 more requests from den" in await text_of(page, "#route-table")
        # One block for the edge RTT, one for compute, one for each of the 11 trips.
        blocks = "(b) => b.querySelectorAll('rect').length"
        bars = f"[...document.querySelectorAll('.bar')].map({blocks})"
        assert await page.evaluate(bars) == [13, 13, 12]

        await page.evaluate(f"{SWITCH}.focus()")
        await page.evaluate(f"{SWITCH}.click()")
        await page.wait_for(f"{SWITCH}.getAttribute('aria-checked') === 'false'")
        await page.wait_for(includes("#explain", "bom would need 1"))
        assert view.catalog.projects["shop"].policy.mode is Mode.OFF
        assert await page.evaluate("document.activeElement.dataset.key") == "switch shop"
        assert page.errors == []


async def test_project_that_is_off_shows_what_the_toggle_would_save(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        hidden = "document.getElementById('whatif-card').hidden"
        assert await page.evaluate(hidden)

        await page.evaluate(f"{SWITCH}.click()")
        await page.wait_for(f"!{hidden}")
        text = await text_of(page, "#whatif")
        assert "22 % of requests would move, saving 1,664 ms each (361 ms over all)" in text
        assert "1 route needs more traffic" in text
        assert "/search from den: needs 14 more requests from den" in text
        assert "1,664 ms" in await text_of(page, "#tiles")
        names = (
            "[...document.querySelectorAll('.gain-name')].map((e) => e.innerText.split(/\\s/)[0])"
        )
        assert await page.evaluate(names) == ["den", "fra", "den", "fra"]

        key = "whatif production|write|/orders|fra"
        await page.evaluate(f"document.querySelector('[data-key=\"{key}\"]').click()")
        await page.wait_for(includes("#explain-note", "/orders (write) from fra"))
        await page.evaluate(f"{SWITCH}.click()")
        await page.wait_for(hidden)
        assert page.errors == []


async def test_drift_is_marked_in_the_events_and_over_the_history(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        assert await text_of(page, "#events .tag.drift") == "code changed"
        marks = "[...document.querySelectorAll('#history .mark-text')].map((e) => e.textContent)"
        assert await page.evaluate(marks) == ["placement smart", "code changed"]
        # The drift is of one route from here; another route's history does not show it.
        key = "production|read|/item/{id}|den"
        await page.evaluate(f"document.querySelector('[data-key=\"{key}\"]').click()")
        await page.wait_for(includes("#history-note", "/item/{id}"))
        assert await page.evaluate(marks) == ["placement smart"]
        assert page.errors == []


async def test_draining_regions_and_anycast_backends_are_marked(page: Page) -> None:
    view = FakeView(anycast=frozenset({"sessions"}))
    await view.set_draining(True)
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        assert "draining: den" in await text_of(page, "#cluster")
        label = "document.querySelector('#map .region.draining').getAttribute('aria-label')"
        assert await page.evaluate(label) == "Denver ⇢ draining, alive"
        heads = "[...document.querySelectorAll('#matrix th small')]"
        heads += ".map((e) => e.parentElement.textContent)"
        assert await page.evaluate(heads) == ["⛁ sessionsanycast", "dendraining"]
        # It has no home, so the map puts it nowhere.
        assert "sessions" not in str(
            await page.evaluate("document.querySelector('#map').innerHTML")
        )
        await view.set_draining(False)
        await page.wait_for("document.querySelector('#map .region.draining') === null")
        assert page.errors == []


async def test_endpoints_of_a_database_show_their_lag(page: Page) -> None:
    view = FakeView()
    states = {
        "orders-db": EndpointState(Role.PRIMARY, lag=0.0),
        "sessions": EndpointState(Role.REPLICA, lag=64.0),
    }
    view.replication = [
        EndpointStatus("db", name, "db:1", None, state, not i, not i, False, 5.0)
        for i, (name, state) in enumerate(states.items())
    ]
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        heads = "[...document.querySelectorAll('#matrix th small')].map((e) => e.textContent)"
        assert await page.evaluate(heads) == ["primary", "! 64 s behind, left out"]
        assert "sessions is not read from, 64 s behind" in await text_of(page, "#cluster")
        view.replication = []
        await page.wait_for("document.querySelector('#matrix th small') === null")
        assert page.errors == []


async def test_choosing_a_row_explains_it(page: Page) -> None:
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/", scheme="dark", width=700)
        await page.wait_for(f"{ROWS} === 15")
        key = "production|write|/orders|fra"
        await page.evaluate(f"document.querySelector('[data-key=\"{key}\"]').click()")
        await page.wait_for(includes("#explain-note", "/orders (write) from fra"))
        assert "sessions" in await text_of(page, "#explain")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.errors == []


async def test_markup_in_a_route_stays_text(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "/<img src=x onerror=window.hit=1>\"'><script>window.hit=1</script>"
    route = Route("shop", evil, MethodClass.READ, 0.001, {"orders-db": 11.0}, 500)
    monkeypatch.setattr("support.fake_view.ROUTES", (*ROUTES, route))
    async with admin_server(FakeView()) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 18")
        assert evil in await text_of(page, "#route-table")
        assert await page.evaluate("window.hit === undefined")
        assert await page.evaluate("document.querySelectorAll('#route-table img').length") == 0
        assert page.errors == []


async def test_token_is_asked_for_and_used(page: Page) -> None:
    view = FakeView()
    async with admin_server(view, "right") as url:
        await page.open(f"{url}/")
        for token, wanted in (
            ("wrong", includes("#token-error", "refused")),
            ("right", f"{ROWS} === 15"),
        ):
            await page.wait_for("document.getElementById('token-dialog').open")
            await page.evaluate(f"document.getElementById('token-input').value = '{token}'")
            await page.evaluate("document.querySelector('#token-form button').click()")
            await page.wait_for(wanted)
        assert await page.evaluate("sessionStorage.getItem('onetrip-token')") == "right"
        assert await page.evaluate("localStorage.length === 0 && document.cookie === ''")
        assert not [error for error in page.errors if "401" not in error]


async def test_lost_node_is_told_and_the_page_recovers(page: Page) -> None:
    view = FakeView()
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
    await page.wait_for(includes("#alert", "does not answer"))
    assert await page.evaluate(ROWS) == 15
    async with admin_server(view, port=int(url.rpartition(":")[2])):
        await page.wait_for("document.getElementById('alert').hidden")
        await page.wait_for(includes("#live", "live"))


async def test_change_that_fails_is_told_and_the_toggle_stays(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = FakeView()

    async def refuse(project: str, change: PolicyChange) -> Policy:
        raise ApiError("state file cannot be written: disk is full", kind=Kind.UNAVAILABLE)

    monkeypatch.setattr(view, "change_policy", refuse)
    async with admin_server(view) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        await page.evaluate(f"{SWITCH}.click()")
        await page.wait_for(includes("#alert", "disk is full"))
        assert await page.evaluate(f"{SWITCH}.getAttribute('aria-checked')") == "true"


async def test_a_node_that_takes_no_traffic_says_so(page: Page) -> None:
    async with admin_server(FakeView(is_advising=True)) as url:
        await page.open(f"{url}/")
        await page.wait_for(f"{ROWS} === 15")
        assert "advises only: takes no traffic" in await text_of(page, "#node")
        # Nothing is on there, whatever the project says: what it would do is what counts.
        await page.wait_for("!document.querySelector('#whatif-card').hidden")
        assert page.errors == []
