"""Real nodes of two regions: the toggle, reloads, failover and what outlives a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onetrip.errors import ConfigError
from onetrip.model.placement import Status
from support.cluster import Cluster, running
from support.waits import BOUND


async def eventually(claim: Callable[[], bool], what: str, timeout: float = 2 * BOUND) -> None:
    # On a busy machine RTTs look as if they moved, and a decision then waits up to 20 s.
    deadline = time.monotonic() + timeout
    while not claim():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.05)


def status_of(cluster: Cluster, edge: str, route: str) -> Status | None:
    for key, placement in cluster.node(edge).view.snapshot.routes.items():
        if key.route == route:
            return placement.status
    return None


async def requests_until(cluster: Cluster, path: str, claim: Callable[[], bool]) -> None:
    """Send requests at `den` until what they teach makes `claim` hold."""
    deadline = time.monotonic() + 2 * BOUND
    while not claim():
        assert time.monotonic() < deadline, "requests did not lead to it"
        await cluster.many("den", path, 8)
        await asyncio.sleep(0.1)


async def learn(cluster: Cluster) -> None:
    """Send enough traffic at both edges for the round trips to be known."""
    for edge in ("den", "bom"):
        await cluster.many(edge, "/orders", 24)
        await cluster.many(edge, "/about", 24)


async def test_toggle_moves_the_chatty_route_live_and_back(tmp_path: Path) -> None:
    async with running(tmp_path, mode="off", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        assert set(await cluster.many("den", "/orders", 8)) == {"local-den"}
        assert await cluster.patch("den", {"mode": "smart"}) == 200
        await eventually(
            lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "orders placed"
        )
        assert set(await cluster.many("den", "/orders", 8)) == {"remote-bom"}
        assert set(await cluster.many("den", "/about", 8)) == {"local-den"}
        assert set(await cluster.many("bom", "/orders", 8)) == {"local-bom"}
        assert await cluster.patch("den", {"mode": "off"}) == 200
        assert set(await cluster.many("den", "/orders", 8)) == {"local-den"}


async def test_no_request_is_dropped_while_the_toggle_is_switched(tmp_path: Path) -> None:
    async with running(tmp_path, mode="off", control=0.1, dwell=0) as cluster:
        await learn(cluster)
        switching = True
        places: list[str] = []

        async def traffic() -> None:
            while switching:
                # `many` asserts that each answer is 200.
                places.extend(await cluster.many("den", "/orders", 8, width=4))

        load = asyncio.create_task(traffic())
        for mode in ("smart", "off", "smart", "off", "smart"):
            assert await cluster.patch("den", {"mode": mode}) == 200
            wanted, before = "remote-bom" if mode == "smart" else "local-den", len(places)
            await eventually(lambda at=before, place=wanted: place in places[at:], wanted)
        switching = False
        await load


async def test_toggle_spreads_to_the_other_node_and_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, mode="off") as cluster:
        assert await cluster.patch("bom", {"mode": "smart", "control": 0.2}) == 200

        def policy(name: str) -> tuple[str, float]:
            found = cluster.node(name).view.catalog.projects["shop"].policy
            return found.mode.value, found.control_ratio

        await eventually(lambda: policy("den") == ("smart", 0.2), "den follows bom")
        await cluster.stop_node("bom")
        await cluster.stop_node("den")
        await cluster.start_node("den")
        assert policy("den") == ("smart", 0.2)


async def test_learning_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "placed")
        await cluster.stop_node("den")
        await cluster.start_node("den")
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "again")
        assert set(await cluster.many("den", "/orders", 8)) == {"remote-bom"}


async def test_region_down_fails_over_without_a_failed_request(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "placed")
        load = asyncio.create_task(cluster.many("den", "/orders", 48, width=4))
        await cluster.stop_node("bom")
        places = await load
        assert places[-1] == "local-den"
        await cluster.start_node("bom")

        def returned() -> bool:
            routes = cluster.node("den").view.snapshot.routes
            return any(p.regions[0] == "bom" for k, p in routes.items() if k.route == "/orders")

        await eventually(returned, "back in bom")


async def test_instance_down_fails_over_through_the_refusal_of_its_node(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "placed")
        runner = cluster.sites["bom"].instance_runner
        assert runner is not None
        await runner.cleanup()
        assert set(await cluster.many("den", "/orders", 16, width=4)) == {"local-den"}


async def test_bad_reload_keeps_the_old_configuration(tmp_path: Path) -> None:
    async with running(tmp_path, mode="off") as cluster:
        site = cluster.sites["den"]
        cluster.write_config(site, projects={"shop": {"placemnt": {}}})
        with pytest.raises(ConfigError, match=r"den\.yaml: projects\.shop: .*"):
            await cluster.node("den").reload()
        assert await cluster.get("den", "/about") == (200, "local-den")
        assert cluster.node("den").view.events(1)[0].name == "app.reload_refused"


async def test_good_reload_applies_live(tmp_path: Path) -> None:
    async with running(tmp_path, mode="off") as cluster:
        site = cluster.sites["den"]
        cluster.placement = {"mode": "smart", "hint": "bom"}
        cluster.write_config(site)
        assert "1 projects applied" in await cluster.node("den").reload()
        await eventually(lambda: cluster.node("den").view.snapshot.version > 3, "scored again")
        async with asyncio.timeout(BOUND):  # once it has heard from there
            while await cluster.get("den", "/about") != (200, "remote-bom"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await cluster.get("den", "/elsewhere") == (200, "remote-bom")


async def test_unknown_host_is_404_and_denied_region_is_never_used(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", deny=["bom"], dwell=0) as cluster:
        await learn(cluster)
        await asyncio.sleep(0.5)
        assert set(await cluster.many("den", "/orders", 8)) == {"local-den"}
        url = f"http://127.0.0.1:{cluster.sites['den'].proxy}/"
        async with cluster.session.get(url, headers={"Host": "other.test"}) as reply:
            assert reply.status == 404


async def test_exploration_finds_the_better_region_for_a_single_city(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        places = await cluster.many("den", "/orders", 16, width=1)
        # At least eight requests measure the default; then a few reads are run elsewhere.
        assert "remote-bom" not in places[:8]
        await requests_until(
            cluster, "/orders", lambda: status_of(cluster, "den", "/orders") is Status.PLACED
        )
        assert set(await cluster.many("den", "/orders", 8)) == {"remote-bom"}


async def test_trips_told_in_server_timing_need_no_exploration(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, explore=0.0, dwell=0) as cluster:
        cluster.tells_trips = True
        assert set(await cluster.many("den", "/orders", 10, width=2)) == {"local-den"}
        # A busy machine delays some answers: then more of them are needed, but none elsewhere.
        deadline = time.monotonic() + 2 * BOUND
        while status_of(cluster, "den", "/orders") is not Status.PLACED:
            assert time.monotonic() < deadline, "not placed"
            places = set(await cluster.many("den", "/orders", 2, width=2))
            assert places == {"local-den"} or status_of(cluster, "den", "/orders") is Status.PLACED
        assert set(await cluster.many("den", "/orders", 8)) == {"remote-bom"}
        (decision,) = cluster.node("den").view.decisions("shop")[:1]
        assert decision.trips.source == "traffic + count"
        assert decision.trips.round_trips["db"] == pytest.approx(5, abs=0.5)


async def test_a_deploy_that_stops_querying_is_noticed_and_the_route_comes_home(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "placed")
        cluster.trips["/orders"] = 0
        await cluster.many("bom", "/orders", 64)
        names = {e.name for e in cluster.node("bom").view.events(100)}
        # Beside the database five trips take 5 ms: too little to notice there.
        assert "estimate.network_changed" not in names
        await cluster.patch("den", {"hint": "den"})
        den = cluster.node("den").view
        # The cause is told once no RTT has moved for as long as a shift takes to be believed.
        await requests_until(
            cluster,
            "/orders",
            lambda: "estimate.code_changed" in {event.name for event in den.events(100)},
        )
        await cluster.patch("den", {"hint": ""})
        await requests_until(
            cluster, "/orders", lambda: status_of(cluster, "den", "/orders") is Status.AT_EDGE
        )


async def test_draining_region_takes_no_new_work_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, mode="smart", control=0.0, dwell=0) as cluster:
        await learn(cluster)
        await eventually(lambda: status_of(cluster, "den", "/orders") is Status.PLACED, "placed")
        await cluster.node("bom").set_draining(True)
        den = cluster.node("den").view
        await eventually(lambda: den.draining == {"bom"}, "den knows")

        def first() -> str:
            return next(
                p.regions[0] for k, p in den.snapshot.routes.items() if k.route == "/orders"
            )

        await eventually(lambda: first() == "den", "away from bom")
        assert set(await cluster.many("den", "/orders", 8)) == {"local-den"}
        # Its own users are served elsewhere too, while there is an elsewhere.
        assert set(await cluster.many("bom", "/about", 8)) == {"remote-den"}
        await cluster.node("bom").set_draining(False)
        await eventually(lambda: first() == "bom", "back")
