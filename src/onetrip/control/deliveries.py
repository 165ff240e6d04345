"""Messages for webhooks in the state file, and how their receivers were."""

from __future__ import annotations

from onetrip.control.store import AsyncStore, Store
from onetrip.webhooks.courier import Kept
from onetrip.webhooks.outbox import Message


class StoredDeliveries:
    """Keeps them in a node's store; see `webhooks.courier.Keeping`."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def load(self) -> tuple[dict[str, Kept], list[tuple[str, Message]]]:
        """See `Keeping`."""
        return await self._store.call(_load)

    async def put(self, name: str, message: Message) -> None:
        """See `Keeping`."""
        values = (message.created_at, message.attempts, message.due_at, int(message.is_refused))
        await self._store.call(_put, (name, message.id, message.event, message.body, *values))

    async def forget(self, name: str, id: str | None) -> None:
        """See `Keeping`."""
        await self._store.call(_forget, name, id)

    async def put_state(self, name: str, kept: Kept) -> None:
        """See `Keeping`."""
        await self._store.call(_put_state, name, kept)


def _load(store: Store) -> tuple[dict[str, Kept], list[tuple[str, Message]]]:
    states = store.read("SELECT name, url, failing_since, is_disabled FROM webhooks")
    rows = store.read(
        "SELECT webhook, id, event, body, created_at, attempts, due_at, is_refused "
        "FROM webhook_messages ORDER BY created_at, id"
    )
    return (
        {name: Kept(url, since, bool(disabled)) for name, url, since, disabled in states},
        [(row[0], _message(*row[1:])) for row in rows],
    )


def _message(
    id: str, event: str, body: bytes, created_at: float, attempts: int, due_at: float, refused: int
) -> Message:
    return Message(id, event, body, created_at, attempts, due_at, bool(refused))


def _put(store: Store, row: tuple[object, ...]) -> None:
    with store.write() as db:
        db.execute(
            "INSERT OR REPLACE INTO webhook_messages (webhook, id, event, body, created_at, "
            "attempts, due_at, is_refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )


def _forget(store: Store, name: str, id: str | None) -> None:
    with store.write() as db:
        if id is None:
            db.execute("DELETE FROM webhook_messages WHERE webhook = ?", (name,))
        else:
            db.execute("DELETE FROM webhook_messages WHERE webhook = ? AND id = ?", (name, id))


def _put_state(store: Store, name: str, kept: Kept) -> None:
    with store.write() as db:
        db.execute(
            "INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?, ?)",
            (name, kept.url, kept.failing_since, int(kept.is_disabled)),
        )
