"""Whose turn it is while an exchange waits, and how long that turn may last.

One wait covers both sides, so a timeout must blame the right one: a client that does not take
its response must not look like a slow application, and a client that keeps sending bytes must not
extend the application's time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from onetrip.errors import DownstreamError, Kind, OnetripError, UpstreamError

if TYPE_CHECKING:
    from onetrip.proxy.channel import Channel
    from onetrip.proxy.downstream import ClientChannel
    from onetrip.proxy.relay import Pump
    from onetrip.proxy.services import Services
    from onetrip.proxy.settings import ProxySettings
    from onetrip.proxy.upstream import NextHop
    from onetrip.timing import Clock

T = TypeVar("T")

LOOK_AFTER = 2.0
"""Time of silence after which it is asked whether the node that shall answer still lives, s."""

Progress = tuple[int, ...]
"""Grows when either message advances; equal values mean that nothing moved in between."""


class Turn(Enum):
    """Whose turn it is, and what is missing."""

    CLIENT_READS = "client took no data"
    CLIENT_SENDS = "client sent no body data"
    CLIENT_RETURNS = "client closed the connection"
    NEXT_HOP_READS = "next hop took no data"
    NEXT_HOP_ANSWERS = "no response data"


def measure_progress(
    down: Channel, up: NextHop, request: Pump | None, response: Pump | None
) -> Progress:
    """Return how far both messages have come."""
    return (
        up.reads,
        request.size if request is not None else 0,
        response.size if response is not None else 0,
        -down.unsent if down.is_write_paused else 0,
        -up.unsent if up.is_write_paused else 0,
    )


def whose_turn(
    down: Channel,
    up: NextHop,
    request: Pump | None,
    response: Pump | None,
    *,
    waits_for_100: bool,
) -> Turn:
    """Return whose turn it is.

    Args:
        request: the request's body, None when it has none.
        response: the response's body, None before its head has arrived.
        waits_for_100: the client holds its body back until 100 (Continue), which is up to the
            next hop.
    """
    if down.is_write_paused:
        return Turn.CLIENT_READS
    if up.is_write_paused:
        return Turn.NEXT_HOP_READS
    if request is not None and not request.is_done and response is None:
        if request.size or not waits_for_100:
            return Turn.CLIENT_SENDS
    if down.has_ended and response is None:
        return Turn.CLIENT_RETURNS
    return Turn.NEXT_HOP_ANSWERS


def time_allowed(turn: Turn, settings: ProxySettings) -> float:
    """Return how long a turn may last without progress, s."""
    if turn is Turn.NEXT_HOP_ANSWERS or turn is Turn.NEXT_HOP_READS:
        return settings.read_timeout
    if turn is Turn.CLIENT_READS:
        return settings.write_timeout
    if turn is Turn.CLIENT_SENDS:
        return settings.body_timeout
    return min(settings.half_close_timeout, settings.read_timeout)


def late_error(turn: Turn, timeout: float) -> OnetripError:
    """Return the error of letting a turn last longer than `timeout`."""
    if turn is Turn.CLIENT_RETURNS:
        return DownstreamError(turn.value, kind=Kind.RESET)
    is_client = turn is Turn.CLIENT_READS or turn is Turn.CLIENT_SENDS
    side = DownstreamError if is_client else UpstreamError
    return side(f"{turn.value} for {timeout:g} s", kind=Kind.TIMEOUT)


def overdue_error(turn: Turn) -> OnetripError:
    """Return the error of a request that was not over by its deadline."""
    is_ours = turn is Turn.NEXT_HOP_ANSWERS or turn is Turn.NEXT_HOP_READS
    side = UpstreamError if is_ours else DownstreamError
    return side(f"deadline passed: {turn.value}", kind=Kind.DEADLINE)


async def finish_by(ends_at: float, clock: Clock, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` until a deadline, monotonic s.

    Raises:
        UpstreamError: kind DEADLINE; it has passed.
    """
    if ends_at == math.inf:
        return await work
    try:
        async with asyncio.timeout(max(0.0, ends_at - clock.now())):
            return await work
    except TimeoutError:
        raise UpstreamError("deadline passed: no connection yet", kind=Kind.DEADLINE) from None


class Patience:
    """How long an exchange has waited for either side, and how long it still may.

    Args:
        since: when the last progress was made before the first wait, monotonic s.
        ends_at: when the whole exchange must be over.
    """

    __slots__ = ("_body_time", "_ends_at", "_progress", "_services", "_since")

    def __init__(self, services: Services, since: float, ends_at: float) -> None:
        self._services = services
        self._since = since
        self._ends_at = ends_at
        self._progress: Progress = ()
        self._body_time = 0.0  # that the client had for its body

    async def wait(
        self,
        down: ClientChannel,
        up: NextHop,
        request: Pump | None,
        response: Pump | None,
        *,
        waits_for_100: bool,
        looks: bool,
    ) -> None:
        """Sleep until either side has news; see `whose_turn` for the arguments.

        Args:
            looks: return after `LOOK_AFTER` without news, too.

        Raises:
            DownstreamError: the client's turn lasted too long.
            UpstreamError: the next hop's turn lasted too long.
        """
        progress = measure_progress(down, up, request, response)
        if progress != self._progress:
            if self._progress:
                self._since = self._services.clock.now()
            self._progress = progress
        turn = whose_turn(down, up, request, response, waits_for_100=waits_for_100)
        timeout = time_allowed(turn, self._services.settings)
        until = min(self._since + timeout, self._ends_at)
        if turn is Turn.CLIENT_SENDS and request is not None:
            has_news = await self._wait_for_body(down, request, until)
        else:
            look_at = self._services.clock.now() + LOOK_AFTER if looks else until
            has_news = await down.wait_until(min(until, look_at))
        if self._ends_at < math.inf and self._services.clock.now() >= self._ends_at:
            raise overdue_error(turn)
        if has_news or self._services.clock.now() < self._since + timeout:
            return
        if measure_progress(down, up, request, response) == progress:
            raise late_error(turn, timeout)

    async def _wait_for_body(self, down: ClientChannel, request: Pump, until: float) -> bool:
        """Wait for more of a request's body, which must not only come but come fast enough."""
        clock, settings = self._services.clock, self._services.settings
        began_at = clock.now()
        has_news = await down.wait_until(until)
        self._body_time += clock.now() - began_at
        if self._body_time > settings.body_timeout:
            rate = (request.size + len(down.received)) / self._body_time
            if rate < settings.body_rate:
                raise DownstreamError(
                    f"request body of {rate:.0f} bytes/s is below limit of {settings.body_rate}",
                    kind=Kind.TOO_SLOW,
                )
        return has_news
