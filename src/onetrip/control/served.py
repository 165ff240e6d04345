"""Requests that another proxy served, as a client of the admin API tells them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from onetrip.control.requests import parse
from onetrip.model.access import ServedRequest

MOST_REQUESTS = 1000
"""Requests told at once."""

MAX_TOLD = 1024 * 1024
"""Largest body, bytes: the requests above, with paths of 1 kB."""


class ServedRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One request (`model.access.ServedRequest`).

    Attributes:
        path: with or without its query, which nobody keeps.
        duration_ms: from the request passed on to the response's first byte, or near it.
        ended_at: Unix time of that end, s.
    """

    host: Annotated[str, Meta(min_length=1, max_length=260)]
    method: Annotated[str, Meta(pattern="^[A-Z]{1,16}$")]
    path: Annotated[str, Meta(pattern="^/", max_length=8192)]
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    duration_ms: Annotated[float, Meta(ge=0, le=86_400_000)] | None = None
    ended_at: Annotated[float, Meta(ge=0, le=1e11)] | None = None


class ServedOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/requests`: what a log tells of requests that another proxy served."""

    requests: Annotated[list[ServedRow], Meta(max_length=MOST_REQUESTS)]


class ServedBody(Struct, frozen=True):
    """What became of them: how many belong to an environment, and how many to none."""

    taken: int
    unknown: int


def served_of(body: bytes) -> list[ServedRequest]:
    """Decode a body.

    Raises:
        ApiError: it is none.
    """
    return [
        ServedRequest(
            host=row.host,
            method=row.method,
            path=row.path.partition("?")[0],
            status=row.status,
            duration=row.duration_ms / 1e3 if row.duration_ms is not None else None,
            ended_at=row.ended_at,
        )
        for row in parse(body, ServedOrder).requests
    ]
