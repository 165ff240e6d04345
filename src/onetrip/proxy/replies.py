"""The one table from a failure to the reply a client gets; nothing else picks status codes."""

from __future__ import annotations

import traceback
from http import HTTPStatus

import msgspec

from onetrip.errors import Kind, OnetripError, Side
from onetrip.observe.logs import Log

RETRY_AFTER = 1
"""Seconds that a client is asked to wait after a 503: limits and failures of ours pass quickly."""

_DOWNSTREAM = {
    Kind.MALFORMED: 400,
    Kind.HEAD_TOO_LARGE: 431,
    Kind.BODY_TOO_LARGE: 413,
    Kind.URI_TOO_LONG: 414,
    Kind.UNSUPPORTED: 501,
    Kind.VERSION: 505,
    Kind.LENGTH_REQUIRED: 411,
    Kind.NO_ROUTE: 404,
    Kind.MISDIRECTED: 421,
    Kind.TIMEOUT: 408,
    Kind.DEADLINE: 408,
    Kind.TOO_SLOW: 408,
    Kind.LOOP: 508,
    Kind.OVERLOADED: 503,
    Kind.RESET: 400,
    Kind.DENIED: 403,
}
_UPSTREAM = {
    Kind.TIMEOUT: 504,
    Kind.DEADLINE: 504,
    Kind.UNAVAILABLE: 503,
    Kind.RESIDENCY: 503,
    Kind.REFUSED: 503,
    Kind.OVERLOADED: 503,
    Kind.CONNECTION_LIMIT: 503,
    Kind.QUEUE_LIMIT: 503,
    Kind.REQUEST_LIMIT: 503,
}
_UPSTREAM_MESSAGES = {
    Kind.TIMEOUT: "the application did not answer in time",
    Kind.DEADLINE: "the request took longer than it may",
    Kind.UNAVAILABLE: "no instance of the application is ready",
    Kind.RESIDENCY: "no instance of the application is ready where the request may run",
    Kind.OVERLOADED: "too many requests wait for the application",
    Kind.CONNECTION_LIMIT: "too many requests wait for the application",
    Kind.QUEUE_LIMIT: "too many requests wait for the application",
    Kind.REQUEST_LIMIT: "the application has as many requests as it may",
    Kind.CONNECT: "the application could not be reached",
    Kind.UNSUPPORTED: "the application does not take this over HTTP/2",
    Kind.REFUSED: "the application has no room for the request",
    Kind.LEAVING: "the application closed the connection",
    Kind.RESET: "the application closed the connection before its response was complete",
    Kind.MALFORMED: "the application's response is not valid HTTP",
    Kind.HEAD_TOO_LARGE: "the application's response head is too large",
}
_OUR_MESSAGES = {
    Kind.OVERLOADED: "this node serves as many clients as it can",
    Kind.EXHAUSTED: "this node is out of resources",
}
"""What clients read: the error's own text names addresses, which are for the access log."""


def status_of(error: OnetripError) -> int:
    """Return the status code that a failure is answered with."""
    if error.side is Side.UPSTREAM:
        return _UPSTREAM.get(error.kind, 502)
    if error.side is Side.DOWNSTREAM:
        return _DOWNSTREAM.get(error.kind, 400)
    return 503 if error.kind in (Kind.OVERLOADED, Kind.EXHAUSTED, Kind.UNAVAILABLE) else 500


def reason_of(status: int) -> bytes:
    """Return the registered reason phrase, or nothing."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def error_reply(
    error: OnetripError,
    request_id: bytes,
    *,
    keep_alive: bool,
    has_body: bool = True,
    extra: bytes = b"",
) -> bytes:
    """Return a complete response for a failure: a small JSON body, never a peer's own text.

    Args:
        has_body: False answers HEAD.
        extra: further field lines, each with its CRLF.
    """
    status = status_of(error)
    if status == 503:
        extra += b"Retry-After: %d\r\n" % RETRY_AFTER
    body = msgspec.json.encode(
        {
            "error": {
                "kind": error.kind.value,
                "message": _message(error),
                "status": status,
                "request_id": request_id.decode("ascii", "replace"),
            }
        }
    )
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n%b"
        % (
            status,
            reason_of(status),
            len(body),
            b"" if keep_alive else b"Connection: close\r\n",
            extra,
            body if has_body else b"",
        )
    )


def redirect_reply(location: bytes, *, keep_alive: bool) -> bytes:
    """Return a reply that sends a client elsewhere for good, with the same method and body."""
    return b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %b\r\nContent-Length: 0\r\n%b\r\n" % (
        location,
        b"" if keep_alive else b"Connection: close\r\n",
    )


def own_failure(error: Exception, log: Log) -> OnetripError:
    """Log a bug of ours, and return what a client is told: it costs a request, never the node."""
    # Only where and what kind: its text could hold what a client sent.
    at = traceback.extract_tb(error.__traceback__)[-1]
    kind, where = type(error).__name__, f"{at.name}:{at.lineno}"
    log.error("proxy.exchange_failed", cause=error, error=kind, at=where)
    return OnetripError("internal error")


def _message(error: OnetripError) -> str:
    if error.side is Side.UPSTREAM:
        return _UPSTREAM_MESSAGES.get(error.kind, "the application failed")
    if error.side is Side.OURS:
        return _OUR_MESSAGES.get(error.kind, "internal error")
    return str(error)
