"""The admin API of a fake node on a real port, in the test's loop or on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from onetrip.control.api import build_admin
from onetrip.observe.logs import silent_log
from support.fake_view import FakeView


@asynccontextmanager
async def admin_server(
    view: FakeView, token: str | None = None, port: int = 0
) -> AsyncIterator[str]:
    """Serve a view on loopback; give the base URL."""
    app = build_admin(view, token=token, log=silent_log(), wall=view.wall)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def admin_thread(view: FakeView, token: str | None = None) -> Iterator[str]:
    """Serve a view from another thread, for callers that block; give the base URL."""
    ready, done = threading.Event(), asyncio.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with admin_server(view, token) as url:
            found.append(url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(10), "the admin server did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()
