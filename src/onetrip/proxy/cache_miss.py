"""One request that the cache cannot answer by itself: asked upstream, answered, maybe kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onetrip.errors import OnetripError
from onetrip.proxy.cache_fetch import (
    Cache,
    asking,
    is_countable,
    is_failure,
    take_304,
)
from onetrip.proxy.cache_fill import BodyCopy, Fill
from onetrip.proxy.cache_reply import forward_note
from onetrip.proxy.cache_store import Key, Node
from onetrip.wire.cache_rules import ERRORS, Request, condition_lines, judge, may_hide_error

if TYPE_CHECKING:
    from onetrip.proxy.cache_server import CacheServer
    from onetrip.proxy.visit import Visit
    from onetrip.wire.http1_head import ResponseHead


class Miss:
    """One request that has to be asked upstream.

    Args:
        node: what is stored for it, to be validated, or None.
        fill: who else waits for it; None where the response is not kept in any case.
    """

    def __init__(
        self,
        server: CacheServer,
        visit: Visit,
        request: Request,
        cache: Cache,
        node: Node | None,
        key: Key,
        fill: Fill | None,
    ) -> None:
        self._server = server
        self._visit = visit
        self._request = request
        self._cache = cache
        self._node = node
        self._key = key
        self._fill = fill
        self._reason = self._why()

    async def run(self) -> None:
        """Forward the request and answer it.

        Raises:
            OnetripError: it cannot be answered, or the response was begun and not finished.
        """
        visit, node = self._visit, self._node
        dispatch, own = visit.dispatch, visit.dispatch.prepared
        asks = node is not None and visit.head.method == b"GET" and condition_lines(node.stored)
        if node is not None and asks:
            dispatch.prepared = asking(own, node.stored)
        dispatch.begin(visit.match)
        try:
            response = await dispatch.forward()
        except OnetripError as error:
            if not is_failure(error) or not await self._hide(None):
                raise
            return
        if response.status in ERRORS and await self._hide(response.status):
            return
        if asks and response.status == 304:
            if await self._confirm(response):
                return
            dispatch.prepared = own
            dispatch.begin(visit.match)
            response = await dispatch.forward()
        await self._take(response)

    def _why(self) -> bytes:
        """Return why it is forwarded (RFC 9211 section 2.2)."""
        node, cache = self._node, self._cache
        if node is None:
            return b"vary-miss" if cache.store.has(self._key) else b"uri-miss"
        now = self._server.now()
        is_fresh = node.stored.fresh_for(now) > 0 and not node.stored.must_ask
        return b"request" if is_fresh else b"stale"

    async def _hide(self, status: int | None) -> bool:
        """Answer with what is stored because upstream failed, if that is allowed; True then."""
        node, visit = self._node, self._visit
        if node is None or not may_hide_error(node.stored, self._request, self._server.now()):
            return False
        visit.dispatch.drop()
        # The client's response is none of that region: nothing is to be learned from it.
        visit.record.region = None
        self._server.count("hidden_error")
        note = forward_note(self._reason, status)
        await self._server.send(visit, self._request, node.stored, note)
        return True

    async def _confirm(self, response: ResponseHead) -> bool:
        """Answer with what is stored, which upstream called valid; False if it is another."""
        visit, node = self._visit, self._node
        assert node is not None
        head = self._server.received(response, visit.record)
        visit.dispatch.release(response)
        stored, is_kept = take_304(self._cache, node, self._request, head)
        if stored is None:
            self._node = None
            return False
        self._server.count("validated")
        note = forward_note(self._reason, 304, is_stored=is_kept)
        await self._server.send(visit, self._request, stored, note)
        return True

    async def _take(self, response: ResponseHead) -> None:
        """Relay the response, and keep it if it may be kept."""
        visit, cache, fill, server = self._visit, self._cache, self._fill, self._server
        dispatch, limit = visit.dispatch, cache.policy.max_object
        server.count("miss")
        stored = None
        if fill is not None:
            head = server.received(response, visit.record)
            if is_countable(response, limit):
                stored = judge(self._request, head, cache.rules)
            server.note_kept(cache, self._key, is_kept=stored is not None)
        if fill is None or stored is None:
            if fill is not None:
                fill.end(is_hopeless=True)
                if self._node is not None and response.status < 500:
                    cache.store.remove(self._node)  # there is another one now
            note = forward_note(self._reason, response.status)
            await visit.relay(dispatch, response, note, None)
            return
        copy = BodyCopy(limit, cache.room)
        is_sure = response.meta.content_length is not None
        note = forward_note(self._reason, response.status, is_stored=is_sure)
        try:
            await visit.relay(dispatch, response, note, copy)
            body = copy.body()
            if body is not None and not fill.is_void:
                cache.store.put(self._key, replace(stored, body=body))
        finally:
            copy.close()
