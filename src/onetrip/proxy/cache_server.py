"""Answers requests from stored responses, and keeps those that may be kept.

What may be kept and used is decided in `wire/cache_rules`; here is the order of events: look up,
wait for somebody who asks the same, ask upstream (with the stored validators), relay, keep. An
answer from the store takes no placement and is no observation: no database was touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onetrip.proxy.cache_fetch import (
    Cache,
    changed_targets,
    key_of,
    received,
    refresh,
)
from onetrip.proxy.cache_fill import Fill, Room
from onetrip.proxy.cache_miss import Miss
from onetrip.proxy.cache_reply import forward_note, hit_note, stored_reply
from onetrip.proxy.cache_store import CacheStore, Key, Node
from onetrip.proxy.file_sender import send_all
from onetrip.tasks import Tasks
from onetrip.wire.cache_rules import (
    Received,
    Request,
    Stored,
    Use,
    choose_use,
    join_fields,
)

if TYPE_CHECKING:
    from onetrip.model.edge import CachePolicy, Purge
    from onetrip.observe.metrics import Metrics
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.services import Services
    from onetrip.proxy.visit import Visit
    from onetrip.wire.http1_head import ResponseHead

MAX_REFRESHES = 64
"""Background refreshes at once; beyond that a stale response is refreshed by a later request."""

MAX_UNKEPT = 4096
"""Keys remembered whose responses are not kept."""

UNKEPT_FOR = 60.0
"""Time for which nobody waits for such a key, s: its requests must not queue one behind another."""

_READS = (b"GET", b"HEAD")
_SAFE = (b"OPTIONS", b"TRACE")
_GATEWAY_TIMEOUT = b"Content-Length: 0\r\nCache-Control: no-store\r\n"
FillKey = tuple[str, Key]


class CacheServer:
    """The caches of every project of one node."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._caches: dict[str, Cache] = {}
        self._fills: dict[FillKey, Fill] = {}
        self._unkept: dict[FillKey, float] = {}
        self._tasks = Tasks(self._task_failed)

    def update(self, wanted: Mapping[str, CachePolicy]) -> None:
        """Keep responses of these projects from now on; what is stored of them stays."""
        old, self._caches = self._caches, {}
        for project, policy in wanted.items():
            cache = old.pop(project, None)
            if cache is None:
                store = CacheStore(policy.max_size, self._metrics.edge.cache_evictions.inc)
                cache = Cache(project, policy, store, Room(policy.max_size))
            elif cache.policy != policy:
                cache.room.left += policy.max_size - cache.policy.max_size
                cache.store.shrink(policy.max_size)
                cache.policy = policy
            self._caches[project] = cache
            self._tell_size(cache)
        for project in old:
            self._metrics.edge.cache_size.remove(project)
            self._metrics.edge.cache_objects.remove(project)

    def now(self) -> float:
        """Return monotonic time, s."""
        return self._services.clock.now()

    def received(self, response: ResponseHead, record: Record) -> Received:
        """Return a response's head as the rules read it."""
        return received(response, record, self._services)

    async def close(self) -> None:
        """End the refreshes."""
        await self._tasks.cancel(timeout=1.0)

    def purge(self, order: Purge) -> int:
        """Forget stored responses; return how many.

        What is being fetched now is not kept either.
        """
        cache = self._caches.get(order.project)
        if cache is None:
            return 0

        def is_meant(key: Key) -> bool:
            return order.covers(key.scheme, key.authority, key.target)

        for (owner, key), fill in self._fills.items():
            if owner == order.project and is_meant(key):
                fill.is_void = True
        count = cache.store.remove_where(is_meant)
        self._tell_size(cache)
        return count

    async def answer(self, visit: Visit) -> bool:
        """Answer a request; False when it is none of the cache's business.

        Raises:
            OnetripError: it cannot be answered, or the response was begun and not finished.
        """
        cache = self._caches.get(visit.match.environment.id.project)
        method = visit.head.method
        if cache is None or method in _SAFE:
            return False
        if method not in _READS:
            await self._write(visit, cache)
            return True
        request = Request.read(visit.head.meta.fields)
        if visit.head.has_body or request.bypasses:
            self.count("bypass")
            visit.dispatch.begin(visit.match)
            response = await visit.dispatch.forward()
            note = forward_note(b"bypass", response.status)
            await visit.relay(visit.dispatch, response, note, None)
            return True
        await self._read(visit, request, cache)
        return True

    # --- reads ------------------------------------------------------------------------------

    async def _read(self, visit: Visit, request: Request, cache: Cache) -> None:
        key = key_of(visit)
        fill_key = (cache.project, key)
        is_answered, node = await self._find(visit, request, fill_key, cache)
        if is_answered:
            return
        if b"only-if-cached" in request.directives:
            self.count("unavailable")
            visit.record.served_by = "cache"
            note = forward_note(b"request", None)
            visit.down.write(visit.begin(504, _GATEWAY_TIMEOUT + note))
            return
        fill = None
        if fill_key not in self._fills and _may_lead(visit, request):
            fill = self._fills[fill_key] = Fill()
        try:
            await Miss(self, visit, request, cache, node, key, fill).run()
        finally:
            if fill is not None:
                del self._fills[fill_key]
                fill.end()
            self._tell_size(cache)

    async def _find(
        self, visit: Visit, request: Request, fill_key: FillKey, cache: Cache
    ) -> tuple[bool, Node | None]:
        """Answer from the store if possible, waiting for a fetch in progress.

        Returns:
            Whether it is answered; else the stored response to be validated, or None.
        """
        services, deadline, was_collapsed = self._services, 0.0, False
        while True:
            now = services.clock.now()
            node = cache.store.find(fill_key[1], request)
            use = Use.VALIDATE if node is None else choose_use(node.stored, request, now)
            if node is not None and use is not Use.VALIDATE:
                if use is Use.REVALIDATE_LATER:
                    self._refresh(visit, request, cache, node)
                self.count("hit" if use is Use.FRESH else "stale")
                note = hit_note(node.stored, now, was_collapsed=was_collapsed)
                await self.send(visit, request, node.stored, note)
                return True, None
            fill = self._fills.get(fill_key)
            if fill is None or not self._may_wait(request, fill_key, now):
                return False, node
            deadline = deadline or now + cache.policy.wait
            if not await fill.wait(visit.down, deadline) or fill.is_hopeless:
                return False, cache.store.find(fill_key[1], request)
            was_collapsed = True

    def _may_wait(self, request: Request, fill_key: FillKey, now: float) -> bool:
        """Tell whether what is being fetched could answer the request."""
        wanted = request.directives
        if b"no-cache" in wanted or wanted.seconds.get(b"max-age") == 0:
            return False
        return self._unkept.get(fill_key, now) <= now

    def note_kept(self, cache: Cache, key: Key, *, is_kept: bool) -> None:
        """Remember for a while that the responses of a key are not kept."""
        if is_kept:
            self._unkept.pop((cache.project, key), None)
            return
        if len(self._unkept) >= MAX_UNKEPT:
            self._unkept.clear()
        self._unkept[cache.project, key] = self._services.clock.now() + UNKEPT_FOR

    def _refresh(self, visit: Visit, request: Request, cache: Cache, node: Node) -> None:
        if node.is_refreshing or len(self._tasks) >= MAX_REFRESHES:
            return
        node.is_refreshing = True
        work = refresh(cache, node, visit, request, self._services)
        self._tasks.spawn(work, "proxy.cache_refresh")

    async def send(self, visit: Visit, request: Request, stored: Stored, note: bytes) -> None:
        """Send a stored response.

        Raises:
            DownstreamError: the client went away, or does not read.
        """
        services, record = self._services, visit.record
        reply = stored_reply(
            stored,
            request,
            note,
            now=services.clock.now(),
            wall=services.clock.wall(),
            is_head=visit.head.method == b"HEAD",
            boundary=b"%032x" % services.rng.getrandbits(128),
        )
        record.served_by = "cache"
        pieces = [p if isinstance(p, bytes) else stored.body[p[0] : p[1]] for p in reply.body]
        start = visit.begin(reply.status, reply.block)
        await send_all(visit.down, [start, *pieces], services.clock, services.settings)
        record.bytes_out = sum(map(len, pieces))

    # --- everything else --------------------------------------------------------------------

    async def _write(self, visit: Visit, cache: Cache) -> None:
        """Forward a request that may change things, and forget what it has changed."""
        self.count("bypass")
        visit.dispatch.begin(visit.match)
        response = await visit.dispatch.forward()
        if 200 <= response.status < 400:
            places = changed_targets(key_of(visit), join_fields(response.meta.fields))
            for owner, key in self._fills:
                if owner == cache.project and (key.authority, key.target) in places:
                    self._fills[owner, key].is_void = True
            for place in places:
                cache.store.remove_place(*place)
            self._tell_size(cache)
        note = forward_note(b"method", response.status)
        await visit.relay(visit.dispatch, response, note, None)

    def count(self, outcome: str) -> None:
        """Count one request."""
        self._metrics.edge.cache_requests.labels(outcome).inc()

    def _tell_size(self, cache: Cache) -> None:
        self._metrics.edge.cache_size.labels(cache.project).set(cache.store.size)
        self._metrics.edge.cache_objects.labels(cache.project).set(cache.store.count)

    def _task_failed(self, name: str, error: BaseException) -> None:
        kind = type(error).__name__
        self._services.log.error("proxy.task_failed", cause=error, task=name, error=kind)


def _may_lead(visit: Visit, request: Request) -> bool:
    """Tell whether the response may be kept, so that others can wait for it."""
    if visit.head.method != b"GET" or b"range" in request.fields:
        return False
    return b"no-store" not in request.directives
