"""Hold the promise of sessions against a checker, over many operations, and write what came of it.

Run: python scripts/consistency.py [--operations N] [--pace S] [--rounds N]
Writes the table of docs/consistency.md; some minutes.

Simulated: the node's own code in virtual time (`tests/support/simulated_sessions`). Real: two nodes
over PostgreSQL and over MariaDB with two replicas each (`tests/support/consistency_world`), which
are started for it. Each is also run without the promise, which the checker must find broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from onetrip.model.catalog import Backend, BackendKind  # noqa: E402
from support.consistency_world import ConsistencyWorld, backend_of  # noqa: E402
from support.database_trouble import (  # noqa: E402
    MARIADB_OPTIONS,
    MARIADB_STATEMENTS,
    POSTGRES_SETTINGS,
    POSTGRES_STATEMENTS,
    Wait,
    trouble_mariadb,
    trouble_postgres,
)
from support.histories import check_lists  # noqa: E402
from support.listed_databases import Lists, mariadb_lists, postgres_lists  # noqa: E402
from support.replicated_mariadb import replicated_mariadb  # noqa: E402
from support.replicated_postgres import replicated_postgres  # noqa: E402
from support.simulated_sessions import SimulatedSessions  # noqa: E402

PAGE = ROOT / "docs" / "consistency.md"
MARK = "<!-- results -->"
CHUNK = 100_000
"""Operations of one simulated world; each has its own seed."""

OUTCOMES = ("fresh", "waited", "moved", "primary")


@dataclass(slots=True)
class Row:
    """One line of the table.

    Attributes:
        violations: by promise.
    """

    title: str
    operations: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    violations: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """Return the line."""
        outcomes = " / ".join(f"{self.outcomes[name]:,}" for name in OUTCOMES)
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.violations.items()))
        cells = (self.title, f"{self.operations:,}", outcomes, f"{self.unanswered:,}")
        return f"| {' | '.join(cells)} | {kinds or '0'} |"


def main() -> None:
    """Run everything, write the table, and fail where a promise was broken or could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--pace", type=float, default=3.0, help="length of each trouble, s")
    parser.add_argument("--rounds", type=int, default=2, help="failovers of each database")
    options = parser.parse_args()
    rows = [
        simulate("simulated, promise kept", options.operations, keeps=True),
        simulate("simulated, no promise", options.operations // 10, keeps=False),
    ]
    for title, open_database in (("PostgreSQL", open_postgres), ("MariaDB", open_mariadb)):
        for keeps in (True, False):
            row = Row(f"{title}, {'promise kept' if keeps else 'no promise'}")
            for number in range(options.rounds if keeps else 1):
                run_real(row, open_database, options.pace, number, keeps=keeps)
            print(row.text(), flush=True)
            rows.append(row)
    write(rows)
    for row in rows:
        is_kept = "kept" in row.title
        if bool(row.violations) is is_kept:
            raise SystemExit(f"{row.title}: {row.violations or 'the checker found nothing'}")


def simulate(title: str, operations: int, *, keeps: bool) -> Row:
    """Run simulated worlds until there are so many answered operations."""
    row, seed = Row(title), 0
    while row.operations < operations:
        seed += 1
        size = min(CHUNK, max(1000, operations - row.operations))
        outcome = SimulatedSessions(seed, keeps=keeps).run(size)
        row.operations += outcome.operations
        row.outcomes += outcome.outcomes
        row.unanswered += outcome.unanswered
        row.violations += outcome.violations
        print(f"seed {seed}: {row.text()} faults {dict(outcome.faults)}", flush=True)
    return row


Opened = tuple[Backend, Lists, Callable[[Wait], None]]
Open = Callable[[], AbstractContextManager[Opened]]


@contextmanager
def open_postgres() -> Iterator[Opened]:
    """Run PostgreSQL with two standbys; give it, its lists and its trouble."""
    settings, statements = POSTGRES_SETTINGS, POSTGRES_STATEMENTS
    with replicated_postgres(2, settings=settings, statements=statements) as group:
        lists = postgres_lists(group)
        ports = [server.port for server in group.servers]
        backend = backend_of(BackendKind.POSTGRES, ports, "watcher", "")
        yield backend, lists, partial(trouble_postgres, group, lists)
        lists.close()


@contextmanager
def open_mariadb() -> Iterator[Opened]:
    """Run MariaDB with two replicas; give it, its lists and its trouble."""
    options, statements = MARIADB_OPTIONS, MARIADB_STATEMENTS
    with replicated_mariadb(2, options=options, statements=statements) as group:
        lists = mariadb_lists(group)
        ports = [server.port for server in group.servers]
        backend = backend_of(BackendKind.MYSQL, ports, "watcher", "")
        yield backend, lists, partial(trouble_mariadb, group, lists)
        lists.close()


def run_real(row: Row, open_database: Open, pace: float, seed: int, *, keeps: bool) -> None:
    """Add one world over a real database to a row."""

    async def run(opened: Opened) -> None:
        backend, lists, trouble = opened
        async with ConsistencyWorld(backend, lists, keeps=keeps, seed=seed) as world:
            seen = await world.run(trouble, pace, 60)
        row.operations += sum(op.is_answered for op in seen.history)
        row.unanswered += sum(seen.failures.values())
        row.outcomes += seen.outcomes
        row.violations += Counter(found.kind for found in check_lists(seen.history))

    with open_database() as opened:
        asyncio.run(run(opened))


def write(rows: list[Row]) -> None:
    """Put the table into the page, behind its mark."""
    head = "| run | operations | fresh / waited / moved / primary | unanswered | violations |"
    table = "\n".join([head, "| --- | --- | --- | --- | --- |", *(row.text() for row in rows)])
    page = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{page}{MARK}\n\n{table}\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
