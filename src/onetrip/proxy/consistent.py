"""Requests of projects that promise their clients what they wrote and saw (`proxy/consistency`).

Before a request of such a project is sent it may have to wait, and so may its answer; both happen
in the connection's task. All other requests go through as they do without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onetrip.errors import UpstreamError
from onetrip.model.consistency import Freshness
from onetrip.model.measure import Arm
from onetrip.proxy.headers import is_https
from onetrip.proxy.hedged import HedgedDispatch
from onetrip.proxy.relay import request_pump
from onetrip.proxy.session_fields import find_answer, token_line

if TYPE_CHECKING:
    from onetrip.model.topology import RegionId
    from onetrip.proxy.balance import Choice
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.headers import Prepared
    from onetrip.proxy.hop import Hop
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.pledge import Pledge
    from onetrip.proxy.router import Match
    from onetrip.proxy.services import Services
    from onetrip.proxy.upstream import NextHop
    from onetrip.wire.http1_head import RequestHead, ResponseHead


_LACKING = (Freshness.PRIMARY, Freshness.UNSURE)


class ConsistentDispatch(HedgedDispatch):
    """A dispatch that keeps what is promised to the client; see `Pledge`."""

    __slots__ = ("_is_settled", "_pledge", "_target")

    def __init__(
        self,
        downstream: ClientChannel,
        head: RequestHead,
        prepared: Prepared,
        hop: Hop | None,
        record: Record,
        services: Services,
    ) -> None:
        super().__init__(downstream, head, prepared, hop, record, services)
        self._pledge: Pledge | None = None
        self._is_settled = False
        self._target: RegionId | None = None

    def begin(self, match: Match) -> None:
        """See `Dispatch`."""
        super().begin(match)
        self._is_settled, self._target = False, None
        self._pledge = self._open(match)
        if self._pledge is not None:
            self._plan = None  # a second attempt would read elsewhere

    def avoids_kept(self, match: Match) -> bool:
        """See `Dispatch`."""
        self._pledge = self._open(match)
        return self._pledge is not None and self._pledge.avoids_kept

    @property
    def notes(self) -> bytes:
        """See `Dispatch`."""
        if self._pledge is None:
            return b""
        is_secure = is_https(self._head.meta.fields, self._down.client)
        return self._pledge.answer_line(is_secure=is_secure)

    def step(self) -> ResponseHead | None:
        """See `Dispatch`."""
        if self._pledge is not None and not self._is_settled:
            return None
        return super().step()

    async def forward(self) -> ResponseHead:
        """See `Dispatch`."""
        pledge = self._pledge
        if pledge is None:
            return await super().forward()
        if not self._is_settled:
            await self._settle(pledge)
        head = await super().forward()
        if head.status == 101 or await self._conclude(pledge, head):
            return head
        if not self._can_repeat(pledge):
            return head
        self._repeat(pledge)
        head = await super().forward()
        await self._conclude(pledge, head)
        return head

    async def _settle(self, pledge: Pledge) -> None:
        """Find out where the request may run and read, with waits."""
        self._is_settled = True
        try:
            choice = self._pick()
        except UpstreamError:
            return  # the attempt itself tells why
        if not choice.via_peer:
            await pledge.settle(choice.region, self._record.ends_at - self._services.clock.now())
            freshness = pledge.freshness
            if freshness in _LACKING and self._move(pledge, choice.region):
                freshness = Freshness.MOVED
            pledge.note(freshness)
            self._record.freshness = freshness.value if freshness is not None else ""

    def _move(self, pledge: Pledge, region: RegionId) -> bool:
        """Run where the primary is, if the request may: there its reads cost no long trips."""
        home = pledge.home
        if self._hop is not None or home is None or home == region:
            return False
        if self._services.balancer.choose_in(self._match, home, self._tried) is None:
            return False
        self._target = home
        return True

    async def _conclude(self, pledge: Pledge, head: ResponseHead) -> bool:
        choice = self._choice
        assert choice is not None
        if not choice.via_peer:
            return await pledge.conclude(choice.region)
        token = find_answer(head.meta.fields)
        if token is None:  # a node that keeps no promises yet
            return await pledge.conclude(None)
        pledge.adopt(token)
        return True

    def _can_repeat(self, pledge: Pledge) -> bool:
        return not pledge.is_write and (self.request is None or self.request.can_rewind)

    def _repeat(self, pledge: Pledge) -> None:
        """Ask again, of the primary: what was read came from a replica that had lost something."""
        choice = self._choice
        assert choice is not None
        pledge.use_primary(choice.region)
        pledge.note(Freshness.PRIMARY)
        self._record.freshness = Freshness.PRIMARY.value
        self.drop()
        if self.request is not None:
            self.request.rewind()
            self.request = request_pump(self._down, self._head.meta, self._services.settings)
        self._choice, self._target = None, choice.region

    def _pick(self) -> Choice:
        if self._target is not None:
            target = self._services.balancer.choose_in(self._match, self._target, self._tried)
            if target is not None:
                target.arm = Arm.FAILOVER
                return target
        return super()._pick()

    def _send_head(self, up: NextHop, choice: Choice) -> None:
        pledge, own = self._pledge, self.prepared
        if pledge is None:
            super()._send_head(up, choice)
            return
        if choice.via_peer:
            line = token_line(b", ".join(pledge.tokens)) if pledge.tokens else b""
        else:
            line = pledge.read_line(choice.region)
        self.prepared = replace(own, block=own.block + line)
        try:
            super()._send_head(up, choice)
        finally:
            self.prepared = own

    def _open(self, match: Match) -> Pledge | None:
        book = self._services.consistency
        if self._pledge is not None or book is None:
            return self._pledge
        return book.open(match, self._head.meta.fields, from_peer=self._hop is not None)
