"""Following a Service by the API of Kubernetes: pages, changes, bookmarks, 410, broken watches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onetrip.discover.book import DiscoveryError, KubernetesAccess
from onetrip.discover.kubernetes import KubernetesApi
from onetrip.discover.slices import SliceBook
from onetrip.discover.sources import parse_source
from support.kubernetes_api import TOKEN, KubernetesServer, running_kubernetes
from support.waits import eventually

WEB = parse_source("kubernetes://shop/web:http")


@pytest.fixture
async def server() -> AsyncIterator[KubernetesServer]:
    async with running_kubernetes() as server:
        yield server


class Follower:
    """Follows the Service for as long as a test says, and takes every watch up again."""

    def __init__(self, server: KubernetesServer, folder: Path) -> None:
        self.token = folder / "token"
        self.token.write_text(TOKEN)
        self.api = KubernetesApi(KubernetesAccess(server.url, str(self.token), ""))
        self.book = SliceBook()
        self.failures: list[str] = []
        self.answers = 0

    def places(self) -> list[str]:
        return sorted(map(str, self.book.endpoints(WEB)))

    async def once(self) -> None:
        await self.api.follow(WEB, self.book, self._changed)

    async def forever(self) -> None:
        while True:
            try:
                await self.once()
            except DiscoveryError as error:
                self.failures.append(str(error))
            await asyncio.sleep(0.01)

    def _changed(self) -> None:
        self.answers += 1

    async def until(self, *places: str) -> None:
        await eventually(lambda: self.places() == list(places), self.places)


@pytest.fixture
async def follower(server: KubernetesServer, tmp_path: Path) -> AsyncIterator[Follower]:
    follower = Follower(server, tmp_path)
    task = asyncio.create_task(follower.forever())
    yield follower
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await follower.api.close()


async def test_changes_arrive_as_they_happen_and_need_one_list(
    server: KubernetesServer, follower: Follower
) -> None:
    server.put("web-1", "10.0.0.1", port=8080)
    server.put("other-1", "10.9.9.9", port=8080, service="other")
    await follower.until("10.0.0.1:8080")
    await eventually(lambda: server.watching == 1)
    server.put("web-2", "10.0.0.2", port=8080)
    await follower.until("10.0.0.1:8080", "10.0.0.2:8080")
    server.put("web-1", "10.0.0.3", port=9090)
    await follower.until("10.0.0.2:8080", "10.0.0.3:9090")
    server.delete("web-2")
    await follower.until("10.0.0.3:9090")
    assert (server.lists, server.watches, follower.failures) == (1, 1, [])


async def test_a_list_of_many_pages_is_one_list(
    server: KubernetesServer, follower: Follower
) -> None:
    server.page = 2
    for n in range(5):
        server.put(f"web-{n}", f"10.0.0.{n}", port=80)
    await follower.until(*(f"10.0.0.{n}:80" for n in range(5)))
    assert server.lists >= 3


async def test_a_broken_watch_is_taken_up_where_it_ended(
    server: KubernetesServer, follower: Follower
) -> None:
    server.put("web-1", "10.0.0.1", port=80)
    await eventually(lambda: server.watching == 1)
    server.bookmark()
    await eventually(lambda: follower.book.version == str(server.version))
    server.forget()  # what is before the bookmark
    lists = server.lists
    server.disconnect()
    server.put("web-1", "10.0.0.2", port=80)
    await follower.until("10.0.0.2:80")
    assert server.lists == lists, "the bookmark's version was known: nothing was listed again"
    assert server.watches >= 2


@pytest.mark.parametrize("in_stream", [False, True])
async def test_a_forgotten_version_is_listed_again_and_nothing_is_lost_meanwhile(
    server: KubernetesServer, follower: Follower, in_stream: bool
) -> None:
    server.expires_in_stream = in_stream
    server.put("web-1", "10.0.0.1", port=80)
    await eventually(lambda: server.watching == 1)
    await follower.until("10.0.0.1:80")
    lists = server.lists
    follower.book.version = "1"
    server.forget()
    server.disconnect()
    server.put("web-1", "10.0.0.2", port=80)
    await follower.until("10.0.0.2:80")
    assert server.lists > lists


async def test_a_token_that_was_replaced_is_read_again(
    server: KubernetesServer, follower: Follower
) -> None:
    server.put("web-1", "10.0.0.1", port=80)
    await follower.until("10.0.0.1:80")
    await eventually(lambda: server.watching == 1)
    server.token = "the next one"
    server.disconnect()
    await eventually(lambda: any("401" in text for text in follower.failures))
    assert follower.places() == ["10.0.0.1:80"]
    follower.token.write_text("the next one\n")
    server.put("web-1", "10.0.0.2", port=80)
    await follower.until("10.0.0.2:80")


@pytest.mark.parametrize(
    ("status", "message"), [(403, "may not list and watch"), (500, "answered 500")]
)
async def test_a_refusal_is_a_typed_failure_that_says_what_to_do(
    server: KubernetesServer, tmp_path: Path, status: int, message: str
) -> None:
    server.status = status
    follower = Follower(server, tmp_path)
    with pytest.raises(DiscoveryError, match=message) as found:
        await follower.once()
    assert TOKEN not in str(found.value)
    await follower.api.close()


async def test_an_api_that_is_not_there_and_a_token_that_is_not_are_failures(
    server: KubernetesServer, tmp_path: Path
) -> None:
    follower = Follower(server, tmp_path)
    follower.token.unlink()
    with pytest.raises(DiscoveryError, match="token cannot be read"):
        await follower.once()
    await follower.api.close()
    nowhere = KubernetesApi(KubernetesAccess("http://127.0.0.1:1", "", ""))
    with pytest.raises(DiscoveryError, match="Kubernetes API: "):
        await nowhere.follow(WEB, SliceBook(), lambda: None)
    await nowhere.close()
