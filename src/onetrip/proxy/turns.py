"""Whose turn it is while an exchange waits, and how long that turn may last.

One wait covers both sides, so a timeout must blame the right one: a client that does not take
its response must not look like a slow application, and a client that keeps sending bytes must not
extend the application's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onetrip.errors import DownstreamError, Kind, OnetripError, UpstreamError

if TYPE_CHECKING:
    from onetrip.proxy.channel import Channel
    from onetrip.proxy.relay import Pump
    from onetrip.proxy.settings import ProxySettings
    from onetrip.proxy.upstream import Upstream

Progress = tuple[int, ...]
"""Grows when either message advances; equal values mean that nothing moved in between."""

Turn = tuple[OnetripError, float]
"""The error of letting a turn last longer than so many seconds."""


def measure_progress(
    down: Channel, up: Upstream, request: Pump | None, response: Pump | None
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
    up: Upstream,
    request: Pump | None,
    response: Pump | None,
    settings: ProxySettings,
    *,
    waits_for_100: bool,
) -> Turn:
    """Return whose turn it is and for how long.

    Args:
        request: the request's body, None when it has none.
        response: the response's body, None before its head has arrived.
        waits_for_100: the client holds its body back until 100 (Continue), which is up to the
            next hop.
    """
    if down.is_write_paused:
        return _client("client took no data", settings.write_timeout)
    if up.is_write_paused:
        return _next_hop("next hop took no data", settings.read_timeout)
    if request is not None and not request.is_done and response is None:
        if request.size or not waits_for_100:
            return _client("client sent no body data", settings.body_timeout)
    if down.has_ended and response is None:
        gone = DownstreamError("client closed the connection", kind=Kind.RESET)
        return gone, min(settings.half_close_timeout, settings.read_timeout)
    return _next_hop("no response data", settings.read_timeout)


def _client(what: str, timeout: float) -> Turn:
    return DownstreamError(f"{what} for {timeout:g} s", kind=Kind.TIMEOUT), timeout


def _next_hop(what: str, timeout: float) -> Turn:
    return UpstreamError(f"{what} for {timeout:g} s", kind=Kind.TIMEOUT), timeout
