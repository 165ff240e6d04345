"""Bodies of the admin API about the API itself: that it answers, what it is, why it refused."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class HealthBody(Struct, frozen=True):
    """`GET /healthz`: "ok"."""

    status: str


class OpenApiBody(Struct, frozen=True):
    """`GET /v1/openapi.json`: an OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, str]
    paths: dict[str, dict[str, Any]]


class ProblemKindBody(Struct, frozen=True):
    """`GET /v1/problems/{kind}`: what a problem document's `type` points to.

    Attributes:
        statuses: status codes that it comes with.
        meaning: what happened, and what to do about it.
    """

    kind: str
    statuses: list[int]
    meaning: str


class ProblemBody(Struct, frozen=True):
    """A refusal, as RFC 9457 problem details; all after `detail` are our extension members.

    Attributes:
        type: address of what explains it, relative to the node's.
        title: the status code's own phrase.
        status: the status code.
        detail: what is wrong with this request, in one line.
        kind: the type's short name.
        field: the parameter, field or header to blame, or "".
        value: what was found there, cut to 40 characters, or "".
        limit: what it must be, or "".
    """

    type: str
    title: str
    status: int
    detail: str
    kind: str
    field: str
    value: str = ""
    limit: str = ""
