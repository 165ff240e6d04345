"""One request at the edge: what the phase between routing and forwarding is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from onetrip.proxy.channel import Channel
    from onetrip.proxy.dispatch import Dispatch
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.ledger import Record
    from onetrip.proxy.relay import Pump
    from onetrip.proxy.router import Match
    from onetrip.wire.http1_body import BodyDecoder
    from onetrip.wire.http1_head import RequestHead, ResponseHead


MakePump = Callable[["Channel", "BodyDecoder", bool], "Pump"]


class Tee(Protocol):
    """Takes a copy of a body on its way to the client."""

    def pump(self, source: Channel, decoder: BodyDecoder, is_chunked: bool) -> Pump:
        """Return a pump that also feeds this."""


class Visit(NamedTuple):
    """One request, and how to answer it.

    Attributes:
        begin: makes a response head of a status and field lines, and notes that it has begun.
        relay: relays the response that `dispatch` got, with further field lines and a copy.
    """

    down: ClientChannel
    head: RequestHead
    match: Match
    record: Record
    dispatch: Dispatch
    begin: Callable[[int, bytes], bytes]
    relay: Callable[[Dispatch, ResponseHead, bytes, Tee | None], Awaitable[None]]
