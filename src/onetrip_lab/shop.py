"""The demo application: a small web shop that asks its database one question at a time.

It is written the way many applications are, and knows nothing of onetrip: an order page reads the
order, its customer, its lines, and then each line's item in turn (an "N+1" access pattern). Run
one copy in each region; only its distance to the database differs.

    python -m onetrip_lab.shop --listen H:P --database H:P --source-address A --region NAME
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import LifoQueue
from typing import Any

import pg8000.native
import uvloop
from aiohttp import web

from onetrip.errors import ConfigError
from onetrip.model.topology import Endpoint, parse_endpoint
from onetrip_lab import seed

CONNECTIONS = 24
"""Warm connections to the database, and threads that use them. The demo sets them to its number of
users, so that no request waits for one: what is measured is distance, not a queue."""

MAX_CONNECTIONS = 64

QUERY_TIMEOUT = 15.0
"""Bound on one query, s; 65 times the longest RTT of the packaged matrix."""

DRAIN_TIMEOUT = 1.0

Page = dict[str, Any]

_ABOUT = (
    "onetrip lab shop. This page is the same for everybody and asks the database nothing, so the "
    "best place to run it is wherever the visitor is.\n"
)


class NotFoundError(Exception):
    """No row has the wanted id."""


class Queries:
    """One request's conversation with the database; counts its questions."""

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self._connection = connection
        self.count = 0

    def rows(self, sql: str) -> list[list[Any]]:
        """Run one statement in exactly one round trip.

        Without parameters pg8000 uses the simple query protocol: one message there, one reply
        back. Whatever is put into `sql` must be a validated integer.
        """
        self.count += 1
        return self._connection.run(sql) or []

    def row(self, sql: str) -> list[Any]:
        """Run one statement and return its only row.

        Raises:
            NotFoundError: there is none.
        """
        rows = self.rows(sql)
        if not rows:
            raise NotFoundError
        return rows[0]


def order_page(queries: Queries, order: int) -> Page:
    """Read an order, its customer, its lines and each line's item: 11 sequential queries."""
    customer, placed_on = queries.row(f"SELECT customer_id, placed_on FROM orders WHERE id={order}")
    name, city = queries.row(f"SELECT name, city FROM customers WHERE id={int(customer)}")
    lines = queries.rows(
        f"SELECT item_id, quantity FROM lines WHERE order_id={order} ORDER BY line"
    )
    items = []
    for item, quantity in lines:
        title, cents, stock = queries.row(
            f"SELECT title, price_cents, stock FROM items WHERE id={int(item)}"
        )
        items.append(
            {"title": title, "quantity": quantity, "price": cents / 100, "in_stock": stock > 0}
        )
    total = sum(i["quantity"] * i["price"] for i in items)
    return {
        "order": order,
        "placed_on": placed_on,
        "customer": {"name": name, "city": city},
        "lines": items,
        "total": round(total, 2),
    }


def item_page(queries: Queries, item: int) -> Page:
    """Read one item: one query."""
    title, cents, stock = queries.row(
        f"SELECT title, price_cents, stock FROM items WHERE id={item}"
    )
    return {"item": item, "title": title, "price": cents / 100, "stock": stock}


def add_to_cart(queries: Queries, customer: int) -> Page:
    """Put an item into a customer's cart: four queries, one of them a write."""
    name, _ = queries.row(f"SELECT name, city FROM customers WHERE id={customer}")
    item = customer % seed.ITEMS + 1
    queries.row(f"SELECT stock FROM items WHERE id={item}")
    queries.rows(
        f"INSERT INTO carts VALUES ({customer}, {item}, 1) ON CONFLICT (customer_id, item_id)"
        " DO UPDATE SET quantity = carts.quantity + 1"
    )
    quantity = queries.row(f"SELECT SUM(quantity) FROM carts WHERE customer_id={customer}")[0]
    return {"customer": name, "item": item, "quantity": int(quantity)}


class Database:
    """A pool of warm connections, each used by one thread at a time.

    Args:
        source_address: local address to connect from; tells the lab's relay the region.
    """

    def __init__(
        self, endpoint: Endpoint, source_address: str | None, size: int = CONNECTIONS
    ) -> None:
        self._endpoint = endpoint
        self._source = (source_address, 0) if source_address else None
        self._size = size
        self._idle: LifoQueue[pg8000.native.Connection | None] = LifoQueue()
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="database")

    async def open(self) -> None:
        """Open every connection, all at the same time.

        Raises:
            ConfigError: the database cannot be reached.
        """
        loop = asyncio.get_running_loop()
        opening = [loop.run_in_executor(self._threads, self._connect) for _ in range(self._size)]
        try:
            for connection in await asyncio.gather(*opening):
                self._idle.put(connection)
        except (pg8000.native.Error, OSError) as error:
            raise ConfigError(f"database {self._endpoint} cannot be reached: {error}") from error

    async def ask(self, work: Callable[[Queries, int], Page], number: int) -> tuple[Page, int]:
        """Run `work` on an idle connection; return its page and its count of queries.

        Raises:
            NotFoundError: `work` did not find its row.
            pg8000.native.Error, OSError: the database failed.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, work, number)

    def close(self) -> None:
        """Close every idle connection and take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._idle.empty():
            _close(self._idle.get_nowait())

    def _ask(self, work: Callable[[Queries, int], Page], number: int) -> tuple[Page, int]:
        # There are as many connections as threads, so this never waits.
        connection = self._idle.get_nowait()
        kept = None
        try:
            # A connection that failed left None: the next request opens a new one.
            connection = connection or self._connect()
            queries = Queries(connection)
            try:
                page = work(queries, number)
            except NotFoundError:
                kept = connection
                raise
            kept = connection
            return page, queries.count
        finally:
            if kept is None:
                _close(connection)
            self._idle.put(kept)

    def _connect(self) -> pg8000.native.Connection:
        return pg8000.native.Connection(
            "shop",
            host=self._endpoint.host,
            port=self._endpoint.port,
            database="postgres",
            source_address=self._source,
            ssl_context=False,
            timeout=QUERY_TIMEOUT,
        )


def _close(connection: pg8000.native.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(pg8000.native.Error, OSError):
            connection.close()


class Shop:
    """The web application. `region` is only told back to the visitor."""

    def __init__(self, database: Database, region: str) -> None:
        self._database = database
        self._region = region

    def application(self) -> web.Application:
        """Return the routes, ready to be served."""
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/orders/{id}", self._page(order_page))
        app.router.add_get("/item/{id}", self._page(item_page))
        app.router.add_post("/cart/{id}", self._page(add_to_cart))
        app.router.add_get("/about", self._about)
        app.router.add_get("/healthz", self._health)
        return app

    def _page(self, work: Callable[[Queries, int], Page]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            text = request.match_info["id"]
            if not text.isascii() or not text.isdigit() or len(text) > 9:
                return _problem(400, "id is not a number of 1 to 9 digits")
            started_at = time.perf_counter()
            try:
                page, queries = await self._database.ask(work, int(text))
            except NotFoundError:
                return _problem(404, "no such id")
            except (pg8000.native.Error, OSError):
                return _problem(503, "database failed")
            spent = time.perf_counter() - started_at
            facts = {"region": self._region, "queries": queries, "ms": round(spent * 1000, 1)}
            return web.json_response(page | facts)

        return handle

    async def _about(self, request: web.Request) -> web.Response:
        return web.Response(text=_ABOUT)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")


def _problem(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


async def serve(listen: Endpoint, database: Database, region: str) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address is taken or the database cannot be reached.
    """
    await database.open()
    runner = web.AppRunner(Shop(database, region).application(), access_log=None)
    await runner.setup()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        site = web.TCPSite(runner, listen.host, listen.port, shutdown_timeout=DRAIN_TIMEOUT)
        await site.start()
        await stopped.wait()
    except OSError as error:
        raise ConfigError(f"shop cannot listen on {listen}: {error.strerror}") from error
    finally:
        await runner.cleanup()
        database.close()


def main(argv: list[str] | None = None) -> int:
    """Run one instance of the shop."""
    parser = argparse.ArgumentParser(prog="onetrip_lab.shop", description="the demo application")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--database", required=True, metavar="HOST:PORT")
    parser.add_argument("--source-address", metavar="ADDRESS")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, metavar="N")
    parser.add_argument("--region", default="here", metavar="NAME")
    options = parser.parse_args(argv)
    if not 1 <= options.connections <= MAX_CONNECTIONS:
        parser.error(f"--connections {options.connections} is not in 1-{MAX_CONNECTIONS}")
    try:
        database = Database(
            parse_endpoint(options.database), options.source_address, options.connections
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(parse_endpoint(options.listen), database, options.region))
    except ConfigError as error:
        print(f"shop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
