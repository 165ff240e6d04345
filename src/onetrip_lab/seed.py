"""The demo shop's schema and rows, the same for PostgreSQL and the embedded database.

Statements stay in the common subset of both: `INTEGER`, `TEXT`, `PRIMARY KEY`, multi-row
`INSERT`, `ON CONFLICT DO UPDATE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

CUSTOMERS = 200
ITEMS = 300
ORDERS = 500
LINES_PER_ORDER = 8
"""With the order, its customer and its list of lines this makes 11 queries for one order page."""

ROWS_PER_INSERT = 500

SCHEMA = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL)",
    "CREATE TABLE items (id INTEGER PRIMARY KEY, title TEXT NOT NULL, price_cents INTEGER NOT NULL,"
    " stock INTEGER NOT NULL)",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL,"
    " placed_on TEXT NOT NULL)",
    "CREATE TABLE lines (order_id INTEGER NOT NULL, line INTEGER NOT NULL, item_id INTEGER NOT"
    " NULL, quantity INTEGER NOT NULL, PRIMARY KEY (order_id, line))",
    "CREATE TABLE carts (customer_id INTEGER NOT NULL, item_id INTEGER NOT NULL, quantity INTEGER"
    " NOT NULL, PRIMARY KEY (customer_id, item_id))",
)

_NAMES = ("Asha", "Ben", "Chen", "Dara", "Eva", "Farid", "Gita", "Hugo", "Ines", "Jonas")
_CITIES = ("Denver", "Mumbai", "Frankfurt", "Boulder", "Pune", "Mainz")
_THINGS = ("lamp", "kettle", "chair", "notebook", "rucksack", "bicycle bell", "tea set", "globe")
_LOOKS = ("red", "green", "blue", "oak", "copper", "striped", "folding", "large", "small")


def statements() -> Iterator[str]:
    """Yield every statement that builds the shop's data; always the same ones."""
    rng = Random(11)
    yield from SCHEMA
    yield from _inserts("customers", _customers(rng))
    yield from _inserts("items", _items(rng))
    yield from _inserts("orders", _orders(rng))
    yield from _inserts("lines", _lines(rng))


def _customers(rng: Random) -> list[Sequence[int | str]]:
    return [(i, rng.choice(_NAMES), rng.choice(_CITIES)) for i in range(1, CUSTOMERS + 1)]


def _items(rng: Random) -> list[Sequence[int | str]]:
    return [
        (
            i,
            f"{rng.choice(_LOOKS)} {rng.choice(_THINGS)}",
            rng.randrange(300, 9900),
            rng.randrange(500),
        )
        for i in range(1, ITEMS + 1)
    ]


def _orders(rng: Random) -> list[Sequence[int | str]]:
    return [
        (i, rng.randrange(1, CUSTOMERS + 1), f"2025-06-{rng.randrange(1, 31):02d}")
        for i in range(1, ORDERS + 1)
    ]


def _lines(rng: Random) -> list[Sequence[int | str]]:
    return [
        (order, line, rng.randrange(1, ITEMS + 1), rng.randrange(1, 5))
        for order in range(1, ORDERS + 1)
        for line in range(1, LINES_PER_ORDER + 1)
    ]


def _inserts(table: str, rows: list[Sequence[int | str]]) -> Iterator[str]:
    for start in range(0, len(rows), ROWS_PER_INSERT):
        values = ", ".join(_literal(row) for row in rows[start : start + ROWS_PER_INSERT])
        yield f"INSERT INTO {table} VALUES {values}"


def _literal(row: Sequence[int | str]) -> str:
    # Values come from the constants above, so no quote needs escaping.
    return "(" + ", ".join(str(v) if isinstance(v, int) else f"'{v}'" for v in row) + ")"
