"""Requests that another proxy served, as its access log tells them. Times in s."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request of another proxy's log.

    Attributes:
        host: as the client named it, with or without a port.
        path: without its query.
        duration: from the request passed on to the first byte of the response, or the nearest to
            it that the log has; None where it has none.
        ended_at: Unix time of that end; None where it is not told.
    """

    host: str
    method: str
    path: str
    status: int
    duration: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of requests that were told: how many belong to an environment, and do not."""

    taken: int
    unknown: int
