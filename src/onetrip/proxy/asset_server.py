"""Answers requests with files: which file, whether at all, and its way to the client.

The order is that of `try_files`: a file that exists is sent; without one the request goes on to
the instance, unless the environment has a page for that (`not_found`, `spa`). A declared route
that is not local belongs to the application, so those pages never stand in for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from onetrip.proxy.asset_paths import AssetPath, asset_path, plain_path
from onetrip.proxy.asset_reply import (
    Reply,
    asked_fields,
    file_reply,
    folder_reply,
    method_reply,
    missing_reply,
)
from onetrip.proxy.asset_store import Asset, AssetStore
from onetrip.proxy.file_sender import FileSender, send_all

if TYPE_CHECKING:
    from onetrip.model.catalog import EnvironmentId
    from onetrip.model.edge import Assets
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.visit import Visit

THREADS = 4
"""Threads that may wait for the disk at once; they start when they are needed."""

LOG_INTERVAL = 60.0
"""Least time between two events about one folder's disk, s."""

_ROOT = AssetPath((), is_folder=True)
_READS = (b"GET", b"HEAD")
_OUTCOMES = {
    200: "sent",
    206: "partial",
    301: "redirected",
    304: "not_modified",
    404: "not_found",
    405: "refused",
    412: "refused",
    416: "refused",
}


class AssetServer:
    """Serves the assets of every environment of one node."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(THREADS, "onetrip-files")
        self._stores: dict[EnvironmentId, AssetStore] = {}
        self._told_at: dict[str, float] = {}

    def update(self, wanted: Mapping[EnvironmentId, Assets]) -> None:
        """Serve these from now on; what is known of unchanged ones is kept."""
        old = self._stores
        self._stores = {
            id: old[id] if id in old and old[id].assets == assets else self._make_store(assets)
            for id, assets in wanted.items()
        }

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, visit: Visit) -> bool:
        """Answer with a file, if there is one for the request; True then.

        Raises:
            OnetripError: the response was begun and cannot be finished.
        """
        store = self._stores.get(visit.match.environment.site)
        path = asset_path(visit.head.target, store.assets.prefix) if store is not None else None
        if store is None or path is None:
            return False
        # A large file may be replaced after it was looked up: then once more.
        for is_fresh in (False, True):
            reply, asset = await self._decide(store, path, visit, is_fresh=is_fresh)
            if reply is None:
                return False
            file = asset.files[reply.coding] if asset is not None and reply.body else None
            if asset is None or file is None or file.content is not None:
                content = b"" if file is None else file.content or b""
                await self._send_content(visit, reply, content)
                return True
            fd = await store.open(asset, reply.coding)
            if fd is not None:
                try:
                    await self._send_file(visit, reply, fd)
                finally:
                    os.close(fd)
                return True
        return False

    async def _decide(
        self, store: AssetStore, path: AssetPath, visit: Visit, *, is_fresh: bool
    ) -> tuple[Reply | None, Asset | None]:
        """Return what to answer and the asset it is of; no reply: the instance answers."""
        services, head = self._services, visit.head
        fields = asked_fields(head.meta.fields)
        found = await store.find(path, is_fresh=is_fresh)
        status, varies, now = 200, b"", services.clock.wall()
        if head.method not in _READS:
            # Forms are often sent to the address of an index: that is for the application.
            is_file = isinstance(found, Asset) and not path.is_folder and path.parts
            return (method_reply(now) if is_file or store.assets.is_alone else None), None
        if found is None and store.assets.is_clean and (clean := _clean(path)) is not None:
            found = await store.find(clean, is_fresh=is_fresh)
        if found is None:
            found, status, varies = await _stand_in(store, fields, visit.match)
        if found is None:
            return (missing_reply(now) if store.assets.is_alone else None), None
        if not isinstance(found, Asset):
            return folder_reply(head.target, now), None
        reply = file_reply(
            found,
            fields,
            now,
            is_head=head.method == b"HEAD",
            boundary=b"%032x" % services.rng.getrandbits(128),
            status=status,
            varies=varies,
        )
        return reply, found

    async def _send_content(self, visit: Visit, reply: Reply, content: bytes) -> None:
        services, record = self._services, visit.record
        self._note(record, reply)
        start = visit.begin(reply.status, reply.block)
        body = [p if isinstance(p, bytes) else content[p[0] : p[1]] for p in reply.body]
        await send_all(visit.down, [start, *body], services.clock, services.settings)
        record.bytes_out = sum(map(len, body))

    async def _send_file(self, visit: Visit, reply: Reply, fd: int) -> None:
        services, down, record = self._services, visit.down, visit.record
        self._note(record, reply)
        sender = FileSender(down, fd, self._pool, services.clock, services.settings)
        down.write(visit.begin(reply.status, reply.block))
        try:
            for piece in reply.body:
                if isinstance(piece, bytes):
                    down.write(piece)
                    record.bytes_out += len(piece)
                else:
                    await sender.send(*piece)
        finally:
            record.bytes_out += sender.size

    def _make_store(self, assets: Assets) -> AssetStore:
        return AssetStore(assets, self._services.clock, self._pool, self._disk_failed)

    def _note(self, record: Record, reply: Reply) -> None:
        record.served_by = "assets"
        self._metrics.edge.assets.labels(_OUTCOMES[reply.status]).inc()

    def _disk_failed(self, directory: str, reason: str) -> None:
        now = self._services.clock.now()
        if now - self._told_at.get(directory, float("-inf")) >= LOG_INTERVAL:
            self._told_at[directory] = now
            self._services.log.warning(
                "proxy.assets_unreadable", directory=directory, reason=reason
            )


def _clean(path: AssetPath) -> AssetPath | None:
    """Return where the page of a path is that was written without `.html`."""
    if path.is_folder or not path.parts or "." in path.parts[-1]:
        return None
    return AssetPath((*path.parts[:-1], f"{path.parts[-1]}.html"), is_folder=False)


async def _stand_in(
    store: AssetStore, fields: Mapping[bytes, bytes], match: Match
) -> tuple[Asset | None, int, bytes]:
    """Return the page that stands in for a missing file, its status, and what it depends on."""
    assets, rule = store.assets, match.rule
    if rule is not None and not rule.is_local:
        return None, 0, b""
    if assets.is_spa and b"text/html" in fields.get(b"accept", b"").lower():
        found = await store.find(_ROOT)
        if isinstance(found, Asset):
            return found, 200, b"Accept"
    place = plain_path("/" + assets.not_found) if assets.not_found else None
    found = await store.find(place) if place is not None else None
    return (found, 404, b"") if isinstance(found, Asset) else (None, 0, b"")
