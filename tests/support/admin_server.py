"""The admin API of a fake node on a real port, in the test's loop or on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from onetrip.control.api import build_admin
from onetrip.control.store import AsyncStore
from onetrip.observe.logs import silent_log
from support.fake_view import FakeView


@asynccontextmanager
async def admin_server(
    view: FakeView, token: str | None = None, port: int = 0, store: AsyncStore | None = None
) -> AsyncIterator[str]:
    """Serve a view on loopback; give the base URL."""
    app = build_admin(view, token=token, log=silent_log(), wall=view.wall, store=store)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def admin_thread(
    view: FakeView, token: str | None = None, path: Path | None = None, port: int = 0
) -> Iterator[str]:
    """Serve a view from another thread, for callers that block; give the base URL.

    Args:
        path: of the state file; None keeps nothing.
    """
    ready, done = threading.Event(), asyncio.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        store = await AsyncStore.open(path) if path is not None else None
        async with admin_server(view, token, port, store) as url:
            found.append(url)
            ready.set()
            await done.wait()
        if store is not None:
            await store.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), "the admin server did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()
