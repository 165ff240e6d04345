"""Refusals as replies: one table from kinds to status codes, and RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from aiohttp import web

from onetrip.control.about import ProblemBody, ProblemKindBody
from onetrip.errors import ApiError, Kind, OnetripError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A type of problem document: its status codes, the usual one first, and what it means."""

    statuses: tuple[int, ...]
    meaning: str


_INVALID = "A parameter, field or header is unknown, of the wrong type or outside its limits."

KINDS = {
    Kind.INVALID: ProblemKind((400,), _INVALID),
    Kind.MALFORMED: ProblemKind((400,), "The request breaks the protocol."),
    Kind.DENIED: ProblemKind(
        (403, 401),
        "No token, or not one of this node's (401); or it does not permit this, or a web page of "
        "somebody else asked (403).",
    ),
    Kind.NOT_FOUND: ProblemKind((404,), "No such address, project or backend."),
    Kind.NOT_ALLOWED: ProblemKind((405,), "The address has other methods; `Allow` names them."),
    Kind.TIMEOUT: ProblemKind((408,), "The body did not arrive in time; send it again."),
    Kind.CONFLICT: ProblemKind(
        (409, 412, 422),
        "The change contradicts the configuration or another change (409), or `If-Match` names an "
        "older state (412): read again, then decide again. Or the `Idempotency-Key` was used for "
        "another request (422): choose a new one.",
    ),
    Kind.BODY_TOO_LARGE: ProblemKind((413,), "The body exceeds the limit."),
    Kind.UNSUPPORTED: ProblemKind((415,), "The body is not `application/json`."),
    Kind.EXPECTATION: ProblemKind((417,), "`Expect` asks for something other than 100-continue."),
    Kind.CONFIG: ProblemKind(
        (422,), "The configuration cannot be used; the old one keeps running."
    ),
    Kind.RATE: ProblemKind(
        (429,), "More requests than a caller may send; `Retry-After` says when there are more."
    ),
    Kind.INTERNAL: ProblemKind((500,), "Our fault; the node's log says why."),
    Kind.OVERLOADED: ProblemKind((503,), "More than this node takes; try again later."),
    Kind.UNAVAILABLE: ProblemKind(
        (503,), "The state file cannot be written, or no region can take it; nothing was changed."
    ),
}
"""Every type of problem document."""

STATUS_OF = {kind: each.statuses[0] for kind, each in KINDS.items()}
"""Status code of each kind; any other kind is our own fault (500)."""

TYPE_PREFIX = "/v1/problems/"
"""Where a node explains a kind. Source: RFC 9457, section 3.1.1 (a full path, as it recommends)."""

_KIND_OF = {
    404: Kind.NOT_FOUND,
    405: Kind.NOT_ALLOWED,
    413: Kind.BODY_TOO_LARGE,
    417: Kind.EXPECTATION,
}


class RefusedError(ApiError):
    """A refusal whose status code the kind alone does not tell (401, 412, 429).

    Attributes:
        status: status code.
        headers: headers the status code asks for.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: Kind = Kind.DENIED,
        field: str = "",
        limit: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, kind=kind, limit=limit)
        self.status = status
        self.headers = dict(headers or {})


def problem_of(error: BaseException) -> web.Response:
    """Return the reply for a failure; an unexpected one tells nothing but that it happened."""
    if isinstance(error, web.HTTPException):
        return _from_aiohttp(error)
    if not isinstance(error, OnetripError):
        return problem(500, "the node failed to answer; its log says why", kind=Kind.INTERNAL)
    headers = error.headers if isinstance(error, RefusedError) else None
    status = error.status if isinstance(error, RefusedError) else STATUS_OF.get(error.kind, 500)
    kind = error.kind if error.kind in KINDS else Kind.INTERNAL
    if not isinstance(error, ApiError):
        return problem(status, str(error), kind=kind, headers=headers)
    return problem(
        status,
        str(error),
        kind=kind,
        field=error.field,
        value=error.value,
        limit=error.limit,
        headers=headers,
    )


def problem(
    status: int,
    detail: str,
    *,
    kind: Kind,
    field: str = "",
    value: str = "",
    limit: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a problem document (RFC 9457)."""
    title, address = HTTPStatus(status).phrase, TYPE_PREFIX + kind.value
    body = ProblemBody(address, title, status, detail, kind.value, field, value, limit)
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type=MEDIA_TYPE,
        headers=headers,
    )


def problem_kind(name: str) -> ProblemKindBody:
    """Explain a type of problem document.

    Raises:
        ApiError: there is no such type.
    """
    for kind, found in KINDS.items():
        if kind.value == name:
            return ProblemKindBody(name, list(found.statuses), found.meaning)
    known = ", ".join(kind.value for kind in KINDS)
    raise ApiError(
        f"no problem {name[:40]!r}",
        field="kind",
        kind=Kind.NOT_FOUND,
        value=name[:40],
        limit=known,
    )


def _from_aiohttp(error: web.HTTPException) -> web.Response:
    headers, detail = {}, error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        detail = f"{error.method} is not allowed here; allowed: {headers['Allow']}"
    elif isinstance(error, web.HTTPNotFound):
        detail = "no such address; the API is below /v1/"
    kind = _KIND_OF.get(error.status, Kind.INVALID)
    return problem(error.status, detail, kind=kind, headers=headers)
